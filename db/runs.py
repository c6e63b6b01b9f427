"""Runs: beginning, finishing and finding them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Select, bindparam, delete, select, update

from vrcli.db import facts, liveness, schema
from vrcli.db.configuration import configuration_of
from vrcli.db.connection import Database, among, clock, fetch
from vrcli.db.damage import DAMAGED, Cells, Objects
from vrcli.db.errors import LeaseLost, StoreError
from vrcli.db.facts import Metric
from vrcli.db.records import ENDED_RUNS, MetricFact, RunRecord
from vrcli.db.rows import as_json, insert_named, insert_results, known, many, read_results, this_process
from vrcli.passwords import masked_provenance

# In the order of RunRecord's fields, which lets ten thousand of them be built quickly.
_RENAMED = {"group": "run_group", "spec_json": "spec", "provenance_json": "provenance"}
_AXES = (
    select(schema.trials.c.params)
    .where(
        schema.trials.c.search_id == schema.runs.c.search_id, schema.trials.c.number == 0
    )  # all trials of a search have the same names
    .correlate(schema.runs)
    .scalar_subquery()
)
_OWN = [schema.runs.c[_RENAMED.get(field.name, field.name)] for field in fields(RunRecord)[:-2]]
# The last says whether the JSON can be read: to decode it here would make long lists slow.
_COLUMNS = (*_OWN, _AXES.label("axes_json"), Objects(schema.runs.c.spec, schema.runs.c.provenance))
_CELLS = Cells(_OWN, json_known=True)
_ORIGIN, _STATUS, _ERROR = (_CELLS.names.index(name) for name in ("provenance", "status", "error"))
_VANISHED = "its process is gone"
# Built once: it goes with every block of points.
_HEARTBEAT = (
    update(schema.runs)
    .where(
        schema.runs.c.id == bindparam("run_id"),
        schema.runs.c.status == "running",
        schema.runs.c.host == bindparam("of_host"),
        schema.runs.c.pid == bindparam("of_pid"),
        schema.runs.c.process == bindparam("of_process"),
    )
    .values(heartbeat_at=bindparam("now"))
)
_SPEC_COLUMNS = ("task", "preset", "dataset", "dataset_fingerprint", "optimizer", "seed")


class Runs:
    """The runs of a database and their results.

    Args:
        database: open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self,
        spec: Mapping[str, Any],
        *,
        spec_id: str,
        provenance: Mapping[str, Any],
        tag: str | None = None,
        group: str | None = None,
        search_id: int | None = None,
        trial_id: int | None = None,
        variant: str | None = None,
        metrics: Sequence[Metric] = (),
    ) -> RunRecord:
        """Record that this process begins a run.

        Args:
            spec: the complete configuration. Its task, preset, dataset, dataset_fingerprint, optimizer and seed
                can be searched for.
            spec_id: the hash of spec.
            provenance: versions, machine, command line (`argv`), which is stored without passwords.
            group: what the runs of one command share.
            search_id: the search that the run is made for; known where the trial is.
            trial_id: the trial that the run is made for.
            variant: what stands for the optimizer in lists, where that is not the name in spec.
            metrics: what the task says of its metrics; the first one's best validation value is the objective.

        Returns:
            The new run, with its number and name.
        """
        row = {
            **{name: spec.get(name) for name in _SPEC_COLUMNS},
            "uuid": uuid4().hex,
            "status": "running",
            "spec_id": spec_id,
            "tag": tag,
            "run_group": group,
            "created_at": datetime.now(UTC),
            **this_process(),
            "objective": facts.objective(metrics),
            "configuration": configuration_of(spec),
            "spec": as_json("the configuration", spec),
            "provenance": masked_provenance(as_json("the provenance", provenance)),
        }
        row |= {"optimizer": variant} if variant else {}
        with self._database.writing() as connection:
            if trial_id is not None:
                search_id = known(self._database, connection, schema.trials.c.search_id, "trial", trial_id)
            row |= {"search_id": search_id, "trial_id": trial_id, "sweep_id": None}
            if search_id is not None:
                row["sweep_id"] = known(self._database, connection, schema.searches.c.sweep_id, "search", search_id)
            facts.write(connection, str(row["task"]), metrics)
            row["heartbeat_at"] = clock(connection)
            return self._one(connection, insert_named(connection, schema.runs, row))

    def declare(self, run_id: int, metrics: Sequence[Metric]) -> RunRecord:
        """Say of a run that is running what it measures, as `begin` takes it."""
        with self._database.writing() as connection:
            touch(self._database, connection, run_id, objective=facts.objective(metrics))
            record = self._one(connection, run_id)
            facts.write(connection, record.task, metrics)
            return record

    def heartbeat(self, run_id: int) -> None:
        """Renew the lease that the run's process has on it; see `touch`."""
        with self._database.writing() as connection:
            touch(self._database, connection, run_id)

    def finish(
        self, run_id: int, status: str, *, results: Mapping[str, float] | None = None, error: str | None = None
    ) -> RunRecord:
        """End a run; nothing of it can be changed afterwards.

        Args:
            status: completed, diverged, failed or interrupted.
            results: the run's figures by name.
            error: why it failed or diverged, in one line.
        """
        if status not in ENDED_RUNS:
            raise StoreError(f"{status!r} is not a way for a run to end; those are {', '.join(ENDED_RUNS)}")
        with self._database.writing() as connection:
            ended = {"status": status, "finished_at": datetime.now(UTC), "error": error}
            touch(self._database, connection, run_id, **ended)
            insert_results(connection, run_id, results or {})
            return self._one(connection, run_id)

    def close_of(self, process: liveness.Process, status: str, error: str) -> list[int]:
        """End the runs of a process that is known to be gone, and say which.

        Args:
            status: failed or interrupted.
            error: of what it ended, in one line.
        """
        table = schema.runs.c
        its = (table.host == process.host) & (table.pid == process.pid) & (table.process == process.token)
        # Whoever opened the database meanwhile has marked them as interrupted, not knowing why.
        left = (table.status == "running") | ((table.status == "interrupted") & (table.error == _VANISHED))
        with self._database.writing() as connection:
            ids = list(connection.scalars(select(table.id).where(its, left).order_by(table.id)))
            values = {"status": status, "finished_at": table.heartbeat_at, "error": error}
            connection.execute(update(schema.runs).where(table.id.in_(ids)).values(values))
        return ids

    def resume(self, run_id: int, *, step: int = 0) -> RunRecord:
        """Begin an interrupted or failed run again in this process, from a checkpoint.

        Args:
            step: the checkpoint's; points and artifacts of later steps are removed, and so are results.

        Raises:
            StoreError: the run is complete, has diverged, or is still running elsewhere.
        """
        with self._database.writing() as connection:
            connection.execute(select(schema.runs.c.id).where(schema.runs.c.id == run_id).with_for_update())
            run, now = self._one(connection, run_id), clock(connection)
            if run.status == "running" and run.answers_at(now):
                raise StoreError(f"run {run_id} is running (pid {run.pid} on {run.host})")
            if run.status not in ("interrupted", "failed", "running"):
                raise StoreError(f"run {run_id} is {run.status}; only interrupted and failed runs can be resumed")
            for table in (schema.points, schema.artifacts):
                connection.execute(delete(table).where(table.c.run_id == run_id, table.c.step > step))
            connection.execute(delete(schema.results).where(schema.results.c.run_id == run_id))
            connection.execute(
                update(schema.runs)
                .where(schema.runs.c.id == run_id)
                .values(status="running", finished_at=None, error=None, heartbeat_at=now)
                .values(this_process())
            )
            return self._one(connection, run_id)

    def tag(self, run_id: int, tag: str | None) -> RunRecord:
        """Change the word that a run is found by, also when the run has ended; nothing that was measured changes.

        Args:
            tag: None takes it away.
        """
        with self._database.writing() as connection:
            self._one(connection, run_id)
            connection.execute(update(schema.runs).where(schema.runs.c.id == run_id).values(tag=tag))
            return self._one(connection, run_id)

    def delete(self, run_ids: Iterable[int] | int) -> None:
        """Remove runs with their curves, results and artifacts, all of them or none.

        Raises:
            StoreError: one is not there, or is still running.
        """
        ids = list(dict.fromkeys(many(run_ids)))
        with self._database.writing() as connection:
            chosen = among(connection, schema.runs.c.id, ids)
            found = _records(connection.execute(select(*_COLUMNS).where(chosen)).all(), {})
            if missing := set(ids) - {run.id for run in found}:
                raise _no_run(self._database, connection, min(missing))
            for run in found:
                if run.status == "running" and run.answers_at(clock(connection)):
                    raise StoreError(f"run {run.id} is still running (pid {run.pid} on {run.host})")
            connection.execute(delete(schema.runs).where(chosen))

    def mark_interrupted(self) -> list[int]:
        """Mark the running runs whose process is gone as interrupted, and say which."""
        running = select(*_COLUMNS).where(schema.runs.c.status == "running")
        with self._database.reading() as connection:
            rows = connection.execute(running).all()
            now = clock(connection) if rows else None
            dead = [run.id for run in _records(rows, {}) if not run.answers_at(now)]
        if not dead:
            return []
        with self._database.writing() as connection:
            # Looked at again: since the reading they may have ended, or been resumed by another process.
            again = _records(connection.execute(running.where(schema.runs.c.id.in_(dead)).with_for_update()).all(), {})
            now = clock(connection)
            dead = [run.id for run in again if not run.answers_at(now)]
            connection.execute(
                update(schema.runs)
                .where(schema.runs.c.id.in_(dead))
                .values(status="interrupted", finished_at=schema.runs.c.heartbeat_at, error=_VANISHED)
            )
        return dead

    def select(
        self,
        *,
        ids: Iterable[int] | int | None = None,
        task: str | Iterable[str] | None = None,
        preset: str | Iterable[str] | None = None,
        dataset: str | Iterable[str] | None = None,
        optimizer: str | Iterable[str] | None = None,
        status: str | Iterable[str] | None = None,
        tag: str | Iterable[str] | None = None,
        group: str | Iterable[str] | None = None,
        spec_id: str | Iterable[str] | None = None,
        sweep: int | str | Iterable[int | str] | None = None,
        search: int | Iterable[int] | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        results: Iterable[str] | None = None,
    ) -> list[RunRecord]:
        """Runs with their results, the newest first; curves are never read for it.

        Args:
            sweep: made for the sweep of this number or name.
            search: made for the search of this number.
            since: begun at this time or later; without a zone it is local time.
            limit: at most so many.
            results: names of the results to read, None for all; a few of them make a long list faster.
        """
        wanted: dict[str, Any] = {"task": task, "preset": preset, "dataset": dataset, "optimizer": optimizer}
        wanted |= {"status": status, "tag": tag, "run_group": group, "spec_id": spec_id, "search_id": search}
        query: Select[Any] = select(*_COLUMNS).order_by(schema.runs.c.created_at.desc(), schema.runs.c.id.desc())
        for name, value in wanted.items():
            if value is not None:
                query = query.where(schema.runs.c[name].in_(many(value)))
        if sweep is not None:
            query = query.where(schema.runs.c.sweep_id.in_(_sweep_ids(many(sweep))))
        if since is not None:
            query = query.where(schema.runs.c.created_at >= since)
        if limit is not None:
            query = query.limit(limit)
        with self._database.reading() as connection:
            if ids is not None:
                query = query.where(among(connection, schema.runs.c.id, many(ids)))
            rows = connection.execute(query).all()
            return _records(rows, read_results(connection, [row[0] for row in rows], results))

    def metric_facts(self) -> dict[tuple[str, str], MetricFact]:
        """What the tasks of all runs say of their results, by task and result."""
        with self._database.reading() as connection:
            return facts.read(connection)

    def searched(self) -> list[tuple[int, int | None, int | None, str, str, datetime]]:
        """Search, trial, seed, status, spec_id and begin of every run made for a search, the oldest first.

        A run that confirms a search has no trial.
        """
        table = schema.runs.c
        columns = (table.search_id, table.trial_id, table.seed, table.status, table.spec_id, table.created_at)
        with self._database.reading() as connection:
            rows = connection.execute(select(*columns).where(table.search_id.is_not(None)).order_by(table.created_at))
            return [tuple(row) for row in rows]

    def metric_names(self) -> list[str]:
        """Names of all results and curves that any run has had."""
        with self._database.reading() as connection:
            return [name for (name,) in fetch(connection, "SELECT name FROM metrics ORDER BY name", ())]

    def get(self, ref: int | str) -> RunRecord:
        """The run of this number or name.

        Raises:
            StoreError: there is none; the nearest name or the range of numbers is in the message.
        """
        with self._database.reading() as connection:
            return self._one(connection, self._run_id(connection, ref))

    def _run_id(self, connection: Connection, ref: int | str) -> int:
        if isinstance(ref, int) or ref.isdecimal():
            return int(ref)
        found = connection.scalar(select(schema.runs.c.id).where(schema.runs.c.name == ref))
        if found is not None:
            return int(found)
        near = difflib.get_close_matches(ref, connection.scalars(select(schema.runs.c.name)), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise StoreError(f"{self._database.label} has no run {ref}{hint}")

    def _one(self, connection: Connection, run_id: int) -> RunRecord:
        known = 0 < run_id < 2**31  # PostgreSQL and SQLite refuse to even compare numbers beyond their range
        rows = connection.execute(select(*_COLUMNS).where(schema.runs.c.id == run_id)).all() if known else []
        if not rows:
            raise _no_run(self._database, connection, run_id)
        return _records(rows, read_results(connection, [run_id]))[0]


def touch(database: Database, connection: Connection, run_id: int, **changes: Any) -> None:
    """Renew the lease of this process on a run that is running, and set other columns; refuse any other run.

    A run given up after a silence (a suspended machine) goes on when its own process is heard again, unless another
    one has taken it over meanwhile.

    Raises:
        LeaseLost: another one has.
        StoreError: the run has ended, or is not there.
    """
    now, process = clock(connection), liveness.current()
    mine = {"of_host": process.host, "of_pid": process.pid, "of_process": process.token}
    if not changes and connection.execute(_HEARTBEAT, {"run_id": run_id, "now": now, **mine}).rowcount:
        return
    table = schema.runs
    own = (table.c.host == process.host) & (table.c.pid == process.pid) & (table.c.process == process.token)
    given_up = (table.c.status == "interrupted") & (table.c.error == _VANISHED)
    values = {"status": "running", "finished_at": None, "error": None, "heartbeat_at": now, **changes}
    changeable = (table.c.id == run_id) & own & ((table.c.status == "running") | given_up)
    if connection.execute(update(table).where(changeable).values(values)).rowcount:
        return
    found = connection.execute(
        select(table.c.status, table.c.pid, table.c.host, own).where(table.c.id == run_id)
    ).first()
    if found is None:
        raise _no_run(database, connection, run_id)
    status, pid, host, is_mine = found
    if not is_mine:
        raise LeaseLost(f"run {run_id} was taken over by process {pid} on {host}; nothing more of it is written here")
    raise StoreError(f"run {run_id} is {status}; a run that has ended cannot be changed")


def _no_run(database: Database, connection: Connection, run_id: int) -> StoreError:
    ids = connection.scalars(select(schema.runs.c.id).order_by(schema.runs.c.id)).all()
    known = f"its runs are {ids[0]} to {ids[-1]}" if ids else "it has no runs yet"
    return StoreError(f"{database.label} has no run {run_id}; {known}")


def _sweep_ids(refs: Sequence[int | str]) -> Select[tuple[int]]:
    numbers = [int(ref) for ref in refs if isinstance(ref, int) or ref.isdecimal()]
    names_ = [ref for ref in refs if isinstance(ref, str)]
    return select(schema.sweeps.c.id).where(schema.sweeps.c.id.in_(numbers) | schema.sweeps.c.name.in_(names_))


def _records(rows: Sequence[Sequence[Any]], results: Mapping[int, dict[str, float]]) -> list[RunRecord]:
    """Rows of `_COLUMNS` as records, without the passwords that older versions stored."""
    found = []
    for row in rows:
        values: list[Any]
        *values, axes, readable = row
        if not (readable and _CELLS.sound(values)):
            values, damage = _CELLS.mended(values)
            values[_STATUS], values[_ERROR] = DAMAGED, damage
        values[_ORIGIN] = masked_provenance(values[_ORIGIN])
        values += [axes, results.get(row[0], {})]
        found.append(RunRecord(*values))
    return found
