"""The lease that a process has on the run it writes, renewed while a step takes long."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from vrcli.db.errors import LeaseLost
from vrcli.db.liveness import RENEWED_S
from vrcli.db.store import Store, StoreError


class Lease:
    """While inside, a thread says every so often that the run's process is alive.

    Attributes:
        lost: another process has taken the run over.
    """

    def __init__(self, store: Store, run_id: int, *, every_s: float = RENEWED_S) -> None:
        self.store, self.run_id, self.every_s = store, run_id, every_s
        self.lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(1.0)

    def _renew(self) -> None:
        while not self._over.wait(self.every_s):
            try:
                self.store.runs.heartbeat(self.run_id)
            except LeaseLost:
                self.lost = True
                return
            except StoreError:  # away, which whoever writes the run deals with; or the run has just ended
                continue
