"""A tracked run inside a command of `vr`: what it records goes to the process that began it, through a pipe."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from vrcli.errors import UsageError
from vrcli.record.process import PIPE, STATE, TOLD
from vrcli.record.tracked import Measured, Tracked


class Piped(Tracked):
    """The run of a `with vrcli.track(...)` block in a command: the one that began it says which run it is.

    Args:
        folder: that the environment names.
        seed: that the script says it takes; None where it says none.

    Raises:
        UsageError: that is another one than the run's.
    """

    def __init__(self, folder: Path, seed: int | None, **words: Any) -> None:
        super().__init__(**words)
        told = json.loads((folder / TOLD).read_text())
        if seed is not None and seed != told["seed"]:
            raise UsageError(f"the script uses seed {seed}, the run has {told['seed']}; pass {{seed}} to the script")
        self._folder, self._metrics = folder, [Measured(told["objective"], told["direction"])]
        self._file: int | None = None
        self._saves, self._asked, self._asks = 0, False, False
        if not self._quiet:
            self._listen()

    def describe(self, **words: Any) -> None:
        """Nothing: the command says what the run is."""

    @property
    def id(self) -> int:
        return -1

    def should_stop(self) -> bool:
        self._asks = True
        return self._asked or super().should_stop()

    def finish(self, status: str | None = None, error: str | None = None) -> None:
        if not self._quiet:
            self._flush()

    def test(self, **values: Any) -> None:
        before = dict(self._test)
        super().test(**values)
        if new := {name: value for name, value in self._test.items() if name not in before}:
            self._flush()
            self._say(new)

    def save(self, **objects: Any) -> None:
        if self._quiet:
            return
        import torch

        self._flush()
        self._saves += 1
        held, part = io.BytesIO(), self._folder / f"save-{self._saves}"
        torch.save(self._state(objects), held)
        part.write_bytes(held.getbuffer())
        self._say({"save": part.name, "step": self._step})

    def _stored_state(self) -> Mapping[str, Any] | None:
        import torch

        path = self._folder / STATE
        return torch.load(path, weights_only=True, map_location="cpu") if path.exists() else None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """A request to stop is an answer of `should_stop`, once the script asks; else it ends the script as ever."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked or not self._asks:
            raise KeyboardInterrupt
        self._asked = True

    def _declare(self, read: Mapping[str, float]) -> None:
        pass

    def _flush(self) -> None:
        rows: dict[int, dict[str, float]] = {}
        for name, (steps, values) in self._taken().items():
            if name == "wall_s":
                continue
            for step, value in zip(steps, values, strict=True):
                rows.setdefault(step, {})[name] = value
        if rows and not self._restored and (self._folder / STATE).exists():
            raise UsageError("this run goes on after an interruption: call run.restore(...) before the first log")
        for step, row in sorted(rows.items()):
            self._say({"step": step, **row})

    def _say(self, found: Mapping[str, Any]) -> None:
        if self._file is None:
            try:
                self._file = os.open(self._folder / PIPE, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                gone = error.errno in (errno.ENXIO, errno.ENOENT)
                raise UsageError("nobody listens to this run any longer") if gone else error from None
            os.set_blocking(self._file, True)
        line = (json.dumps(found) + "\n").encode()
        while line:
            line = line[os.write(self._file, line) :]
