"""Several processes at once, processes that are killed, and processes that only look dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from vrcli.db import liveness, schema
from vrcli.db.errors import LeaseLost
from vrcli.db.location import Location
from vrcli.db.records import RunRecord
from vrcli.db.store import Store, StoreError
from vrcli.errors import UsageError
from vrcli.execute.lease import Lease
from vrcli.output import Target

Begin = Callable[..., RunRecord]
Start = Callable[..., "subprocess.Popen[str]"]

_WRITER = """
import sys
import threading
from vrcli.db.store import Store
url, rounds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Store.open(url) as store:
    run = store.runs.begin({"task": "cnn", "optimizer": "sgd", "seed": seed}, spec_id="s", provenance={})
    print(run.id, flush=True)
    if not rounds:
        sys.stdin.read()
    for n in range(rounds):
        store.curves.add(run.id, {f"own_{seed}": ([n], [n / 2]), "loss": ([2 * n, 2 * n + 1], [n, seed])})
        print(n, flush=True)
    store.runs.finish(run.id, "completed", results={"steps": rounds})
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program in another process; what is left of them ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def launch(program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, text=True, cwd=Path(__file__).parents[2], **pipes))
        return started[-1]

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_processes_create_and_write_one_database_at_once(url: str, start: Start) -> None:
    writers = [start(_WRITER, url, 25, seed) for seed in range(3)]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    with Store.open(url, mode="read") as store:
        runs = store.runs.select()
        assert sorted(run.seed or 0 for run in runs) == [0, 1, 2]
        assert len({run.name for run in runs}) == len({run.id for run in runs}) == 3
        for run in runs:
            assert (run.status, run.results) == ("completed", {"steps": 25.0})
            assert store.curves.read(run.id)[run.id, f"own_{run.seed}"].values.tolist() == [n / 2 for n in range(25)]
            assert store.curves.read(run.id)[run.id, "loss"].steps.tolist() == list(range(50))
        assert store.check() == []


def test_a_killed_process_loses_nothing_it_had_recorded(url: str, start: Start) -> None:
    writer = start(_WRITER, url, 1_000_000, 7)
    run_id = int(_line(writer))
    while (recorded := int(_line(writer))) < 60:
        pass
    writer.kill()
    assert writer.stdout is not None
    rest = writer.stdout.read().split()  # said before the end, and not read yet
    recorded = int(rest[-1]) if rest else recorded
    with Store.open(url, mode="read") as store:
        assert store.runs.get(run_id).status == "running"
        curve = store.curves.read(run_id)[run_id, "own_7"]
        # The last write may have been committed without there being time to say so.
        assert len(curve) in (recorded + 1, recorded + 2)
        assert curve.values.tolist() == [n / 2 for n in range(len(curve))]
        assert store.curves.read(run_id)[run_id, "loss"].steps.tolist() == list(range(2 * len(curve)))
        assert any(f"run {run_id}" in problem for problem in store.check())
    with Store.open(url) as store:
        run = store.runs.get(run_id)
        assert (run.status, run.error) == ("interrupted", "its process is gone")
        assert run.finished_at == run.heartbeat_at
        assert store.check() == []


def test_a_live_process_is_left_alone_even_when_stopped(tmp_path: Path, start: Start) -> None:
    url = tmp_path / "vr.db"
    writer = start(_WRITER, url, 0, 7)
    run_id = int(_line(writer))
    writer.send_signal(signal.SIGSTOP)
    with Store.open(url) as store:
        assert store.runs.get(run_id).status == "running"
        with pytest.raises(StoreError, match=f"still running \\(pid {writer.pid} on "):
            store.runs.delete(run_id)
        with pytest.raises(StoreError, match="is running"):
            store.runs.resume(run_id)
    writer.send_signal(signal.SIGCONT)


def test_a_zombie_is_dead(tmp_path: Path, start: Start) -> None:
    url = tmp_path / "vr.db"
    writer = start(_WRITER, url, 0, 7)
    run_id = int(_line(writer))
    writer.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet reaped
    with Store.open(url) as store:
        assert store.runs.get(run_id).status == "interrupted"


def _set(store: Store, run: RunRecord, **values: object) -> None:
    with store._database.writing() as connection:
        connection.execute(update(schema.runs).where(schema.runs.c.id == run.id).values(**values))


_TOKEN = liveness.current().token
_BOOT, _NAMESPACE, _START = _TOKEN.split("/")


@pytest.mark.parametrize(
    ("changes", "silent_s", "dead"),
    [
        ({}, 600, False),  # suspended, say
        ({}, 3_600_000, False),
        ({"pid": 2**22 + 1}, 0, True),
        ({"process": f"{_BOOT}/{_NAMESPACE}/1"}, 0, True),  # the pid was used again
        ({"host": "elsewhere"}, 50, False),
        ({"host": "elsewhere", "pid": 2**22 + 1}, 50, False),
        ({"host": "elsewhere"}, 70, True),
        ({"process": f"{_BOOT}/1/{_START}", "pid": 2**22 + 1}, 50, False),  # another container on this host
        ({"process": f"{_BOOT}/1/{_START}", "pid": 2**22 + 1}, 70, True),
        ({"process": f"other/{_NAMESPACE}/{_START}"}, 50, False),  # rebooted, or another machine of the same name
        ({"process": f"other/{_NAMESPACE}/{_START}"}, 70, True),
    ],
)
def test_only_what_is_known_to_be_dead_is_marked(
    begin: Begin, store: Store, changes: dict[str, object], silent_s: float, dead: bool
) -> None:
    run, other = begin(), begin(seed=1)
    _set(store, run, heartbeat_at=datetime.now(UTC) - timedelta(seconds=silent_s), **changes)
    assert store.runs.mark_interrupted() == ([run.id] if dead else [])
    assert store.runs.get(run.id).status == ("interrupted" if dead else "running")
    assert store.runs.get(other.id).status == "running"


def test_a_run_that_was_given_up_goes_on_when_it_is_heard_again(begin: Begin, store: Store) -> None:
    run = begin()
    _set(store, run, host="elsewhere", heartbeat_at=datetime.now(UTC) - timedelta(hours=9))
    assert store.runs.mark_interrupted() == [run.id]
    with pytest.raises(LeaseLost, match=f"run {run.id} was taken over by process {run.pid} on elsewhere"):
        store.curves.add(run.id, {"loss": ([1], [1.0])})
    _set(store, run, host=run.host)  # now this process is its own, waking up
    store.curves.add(run.id, {"loss": ([1], [1.0])})
    woken = store.runs.get(run.id)
    assert (woken.status, woken.error, woken.finished_at) == ("running", None, None)
    store.runs.finish(run.id, "interrupted", error="Ctrl-C")
    with pytest.raises(StoreError, match="is interrupted"):
        store.runs.heartbeat(run.id)


def test_who_lost_a_run_to_another_process_writes_nothing_of_it(begin: Begin, store: Store) -> None:
    run = begin()
    store.curves.add(run.id, {"loss": ([1], [1.0])})
    _set(store, run, host="elsewhere", heartbeat_at=datetime.now(UTC))  # another host goes on with it
    for write in (
        lambda: store.curves.add(run.id, {"loss": ([2], [2.0])}),
        lambda: store.artifacts.add(run.id, "a", b"", media_type="text/plain"),
        lambda: store.runs.heartbeat(run.id),
        lambda: store.runs.finish(run.id, "completed"),
    ):
        with pytest.raises(LeaseLost, match="taken over by process"):
            write()
    assert store.runs.get(run.id).status == "running"
    assert len(store.curves.read(run.id)[run.id, "loss"]) == 1
    assert store.artifacts.select(run.id) == []


def test_a_lease_is_renewed_while_nothing_is_written(begin: Begin, store: Store) -> None:
    run = begin()
    _set(store, run, heartbeat_at=datetime.now(UTC) - timedelta(hours=9))
    with Lease(store, run.id, every_s=0.01) as lease:
        while store.runs.get(run.id).heartbeat_at < datetime.now(UTC) - timedelta(minutes=1):
            time.sleep(0.01)
        assert not lease.lost
        _set(store, run, host="elsewhere")
        while not lease.lost:
            time.sleep(0.01)


def test_a_dead_running_run_can_be_resumed_and_deleted(begin: Begin, store: Store) -> None:
    runs = [begin(seed=seed) for seed in range(2)]
    for run in runs:
        _set(store, run, pid=2**22 + 1)
    assert store.runs.resume(runs[0].id).pid == os.getpid()
    store.runs.delete(runs[1].id)
    assert store.runs.mark_interrupted() == []


def test_the_token_of_another_process_is_not_ours(start: Start) -> None:
    sleeper = start("import time; print('up', flush=True); time.sleep(60)")
    assert _line(sleeper) == "up"
    theirs = liveness._start(sleeper.pid)
    assert theirs is not None
    assert theirs != _START
    time.sleep(0.05)
    assert liveness._start(sleeper.pid) == theirs
    assert liveness.current().token == _TOKEN


def test_without_proc_psutil_tells_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoProc(type(Path())):  # type: ignore[misc]
        def read_text(self, *_: object, **__: object) -> str:
            raise FileNotFoundError

        def exists(self) -> bool:
            return False

    monkeypatch.setattr(liveness, "Path", NoProc)
    liveness._here.cache_clear()
    liveness._identity.cache_clear()
    try:
        here = liveness.current()
        now = datetime.now(UTC)
        assert here.token.startswith("//1")
        assert not liveness.is_dead(here, now - timedelta(days=30), now)
        assert liveness.is_dead(liveness.Process(here.host, 2**22 + 1, here.token), now, now)
        assert liveness.is_dead(liveness.Process(here.host, here.pid, "//12345"), now, now)
    finally:
        liveness._here.cache_clear()
        liveness._identity.cache_clear()


def test_writers_that_bring_the_same_new_metrics_in_another_order(url: str) -> None:
    names = [f"metric_{n}" for n in range(12)]
    Store.open(url).close()

    def write(order: list[str], errors: list[BaseException]) -> None:
        try:
            with Store.open(url) as store:
                for start in range(0, len(order), 3):
                    run = store.runs.begin({"task": "cnn", "optimizer": "sgd"}, spec_id="s", provenance={})
                    store.curves.add(run.id, {name: ([1], [1.0]) for name in order[start : start + 3]})
                    store.runs.finish(run.id, "completed", results=dict.fromkeys(order, 1.0))
        except BaseException as error:
            errors.append(error)

    errors: list[BaseException] = []
    threads = [
        threading.Thread(target=write, args=(order, errors)) for order in (names, names[::-1], names[6:] + names[:6])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Store.open(url, mode="read") as store:
        assert store.info()["metrics"] == 12
        assert all(run.results == dict.fromkeys(names, 1.0) for run in store.runs.select())


def test_looking_at_a_file_lets_go_of_nobodys_lock(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "a.db"
    with Store.open(path) as store:
        store.runs.begin({"task": "cnn", "optimizer": "sgd", "seed": 0}, spec_id="s", provenance={})
        Location(path).check_file("read")  # as whoever opens it a second time in this process does
        with suppress(UsageError):
            Target(path.with_name("a.db-wal")).check()
        assert start(_WRITER, path, 1, 1).wait() == 0  # leaves as if it were the last
        for seed in range(2, 6):
            store.runs.begin({"task": "cnn", "optimizer": "sgd", "seed": seed}, spec_id="s", provenance={})
        code = "import sys; from vrcli.db.store import Store; print(len(Store.open(sys.argv[1]).runs.select()))"
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "6", done.stderr
        assert len(store.runs.select()) == 6
