"""A command is stopped, killed and taken up again; scripts that write themselves down with `vrcli.track`."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slope import COMMAND, alive, begun, completed, curve, stored, until, words

# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [pytest.param("endless", marks=pytest.mark.slow), "deaf"])
def test_a_stop_request_ends_the_command(folder: Path, trouble: str) -> None:
    process = begun(folder, "run", "--command", COMMAND, "--opt", "slow", "--lr", "0.05", "--trouble", trouble)
    assert process.stderr is not None
    for line in process.stderr:
        if line.split()[:1] == ["10"]:
            break
    assert alive(folder)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not alive(folder)  # vr waited for it
    [run] = stored(folder)
    assert run.status == "interrupted"


@pytest.mark.slow
def test_a_killed_vr_takes_its_command_with_it(folder: Path) -> None:
    process = begun(folder, "run", "--command", COMMAND, "--opt", "slow", "--lr", "0.05", "--trouble", "endless")
    assert process.stderr is not None
    for line in process.stderr:
        if line.split()[:1] == ["5"]:
            break
    process.kill()
    process.communicate(timeout=60)
    until(lambda: not alive(folder))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_interrupted_comparison_goes_on_and_nothing_is_lost_or_doubled(folder: Path) -> None:
    again = words("--space", "lr=log:1e-3:1e-1", "--opt", "slow", "--opt", "fast", "--trials", "2", "--searches", "2",
                  "--seeds", "2", verb="compare", trouble="slow")  # fmt: skip
    for number, ended in ((signal.SIGINT, 3), (signal.SIGKILL, 7)):
        process = begun(folder, *again)
        until(lambda least=ended: completed(folder) >= least, 900)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
        if number == signal.SIGINT:
            assert said.endswith("vr: the comparison was interrupted; the same command continues it\n")
    done = begun(folder, *again)
    _, errors = done.communicate(timeout=1800)
    assert done.returncode == 0, errors
    runs = stored(folder)
    finished = [run for run in runs if run.status == "completed"]
    kinds = [(run.optimizer, run.seed, run.trial_id, json.dumps(run.settings, sort_keys=True)) for run in finished]
    assert len(kinds) == len(set(kinds))
    for run in finished:
        assert curve(folder, run.id, "train_loss")[0] == list(range(1, 21))


# -- scripts that are tracked -----------------------------------------------------------------------------------------

TRACKED = """
import os, signal, sys, time, torch, vrcli

seed, trouble = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(seed)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
taken = 7 if trouble == "other seed" else seed
with vrcli.track("mine", optimizer=optimizer, seed=taken, settings={"a": 1}) as run:
    first = 0 if trouble == "forgetful" else run.restore(model=model, optimizer=optimizer)
    for step in range(first + 1, 31):
        x = torch.randn(16, 2)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(step, train_loss=loss)
        if step % 5 == 0:
            run.evaluate(step, val_loss=loss, val_error=loss.sqrt())
            run.save(model=model, optimizer=optimizer)
        if step == 17 and trouble == "die" and not os.path.exists("died"):
            time.sleep(1)  # what it reported is heard by then
            open("died", "w").close()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        if run.should_stop():
            break
    else:
        run.test(loss=loss)
"""
TRACKING = f"{sys.executable} mine.py {{seed}} {{trouble}}"


def tracked(vr: Callable[..., Any], folder: Path, trouble: str, *more: str) -> Any:
    (folder / "mine.py").write_text(TRACKED)
    return vr("run", "--command", TRACKING, "--trouble", trouble, "--threads", "1", "--seed", "2", *more)


@pytest.mark.slow
def test_a_tracked_script_finds_its_run(folder: Path, vr: Callable[..., Any]) -> None:
    done = tracked(vr, folder, "none")
    assert done.code == 0, done.err
    [run] = stored(folder)
    assert (run.task, run.seed, run.status) == ("mine", 2, "completed")
    assert curve(folder, run.id, "train_loss")[0] == list(range(1, 31))
    assert curve(folder, run.id, "val_error")[0] == [5, 10, 15, 20, 25, 30]
    assert run.results["test_loss"] > 0


@pytest.mark.slow
def test_a_script_that_takes_another_seed_is_refused(folder: Path, vr: Callable[..., Any]) -> None:
    assert tracked(vr, folder, "other seed").code == 1
    [run] = stored(folder)
    assert "the script uses seed 7, the run has 2; pass {seed} to the script" in run.error


@pytest.mark.slow
@pytest.mark.parametrize("again", ["run", "resume"])
def test_a_tracked_script_goes_on_where_it_wrote_itself_down(folder: Path, vr: Callable[..., Any], again: str) -> None:
    """Killed with its vr in step 17, it goes on with the same bits."""
    assert tracked(vr, folder, "none").code == 0
    [whole] = stored(folder)
    more = ("--command", TRACKING, "--threads", "1", "--seed", "2", "--checkpoint-every", "1")
    process = begun(folder, "run", *more, "--trouble", "die")
    process.communicate(timeout=180)
    assert process.returncode == -signal.SIGKILL
    done = vr("run", *more, "--trouble", "die") if again == "run" else vr("runs", "resume", "2")
    assert done.code == 0, done.err
    assert re.search(r"resumes at step (5|10|15)\b", done.err)
    runs = stored(folder)
    [taken_up] = [run for run in runs if run.id != whole.id]
    assert len(runs) == 2
    assert curve(folder, taken_up.id, "train_loss") == curve(folder, whole.id, "train_loss")
    assert taken_up.results["best_val_loss"] == whole.results["best_val_loss"]


LAUNCHER = """
import os, subprocess, sys

ranked = sys.argv[2] == "ranked"
names = [{"RANK": str(rank), "WORLD_SIZE": "2"} if ranked else {} for rank in range(2)]
ranks = [subprocess.Popen([sys.executable, "mine.py", *sys.argv[1:]], env={**os.environ, **own}) for own in names]
sys.exit(max(rank.wait() for rank in ranks))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ranked", "unranked"])
def test_of_two_processes_one_writes_or_the_run_fails(folder: Path, vr: Callable[..., Any], how: str) -> None:
    (folder / "mine.py").write_text(TRACKED)
    (folder / "launch.py").write_text(LAUNCHER)
    command = f"{sys.executable} launch.py {{seed}} {{how}}"
    done = vr("run", "--command", command, "--how", how, "--threads", "1")
    [run] = stored(folder)
    if how == "ranked":
        assert (done.code, run.status) == (0, "completed"), done.err
        assert curve(folder, run.id, "train_loss")[0] == list(range(1, 31))
    else:
        assert (done.code, run.status) == (1, "failed")
        assert "recorded at step" in run.error
