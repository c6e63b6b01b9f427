"""Text of others on the terminal: what a received database or a typed word says is shown, never obeyed."""

from __future__ import annotations

import ast
import csv
import io
import json
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import vrcli
from vrcli.cli import console
from vrcli.errors import UsageError, is_out_of_memory
from vrcli.output import CsvWriter
from vrcli.search.definition import Definition
from vrcli.visible import has_controls, visible, visible_json

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\n\x9b31m\u202ekcab\u2028\x7f"
SHOWN = r"a\x1b[2J\x1b]0;title\x07\r\n\x9b31m\u202ekcab\u2028\x7f"


def test_controls_are_written_out_and_words_stay() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("a\nb\tc", lines=True) == "a\nb\\tc"
    words = "naïve 模型 ±0.1 👩‍🔬 \\x1b"
    assert visible(words) == words
    assert not has_controls(words)
    assert visible("\udcff") == r"\udcff"
    text = visible_json(json.dumps([HOSTILE, words], ensure_ascii=False, indent=1))
    assert json.loads(text) == [HOSTILE, words]
    assert not has_controls(text.replace("\n", ""))


@pytest.fixture
def received(stored: Callable[..., int], searched: pd.DataFrame, tmp_path: Path) -> None:
    """A database whose every text that vr shows is hostile."""
    stored("sgd", tag="x", dataset="x", task="x", preset="x", status="failed")
    with closing(sqlite3.connect(tmp_path / "vr.db")) as plain, plain:
        for column in ("name", "task", "preset", "dataset", "optimizer", "tag", "run_group", "host", "error"):
            plain.execute(f"UPDATE runs SET {column} = ?1 || id WHERE status <> 'completed'", (HOSTILE,))
        plain.execute("UPDATE sweeps SET name = ?1 || id, task = ?1, dataset = ?1, preset = ?1", (HOSTILE,))
        plain.execute("UPDATE searches SET optimizer = ?1 WHERE id = 1", (HOSTILE,))
        plain.execute("UPDATE trials SET error = ?1 WHERE state = 'failed'", (HOSTILE,))
        plain.execute("UPDATE metrics SET name = ?1 WHERE name = 'step_ms'", (HOSTILE,))
        spec = json.dumps({"optimizer_settings": {"lr": HOSTILE}, "training": {"epochs": 1}, HOSTILE: HOSTILE})
        plain.execute("UPDATE runs SET spec = ?1, provenance = ?1 WHERE status <> 'completed'", (spec,))


@pytest.mark.parametrize(
    "words",
    [
        "runs list", "runs list --status failed", "runs show 11", "runs show 11 --curves", "runs diff 11 1",
        "runs tag 11 y", "report", "report --format text", "report --all", "sweeps list", "sweeps show 1", "db info",
        "db check", "plot curves", "runs rm 11 --yes", "runs show nosuch", "db merge vr.db --db new.db",
    ],
)  # fmt: skip
def test_nothing_in_a_received_database_is_obeyed(vr: Callable[..., Any], received: None, words: str) -> None:
    done = vr(*words.split())
    for text in (done.out, done.err):
        assert not has_controls(text.replace("\n", "")), words
        assert not any(line.startswith("title") for line in text.splitlines())


def test_lists_show_what_is_there(vr: Callable[..., Any], received: None) -> None:
    done = vr("runs", "list", "--status", "failed")
    assert SHOWN in done.out
    assert (
        len(done.out.splitlines())
        == len(json.loads(vr("runs", "list", "--status", "failed", "--format", "json").out)) + 1
    )
    assert json.loads(vr("runs", "show", "11", "--format", "json").out)["tag"] == f"{HOSTILE}11"


@pytest.mark.parametrize("words", ["nosuch --tag x", "run {}", "run cnn --opt {}", "run cnn --{} 1", "runs show {}",
                                   "report --db {}", "run cnn --lr {}", "runs list --format {}", "{}",
                                   "run cnn --tag {}", "runs tag 1 {}", "db merge {}"])  # fmt: skip
def test_a_refusal_shows_a_typed_word_in_one_line(
    vr: Callable[..., Any], stored: Callable[..., int], words: str
) -> None:
    stored()
    done = vr(*(word.replace("{}", HOSTILE) for word in shlex.split(words)))
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert not has_controls(done.err.removesuffix("\n") + done.out)


def test_the_api_refuses_such_a_tag(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tag must be one line without control characters"):
        vrcli.run("cnn", preset="smoke", tag="a\x1b[31m", db=tmp_path / "vr.db")
    assert not (tmp_path / "vr.db").exists()


def test_a_tag_with_a_password_is_refused_without_it(vr: Callable[..., Any], stored: Callable[..., int]) -> None:
    stored()
    done = vr("runs", "tag", "1", "postgresql://u:secret@127.0.0.1/x")
    assert done.code == 2
    assert done.err.startswith("vr: WORD must not hold the password of an address")
    assert "secret" not in done.err


def test_a_network_too_large_for_the_memory_is_no_fault_of_vr() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    assert is_out_of_memory(raised.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_every_command_prints_by_the_console() -> None:
    """Beside it stands json, which writes control characters in its own way, and the help of the parser."""
    others = []
    for path in Path(console.__file__).parent.glob("*.py"):
        if path.name in ("app.py", "console.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "typer.echo", "sys.stdout.write"):
                what = ast.unparse(node.args[0])
                others += [] if what.startswith("json.dumps(") else [f"{path.name}: {what}"]
    assert not others


def test_no_spreadsheet_calculates_a_cell() -> None:
    out = io.StringIO()
    cells = ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "\rx", "a=b", "-0.5", "+1e3", "-inf", -0.5, None, ""]
    CsvWriter(out).writerow(cells)
    (found,) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert found == ["'=1+1", "'+cmd", "'-2+3", "'@SUM(A1)", "'\tx", "'\rx", *cells[6:10], "-0.5", "", ""]


@pytest.mark.parametrize("words", ["runs export --to csv --output a.csv", "report --format csv --output a.csv",
                                   "report --pivot best_val_loss --format csv --output a.csv",
                                   "plot curves --data a.csv", "sweeps export 1 --output a.csv"])  # fmt: skip
def test_every_csv_file_is_written_so(
    vr: Callable[..., Any], stored: Callable[..., int], searched: pd.DataFrame, tmp_path: Path, words: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "vr.db")) as plain, plain:
        plain.execute("UPDATE runs SET optimizer = '=' || optimizer")
        plain.execute("UPDATE trials SET error = '=1+1' WHERE state = 'failed'")
        definition = Definition(
            task="cnn", preset="quick", optimizer="adamw", explicit={}, settings={}, space={}, origins={}, seeds=(0,),
            device="cpu", search="gp", initial=5, search_seed=0, prune="none", epochs=3,
        ).plain()  # fmt: skip
        plain.execute("UPDATE searches SET settings = ?", (json.dumps(definition),))
    done = vr(*words.split())
    assert done.code == 0, done.err
    for path in tmp_path.glob("a*.csv"):
        cells = [cell for row in csv.reader(path.read_text().splitlines()) for cell in row]
        assert not [cell for cell in cells if cell.startswith("=")]
        assert any(cell.startswith("'=") for cell in cells)
