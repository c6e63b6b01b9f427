"""A command that trains, as a loop of one's own: it is started, listened to, and ended.

It says what it measures in lines of JSON, on its stdout or, where the script uses `vrcli.track`, in a pipe that the
environment names: `{"step": 20, "train_loss": 0.5, "val_loss": 0.4}`, and at the end `{"test_loss": 0.3}`.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from vrcli.engine.driving import GRACE_S
from vrcli.errors import UsageError
from vrcli.record.usual import VARIABLE
from vrcli.tasks.loop import LoopRun

#: In that folder: the pipe, what the script is told, and the state that it goes on from.
PIPE, TOLD, STATE = "pipe", "told.json", "state"
#: Of what it wrote to stderr, the end so long is kept.
_KEPT_BYTES = 64 * 1024
#: Letters of a line of stderr in a message.
_QUOTED = 200
_POLL_S = 0.1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Told:
    """What a script that uses `vrcli.track` is told of its run."""

    seed: int
    objective: str
    direction: str


def train(run: LoopRun, words: Sequence[str], told: Told, *, time_limit: float | None) -> None:
    """Run the command to its end.

    Raises:
        UsageError: what it reports cannot be recorded.
        RuntimeError: it cannot be started, failed, or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="vr-run-") as name:
        folder = Path(name)
        (folder / TOLD).write_text(json.dumps(asdict(told)))
        run.restore()
        if (state := run.restored(STATE)) is not None:
            (folder / STATE).write_bytes(state.numpy().tobytes())
        os.mkfifo(folder / PIPE)
        with (folder / "stderr").open("w+b") as errors:
            process = _begun(words, folder, run, errors)
            try:
                _Listener(run, process, folder, told.objective).listen(time_limit)
            except BaseException:  # also `Left`: the run has diverged
                _signal(process, signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_S)
                raise
            finally:
                _end(process, folder)
                said = _tail(errors)
                if said:
                    run.keep("stderr.txt", said)
            if process.returncode and not run.should_stop():
                last = said.decode(errors="replace").strip().rpartition("\n")[2].strip()
                why = f": {shortened(last)}" if last else ""
                raise RuntimeError(f"the command ended with exit code {process.returncode}{why}")


def shortened(line: str) -> str:
    """A line as a message quotes it: the beginning and the end of a long one."""
    return line if len(line) <= _QUOTED else f"{line[: _QUOTED // 2]} ... {line[-_QUOTED // 2 :]}"


def _begun(words: Sequence[str], folder: Path, run: LoopRun, errors: Any) -> subprocess.Popen[bytes]:
    env = {**os.environ, VARIABLE: str(folder), "OMP_NUM_THREADS": str(run.threads), "PYTHONUNBUFFERED": "1"}
    try:
        # A group of its own: Ctrl-C in a terminal reaches vr alone, which ends the command in order.
        return subprocess.Popen(
            words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )  # fmt: skip
    except OSError as error:
        raise RuntimeError(f"the command cannot be started: {words[0]}: {error.strerror}") from None


def _end_with_parent() -> None:
    """The system ends the command when this process is killed (PR_SET_PDEATHSIG)."""
    _LIBC.prctl(1, signal.SIGTERM)


def _tail(file: Any) -> bytes:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _KEPT_BYTES))
    found: bytes = file.read()
    return found


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """End what is left of the command and of what it started, also what left its group: the environment tells it."""
    _signal(process, signal.SIGKILL)
    process.wait()
    for other in psutil.process_iter():
        with suppress(psutil.Error):
            if other.environ().get(VARIABLE) == str(folder):
                other.kill()
    if process.stdout is not None:
        process.stdout.close()


class _Listener:
    """Reports what a command says, and tells it to stop."""

    def __init__(self, run: LoopRun, process: subprocess.Popen[bytes], folder: Path, objective: str) -> None:
        assert process.stdout is not None
        self.run, self.process, self.folder, self.objective = run, process, folder, objective
        self.pipe = os.open(folder / PIPE, os.O_RDONLY | os.O_NONBLOCK)
        # Held open here, too: a pipe that nobody writes to would always be ready to be read.
        self.held = os.open(folder / PIPE, os.O_WRONLY)
        self.stdout = process.stdout.fileno()
        os.set_blocking(self.stdout, False)
        self.rest: dict[int, bytes] = {self.pipe: b"", self.stdout: b""}

    def listen(self, time_limit: float | None) -> None:
        """Until the command has ended, or is to end.

        Raises:
            RuntimeError: it took too long.
        """
        began, asked = time.monotonic(), 0.0
        try:
            while self.process.poll() is None:
                self._read(_POLL_S)
                now = time.monotonic()
                if asked and now - asked > GRACE_S:
                    return
                if not asked and self.run.should_stop():
                    asked = now
                    _signal(self.process, signal.SIGTERM)
                if time_limit is not None and now - began > time_limit and not asked:
                    raise RuntimeError(f"the command took longer than --time-limit {time_limit:g} seconds")
            while self._read(0.0):
                pass
            for one, line in list(self.rest.items()):  # a last line that no line end follows
                self._hear(one, line)
        finally:
            os.close(self.pipe)
            os.close(self.held)

    def _read(self, timeout_s: float) -> bool:
        """Report the lines that are there; whether there was anything."""
        ready, _, _ = select.select(list(self.rest), [], [], timeout_s)
        some = False
        for one in ready:
            data = b""
            with suppress(BlockingIOError):
                data = os.read(one, 1 << 16)
            if not data and one == self.stdout:  # closed
                self._hear(one, self.rest.pop(one))
                continue
            some = some or bool(data)
            *lines, self.rest[one] = (self.rest[one] + data).split(b"\n")
            for line in lines:
                self._hear(one, line)
        return some

    def _hear(self, where: int, line: bytes) -> None:
        for found in _objects(line):
            self._report(found, trusted=where == self.pipe)

    def _report(self, found: dict[str, Any], *, trusted: bool) -> None:
        if trusted and "save" in found:
            path = self.folder / str(found["save"])
            self.run.save(**{STATE: torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)})
            path.unlink()
            return
        step = found.pop("step", None)
        for name, value in found.items():
            if name.startswith(("train_", "val_", "test_")) and type(value) not in (int, float):
                raise UsageError(f"the command reported {name} {json.dumps(value)}; it must be a number")
        numbers = {name: value for name, value in found.items() if type(value) in (int, float)}
        test = {name: value for name, value in numbers.items() if name.startswith("test_")}
        val = {name: value for name, value in numbers.items() if name.startswith("val_")}
        rest = {name: value for name, value in numbers.items() if name not in test and name not in val}
        if (val or "train_loss" in rest) and step is None:
            raise UsageError(f"the command reported {', '.join(numbers)} without a step")
        if rest and step is not None:
            self.run.log(step, **rest)
        if f"val_{self.objective}" in val:
            self.run.evaluate(step, **val)
        elif val:
            self.run.log(step, **val)
        if test:
            self.run.test(**test)


def _objects(line: bytes) -> Iterator[dict[str, Any]]:
    """The object that a line is; nothing where it is some other text."""
    if line.lstrip()[:1] == b"{":
        with suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found
