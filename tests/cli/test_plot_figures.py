"""`vr plot`: commands made of what figures declare; a new figure is one file and its name."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vrcli.report import figures

DOTS = '''
"""The outcome of each run over its seed."""

from dataclasses import dataclass
from typing import Annotated

from vrcli.report.figures import base
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.style import Plot, new_figure, styled


@dataclass(frozen=True)
class Dots(Figure):
    """One dot for each run."""

    selects = ("opts", "tag")

    words: Annotated[tuple[str, ...], Option("", "ignored words", "WORD")] = ()
    width: Annotated[float, Option("--width", "of a dot")] = 2.0
    shape: Annotated[str, Option("--shape", "round or square", "SHAPE", ("round", "square"))] = "round"
    every: base.Every = False

    def make(self, reader, notes):
        rows = [{"seed": run.seed, "loss": run.results["best_val_loss"], "width": self.width} for run in reader.runs()]
        notes.append(f"{len(rows)} dots, {' and '.join(self.words)}")
        with styled():
            figure, ((axes,),) = new_figure()
            axes.plot([row["seed"] for row in rows], [row["loss"] for row in rows], "o")
        return Drawn(Plot(figure, rows), lambda page: f"dots as {self.shape} as can be")


FIGURE = Dots
'''


@pytest.fixture
def dots(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A figure is added: one file in the folder of figures, and its name."""
    import_module("vrcli.cli.plot")  # so that it is put back afterwards
    folder = tmp_path_factory.mktemp("figures")
    (folder / "dots.py").write_text(DOTS)
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(folder)])
    monkeypatch.setattr(figures, "NAMES", (*figures.NAMES, "dots"))
    for name in ("vrcli.report.figures.dots", "vrcli.cli.plot"):  # which makes its commands as it is imported
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_new_figure_is_a_command_with_its_options(vr: Any, dots: None) -> None:
    assert "One dot for each run." in vr("plot", "--help").out
    text = vr("plot", "dots", "--help").out
    for words in ("WORD", "ignored words", "--width", "[default: 2.0]", "--shape SHAPE", "--all", "--opt NAME", "--tag",
                  "--output", "--data", "--show", "--force", "--db", "--debug"):  # fmt: skip
        assert words in text, words
    assert "--preset" not in text
    assert "--metric" not in text


def test_a_new_figure_has_a_text_a_file_and_its_numbers(vr: Any, seeds: list[int], dots: None, tmp_path: Path) -> None:
    done = vr("plot", "dots", "a", "b", "--opt", "adamw", "--shape", "square")
    assert (done.out, done.err) == ("dots as square as can be\n", "note: 3 dots, a and b\n")
    assert vr("plot", "dots", "--width", "3.5", "-o", "a.png", "--data", "a.csv").code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    rows = pd.read_csv(tmp_path / "a.csv")
    assert len(rows) == len(seeds)
    assert set(rows["width"]) == {3.5}
    refused = vr("plot", "dots", "--shape", "squar")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("vr: --shape squar is not one of round, square")
    assert "did you mean square" in refused.err


@pytest.mark.parametrize("name", figures.NAMES)
def test_every_figure_says_what_it_shows_and_what_its_options_are(name: str) -> None:
    figure = figures.load(name)
    assert figure.__doc__
    assert figure.__doc__.endswith(".")
    for field, (_, option, default) in figure.options().items():
        assert option.help, field
        assert not option.choices or default is None or default in (*option.choices, *option.also)
    figure().check()
