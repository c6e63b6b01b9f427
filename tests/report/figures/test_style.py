"""Colours and dashes of optimizers, and the numbers at axes."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from vrcli.report.figures.scales import plain_log_ticks, tick_text
from vrcli.report.figures.style import COMMON, Series, line_style, new_figure, places_of, style_of


def of(optimizer: str) -> Series:
    return Series(optimizer, optimizer)


def hue(colour: str) -> float:
    import colorsys

    return colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))[0]


def test_an_optimizer_looks_the_same_whoever_stands_beside_it() -> None:
    alone = {name: style_of([of(name)])[of(name)] for name in COMMON}
    assert style_of(map(of, COMMON)) == {of(name): style for name, style in alone.items()}
    assert style_of(map(of, ["lion", "sgd", "zzz", "vradam"]))[of("sgd")] == alone["sgd"]
    assert len({style["color"] for style in alone.values()}) == len(COMMON)
    for label in ("sgd (sweep 3)", "12 clever-name · sgd", "sgd lr=0.1", "adamw, or what else it is called"):
        assert style_of([Series("sgd", label)])[Series("sgd", label)] == alone["sgd"]


def test_strangers_take_what_is_left() -> None:
    names = ["vradam", *(f"own{i}" for i in range(20)), "adamw"]
    found = places_of(names)
    assert len(set(found.values())) == len(names)
    assert (found["vradam"], found["adamw"]) == (0, 1)
    styles = style_of(map(of, names)).values()
    assert len({tuple(style.items()) for style in styles}) == len(names)


@pytest.mark.parametrize("on_dark", [False, True])
@pytest.mark.parametrize("place", range(len(COMMON)))
def test_twelve_configurations_of_one_optimizer_can_be_told_apart(place: int, on_dark: bool) -> None:
    found = [line_style(place, variant, on_dark=on_dark) for variant in range(12)]
    for one, other in combinations(found, 2):
        assert one != other
    for one, other in pairwise(found):
        assert one["color"] != other["color"]
        assert one["linestyle"] != other["linestyle"]
    if COMMON[place] != "adam":  # black and greys have no hue
        assert np.ptp([hue(style["color"]) for style in found]) < 0.03


def test_configurations_share_the_hue_of_their_optimizer() -> None:
    first, second = Series("adamw", "adamw lr=0.1"), Series("adamw", "adamw lr=0.2")
    found = style_of([first, second, of("sgd")])
    assert found[first] == style_of([of("adamw")])[of("adamw")]
    assert found[of("sgd")] == style_of([of("sgd")])[of("sgd")]
    assert hue(found[second]["color"]) == pytest.approx(hue(found[first]["color"]), abs=0.03)


@pytest.mark.parametrize(
    ("value", "text"), [(0.001, "0.001"), (1e-4, "1e-4"), (1e4, "10000"), (1e6, "1e6"), (2e-5, "2e-5"), (0.5, "0.5")]
)
def test_numbers_at_axes_are_short(value: float, text: str) -> None:
    assert tick_text(value) == text


@pytest.mark.parametrize("room", [3, 5])
@pytest.mark.parametrize(("low", "high"), [(1e-5, 1e6), (1e-4, 0.1), (0.02, 2.3), (0.8, 1.0), (3e-4, 9e-4)])
def test_labels_of_a_logarithmic_axis_do_not_overprint(low: float, high: float, room: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure, ((axes,),) = new_figure(size=(4.2 if room == 5 else 2.0, 2.0))
    axes.plot([low, high], [1, 2])
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis, high / low, room)
    FigureCanvasAgg(figure).draw()
    limits = axes.get_xlim()
    labels = [
        label
        for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if limits[0] <= place <= limits[1] and label.get_text()
    ]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) >= 2
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))
