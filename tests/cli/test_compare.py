"""`vr compare`: paired runs, the verdict, and what it refuses."""

from __future__ import annotations

import json
import re
import sqlite3

import pytest
import torch

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("inline")]
SPIRALS = "vrcli.cli.scaffold.task_template:Spirals"
QUICK = ("--preset", "smoke", "--threads", "1")


@pytest.mark.slow
def test_the_verdict_follows_from_paired_runs_and_nothing_runs_twice(vr, tmp_path):
    words = ("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", "--seeds", "3", "--epochs", "15", *QUICK)
    done = vr(*words, "--target", "0.68", "--power", "--explain")
    assert done.code == 0, done.err
    assert "adamw − sgd: −" in done.out
    assert "the preset's settings, 15 epochs, 3 fresh seeds, the same for all" in done.out
    assert "± is a 95% interval of the mean" in done.out
    assert "to val loss 0.68" in done.out
    assert "what more seeds could show" in done.out
    assert "effect size" in done.out
    table = done.out.splitlines()
    heading = next(line for line in table if "s/run" in line)
    row = next(line for line in table[table.index(heading) :] if line.startswith("adamw "))
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
    assert any("paired over 3 seeds" in line for line in table)
    quiet = vr(*words, "--quiet")
    assert quiet.out == next(line for line in table if line.startswith("With the preset's settings: ")) + "\n"
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
    assert vr(*words, *QUICK, "--quiet", "--searches", "1").code == 0
    swept = json.loads(vr("sweeps", "show", "1", "--format", "json").out)
    assert [one["definition"]["initial"] for one in swept] == [1, 1]
    assert vr(*words, *QUICK, "--initial", "0").code == 2


def test_equal_optimizers_are_no_different(vr):
    words = ("compare", SPIRALS, "--opt", "adam", "--opt", "adamw", "--fix", "weight_decay=0", "--seeds", "3", *QUICK)
    done = vr(*words)
    assert "With the preset's settings: Undecided between adam and adamw." in done.out
    assert "no difference between adam and adamw can be claimed" in vr(*words, "--explain").out


def test_every_optimizer_is_searched_as_often_and_only_winners_on_fresh_seeds_count(vr, tmp_path):
    words = ("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", "--trials", "3", "--search", "random", *QUICK)
    words = (*words, "--searches", "2", "--seeds", "2")
    body = json.loads(vr(*words, "--format", "json").out)
    assert [(one["optimizer"], one["trials"]) for one in body["sweeps"]] == [("adamw", 3), ("sgd", 3)] * 2
    assert len({one["id"] for one in body["sweeps"]}) == 1  # one sweep holds them all
    for name, one in body["optimizers"].items():
        assert [replicate["seeds"] for replicate in one["replicates"]] == [[1, 2], [101, 102]]
        assert list(one["values"]) == ["1", "2", "101", "102"]
        searches = json.loads(vr("sweeps", "show", "1", "--format", "json").out)
        for k, replicate in enumerate(one["replicates"]):
            means = [sum(trial["values"]) / 3 for trial in replicate["reranked"]]
            assert means == sorted(means)
            assert {len(trial["values"]) for trial in replicate["reranked"]} == {3}
            (search,) = [s for s in searches if s["search"] == replicate["search_id"]]
            winner = next(t for t in search["trials"] if t["number"] == replicate["reranked"][0]["trial"])
            for run in one["runs"][2 * k : 2 * k + 2]:
                spec = json.loads(vr("runs", "show", str(run), "--format", "json").out)["spec"]
                assert spec["optimizer"] == name
                assert spec["optimizer_settings"]["lr"] == pytest.approx(winner["params"]["lr"])
    pair = body["replicated"]["pairs"][0]
    y = {
        name: [sum(list(one["values"].values())[i : i + 2]) / 2 for i in (0, 2)]
        for name, one in body["optimizers"].items()
    }
    assert pair["d"] == pytest.approx([a - b for a, b in zip(y["adamw"], y["sgd"], strict=True)])
    with sqlite3.connect(tmp_path / "vr.db") as connection:
        runs = connection.execute("SELECT seed, trial_id IS NULL FROM runs").fetchall()
    assert len(runs) == 4 * (3 + 9 + 2)
    assert {seed for seed, fresh in runs if fresh} == {1, 2, 101, 102}
    assert {seed for seed, fresh in runs if not fresh} == {0, 97, 98, 99, 100, 197, 198, 199}
    more = (*words[:-4], "--searches", "3", "--seeds", "2", "--format", "json")
    first = {name: one["runs"] for name, one in body["optimizers"].items()}
    for name, one in json.loads(vr(*more).out)["optimizers"].items():  # more searches change no earlier run
        assert one["runs"][:4] == first[name]
    done = vr(*words, "--explain")
    assert done.code == 0, done.err
    assert "over 2 independent searches of 3 trials each, 2 fresh seeds per search" in done.out


def test_seeds_of_the_configuration_file_are_those_of_the_command(vr, tmp_path):
    (tmp_path / "my.toml").write_text("seed = 1\nseeds = 2\n")
    words = ("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", "--config", "my.toml", *QUICK)
    body = json.loads(vr(*words, "--format", "json").out)
    assert list(body["optimizers"]["sgd"]["values"]) == ["2", "3"]


def test_a_run_that_diverges_at_once_is_counted_as_worst(vr, tmp_path):
    (tmp_path / "steep.py").write_text(
        "from vrcli.cli.scaffold.task_template import Spirals\nclass Steep(Spirals):\n    diverged_above = 0.75\n"
    )
    words = ("compare", "steep:Steep", "--opt", "adamw", "--opt", "sgd", "--fix", "momentum=0", "--seeds", "4")
    done = vr(*words, "--lr", "1e-4", *QUICK)
    assert done.code == 2  # an optimizer's setting is given with --fix
    done = vr(*words, *QUICK, "--fix", "lr=30", "--target", "0.5", "--explain")
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
    "target": (["--opt", "adamw", "--opt", "sgd", "--target", "nan"], "--target must be a finite number, got nan"),
    "margin": (["--opt", "adamw", "--opt", "sgd", "--trials", "2", "--margin", "x"], "--margin must be a number or"),
    "margin, 0": (["--opt", "adamw", "--opt", "sgd", "--trials", "2", "--margin", "0"], "--margin must be > 0, got 0"),
    "against": (
        ["--opt", "adamw", "--opt", "sgd", "--trials", "2", "--against", "adm"],
        "--against adm: it is not one of",
    ),
    "primary": (["--opt", "adamw", "--opt", "sgd", "--trials", "2", "--primary", "adamw"], "--primary takes two"),
    "primary, twice": (
        ["--opt", "adamw", "--opt", "sgd", "--trials", "2", "--primary", "sgd,sgd"],
        "give two different optimizers",
    ),
    "looks": (
        ["--opt", "adamw", "--opt", "sgd", "--trials", "2", "--searches", "2", "--looks", "2"],
        "--looks 2 needs",
    ),
    "searches": (["--opt", "adamw", "--opt", "sgd", "--trials", "2", "--searches", "0"], "--searches must be >= 1"),
    "seeds": (["--opt", "adamw", "--opt", "sgd", "--trials", "2", "--seeds", "97"], "--seeds must be at most 96"),
    "variant": (["--opt", "adamw", "--opt", "adamw@:lr=1"], "write a variant as NAME@LABEL:SETTING=VALUE"),
    "variant's setting": (["--opt", "adamw", "--opt", "adamw@a:lrr=1"], "did you mean --lr?"),
    "space of none": (
        ["--opt", "adamw", "--opt", "sgd", "--trials", "2", "--space", "adm.lr=0.1:1"],
        "adm is not one of the optimizers",
    ),
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


@pytest.mark.parametrize(
    "words",
    [("--space", "lr=0.1:1"), ("--search", "random"), ("--initial", "3"), ("--searches", "2")],
)
def test_how_to_search_is_refused_where_nothing_is_searched(vr, words):
    done = vr("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", *QUICK, *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"vr: {words[0]} is for a search")


@pytest.mark.slow
def test_one_search_is_about_the_settings(vr):
    words = ("--trials", "2", "--searches", "1", "--seeds", "2", "--search", "random", *QUICK)
    done = vr("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", *words)
    verdict = next(line for line in done.out.splitlines() if line.endswith("."))
    assert re.search(r"adamw \(lr=[\d.e-]+\).* sgd \(lr=[\d.e-]+\)|sgd \(.* adamw \(", verdict)
    assert (
        "with these settings (adamw: lr="
        in vr("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", *words, "--explain").out
    )
    assert "budget of each optimizer: 1 search of 2 trials x " in done.out


@pytest.mark.slow
def test_another_seed_repeats_the_protocol_on_seeds_of_its_own(vr):
    words = ("compare", SPIRALS, "--opt", "adamw", "--opt", "sgd", "--trials", "2", "--searches", "2", "--seeds", "1")
    words = (*words, "--search", "random", *QUICK, "--format", "json")
    first, second = json.loads(vr(*words).out), json.loads(vr(*words, "--seed", "1000").out)
    seeds = [[r["seeds"] for r in body["optimizers"]["sgd"]["replicates"]] for body in (first, second)]
    assert seeds == [[[1], [101]], [[1001], [1101]]]
    settings = [[r["settings"]["lr"] for r in body["optimizers"]["sgd"]["replicates"]] for body in (first, second)]
    assert not {*settings[0]} & {*settings[1]}


def test_variants_of_one_optimizer_stand_side_by_side(vr):
    words = ("compare", SPIRALS, "--opt", "vradam", "--opt", "vradam@adam:beta3=0", "--seeds", "2", *QUICK)
    body = json.loads(vr(*words, "--format", "json").out)
    runs = body["optimizers"]["vradam@adam"]["runs"]
    spec = json.loads(vr("runs", "show", str(runs[0]), "--format", "json").out)["spec"]
    assert (spec["optimizer"], spec["optimizer_settings"]["beta3"]) == ("vradam", 0)
    report = json.loads(vr("report", "--format", "json").out)
    assert {row["optimizer"] for row in report["rows"]} == {"vradam", "vradam@adam"}
    assert [r["optimizer"] for r in json.loads(vr("runs", "list", "--opt", "vradam@adam", "--format", "json").out)] == [
        "vradam@adam"
    ] * 2


@pytest.mark.slow
def test_more_seeds_are_a_new_experiment(vr):
    words = ("compare", SPIRALS, "--opt", "adamw", "--opt", "adam", "--seeds", "3", *QUICK)
    found = re.search(r"(--seeds \d+ --seed \d+) +(\d+) new seeds, to test", vr(*words).out)
    assert found
    again = json.loads(vr(*words, *found[1].split(), "--format", "json").out)
    first = json.loads(vr(*words, "--format", "json").out)
    assert not {*again["optimizers"]["adam"]["runs"]} & {*first["optimizers"]["adam"]["runs"]}
