import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vrcli.execute.local import LocalExecutor

HERE = Path(__file__).parent


@pytest.fixture
def make(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import toys

    return toys.make


@pytest.fixture
def executor(make):
    made = []

    def build(jobs):
        made.append(LocalExecutor(make, jobs))
        return made[-1]

    yield build
    for one in made:
        one.close()


def ends(executor, count, timeout_s=30):
    """The last messages of `count` jobs, by key."""
    found, end = {}, time.monotonic() + timeout_s
    while len(found) < count:
        assert time.monotonic() < end, f"only {found}"
        for message in executor.receive(0.2):
            if message.kind != "note":
                assert message.key not in found
                found[message.key] = message
    return found


def test_jobs_return_their_results_and_notes_arrive_before(executor):
    pool = executor(1)
    pool.submit("a", ("square", 3))
    assert pool.free() == 0
    said = []
    while not said or said[-1].kind == "note":
        said += pool.receive(0.5)
    assert [(m.key, m.kind) for m in said] == [("a", "note"), ("a", "done")]
    assert said[0].body == "squaring 3"
    assert said[1].body[0] == 9
    assert pool.free() == 1


def test_workers_persist_between_jobs(executor):
    pool = executor(1)
    seen = []
    for i in range(3):
        pool.submit(i, ("square", i))
        seen.append(ends(pool, 1)[i].body)
    assert len({pid for _, pid, _ in seen}) == 1
    assert [count for _, _, count in seen] == [1, 2, 3]
    assert seen[0][1] != os.getpid()


def test_no_job_waits_for_the_slowest(executor):
    pool = executor(2)
    pool.submit("slow", ("sleep", 60))
    for i in range(3):
        pool.submit(i, ("square", i))
        assert list(ends(pool, 1)) == [i]


def test_a_failure_is_told_in_one_line_and_the_worker_goes_on(executor):
    pool = executor(1)
    pool.submit("a", ("raise", 0))
    message = ends(pool, 1)["a"]
    assert (message.kind, message.body) == ("failed", "ValueError: no good")
    pool.submit("b", ("refuse", 0))
    message = ends(pool, 1)["b"]
    assert (message.kind, message.body) == ("refused", "no such data set")
    pool.submit("c", ("square", 2))
    assert ends(pool, 1)["c"].body[2] == 3


@pytest.mark.parametrize(("kind", "says"), [("die", "memory"), ("exit", "exit code 3")])
def test_a_worker_that_dies_is_replaced_and_its_job_reported(executor, kind, says):
    pool = executor(2)
    pool.submit("bad", (kind, 0))
    pool.submit("good", ("square", 4))
    found = ends(pool, 2)
    assert found["bad"].kind == "died"
    assert says in found["bad"].body
    assert found["good"].body[0] == 16
    for i in range(2):
        pool.submit(i, ("square", i))
    assert {m.kind for m in ends(pool, 2).values()} == {"done"}


def test_an_idle_worker_that_was_killed_is_replaced(executor):
    pool = executor(1)
    pool.submit("a", ("square", 1))
    pid = ends(pool, 1)["a"].body[1]
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=5)
    pool.submit("b", ("square", 2))
    assert ends(pool, 1)["b"].kind in ("done", "died")
    pool.submit("c", ("square", 3))
    assert ends(pool, 1)["c"].body[0] == 9


@pytest.mark.slow
def test_close_lets_jobs_stop_and_ends_those_that_do_not(executor):
    pool = executor(2)
    pool.submit("kind", ("sleep", 60))
    pool.submit("deaf", ("deaf", 60))
    time.sleep(1.5)
    processes = psutil.Process().children()
    start = time.monotonic()
    messages = pool.close(patience_s=3)
    assert time.monotonic() - start < 10
    assert [(m.key, m.body) for m in messages] == [("kind", "stopped")]
    assert not [p for p in processes if p.is_running() and "spawn_main" in " ".join(p.cmdline())]


def test_workers_do_not_outlive_a_killed_controller(tmp_path):
    code = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
import toys
from vrcli.execute.local import LocalExecutor
if __name__ == "__main__":
    pool = LocalExecutor(toys.make, 2)
    pool.submit(0, ("deaf", 60)); pool.submit(1, ("sleep", 60))
    print("up", flush=True)
    time.sleep(60)
"""
    script = tmp_path / "controller.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, cwd=HERE.parents[1]) as controller:
        controller.stdout.readline()
        time.sleep(1.0)
        workers = psutil.Process(controller.pid).children(recursive=True)
        assert len([w for w in workers if "spawn_main" in " ".join(w.cmdline())]) == 2
        controller.kill()
        controller.wait()
    _gone, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []


def test_what_jobs_print_does_not_reach_stdout(executor, capfd):
    pool = executor(1)
    pool.submit("a", ("print", 0))
    ends(pool, 1)
    pool.close()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "noise" in captured.err
