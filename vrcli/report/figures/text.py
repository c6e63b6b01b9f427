"""Figures as text: the numbers behind each figure drawn with characters, and what to read off it as a small table."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from vrcli.report import text_plot
from vrcli.report.wording import counted, number

Rows: TypeAlias = Sequence[Mapping[str, Any]]
#: Positions at which a staircase is drawn.
STEPS = 400
#: What a share can be, and so its axis.
SHARES = (0.0, 1.0)
#: Factors of the best that the text of a performance profile quotes.
FACTORS = (1.0, 1.05, 1.25, 2.0, 5.0)


@dataclass(frozen=True)
class Page:
    """How the text may look.

    Args:
        width: in columns.
        height: rows of one plot.
        ascii: ASCII characters only.
        log: logarithmic y axis; None for where it serves.
    """

    width: int = 80
    height: int = 14
    ascii: bool = False
    log: bool | None = None

    def plot(
        self,
        series: Mapping[str, tuple[Any, Any]],
        x_label: str,
        *,
        height: int | None = None,
        log: bool | None = None,
        limits: tuple[float, float] | None = None,
    ) -> str:
        return text_plot.plot(
            series,
            width=self.width,
            height=height or self.height,
            x_label=x_label,
            log=self.log if log is None else log,
            ascii=self.ascii,
            limits=limits,
        )


def envelopes(rows: Rows, page: Page, x_label: str, more_is_better: Collection[str] = ()) -> str:
    """The centres of every panel's envelopes, and their best and last values with the band's half-width.

    Args:
        more_is_better: panels whose highest values are quoted, not the lowest.
    """
    parts = []
    for title, panel in _panels(rows):
        series, facts = {}, []
        for name, own in _by(panel, "optimizer"):
            lost = own[0]["diverged"]
            label = f"{name} (n = {own[0]['runs']}{f', {lost} lost' if lost else ''})"
            series[label] = ([row["x"] for row in own], [row["centre"] for row in own])
            facts.append(_envelope_facts(name, own, x_label, highest=own[0]["panel"] in more_is_better))
        parts.append(f"{title}\n{page.plot(series, x_label)}\n\n{table(facts)}")
    return "\n\n".join(parts)


def _envelope_facts(name: str, rows: Rows, x_label: str, *, highest: bool) -> dict[str, str]:
    word = "highest" if highest else "lowest"
    finite = [row for row in rows if math.isfinite(row["centre"])]
    if not finite:
        return {"": name, "n": str(rows[0]["runs"]), "lost": str(rows[0]["diverged"]), word: "NaN"}
    best, last = (max if highest else min)(finite, key=lambda row: float(row["centre"])), finite[-1]
    half = (last["high"] - last["low"]) / 2
    return {
        "": name,
        "n": str(last["runs"]),
        "alive at the end": str(last["n"]),
        "lost": str(rows[0]["diverged"]),
        word: number(best["centre"]),
        f"at {x_label}": number(best["x"]),
        "last": number(last["centre"]),
        "half band": number(half) if math.isfinite(half) else "-",
    }


def run_curves(rows: Rows, page: Page, x_label: str) -> str:
    """Of each optimizer the mean of its runs and the range they span."""
    parts = []
    for title, panel in _panels(rows):
        series = {}
        for name, own in _by(panel, "optimizer"):
            ordered = sorted(own, key=lambda row: float(row["x"]))
            runs = len({row["run"] for row in own})
            label = f"{name} ({counted(runs, 'run')})" if runs > 1 else name
            series[label] = ([row["x"] for row in ordered], [row["y"] for row in ordered])
        parts.append(f"{title}\n{page.plot(series, x_label)}")
    return "\n\n".join(parts)


def telemetry(rows: Rows, page: Page, x_label: str) -> str:
    """One low plot per metric, above each other."""
    parts = []
    for title, panel in _panels(rows):
        series = {
            name: ([row["x"] for row in own], [row["centre"] for row in own]) for name, own in _by(panel, "optimizer")
        }
        parts.append(f"{title}\n{page.plot(series, x_label, height=max(4, page.height // 2))}")
    return "\n\n".join(parts)


def sweep(rows: Rows, page: Page, outcome: str) -> str:
    """The best so far over the trials, and the best trial of each optimizer."""
    series, facts = {}, []
    for name, points in _by(rows, "optimizer"):
        own = [first[0] for _, first in _by(points, "ended")]
        series[name] = ([row["ended"] for row in own], [row["best_so_far"] for row in own])
        good = [row for row in own if math.isfinite(row["outcome"])]
        best = min(good, key=lambda row: float(row["outcome"]), default=None)
        facts.append(
            {
                "": name,
                "trials": str(len(own)),
                "diverged": str(len(own) - len(good)),
                "best": number(best["outcome"]) if best else "NaN",
                "median": number(float(np.median([row["outcome"] for row in good]))) if good else "NaN",
                "in trial": str(best["trial"]) if best else "-",
                "settings of the best": best["settings"] if best else "-",
            }
        )
    return f"{outcome}, best so far\n{page.plot(series, 'trials ended')}\n\n{table(facts)}"


def settings_grid(rows: Rows, page: Page, outcome: str) -> str:
    """The outcomes in the lower, middle and upper third of each setting's values, or at each choice."""
    facts = []
    for name, own in _by(rows, "optimizer"):
        for setting, mine in _by(own, "setting"):
            for label, part in _thirds(mine):
                good = [row["outcome"] for row in part if not row["diverged"]]
                facts.append(
                    {
                        "optimizer": name,
                        "setting": setting,
                        "values": label,
                        "n": str(len(part)),
                        "diverged": str(len(part) - len(good)),
                        "best": number(min(good)) if good else "NaN",
                        "median": number(float(np.median(good))) if good else "NaN",
                    }
                )
    return f"{outcome} over each setting\n\n{table(facts)}"


def _thirds(rows: Rows) -> list[tuple[str, Rows]]:
    try:
        ordered = sorted(rows, key=lambda row: float(row["value"]))
    except ValueError:
        return [(str(value), part) for value, part in _by(sorted(rows, key=lambda row: str(row["value"])), "value")]
    values = dict.fromkeys(row["value"] for row in ordered)
    if len(values) <= 4:
        return [(str(value), part) for value, part in _by(ordered, "value")]
    edges = [round(len(ordered) * i / 3) for i in range(4)]
    parts = [ordered[start:end] for start, end in pairwise(edges)]
    return [(" .. ".join(dict.fromkeys((part[0]["value"], part[-1]["value"]))), part) for part in parts]


def parallel(rows: Rows, page: Page, outcome: str, most: int = 10) -> str:
    """The best trials of each optimizer with their settings."""
    parts = []
    for name, own in _by(rows, "optimizer"):
        ordered = sorted(own, key=lambda row: row["outcome"] if math.isfinite(row["outcome"]) else math.inf)
        facts = [
            {"trial": str(row["trial"]), "outcome": number(row["outcome"]), "settings": row["settings"]}
            for row in ordered[:most]
        ]
        more = f"\n{counted(len(own) - most, 'worse trial', 'are')} not listed" if len(own) > most else ""
        parts.append(f"{name}: {outcome}\n{table(facts)}{more}")
    return "\n\n".join(parts)


def sensitivity(rows: Rows, page: Page, setting: str, outcome: str) -> str:
    """The medians over the setting, and how wide the range is in which an optimizer stays close to its best."""
    values = [row[setting] for row in rows]
    log = bool(values) and min(values) > 0 and max(values) / min(values) >= text_plot.LOG_FROM
    series, facts = {}, []
    for name, own in _by(rows, "optimizer"):
        at = [math.log10(row[setting]) if log else row[setting] for row in own]
        series[name] = (at, [row["median"] if math.isfinite(row["median"]) else math.nan for row in own])
        low, high = own[0]["stable_from"], own[0]["stable_to"]
        best = min(own, key=lambda row: float(row["median"]) if math.isfinite(row["median"]) else math.inf)
        facts.append(
            {
                "": name,
                "runs": str(sum(row["n"] for row in own)),
                "diverged": str(sum(row["diverged"] for row in own)),
                "best median": number(best["median"]) if math.isfinite(low) else "NaN",
                f"at {setting}": f"{best[setting]:.3g}" if math.isfinite(low) else "-",
                "stable from": f"{low:.3g}" if math.isfinite(low) else "-",
                "to": f"{high:.3g}" if math.isfinite(low) else "-",
                "decades": f"{math.log10(high / low):.1f}" if low > 0 else "-",
            }
        )
    return f"{outcome}\n{page.plot(series, f'log10 {setting}' if log else setting)}\n\n{table(facts)}"


def profile(rows: Rows, page: Page, cost: str) -> str:
    """The share of tasks over the factor, and the shares at a few factors."""
    end = max([row["factor"] for row in rows] + [1.0]) * 1.05
    series, facts = {}, []
    for name, own in _by(rows, "optimizer"):
        at = np.geomspace(1.0, end, STEPS)
        series[name] = (at, _staircase([r["factor"] for r in own], [r["share"] for r in own], at))
        quoted = _staircase([r["factor"] for r in own], [r["share"] for r in own], np.array(FACTORS))
        facts.append(
            {
                "": name,
                **{f"within {f:g}x": f"{100 * s:.0f}%" for f, s in zip(FACTORS, quoted.tolist(), strict=True)},
            }
        )
    label = f"{cost} relative to the best"
    return f"share of tasks\n{page.plot(series, label, log=False, limits=SHARES)}\n\n{table(facts)}"


def target(rows: Rows, page: Page, x_label: str, target_label: str) -> str:
    """The share of runs that got there over what it took, and how many did."""
    end = max([row["x"] for row in rows] + [1e-9])
    series, facts = {}, []
    for name, own in _by(rows, "optimizer"):
        at = np.linspace(0.0, end, STEPS)
        xs, shares = [row["x"] for row in own], [row["share"] for row in own]
        series[name] = (at, _staircase(xs, shares, at))
        half = [x for x, share in zip(xs, shares, strict=True) if share >= 0.5 - 1e-12]
        facts.append(
            {
                "": name,
                "reached": f"{own[0]['reached']} of {own[0]['n']}",
                f"median {x_label}": number(half[0]) if half else "not reached by half",
            }
        )
    drawn = page.plot(series, x_label, log=False, limits=SHARES)
    return f"share of runs that reached {target_label}\n{drawn}\n\n{table(facts)}"


def _staircase(xs: Sequence[float], heights: Sequence[float], at: Any) -> Any:
    """The height of the last step at or before each position, 0 before the first."""
    places = np.searchsorted(np.asarray(xs, dtype=np.float64) * (1 - 1e-12), at, side="right")
    return np.concatenate([[0.0], np.asarray(heights, dtype=np.float64)])[places]


def table(facts: Rows) -> str:
    """Rows as aligned text."""
    from tabulate import tabulate

    columns = list(dict.fromkeys(name for row in facts for name in row))
    body = [[row.get(name, "") for name in columns] for row in facts]
    words = {"", "optimizer", "setting", "settings", "settings of the best", "values"}
    align = ["left" if name in words else "right" for name in columns]
    text: str = tabulate(
        body, headers=columns, tablefmt="plain", disable_numparse=True, colalign=align if body else None
    )
    return text


def _panels(rows: Rows) -> Iterable[tuple[str, Rows]]:
    """Rows of each panel, with a heading."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row.get("section", ""), row["panel"]].append(row)
    return [(" · ".join(word for word in key if word), own) for key, own in found.items()]


def _by(rows: Rows, name: str) -> Iterable[tuple[str, Rows]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row[name]].append(row)
    return found.items()
