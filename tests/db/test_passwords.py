"""No command that speaks to a database lets a password out: not on a screen, into a file, nor into the database."""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from vrcli.cli.lazy import COMMANDS, load
from vrcli.db import schema
from vrcli.db.store import Store

SECRET = "hunter2secret"
SPIRALS = "vrcli.cli.scaffold.task_template:Spirals"
_ORIGINS = ("provenance", "argv", "command")
_TRAIN = f"{SPIRALS} --preset smoke --threads 1 --device cpu"

#: By command: how it is called on a database that has runs and a sweep, in text and JSON, with and without files.
CALLS: dict[str, tuple[str, ...]] = {
    "run": (f"run {_TRAIN} --opt adamw", f"run {_TRAIN} --opt sgd --format json"),
    "sweep": (f"sweep {_TRAIN} --opt adamw --trials 1 --jobs 1 --format json",),
    "compare": (f"compare {_TRAIN} --opt adamw --opt sgd --seeds 2 --jobs 1",),
    "report": ("report", "report --format json", "report --trials", "report --output page.html"),
    "plot curves": ("plot curves", "plot curves --output curves.svg"),
    "plot envelope": ("plot envelope --output envelope.svg",),
    "plot telemetry": ("plot telemetry --output telemetry.svg",),
    "plot target": ("plot target --target 9 --output target.svg",),
    "plot profile": ("plot profile --output profile.svg",),
    "plot difference": ("plot difference --output difference.svg",),
    "plot ranks": ("plot ranks --output ranks.svg",),
    "plot budget": ("plot budget --output budget.svg",),
    "plot sensitivity": ("plot sensitivity lr --output sensitivity.svg",),
    "plot sweep": ("plot sweep --output sweep.svg",),
    "plot trajectory": ("plot trajectory --output trajectory.svg",),
    **{f"plot {name}": (f"plot {name} --output {name}.svg",) for name in ("stability", "spectrum", "updates")},
    "plot path": ("plot path 1 2 --output path.svg",),
    "plot plane": ("plot plane 1 --output plane.svg",),
    "study plan": ("study plan vradam/table3 --only paper --scale laptop",),
    "study run": ("study run nosuch",),
    "study report": ("study report vradam/table3", "study report vradam/table3 --format json"),
    "runs list": ("runs list", "runs list --format json"),
    "runs show": ("runs show 1", "runs show 1 --format json", "runs show 2"),
    "runs diff": ("runs diff 1 2 --all", "runs diff 1 2 --format json"),
    "runs export": tuple(f"runs export -o out.{end}" for end in ("csv", "json", "parquet", "db")),
    "runs path": ("runs path 1 2", "runs path 1 2 --format json"),
    "runs plane": ("runs plane 1 --points 3", "runs plane 1 --points 3 --format json"),
    "runs rerun": ("runs rerun 1", "runs rerun 1 --format json"),
    "runs retry": ("runs retry 1",),
    "runs resume": ("runs resume 1",),
    "runs tag": ("runs tag 1 word",),
    "sweeps list": ("sweeps list", "sweeps list --format json"),
    "sweeps show": ("sweeps show 1", "sweeps show 1 --format json"),
    "sweeps resume": ("sweeps resume 1 --trials 1 --jobs 1",),
    "sweeps stop": ("sweeps stop 1",),
    "sweeps export": ("sweeps export 1",),
    "db info": ("db info", "db info --format json"),
    "db check": ("db check",),
    "db backup": ("db backup copy.db",),
    "db upgrade": ("db upgrade",),
    "db merge": ("db merge other.db", "db merge other.db --format json", "db merge other.db --dry-run"),
    "runs rm": ("runs rm 2 --yes",),
}
#: Their refusals are as good as their outcomes: what there is differs between the databases.
MAY_BE_REFUSED = {
    "runs retry", "runs resume", "plot difference", "plot ranks", "plot budget", "plot target", "plot profile",
    "plot sensitivity", "plot telemetry", "sweeps stop", "plot sweep", "db backup",
    "plot trajectory", "plot stability", "plot spectrum", "plot updates", "plot path", "runs path",
    "plot plane", "runs plane", "study run", "study report",
}  # fmt: skip


def _commands(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, command in getattr(group, "commands", {}).items():
        yield from _commands(command, (*words, name))
    if not hasattr(group, "commands"):
        yield " ".join(words), group


def test_every_command_with_a_database_is_called_here() -> None:
    every = [found for name in COMMANDS for found in _commands(load(name), (name,))]
    with_database = {name for name, command in every if any("--db" in option.opts for option in command.params)}
    assert with_database == set(CALLS)


def leaked(folder: Path, *texts: str) -> list[str]:
    """Where the secret is: in these texts, or in files of the folder."""
    found = [text for text in texts if SECRET in text]
    return found + [str(path) for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def call(vr: Callable[..., Any], name: str, line: str, *more: str) -> Any:
    done = vr(*shlex.split(line), *more)
    assert "unexpected" not in done.err, (line, done.err)
    assert done.code == 0 or name in MAY_BE_REFUSED, (line, done.err)
    return done


def _raw(url: str) -> list[str]:
    """What is stored of the origins of all runs."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        found = list(connection.execute(text("SELECT provenance FROM runs")).scalars())
    engine.dispose()
    return found


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize(
    "how", ["user", *(pytest.param(how, marks=pytest.mark.slow) for how in ("options", "workers"))]
)
def test_no_command_on_a_server_lets_one_out(
    vr: Callable[..., Any], stored: Callable[..., int], postgres_url: str, tmp_path: Path, how: str
) -> None:
    base, _, query = postgres_url.partition("?")
    options = f"{base}?{query}&password={SECRET}&sslpassword={SECRET}"
    url = options if how == "options" else f"{base.replace('vr@', f'vr:p%40{SECRET}@')}?{query}"
    stored()
    (tmp_path / "vr.db").rename(tmp_path / "other.db")
    left = {"user": ("plot", "compare", "sweeps resume"), "options": ("plot", "compare", "sweep", "runs rerun")}
    calls = {name: lines for name, lines in CALLS.items() if not name.startswith(left.get(how, ("plot",)))}
    for name, lines in calls.items():
        for number, line in enumerate(lines):
            done = call(vr, name, line, *((f"--db={url}",) if number else ("--db", url)))
            assert leaked(tmp_path, done.out, done.err) == [], line
            assert "***" in done.out + done.err or name not in ("db info", "db check", "db upgrade"), line
    done = call(vr, "db merge", f"db merge '{url}' --db here.db")
    assert leaked(tmp_path, done.out, done.err) == []
    assert "***" in done.out
    origins = _raw(postgres_url)
    assert len(origins) > 1
    assert leaked(tmp_path, *origins) == []
    assert any("***" in origin for origin in origins)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("sweep", "sweeps resume")])
def test_no_refusal_names_one(vr: Callable[..., Any], tmp_path: Path, name: str) -> None:
    line = CALLS[name][-1]
    Store.open(tmp_path / "other.db").close()
    for url in (
        f"postgresql://me:a%40{SECRET}@/d?host={tmp_path}",
        f"postgresql:///d?host={tmp_path}&password={SECRET}&sslpassword={SECRET}",
        f"postgresql://me:a@{SECRET}@nowhere.invalid/d",
        f"postgresql://me@/d?host={tmp_path}&passwrod={SECRET}",
        f"postgresql://me:{SECRET}@host:port/d",
        f"postgresql:/me:{SECRET}@host/d",
        f"host={tmp_path} password={SECRET}",
    ):
        for more in ((), ("--debug",)):
            done = vr(*shlex.split(line), "--db", url, *more)
            assert done.code == (1 if more else 2), (url, done.err)
            assert leaked(tmp_path, done.out, done.err) == []
            assert more or len(done.err.splitlines()) == 1


@pytest.mark.parametrize("words", ["runs list", "runs show", "db info", "db merge", "run", "tasks show", "plot curves"])
def test_a_url_in_the_wrong_place_is_not_repeated(vr: Callable[..., Any], tmp_path: Path, words: str) -> None:
    for url in (f"postgresql://me:{SECRET}@/d?host={tmp_path}", f"postgresql:///d?host={tmp_path}&password={SECRET}"):
        for line in ([*words.split(), url], [*words.split(), "--dbb", url], [*words.split(), f"--dbb={url}"]):
            done = vr(*line)
            assert done.code == 2
            assert leaked(tmp_path, done.out, done.err) == []


@pytest.fixture
def older(tmp_path: Path, stored: Callable[..., int]) -> Path:
    """A database whose command lines an older version recorded as they were typed."""
    for number, words in enumerate((
        ["--db", f"postgresql://me:{SECRET}@host/runs"],
        [f"--db=postgresql://host/runs?password={SECRET}&sslpassword={SECRET}"],
        [f"VR_DB=postgresql://me:a@b/{SECRET}@host/runs"],
    )):  # fmt: skip
        # The second is of a task that is gone, which is shown with its command line.
        id = stored(seed=number, task="gone:Task" if number == 1 else "cnn")
        with closing(sqlite3.connect(tmp_path / "vr.db")) as plain, plain:
            origin = json.dumps({"cpu": "x", "argv": ["vr", "run", "cnn", *words]})
            plain.execute("UPDATE runs SET provenance = ? WHERE id = ?", (origin, id))
    (tmp_path / "vr.db").rename(tmp_path.parent / "older.db")
    return tmp_path.parent / "older.db"


def test_what_older_versions_recorded_is_not_shown(vr: Callable[..., Any], older: Path, tmp_path: Path) -> None:
    reading = ("report", "plot", "runs list", "runs show", "runs diff", "runs export", "db info", "db check")
    for name, lines in CALLS.items():
        for line in lines if name.startswith(reading) else ():
            done = call(vr, name, line, "--db", str(older))
            assert leaked(tmp_path, done.out, done.err) == [], line
    for part in ("out.db", "out.json", "page.html"):
        assert b"***" in (tmp_path / part).read_bytes(), part
    with Store.open(older, mode="read") as store:
        assert leaked(tmp_path, *(repr(run) + repr(run.provenance) for run in store.runs.select())) == []


def test_what_older_versions_recorded_is_not_merged(vr: Callable[..., Any], older: Path, tmp_path: Path) -> None:
    assert SECRET.encode() in older.read_bytes()
    done = vr("db", "merge", older, "--db", "new.db")
    assert done.code == 0, done.err
    assert leaked(tmp_path) == []
    origins = _raw(f"sqlite:///{tmp_path / 'new.db'}")
    assert len(origins) == 3
    assert all("***" in origin for origin in origins)


@pytest.mark.postgres
def test_nor_is_it_merged_into_a_server(vr: Callable[..., Any], older: Path, postgres_url: str, tmp_path: Path) -> None:
    assert vr("db", "merge", older, "--db", postgres_url).code == 0
    assert leaked(tmp_path, *_raw(postgres_url)) == []


def test_tables_have_no_other_place_for_command_lines() -> None:
    named = {f"{table.name}.{column.name}" for table in schema.metadata.tables.values() for column in table.columns}
    assert {name for name in named if "provenance" in name or "argv" in name or "command" in name} == {
        "runs.provenance"
    }
