"""Bringing the runs and sweeps of another database in, each once however often it is done.

A run, a sweep and a trial are known by their uuid, which they keep wherever they go; numbers are this database's own,
and so are names where the name is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from vrcli.db import facts, schema
from vrcli.db.cells import damages
from vrcli.db.connection import Database
from vrcli.db.curves import Curves, insert_curves
from vrcli.db.errors import StoreError
from vrcli.db.records import MergeReport
from vrcli.db.rows import insert_named, insert_results, many, read_results
from vrcli.passwords import masked_provenance

Row = dict[str, Any]
_UNFINISHED = ("interrupted", "failed")


class _Undo(Exception):
    """Ends the transaction of a dry run without effect."""


@dataclass
class _Tally:
    """A MergeReport in the making, and where the other database's sweeps and trials went."""

    added: list[int] = field(default_factory=list)
    updated: list[int] = field(default_factory=list)
    known: int = 0
    running: int = 0
    repeated: list[int] = field(default_factory=list)
    points: int = 0
    sweeps: list[int] = field(default_factory=list)
    searches: list[int] = field(default_factory=list)
    trials: int = 0
    conflicting_trials: int = 0
    sweep_ids: dict[int, int] = field(default_factory=dict)
    search_ids: dict[int, int] = field(default_factory=dict)
    sweep_of: dict[int | None, int] = field(default_factory=dict)
    trial_ids: dict[int, int] = field(default_factory=dict)

    def report(self) -> MergeReport:
        return MergeReport(
            added=tuple(self.added),
            updated=tuple(self.updated),
            known=self.known,
            running=self.running,
            repeated=tuple(self.repeated),
            points=self.points,
            sweeps=tuple(self.sweeps),
            searches=tuple(self.searches),
            trials=self.trials,
            conflicting_trials=self.conflicting_trials,
        )


def merge(
    database: Database,
    other: Database,
    *,
    ids: Iterable[int] | int | None = None,
    dry_run: bool = False,
    advance: Callable[[], object] = lambda: None,
    curves: Mapping[int, Collection[str]] | None = None,
) -> MergeReport:
    """Copy what another database has and this one has not: runs with all that belongs to them, and sweeps.

    All of it comes in, or nothing. Runs that are still running there are left out; another merge brings them in when
    they have ended.

    Args:
        ids: only these runs of the other database, and their sweeps.
        dry_run: change nothing; the report says what would be done, with the numbers that new runs would get.
        advance: told after each run.
        curves: by run of the other database those that come along, and no artifacts; everything by default.
    """
    tally = _Tally()
    wanted = None if ids is None else set(many(ids))
    with other.reading() as connection:
        runs = [row for row in _rows(connection, schema.runs) if wanted is None or row["id"] in wanted]
        used = None if wanted is None else {row["search_id"] for row in runs}
        searches = [row for row in _rows(connection, schema.searches) if used is None or row["id"] in used]
        search_ids, sweep_ids = {row["id"] for row in searches}, {row["sweep_id"] for row in searches}
        sweeps = [row for row in _rows(connection, schema.sweeps) if used is None or row["id"] in sweep_ids]
        trials = [row for row in _rows(connection, schema.trials) if row["search_id"] in search_ids]
        damaged = sum(1 for _ in damages(connection, None))
        said = list(facts.read(connection).values())
    if damaged:
        raise StoreError(
            f"{other.label} has {damaged} damaged row{'s' * (damaged != 1)}, and nothing of it came in; "
            "vr db check names them, with --repair it puts them aside"
        )
    with suppress(_Undo), database.writing() as connection:
        facts.add(connection, said)
        for row in sweeps:
            _merge_sweep(connection, row, tally)
        for row in searches:
            _merge_search(connection, row, tally)
        for row in trials:
            _merge_trial(connection, row, tally)
        for row in runs:
            kept = None if curves is None else set(curves.get(row["id"], ()))
            _merge_run(connection, other, row, tally, copy=not dry_run, kept=kept)
            advance()
        if dry_run:
            raise _Undo
    return tally.report()


def _merge_run(
    connection: Connection, other: Database, row: Row, tally: _Tally, *, copy: bool = True, kept: set[str] | None = None
) -> None:
    if row["status"] == "running":
        tally.running += 1
        return
    table, there = schema.runs, row["id"]
    same = (table.c.uuid == row["uuid"]) | (
        (table.c.spec_id == row["spec_id"])
        & table.c.seed.is_not_distinct_from(row["seed"])
        & (table.c.created_at == row["created_at"])
    )
    here = connection.execute(select(table.c.id, table.c.status, table.c.finished_at).where(same)).first()
    if here and not (here.status in _UNFINISHED and row["finished_at"] > here.finished_at):
        tally.known += 1
        return
    values = {name: value for name, value in row.items() if name != "id"}
    values["provenance"] = masked_provenance(row["provenance"])  # older versions stored passwords
    values["trial_id"] = tally.trial_ids.get(row["trial_id"])
    orphaned = row["trial_id"] is not None and values["trial_id"] is None
    values["search_id"] = None if orphaned else tally.search_ids.get(row["search_id"])
    values["sweep_id"] = None if orphaned else tally.sweep_of.get(values["search_id"])
    if here:
        run_id = here.id
        _clear(connection, run_id, values)
        tally.updated.append(run_id)
    else:
        repeats = (table.c.spec_id == row["spec_id"]) & table.c.seed.is_not_distinct_from(row["seed"])
        repeated = connection.scalar(select(table.c.id).where(repeats).limit(1)) is not None
        run_id = insert_named(connection, table, values, wanted=row["name"])
        tally.added.append(run_id)
        tally.repeated += [run_id] if repeated else []
    tally.points += _copy_parts(connection, other, there, run_id, kept) if copy else Curves(other).count(there)


def _copy_parts(connection: Connection, other: Database, there: int, here: int, kept: set[str] | None) -> int:
    """Copy results, artifacts and curves of a run, or these curves alone; return the number of points."""
    curves = Curves(other).read(there, kept)
    with other.reading() as source:
        results = read_results(source, [there]).get(there, {})
        artifacts = [] if kept is not None else _rows(source, schema.artifacts, schema.artifacts.c.run_id == there)
    for artifact in artifacts:
        values = {name: value for name, value in artifact.items() if name != "id"}
        connection.execute(insert(schema.artifacts).values(values | {"run_id": here}))
    insert_results(connection, here, results)
    insert_curves(connection, here, {curve.metric: (curve.steps, curve.values) for curve in curves.values()})
    return sum(map(len, curves.values()))


def _rows(connection: Connection, table: Table, *conditions: Any) -> list[Row]:
    query = select(table).where(*conditions).order_by(table.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def _clear(connection: Connection, run_id: int, values: Row) -> None:
    """Give a run's row new values except its name, and remove what hangs on it."""
    for table in (schema.results, schema.points, schema.artifacts):
        connection.execute(delete(table).where(table.c.run_id == run_id))
    changes = {name: value for name, value in values.items() if name not in ("name", "uuid")}
    connection.execute(update(schema.runs).where(schema.runs.c.id == run_id).values(changes))


def _merge_sweep(connection: Connection, row: Row, tally: _Tally) -> None:
    table, there = schema.sweeps, row["id"]
    here = connection.scalar(select(table.c.id).where(table.c.uuid == row["uuid"]))
    if here is None:
        values = {name: value for name, value in row.items() if name != "id"}
        here = insert_named(connection, table, values, wanted=row["name"])
        tally.sweeps.append(here)
    tally.sweep_ids[there] = here


def _merge_search(connection: Connection, row: Row, tally: _Tally) -> None:
    table, there = schema.searches, row["id"]
    query = select(table.c.id, table.c.sweep_id, table.c.trials).where(table.c.uuid == row["uuid"])
    here = connection.execute(query).first()
    if here:
        tally.search_ids[there], tally.sweep_of[here.id] = here.id, here.sweep_id
        if row["trials"] > here.trials:
            connection.execute(update(table).where(table.c.id == here.id).values(trials=row["trials"]))
        return
    values = {name: value for name, value in row.items() if name != "id"}
    values["sweep_id"] = tally.sweep_ids[row["sweep_id"]]
    if values["status"] == "running":
        values["status"] = "interrupted"  # over there
    if connection.scalar(select(table.c.id).where(table.c.definition_key == row["definition_key"])) is not None:
        # The same search was made here as well: its own is the one that the command finds again.
        values["definition_key"] = row["uuid"]
    id = connection.scalars(insert(table).values(values).returning(table.c.id)).one()
    tally.search_ids[there], tally.sweep_of[id] = id, values["sweep_id"]
    tally.searches.append(id)


def _merge_trial(connection: Connection, row: Row, tally: _Tally) -> None:
    table, search_id = schema.trials, tally.search_ids[row["search_id"]]
    place = (table.c.search_id == search_id) & (table.c.number == row["number"])
    here = connection.execute(select(table.c.id, table.c.uuid, table.c.state).where(place)).first()
    if here and here.uuid != row["uuid"]:
        tally.conflicting_trials += 1
        return
    values = {name: value for name, value in row.items() if name != "id"} | {"search_id": search_id}
    if values["state"] == "running":
        values["state"] = "interrupted"  # to be done again by who goes on with the sweep here
    if here is None:
        tally.trial_ids[row["id"]] = connection.scalars(insert(table).values(values).returning(table.c.id)).one()
        tally.trials += 1
        return
    tally.trial_ids[row["id"]] = here.id
    if here.state in ("pending", "interrupted"):
        connection.execute(update(table).where(table.c.id == here.id).values(values))
