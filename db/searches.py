"""Searches and their trials: who does which point, once each, whatever is killed on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from vrcli.db import liveness, schema
from vrcli.db.connection import Database, clock
from vrcli.db.damage import DAMAGED, Cells
from vrcli.db.errors import LeaseLost, StoreError
from vrcli.db.records import ENDED_TRIALS, SEARCH_STATUSES, SearchRecord, TrialRecord, join_value, split_value
from vrcli.db.rows import as_json, insert_sweep, known, many, this_process
from vrcli.db.runs import Runs

# In the order of the records' fields.
_RENAMED = {"key": "definition_key", "settings_json": "settings", "params_json": "params"}
_OF_SWEEP = ("name", "task", "preset", "dataset", "dataset_fingerprint")
_COLUMNS = tuple(
    schema.sweeps.c[field.name] if field.name in _OF_SWEEP else schema.searches.c[_RENAMED.get(field.name, field.name)]
    for field in fields(SearchRecord)
)
_TRIAL_COLUMNS = tuple(
    schema.searches.c[field.name]
    if field.name in ("sweep_id", "optimizer")
    else schema.trials.c[_RENAMED.get(field.name, field.name)]
    for field in fields(TrialRecord)[:-1]
)
_CELLS, _TRIAL_CELLS = Cells(_COLUMNS), Cells(_TRIAL_COLUMNS)
_STATUS = _CELLS.names.index("status")
_STATE, _ERROR = (_TRIAL_CELLS.names.index(name) for name in ("state", "error"))
_LATEST_RUN = select(func.max(schema.runs.c.id)).where(schema.runs.c.trial_id == schema.trials.c.id).scalar_subquery()


class Searches:
    """The searches of a database and their trials.

    Args:
        database: open.
        runs: of the same database.
    """

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database, self._runs = database, runs

    def create(
        self, settings: Mapping[str, Any], *, key: str, trials: int, sweep_id: int | None = None
    ) -> SearchRecord:
        """Record a new search, driven by this process.

        Args:
            settings: the complete definition: optimizer, space, search_seed, epochs, seeds, and what a sweep of its own
                is made of where there is none.
            key: the hash of the definition, by which the same command finds it again.
            trials: the budget.
            sweep_id: the sweep that it belongs to; None for a sweep of its own.

        Raises:
            StoreError: a search of this definition is there already.
        """
        row: dict[str, Any] = {"optimizer": settings.get("optimizer") or "", "search_seed": settings.get("search_seed")}
        row["direction"] = settings.get("direction") or "min"
        row |= {"uuid": uuid4().hex, "definition_key": key, "status": "running", "trials": trials, **this_process()}
        row |= {"settings": as_json("the search", settings), "created_at": datetime.now(UTC)}
        with self._database.writing() as connection:
            row["updated_at"] = clock(connection)
            same = _select_searches().where(schema.searches.c.definition_key == key)
            if (found := connection.execute(same).one_or_none()) is not None:
                raise StoreError(f"{self._database.label} has this search already: {SearchRecord(*found).name}")
            if sweep_id is None:
                sweep_id = insert_sweep(connection, settings, None)
            else:
                known(self._database, connection, schema.sweeps.c.id, "sweep", sweep_id)
            statement = insert(schema.searches).values(**row, sweep_id=sweep_id).returning(schema.searches.c.id)
            return self._search(connection, connection.scalars(statement).one())

    def resume(self, *search_ids: int, trials: int | None = None) -> list[SearchRecord]:
        """Go on with searches in this process: with all of them, or with none where one is refused.

        Args:
            trials: a larger budget.

        Raises:
            StoreError: a living process drives one, or the budget would shrink.
        """
        with self._database.writing() as connection:
            return [self._resume(connection, search_id, trials) for search_id in search_ids]

    def _resume(self, connection: Connection, search_id: int, trials: int | None) -> SearchRecord:
        search = self._search(connection, search_id, lock=True)
        mine = this_process() == {"host": search.host, "pid": search.pid, "process": search.process}
        if search.status == "running" and not mine and search.answers_at(clock(connection)):
            raise StoreError(f"sweep {search.name} is being run by process {search.pid} on {search.host}")
        if trials is not None and trials < search.trials:
            raise StoreError(f"sweep {search.name} has {search.trials} trials, which cannot become {trials}")
        self._change_search(connection, search_id, status="running", trials=trials or search.trials, **this_process())
        return self._search(connection, search_id)

    def set_status(self, search_id: int, status: str) -> SearchRecord:
        """Say how the search stands; `stopped` asks the process that drives it to stop."""
        if status not in SEARCH_STATUSES:
            raise StoreError(f"{status!r} is not a status of a search; those are {', '.join(SEARCH_STATUSES)}")
        with self._database.writing() as connection:
            self._change_search(connection, search_id, status=status)
            return self._search(connection, search_id)

    def heartbeat(self, search_id: int) -> None:
        """Say that the process that drives the search is alive."""
        with self._database.writing() as connection:
            self._change_search(connection, search_id)

    def find(self, key: str) -> SearchRecord | None:
        """The search of this definition."""
        query = _select_searches().where(schema.searches.c.definition_key == key)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else _search_record(row)

    def get(self, search_id: int) -> SearchRecord:
        """The search of this number."""
        with self._database.reading() as connection:
            return self._search(connection, search_id)

    def select(
        self,
        *,
        sweep: int | Iterable[int] | None = None,
        task: str | Iterable[str] | None = None,
        status: str | Iterable[str] | None = None,
        limit: int | None = None,
    ) -> list[SearchRecord]:
        """Searches, the newest first.

        Args:
            sweep: of the sweeps of these numbers.
        """
        query = _select_searches().order_by(schema.searches.c.created_at.desc(), schema.searches.c.id.desc())
        columns = {schema.searches.c.sweep_id: sweep, schema.sweeps.c.task: task, schema.searches.c.status: status}
        for column, value in columns.items():
            if value is not None:
                query = query.where(column.in_(many(value)))
        with self._database.reading() as connection:
            return [_search_record(row) for row in connection.execute(query.limit(limit))]

    def overview(self) -> list[dict[str, Any]]:
        """The rows of the view `v_searches`, the newest first."""
        with self._database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT * FROM v_searches ORDER BY id DESC")
            return [dict(row) for row in rows.mappings()]

    def add_trial(self, search_id: int, params: Mapping[str, Any]) -> TrialRecord:
        """Record the next point of a search, pending.

        Raises:
            StoreError: the search has had all the trials of its budget.
        """
        row: dict[str, Any] = {"uuid": uuid4().hex, "search_id": search_id, "attempt": 0}
        row |= {"params": as_json("the trial", params), "state": "pending", "created_at": datetime.now(UTC)}
        own = schema.trials.c.search_id == search_id
        with self._database.writing() as connection:
            search = self._search(connection, search_id, lock=True)
            _check_mine(f"sweep {search.name}", search)
            number = connection.scalar(select(func.coalesce(func.max(schema.trials.c.number) + 1, 0)).where(own))
            if number >= search.trials:
                raise StoreError(f"sweep {search.name} has all of its {search.trials} trials of {search.optimizer}")
            statement = insert(schema.trials).values(number=number, **row).returning(schema.trials.c.id)
            trial_id = connection.scalars(statement).one()
            self._change_search(connection, search_id)
            return self._trial(connection, trial_id)

    def start_trial(self, trial_id: int) -> TrialRecord:
        """Record that this process begins a pending trial; only one of several that try succeeds."""
        begun = {"state": "running", "started_at": datetime.now(UTC), "finished_at": None, "error": None}
        with self._database.writing() as connection:
            begun["heartbeat_at"] = clock(connection)
            self._change_trial(
                connection, trial_id, "pending", **begun, **this_process(), attempt=schema.trials.c.attempt + 1
            )
            return self._trial(connection, trial_id)

    def finish_trial(
        self,
        trial_id: int,
        state: str,
        *,
        value: float | None = None,
        epochs: int | None = None,
        error: str | None = None,
    ) -> TrialRecord:
        """End a running trial.

        Args:
            state: completed, diverged, failed, pruned, or interrupted, which is done again.
            value: the objective, NaN and infinities included.
            epochs: how many it was trained.
            error: why it did not complete, in one line.
        """
        if state not in ENDED_TRIALS:
            raise StoreError(f"{state!r} is not a way for a trial to end; those are {', '.join(ENDED_TRIALS)}")
        number, kind = (None, None) if value is None else split_value(float(value))
        ended = {"state": state, "value": number, "kind": kind, "epochs": epochs, "error": error}
        with self._database.writing() as connection:
            self._change_trial(connection, trial_id, "running", **ended, finished_at=datetime.now(UTC))
            return self._trial(connection, trial_id)

    def trial(self, trial_id: int) -> TrialRecord:
        """The trial of this id."""
        with self._database.reading() as connection:
            return self._trial(connection, trial_id)

    def trials(self, search_id: int, *, state: str | Iterable[str] | None = None) -> list[TrialRecord]:
        """The trials of a search by number."""
        query = _select_trials().where(schema.trials.c.search_id == search_id)
        if state is not None:
            query = query.where(schema.trials.c.state.in_(many(state)))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(schema.trials.c.number))
            return [_trial_record(row) for row in rows]

    def reclaim_trials(self, search_id: int | None = None, *, failed: bool = False) -> list[TrialRecord]:
        """Make trials pending again, with the same point, that were interrupted or whose processes are gone.

        A trial lives as long as the process that started it or the process of its run.

        Args:
            search_id: of this search, None of all.
            failed: also those that failed, for when the cause is mended.

        Returns:
            The trials to do again.
        """
        states = ("running", "interrupted", *(["failed"] if failed else []))
        query = _select_trials().where(schema.trials.c.state.in_(states))
        if search_id is not None:
            query = query.where(schema.trials.c.search_id == search_id)
        self._runs.mark_interrupted()
        with self._database.writing() as connection:
            rows = connection.execute(query.order_by(schema.trials.c.id).with_for_update(of=schema.trials)).all()
            found = [_trial_record(row) for row in rows]
            training = set(connection.scalars(select(schema.runs.c.trial_id).where(schema.runs.c.status == "running")))
            now = clock(connection)
            ids = [trial.id for trial in found if trial.id not in training and _is_over(trial, now)]
            connection.execute(
                update(schema.trials)
                .where(schema.trials.c.id.in_(ids))
                .values(state="pending", value=None, kind=None, epochs=None, error=None, finished_at=None)
            )
            return [self._trial(connection, id) for id in ids]

    def mark_interrupted(self) -> None:
        """Mark running searches whose process is gone as interrupted."""
        running = self.select(status="running")
        with self._database.reading() as connection:
            now = clock(connection) if running else None
        for search in running:
            if not search.answers_at(now):
                same = (schema.searches.c.id == search.id) & (schema.searches.c.process == search.process)
                still = same & (schema.searches.c.status == "running")
                with self._database.writing() as connection:
                    connection.execute(update(schema.searches).where(still).values(status="interrupted"))

    def _search(self, connection: Connection, search_id: int, *, lock: bool = False) -> SearchRecord:
        query = _select_searches().where(schema.searches.c.id == search_id)
        query = query.with_for_update(of=schema.searches) if lock else query
        row = connection.execute(query).one_or_none() if 0 < search_id < 2**31 else None
        if row is None:
            raise StoreError(f"{self._database.label} has no search {search_id}")
        return _search_record(row)

    def _change_search(self, connection: Connection, search_id: int, **changes: Any) -> None:
        statement = update(schema.searches).where(schema.searches.c.id == search_id)
        if not connection.execute(statement.values(updated_at=clock(connection), **changes)).rowcount:
            self._search(connection, search_id)

    def _trial(self, connection: Connection, trial_id: int) -> TrialRecord:
        row = connection.execute(_select_trials().where(schema.trials.c.id == trial_id)).one_or_none()
        if row is None:
            raise StoreError(f"{self._database.label} has no trial {trial_id}")
        return _trial_record(row)

    def _change_trial(self, connection: Connection, trial_id: int, state: str, /, **changes: Any) -> None:
        """Change a trial that is in this state; refuse any other."""
        table = schema.trials
        expected = (table.c.id == trial_id) & (table.c.state == state)
        if state == "running":
            found = self._trial(connection, trial_id)
            _check_mine(f"trial {found.number} of {found.optimizer}", found)
        changed = connection.execute(update(table).where(expected).values(**changes)).rowcount
        trial = self._trial(connection, trial_id)
        if not changed:
            raise StoreError(f"trial {trial.number} of {trial.optimizer} is {trial.state}, not {state}")
        self._change_search(connection, trial.search_id)


def _check_mine(what: str, row: SearchRecord | TrialRecord) -> None:
    """Refuse to write what another process has taken over.

    Raises:
        LeaseLost: it has.
    """
    if row.host is not None and this_process() != {"host": row.host, "pid": row.pid, "process": row.process}:
        raise LeaseLost(f"{what} was taken over by process {row.pid} on {row.host}; nothing more of it is written here")


def _is_over(trial: TrialRecord, now: datetime) -> bool:
    if trial.state != "running" or trial.host is None or trial.pid is None or trial.heartbeat_at is None:
        return True
    return not liveness.answers(trial.host, trial.pid, trial.process or "", trial.heartbeat_at, now)


def _select_searches() -> Select[Any]:
    return select(*_COLUMNS).join(schema.sweeps, schema.sweeps.c.id == schema.searches.c.sweep_id)


def _search_record(row: Row[Any]) -> SearchRecord:
    values: Sequence[Any] = row
    if not _CELLS.sound(row):
        values, _ = _CELLS.mended(row)
        values[_STATUS] = DAMAGED
    return SearchRecord(*values)


def _select_trials() -> Select[Any]:
    columns = select(schema.trials.c.kind, *_TRIAL_COLUMNS, _LATEST_RUN)
    return columns.join(schema.searches, schema.searches.c.id == schema.trials.c.search_id)


def _trial_record(row: Row[Any]) -> TrialRecord:
    kind, *values, run_id = tuple[Any, ...](row)
    if not _TRIAL_CELLS.sound(values):
        values, why = _TRIAL_CELLS.mended(values)
        values[_STATE], values[_ERROR] = DAMAGED, why
    values = [*values, run_id]
    trial = TrialRecord(*values)
    return trial if kind is None else replace(trial, value=join_value(None, kind))
