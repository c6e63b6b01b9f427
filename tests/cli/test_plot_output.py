"""`vr plot`: text, files and windows, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vrcli.cli import plot_output
from vrcli.db.store import Store

SUBCOMMANDS = ("curves", "envelope", "sweep", "sensitivity", "profile", "target", "telemetry")


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_figure_has_a_text(vr: Any, searched: pd.DataFrame, name: str) -> None:
    done = vr("plot", name)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert any("┤" in line for line in lines)
    assert any("adamw" in line and "sgd" in line for line in lines)
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in done.out


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_figures_are_written_by_their_ending(vr: Any, seeds: list[int], tmp_path: Path, suffix: str) -> None:
    done = vr("plot", "envelope", "-o", f"a{suffix}", "--data", "a.csv")
    assert done.out == ""
    assert f"wrote a{suffix}" in done.err
    head = (tmp_path / f"a{suffix}").read_bytes()[:400]
    assert {".png": b"PNG", ".svg": b"<svg", ".pdf": b"%PDF"}[suffix] in head
    assert list(csv.DictReader((tmp_path / "a.csv").open()))


@pytest.mark.parametrize("name", ["envelope", "sensitivity", "target"])
def test_a_figure_fits_the_page_that_it_is_for(vr: Any, searched: pd.DataFrame, tmp_path: Path, name: str) -> None:
    vr("plot", name, "-o", "own.svg")
    vr("plot", name, "-o", "small.svg", "--size", "3.3x2.5", "--title", "Mine", "--no-caption")
    own, small = ((tmp_path / file).read_text() for file in ("own.svg", "small.svg"))
    assert 'width="237.6pt" height="180pt"' in small
    assert ("Mine" in small, "Mine" in own) == (True, False)
    assert len(small) < len(own) or name == "target"  # the small print is gone; a target has none


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["envelope", "--metric", "val_los"], "did you mean val_loss"),
        (["envelope", "--metric", "zzz"], "there are train_loss"),
        (["envelope", "-o", "a.png", "--size", "3.3"], "--size must be WIDTHxHEIGHT in inches"),
        (["envelope", "-o", "a.png", "--size", "0x2"], "--size must be WIDTHxHEIGHT in inches"),
        (["envelope", "--title", "Mine"], "--title changes a picture"),
        (["envelope", "--data", "a.csv", "--no-caption"], "--no-caption changes a picture"),
        (["envelope", "-o", "a.gif"], ".png, .svg or .pdf"),
        (["envelope", "--data", "a.txt"], ".csv"),
        (["envelope", "-o", "missing/a.png"], "there is no folder missing"),
        (["envelope", "--data", "missing/a.csv"], "--data missing/a.csv: there is no folder"),
        (["envelope", "--band", "quantil"], "did you mean quantile"),
        (["envelope", "--x", "time"], "--x time is not one of steps, epochs, gradients, seconds"),
        (["envelope", "--level", "95"], "between 0 and 1"),
        (["envelope", "--band", "sd", "--level", "0.9"], "--level goes with --band ci or quantile"),
        (["telemetry", "--band", "minmax", "--level", "0.9"], "--level goes with --band ci or quantile"),
        (["target", "--target", "nan"], "--target must be a finite number"),
        (["target", "--target", "inf"], "--target must be a finite number"),
        (["envelope", "--opt", "adam"], "did you mean adamw"),
        (["envelope", "--where", "lr>5"], "none of the 6 stored runs matches"),
        (["curves", "77"], "no run 77"),
        (["curves", "nice-nobody"], "no run nice-nobody"),
        (["sweep", "--kind", "trial"], "did you mean trials"),
        (["sweep", "9"], "no sweep 9"),
        (["sensitivity", "--setting", "lrr"], "did you mean lr"),
        (["sensitivity", "--setting", "precision"], "is not a number"),
        (["sensitivity", "--tolerance", "0"], "--tolerance must be > 0"),
        (["profile", "--metric", "zzz"], "not a result"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    vr: Any, seeds: list[int], tmp_path: Path, words: list[str], expected: str
) -> None:
    before = set(tmp_path.iterdir())
    done = vr("plot", *words)
    assert done.code == 2
    assert done.out == ""
    line = done.err.splitlines()[-1]
    assert line.startswith("vr: ")
    assert expected in line
    assert {path.name for path in set(tmp_path.iterdir()) - before} <= {"vr.db-wal", "vr.db-shm"}


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_an_empty_database_is_one_helpful_line(vr: Any, tmp_path: Path, name: str) -> None:
    Store.open(tmp_path / "vr.db").close()
    done = vr("plot", name, "-o", "a.png")
    assert (done.code, done.out) == (0, "")
    assert "start with: vr" in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


def test_a_window_or_viewer_that_does_not_open_is_one_line(
    vr: Any, seeds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot_output, "has_display", lambda: False)
    done = vr("plot", "envelope", "--show")
    assert done.code == 0
    assert done.err.count("\n") == 1
    path = Path(done.err.split("the figure is in ")[1].split()[0])
    assert path.read_bytes().startswith(b"\x89PNG")
    path.unlink()


def test_show_falls_back_on_the_viewer(vr: Any, seeds: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(plot_output, "has_display", lambda: True)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr("typer.launch", lambda path: opened.append(path) or 0)
    assert vr("plot", "profile", "--show").code == 0
    (path,) = opened
    assert Path(path).read_bytes().startswith(b"\x89PNG")
    Path(path).unlink()


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_letters_that_no_font_has_are_drawn_without_a_word(vr, stored, tmp_path, recwarn, ending):
    stored("sgd", dataset="数据𓀀")
    stored("adamw", dataset="数据𓀀")
    done = vr("plot", "curves", "--output", f"a.{ending}")
    assert (done.code, done.err) == (0, f"wrote a.{ending}\n")
    assert (tmp_path / f"a.{ending}").stat().st_size > 1000
    assert not [found for found in recwarn if "Glyph" in str(found.message)]


@pytest.mark.parametrize("name", ["curves", "envelope"])
@pytest.mark.parametrize("loss", [9e307, -9e307, 1e-320])
def test_losses_that_no_axis_has_room_for(vr, stored, tmp_path, name, loss):
    for seed, own in enumerate((0.1, loss)):
        stored("sgd", seed=seed, loss=own)
    done = vr("plot", name, "--output", "a.png")
    assert (done.code, done.err) == (0, "wrote a.png\n")
    assert "nan" not in vr("plot", name).out
