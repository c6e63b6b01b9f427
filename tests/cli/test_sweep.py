"""`vr sweep` and `vr sweeps` as their user sees them."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from vrcli.db.store import Store

OLD = Path(__file__).parents[1] / "db" / "assets" / "schema_0001.db"
pytestmark = pytest.mark.usefixtures("valley")
VALLEY = ("valley:Valley", "--threads", "1", "--device", "cpu")


def test_a_sweep_from_its_plan_to_its_export(vr, inline, tmp_path):
    """One story: what one command wrote is what the next one reads."""
    assert vr("sweep", *VALLEY, "--trials", 4, "--plan", "--quiet").out.startswith("about ")
    plan = vr("sweep", *VALLEY, "--trials", 4, "--plan", "--format", "json")
    body = json.loads(plan.out)
    assert plan.code == 0
    assert body["sweeps"][0]["stored"] == 0
    assert body["sweeps"][0]["space"] == {"lr": "log 0.0001..1", "normgrad": "{True,False}"}
    assert body["left_s"] > 0
    assert not (tmp_path / "vr.db").exists()

    done = vr("sweep", *VALLEY, "--trials", 4, "--opt", "vradam", "--opt", "adamw", "--initial", 3)
    assert done.code == 0
    assert "objective: best validation loss" in done.err
    assert "here" in done.err  # where the space comes from
    trials = [line for line in done.err.splitlines() if "/4  " in line]
    assert len(trials) == 8
    assert all(re.search(r"  took \S+.*  about \S+.* left to search$", line) for line in trials)
    assert "vradam     4/4" in done.err
    assert "\x1b" not in done.out + done.err
    with Store.open("vr.db", mode="read") as store:
        sweeps = store.searches.select()
        assert [s.status for s in sweeps] == ["completed"] * 2
        for sweep in sweeps:
            trials = store.searches.trials(sweep.id)
            assert [t.number for t in trials] == [0, 1, 2, 3]
            runs = {run.id: run for run in store.runs.select(search=sweep.id)}
            for trial in trials:
                run = runs[trial.run_id]
                assert run.results["best_val_loss"] == trial.value
                assert run.spec["optimizer_settings"]["lr"] == trial.params["lr"]
                assert run.spec["training"]["epochs"] == 3

    again = vr("sweep", *VALLEY, "--trials", 5, "--initial", 3, "--confirm-seeds", 2, "--format", "json")
    (found,) = json.loads(again.out)["sweeps"]
    assert found["trials"] == 5
    assert found["confirmed"]["seeds"] == [1, 2]
    assert len(found["confirmed"]["val_loss"]) == 2
    assert again.err == ""

    command = shlex.split(found["command"])
    assert command[:4] == ["vr", "run", "valley:Valley", "--opt"]
    rerun = json.loads(vr(*command[1:], "--seed", 0, "--threads", 1, "--device", "cpu", "--format", "json").out)
    assert rerun["results"]["best_val_loss"] == pytest.approx(found["best_val_loss"])

    listed = json.loads(vr("sweeps", "list", "--format", "json").out)
    assert [(row["definition"]["optimizer"], row["ended"]) for row in listed] == [("adamw", 4), ("vradam", 5)]
    shown = vr("sweeps", "show", found["name"]).out
    assert "importance" in shown
    assert found["command"] in shown
    exported = csv.DictReader(io.StringIO(vr("sweeps", "export", found["id"]).out))
    table = [row for row in exported if row["optimizer"] == "vradam"]
    assert [row["trial"] for row in table] == ["1", "2", "3", "4", "5"]
    assert min(float(row["value"]) for row in table) == found["best_val_loss"]

    refused = vr("sweep", *VALLEY, "--trials", 3, "--initial", 3)
    assert refused.code == 2
    assert "cannot become 3" in refused.err
    assert vr("sweeps", "stop", 1).code == 2
    assert vr("sweeps", "show", "nothing").code == 2


def test_a_sweep_goes_on_only_under_the_settings_it_began_with(vr, inline):
    assert vr("sweep", *VALLEY, "--trials", 2, "--search", "sobol", "--preset", "smoke").code == 0
    with Store.open("vr.db") as store:
        store.searches.set_status(1, "interrupted")
        store.searches.resume(1, trials=3)
        store.searches.set_status(1, "interrupted")
    changed = ("--trials", 3, "--search", "sobol", "--preset", "smoke", "--epochs", 2)
    refused = vr("sweep", *VALLEY, *changed)
    assert refused.code == 2
    assert "epochs 1 -> 2" in refused.err
    assert "--new" in refused.err
    beside = vr("sweep", *VALLEY, *changed, "--new", "--quiet")
    assert beside.code == 0
    resumed = vr("sweeps", "resume", 1, "--threads", 1, "--format", "json")
    assert json.loads(resumed.out)["sweeps"][0]["trials"] == 3


@pytest.mark.slow
def test_a_trial_that_kills_its_worker_does_not_stop_a_sweep(vr):
    asked = ("--search", "random", "--search-seed", 4, "--space", "trouble=none,die", "--jobs", 2)
    done = vr("sweep", *VALLEY, "--trials", 3, *asked)
    assert done.code == 0, done.err
    with Store.open("vr.db", mode="read") as store:
        trials = store.searches.trials(1)
    assert {t.state for t in trials} == {"completed", "failed"}
    for trial in trials:
        assert trial.state == ("failed" if trial.params["trouble"] else "completed")
        assert ("killed" in (trial.error or "")) == bool(trial.params["trouble"])


def test_a_trial_that_fails_does_not_stop_a_sweep(vr, inline):
    done = vr("sweep", *VALLEY, "--trials", 4, "--search", "random", "--space", "trouble=none,raise")
    assert done.code == 0, done.err
    with Store.open("vr.db", mode="read") as store:
        trials = store.searches.trials(1)
        for trial in trials:
            run = store.runs.get(trial.run_id)
            assert trial.state == run.status == ("failed" if trial.params["trouble"] else "completed")
    assert {t.state for t in trials} == {"completed", "failed"}
    lines = vr("sweeps", "show", 1).out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("best val loss to expect after"))
    assert lines[at + 1].endswith("failed, left out")
    completed = [t.value for t in trials if t.state == "completed"]
    cells = lines[at + 2].split()
    assert float(cells[1]) == pytest.approx(sum(completed) / len(completed), rel=1e-3)
    assert cells[-2:] == [f"0/{len(completed)}", str(len(trials) - len(completed))]


def test_lines_of_several_searches_say_which(vr, inline):
    done = vr("sweep", *VALLEY, "--opt", "sgd", "--trials", 2, "--searches", 2)
    for number in (1, 2):
        assert [line for line in done.err.splitlines() if line.startswith(f"sgd search {number}/2     1/2")]


def test_failed_trials_are_done_again_when_their_cause_is_mended(vr, inline, monkeypatch):
    vr("sweep", *VALLEY, "--trials", 4, "--search", "random", "--space", "trouble=none,raise")
    with Store.open("vr.db", mode="read") as store:
        before = store.searches.trials(1)
    failed = [trial.number for trial in before if trial.state == "failed"]
    assert failed
    monkeypatch.setenv("VALLEY_MENDED", "1")
    assert vr("sweeps", "resume", "1").code == 0
    assert vr("sweeps", "resume", "1", "--retry-failed").code == 0
    with Store.open("vr.db", mode="read") as store:
        after = store.searches.trials(1)
    assert [trial.state for trial in after] == ["completed"] * 4
    assert [trial.params for trial in after] == [trial.params for trial in before]
    assert [trial.attempt for trial in after] == [2 if trial.number in failed else 1 for trial in before]


def test_the_outcome_alone_is_one_line_an_optimizer(vr, inline):
    done = vr("sweep", *VALLEY, "--trials", 3, "--opt", "vradam", "--opt", "adamw", "--quiet")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == ["vradam", "adamw"]
    assert all("of 3 trials  vr run valley:Valley --opt" in line for line in lines)
    assert vr("sweeps", "resume", 1, "--quiet").out.splitlines() == lines


def test_the_printed_command_runs_on_a_seed_that_did_not_choose_its_settings(vr, inline):
    done = vr("sweep", *VALLEY, "--trials", 3, "--seed", 4, "--seeds", 2)
    command = next(line for line in done.out.splitlines() if "vr run" in line)
    assert "--seed 6 " in command


def test_a_best_at_the_end_of_an_axis_is_said(vr, inline):
    """The loss falls with the learning rate over all of this range."""
    done = vr("sweep", *VALLEY, "--opt", "sgd", "--trials", 10, "--space", "lr=1e-3:2e-3")
    assert "sgd: best lr=0.002 at the end of what was searched" in done.err
    wide = vr("sweep", *VALLEY, "--opt", "sgd", "--trials", 8, "--space", "lr=log:1e-4:10")
    assert "at the end" not in wide.err


def test_a_whole_number_at_its_end_is_said(vr, inline):
    words = ("--opt", "vradam", "--trials", 3, "--search", "random", "--fix", "lr=0.02", "--space", "lr_cutoff=int:5:6")
    assert "at the end of what was searched" in vr("sweep", *VALLEY, *words).err  # both values are ends


def test_fresh_seeds_that_failed_confirm_nothing(vr, inline):
    vr("sweep", *VALLEY, "--trials", 2, "--confirm-seeds", 2)
    with sqlite3.connect("vr.db") as connection:
        connection.execute("UPDATE runs SET status = 'failed' WHERE trial_id IS NULL")
    assert "optimistic" in vr("sweeps", "resume", 1).out
    report = vr("report")
    assert "vradam" in report.out
    assert "2 x 3 ‖" in report.out


def test_fresh_seeds_that_are_stored_are_not_advised_again(vr, inline):
    assert "optimistic" in vr("sweep", *VALLEY, "--trials", 2).out
    vr("sweep", *VALLEY, "--trials", 2, "--confirm-seeds", 2)
    again = vr("sweeps", "resume", 1).out
    assert "optimistic" not in again
    assert "the 2 runs on fresh seeds that are stored" in again


def test_a_sweep_whose_process_is_gone_does_not_answer(vr, inline):
    vr("sweep", *VALLEY, "--trials", 2)
    code = "from vrcli.db.store import Store\nStore.open('vr.db').searches.resume(1, trials=3)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "not answering" in vr("sweeps", "list").out
    assert "not answering" in vr("sweeps", "show", 1).out


def test_pruned_trials_are_marked(vr, inline):
    done = vr(
        "sweep", *VALLEY, "--trials", 8, "--search", "random", "--prune", "median", "--epochs", 5, "--format", "json"
    )
    (found,) = json.loads(done.out)["sweeps"]
    assert found["statuses"].get("pruned", 0) >= 1
    with Store.open("vr.db", mode="read") as store:
        pruned = store.searches.trials(1, state="pruned")
    assert all(trial.epochs < 5 and "stopped after epoch" in trial.error for trial in pruned)
    report = vr("report")
    assert f"{len(pruned)} trials of 1 sweep: stopped early (--prune)" in report.err
    assert "interrupted" not in report.err
    assert "8 x 5 ¶" in report.out
    assert "¶ hopeless trials were stopped early" in report.out


def test_a_sweep_of_which_no_trial_completed_exits_with_1(vr, inline):
    asked = ("--trials", 2, "--search", "random", "--space", "trouble=raise,missing", "--format", "json")
    done = vr("sweep", *VALLEY, *asked)
    assert done.code == 1, done.err
    assert json.loads(done.out)["sweeps"][0]["best_params"] is None
    assert vr("sweep", *VALLEY, *asked, "--plan").code == 0
    assert vr("sweeps", "resume", 1, "--threads", 1, "--quiet").code == 1


def test_a_database_whose_making_was_cut_short_is_finished(vr, inline):
    Path("vr.db").touch()
    plan = vr("sweep", *VALLEY, "--trials", 1, "--plan", "--format", "json")
    assert json.loads(plan.out)["sweeps"][0]["stored"] == 0
    assert Path("vr.db").stat().st_size == 0
    done = vr("sweep", *VALLEY, "--trials", 1, "--quiet")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        ("sweep", *VALLEY, "--trials", 1, "--quiet"),
        ("run", *VALLEY, "--quiet"),
        ("compare", *VALLEY, "--opt", "adamw", "--opt", "sgd", "--seeds", 2, "--quiet"),
    ],
    ids=lambda words: words[0],
)
def test_an_older_database_is_upgraded_and_its_user_told(vr, inline, words):
    shutil.copy(OLD, "vr.db")
    done = vr(*words)
    assert done.code == 0, done.err
    assert done.err.startswith("note: vr.db was upgraded from schema 1 to ")
    assert len(done.err.splitlines()) == 1
    assert "upgraded" not in vr(*words).err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--trials", "0"], "--trials must be >= 1, got 0"),
        (["--jobs", "0"], "--jobs must be in 1.."),
        (["--jobs", "99999"], "--jobs must be in 1.."),
        (["--confirm-seeds", "-1"], "--confirm-seeds must be >= 0"),
        (["--initial", "0"], "--initial must be >= 1"),
        (["--search-seed", "-1"], "--search-seed must be >= 0"),
        (["--search", "magic"], "gp, forest, random, sobol"),
        (["--space", "lr=1:0.1"], "low must be below high"),
        (["--space", "lr=log:0:1"], "log axis needs low > 0"),
        (["--space", "beta33=0:1"], "did you mean beta3"),
        (["--fix", "beta33=0.5"], "did you mean beta3"),
        (["--opt", "adamw", "--opt", "adamw"], "given twice"),
        (["--lr", "0.1"], "--fix lr=VALUE"),
        (["--epochz", "1"], "did you mean --epochs"),
        (["--trouble", "missing"], "not there"),
    ],
)
def test_nonsense_is_refused_and_nothing_is_written(vr, inline, words, says):
    done = vr("sweep", *VALLEY, *words)
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert not Path("vr.db").exists()


def test_a_sweep_outlives_its_runs(vr, inline):
    """The trials keep what they found; only the curves behind them are gone."""
    asked = (*VALLEY, "--search", "sobol")
    assert vr("sweep", *asked, "--trials", 2, "--confirm-seeds", 1).code == 0
    before = json.loads(vr("sweeps", "show", 1, "--format", "json").out)
    with Store.open("vr.db", mode="read") as store:
        runs = [run.id for run in store.runs.select(sweep=1)]
    done = vr("runs", "rm", *runs, "--yes")
    assert done.code == 0, done.err
    assert f"a trial of sweep {before['name']}" in done.err
    assert f"a confirmation of sweep {before['name']}" in done.err
    after = json.loads(vr("sweeps", "show", 1, "--format", "json").out)
    for key in ("ended", "statuses", "convergence"):
        assert after[key] == before[key]
    assert (after["best"]["value"], after["best"]["run_ids"]) == (before["best"]["value"], [])
    for words in (["show", 1], ["list"], ["export", 1], ["resume", 1, "--threads", 1]):
        done = vr("sweeps", *words)
        assert done.code == 0, (words, done.err)
    with Store.open("vr.db") as store:
        store.searches.resume(1, trials=3)
        store.searches.set_status(1, "interrupted")
        assert store.check() == []
    resumed = vr("sweeps", "resume", 1, "--threads", 1, "--format", "json")
    assert resumed.code == 0, resumed.err
    assert json.loads(resumed.out)["sweeps"][0]["trials"] == 3


def test_one_command_makes_one_sweep_that_more_optimizers_join(vr, inline):
    words = (*VALLEY, "--trials", 2, "--initial", 2)
    assert vr("sweep", *words, "--opt", "vradam", "--opt", "adamw").code == 0
    again = vr("sweep", *words, "--opt", "adamw", "--opt", "vradam", "--format", "json")
    assert {one["id"] for one in json.loads(again.out)["sweeps"]} == {1}
    more = vr("sweep", *words[:-4], "--trials", 3, "--initial", 2, "--opt", "adamw", "--opt", "sgd", "--format", "json")
    assert [(one["id"], one["optimizer"], one["trials"]) for one in json.loads(more.out)["sweeps"]] == [
        (1, "adamw", 3), (1, "sgd", 3),
    ]  # fmt: skip
    with Store.open("vr.db", mode="read") as store:
        (sweep,) = store.sweeps.select()
        searches = store.searches.select(sweep=sweep.id)
        assert {(s.optimizer, s.trials, s.name) for s in searches} == {
            ("vradam", 2, sweep.name), ("adamw", 3, sweep.name), ("sgd", 3, sweep.name),
        }  # fmt: skip
        assert {run.search_id for run in store.runs.select(sweep=sweep.name)} == {s.id for s in searches}
    listed = json.loads(vr("sweeps", "list", "--format", "json").out)
    assert {(one["id"], one["definition"]["optimizer"]) for one in listed} == {
        (1, o) for o in ("vradam", "adamw", "sgd")
    }
    shown = vr("sweeps", "show", sweep.name).out
    assert all(f"sweep 1 · {sweep.name} · {optimizer}" in shown for optimizer in ("vradam", "adamw", "sgd"))
    rows = vr("sweeps", "export", 1).out.splitlines()
    assert rows[0].startswith("optimizer,trial,status,value,lr")
    assert len(rows) == 1 + 2 + 3 + 3
    resumed = json.loads(vr("sweeps", "resume", 1, "--trials", 3, "--format", "json").out)["sweeps"]
    assert [(one["optimizer"], one["trials"]) for one in resumed] == [("vradam", 3), ("adamw", 3), ("sgd", 3)]


@pytest.mark.parametrize(
    ("words", "joins"),
    [
        (("--fix", "weight_decay=0.1"), True),
        (("--space", "lr=log:1e-3:1"), True),
        (("--search-seed", 1), True),
        (("--trials", 2), True),
        (("--epochs", 2), False),
        (("--seed", 1), False),
        (("--prune", "median"), False),
        (("--search", "random"), False),
        (("--batch-size", 7), False),
        (("--space", "batch_size=int:4:8"), False),
    ],
)
def test_searches_join_a_sweep_where_all_that_they_share_is_equal(vr, inline, words, joins):
    assert vr("sweep", *VALLEY, "--opt", "adamw", "--trials", 1).code == 0
    done = vr("sweep", *VALLEY, "--opt", "sgd", "--trials", 1, *words)
    assert done.code in (0, 1), done.err  # the one trial may diverge
    with Store.open("vr.db", mode="read") as store:
        assert len(store.searches.select()) == 2
        assert len(store.sweeps.select()) == (1 if joins else 2)


def test_another_search_of_an_optimizer_in_the_same_place_begins_another_sweep(vr, inline):
    assert vr("sweep", *VALLEY, "--opt", "adamw", "--trials", 1).code == 0
    assert vr("sweep", *VALLEY, "--opt", "adamw", "--trials", 1, "--space", "lr=log:1e-3:1").code == 0
    assert vr("sweep", *VALLEY, "--opt", "adamw", "--trials", 1, "--search-seed", 1).code == 0
    with Store.open("vr.db", mode="read") as store:
        found = [[(s.optimizer, s.search_seed) for s in store.searches.select(sweep=n)] for n in (1, 2)]
        assert sorted(found, key=len) == [[("adamw", 0)], [("adamw", 1), ("adamw", 0)]]


def test_a_stored_sweep_that_does_not_say_its_code_goes_on_with_that_said(vr, inline):
    words = ("sweep", *VALLEY, "--search", "sobol", "--preset", "smoke", "--opt", "adamw")
    assert vr(*words, "--trials", 1).code == 0
    with closing(sqlite3.connect("vr.db")) as connection, connection:
        connection.execute("UPDATE searches SET settings = json_remove(settings, '$.code')")
    resumed = vr("sweeps", "resume", 1, "--trials", 2, "--threads", 1, "--quiet")
    assert resumed.code == 0, resumed.err
    assert "sweep 1 does not say which code its trials ran" in resumed.err
