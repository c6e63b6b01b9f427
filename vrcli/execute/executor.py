"""Where trials run: local worker processes now, anything with the same four methods later.

The controller of a sweep knows an `Executor` only: it hands over jobs, receives messages about them, and never waits
for a particular one. A cluster engine is put behind the same interface; neither search nor store see the difference.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, Protocol

from vrcli.errors import VrError


@dataclass(frozen=True)
class Message:
    """What happened to a job.

    Args:
        kind: "note" while it runs; then once "done" (it returned), "failed" (it raised), "refused" (its request was no
            good), "edited" (its code was edited meanwhile) or "lost" (its process died under it).
        body: the note, what it returned, or why, in one line.
    """

    key: Any
    kind: Literal["note", "done", "failed", "refused", "edited", "lost"]
    body: Any


#: What runs in a worker: (payload, note, should_stop) -> result. `note` sends a message while the job runs. Where it
#: has a method `close`, that is called before the worker ends in order.
Work = Callable[[Any, Callable[[Any], None], Callable[[], bool]], Any]


class Executor(Protocol):
    """Runs jobs somewhere, a few at a time."""

    def free(self) -> int:
        """How many more jobs can be submitted now."""

    def submit(self, key: Any, payload: Any) -> None:
        """Start a job; `payload` can be pickled."""

    def receive(self, timeout_s: float) -> Sequence[Message]:
        """What happened since the last call; waits up to `timeout_s` for the first message."""

    def close(self, *, patience_s: float = 0.0) -> Sequence[Message]:
        """Ask the running jobs to stop, give them `patience_s`, end the rest. Returns the last messages."""


#: How long a worker that has nothing to do may take to close what it has open.
LEAVING_S = 5.0
#: How long what is running may take to end in order after Ctrl-C.
PATIENCE_S = 20.0


class Interrupted(VrError):
    """The user ended it; the same command goes on with it."""

    exit_code = 130


class Refused(Exception):
    """Raised by work whose request cannot be carried out as it stands (a data set that is not there)."""


class CodeChanged(Exception):
    """Raised by work whose process has other code than the one that asked for it: nothing more can be run."""


def run_all(
    jobs: Sequence[Any], executor: Executor, *, should_stop: Callable[[], bool], what: str
) -> Iterator[Message]:
    """Run every job, as many at a time as the executor takes.

    Args:
        what: is going on, for the message of an interruption.

    Yields:
        The last message about each job as it comes; its key is the job's index.

    Raises:
        Interrupted: `should_stop` said so; running jobs had time to end in order.
    """
    waiting = deque(enumerate(jobs))
    open_jobs = len(waiting)
    while open_jobs:
        if should_stop():
            executor.close(patience_s=PATIENCE_S)
            raise Interrupted(f"the {what} was interrupted; the same command goes on with it")
        while waiting and executor.free() > 0:
            executor.submit(*waiting.popleft())
        for message in executor.receive(0.2):
            if message.kind != "note":
                open_jobs -= 1
                yield message


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    key: Any = None
    busy: bool = False


@dataclass
class LocalExecutor:
    """Persistent worker processes on this machine.

    A worker that dies, whatever of, is reported with its job and replaced when the next job needs it. Workers end by
    themselves as soon as this process is gone, however it went.

    Args:
        make: called once in every new worker, with importing and opening to do; returns the work. It can be pickled.
        jobs: how many workers.
    """

    make: Callable[[], Work]
    jobs: int = 1
    _workers: list[_Worker] = field(default_factory=list)

    def free(self) -> int:
        return self.jobs - sum(worker.busy for worker in self._workers)

    def submit(self, key: Any, payload: Any) -> None:
        if self.free() < 1:
            raise RuntimeError(f"all {self.jobs} workers are busy")
        for worker in [worker for worker in self._workers if not worker.busy]:
            if self._send(worker, (key, payload)):
                break
            self._remove(worker)
        else:
            worker = self._start()
            self._send(worker, (key, payload))
        worker.key, worker.busy = key, True
        while len(self._workers) < self.jobs:  # the others begin their imports meanwhile
            self._start()

    def receive(self, timeout_s: float) -> list[Message]:
        by_pipe = {worker.pipe: worker for worker in self._workers}
        messages: list[Message] = []
        if not by_pipe:
            time.sleep(timeout_s)
            return messages
        for pipe in wait(list(by_pipe), timeout_s):
            worker = by_pipe[pipe]  # type: ignore[index]  # only pipes were waited for
            messages += self._read(worker)
        return messages

    def close(self, *, patience_s: float = 0.0) -> list[Message]:
        messages: list[Message] = []
        for worker in self._workers:
            self._send(worker, None)
        end = time.monotonic() + patience_s
        while any(worker.busy for worker in self._workers) and time.monotonic() < end:
            messages += self.receive(0.05)
        end = time.monotonic() + LEAVING_S
        for worker in list(self._workers):
            if not worker.busy:
                worker.process.join(max(0.0, end - time.monotonic()))
            self._remove(worker)
        return messages

    def _start(self) -> _Worker:
        # A fresh interpreter: a fork would copy this process's threads' locks, and torch does not survive one.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self.make, theirs), daemon=True)
        with _safe_path():
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _send(self, worker: _Worker, message: Any) -> bool:
        try:
            worker.pipe.send(message)
        except OSError:
            return False
        return True

    def _read(self, worker: _Worker) -> list[Message]:
        """All that a worker has said; where it is gone, the end of its job."""
        messages: list[Message] = []
        try:
            while worker.pipe.poll():
                kind, body = worker.pipe.recv()
                if worker.busy:
                    messages.append(Message(worker.key, kind, body))
                worker.busy = worker.busy and kind == "note"
        except (EOFError, OSError):
            self._remove(worker)
            if worker.busy:
                messages.append(Message(worker.key, "lost", _why(worker.process.exitcode)))
        return messages

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join(1.0)
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()


#: Keeps Python from putting the working directory first on `sys.path`, where any file would hide a module of that name.
_SAFE_PATH = "PYTHONSAFEPATH"
_OURS = "of a worker"


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Interpreters that start meanwhile begin without the working directory; they are given the path of this one."""
    if os.environ.get(_SAFE_PATH):
        yield
        return
    os.environ[_SAFE_PATH] = _OURS
    try:
        yield
    finally:
        del os.environ[_SAFE_PATH]


def _why(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed, most likely because memory ran out"
    if code is not None and code < 0:
        return f"its process died of {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


def _serve(make: Callable[[], Work], pipe: Connection) -> None:
    """The life of a worker: jobs in, messages out, until the pipe closes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the controller decides
        signal.signal(number, signal.SIG_IGN)
    if os.environ.get(_SAFE_PATH) == _OURS:
        del os.environ[_SAFE_PATH]  # what a task starts is its own affair
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # the controller's stdout is for results
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(pipe, jobs, stop), daemon=True).start()
    work: Work | None = None
    with contextlib.suppress(Exception):  # said again, to whom it concerns, with the first job
        work = make()
    while (job := jobs.get()) is not None:
        try:
            work = work or make()
            message = ("done", work(job[1], lambda body: pipe.send(("note", body)), stop.is_set))
        except Refused as error:
            message = ("refused", str(error))
        except CodeChanged as error:
            message = ("edited", str(error))
        except Exception as error:
            message = ("failed", _line(error))
        pipe.send(message)
    if close := getattr(work, "close", None):
        close()


def _listen(pipe: Connection, jobs: queue.SimpleQueue[Any], stop: threading.Event) -> None:
    """Take jobs while others run, and leave at once when the controller is gone: nobody would hear of the result."""
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            sys.stderr.flush()
            os._exit(1)
        if message is None:
            stop.set()
        jobs.put(message)


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
