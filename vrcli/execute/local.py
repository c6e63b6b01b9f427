"""Persistent worker processes on this machine."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from vrcli.db.liveness import Process, identity
from vrcli.errors import first_line, stop_signals
from vrcli.execute.executor import CodeChanged, Message, Refused, Work
from vrcli.execute.outage import Outage, Unavailable

#: How long a worker that has nothing to do may take to close what it has open.
LEAVING_S = 5.0
#: The same after Ctrl-C, when one may be importing still: what it has open, others close.
STOPPING_S = 0.5


@dataclass
class _Worker:
    process: BaseProcess
    identity: Process
    pipe: Connection
    key: Any = None
    payload: Any = None
    deaths: int = 0
    busy: bool = False


@dataclass
class LocalExecutor:
    """Persistent worker processes on this machine.

    A worker that dies, whatever of, is replaced, and its job is done again so often as it may; then it is reported with
    it. Workers end by themselves as soon as this process is gone, however it went.

    Args:
        make: called once in every new worker, with importing and opening to do; returns the work. It can be pickled.
        jobs: how many workers.
        gone: told of every worker that died while it had a job: which process, of what (of nothing where it was ended
            here), and whether the job is done again.
        retries: how often a job is done again, after its worker died.
    """

    make: Callable[[], Work]
    jobs: int = 1
    gone: Callable[[Process, str, bool], object] = lambda process, why, again: None
    retries: Callable[[Any], int] = lambda payload: 0
    _workers: list[_Worker] = field(default_factory=list)
    _closing: bool = False

    def free(self) -> int:
        return self.jobs - sum(worker.busy for worker in self._workers)

    def submit(self, key: Any, payload: Any) -> None:
        if self.free() < 1:
            raise RuntimeError(f"all {self.jobs} workers are busy")
        self._submit(key, payload, 0)

    def _submit(self, key: Any, payload: Any, deaths: int) -> None:
        for worker in [worker for worker in self._workers if not worker.busy]:
            if self._send(worker, (key, payload)):
                break
            self._remove(worker)
        else:
            worker = self._start()
            self._send(worker, (key, payload))
        worker.key, worker.payload, worker.deaths, worker.busy = key, payload, deaths, True
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
        self._closing = True
        for worker in self._workers:
            self._send(worker, None)
        end = time.monotonic() + patience_s
        while any(worker.busy for worker in self._workers) and time.monotonic() < end:
            messages += self.receive(0.05)
        end = time.monotonic() + (STOPPING_S if patience_s else LEAVING_S)
        for worker in list(self._workers):
            if not worker.busy:
                worker.process.join(max(0.0, end - time.monotonic()))
            self._remove(worker)
            if worker.busy:
                self.gone(worker.identity, "", False)
        return messages

    def _start(self) -> _Worker:
        # A fresh interpreter: a fork would copy this process's threads' locks, and torch does not survive one.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self.make, theirs), daemon=True)
        with _safe_path():
            process.start()
        theirs.close()
        worker = _Worker(process, identity(process.pid or 0), ours)
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
                messages += self._died(worker)
        return messages

    def _died(self, worker: _Worker) -> list[Message]:
        """Do the job of a dead worker again, or report it."""
        why, deaths = _why(worker.process.exitcode), worker.deaths + 1
        again = not self._closing and deaths <= self.retries(worker.payload)
        times = f" ({deaths} times)" if deaths > 1 else ""
        self.gone(worker.identity, why + times, again)
        if again:
            self._submit(worker.key, worker.payload, deaths)
            return []
        return [Message(worker.key, "died", why + times)]

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join(0.0 if worker.busy else 1.0)
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
    for number in (signal.SIGINT, *stop_signals()):  # they reach the whole group; the controller decides
        signal.signal(number, signal.SIG_IGN)
    if os.environ.get(_SAFE_PATH) == _OURS:
        del os.environ[_SAFE_PATH]  # what a task starts is its own affair
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # the controller's stdout is for results
    current_process().daemon = False  # a daemon may have no children, and those may read the data
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(pipe, jobs, stop), daemon=True).start()
    work: Work | None = None
    with contextlib.suppress(BaseException):  # said again, to whom it concerns, with the first job
        work = make()
    while (job := jobs.get()) is not None:
        try:
            work = work or make()
            message = ("done", work(job[1], lambda body: pipe.send(("note", body)), stop.is_set))
        except Refused as error:
            message = ("refused", str(error))
        except CodeChanged as error:
            message = ("edited", error.now)
        except Outage as error:
            message = ("outage", error.reason)
        except Unavailable as error:
            message = ("outage", str(error))
        except BaseException as error:  # a sys.exit of others' code ends the job, not the worker
            message = ("failed", first_line(error))
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
