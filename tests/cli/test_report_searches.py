"""Searches as a level of what reads results: a row, its interval, its budget, its marks."""

from __future__ import annotations

import json
import math
import sqlite3
import statistics
from contextlib import closing
from itertools import groupby
from typing import Any

import pytest
from scipy import stats

from vrcli.report.wording import number
from vrcli.stats.inference import t_interval

pytestmark = pytest.mark.usefixtures("valley", "inline")
TASK = ("valley:Valley", "--threads", "1", "--device", "cpu")
COMPARE = ("compare", *TASK, "--opt", "vradam", "--opt", "sgd", "--trials", 3, "--search", "random", "--searches", 3,
           "--seeds", 2)  # fmt: skip


def _sql(path: Any, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database, database:
        return database.execute(query).fetchall()


def _values(path: Any, optimizer: str, result: str = "test_loss") -> list[list[float]]:
    """A result of the fresh runs by search, read with plain SQL."""
    rows = _sql(
        path,
        f"""SELECT v_runs.search_id, v_results.value FROM v_runs
        JOIN v_results ON run_id = id AND metric = '{result}'
        WHERE v_runs.optimizer = '{optimizer}' AND trial_id IS NULL AND search_id IS NOT NULL
        ORDER BY v_runs.search_id, v_runs.seed""",
    )
    return [[value for _, value in own] for _, own in groupby(rows, key=lambda row: row[0])]


def _rows(vr: Any, *words: str) -> dict[str, dict[str, Any]]:
    return {row["optimizer"]: row for row in json.loads(vr("report", *words, "--format", "json").out)["rows"]}


def test_several_searches_are_one_row_whose_unit_is_the_search(vr, tmp_path) -> None:
    assert vr(*COMPARE).code == 0
    body = json.loads(vr("report", "--format", "json").out)
    assert [row["optimizer"] for row in body["rows"]] == sorted({"vradam", "sgd"}, key=lambda name: statistics.mean(
        map(statistics.mean, _values(tmp_path / "vr.db", name))))  # fmt: skip
    for row in body["rows"]:
        y = [statistics.mean(own) for own in _values(tmp_path / "vr.db", row["optimizer"])]
        cell = row["metrics"]["test_loss"]
        assert (row["n"], row["searches"], row["trials"], row["runs_of_searches"]) == (6, 3, 3, [2, 2, 2])
        assert cell["n"] == 3
        assert cell["values"] == pytest.approx(y)
        assert cell["mean"] == pytest.approx(statistics.mean(y))
        assert (cell["low"], cell["high"]) == pytest.approx(t_interval(y))
        assert row["seeds"] == [1, 2, 101, 102, 201, 202]
        assert "lr" not in row["settings"]
        assert len(set(row["settings_of_searches"]["lr"])) == 3
    text = vr("report", "--columns", "optimizer,settings,test_loss,n,budget").out
    line = next(line for line in text.splitlines() if "vradam" in line)
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[-3:-1] == ["3 x 2", "3 x (3 + 9) x 3 §"]
    lr = [f"{value:.2g}" for value in sorted(_rows(vr)["vradam"]["settings_of_searches"]["lr"])]
    assert f"lr={lr[0]}..{lr[-1]}" in line
    assert "± is a 95% interval for the mean over searches" in text
    assert "n = searches x fresh seeds" in text
    # The valley task lets vradam search two settings, sgd one.
    assert "§ equal trials are not equal budgets; searched:" in text
    assert "vradam 2 settings" in text
    assert "sgd 1 setting" in text


def test_what_hides_searches_says_so_and_a_wrong_name_is_answered_in_one_short_line(vr) -> None:
    assert vr(*COMPARE, "--until", "steps:4").code == 0
    whole = vr("report", "--where", "optimizer=sgd")
    assert "searches match" not in whole.err
    assert "the minimum over evaluations" in whole.out
    narrowed = vr("report", "--where", "seed<150")
    assert "note: sgd: 2 of its 3 searches match" in narrowed.err
    refused = vr("report", "--columns", "foo").err
    assert refused.startswith("vr: --columns foo is not a column of these runs; known: ")
    assert len(refused) < 150


def test_the_verdict_of_the_comparison_is_that_of_the_marks(vr, tmp_path) -> None:
    assert vr(*COMPARE).code == 0
    rows = _rows(vr)
    y = {name: [statistics.mean(own) for own in _values(tmp_path / "vr.db", name)] for name in rows}
    p = stats.ttest_rel(y["vradam"], y["sgd"]).pvalue
    best = min(y, key=lambda name: statistics.mean(y[name]))
    other = next(name for name in y if name != best)
    assert rows[best]["metrics"]["test_loss"]["best"]
    assert rows[other]["metrics"]["test_loss"]["tied_with_best"] == (p > 0.05)
    # Shifted in one block only, nothing can be told; by the same in each, all can: the pairs are the replicates.
    _sql(
        tmp_path / "vr.db",
        f"""UPDATE results SET value = 1 + run_id % 2 + (SELECT seed / 100 FROM runs WHERE id = run_id)
        + (SELECT 0.5 * (optimizer = '{other}') FROM runs WHERE id = run_id)
        WHERE metric_id = (SELECT id FROM metrics WHERE name = 'test_loss')""",
    )
    rows = _rows(vr)
    assert rows[best]["metrics"]["test_loss"]["sd"] > 0.9
    assert not rows[other]["metrics"]["test_loss"]["tied_with_best"]


def test_the_best_of_several_searches_is_never_quoted(vr, tmp_path) -> None:
    words = ("sweep", *TASK, "--opt", "sgd", "--trials", 2, "--search", "random", "--confirm-seeds", 2)
    assert vr(*words, "--searches", 2).code == 0
    row = _rows(vr, "--best")["sgd"]
    y = [statistics.mean(own) for own in _values(tmp_path / "vr.db", "sgd")]
    assert (row["searches"], row["trials"]) == (2, 2)
    assert row["metrics"]["test_loss"]["mean"] == pytest.approx(statistics.mean(y))
    # A search of another sweep that shares all but what it searched stands beside them, and none is chosen.
    assert vr(*words, "--seed", 1000).code == 0
    assert len(json.loads(vr("report", "--format", "json").out)["rows"]) == 2
    y = [statistics.mean(own) for own in _values(tmp_path / "vr.db", "sgd")]
    row = _rows(vr, "--best")["sgd"]
    assert (len(y), row["searches"], row["n"]) == (3, 3, 6)
    assert row["metrics"]["test_loss"]["mean"] == pytest.approx(statistics.mean(y))
    assert "2 to 3" not in vr("report", "--pivot", "test_loss").out
    assert "n = 3 x 2, budget 3 x 2 x 3" in vr("report", "--pivot", "test_loss").out


def test_searches_of_another_protocol_are_said_to_be_passed_over(vr) -> None:
    words = ("sweep", *TASK, "--opt", "sgd", "--trials", 2, "--search", "random", "--confirm-seeds", 2, "--searches", 2)
    assert vr(*words).code == 0
    assert vr(*words, "--fix", "momentum=0.5").code == 0
    body = json.loads(vr("report", "--best", "--format", "json").out)
    assert [row["searches"] for row in body["rows"]] == [2]
    told = [note["text"] for note in body["warnings"] if note["kind"] == "passed over"]
    assert told == [
        "sgd: 2 other searches, of another protocol, did worse in best val loss and do not stand in its budget"
    ]


def test_without_fresh_runs_the_best_trials_of_the_searches_are_one_row(vr) -> None:
    assert vr("sweep", *TASK, "--opt", "sgd", "--trials", 3, "--search", "random", "--searches", 3).code == 0
    (row,) = json.loads(vr("report", "--format", "json").out)["rows"]
    assert (row["searched"], row["searches"], row["trials"], row["n"]) == (True, 3, 3, 3)
    assert not row["metrics"]["best_val_loss"]["best"]
    assert "3 x 3 x 3 ‖" in vr("report").out
    assert len(json.loads(vr("report", "--trials", "--format", "json").out)["rows"]) == 9


def test_a_sweep_with_one_search_stays_as_it_is(vr) -> None:
    assert vr("sweep", *TASK, "--opt", "sgd", "--trials", 2, "--search", "random", "--confirm-seeds", 3).code == 0
    (row,) = json.loads(vr("report", "--format", "json").out)["rows"]
    assert (row["n"], row["searches"], row["runs_of_searches"], row["trials"]) == (3, 1, [], 2)
    assert "lr" in row["settings"]
    assert row["metrics"]["test_loss"]["n"] == 3
    assert "over n seeds" in vr("report").out


def test_a_search_counts_with_the_settings_that_it_chose_last(vr, tmp_path) -> None:
    words = ("sweep", *TASK, "--opt", "vradam", "--search", "random", "--searches", 2, "--confirm-seeds", 2)
    assert vr(*words, "--trials", 1).code == 0
    assert vr(*words, "--trials", 8).code == 0
    best = _sql(tmp_path / "vr.db", "SELECT search_id, number, min(value) FROM v_trials GROUP BY search_id")
    replaced = 2 * sum(number > 0 for _, number, _ in best)
    assert replaced, "the example must find better settings"
    body = json.loads(vr("report", "--format", "json").out)
    (row,) = body["rows"]
    assert (row["searches"], row["n"], row["trials"]) == (2, 4, 8)
    assert f"{replaced} runs of settings that a search has replaced: not counted" in body["notes"]


def test_runs_that_diverged_leave_no_mean_over_searches(vr, tmp_path) -> None:
    assert vr(*COMPARE).code == 0
    ids = [id for (id,) in _sql(tmp_path / "vr.db", "SELECT id FROM runs WHERE optimizer = 'sgd' AND trial_id IS NULL")]
    _sql(tmp_path / "vr.db", f"UPDATE runs SET status = 'diverged' WHERE id = {ids[0]}")
    row = _rows(vr)["sgd"]
    cell = row["metrics"]["test_loss"]
    assert (row["diverged"], cell["mean"], cell["diverged"]) == (1, None, 0)
    own = _values(tmp_path / "vr.db", "sgd")
    y = [own[0][1], statistics.mean(own[1]), statistics.mean(own[2])]  # of two, one lost: the other
    assert cell["values"] == pytest.approx(y)
    assert cell["median"] == pytest.approx(statistics.median(y))
    assert not cell["best"]
    text = vr("report").out
    line = next(line for line in text.splitlines() if "sgd" in line)
    assert "NaN" in line
    assert "1/6" in line
    assert "NaN of several searches: runs diverged, so there is no mean" in text
    _sql(tmp_path / "vr.db", f"UPDATE runs SET status = 'diverged' WHERE id = {ids[1]}")
    cell = _rows(vr)["sgd"]["metrics"]["test_loss"]
    assert (cell["diverged"], cell["values"][0]) == (1, None)
    assert math.isfinite(cell["median"])


def test_searches_stopped_half_way_keep_their_own_numbers(vr, tmp_path) -> None:
    assert vr(*COMPARE).code == 0
    last = "SELECT max(id) FROM runs WHERE optimizer = 'sgd' AND trial_id IS NULL"
    _sql(tmp_path / "vr.db", f"UPDATE runs SET status = 'interrupted' WHERE id = ({last})")
    row = _rows(vr)["sgd"]
    assert row["runs_of_searches"] == [2, 2, 1]
    assert "3 x 1-2" in vr("report", "--columns", "optimizer,n").out
    own = _values(tmp_path / "vr.db", "sgd")
    y = [statistics.mean(own[0]), statistics.mean(own[1]), own[2][0]]
    assert row["metrics"]["test_loss"]["values"] == pytest.approx(y)


def test_the_page_says_what_the_table_says(vr, tmp_path) -> None:
    assert vr(*COMPARE).code == 0
    assert vr("report", "--output", "page.html").code == 0
    text = (tmp_path / "page.html").read_text()
    assert "3 x 2" in text
    assert "3 x (3 + 9) x 3" in text
    assert "3, paired" in text  # three searches, not six seeds
    assert "6, paired" not in text


def test_what_optimizers_differ_in_beside_themselves_is_said(vr) -> None:
    words = ("compare", *TASK, "--opt", "vradam", "--opt", "sgd", "--seeds", 2)
    assert vr(*words, "--fix", "weight_decay=0.1", "--format", "json").code == 0
    assert json.loads(vr("report", "--format", "json").out)["warnings"] == []
    compared = json.loads(vr(*words, "--format", "json").out)
    (told,) = compared["warnings"]
    assert told["kind"] == "weight decay"
    assert told["text"] == "valley: weight decay differs and was not searched: vradam 1e-05, sgd 0"
    assert told["text"] in vr(*words).out
    assert "valley: weight decay differs" in vr("report").out


def test_models_of_different_size_are_said_to_stand_side_by_side(spirals, vr) -> None:
    sizes = set()
    for width in (4, 8):
        done = spirals("--opt", "sgd", "--hidden", width, "--format", "json")
        sizes.add(int(json.loads(done.out)["results"]["parameters"]))
    (told,) = [n for n in json.loads(vr("report", "--format", "json").out)["warnings"] if n["kind"] == "model size"]
    least, most = sorted(sizes)
    assert told["text"].endswith(f": models of different size stand side by side, {least:,}, {most:,} parameters")
    assert told["text"] in vr("report").out


def test_a_searched_weight_decay_is_no_difference(vr) -> None:
    space = ("--space", "vradam.weight_decay=log:1e-6:1e-2", "--space", "sgd.weight_decay=log:1e-6:1e-2")
    words = ("compare", *TASK, "--opt", "vradam", "--opt", "sgd", "--trials", 2, "--searches", 2, "--seeds", 1)
    done = vr(*words, "--search", "random", *space, "--format", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["warnings"] == []
    told = json.loads(vr("report", "--format", "json").out)["warnings"]
    assert not [note for note in told if note["kind"] == "weight decay"]


def test_sweeps_show_how_far_their_searches_lie_apart(vr, tmp_path) -> None:
    words = ("sweep", *TASK, "--opt", "vradam", "--opt", "sgd", "--trials", 3, "--search", "random", "--searches", 3,
             "--confirm-seeds", 2)  # fmt: skip
    done = vr(*words)
    query = "SELECT min(value) FROM v_trials WHERE optimizer = '{}' GROUP BY search_id ORDER BY search_seed"
    best = {name: [value for (value,) in _sql(tmp_path / "vr.db", query.format(name))] for name in ("vradam", "sgd")}
    fresh = {name: _values(tmp_path / "vr.db", name, "best_val_loss") for name in best}
    lines = done.out.splitlines()
    assert sum(line.startswith(("vradam ", "sgd ")) for line in lines) == 2
    for name in best:
        found, means = best[name], [statistics.mean(own) for own in fresh[name]]
        row = next(line for line in lines if line.startswith(f"{name} "))
        spread = f"{number(statistics.mean(found))} sd {number(statistics.stdev(found), 2)}"
        again = f"{number(statistics.mean(means))} sd {number(statistics.stdev(means), 2)}"
        assert row.split()[1:3] == ["3", "3"]
        assert spread in row
        assert again in row
        assert f"{name}  best val loss {spread} of 3 searches of 3 trials" in vr(*words, "--quiet").out
        told = json.loads(vr(*words, "--format", "json").out)["spread"][name]
        assert (told["searches"], told["best_val_loss"]["n"]) == (3, 3)
        assert told["best_val_loss"]["sd"] == pytest.approx(statistics.stdev(found))
        assert told["fresh_val_loss"]["mean"] == pytest.approx(statistics.mean(means))
        shown = vr("sweeps", "show", "1").out
        own = [line.split() for line in shown.splitlines() if line.startswith(f"{name} ") and "/3" in line]
        assert [line[1:4] for line in own] == [[str(k), "3/3", number(value)] for k, value in enumerate(found)]
        listed = vr("sweeps", "list").out
        for text in (shown, listed):
            assert f"{name}, 3 searches: best val {spread}; on fresh seeds test " in text
            assert f"best val {again}" in text
        heads = listed.splitlines()[0].split()
        assert heads[heads.index("optimizer") + 1] == "search"


def test_sweeps_of_one_search_each_are_shown_as_they_are(vr) -> None:
    words = ("sweep", *TASK, "--opt", "vradam", "--opt", "sgd", "--trials", 2, "--search", "random")
    assert "searches" not in vr(*words).out
    assert "search " not in vr("sweeps", "list").out.splitlines()[0]
    assert vr("sweeps", "show", "1").out.count("run the best with") == 2
