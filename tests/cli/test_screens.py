"""Screens of 80 and 120 columns: no word is broken, nothing is lost without a word, and the verdict comes first."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from vrcli.cli.console import folded
from vrcli.cli.lazy import COMMANDS
from vrcli.cli.screen import command_lines, fit
from vrcli.report.study.blocks import Rows
from vrcli.report.study.claims import Claim, sentences

sys.path.insert(0, str(Path(__file__).parents[1]))
from terminals import lines, raw, text_of

LONG = {"note": "one-long-word-without-a-space", "momentum": 0.123456, "nesterov": True, "dampening": 0.1}
ROWS = Rows.of(
    [
        {
            "id": 1,
            "task": "cnn",
            "settings": "lr=0.1 beta3=1 momentum=0.9 weight_decay=0.0001",
            "seed": 0,
            "val": "0.1",
        },
        {"id": 12, "task": "cnn", "settings": "lr=0.2", "seed": 1, "val": "0.2"},
    ],
    wrap=["settings"],
    least=["seed", "task", "val"],
    best={"val": {0}},
)


@pytest.fixture
def runs(stored: Any, searched: Any) -> None:
    """A database with runs of several tasks, long settings, every kind of end, and a sweep."""
    stored("vradam", **LONG)
    stored("vradam", seed=1)
    stored("sgd", status="diverged", task="transformer", dataset="wikitext2-mini")
    stored("adamw", loss=0.2, tag="mine", weight_decay=0.000123456)


@pytest.mark.parametrize("width", [80, pytest.param(120, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "words",
    [
        ("runs", "list"), ("runs", "show", "11"), ("report",), ("opts", "show", "vradam"),
        *(pytest.param(words, marks=pytest.mark.slow)
          for words in (("runs", "diff", "11", "12"), ("tasks", "list"), ("tasks", "show", "cnn"), ("db", "info"))),
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_word_is_broken(vr, runs, tmp_path: Path, width: int, words: tuple[str, ...]) -> None:
    seen = lines(tmp_path, *words, width=width)
    assert max(map(len, seen)) <= width
    done = vr(*words, *(("--output", "whole.txt") if words == ("report",) else ()))
    whole = done.out + done.err + ((tmp_path / "whole.txt").read_text() if words == ("report",) else "")
    piped = {word for line in whole.splitlines() if not line.startswith("wrote") for word in line.split()}
    ends = r"\* |left out|all rows|next|repeat it with"
    said = next((at for at, line in enumerate(seen) if re.match(ends, line)), None)
    shown = {word for line in seen[:said] for word in line.split() if re.search("[a-z]", word)}
    assert {word for word in shown - piped if not rounded(word, piped)} == set()  # a part of a word is not one of them
    if said is None or not any(line.startswith(("left out", "all rows")) for line in seen):
        lost = {word for word in piped - {word for line in seen for word in line.split()} if re.search("[a-z]", word)}
        assert {word for word in lost if not rounded(word, shown)} == set()


def rounded(word: str, exact: set[str]) -> bool:
    """Whether a setting is one of these with other digits."""
    name, _, value = word.partition("=")
    others = [other.partition("=")[2] for other in exact if other.startswith(f"{name}=") and other != word]
    with suppress(ValueError):
        return bool(value) and any(float(value) == pytest.approx(float(other), rel=0.005) for other in others)
    return False


@pytest.mark.parametrize("width", [80, 120])
def test_a_list_names_every_column_that_it_leaves_out(vr, runs, tmp_path: Path, width: int) -> None:
    seen = lines(tmp_path, "runs", "list", width=width)
    text = " ".join(" ".join(seen).split())
    heading = " ".join(" ".join(line.split()) for line in seen[:3])
    for name in ("id", "when", "task", "dataset", "optimizer", "settings", "seed", "status", "time"):
        assert name in heading or re.search(rf"(left out|all rows):[^*]*\b{name}\b", text), name
    for run in json.loads(vr("runs", "list", "--format", "json").out):
        line = next(line for line in seen if line.split()[:1] == [str(run["id"])])
        assert run["optimizer"] in line
        assert run["status"] in line
    assert f"note={LONG['note']}" in text.split()


def test_a_screen_rounds_what_a_search_chose_and_nothing_else(vr, runs, tmp_path: Path) -> None:
    text = " ".join(lines(tmp_path, "runs", "list", width=120))
    assert "momentum=0.123456" in text  # somebody's choice
    stored = json.loads(vr("runs", "show", "11", "--format", "json").out)
    assert stored["spec"]["optimizer_settings"]["momentum"] == LONG["momentum"]


def test_without_colour_the_same_is_said(runs, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "vr.db")) as connection, connection:  # no clock between the two
        connection.execute("UPDATE runs SET created_at = '2020-01-01 00:00:00.000000'")
    coloured, plain = (raw(tmp_path, "runs", "list", width=100, **more) for more in ({}, {"NO_COLOR": "1"}))
    assert "\x1b[31mdiverged" in coloured
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain)
    said = [[line for line in text_of(one) if line] for one in (coloured, plain)]
    assert said[0] == said[1]
    assert re.search(r"\d\*", "".join(text_of(plain)))  # the best value is marked without colour, too


def test_next_steps_name_the_database_that_is_not_found_by_itself(runs, tmp_path: Path) -> None:
    (tmp_path / "vr.db").rename(tmp_path / "my runs.db")
    seen = lines(tmp_path, "runs", "list", "--db", "my runs.db", width=120)
    step = next(line for line in seen if line.startswith("next"))
    assert "--db 'my runs.db'" in step
    assert "--db" not in "".join(lines(tmp_path, "runs", "list", width=120, VR_DB="my runs.db"))


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"run", "sweep", "compare", "report"}))
def test_no_summary_of_a_command_is_cut(name: str) -> None:
    group: Any = typer.main.get_command(importlib.import_module(f"vrcli.cli.{name}").app)
    room = 80 - len("  ") - max(map(len, group.commands)) - len("    ")
    cut = [word for word, command in group.commands.items() if command.get_short_help_str(room).endswith("...")]
    assert not cut


@pytest.mark.parametrize("width", [20, 30, 36, 200])
def test_columns_are_left_out_in_their_order(width: int) -> None:
    found = fit(ROWS, width)
    assert sum(found.widths.values()) + 2 * (len(found.widths) - 1) <= width
    gone = [name for name in ROWS.columns if name not in found.widths]
    assert set(gone) == {*found.same, *found.left_out}
    assert found.same in ({}, {"task": "cnn"})  # what is the same in all rows needs no column, and goes first
    assert gone[:1] == ["task"] or (not gone and width == 200)
    assert "id" in found.widths


def test_a_command_stays_one_command_over_several_lines() -> None:
    command = "vr run cnn --opt vradam --tag 'two words here' --lr 0.0321375 --beta3 1.25839 --no-normgrad"
    told = command_lines(command, 40)
    assert max(map(len, told)) <= 40
    assert all("'two words here'" in line for line in told if "two" in line)
    assert shlex.split("\n".join(told).replace("\\\n", "")) == shlex.split(command)
    assert folded("a" * 100, 40, 4) == ["a" * 100]  # a word is never broken
    assert folded("best 0.1 (epoch 2)   test loss 0.2", 30, 0) == ["best 0.1 (epoch 2)", "test loss 0.2"]


@pytest.mark.parametrize(
    ("order", "claims", "said"),
    [
        ("abc", [("a", "b", None), ("a", "c", "a"), ("b", "c", "b")],
         "Undecided between a and b. Both are better than c."),
        ("abc", [("a", "b", "a"), ("a", "c", "a"), ("b", "c", None)],
         "a is better than b and c. Undecided between b and c."),
        ("abc", [("a", "b", None), ("a", "c", None), ("b", "c", None)], "Undecided between a, b and c."),
        ("abc", [("a", "b", None), ("a", "c", "a"), ("b", "c", None)],
         "Undecided between a and b. a is better than c. Undecided between b and c."),
        ("ba", [("a", "b", "b")], "b is better than a."),
        ("ab", [("a", "b", None, "within 0.01")], "a and b are equal within 0.01."),
    ],
)  # fmt: skip
def test_a_verdict_says_every_pair_in_few_sentences(order: str, claims: list[Any], said: str) -> None:
    assert sentences([Claim(*one) for one in claims], order) == said


def test_a_verdict_names_settings_where_it_is_about_them() -> None:
    said = sentences([Claim("a", "b", "a")], "ab", {"a": "a (lr=1)", "b": "b (lr=2)"})
    assert said == "a (lr=1) is better than b (lr=2)."


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_comparison_says_the_verdict_then_the_tables_then_what_is_next(vr, inline, tmp_path: Path) -> None:
    task = "vrcli.cli.scaffold.task_template:Spirals"
    words = ("compare", task, "--opt", "adamw", "--opt", "sgd", "--trials", "2", "--searches", "2", "--seeds", "1")
    words = (*words, "--search", "random", "--preset", "smoke", "--epochs", "2", "--threads", "1")
    out = vr(*words).out.splitlines()
    verdict = next(i for i, line in enumerate(out) if re.fullmatch(r"Undecided.*\.|.* better than .*\.", line))
    table = next(i for i, line in enumerate(out) if "s/run" in line)
    pairs = next(i for i, line in enumerate(out) if line.startswith("pair "))
    following = next(i for i, line in enumerate(out) if line.startswith("next "))
    assert verdict < table < pairs < following
    assert not any("independent search" in line for line in out)
    explained = vr(*words, "--explain").out
    assert "over 2 independent searches of 2 trials each" in explained
    assert "would show: the true difference" in explained
    assert vr(*words, "--quiet").out.splitlines() == [out[verdict]]
    assert json.loads(vr(*words, "--format", "json").out)["verdict"] == out[verdict]
    step = next(line for line in out if "--explain" in line).removeprefix("next").strip().split("   ")[0]
    assert shlex.split(step) == ["vr", *words, "--explain"]  # ready to copy
    seen = lines(tmp_path, *words, width=80)
    assert [line for line in seen[seen.index(out[verdict]) :] if len(line) > 80] == []


@pytest.mark.slow
def test_a_sign_moves_while_nothing_can_be_counted(tmp_path: Path) -> None:
    words = ("run", "vrcli.cli.scaffold.task_template:Spirals", "--preset", "smoke", "--threads", "1")
    text = raw(tmp_path, *words, width=100)
    first = min((text.find(sign) for sign in ("importing torch", "starting") if sign in text), default=-1)
    assert 0 <= first < text.find("epoch")
    piped = subprocess.run([sys.executable, "-m", "vrcli", *words], cwd=tmp_path, capture_output=True, text=True)
    assert "importing torch" not in piped.stderr
    assert "\x1b" not in piped.stderr + piped.stdout


def test_an_option_and_its_value_stay_in_one_line() -> None:
    command = "vr run cnn --opt vradam --lr 0.0182 --beta3 1.25 --nesterov --seed 3"
    told = command_lines(command, 30)
    assert len(told) > 2
    assert " ".join(line.removesuffix(" \\").strip() for line in told) == command
    assert not [line for line in told if re.search(r"--(opt|lr|beta3|seed) ?\\?$", line)]
