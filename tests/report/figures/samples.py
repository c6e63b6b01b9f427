"""Curves and trials to draw, and the figures of them by the names of optimizers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from vrcli.report.figures import curves as run_figure
from vrcli.report.figures import envelope as envelope_figure
from vrcli.report.figures import profile as profile_figure
from vrcli.report.figures import sensitivity as sensitivity_figure
from vrcli.report.figures import sweep as sweep_figure
from vrcli.report.figures import target as target_figure
from vrcli.report.figures import telemetry as telemetry_figure
from vrcli.report.figures.style import Plot, Series
from vrcli.results.searches import Trial

T = TypeVar("T")
RNG = np.random.default_rng(0)
X = np.arange(1, 21)
RUNS = [(X, 1 / X + shift) for shift in (0.0, 0.1, 0.2)]
LOST = (X, np.where(X > 15, math.nan, 1 / X))


def curves(runs: int = 4, length: int = 30, die: int | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for run in range(runs):
        y = np.exp(-np.arange(length) / 10) + 0.05 + 0.01 * RNG.random(length)
        x = np.arange(1, length + 1)
        if die is not None and run == 0:
            x, y = x[:die], y[:die].copy()
            y[-1] = math.nan
        found.append((x, y))
    return found


def trials(count: int = 12) -> list[Trial]:
    found = []
    for i in range(count):
        lr = 10 ** RNG.uniform(-4, 0)
        lost = lr > 0.3
        y = np.full(8, math.nan) if lost else 0.1 + np.exp(-np.arange(8.0))
        settings = {"lr": lr, "normgrad": bool(i % 2), "lr_cutoff": i + 3}
        found.append(Trial(settings, math.nan if lost else float(y.min()), np.arange(1, 9), y, number=2 * i + 1))
    return found


def of(values: Mapping[str, T]) -> dict[Series, T]:
    """Values by line, of values by optimizer."""
    return {Series(name, name): value for name, value in values.items()}


def panels_of(panels: Mapping[str, Mapping[str, T]]) -> dict[str, dict[Series, T]]:
    return {metric: of(panel) for metric, panel in panels.items()}


def envelopes(panels: Mapping[str, Any], y_label: str = "loss", **about: Any) -> Plot:
    return envelope_figure.draw({"": panels_of(panels)}, y_label=y_label, **about)


def envelope_rows(sections: Mapping[str, Any], **about: Any) -> Plot:
    return envelope_figure.draw({title: panels_of(panels) for title, panels in sections.items()}, **about)


def run_curves(sections: Mapping[str, Any], **about: Any) -> Plot:
    return run_figure.draw({title: panels_of(panels) for title, panels in sections.items()}, **about)


def telemetry(metrics: Mapping[str, Any]) -> Plot:
    return telemetry_figure.draw(panels_of(metrics))


def target(reached: Mapping[str, Any]) -> Plot:
    return target_figure.draw(of(reached))


def profile(costs: Mapping[str, Any]) -> Plot:
    return profile_figure.draw(of(costs))


def sweep(found: Mapping[str, Any]) -> Plot:
    return sweep_figure.draw(of(found))


def sensitivity(found: Mapping[str, Any], **about: Any) -> Plot:
    return sensitivity_figure.draw(of(found), **about)


def settings_grid(found: Mapping[str, Any]) -> Plot:
    return sweep_figure.draw_grid(of(found))


def parallel(found: Mapping[str, Any]) -> Plot:
    return sweep_figure.draw_parallel(of(found))


def line(text: str, start: str) -> list[str]:
    """The words of the last line that begins so."""
    return [row.split() for row in text.splitlines() if row.startswith(start)][-1]
