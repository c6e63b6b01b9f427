"""`vr report`: what can be asked for, what is refused, and what an empty database says."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from pathlib import Path

import pytest

from vrcli.db.store import Store


@pytest.fixture
def filled(stored) -> None:
    """Two optimizers on two tasks, three seeds each; one of two learning rates twice as good."""
    for task, scale in (("cnn", 1), ("transformer", 10)):
        for seed in range(3):
            stored("adamw", seed=seed, loss=scale * (0.2 + seed / 100), task=task)
            stored("vradam", seed=seed, loss=scale * (0.1 + seed / 100), task=task)
            stored("vradam", seed=seed, loss=scale * (0.3 + seed / 100), task=task, lr=0.1)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_optimizers_by_tasks(vr, filled) -> None:
    done = vr("report", "--pivot", "best_val_loss", "--spread", "none")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.out.splitlines() if line.startswith("|")]
    assert lines[0] == ["optimizer", "cnn", "transformer"]
    assert lines[2:] == [["vradam", "**0.1100**", "**1.100**"], ["adamw", "0.2100", "2.100"]]
    assert "(of up to 2)" in done.out
    turned = vr("report", "--pivot", "best_val_loss", "--columns", "optimizer", "--format", "csv")
    assert [row["task"] for row in rows_of(turned.out)] == ["cnn", "transformer"]
    by_rate = vr(
        "report", "cnn", "--opt", "vradam", "--pivot", "best_val_loss,test_loss", "--rows", "lr", "--format", "json"
    )
    assert [row["row"]["lr"] for row in json.loads(by_rate.out)["rows"]] == ["0.01", "0.1"]


@pytest.mark.parametrize("pivot", [(), ("--pivot", "test_loss")])
def test_a_paper_has_its_own_names_for_optimizers(vr, filled, pivot) -> None:
    words = ("report", "cnn", *pivot, "--names", "vradam=VRAdam,adamw=AdamW (ours)")
    assert {row["optimizer"] for row in rows_of(vr(*words, "--format", "csv").out)} == {"VRAdam", "AdamW (ours)"}
    assert "vradam" not in vr(*words).out


def test_a_latex_table_with_a_caption_is_a_float(vr, filled) -> None:
    words = ("report", "cnn", "--format", "latex_booktabs", "--caption", "50% of all & more", "--label", "tab:cnn")
    text = vr(*words).out
    lines = text.splitlines()
    assert lines[:3] == [r"% needs \usepackage{booktabs}", r"\begin{table}[t]", r"\centering"]
    assert lines[3:5] == [r"\caption{50\% of all \& more}", r"\label{tab:cnn}"]
    assert lines[-1] == r"\end{table}"
    assert text.index(r"\end{tabular}") < text.index(r"\footnotesize") < text.index(r"\end{table}")


def test_columns_that_were_asked_for(vr, filled) -> None:
    done = vr("report", "cnn", "--columns", "optimizer,lr,best_val_loss,n,budget", "--sort", "-lr", "--format", "text")
    lines = done.out.splitlines()
    assert lines[0].split() == ["optimizer", "lr", "best", "val", "loss", "n", "budget"]
    assert [line.split()[1] for line in lines[2:5]] == ["0.1", "0.01", "0.01"]
    several = vr("report", "--columns", "optimizer,n", "--format", "text").out.splitlines()
    assert several[0].split()[0] == "task", "rows of two tasks must not look alike"
    everything = vr("report", "--columns", "all").out
    for title in ("dataset", "preset", "ms/step", "peak memory", "s/run", "final val loss", "budget"):
        assert title in everything.splitlines()[0]


def test_pooling_by_a_setting_says_what_was_pooled(vr, stored) -> None:
    for lr in (0.1, 0.2):
        for width in (1, 2):
            stored("adamw", loss=lr + width, lr=lr, beta=width)
    rows = json.loads(vr("report", "--group-by", "lr", "--format", "json").out)["rows"]
    assert [(row["n"], row["pooled_over"]) for row in rows] == [(2, {"beta": 2}), (2, {"beta": 2})]
    assert "rows pool runs that differ in beta" in vr("report", "--group-by", "lr").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("--metric", "best_val_los"),
            "--metric best_val_los is not a result of these runs; did you mean best_val_loss?",
        ),
        (("--columns", "optimiser,n"), "--columns optimiser is not a column of these runs; did you mean optimizer?"),
        (("--sort", "-tes_loss"), "--sort tes_loss is not a column of these runs; did you mean test_loss?"),
        (("--group-by", "learning"), "--group-by learning is not a setting of these runs"),
        (("--pivot", "tst_loss"), "--pivot tst_loss is not a result of these runs; did you mean test_loss?"),
        (("--rows", "tasks"), "--rows tasks is not a row of these runs; did you mean task?"),
        (("--rows", "task", "--columns", "task"), "--rows and --columns are both task"),
        (("--pivot", "test_loss", "--columns", "task,lr"), "--columns names one thing with --pivot"),
        (("--pivot", "test_loss", "--group-by", "lr"), "leave one of them out"),
        (("--pivot", "test_loss", "--sort", "n"), "--sort n is not a row or result"),
        (("--pivot", "test_loss", "--sort", "task"), "--sort task is not a row or result"),
        (("--pivot", "test_loss", "--columns", "optimizer", "--sort", "optimizer"), "--sort optimizer is not a row"),
        (("cnn", "--pivot", "test_loss", "--columns", "lr", "--sort", "task"), "--sort task is not a row or result"),
        (("--pivot", "test_loss", "--columns", "all"), "--columns all is not a column"),
        (("--pivot", "test_loss", "--best"), "--best: --pivot shows the best settings in each cell anyway"),
        (("--pivot", ","), "--pivot names nothing"),
        (("--columns", ""), "--columns names nothing"),
        (("--group-by", ""), "--group-by names nothing"),
        (("--sort", "-"), "--sort names nothing"),
        (("--rows", ""), "--rows names nothing"),
        (("--group-by", "batch_size", "--sort", "-lr"), "--sort lr: --group-by pools runs that differ in it"),
        (("--spread", "cii"), "--spread cii is not one of "),
        (("--level", "95"), "--level must be between 0 and 1, got 95"),
        (("--format", "mardown"), "--format mardown is not one of csv, "),
        (("--output", "missing/table.md"), "--output missing/table.md: there is no folder missing"),
        (("--output", "."), "--output . is a folder"),
        (("--names", "vradma=VRAdam"), "--names vradma is not an optimizer of these runs; did you mean vradam?"),
        (("--names", "vradam"), "--names vradam must be optimizer=name, as in vradam=VRAdam"),
        (("--caption", "x"), "--caption belongs to a LaTeX table: --format latex_booktabs"),
        (("--label", "x", "--format", "latex_longtable"), "--label belongs to a LaTeX table"),
        (("transfomer",), "did you mean transformer?"),
        (("--opt", "adamv"), "did you mean adamw?"),
        (("--where", "lr>5"), "none of the 18 stored runs matches"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(vr, filled, words, says) -> None:
    done = vr("report", *words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["final_train_loss", "test_loss", "test_accuracy", "wall_s"])
def test_settings_are_chosen_on_the_validation_set(vr, stored, name: str) -> None:
    """Of two settings one is better on validation and the other by every result that must not choose."""
    for lr, loss, tempting in ((0.1, 0.1, 0.9), (0.2, 0.5, 0.1)):
        results = {"final_train_loss": tempting, "test_loss": tempting, "test_accuracy": loss, "wall_s": tempting}
        stored("adamw", loss=loss, lr=lr, results=results)
    for words in (["--best", "--metric", name], ["--pivot", name]):
        shown = json.loads(vr("report", *words, "--format", "json").out)
        (row,) = shown["rows"]
        (cell,) = row.get("cells", [row])
        assert cell["settings"]["lr"] == 0.1
        assert cell["metrics"][name]["mean"] == (0.1 if name == "test_accuracy" else 0.9)
        assert any("best val loss" in note for note in shown["notes"])


def test_all_stands_for_every_column(vr, filled) -> None:
    heads = vr("report", "cnn", "--columns", "all,lr", "--metric", "test_loss", "--format", "text").out.splitlines()[0]
    alone = vr("report", "cnn", "--columns", "all", "--format", "text").out.splitlines()[0]
    titles = [re.split(r"\s{2,}", line.strip()) for line in (heads, alone)]
    assert "all" not in heads.split()
    assert sorted(titles[0]) == sorted([*titles[1], "lr"])
    assert titles[1].index("best val loss") < titles[1].index("epochs"), "the first result orders the rows"


def test_notes_are_about_what_is_shown(vr, filled, stored) -> None:
    for seed in range(3):
        stored("lost", seed=seed, loss=0.1, status="diverged" if seed else "completed")
    full = vr("report", "cnn").out
    for mark in ("± is", "†", "‡", "**"):
        assert mark in full
    for columns in ("optimizer,n", "optimizer,lr,settings,n"):
        bare = vr("report", "cnn", "--columns", columns).out
        for mark in ("±", "†", "‡", "**", "NaN"):
            assert mark not in bare, mark
    stored("alone", loss=5.0, epochs=9)
    assert "§ budgets" in vr("report", "cnn", "--columns", "optimizer,budget").out
    assert "§" not in vr("report", "cnn", "--columns", "optimizer,n").out
    assert "n = 1 is not tested" in vr("report", "cnn", "--columns", "optimizer,best_val_loss").out
    assert "n = 1 is not tested" not in vr("report", "cnn", "--columns", "optimizer,n").out
    everything = json.loads(vr("report", "cnn", "--columns", "optimizer,n", "--format", "json").out)
    assert any("±" in note for note in everything["notes"]), "there every number is shown"


def test_what_was_pooled_over_is_counted_in_its_column(vr, filled) -> None:
    rows = vr("report", "cnn", "--group-by", "width", "--columns", "optimizer,lr", "--format", "text").out.splitlines()
    assert {tuple(row.split()[:3]) for row in rows[2:4]} == {("vradam", "2", "values"), ("adamw", "0.01")}


def test_the_best_by_a_result_of_the_tasks_own(vr, stored) -> None:
    """What the task declares decides whether less or more is better."""
    for lr, distinct in ((0.1, 9.0), (0.2, 2.0)):
        results = {"best_val_distinct": distinct, "val_reward": distinct, "test_reward": 1.0}
        stored(
            "adamw",
            task="gflownet",
            lr=lr,
            loss=distinct,
            results=results,
            objective="distinct",
            larger=["distinct", "reward"],
        )
    for name, by in (("val_reward", "val reward"), ("test_reward", "best val distinct")):
        for words in (["--best", "--metric", name], ["--pivot", name]):
            shown = json.loads(vr("report", *words, "--format", "json").out)
            (cell,) = shown["rows"][0].get("cells", shown["rows"])
            assert cell["settings"]["lr"] == 0.1
            assert any(f"by {by}" in note for note in shown["notes"])


def test_what_nobody_knows_the_best_of_is_refused_by_its_name(vr, stored) -> None:
    for lr in (0.1, 0.2):
        stored("adamw", lr=lr, results={"best_val_a": lr, "test_a": lr}, objective="a")
    for words in (["--best", "--metric", "test_a"], ["--pivot", "test_a"]):
        done = vr("report", *words)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"vr: {words[0]}: whether less or more best_val_a is better is not known")
    assert vr("report", "--pivot", "test_a", "--rows", "lr").code == 0, "nothing is chosen there"


def test_filters_reach_the_table(vr, filled) -> None:
    rows = rows_of(vr("report", "--where", "task=cnn lr<0.05", "--opt", "vradam", "--format", "csv").out)
    assert [(row["task"], row["optimizer"], row["n"]) for row in rows] == [("cnn", "vradam", "3")]


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("t.md", "| task"), ("t.tex", "% needs \\usepackage{booktabs}"), ("t.csv", "task,dataset"), ("t.json", "{"),
        ("t.txt", "task"), ("t.tsv", "task\tdataset"), ("t", "| task"),
    ],
)  # fmt: skip
def test_the_ending_of_the_file_names_the_format(vr, filled, name: str, begins: str) -> None:
    done = vr("report", "cnn", "--output", name)
    assert done.code == 0
    assert done.out == ""
    assert f"wrote {name}: " in done.err
    assert Path(name).read_text(encoding="utf-8").startswith(begins)


def test_html_is_a_table_on_the_screen_and_a_page_in_a_file(vr, filled) -> None:
    shown = vr("report", "--format", "html")
    assert shown.out.startswith("<table>")
    assert "--output report.html makes a whole page" in shown.err
    assert vr("report", "--output", "page.html").code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "vradam" in page


@pytest.mark.parametrize(
    "words",
    [
        ("--best",),
        ("--trials",),
        ("--level", "0.9"),
        ("--spread", "sd"),
        ("--sort", "lr"),
        ("--columns", "n"),
        ("--pivot", "test_loss"),
        ("--group-by", "lr"),
    ],
)
def test_what_would_not_change_the_page_is_refused(vr, filled, words) -> None:
    done = vr("report", "--output", "page.html", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"vr: {words[0]} does not change the page")
    assert not Path("page.html").exists()


@pytest.mark.parametrize(("format", "out"), [("markdown", ""), ("csv", "task,"), ("json", "{"), ("latex", "")])
def test_an_empty_database_says_what_to_do_and_is_no_error(vr, tmp_path, format, out) -> None:
    Store.open(tmp_path / "vr.db").close()
    done = vr("report", "--format", format)
    assert done.code == 0
    assert "start with: vr run cnn" in done.err
    assert done.out.startswith(out)
    assert bool(done.out) == bool(out)
    if format == "json":
        assert json.loads(done.out)["rows"] == []


def test_a_table_fits_a_page_or_says_what_it_left_out(vr, filled, stored) -> None:
    stored("an_optimizer_of_a_long_name", loss=0.5, lr=0.123456, momentum=0.987654, nesterov=True)
    done = vr("report", "cnn")
    assert "not shown, to keep to 100 columns" in done.err
    assert "(--columns all shows everything)" in done.err
    assert "settings" in done.out, "two rows of one optimizer are told apart by them"


def test_runs_that_are_in_no_table_are_counted_by_their_end(vr, stored) -> None:
    stored("adamw")
    stored("adamw", seed=1, status="failed")
    stored("adamw", seed=2, status="interrupted")
    done = vr("report")
    assert "1 interrupted, 1 failed: runs that are not in the table" in done.err


def test_the_budget_does_not_follow_a_sweep_that_goes_on(vr, stored) -> None:
    """Three trials, a confirming run, then two more trials: the run was chosen from three."""
    first = stored("adamw", loss=0.1)
    confirming = stored("adamw", seed=5, loss=0.12)
    path = Path("vr.db")
    with sqlite3.connect(path) as db:
        for table in ("sweeps", "searches"):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            known = {
                "id": 1, "status": "completed", "task": "cnn", "settings": "{}", "trials": 5, "pid": 1, "sweep_id": 1,
                "created_at": "2026-01-01 00:00:00", "updated_at": "2026-01-01 00:00:00", "search_seed": 0,
            }  # fmt: skip
            row = [known.get(column, "x") for column in columns]
            db.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(columns))})", row)
        (begun,) = db.execute("SELECT created_at FROM runs WHERE id = ?", (confirming,)).fetchone()
        for number in range(5):
            ended = "2026-01-01 00:00:00" if number < 3 else "2999-01-01 00:00:00"
            db.execute(
                "INSERT INTO trials (id, uuid, search_id, number, params, state, value, attempt, created_at, "
                "finished_at) VALUES (?, ?, 1, ?, '{}', 'completed', 0.1, 1, ?, ?)",
                (number + 1, str(number), number, begun, ended),
            )
        db.execute("UPDATE runs SET sweep_id = 1, search_id = 1, trial_id = 1 WHERE id = ?", (first,))
        db.execute("UPDATE runs SET sweep_id = 1, search_id = 1 WHERE id = ?", (confirming,))
    (row,) = json.loads(vr("report", "--format", "json").out)["rows"]
    assert (row["trials"], row["searched"], row["runs"]) == (3, False, [confirming])
    both = json.loads(vr("report", "--trials", "--format", "json").out)["rows"]
    assert {(row["trials"], row["searched"], *row["runs"]) for row in both} == {
        (3, False, confirming),
        (5, True, first),
    }


def test_the_usual_table_is_the_one_of_its_columns_by_name(vr, filled) -> None:
    """It reads fewer results than are stored, which must not be seen."""
    named = [word for name in ("test_loss", "best_val_loss", "val_accuracy") for word in ("--metric", name)]
    assert vr("report", "--format", "csv").out == vr("report", "--format", "csv", *named).out


@pytest.mark.parametrize("format", ["html", "csv", "markdown", "json"])
def test_the_database_that_is_read_is_never_written_over(vr, filled, format: str) -> None:
    before = Path("vr.db").read_bytes()
    Path("link.out").symlink_to("vr.db")
    for name in ("vr.db", "link.out"):
        done = vr("report", "--format", format, "--output", name)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"vr: --output {name} is the database that is read; name another file\n"
    assert Path("vr.db").read_bytes() == before


def test_the_page_names_its_command_without_the_password(vr, filled, monkeypatch) -> None:
    from vrcli.cli import request

    monkeypatch.setattr(request, "open_existing", lambda _: Store.open("vr.db", mode="read"))
    done = vr("report", "cnn", "--output", "p.html", "--db", "postgresql://user:SECRET@host/db")
    assert done.code == 0
    page = Path("p.html").read_text(encoding="utf-8")
    assert "SECRET" not in page
    assert "user:***@host" in page


def test_a_file_has_every_column_and_a_screen_what_fits(vr, filled, stored) -> None:
    for lr in (0.1, 0.2):
        stored("a_rather_long_name_of_an_optimizer", lr=lr, another_setting="x" * 30)
    shown = vr("report")
    assert "not shown, to keep to 100 columns" in shown.err
    assert vr("report", "--output", "whole.md").err == "wrote whole.md: markdown\n"
    assert "val acc" in Path("whole.md").read_text(encoding="utf-8")
    assert "not shown" not in vr("report", "--format", "latex_booktabs").err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--output", "x.png"), "tables end in .html"),
        (("--output", "x.csv", "--format", "json"), "would hold json"),
        (("--output", "x.html", "--format", "csv"), "would hold csv"),
        (("--output", "x.tex", "--format", "markdown"), "would hold markdown"),
    ],
)
def test_a_file_holds_what_its_ending_says(vr, filled, words, says) -> None:
    done = vr("report", *words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert not Path(words[1]).exists()


def test_a_file_of_any_other_ending_takes_the_format_that_is_named(vr, filled) -> None:
    assert vr("report", "--output", "x.foo", "--format", "latex").code == 0
    assert "tabular" in Path("x.foo").read_text(encoding="utf-8")


def test_csv_has_the_columns_that_were_asked_for_and_no_others(vr, filled) -> None:
    done = vr("report", "--format", "csv", "--columns", "optimizer,lr,n,budget,test_loss")
    head = next(csv.reader(io.StringIO(done.out)))
    assert head[:9] == ["optimizer", "lr", "n", "searches", "trials", "reranked", "epochs", "max_steps", "until"]
    assert head[9:] == [f"test_loss_{key}" for key in ("mean", "sd", "median", "low", "high", "n")]


def test_runs_can_be_pooled_by_a_setting_that_is_called_like_a_result(vr, stored) -> None:
    for epochs in (4, 8):
        for seed in range(2):
            stored("adamw", seed=seed, epochs=epochs)
    found = vr("report", "--group-by", "epochs", "--columns", "optimizer,n,budget")
    assert found.code == 0, found.err
    assert "1 x 4" in found.out
    assert "1 x 8" in found.out
    assert vr("report", "--pivot", "best_val_loss", "--rows", "epochs").code == 0
