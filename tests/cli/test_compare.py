"""`vr compare`: paired runs, the verdict, and what it refuses."""

from __future__ import annotations

import json
import sqlite3

import pytest
import torch

SPIRALS = "vrcli.cli.scaffold.task_template:Spirals"
QUICK = ("--preset", "smoke", "--threads", "1")


def test_the_verdict_follows_from_paired_runs_and_nothing_runs_twice(vr, tmp_path):
    words = ("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", "--seeds", "3", "--epochs", "15", *QUICK)
    done = vr(*words, "--target", "0.68", "--power")
    assert done.code == 0, done.err
    assert "adamw − sgd: −" in done.out
    assert "→ " in done.out
    assert "± is a 95% interval of the mean" in done.out
    assert "to val loss 0.68" in done.out
    assert "what more seeds could show" in done.out
    assert "effect size" in done.out
    table = done.out.splitlines()
    heading = next(line for line in table if "budget" in line)
    row = next(line for line in table if line.startswith("adamw "))
    assert row[heading.index("budget") :].startswith("1 x 15")
    assert "stored already" not in done.err
    again = vr(*words).err
    assert "6 of the 6 runs were stored already\n" in again
    assert "seed 1" not in again
    with sqlite3.connect(tmp_path / "vr.db") as connection:  # as if three were made elsewhere
        libraries = "json_set(provenance, '$.libraries.torch', '0.1')"
        connection.execute(f"UPDATE runs SET provenance = {libraries} WHERE optimizer = 'sgd'")
    elsewhere = f"6 of the 6 runs were stored already; 3 were made with torch 0.1, this is {torch.__version__}\n"
    assert elsewhere in vr(*words).err
    quiet = vr(*words, "--quiet")
    assert quiet.out == next(line for line in table if line.startswith("→ "))[2:] + "\n"
    body = json.loads(vr(*words, "--format", "json").out)
    runs = body["optimizers"]
    assert [len(r["values"]) for r in runs.values()] == [3, 3]
    assert list(runs["adamw"]["values"]) == list(runs["sgd"]["values"]) == ["1", "2", "3"]
    one = body["comparisons"][0]
    difference = [runs["adamw"]["values"][s] - runs["sgd"]["values"][s] for s in "123"]
    assert one["difference"] == pytest.approx(sum(difference) / 3)
    assert one["paired"] is True
    with sqlite3.connect(tmp_path / "vr.db") as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] == 6  # the second call ran nothing


def test_pairs_start_from_the_same_weights_and_order(vr):
    words = ("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", "--seeds", "2", *QUICK, "--format", "json")
    body = json.loads(vr(*words).out)
    first = []
    for optimizer in ("adamw", "sgd"):
        run = body["optimizers"][optimizer]["runs"][0]
        curves = json.loads(vr("runs", "show", str(run), "--format", "json").out)["curves"]
        first.append(curves["train_loss"]["values"][0])
    assert first[0] == first[1]


def test_one_at_a_time_a_comparison_makes_the_runs_that_vr_run_makes(vr):
    before = torch.get_num_threads()
    torch.set_num_threads(3)  # not what the machine has, and still what every command goes by
    try:
        words = (SPIRALS, "--preset", "smoke", "--format", "json")
        alone = json.loads(vr("run", *words, "--opt", "adamw", "--seed", "1").out)
        body = json.loads(vr("compare", *words, "--opt", "adamw", "--opt", "sgd", "--seeds", "2", "--jobs", "1").out)
    finally:
        torch.set_num_threads(before)
    assert alone["spec"]["threads"] == 3
    assert body["optimizers"]["adamw"]["runs"][0] == alone["id"]  # the same spec: it was not run again


def test_the_searchs_first_points_can_be_set(vr):
    words = ("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", "--trials", "2", "--initial", "1", "--seeds", "2")
    assert vr(*words, *QUICK, "--quiet").code == 0
    swept = json.loads(vr("sweeps", "show", "1", "--format", "json").out)
    assert [one["definition"]["initial"] for one in swept] == [1, 1]
    assert vr(*words, *QUICK, "--initial", "0").code == 2


def test_equal_optimizers_are_no_different(vr):
    words = ("compare", SPIRALS, "--opt", "adam", "--opt", "adamw", "--fix", "weight_decay=0", "--seeds", "3", *QUICK)
    done = vr(*words)
    assert "no difference between adam and adamw can be claimed" in done.out


def test_tuning_first_gives_every_optimizer_the_same_budget(vr):
    words = ("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", "--trials", "3", "--search", "random")
    body = json.loads(vr(*words, "--seeds", "2", *QUICK, "--format", "json").out)
    assert {one["optimizer"]: one["trials"] for one in body["sweeps"]} == {"adamw": 3, "sgd": 3}
    for one in body["sweeps"]:
        run = body["optimizers"][one["optimizer"]]["runs"][0]
        spec = json.loads(vr("runs", "show", str(run), "--format", "json").out)["spec"]
        assert spec["optimizer_settings"]["lr"] == pytest.approx(one["best_params"]["lr"])
        assert spec["seed"] == 1  # never seen by the search


def test_seeds_of_the_configuration_file_are_the_searchs_and_never_confirm(vr, tmp_path):
    (tmp_path / "my.toml").write_text("seed = 1\nseeds = 2\n")
    words = ("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", "--seeds", "2", "--config", "my.toml", *QUICK)
    body = json.loads(vr(*words, "--format", "json").out)
    assert list(body["optimizers"]["sgd"]["values"]) == ["3", "4"]


def test_a_run_that_diverges_at_once_is_counted_as_worst(vr, tmp_path):
    (tmp_path / "steep.py").write_text(
        "from vrcli.cli.scaffold.task_template import Spirals\nclass Steep(Spirals):\n    ceiling = 0.75\n"
    )
    words = ("compare", "steep:Steep", "--opt", "adamw", "--opt", "sgd", "--fix", "momentum=0", "--seeds", "4")
    done = vr(*words, "--lr", "1e-4", *QUICK)
    assert done.code == 2  # an optimizer's setting is given with --fix
    done = vr(*words, *QUICK, "--fix", "lr=30", "--target", "0.5")
    assert done.code == 0, done.err
    assert "NaN" in done.out
    assert "counted as worst" in done.out
    assert "reached by 0 of 4" in done.out


REFUSED = {
    "one optimizer": (["--opt", "adamw"], "--opt must be given at least twice"),
    "twice the same": (["--opt", "adamw", "--opt", "adamw"], "--opt adamw is given twice"),
    "one seed": (["--opt", "adamw", "--opt", "sgd", "--seeds", "1"], "--seeds must be >= 2, got 1"),
    "metric": (["--opt", "adamw", "--opt", "sgd", "--metric", "test_los"], "did you mean test_loss?"),
    "level": (["--opt", "adamw", "--opt", "sgd", "--level", "1"], "--level must be in [0.5, 1), got 1"),
    "setting": (["--opt", "adamw", "--opt", "sgd", "--fix", "momentm=0.9"], "did you mean momentum?"),
    "value": (["--opt", "adamw", "--opt", "sgd", "--fix", "lr=-1"], "--lr must be > 0, got -1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_exit_2_and_no_database(vr, tmp_path, case):
    words, expected = REFUSED[case]
    done = vr("compare", SPIRALS, *words)
    assert done.code == 2
    assert expected in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "vr.db").exists()


@pytest.mark.parametrize("words", [("--space", "lr=0.1:1"), ("--search", "random"), ("--initial", "3")])
def test_how_to_search_is_refused_where_nothing_is_searched(vr, words):
    done = vr("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", *QUICK, *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"vr: {words[0]} is for a search")


def test_a_comparison_after_a_search_says_where_the_settings_are_from(vr):
    words = ("--trials", "2", "--seeds", "2", "--search", "random", *QUICK)
    done = vr("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", *words)
    assert "the settings come from one search each (--search-seed 0)" in done.out
    assert "--confirm-seeds" not in done.out
