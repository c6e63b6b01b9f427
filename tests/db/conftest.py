"""A store to test, once in an SQLite file and once in PostgreSQL where its server programs are installed."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from vrcli.db.records import RunRecord
from vrcli.db.store import Store

_SPEC = {"task": "cnn", "preset": "quick", "dataset": "digits", "dataset_fingerprint": "d1", "optimizer": "vradam"}
_database_numbers = itertools.count()


def _server_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _unprivileged() -> dict[str, str]:
    """PostgreSQL refuses to run as root: arguments for subprocess that make it someone else."""
    if os.geteuid() != 0:
        return {}
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in known else "nobody"
    return {"user": user, "group": str(pwd.getpwnam(user).pw_gid)}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server without its database's name: VR_TEST_POSTGRES, or a private server on a socket."""
    pytest.importorskip("psycopg")
    if given := os.environ.get("VR_TEST_POSTGRES"):
        yield given
        return
    with _private_server() as (url, _):
        yield url


@contextmanager
def _private_server() -> Iterator[tuple[str, Callable[..., None]]]:
    """The URL of a server on a socket, without its database's name, and what calls pg_ctl for it."""
    programs = _server_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed")
    who = _unprivileged()
    group = {"group": int(who["group"])} if who else {}
    with tempfile.TemporaryDirectory(prefix="vr-pg-") as folder:
        if who:
            shutil.chown(folder, who["user"])
        run = {"user": who.get("user"), **group, "cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([programs / "initdb", "-D", f"{folder}/data", "-U", "vr", "-A", "trust", "-N"], **run)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c synchronous_commit=off"
        command = [programs / "pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", options]

        def control(*words: str) -> None:
            subprocess.run([*command, *words], **run)

        control("start")
        try:
            yield f"postgresql://vr@/postgres?host={folder}", control
        finally:
            with suppress(subprocess.CalledProcessError):  # it is stopped already
                control("-m", "immediate", "stop")


@pytest.fixture
def own_server() -> Iterator[tuple[str, Callable[..., None]]]:
    """The URL of a database on a server that nobody else uses, and what calls pg_ctl for it: "stop", "start"."""
    pytest.importorskip("psycopg")
    with _private_server() as found:
        yield found


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database."""
    import psycopg
    from sqlalchemy import make_url

    name = f"vr_test_{os.getpid()}_{next(_database_numbers)}"
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a database can be created."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return str(tmp_path / "vr.db")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def begin(store: Store) -> Callable[..., RunRecord]:
    """Begin a run of a usual configuration with some settings changed."""

    def begin_run(*, tag: str | None = None, group: str | None = None, **changes: object) -> RunRecord:
        spec = {**_SPEC, "seed": 0, **changes}
        spec_id = f"{abs(hash(tuple(sorted(map(str, spec.items()))))):016x}"
        return store.runs.begin(spec, spec_id=spec_id, provenance={"argv": ["vr", "run"]}, tag=tag, group=group)

    return begin_run
