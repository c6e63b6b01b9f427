"""Searches in the store: finding the one a command means, claiming it, and its record of trials."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from vrcli.db.damage import DAMAGED
from vrcli.db.liveness import RENEWED_S
from vrcli.db.records import RunRecord, SearchRecord, TrialRecord
from vrcli.db.store import Store as Store
from vrcli.db.store import StoreError, Unavailable
from vrcli.errors import UsageError
from vrcli.search.axes import Params
from vrcli.search.definition import FOLLOWS, Definition, code_changes
from vrcli.search.trials import Outcome, SearchState, Trial

#: How long workers of a controller that was killed may take to notice and end.
ORPHAN_S = 30.0
_HEARTBEAT_S = RENEWED_S
_LOOK_S = 2.0


class StoredSearch:
    """One stored search and its record of trials.

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

    # -- the record of trials ------------------------------------------------------------------------------------------

    def trials(self) -> Sequence[Trial]:
        records = [record for record in self.store.searches.trials(self.id) if record.state != DAMAGED]
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

    def trial_id(self, number: int) -> int:
        return self._ids[number]

    def state(self) -> SearchState:
        """The search as far as it has come."""
        return SearchState(self.definition, self, self.total)

    def confirmed(self) -> int:
        """How many runs there are of its best settings on fresh seeds."""
        ended = ("completed", "diverged")
        runs = self.store.runs.select(search=self.id, status=ended, results=())
        return sum(run.trial_id is None for run in runs)

    def told_to_stop(self) -> bool:
        """Whether `vr sweeps stop` was called; also says, once in a while, that this process is alive.

        A database that is away says nothing: whoever writes to it notices.
        """
        now = time.monotonic()
        if now - self._beaten > _HEARTBEAT_S:
            self._beaten = now
            with suppress(Unavailable):
                self.store.searches.heartbeat(self.id)
        if now - self._looked < _LOOK_S:
            return False
        self._looked = now
        with suppress(Unavailable):
            return self.store.searches.get(self.id).status == "stopped"
        return False

    def leave(self, status: str) -> None:
        """Say how the search stands, unless it was told to stop."""
        if self.store.searches.get(self.id).status == "running":
            self.record = self.store.searches.set_status(self.id, status)

    def _trial(self, record: TrialRecord, runs: Sequence[RunRecord]) -> Trial:
        ended = record.state not in ("pending", "running", "interrupted")
        last = {run.seed: run for run in runs}
        run_ids = tuple(last[seed].id for seed in self.definition.seeds if seed in last)
        losses: tuple[float, ...] = ()
        if ended and run_ids and self.definition.prune != "none":
            losses = self._losses(next(run for run in runs if run.id == run_ids[0]))
        state = record.state if ended else "running"
        return Trial(record.number, record.params, state, record.value, record.error, losses, run_ids)

    def _losses(self, run: RunRecord) -> tuple[float, ...]:
        """The run's objective per epoch."""
        name = run.objective.removeprefix("best_")
        curve = self.store.curves.read([run.id], [name]).get((run.id, name))
        return () if curve is None else tuple(curve.values)


@dataclass(frozen=True)
class Superseded:
    """A stored search of other code.

    Args:
        ended: how many of its trials have.
        code: what is other code.
    """

    sweep_id: int
    optimizer: str
    ended: int
    total: int
    code: tuple[str, ...]


def key_of(definition: Definition) -> str:
    """What the store knows a definition by: equal where nothing differs that a trial could notice."""
    body = {name: value for name, value in definition.plain().items() if name not in FOLLOWS}
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def select(store: Store, *, task: str | None = None, optimizer: str | None = None) -> list[StoredSearch]:
    """Stored searches, the newest first."""
    stored = store.searches.select(task=task)
    found = [StoredSearch(store, record) for record in stored if record.status != DAMAGED]
    return [one for one in found if optimizer in (None, one.definition.optimizer)]


def damaged(store: Store) -> list[SearchRecord]:
    """Stored searches that cannot be read."""
    return [record for record in store.searches.select() if record.status == DAMAGED]


def of_sweep(store: Store, ref: str) -> list[StoredSearch]:
    """The searches of the sweep of this number or name, in the order in which they began."""
    found = store.searches.select(sweep=store.sweeps.get(ref).id)
    if damaged := [record for record in found if record.status == DAMAGED]:
        raise StoreError(f"search {damaged[0].id} of sweep {ref} is damaged; vr db check says where")
    return [StoredSearch(store, record) for record in found[::-1]]


def count(found: StoredSearch) -> int:
    """How many of its trials have ended."""
    return sum(trial.status != "running" for trial in found.trials())


def find(store: Store, definition: Definition) -> StoredSearch | None:
    """The stored search of this definition; also one with the 8 first points that once were the default."""
    found = store.searches.find(key_of(definition))
    if found is None and definition.initial == 0:
        found = store.searches.find(key_of(replace(definition, initial=8)))
    return None if found is None else StoredSearch(store, found)


def match(store: Store, definition: Definition, *, new: bool) -> StoredSearch | None:
    """The stored search that a command with this definition goes on with, or None to begin one.

    Args:
        new: begin one although another, unfinished search of the same task and optimizer has other settings. One that
            differs in its code only never stands in the way: see `superseded`.

    Raises:
        UsageError: there is such a sweep; what differs is named.
    """
    found = find(store, definition)
    if found is not None or new:
        return found
    for other in select(store, task=definition.task, optimizer=definition.optimizer):
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


def superseded(store: Store, definition: Definition) -> Superseded | None:
    """The stored search beside which one begins only because the code is other code; None where that is not so."""
    if find(store, definition) is not None:
        return None
    for other in select(store, task=definition.task, optimizer=definition.optimizer):
        if _only_code(other, definition):
            code = tuple(code_changes(other.definition.code, definition.code))
            return Superseded(other.sweep_id, definition.optimizer, count(other), other.total, code)
    return None


def _only_code(found: StoredSearch, definition: Definition) -> bool:
    return not replace(found.definition, code=definition.code).differences(definition)


def enter(
    store: Store,
    definitions: Sequence[Definition],
    total: int,
    *,
    shared_key: Callable[[Definition], str],
    new: bool = False,
) -> list[StoredSearch]:
    """The searches of one command, claimed for this process; those that are new belong to one sweep.

    Args:
        shared_key: what a sweep is known by, of its first search; equal where searches share all that those of one do.

    Raises:
        UsageError: see `match`.
        StoreError: another process runs one, or it has a larger total.
    """
    found = [match(store, definition, new=new) for definition in definitions]  # one that is refused leaves none begun
    stored = iter(claim(store, [one for one in found if one is not None], total))
    missing = [definition for definition, one in zip(definitions, found, strict=True) if one is None]
    sweep_id = _sweep_for(store, missing, shared_key(definitions[0])) if missing else None
    entered = []
    for definition, one in zip(definitions, found, strict=True):
        if one is None:
            settings, key = definition.plain(), key_of(definition)
            record = store.searches.create(settings, key=key, trials=total, sweep_id=sweep_id)
            entered.append(StoredSearch(store, record))
        else:
            entered.append(next(stored))
    return entered


def _sweep_for(store: Store, definitions: Sequence[Definition], shared_key: str) -> int:
    """The newest sweep that shares what these searches share and has none in their place; else a new one."""
    places = {(definition.optimizer, definition.search_seed) for definition in definitions}
    for sweep in store.sweeps.select(shared_key=shared_key):
        if not places & {(search.optimizer, search.search_seed) for search in store.searches.select(sweep=sweep.id)}:
            return sweep.id
    return store.sweeps.create(definitions[0].plain(), shared_key=shared_key).id


def claim(
    store: Store, found: Sequence[StoredSearch], total: int | None, *, retry_failed: bool = False
) -> list[StoredSearch]:
    """Take over stored searches whose process is gone; their open trials are to be done again.

    Args:
        total: a larger number of trials; None leaves each its own.
        retry_failed: the failed ones too.

    Raises:
        StoreError: a living process drives one or runs a trial of it, or it has a larger total; none is taken over.
    """
    records = store.searches.resume(*(one.id for one in found), trials=total)
    claimed = [StoredSearch(store, record) for record in records]
    try:
        for one in claimed:
            _reclaim(one, retry_failed)
    except BaseException:
        for one in claimed:
            one.leave("interrupted")
        raise
    return claimed


def _reclaim(found: StoredSearch, retry_failed: bool) -> None:
    """Make the open trials of a search pending again; one whose worker still ends is waited for."""
    end = time.monotonic() + ORPHAN_S
    while True:
        found.store.searches.reclaim_trials(found.id, failed=retry_failed)
        busy = found.store.searches.trials(found.id, state="running")
        if not busy:
            return
        if time.monotonic() > end:
            raise StoreError(f"trial {busy[0].number} of sweep {found.name} is still run by process {busy[0].pid}")
        time.sleep(0.05)
