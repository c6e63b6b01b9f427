"""The curves of the HTML page: envelopes of each row of a table, thinned, with steps as epochs and seconds, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from vrcli.report.page.json import numbers
from vrcli.report.text_plot import LOG_FROM
from vrcli.report.wording import quantity
from vrcli.results.types import POSITIONS, Column
from vrcli.stats.curves import Envelope, bounded, envelope, first_nonfinite, rescaled, thin, thin_envelope
from vrcli.stats.inference import Array

#: What a page may spend on the envelopes of all sections and on the curves of single runs, in bytes.
ENVELOPE_BYTES, RUN_BYTES = 8_000_000, 2_000_000
#: Bytes of JSON per point of an envelope (three positions, three values) and of a run (two numbers).
ENVELOPE_POINT, RUN_POINT = 45, 14
#: Fewest and most points of a line: below, a curve loses its shape; above, a screen has no pixels for them.
FEWEST, MOST = 60, 1000
#: Curves that stand on the left, in the order in which they are offered.
TRAINING = ("train_loss", "epoch_train_loss", "lr_effective", "grad_norm", "velocity_norm", "gate")


class Curve(Protocol):
    """A stored curve: steps and values that numpy reads without copying."""

    @property
    def steps(self) -> Any: ...
    @property
    def values(self) -> Any: ...


#: Curves by run id and metric, of some runs; of some metrics, or of all.
Reader: TypeAlias = Callable[[Sequence[int], Sequence[str] | None], Mapping[tuple[int, str], Curve]]


def points_per_envelope(rows: int, metrics: int = 6) -> int:
    """How many points each line may have so that the page stays small enough to be sent."""
    return int(np.clip(ENVELOPE_BYTES / ENVELOPE_POINT / max(1, rows * metrics), FEWEST, MOST))


def points_per_run(runs: int) -> int:
    """The same for the curves of single runs, two each."""
    return int(np.clip(RUN_BYTES / RUN_POINT / max(1, 2 * runs), FEWEST, MOST))


def row_series(run_ids: Sequence[int], curves: Mapping[tuple[int, str], Curve], most: int) -> dict[str, dict[str, Any]]:
    """One line with its band per metric of a row's runs.

    Returns:
        By metric: positions as steps `x`, epochs `e` and seconds `t` (empty where they are unknown; seconds are the
        mean over runs), the mean `c`, the edges `lo` and `hi` at one standard deviation (empty of a single run), the
        number of runs `n` behind each point (one number where it is always the same), positions `diverged` where runs
        stopped being finite, and `of`, the points there were before thinning.
    """
    found = {}
    for metric in dict.fromkeys(name for _, name in curves):
        if metric in POSITIONS.values():
            continue
        pairs = [pair_of(curves[run, metric]) for run in run_ids if (run, metric) in curves]
        whole = envelope(pairs, band="sd")
        drawn = thin_envelope(whole, most)
        nonfinite = [x for x in map(first_nonfinite, pairs) if x is not None]
        clocks = {axis: [_clock(curves, run, axis) for run in run_ids] for axis in POSITIONS.values()}
        found[metric] = {
            **_positions(drawn.x, clocks),
            "c": numbers(drawn.centre),
            **_band(drawn),
            "n": drawn.n.tolist() if drawn.n.min(initial=0) < drawn.n.max(initial=0) else len(pairs),
            "runs": len(pairs),
            "diverged": [
                {key: value[0] for key, value in _positions(np.array([x]), clocks).items() if value} for x in nonfinite
            ],
            "of": len(whole.x),
        }
    return found


def pair_of(curve: Curve) -> tuple[Array, Array]:
    """Steps and values as arrays."""
    return np.asarray(curve.steps, dtype=np.float64), bounded(curve.values)


def _band(drawn: Envelope) -> dict[str, Any]:
    if not np.isfinite(drawn.low).any():
        return {"lo": [], "hi": []}
    return {"lo": numbers(drawn.low), "hi": numbers(drawn.high)}


def _clock(curves: Mapping[tuple[int, str], Curve], run: int, axis: str) -> tuple[Array, Array] | None:
    """A run's epochs or seconds by step."""
    found = curves.get((run, axis))
    return None if found is None or not len(found.steps) else pair_of(found)


def _positions(steps: Array, clocks: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike] | None]]) -> dict[str, Any]:
    """Positions on the three axes: as steps, epochs and seconds."""
    found: dict[str, Any] = {"x": numbers(steps)}
    for key, axis in (("e", "epoch"), ("t", "wall_s")):
        known = [rescaled(steps, at, values) for at, values in filter(None, clocks[axis])]
        found[key] = numbers(np.mean(known, axis=0)) if known else []
    return found


def run_curves(run_id: int, curves: Mapping[tuple[int, str], Curve], metrics: Iterable[str], most: int) -> list[Any]:
    """A run's own curves by step, thinned; a point that is not finite is null."""
    found = []
    for metric in metrics:
        curve = curves.get((run_id, metric))
        if curve is None:
            continue
        x, y = pair_of(curve)
        kept = thin(y, most)
        found.append({"title": quantity(metric), "x": numbers(x[kept]), "y": numbers(y[kept]), "of": len(x)})
    return found


def block(series: Sequence[Mapping[str, Mapping[str, Any]]], objective: str) -> dict[str, Any]:
    """What the charts of one section are drawn from.

    Args:
        series: `row_series` of each row of the table, in its order.
        objective: the validation metric that is shown first.
    """
    metrics = list(dict.fromkeys(name for row in series for name in row))
    left = sorted((m for m in metrics if not m.startswith("val_")), key=_place)
    right = sorted((m for m in metrics if m.startswith("val_")), key=lambda m: (m != objective, m))
    return {
        "left": [_described(name, series) for name in left],
        "right": [_described(name, series) for name in right],
        "series": [{name: dict(found) for name, found in row.items()} for row in series],
    }


def _place(metric: str) -> tuple[int, str]:
    return (TRAINING.index(metric) if metric in TRAINING else len(TRAINING)), metric


def _described(metric: str, series: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """A metric's title, and whether a logarithmic axis serves it."""
    values = [v for row in series if metric in row for v in row[metric]["c"] if v is not None]
    log = bool(values) and min(values) > 0 and max(values) / min(values) >= LOG_FROM
    return {"key": metric, "title": quantity(metric), "log": log, "percent": Column.of(metric).percent}
