"""Figures by what is drawn and by the files they become."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest

from vrcli.errors import UsageError
from vrcli.report.figures.style import Plot
from vrcli.results.searches import Trial
from vrcli.stats.budget import steps_to_target

sys.path.insert(0, str(Path(__file__).parent))
from samples import (
    curves,
    envelopes,
    parallel,
    profile,
    run_curves,
    sensitivity,
    settings_grid,
    sweep,
    target,
    telemetry,
    trials,
)

PLOTS = {
    "envelopes": lambda: envelopes({"training": {"a": curves(), "b": curves(die=12)}, "validation": {"a": curves()}}),
    "run curves": lambda: run_curves(
        {"s": {"loss": {"a": {"1": curves()[0]}}}, "t": {"loss": {"a": {"2": curves()[0]}}}}
    ),
    "telemetry": lambda: telemetry({"training loss": {"a": curves()}, "gate": {"a": curves(1)}}),
    "target": lambda: target({"a": steps_to_target(curves(), 0.3), "b": steps_to_target(curves(), 0.001)}),
    "profile": lambda: profile({"a": {"cnn": 1.0, "t": 2.0}, "b": {"cnn": 1.5, "t": math.nan}}),
    "sweep": lambda: sweep({"a": trials(), "b": trials()}),
    "sensitivity": lambda: sensitivity({"a": trials(), "b": trials()}),
    "settings": lambda: settings_grid({"a": trials(), "b": trials()}),
    "parallel": lambda: parallel({"a": trials(), "b": trials()}),
}
EMPTY = {
    "envelopes": lambda: envelopes({}),
    "run curves": lambda: run_curves({}),
    "lost run": lambda: run_curves({"": {"loss": {"a": {"1": ([1.0], [math.nan])}}}}),
    "no runs": lambda: envelopes({"training": {"a": []}}),
    "only lost": lambda: envelopes({"training": {"a": [([1.0], [math.nan])]}}),
    "one point": lambda: envelopes({"training": {"a": [([1.0], [0.5])]}}),
    "telemetry": lambda: telemetry({}),
    "target": lambda: target({}),
    "never": lambda: target({"a": steps_to_target([([1.0], [math.nan])], 0.1)}),
    "profile": lambda: profile({}),
    "all failed": lambda: profile({"a": {"cnn": math.nan}, "b": {"cnn": math.inf}}),
    "sweep": lambda: sweep({"a": []}),
    "all diverged": lambda: sweep({"a": [Trial({"lr": 0.1}, math.nan)]}),
    "sensitivity": lambda: sensitivity({"a": [Trial({"lr": 0.1}, math.nan), Trial({}, 1.0)]}),
    "settings": lambda: settings_grid({}),
    "parallel": lambda: parallel({"a": [Trial({"lr": 0.1, "mode": None}, 0.5)]}),
}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("name", PLOTS)
def test_every_figure_becomes_a_file_of_every_format(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"figure{suffix}"
    PLOTS[name]().save(path)
    head = path.read_bytes()[:400]
    assert {".png": b"\x89PNG", ".svg": b"<svg", ".pdf": b"%PDF"}[suffix] in head


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_to_draw_is_no_error(tmp_path: Path, name: str) -> None:
    EMPTY[name]().save(tmp_path / "empty.png")


@pytest.mark.parametrize("name", PLOTS)
def test_axes_have_names_and_fonts_are_legible(name: str) -> None:
    for axes in PLOTS[name]().figure.axes:
        if not axes.get_visible():
            continue
        if name != "parallel":
            assert (
                axes.get_ylabel()
                or not any(label.get_visible() for label in axes.get_yticklabels())
                or axes.get_title()
            )
        sizes = [text.get_fontsize() for text in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        assert all(size >= 7 for size in sizes)


def test_the_same_figure_gives_the_same_svg(tmp_path: Path) -> None:
    drawn = curves()
    for name in ("one.svg", "two.svg"):
        envelopes({"training": {"a": drawn}}).save(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_hostile_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    name = r"$\frac{1}{ <script> & _x_ \n"
    envelopes({name: {name: curves()}}, y_label=name).save(tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "<script>" not in text
    assert r"$\frac{1}{ &lt;script&gt; &amp; _x_ \n" in text


def test_data_are_written_as_csv(tmp_path: Path) -> None:
    plot = PLOTS["envelopes"]()
    plot.save_data(tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert len(rows) == len(plot.rows)
    assert float(rows[0]["centre"]) == plot.rows[0]["centre"]


def test_a_figure_of_another_format_is_refused(tmp_path: Path) -> None:
    plot: Plot = PLOTS["profile"]()
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf"):
        plot.save(tmp_path / "figure.gif")
