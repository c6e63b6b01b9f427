"""Every format: the same facts, escaped, and equal to the golden file."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vrcli.report.tables.render import formats, render
from vrcli.report.wording import with_half_width
from vrcli.results.summary import summarise

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = 'a|b <script>alert("x")</script> & *c* _d_ `e` 100% $f$ #g {h} \\i \n j\tk\x1b[31m'


@pytest.fixture
def table(make_run):
    values = {"vradam": (0.0612, 0.0634, 0.0655), "adamw": (0.0663, 0.0671, 0.0688), "sgd": (0.0641, 0.0620, 0.0672)}
    runs = [
        make_run(name, seed, loss, results={"val_accuracy": 1 - loss / 3})
        for name, losses in values.items()
        for seed, loss in enumerate(losses)
    ]
    runs += [make_run("rms_prop", seed, 0.5, status="diverged", results={"val_accuracy": 0.1}) for seed in range(3)]
    runs += [make_run("vradam", seed, 0.08, beta3=2.0, results={"val_accuracy": 0.9}) for seed in range(2)]
    runs += [make_run("adamw", 0, 5.99, task="transformer", dataset="wikitext", training={"epochs": 2})]
    runs += [make_run("vradam", 0, 5.75, task="transformer", dataset="wikitext")]
    return summarise(runs)


@pytest.mark.parametrize("name", ["csv", "html", "json", "latex_booktabs", "markdown", "text"])
def test_golden(table, name: str) -> None:
    expected = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert render(table, name) + "\n" == expected


@pytest.mark.parametrize("name", [f for f in formats() if f not in ("csv", "tsv", "json")])
def test_every_format_states_every_fact(table, name: str) -> None:
    text = render(table, name).replace(r"$\pm$", "±").replace("\\", "")
    for row in table.rows:
        assert row.optimizer in text
        found = row.cells["best_val_loss"].summary
        if math.isfinite(found.mean):
            assert with_half_width(found.mean, found.half_width) in text
    assert "NaN" in text
    assert "3/3" in text
    assert "1 x 20" in text


def test_unknown_format_is_refused(table) -> None:
    with pytest.raises(ValueError, match="mardown"):
        render(table, "mardown")


def test_json_has_the_raw_numbers_and_no_nan(table) -> None:
    body = json.loads(render(table, "json"), parse_constant=pytest.fail)
    rows = {(r["task"], r["optimizer"], r["settings"].get("beta3")): r for r in body["rows"]}
    best = rows["cnn", "vradam", None]["metrics"]["best_val_loss"]
    assert best["values"] == [0.0612, 0.0634, 0.0655]
    assert best["mean"] == pytest.approx(0.06336667)
    assert best["best"]
    lost = rows["cnn", "rms_prop", None]
    assert lost["metrics"]["best_val_loss"]["mean"] is None
    assert lost["metrics"]["best_val_loss"]["values"] == [None] * 3
    assert (lost["n"], lost["diverged"]) == (3, 3)
    assert rows["cnn", "vradam", 2.0]["shown"] == {"lr": 0.003, "beta3": 2.0}


def test_csv_parses_back(table) -> None:
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert len(rows) == len(table.rows)
    assert float(rows[0]["best_val_loss_mean"]) == table.rows[0].cells["best_val_loss"].summary.mean
    lost = next(r for r in rows if r["optimizer"] == "rms_prop")
    assert (lost["best_val_loss_mean"], lost["diverged"]) == ("", "3")


class Tags(HTMLParser):
    """Collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)

    def handle_data(self, data) -> None:
        self.text += data


@pytest.mark.parametrize("name", ["html", "unsafehtml"])
def test_html_keeps_hostile_names_as_text(make_run, name: str) -> None:
    parser = Tags()
    parser.feed(render(summarise([make_run(HOSTILE), make_run("b")]), name))
    assert set(parser.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "b", "p"}
    assert '<script>alert("x")</script>' in parser.text


@pytest.mark.parametrize("name", ["markdown", "pipe", "github"])
def test_markdown_keeps_its_columns_and_escapes_html(make_run, name: str) -> None:
    text = render(summarise([make_run(HOSTILE), make_run("b")]), name)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "<script" not in text


@pytest.mark.parametrize("name", ["latex", "latex_booktabs", "latex_longtable", "latex_raw"])
def test_latex_is_escaped_and_balanced(make_run, name: str) -> None:
    text = render(summarise([make_run(HOSTILE, loss=-0.5), make_run("b")]), name)
    text = text.removeprefix("% needs ")
    assert not re.search(r"(?<!\\)[#%&]", text.replace(" & ", " "))
    assert r"\textbackslash{}i" in text
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.isascii()


@pytest.mark.parametrize("name", [f for f in formats() if f not in ("csv", "json")])
def test_control_characters_never_reach_the_terminal(make_run, name: str) -> None:
    text = render(summarise([make_run(HOSTILE), make_run("b")]), name)
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if "script" in line]
    assert len(rows) == 1


@pytest.mark.parametrize("name", formats())
def test_an_empty_table_renders(name: str) -> None:
    assert isinstance(render(summarise([]), name), str)


def test_same_name_other_content_is_told_apart(make_run) -> None:
    text = render(summarise([make_run(fingerprint="aaaaaaaa"), make_run(fingerprint="bbbbbbbb")]), "markdown")
    assert "digits#aaaaaa" in text
    assert "digits#bbbbbb" in text


# -- LaTeX that compiles -----------------------------------------------------------------------------------------------

COMPILER = next((name for name in ("tectonic", "pdflatex") if shutil.which(name)), None)
#: What people name things, and what LaTeX would choke on.
LATEX_NAMES = ("a_b%c&d#e~f^g\\h{i}$j$", '[x] *y* --z "q" <l> |m|', "± † ‡ § ¶ ‖ − × é ü ñ ç Å ş 中 α 😀")


def latex_document(body: str) -> str:
    lines = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\usepackage{longtable}", r"\begin{document}"]
    return "\n".join([*lines, r"\footnotesize", body, r"\end{document}", ""])


@pytest.mark.skipif(COMPILER is None, reason="no tectonic or pdflatex is installed")
@pytest.mark.parametrize("name", [f for f in formats() if f.startswith("latex")])
def test_latex_compiles(make_run, tmp_path: Path, name: str) -> None:
    runs = [make_run(o, s, v + s / 9, tag=o) for o in LATEX_NAMES for s in range(3) for v in (0.1,)]
    runs += [make_run("lost", s, 0.1, status="diverged", dataset=LATEX_NAMES[0], x_y="%") for s in range(2)]
    text = render(summarise(runs), name)
    assert text.isascii()
    (tmp_path / "table.tex").write_text(latex_document(text), encoding="utf-8")
    command = ["tectonic", "--only-cached"] if COMPILER == "tectonic" else ["pdflatex", "-halt-on-error"]
    done = subprocess.run([*command, "table.tex"], cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("é", r"\'{e}"),
        ("Å", r"{[}U+00C5{]}"),
        ("±", r"$\pm$"),
        ("[a]", "{[}a]"),
        ("中", "{[}U+4E2D{]}"),
        ("--", "-{}-"),
    ],
)
def test_latex_has_a_command_for_every_character(make_run, given: str, expected: str) -> None:
    assert expected in render(summarise([make_run(f"x{given}y")]), "latex")
