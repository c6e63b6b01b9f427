"""The searches of the HTML page: best so far, what each setting did to the outcome, and what was found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vrcli.report.budget_text import best_of_k_rows
from vrcli.report.page.json import numbers
from vrcli.report.text_plot import LOG_FROM
from vrcli.report.wording import number, setting, settings
from vrcli.results.trials import Search
from vrcli.stats.curves import best_so_far


@dataclass(frozen=True)
class SearchRow:
    """One search in words.

    Args:
        label: as in the charts.
        best: its best objective.
        best_value: the same as a number, to sort by.
        command: see `Search`.
    """

    search: Search
    label: str
    best: str
    best_value: float | None
    found: str
    counts: str
    diverged: str
    command: str


@dataclass(frozen=True)
class SearchBlock:
    """The searches of one section.

    Args:
        labels: of the searches, all different.
        best_of_k: what to expect of the first k trials, by label.
        data: what the charts are drawn from.
    """

    rows: Sequence[SearchRow]
    labels: Sequence[str]
    parameters: Sequence[str]
    best_of_k: Sequence[Mapping[str, str]]
    data: Mapping[str, Any]


def search_block(searches: Sequence[Search], labels: Mapping[str, str]) -> SearchBlock:
    """The searches of one section, side by side.

    Args:
        labels: how optimizers are written.
    """
    several = {name for name, count in Counter(s.optimizer for s in searches).items() if count > 1}
    names = [labels[s.optimizer] + (f" (sweep {s.sweep_id})" if s.optimizer in several else "") for s in searches]
    places = [names[:i].count(name) + 1 for i, name in enumerate(names)]
    names = [name if names.count(name) == 1 else f"{name}, search {at}" for name, at in zip(names, places, strict=True)]
    parameters = list(dict.fromkeys(name for s in searches for t in s.trials for name in t.params))
    outcomes = [t.value for s in searches for t in s.trials if t.counts and t.value is not None]
    ended = {name: [(t.state, t.value) for t in s.ended] for name, s in zip(names, searches, strict=True) if s.ended}
    return SearchBlock(
        rows=[_row(search, name) for search, name in zip(searches, names, strict=True)],
        labels=names,
        parameters=parameters,
        best_of_k=best_of_k_rows(ended, searches[0].direction) if ended else [],
        data={
            "log": _spans(outcomes),
            "objective": f"best validation {searches[0].objective}",
            "parameters": [{"name": name, **_axis(name, searches)} for name in parameters],
            "searches": [_plotted(search) for search in searches],
        },
    )


def _row(search: Search, label: str) -> SearchRow:
    best, ended = search.best, search.ended
    states = Counter(t.state for t in search.trials)
    n_diverged = states["diverged"]
    share = f"{n_diverged}/{len(ended)} ({100 * n_diverged / len(ended):.0f} %)" if ended else "-"
    others = [f"{count} {state}" for state, count in states.items() if state not in ("completed", "diverged")]
    return SearchRow(
        search=search,
        label=label,
        best=number(best.value) if best and best.value is not None else "-",
        best_value=best.value if best else None,
        found=settings(dict(best.params)) if best else "-",
        counts=f"{len(ended)}/{search.budget}" + (f" ({', '.join(others)})" if others else ""),
        diverged=share,
        command=search.command if best else "",
    )


def _plotted(search: Search) -> dict[str, Any]:
    trials = search.ended
    outcomes = np.array([t.value if t.counts and t.value is not None else math.nan for t in trials])
    return {
        "k": [t.number for t in trials],
        "v": numbers(outcomes),
        "best": numbers(best_so_far(outcomes, search.direction)),
        "state": [t.state for t in trials],
        "text": [settings(dict(t.params)) for t in trials],
        "params": [{name: _coordinate(value) for name, value in t.params.items()} for t in trials],
    }


def _coordinate(value: Any) -> float | int | str:
    """A setting as a place on an axis: a number, or its name."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(f"{value:.6g}")
    return setting(value)


def _axis(name: str, searches: Sequence[Search]) -> dict[str, Any]:
    values = [_coordinate(t.params[name]) for s in searches for t in s.trials if name in t.params]
    found = [v for v in values if not isinstance(v, str)]
    numeric = len(found) == len(values)
    return {"category": not numeric, "log": numeric and _spans(found)}


def _spans(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis serves."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= LOG_FROM
