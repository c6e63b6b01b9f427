"""Sweeps in the store: finding the one a command means, claiming it, and its trials as the controller wants them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from vrcli.db.records import RunRecord, SearchRecord, TrialRecord
from vrcli.db.store import Store, StoreError
from vrcli.errors import UsageError
from vrcli.execute.trial import Outcome
from vrcli.identity import changes
from vrcli.search.axes import Params
from vrcli.search.definition import Definition
from vrcli.study.tune import Trial

#: How long workers of a controller that was killed may take to notice and end.
ORPHAN_S = 30.0
_HEARTBEAT_S = 60.0
_LOOK_S = 2.0


class StoreLedger:
    """The trials of one stored search; the controller's `Ledger`.

    Attributes:
        definition: what it searches.
        total: how many trials it is to have.
    """

    def __init__(self, store: Store, record: SearchRecord) -> None:
        self.store, self.record = store, record
        self.definition = Definition.of(record.settings)
        self._ids: dict[int, int] = {}
        self._looked = self._beaten = time.monotonic()

    @property
    def id(self) -> int:
        """The search's number."""
        return self.record.id

    @property
    def sweep_id(self) -> int:
        return self.record.sweep_id

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def status(self) -> str:
        return self.record.status

    @property
    def answers(self) -> bool:
        """Whether the process that drives it is alive, as far as can be told from here."""
        return self.record.answers

    @property
    def total(self) -> int:
        return self.record.trials

    @property
    def created_at(self) -> datetime:
        return self.record.created_at

    # -- the controller's calls ---------------------------------------------------------------------------------------

    def trials(self) -> Sequence[Trial]:
        records = self.store.searches.trials(self.id)
        self._ids = {record.number: record.id for record in records}
        runs: dict[int, list[RunRecord]] = {}
        for run in reversed(self.store.runs.select(search=self.id)):
            if run.trial_id is not None:
                runs.setdefault(run.trial_id, []).append(run)
        found = [(self._trial(record, runs.get(record.id, [])), record) for record in records]
        found.sort(key=lambda pair: (pair[1].finished_at is None, pair[1].finished_at or pair[1].created_at))
        return [trial for trial, _ in found]

    def add(self, number: int, params: Params) -> None:
        record = self.store.searches.add_trial(self.id, params)
        if record.number != number:
            raise StoreError(f"sweep {self.name} got trial {record.number} from another process; {number} was expected")
        self._ids[number] = record.id

    def start(self, number: int) -> None:
        self.store.searches.start_trial(self._ids[number])

    def release(self, number: int) -> None:
        self.store.searches.finish_trial(self._ids[number], "interrupted")
        self.store.searches.reclaim_trials(self.id)

    def close(self, number: int, outcome: Outcome) -> None:
        self.store.searches.finish_trial(
            self._ids[number], outcome.status, value=outcome.value, epochs=len(outcome.losses) or None,
            error=outcome.error,
        )  # fmt: skip

    def links(self, number: int) -> Mapping[str, Any]:
        return {"search_id": self.id, "trial_id": self._ids[number]}

    def confirm_links(self, number: int) -> Mapping[str, Any]:
        return {"search_id": self.id, "group": f"{self.name}-confirm-{number}"}

    def confirmed(self) -> int:
        """How many runs there are of its best settings on fresh seeds."""
        ended = ("completed", "diverged")
        runs = self.store.runs.select(search=self.id, status=ended, results=())
        return sum(run.trial_id is None for run in runs)

    def told_to_stop(self) -> bool:
        """Whether `vr sweeps stop` was called; also says, once in a while, that this process is alive."""
        now = time.monotonic()
        if now - self._beaten > _HEARTBEAT_S:
            self._beaten = now
            self.store.searches.heartbeat(self.id)
        if now - self._looked < _LOOK_S:
            return False
        self._looked = now
        return self.store.searches.get(self.id).status == "stopped"

    def leave(self, status: str) -> None:
        """Say how the sweep stands, unless it was told to stop."""
        if self.store.searches.get(self.id).status == "running":
            self.record = self.store.searches.set_status(self.id, status)

    def _trial(self, record: TrialRecord, runs: Sequence[RunRecord]) -> Trial:
        ended = record.state not in ("pending", "running", "interrupted")
        last = {run.seed: run for run in runs}
        run_ids = tuple(last[seed].id for seed in self.definition.seeds if seed in last)
        losses: tuple[float, ...] = ()
        if ended and run_ids and self.definition.prune != "none":
            losses = self._losses(run_ids[0])
        state = record.state if ended else "running"
        return Trial(record.number, record.params, state, record.value, record.error, losses, run_ids)

    def _losses(self, run_id: int) -> tuple[float, ...]:
        """The run's objective per epoch."""
        from vrcli.tasks.registry import load

        name = f"val_{load(self.definition.task).metrics[0].name}"
        curve = self.store.curves.read([run_id], [name]).get((run_id, name))
        return () if curve is None else tuple(curve.values)


def key_of(definition: Definition) -> str:
    """What the store knows a definition by: equal where nothing differs that a trial could notice."""
    body = {name: value for name, value in definition.plain().items() if name not in ("explicit", "origins")}
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def books(store: Store, *, task: str | None = None, optimizer: str | None = None) -> list[StoreLedger]:
    """Stored searches, the newest first."""
    found = [StoreLedger(store, record) for record in store.searches.select(task=task)]
    return [book for book in found if optimizer in (None, book.definition.optimizer)]


def books_of(store: Store, ref: str) -> list[StoreLedger]:
    """The searches of the sweep of this number or name, in the order in which they began."""
    found = store.searches.select(sweep=store.sweeps.get(ref).id)
    return [StoreLedger(store, record) for record in found[::-1]]


def count(book: StoreLedger) -> int:
    """How many of its trials have ended."""
    return sum(trial.status != "running" for trial in book.trials())


def match(store: Store, definition: Definition, *, new: bool) -> StoreLedger | None:
    """The stored sweep that a command with this definition goes on with, or None to begin one.

    Args:
        new: begin one although another, unfinished sweep of the same task and optimizer has other settings. One that
            differs in its code only never stands in the way: see `superseded`.

    Raises:
        UsageError: there is such a sweep; what differs is named.
    """
    found = store.searches.find(key_of(definition))
    if found is not None:
        return StoreLedger(store, found)
    if new:
        return None
    for other in books(store, task=definition.task, optimizer=definition.optimizer):
        alike = (other.definition.preset, other.definition.dataset) == (definition.preset, definition.dataset)
        if not alike or _only_code(other, definition):
            continue
        if (done := count(other)) < other.total and other.status != "completed":
            raise UsageError(
                f"sweep {other.sweep_id} ({definition.optimizer}, {done}/{other.total} trials) began with other "
                f"settings: "
                f"{'; '.join(other.definition.differences(definition))}; --new begins another beside it"
            )
    return None


def superseded(store: Store, definition: Definition) -> str:
    """What to say where a sweep begins only because a stored one ran other code; empty where that is not so."""
    if store.searches.find(key_of(definition)) is not None:
        return ""
    for other in books(store, task=definition.task, optimizer=definition.optimizer):
        if _only_code(other, definition):
            code = ", ".join(changes(other.definition.code, definition.code))
            done = f"{count(other)}/{other.total} trials"
            return f"sweep {other.sweep_id} ({definition.optimizer}, {done}) is of other code ({code}); another begins"
    return ""


def _only_code(book: StoreLedger, definition: Definition) -> bool:
    return not replace(book.definition, code=definition.code).differences(definition)


def shared_key_of(definition: Definition) -> str:
    """What a sweep is known by: equal where its searches differ in nothing but the optimizer and the search's seed.

    Data, seeds, device, kind of search and pruning, and every setting of the task and of the training, searched or
    fixed. The optimizer's settings, its code and the space are each search's own; the number of trials may grow.
    """
    from vrcli.spec import settings_of
    from vrcli.tasks.registry import load

    settings = settings_of(load(definition.task), definition.optimizer).by_name.values()
    names = [setting.name for setting in settings if setting.section != "optimizer"]
    plain = definition.plain()
    own = ("explicit", "settings", "space", "origins", "optimizer", "search_seed", "code")
    body = {name: value for name, value in plain.items() if name not in own}
    body["code"] = {part: code for part, code in plain["code"].items() if part != "optimizer"}
    body["settings"] = {name: [plain["settings"].get(name), plain["space"].get(name)] for name in names}
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def enter(store: Store, definitions: Sequence[Definition], total: int, *, new: bool = False) -> list[StoreLedger]:
    """The searches of one command, claimed for this process; those that are new belong to one sweep.

    Raises:
        UsageError: see `match`.
        StoreError: another process runs one, or it has a larger total.
    """
    found = [match(store, definition, new=new) for definition in definitions]  # one that is refused leaves none begun
    missing = [definition for definition, book in zip(definitions, found, strict=True) if book is None]
    sweep_id = _sweep_for(store, missing) if missing else None
    books = []
    for definition, book in zip(definitions, found, strict=True):
        if book is None:
            settings, key = definition.plain(), key_of(definition)
            record = store.searches.create(settings, key=key, trials=total, sweep_id=sweep_id)
            books.append(StoreLedger(store, record))
        else:
            books.append(claim(store, book, total))
    return books


def _sweep_for(store: Store, definitions: Sequence[Definition]) -> int:
    """The newest sweep that shares what these searches share and has none in their place; else a new one."""
    key = shared_key_of(definitions[0])
    places = {(definition.optimizer, definition.search_seed) for definition in definitions}
    for sweep in store.sweeps.select(shared_key=key):
        if not places & {(search.optimizer, search.search_seed) for search in store.searches.select(sweep=sweep.id)}:
            return sweep.id
    return store.sweeps.create(definitions[0].plain(), shared_key=key).id


def claim(store: Store, book: StoreLedger, total: int, *, retry_failed: bool = False) -> StoreLedger:
    """Take over a stored sweep whose process is gone; its open trials are to be done again.

    Args:
        retry_failed: the failed ones too.
    """
    record = store.searches.resume(book.id, trials=total)
    end = time.monotonic() + ORPHAN_S
    while True:
        store.searches.reclaim_trials(book.id, failed=retry_failed)
        busy = store.searches.trials(book.id, state="running")
        if not busy:
            return StoreLedger(store, record)
        if time.monotonic() > end:
            raise StoreError(f"trial {busy[0].number} of sweep {book.name} is still run by process {busy[0].pid}")
        time.sleep(0.05)
