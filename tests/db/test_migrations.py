"""Old databases come up to date with everything in them, and new ones equal those that were migrated."""

from __future__ import annotations

import math
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from vrcli.db import schema, versions
from vrcli.db.location import Location
from vrcli.db.store import Store, StoreError

# SQLite's indexes over an expression are skipped by SQLAlchemy; `Store.check` looks for them by name.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
]

ASSETS = Path(__file__).parent / "assets"
MIGRATIONS = Path(versions.__file__).parent / "migrations"


def test_the_schema_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [schema.SCHEMA]
    revisions = [revision.revision for revision in script.walk_revisions()]
    assert revisions[::-1] == [f"{number:04}" for number in range(1, int(schema.SCHEMA) + 1)]


def _plain(index: Any) -> str:
    """An index in words; SQLAlchemy's own objects would say where in memory they are."""
    options = {name: str(value) for name, value in index["dialect_options"].items()}
    return str({**index, "dialect_options": options})


def _references(connection: Connection, table: str) -> list[str]:
    """Foreign keys; SQLAlchemy overlooks half of one that SQLite holds with its column."""
    if connection.dialect.name == "sqlite":
        found = connection.execute(text(f"PRAGMA foreign_key_list({table})"))
        return sorted(str(tuple(row)[2:]) for row in found)
    return sorted(map(str, inspect(connection).get_foreign_keys(table)))


def _options(connection: Connection, table: str) -> list[str]:
    """What SQLite was told of a table as a whole."""
    if connection.dialect.name != "sqlite":
        return []
    query = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :table")
    sql = connection.execute(query, {"table": table}).scalar_one()
    return [option for option in ("WITHOUT ROWID", "AUTOINCREMENT") if option in sql]


def _shape(where: str) -> dict[str, Any]:
    """Everything that SQLAlchemy can see of tables, constraints, indexes and views."""
    engine = Location(where).engine(read_only=False)
    with engine.connect() as connection:
        found = inspect(connection)
        shape: dict[str, Any] = {
            table: {
                "columns": {c["name"]: (str(c["type"]), c["nullable"]) for c in found.get_columns(table)},
                "pk": found.get_pk_constraint(table),
                "fk": _references(connection, table),
                "checks": sorted(map(str, found.get_check_constraints(table))),
                "unique": sorted(map(str, found.get_unique_constraints(table))),
                "indexes": sorted(map(_plain, found.get_indexes(table))),
                "options": _options(connection, table),
            }
            for table in found.get_table_names()
        }
        shape |= {view: " ".join((found.get_view_definition(view) or "").split()) for view in found.get_view_names()}
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        differences = [difference[0] for difference in compare_metadata(context, schema.metadata)]
        overlooked = ("add_fk", "remove_fk") if connection.dialect.name == "sqlite" else ()  # see _references
        shape["differences"] = [what for what in differences if what not in overlooked]
        shape["version"] = connection.scalar(text(f"SELECT version_num FROM {schema.VERSION_TABLE}"))
    engine.dispose()
    return shape


def test_a_new_database_equals_a_migrated_one(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    Store.open(url).close()
    created = _shape(url)
    if "postgresql" in url:
        engine = Location(url).engine(read_only=False)
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
        migrated_url = url
    else:
        migrated_url = str(tmp_path / "migrated.db")
    for number in range(1, int(schema.SCHEMA) + 1):
        versions.upgrade(Location(migrated_url), target=f"{number:04}")
    migrated = _shape(migrated_url)
    for name in created | migrated:
        assert created.get(name) == migrated.get(name), name
    assert created["differences"] == []
    assert {"runs", "points", *schema.VIEWS} <= created.keys()


def test_sqlite_tables_are_as_designed(tmp_path: Path) -> None:
    Store.open(tmp_path / "vr.db").close()
    shape = _shape(str(tmp_path / "vr.db"))
    assert shape["points"]["options"] == shape["results"]["options"] == ["WITHOUT ROWID"]
    assert shape["runs"]["options"] == shape["sweeps"]["options"] == ["AUTOINCREMENT"]
    assert "alembic_version" not in shape


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of a database that was written at schema 1."""
    return Path(shutil.copy(ASSETS / "schema_0001.db", tmp_path / "old.db"))


def _content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of schema 1's tables, in its columns."""
    content = {}
    with closing(sqlite3.connect(ASSETS / "schema_0001.db")) as first, closing(sqlite3.connect(path)) as database:
        for table in ("runs", "metrics", "results", "points", "artifacts"):
            columns = ", ".join(column[1] for column in first.execute(f"PRAGMA table_info({table})"))
            content[table] = sorted(database.execute(f"SELECT {columns} FROM {table}"), key=repr)
    return content


def test_an_old_database_is_upgraded_with_everything_in_it(old: Path) -> None:
    before, original = _content(old), old.read_bytes()
    done = Store.upgrade(old)
    assert (done.before, done.after) == ("0001", schema.SCHEMA)
    assert done.backup is not None
    assert done.backup.name.startswith("old.schema1-")
    assert _content(done.backup) == _content(old) == before
    assert len(before["points"]) == 5 * 84
    with closing(sqlite3.connect(done.backup)) as copy, closing(sqlite3.connect(ASSETS / "schema_0001.db")) as asset:
        assert list(copy.iterdump()) == list(asset.iterdump())
    assert original == (ASSETS / "schema_0001.db").read_bytes()
    with Store.open(old, mode="read") as store:
        (problem,) = store.check()
        assert problem.startswith("run 5: recorded as running")
        assert _shape(str(old))["differences"] == []
        run = store.runs.get(2)
        assert math.isnan(run.results["best_val_loss"])
        assert run.results["test_loss"] == math.inf
        assert run.spec["settings"] == {"lr": 0.002, "betas": [0.9, 0.999]}
        assert str(store.curves.read(2)[2, "val_loss"].values.tolist()) == "[1.0, nan, inf, -inf]"
        assert store.artifacts.read(2, "notes.txt").decode() == "größer"
        assert [run.status for run in store.runs.select(status=["completed", "running"])] == ["running", "completed"]
    assert Store.upgrade(old).backup is None


def test_opening_an_old_database_upgrades_it_and_says_so(old: Path) -> None:
    with Store.open(old) as store:
        (notice,) = store.notices
        assert f"was upgraded from schema 1 to {int(schema.SCHEMA)}; a copy from before is" in notice
        assert store.runs.get(5).status == "interrupted"  # of another host, and silent for long
        store.runs.resume(5)
    (copy,) = old.parent.glob("old.schema1-*.db")
    assert str(copy) in notice
    with Store.open(old) as store:
        assert store.notices == ()


def test_reading_an_old_database_is_refused_with_the_way_out(old: Path) -> None:
    content = old.read_bytes()
    with pytest.raises(StoreError, match=r"has schema 1 and this vr needs \d; upgrade it with `vr db upgrade`$"):
        Store.open(old, mode="read")
    assert old.read_bytes() == content
    assert [path.name for path in old.parent.iterdir()] == ["old.db"]


def test_a_failed_upgrade_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _shape(str(old))
    run_migrations = versions._run_migrations

    def fail_at_the_end(connection: Connection, target: str) -> None:
        run_migrations(connection, target)
        connection.execute(text("SELECT no_column"))

    monkeypatch.setattr(versions, "_run_migrations", fail_at_the_end)
    with pytest.raises(StoreError, match="could not be upgraded: no such column: no_column; nothing was changed"):
        Store.open(old)
    assert _shape(str(old)) == before


def test_an_upgrade_that_cannot_be_copied_first_is_not_begun(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise StoreError(f"{target} cannot be written: no space")

    monkeypatch.setattr(versions, "copy_sqlite", full)
    with pytest.raises(StoreError, match="no space"):
        Store.upgrade(old)
    assert _shape(str(old))["version"] == "0001"


def test_two_processes_upgrade_at_once(old: Path) -> None:
    program = "import sys; from vrcli.db.store import Store; Store.open(sys.argv[1]).close()"
    root = Path(__file__).parents[2]
    processes = [subprocess.Popen([sys.executable, "-c", program, old], cwd=root) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(list(old.parent.glob("old.schema1-*.db"))) == 1


def test_upgrading_what_is_no_old_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        Store.upgrade(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []
    assert Store.upgrade(_empty(tmp_path / "empty.db")).before is None
    Store.open(tmp_path / "new.db").close()
    done = Store.upgrade(tmp_path / "new.db")
    assert (done.before, done.after, done.backup) == (schema.SCHEMA, schema.SCHEMA, None)


def _empty(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.postgres
def test_postgres_is_upgraded_only_when_asked(postgres_url: str) -> None:
    versions.upgrade(Location(postgres_url), target="0001")
    with pytest.raises(StoreError, match="upgrade it with `vr db upgrade` after a pg_dump"):
        Store.open(postgres_url)
    assert Store.upgrade(postgres_url).after == schema.SCHEMA
    Store.open(postgres_url).close()


def _later(database: Any) -> dict[str, list[tuple[Any, ...]]]:
    """What schema 3 made of the sweeps, trials and runs of schema 2, and of what their names say."""
    queries = {
        "sweeps": "SELECT id, uuid, name, shared_key, task, preset, dataset, dataset_fingerprint FROM sweeps",
        "searches": "SELECT id, uuid, sweep_id, optimizer, search_seed, definition_key, status, trials FROM searches",
        "trials": "SELECT id, uuid, search_id, number, params, state, value, epochs, attempt FROM trials",
        "runs": "SELECT id, uuid, sweep_id, search_id, trial_id, objective, configuration FROM runs",
        "facts": "SELECT task, metric, direction, unit, CAST(percent AS INTEGER) FROM metric_facts WHERE NOT shown",
        "values": "SELECT id, best_value, best_val_loss FROM v_runs",
        "of_trials": "SELECT id, sweep, optimizer, run_id, objective, configuration, best_value FROM v_trials",
    }
    return {name: sorted(map(tuple, database.execute(query).fetchall()), key=repr) for name, query in queries.items()}


def test_a_sweep_of_before_becomes_a_sweep_with_one_search(tmp_path: Path) -> None:
    path = Path(shutil.copy(ASSETS / "schema_0002.db", tmp_path / "vr.db"))
    with closing(sqlite3.connect(path)) as database:
        before = {
            "sweeps": database.execute("SELECT id, uuid, name, definition_key, status, trials FROM sweeps").fetchall(),
            "trials": database.execute("SELECT id, sweep_id, optimizer, number, params, value FROM trials").fetchall(),
            "runs": database.execute("SELECT id, sweep_id, trial_id FROM runs ORDER BY id").fetchall(),
        }
    done = Store.upgrade(path)
    assert done.backup is not None
    assert done.backup.exists()
    with Store.open(path, mode="read") as store:
        searches = store.searches.select()[::-1]
        found = [(s.id, s.uuid, s.name, s.key, s.status, s.trials) for s in searches]
        assert found == before["sweeps"]
        assert [s.sweep_id for s in searches] == [1, 2]
        assert [store.sweeps.get(s.name).uuid for s in searches] == [s.uuid for s in searches]
        assert [(s.optimizer, s.search_seed) for s in searches] == [("vradam", 0), ("adamw", 0)]
        trials = [t for s in searches for t in store.searches.trials(s.id)]
        found = [(t.id, t.sweep_id, t.optimizer, t.number, t.params_json, t.value) for t in trials]
        assert found == before["trials"]
        runs = sorted(store.runs.select(), key=lambda run: run.id)
        assert [(run.id, run.sweep_id, run.trial_id) for run in runs] == before["runs"]
        assert [run.search_id for run in runs] == [run.sweep_id for run in runs]
        assert {run.objective for run in runs} == {"best_val_loss"}
        facts = store.runs.metric_facts()
        assert facts["cnn", "val_accuracy"].percent
        assert {facts["transformer", f"test_{name}"].direction for name in ("loss", "perplexity")} == {"min"}
        assert {name for (task, name), fact in facts.items() if task == "gflownet" and fact.shown} >= {"val_diversity"}
        assert facts["gflownet", "test_loss_se"].direction == "min"  # which its name does not say
        assert store.check() == []
    with Store.open(path) as store:  # goes on counting where it was
        assert store.sweeps.create({"task": "cnn"}).id == 3


@pytest.mark.postgres
def test_postgres_is_filled_as_sqlite_is(postgres_url: str, tmp_path: Path) -> None:
    import psycopg

    path = Path(shutil.copy(ASSETS / "schema_0002.db", tmp_path / "vr.db"))
    versions.upgrade(Location(postgres_url), target="0002")
    with closing(sqlite3.connect(path)) as source, psycopg.connect(postgres_url) as target:
        for table in ("metrics", "sweeps", "trials", "runs", "results", "points", "artifacts"):
            rows = source.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in rows.description]
            values = ", ".join(["%s"] * len(names))
            target.cursor().executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})", rows.fetchall())
    Store.upgrade(postgres_url)
    Store.upgrade(path)
    with closing(sqlite3.connect(path)) as source, psycopg.connect(postgres_url) as target:
        assert _later(target) == _later(source)
    with Store.open(postgres_url) as store:
        assert store.check() == []
        assert store.searches.create({"optimizer": "sgd"}, key="new", trials=1, sweep_id=1).id == 3
