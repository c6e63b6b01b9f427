"""Tables with one row per optimizer and one column per task: what falls in which cell, what is marked, what is said."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vrcli.report.tables.pivot import cells, pivot, render
from vrcli.results.summary import summarise
from vrcli.results.types import Column

GOLDEN = Path(__file__).parent / "golden"
LOSS = Column.of("best_val_loss")
TEST = Column.of("test_loss")


def laid_out(runs, metrics=(LOSS,), rows="optimizer", columns="task", sort=None, **more):
    table = summarise(runs, [*metrics, LOSS], **more)
    return pivot(table, metrics, rows=rows, columns=columns, chosen_by=LOSS, sort=sort)


def grid(found) -> dict[str, list[str]]:
    """Texts by row label, bold ones with a star."""
    _, lines = cells(found)
    width = len(found.names)
    return {
        " ".join(text for text, _ in line[:width]): [text + "*" * bold for text, bold in line[width:]] for line in lines
    }


@pytest.fixture
def runs(make_run):
    values = {
        ("cnn", "vradam"): (0.10, 0.11, 0.12), ("cnn", "adamw"): (0.20, 0.21, 0.22), ("cnn", "sgd"): (0.12, 0.12, 0.10),
        ("transformer", "vradam"): (5.9, 6.0, 6.1), ("transformer", "adamw"): (5.0, 5.1, 5.2),
    }  # fmt: skip
    found = [
        make_run(optimizer, seed, value, task=task, dataset="digits" if task == "cnn" else "wikitext")
        for (task, optimizer), losses in values.items() for seed, value in enumerate(losses)
    ]  # fmt: skip
    return found + [make_run("sgd", s, 9.0, task="transformer", dataset="wikitext", status="diverged") for s in (0, 1)]


def test_rows_are_optimizers_and_columns_tasks(runs) -> None:
    found = laid_out(runs, spread="none")
    assert found.heads == ("cnn", "transformer")
    assert grid(found) == {
        "vradam": ["0.1100*", "6.000"],
        "sgd": ["0.1133 †", "NaN"],
        "adamw": ["0.2100", "5.100*"],
    }
    assert "cnn: digits, quick, n = 3, budget 1 x 20" in found.notes
    assert "transformer: wikitext, quick, n = 2 to 3, budget 1 x 20" in found.notes
    assert found.notes[0] == "best val loss; means over n seeds"


def test_each_cell_is_the_row_of_the_table(runs) -> None:
    table = summarise(runs, [LOSS])
    found = laid_out(runs)
    for (label,), line in found.lines:
        for head, row in zip(found.heads, line, strict=True):
            (same,) = [r for r in table.rows if (r.optimizer, r.task) == (label, head)]
            assert row is not None
            assert row.cells["best_val_loss"].summary == same.cells["best_val_loss"].summary or row.diverged


def test_several_results_stand_beside_each_other(runs) -> None:
    found = laid_out(runs, (LOSS, TEST))
    heads, _ = cells(found)
    assert [title for title, _ in heads] == [
        "optimizer",
        "cnn: best val loss", "cnn: test loss", "transformer: best val loss", "transformer: test loss",
    ]  # fmt: skip
    one = laid_out([run for run in runs if run.task == "cnn"], (LOSS, TEST))
    assert [title for title, _ in cells(one)[0]] == ["optimizer", "best val loss", "test loss"]


def test_other_data_and_presets_are_columns_of_their_own(make_run) -> None:
    runs = [make_run(o, 0, 0.1, preset=p) for o in "ab" for p in ("quick", "paper")]
    runs += [make_run(o, 0, 0.3, dataset="cifar10", preset="paper") for o in "ab"]
    assert laid_out(runs).heads == ("cnn (cifar10, paper)", "cnn (digits, paper)", "cnn (digits, quick)")
    again = [make_run("a", 0, 0.1, fingerprint=name * 8) for name in ("a", "b")]
    assert laid_out(again).heads == ("cnn (digits#aaaaaa, quick)", "cnn (digits#bbbbbb, quick)")


def test_what_is_neither_row_nor_column_tells_rows_apart(make_run) -> None:
    runs = [
        make_run(o, 0, 0.1 + i, task=t, dataset=d)
        for i, (o, t, d) in enumerate((o, t, d) for o in "ab" for t in ("cnn", "mlp") for d in ("x", "y"))
    ]
    found = laid_out(runs, columns="dataset")
    assert (found.names, found.heads) == (("task", "optimizer"), ("x", "y"))
    assert [label for label, _ in found.lines] == [("cnn", "a"), ("cnn", "b"), ("mlp", "a"), ("mlp", "b")]
    by_task = laid_out(runs, rows="dataset", columns="task")
    assert by_task.names == ("optimizer", "dataset")
    assert all(row is not None for _, line in by_task.lines for row in line)


def test_a_setting_can_be_the_columns(make_run) -> None:
    runs = [make_run(o, 0, abs(lr - 0.01) + 0.1 * (o == "b"), lr=lr) for o in "ab" for lr in (0.1, 0.001, 0.01)]
    found = laid_out(runs, columns="lr")
    assert found.heads == ("lr=0.001", "lr=0.01", "lr=0.1")
    assert grid(found) == {
        "a": ["0.009000*", "0*", "0.09000*"],
        "b": ["0.1090", "0.1000", "0.1900"],
    }
    turned = laid_out(runs, rows="lr", columns="optimizer")
    assert [label for label, _ in turned.lines] == [("0.001",), ("0.01",), ("0.1",)]
    assert [texts[0][-1] for texts in grid(turned).values()] == ["*"] * 3, "the best of each line, where lines compete"


def test_of_several_settings_the_best_on_validation_is_shown_and_said(make_run) -> None:
    runs = [
        make_run("a", s, 0.3 - lr + s / 100, lr=lr, results={"test_loss": lr}) for lr in (0.1, 0.2) for s in range(3)
    ]
    runs += [make_run("b", s, 0.5) for s in range(3)]
    found = laid_out(runs, (TEST,), spread="none")
    assert grid(found)["a"] == ["0.2000*"], "worse on the test set, but chosen on the validation set"
    said = "each cell has the settings found with the most trials, fresh seeds before a search's own, and of equals"
    assert f"{said} the best by best val loss (of up to 2)" in found.notes
    assert not any("sweep" in note for note in found.notes)
    assert any("budget 1 x 20 and 2 x 20 §" in note for note in found.notes)
    # A lucky trial of a search is not chosen where there is a run on a fresh seed.
    lucky = [replace(make_run("a", 0, 0.001, lr=0.3, results={"test_loss": 7.0}), search_id=1, trial_id=1)]
    assert grid(laid_out([*runs, *lucky], (TEST,), spread="none"))["a"] == ["0.2000*"]
    searched = {lucky[0].id: 8}
    turned = laid_out([*runs, *lucky], (TEST,), spread="none", trials=searched)
    assert grid(turned)["a"] == ["0.2000*"]
    assert any(note.startswith("a: the best of a sweep is not shown") for note in turned.notes)


def test_lines_are_in_order_of_their_mean_rank(make_run) -> None:
    losses = {"a": (3, 1, 3), "b": (1, 2, 1), "c": (2, 3, 2)}
    runs = [make_run(o, 0, v, task=f"t{i}") for o, own in losses.items() for i, v in enumerate(own)]
    assert [label for label, _ in laid_out(runs).lines] == [("b",), ("a",), ("c",)]
    assert [label for label, _ in laid_out(runs, sort="optimizer").lines] == [("a",), ("b",), ("c",)]
    assert [label for label, _ in laid_out(runs, sort="-optimizer").lines] == [("c",), ("b",), ("a",)]


def test_golden(runs) -> None:
    expected = (GOLDEN / "pivot_markdown.txt").read_text(encoding="utf-8")
    assert render(laid_out(runs, (LOSS, TEST)), "markdown").rstrip("\n") + "\n" == expected


def test_raw_formats_have_the_numbers(runs) -> None:
    found = laid_out(runs)
    (row,) = [r for r in csv.DictReader(io.StringIO(render(found, "csv"))) if r["optimizer"] == "vradam"]
    assert float(row["cnn best_val_loss_mean"]) == pytest.approx(0.11)
    assert float(row["cnn best_val_loss_sd"]) == pytest.approx(np.std((0.10, 0.11, 0.12), ddof=1))
    assert row["cnn best_val_loss_n"] == "3"
    body = json.loads(render(found, "json"), parse_constant=pytest.fail)
    lost = next(r for r in body["rows"] if r["row"]["optimizer"] == "sgd")["cells"][1]
    assert (lost["column"], lost["diverged"], lost["metrics"]["best_val_loss"]["mean"]) == ("transformer", 2, None)


def test_a_cell_without_runs_is_a_dash(runs) -> None:
    found = laid_out([run for run in runs if (run.task, run.optimizer) != ("cnn", "adamw")], spread="none")
    assert grid(found)["adamw"] == ["-", "5.100*"]
    assert ",,,,,0," in render(found, "csv")
