"""Sweeps and their trials: who does which point, once each, whatever is killed on the way."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from db import liveness, schema
from db.connection import Database
from db.errors import StoreError
from db.records import ENDED, SWEEP_STATUSES, SweepRecord, TrialRecord, join_value, split_value
from db.rows import as_json, insert_named, many, this_process
from db.runs import Runs

# In the order of the records' fields.
_RENAMED = {"key": "definition_key", "settings_json": "settings", "params_json": "params"}
_SWEEP_COLUMNS = tuple(schema.sweeps.c[_RENAMED.get(field.name, field.name)] for field in fields(SweepRecord))
_TRIAL_COLUMNS = tuple(schema.trials.c[_RENAMED.get(field.name, field.name)] for field in fields(TrialRecord)[:-1])
_LATEST_RUN = select(func.max(schema.runs.c.id)).where(schema.runs.c.trial_id == schema.trials.c.id).scalar_subquery()
_DEFINITION_COLUMNS = ("task", "preset", "dataset", "dataset_fingerprint")


class Sweeps:
    """The sweeps of a database and their trials.

    Args:
        database: open.
        runs: of the same database.
    """

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database, self._runs = database, runs

    def create(self, settings: Mapping[str, Any], *, key: str, trials: int) -> SweepRecord:
        """Record a new sweep, driven by this process.

        Args:
            settings: the complete definition: spaces, search, its seed, optimizers, epochs, seeds. Its task, preset,
                dataset and dataset_fingerprint can be searched for.
            key: the hash of the definition, by which the same command finds it again.
            trials: the budget of each optimizer.

        Raises:
            StoreError: a sweep of this definition is there already.
        """
        now = datetime.now(UTC)
        row = {name: settings.get(name) for name in _DEFINITION_COLUMNS} | this_process()
        row |= {"uuid": uuid4().hex, "definition_key": key, "status": "running", "trials": trials}
        row |= {"settings": as_json("the sweep", settings), "created_at": now, "updated_at": now}
        with self._database.writing() as connection:
            found = connection.scalar(select(schema.sweeps.c.name).where(schema.sweeps.c.definition_key == key))
            if found is not None:
                raise StoreError(f"{self._database.label} has this sweep already: {found}")
            return self._sweep(connection, insert_named(connection, schema.sweeps, row))

    def resume(self, sweep_id: int, *, trials: int | None = None) -> SweepRecord:
        """Go on with a sweep in this process.

        Args:
            trials: a larger budget.

        Raises:
            StoreError: a living process drives it, or the budget would shrink.
        """
        with self._database.writing() as connection:
            sweep = self._sweep(connection, sweep_id, lock=True)
            mine = this_process() == {"host": sweep.host, "pid": sweep.pid, "process": sweep.process}
            if sweep.status == "running" and not mine and sweep.answers:
                raise StoreError(f"sweep {sweep.name} is being run by process {sweep.pid} on {sweep.host}")
            if trials is not None and trials < sweep.trials:
                raise StoreError(f"sweep {sweep.name} has {sweep.trials} trials, which cannot become {trials}")
            self._change_sweep(connection, sweep_id, status="running", trials=trials or sweep.trials, **this_process())
            return self._sweep(connection, sweep_id)

    def set_status(self, sweep_id: int, status: str) -> SweepRecord:
        """Say how the sweep stands; `stopped` asks the process that drives it to stop."""
        if status not in SWEEP_STATUSES:
            raise StoreError(f"{status!r} is no status of a sweep; those are {', '.join(SWEEP_STATUSES)}")
        with self._database.writing() as connection:
            self._change_sweep(connection, sweep_id, status=status)
            return self._sweep(connection, sweep_id)

    def heartbeat(self, sweep_id: int) -> None:
        """Say that the process that drives the sweep is alive."""
        with self._database.writing() as connection:
            self._change_sweep(connection, sweep_id)

    def find(self, key: str) -> SweepRecord | None:
        """The sweep of this definition."""
        query = select(*_SWEEP_COLUMNS).where(schema.sweeps.c.definition_key == key)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else SweepRecord(*row)

    def get(self, ref: int | str) -> SweepRecord:
        """The sweep of this number or name."""
        with self._database.reading() as connection:
            return self._sweep(connection, ref)

    def select(
        self,
        *,
        task: str | Iterable[str] | None = None,
        status: str | Iterable[str] | None = None,
        limit: int | None = None,
    ) -> list[SweepRecord]:
        """Sweeps, the newest first."""
        query = select(*_SWEEP_COLUMNS).order_by(schema.sweeps.c.created_at.desc(), schema.sweeps.c.id.desc())
        for name, value in {"task": task, "status": status}.items():
            if value is not None:
                query = query.where(schema.sweeps.c[name].in_(many(value)))
        with self._database.reading() as connection:
            return [SweepRecord(*row) for row in connection.execute(query.limit(limit))]

    def add_trial(self, sweep_id: int, optimizer: str, params: Mapping[str, Any]) -> TrialRecord:
        """Record the next point of an optimizer, pending.

        Raises:
            StoreError: the optimizer has had all the trials of its budget.
        """
        row: dict[str, Any] = {"uuid": uuid4().hex, "sweep_id": sweep_id, "optimizer": optimizer, "attempt": 0}
        row |= {"params": as_json("the trial", params), "state": "pending", "created_at": datetime.now(UTC)}
        of_optimizer = (schema.trials.c.sweep_id == sweep_id) & (schema.trials.c.optimizer == optimizer)
        with self._database.writing() as connection:
            sweep = self._sweep(connection, sweep_id, lock=True)
            number = connection.scalar(
                select(func.coalesce(func.max(schema.trials.c.number) + 1, 0)).where(of_optimizer)
            )
            if number >= sweep.trials:
                raise StoreError(f"sweep {sweep.name} has all of its {sweep.trials} trials of {optimizer}")
            statement = insert(schema.trials).values(number=number, **row).returning(schema.trials.c.id)
            trial_id = connection.scalars(statement).one()
            self._change_sweep(connection, sweep_id)
            return self._trial(connection, trial_id)

    def start_trial(self, trial_id: int) -> TrialRecord:
        """Record that this process begins a pending trial; only one of several that try succeeds."""
        now = datetime.now(UTC)
        begun = {"state": "running", "started_at": now, "heartbeat_at": now, "finished_at": None, "error": None}
        with self._database.writing() as connection:
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
        if state not in ENDED:
            raise StoreError(f"{state!r} is no way for a trial to end; those are {', '.join(ENDED)}")
        number, kind = (None, None) if value is None else split_value(float(value))
        ended = {"state": state, "value": number, "kind": kind, "epochs": epochs, "error": error}
        with self._database.writing() as connection:
            self._change_trial(connection, trial_id, "running", **ended, finished_at=datetime.now(UTC))
            return self._trial(connection, trial_id)

    def trial(self, trial_id: int) -> TrialRecord:
        """The trial of this id."""
        with self._database.reading() as connection:
            return self._trial(connection, trial_id)

    def trials(
        self,
        sweep_id: int,
        *,
        optimizer: str | Iterable[str] | None = None,
        state: str | Iterable[str] | None = None,
    ) -> list[TrialRecord]:
        """The trials of a sweep by optimizer and number."""
        query = _select_trials().where(schema.trials.c.sweep_id == sweep_id)
        for name, value in {"optimizer": optimizer, "state": state}.items():
            if value is not None:
                query = query.where(schema.trials.c[name].in_(many(value)))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(schema.trials.c.optimizer, schema.trials.c.number))
            return [_trial_record(row) for row in rows]

    def reclaim_trials(self, sweep_id: int | None = None, *, failed: bool = False) -> list[TrialRecord]:
        """Make trials pending again, with the same point, that were interrupted or whose processes are gone.

        A trial lives as long as the process that started it or the process of its run.

        Args:
            sweep_id: of this sweep, None of all.
            failed: also those that failed, for when the cause is mended.

        Returns:
            The trials to do again.
        """
        states = ("running", "interrupted", *(["failed"] if failed else []))
        query = _select_trials().where(schema.trials.c.state.in_(states))
        if sweep_id is not None:
            query = query.where(schema.trials.c.sweep_id == sweep_id)
        self._runs.mark_interrupted()
        with self._database.writing() as connection:
            rows = connection.execute(query.order_by(schema.trials.c.id).with_for_update(of=schema.trials)).all()
            found = [_trial_record(row) for row in rows]
            training = set(connection.scalars(select(schema.runs.c.trial_id).where(schema.runs.c.status == "running")))
            ids = [trial.id for trial in found if trial.id not in training and _is_over(trial)]
            connection.execute(
                update(schema.trials)
                .where(schema.trials.c.id.in_(ids))
                .values(state="pending", value=None, kind=None, epochs=None, error=None, finished_at=None)
            )
            return [self._trial(connection, id) for id in ids]

    def mark_interrupted(self) -> None:
        """Mark running sweeps whose process is gone as interrupted."""
        for sweep in self.select(status="running"):
            if not sweep.answers:
                same = (schema.sweeps.c.id == sweep.id) & (schema.sweeps.c.process == sweep.process)
                still = same & (schema.sweeps.c.status == "running")
                with self._database.writing() as connection:
                    connection.execute(update(schema.sweeps).where(still).values(status="interrupted"))

    def _sweep(self, connection: Connection, ref: int | str, *, lock: bool = False) -> SweepRecord:
        table = schema.sweeps
        by_id = isinstance(ref, int) or ref.isdecimal()
        query = select(*_SWEEP_COLUMNS).where(table.c.id == int(ref) if by_id else table.c.name == ref)
        known = not by_id or 0 < int(ref) < 2**31
        row = connection.execute(query.with_for_update() if lock else query).one_or_none() if known else None
        if row is not None:
            return SweepRecord(*row)
        names = connection.scalars(select(table.c.name)).all()
        near = difflib.get_close_matches(str(ref), names, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; it has {len(names)}" if names else "; it has none yet"
        raise StoreError(f"{self._database.label} has no sweep {ref}{hint}")

    def _change_sweep(self, connection: Connection, sweep_id: int, **changes: Any) -> None:
        statement = update(schema.sweeps).where(schema.sweeps.c.id == sweep_id)
        if not connection.execute(statement.values(updated_at=datetime.now(UTC), **changes)).rowcount:
            self._sweep(connection, sweep_id)

    def _trial(self, connection: Connection, trial_id: int) -> TrialRecord:
        row = connection.execute(_select_trials().where(schema.trials.c.id == trial_id)).one_or_none()
        if row is None:
            raise StoreError(f"{self._database.label} has no trial {trial_id}")
        return _trial_record(row)

    def _change_trial(self, connection: Connection, trial_id: int, state: str, /, **changes: Any) -> None:
        """Change a trial that is in this state; refuse any other."""
        table = schema.trials
        expected = (table.c.id == trial_id) & (table.c.state == state)
        changed = connection.execute(update(table).where(expected).values(**changes)).rowcount
        trial = self._trial(connection, trial_id)
        if not changed:
            raise StoreError(f"trial {trial.number} of {trial.optimizer} is {trial.state}, not {state}")
        self._change_sweep(connection, trial.sweep_id)


def _is_over(trial: TrialRecord) -> bool:
    if trial.state != "running" or trial.host is None or trial.pid is None or trial.heartbeat_at is None:
        return True
    return not liveness.answers(trial.host, trial.pid, trial.process or "", trial.heartbeat_at)


def _select_trials() -> Select[Any]:
    return select(schema.trials.c.kind, *_TRIAL_COLUMNS, _LATEST_RUN)


def _trial_record(row: Row[Any]) -> TrialRecord:
    kind, *values = tuple[Any, ...](row)
    trial = TrialRecord(*values)
    return trial if kind is None else replace(trial, value=join_value(None, kind))
