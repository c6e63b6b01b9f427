"""A script that records its own training."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import vrcli
from vrcli.db.store import Store
from vrcli.errors import UsageError
from vrcli.record.described import optimizer_name, optimizer_settings
from vrcli.record.tracked import Tracked


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "vr.db"


def script(folder: Path, body: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script beside the database, as a user would."""
    path = folder / "train.py"
    path.write_text("import sys, vrcli, torch\n" + textwrap.dedent(body))
    return subprocess.run(
        [sys.executable, str(path), *words], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def stored(folder: Path) -> list[Any]:
    with Store.open(folder / "vr.db") as store:
        return store.runs.select()


def test_a_block_is_a_run_like_any_other(db: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with vrcli.track("mine", dataset="toy", optimizer=optimizer, seed=3, settings={"width": 3}, db=db, tag="a") as run:
        for step in range(1, 11):
            run.log(step, train_loss=torch.tensor(1.0 / step, requires_grad=True))
            assert run.evaluate(step, val_loss=abs(step - 7.0)) == (step <= 7)
        run.test(loss=0.25)
    [found] = stored(db.parent)
    assert (found.task, found.dataset, found.optimizer, found.seed, found.tag) == ("mine", "toy", "sgd", 3, "a")
    assert found.status == "completed"
    assert found.settings["width"] == 3
    assert found.settings["lr"] == 0.1
    assert found.settings["momentum"] == 0.9
    expected = {"best_val_loss": 0.0, "best_step": 7, "final_val_loss": 3.0, "test_loss": 0.25, "parameters": 8}
    assert expected.items() <= found.results.items()
    with Store.open(db) as store:
        curves = store.curves.read([found.id])
        assert list(curves[found.id, "train_loss"].steps) == list(range(1, 11))
        assert curves[found.id, "train_loss"].values[3] == pytest.approx(0.25)


def test_runs_that_differ_in_their_seed_repeat_each_other(db: Path) -> None:
    for seed in range(3):
        with vrcli.track("mine", settings={"seed": seed, "width": 3}, db=db) as run:
            run.evaluate(1, loss=1.0 + seed)
    with vrcli.track("mine", settings={"seed": 0, "width": 4}, db=db) as run:
        run.evaluate(1, loss=1.0)
    found = stored(db.parent)
    assert sorted(run.seed for run in found) == [0, 0, 1, 2]
    assert len({run.configuration for run in found}) == 2


@pytest.mark.parametrize(
    ("leave", "status", "code"),
    [
        ("raise ValueError('no luck')", "failed", 1),
        pytest.param("raise KeyboardInterrupt", "interrupted", -signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("sys.exit(3)", "failed", 3, marks=pytest.mark.slow),
        pytest.param("sys.exit(0)", "completed", 0, marks=pytest.mark.slow),
        ("run.log(2, train_loss=float('nan'))", "diverged", 0),
        pytest.param("pass", "completed", 0, marks=pytest.mark.slow),
    ],
)
def test_how_a_block_is_left_is_how_the_run_ended(tmp_path: Path, leave: str, status: str, code: int) -> None:
    done = script(tmp_path, f"""
        with vrcli.track("mine") as run:
            run.log(1, train_loss=1.0)
            run.evaluate(1, val_loss=1.0)
            {leave}
    """)  # fmt: skip
    assert done.returncode == code, done.stderr
    [run] = stored(tmp_path)
    assert run.status == status
    assert run.results.get("best_val_loss") == 1.0
    if status == "failed":
        assert run.error in ("ValueError: no luck", "SystemExit: 3")


def test_a_process_that_never_ends_its_block_is_found_dead(tmp_path: Path) -> None:
    done = script(tmp_path, """
        import os
        run = vrcli.track("mine").__enter__()
        run.evaluate(1, val_loss=1.0)
        os._exit(0)
    """)  # fmt: skip
    assert done.returncode == 0
    [run] = stored(tmp_path)  # opened as by the next command
    assert (run.status, run.results) == ("interrupted", {})


@pytest.mark.slow
def test_of_the_processes_of_torchrun_one_records(tmp_path: Path) -> None:
    body = """
        with vrcli.track("mine", seed=1) as run:
            run.log(1, train_loss=1.0)
            run.evaluate(1, val_loss=1.0)
            run.test(loss=1.0)
        print(run.id)
    """
    for rank in ("0", "1"):
        assert script(tmp_path, body, RANK=rank, WORLD_SIZE="2").stdout.strip() == ("1" if rank == "0" else "-1")
    assert len(stored(tmp_path)) == 1


def test_larger_is_better_where_that_is_said(db: Path) -> None:
    with vrcli.track("bandit", metrics={"reward": "max", "regret": "min"}, patience=2, db=db) as run:
        asked = []
        for step, reward in enumerate((1.0, 3.0, 2.0, 2.5)):
            run.evaluate(step, reward=reward, regret=-reward)
            asked.append(run.should_stop())
        assert asked == [False, False, False, True]
    [found] = stored(db.parent)
    assert found.objective == "best_val_reward"
    assert found.results["best_val_reward"] == 3.0
    assert found.results["best_step"] == 1
    with Store.open(db) as store:
        assert store.runs.metric_facts()["bandit", "val_reward"].direction == "max"


def test_an_objective_that_nobody_knows_is_asked_for(db: Path) -> None:
    with pytest.raises(UsageError, match=r'less or more of zeal better.*metrics=\{"zeal": "min"\}'):  # noqa: SIM117
        with vrcli.track("mine", db=db) as run:
            run.evaluate(1, zeal=1.0)
    assert stored(db.parent)[0].status == "failed"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run: run.log(1, train_loss=1.0), "train_loss was recorded at step 1 already; steps must increase"),
        (lambda run: run.log(0, train_loss=1.0), "train_loss was recorded at step 1 already; steps must increase"),
        (lambda run: run.log(-1, a=1.0), "a step must be a whole number from 0 on, got -1"),
        (lambda run: run.log(1.5, a=1.0), "a step must be a whole number from 0 on, got 1.5"),
        (lambda run: run.log(2, a="high"), "a must be a number, got 'high'"),
        (lambda run: run.log(2, a=torch.ones(3)), r"a must be one number, got a tensor of shape \(3,\)"),
        (lambda run: run.evaluate(2, loss=None), "loss must be a number, got None"),
        (lambda run: [run.test(loss=1.0), run.test(loss=1.0)], "test_loss is recorded already"),
    ],
)
def test_bad_values_are_refused_in_one_line(db: Path, call: Any, words: str) -> None:
    with vrcli.track("mine", db=db) as run:
        run.log(1, train_loss=1.0)
        with pytest.raises(UsageError, match=words):
            call(run)
        run.evaluate(3, loss=1.0)
    [found] = stored(db.parent)
    assert found.status == "completed"


@pytest.mark.parametrize(
    "words",
    [{"task": " "}, {"seed": 1.5}, {"metrics": {"loss": "less"}}, {"patience": 0}, {"settings": {"seed": "x"}}],
)
def test_a_bad_beginning_records_nothing(db: Path, words: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        vrcli.track(**{"task": "mine", "db": db, **words})
    assert not db.exists()


def test_a_metric_may_be_recorded_by_several_calls_of_one_step(db: Path) -> None:
    with vrcli.track("mine", db=db) as run:
        run.log(1, train_loss=1.0)
        run.log(1, grad_norm=2.0)
        run.evaluate(1, loss=1.0)
    assert stored(db.parent)[0].status == "completed"


def test_settings_are_plain_whatever_they_are() -> None:
    settings = {
        "path": Path("a/b"), "dtype": torch.float16, "scale": torch.tensor(2.0), "inf": math.inf, "none": None,
        "sizes": (3, 4), "nested": {1: {"a"}}, "text": "x" * 9999,
    }  # fmt: skip
    run = vrcli.track("mine", settings=settings)
    found = json.loads(json.dumps(run._spec["task_settings"], allow_nan=False))
    assert found | {"text": ""} == {
        "path": "a/b", "dtype": "torch.float16", "scale": 2.0, "inf": "inf", "none": None, "sizes": [3, 4],
        "nested": {"1": ["a"]}, "text": "",
    }  # fmt: skip
    assert len(found["text"]) == 500


def test_an_optimizer_tells_its_name_and_settings() -> None:
    layers = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)
    groups = [{"params": layers[0].parameters(), "lr": 0.1}, {"params": layers[1].parameters(), "lr": 0.2}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.3)
    torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1)
    settings = optimizer_settings(optimizer)
    assert settings["weight_decay"] == 0.3
    assert settings["groups"] == [{"parameters": 8, "lr": 0.1}, {"parameters": 6, "lr": 0.2}]
    assert "lr" not in settings

    class Mine(torch.optim.SGD):
        pass

    assert optimizer_name(optimizer) == "adamw"
    assert optimizer_name(Mine(layers[0].parameters(), lr=1.0)) == "mine"
    from vrcli.optim import VRAdam

    assert optimizer_name(VRAdam(layers[0].parameters())) == "vradam"


def test_values_on_a_device_are_read_when_a_block_is_written(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call waits: what a call keeps is read later, and what a loop writes to its tensors afterwards is not seen."""
    run: Tracked = vrcli.track("mine", db=db)
    with run:
        loss = torch.zeros((), device="meta")
        run.log(1, train_loss=loss)  # a read of it would raise
        run._points.take = dict  # type: ignore[method-assign]
    assert stored(db.parent)[0].status == "completed"


# -- going on ---------------------------------------------------------------------------------------------------------

RESUMED = """
    import os
    torch.manual_seed(3)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    with vrcli.track("mine", optimizer=optimizer, seed=3, patience=50) as run:
        first = run.restore(model=model, optimizer=optimizer)
        best = run.restored("note")
        for step in range(first + 1, 21):
            x = torch.randn(8, 2)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(step, train_loss=loss)
            run.evaluate(step, val_loss=loss)
            if step % 5 == 0:
                run.save(model=model, optimizer=optimizer, note=f"after {step}")
            if step == 13 and first == 0 and len(sys.argv) > 1:
                os._exit(1)
    print(first, best, run.id if len(sys.argv) > 2 else "")
"""


@pytest.mark.slow
def test_a_killed_script_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    assert script(whole, RESUMED).stdout.strip() == "0 None"
    assert script(cut, RESUMED, "die").returncode == 1
    assert script(cut, RESUMED, "die").stdout.strip() == "10 after 10"
    found = []
    for folder in (whole, cut):
        [run] = stored(folder)
        assert run.status == "completed"
        assert not (folder / "vr.db-checkpoints").exists()
        with Store.open(folder / "vr.db") as store:
            curves = store.curves.read([run.id])
        found.append([list(curves[run.id, name].values) for name in ("train_loss", "val_loss")])
        found[-1].append([run.results[name] for name in ("best_val_loss", "best_step", "steps")])
    assert found[0] == found[1]


@pytest.mark.slow
def test_every_rank_goes_on_at_the_same_step(tmp_path: Path) -> None:
    assert script(tmp_path, RESUMED, "die").returncode == 1
    assert script(tmp_path, RESUMED, RANK="1", WORLD_SIZE="2").stdout.strip() == "10 after 10"
    assert script(tmp_path, RESUMED, RANK="0", WORLD_SIZE="2").stdout.strip() == "10 after 10"
    [run] = stored(tmp_path)
    assert run.status == "completed"


@pytest.mark.slow
def test_an_edit_or_another_seed_begins_another_run(tmp_path: Path) -> None:
    assert script(tmp_path, RESUMED, "die").returncode == 1
    assert script(tmp_path, RESUMED.replace("seed=3", "seed=4")).stdout.strip() == "0 None"
    assert sorted(run.status for run in stored(tmp_path)) == ["completed", "interrupted"]


def test_what_cannot_be_kept_or_put_back_is_refused(db: Path) -> None:
    with vrcli.track("mine", db=db) as run:
        with pytest.raises(UsageError, match=r"save\(model=...\): object has no state that can be read back"):
            run.save(model=object())
        run.evaluate(1, loss=1.0)
        with pytest.raises(UsageError, match="restore a run before its first log or evaluate"):
            run.restore()


def test_a_long_step_keeps_the_lease(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vrcli.execute import lease

    monkeypatch.setattr(lease.Lease.__init__, "__kwdefaults__", {"every_s": 0.05})
    with vrcli.track("mine", db=db) as run:
        run.evaluate(1, loss=1.0)
        with Store.open(db) as store:
            before = store.runs.get(run.id).heartbeat_at
            end = time.monotonic() + 60
            while store.runs.get(run.id).heartbeat_at == before:
                assert time.monotonic() < end
                time.sleep(0.05)


def test_a_setting_that_the_optimizer_has_stands_once(db: Path) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with vrcli.track("mine", optimizer=optimizer, settings={"lr": 0.1, "momentum": 0.5, "width": 3}, db=db) as run:
        run.evaluate(1, val_loss=1.0)
    [found] = stored(db.parent)
    assert found.spec["task_settings"] == {"momentum": 0.5, "width": 3}  # the optimizer has another momentum
    assert found.settings["lr"] == 0.1
    assert "optimizer.lr" not in found.settings


def test_the_end_of_a_run_says_how_to_see_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with vrcli.track("mine", db=tmp_path / "vr.db", quiet=quiet) as run:
            run.evaluate(1, val_loss=1.0)
    out, err = capfd.readouterr()
    [first, _] = stored(tmp_path)[::-1]
    assert (out, err) == ("", f"run 1 · {first.name} completed; vr runs show 1 --db {tmp_path / 'vr.db'}\n")


def test_a_recorded_run_says_what_repeats_it(tmp_path: Path, vr: Any) -> None:
    done = script(tmp_path, """
        with vrcli.track("mine", dataset="toy", seed=1) as run:
            run.evaluate(1, val_loss=1.0)
    """, "--lr", "0.1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = vr("runs", "show", "1").out
    assert shown.strip().splitlines()[-1].strip() == f"python {tmp_path / 'train.py'} --lr 0.1"
    assert "data       toy (content not checked)" in shown
    assert "None" not in shown
    refused = vr("runs", "rerun", "1")
    assert refused.code == 2
    assert "a script recorded run 1; run the script again (run.restore() continues it)" in refused.err
    assert "x ?" not in vr("report", "mine").out
