"""`--until` and `--eval-every` on the command line: what tables, figures and searches make of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from vrcli.db.store import Store

pytestmark = [pytest.mark.usefixtures("valley"), pytest.mark.timeout(900)]
VALLEY = ("valley:Valley", "--threads", "1", "--device", "cpu")


def last_run(path: Path | str = "vr.db"):
    with Store.open(path, mode="read") as store:
        return store.runs.select()[0]


def test_a_run_ends_where_it_was_asked_to(vr):
    done = vr("run", *VALLEY, "--until", "gradients:7", "--eval-every", "3", "--opt", "lbfgs", "--lr", "0.1")
    assert done.code == 0, done.err
    run = last_run()
    assert run.results["gradient_evaluations"] >= 7
    assert run.spec["training"]["until"] == "gradients:7"
    shown = json.loads(vr("runs", "show", "1", "--format", "json").out)
    assert shown["repeatable"] is True
    assert shown["curves"]["gradients"]["values"][-1] == run.results["gradient_evaluations"]
    assert "step   train loss" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--until", "foo:3"), "vr: --until: must be epochs, steps, gradients or seconds with a number"),
        (("--until", "gradients:0"), "vr: --until: must be a finite number above 0, got 'gradients:0'"),
        (("--until", "seconds:nan"), "vr: --until: must be a finite number above 0, got 'seconds:nan'"),
        (("--until", "steps:1,seconds:2"), "vr: --until: must be a whole number of steps"),
        (("--until", "steps:9", "--epochs", "3"), "vr: --until steps:9 and --epochs are two ends of one run"),
        (("--eval-every", "0"), "vr: --eval-every must be >= 1, got 0"),
    ],
)
@pytest.mark.parametrize("command", ["run", "sweep", "compare"])
def test_what_is_no_end_is_refused_in_one_line(vr, tmp_path, command, words, said):
    optimizers = ("--opt", "adamw", "--opt", "sgd") if command == "compare" else ()
    done = vr(command, *VALLEY, *optimizers, *words)
    assert done.code == 2
    assert done.err.startswith(said)
    assert done.err.count("\n") == 1
    assert not (tmp_path / "vr.db").exists()


def test_an_end_before_the_task_is_no_task(vr):
    assert vr("run", "--until", "steps:3", *VALLEY, "--quiet").code == 0
    assert last_run().results["steps"] == 3


@pytest.mark.slow
def test_a_run_of_seconds_is_marked_and_nothing_takes_it_for_another(vr):
    words = ("compare", *VALLEY, "--opt", "adamw", "--opt", "sgd", "--seeds", "2", "--until", "seconds:0.05")
    first = vr(*words)
    assert first.code == 0, first.err
    assert "seconds:0.05 (not repeatable)" in first.out
    assert "stored already" not in vr(*words).err
    assert last_run().id == 8
    assert "until=seconds:0.05 (not repeatable)" in vr("runs", "list").out
    assert "not repeatable: it ended after a time" in vr("runs", "show", "1").out
    assert json.loads(vr("runs", "show", "1", "--format", "json").out)["repeatable"] is False
    assert "seconds: such runs end at another step each time" in vr("report").out
    assert "ended after a time" in vr("runs", "rerun", "1").err


def test_tables_name_the_budget_and_flag_those_that_differ(vr):
    words = (*VALLEY, "--lr", "0.01", "--quiet")
    vr("run", *words, "--opt", "adamw", "--until", "gradients:20")
    vr("run", *words, "--opt", "sgd", "--until", "gradients:20")
    same = vr("report").out
    assert same.count("1 x gradients:20") == 2
    assert "§" not in same
    vr("run", *words, "--opt", "rmsprop", "--until", "steps:20")
    differ = vr("report").out
    assert "1 x steps:20 §" in differ
    assert "1 x gradients:20 §" in differ
    (rows,) = [list(csv.DictReader(vr("report", "--format", "csv").out.splitlines()))]
    assert {row["until"] for row in rows} == {"gradients:20", "steps:20"}
    assert {row["epochs"] for row in rows} == {""}


@pytest.mark.slow
def test_curves_and_targets_over_gradients(vr, tmp_path):
    pytest.importorskip("pytorch_optimizer")
    words = ("--until", "gradients:24", "--seeds", "2", "--fix", "lr=0.05")
    done = vr("compare", *VALLEY, "--opt", "adamw", "--opt", "sam", *words, "--target", "1e3", "--format", "json")
    assert done.code == 0, done.err
    reached = json.loads(done.out)["reached"]
    assert reached["adamw"]["gradients"]["median"] == reached["adamw"]["steps"]["median"]
    assert reached["sam"]["gradients"]["median"] == 2 * reached["sam"]["steps"]["median"]
    for metric in ("val_loss", "train_loss"):
        vr("plot", "curves", "--x", "gradients", "--metric", metric, "--data", f"{metric}.csv")
        with open(tmp_path / f"{metric}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        last = {name: max(float(row["x"]) for row in rows if row["optimizer"] == name) for name in ("adamw", "sam")}
        assert last == {"adamw": 24.0, "sam": 24.0}
    assert "gradient evaluations" in vr("plot", "target", "--x", "gradients").out


@pytest.mark.parametrize(("plural", "singular"), [("steps", "step"), ("epochs", "epoch")])
def test_an_axis_may_be_called_as_the_budget_is(vr, stored, plural, singular):
    stored("adamw")
    one, other = (vr("plot", "envelope", "--x", word) for word in (plural, singular))
    assert one.code == 0
    assert one.out == other.out


def test_a_sweep_is_known_by_its_budget(vr, inline):
    words = ("sweep", *VALLEY, "--opt", "adamw", "--trials", "3", "--initial", "3", "--prune", "median")
    done = vr(*words, "--until", "gradients:12", "--eval-every", "2")
    assert done.code == 0, done.err
    assert "budget 3 trials x gradients:12 for each optimizer" in done.err
    vr(*words, "--until", "gradients:12", "--eval-every", "2")
    assert last_run().id == 3  # it was there
    (plan,) = json.loads(vr(*words, "--until", "gradients:14", "--plan", "--format", "json").out)["sweeps"]
    assert (plan["stored"], plan["until"], plan["epochs"]) == (0, "gradients:14", None)


def test_trials_are_stopped_by_evaluation_where_epochs_say_nothing(vr, inline):
    """Six evaluations of each trial: the rungs of halving are after the first and the second of them."""
    words = ("--until", "steps:12", "--eval-every", "2", "--prune", "halving", "--search", "random")
    done = vr("sweep", *VALLEY, "--opt", "adamw", "--trials", "12", *words)
    assert done.code == 0, done.err
    with Store.open("vr.db", mode="read") as store:
        pruned = [run for run in store.runs.select() if run.error and "stopped after step" in run.error]
        assert {run.results["steps"] for run in pruned} <= {2, 4}
        (search,) = store.searches.select()
        states = [trial.state for trial in store.searches.trials(search.id)]
    assert states.count("pruned") > 0


def test_the_python_api_takes_them_too(tmp_path, monkeypatch):
    import vrcli

    monkeypatch.chdir(tmp_path)
    outcome = vrcli.run("valley:Valley", opt="adamw", until="steps:5", eval_every=2, threads=1, device="cpu")
    (run,) = outcome.runs
    assert run.results["steps"] == 5
