"""`vr runs diff`: two runs side by side, what differs first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.db.location import Location
from vrcli.errors import UsageError

if TYPE_CHECKING:
    from vrcli.db.records import Curve, RunRecord
    from vrcli.db.store import Store
    from vrcli.results.diff import CurveDifference, Difference, RunDifference

Curves = dict[str, "Curve"]


def diff(
    first: str = typer.Argument(metavar="RUN", help="number or name of a run"),
    second: str = typer.Argument(metavar="RUN", help="number or name of another"),
    metric: list[str] = typer.Option([], "--metric", metavar="NAME", help="only these curves; repeat for several"),
    all: bool = typer.Option(False, "--all", help="also what is equal"),
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Compare two runs, what differs first.

    Settings, results, curves and provenance stand side by side. Curves are compared bit for bit: the first step at
    which they part is named.
    """
    req.check_format(format)
    from vrcli.cli.console import say
    from vrcli.cli.request import open_existing
    from vrcli.cli.runs_export import check_metrics
    from vrcli.results.diff import compare

    with open_existing(database) as store:
        a, b = store.runs.get(first), store.runs.get(second)
        if a.id == b.id:
            raise UsageError(f"{first} and {second} are the same run; name two")
        check_metrics(store, [a, b], metric)
        curves = curves_of(store, a, metric), curves_of(store, b, metric)
    found = compare(a, b, *curves)
    if format == "json":
        print(json.dumps(as_json(a, b, found)))
        return
    for line in [*lines(a, b, found, all=all), *plots(a, b, *curves, metric)]:
        say(line)


def curves_of(store: Store, record: RunRecord, metrics: Sequence[str] = ()) -> Curves:
    """A run's curves by metric."""
    return {name: curve for (_, name), curve in store.curves.read(record.id, metrics or None).items()}


def lines(a: RunRecord, b: RunRecord, found: RunDifference, *, all: bool) -> list[str]:
    """Everything but the plots."""
    from vrcli.cli.grid import grid
    from vrcli.results.diff import verdict
    from vrcli.results.types import TIMINGS

    names = f"run {a.id}", f"run {b.id}"
    out = [f"{name} · {run.name} · {title(run)}" for name, run in zip(names, (a, b), strict=True)]
    out += ["", f"→ {verdict(found, *names)}"]
    if a.spec_id == b.spec_id:
        out += [f"  their settings, data and {'code' if a.spec.get('code') else 'versions'} are the same (one spec)"]
    unknown = [name for name, run in zip(names, (a, b), strict=True) if not run.spec.get("code")]
    if unknown:
        out += [f"  the code that {' and '.join(unknown)} ran was not recorded"]
    results = sorted(found.results, key=lambda pair: pair.name in TIMINGS)
    equal = {}
    for heading, pairs in (
        ("", found.identity), ("settings", found.settings), ("results", results), ("provenance", found.provenance),
    ):  # fmt: skip
        shown = [pair for pair in pairs if all or not pair.equal]
        equal[heading or "facts of the run"] = len(pairs) - len([pair for pair in pairs if not pair.equal])
        if shown:
            rows = [row(pair, heading, names) for pair in shown]
            out += ["", *grid([heading, *names, *(["change"] if heading == "results" else [])], rows, right=[])]
        if heading == "results":
            parted = [curve for curve in found.curves if all or not curve.identical]
            equal["curves"] = len([curve for curve in found.curves if curve.identical])
            if parted:
                columns = ["curves", "points", "part at step", *names, "largest difference", "at step"]
                out += ["", *grid(columns, [curve_row(curve, names) for curve in parted], right=["points"])]
    same = [f"{what} {count}" for what, count in equal.items() if count]
    if same and not all:
        out += ["", f"equal are, of {', '.join(same)} (--all shows them)"]
    return out


def title(run: RunRecord) -> str:
    """What was run, in a line."""
    parts = [run.task, run.dataset, run.preset, run.optimizer, f"seed {run.seed}", run.status]
    return " · ".join(part for part in parts if part)


def row(pair: Difference, heading: str, names: tuple[str, str]) -> dict[str, str]:
    """One line of a table: a name, both values, and for numbers how much larger the second is."""
    from vrcli.results.diff import both

    texts = dict(zip(names, both(pair.a, pair.b), strict=True))
    found = {heading: pair.name, **texts}
    if heading == "results" and isinstance(pair.a, float) and isinstance(pair.b, float):
        found["change"] = change(pair.a, pair.b)
    return found


def curve_row(curve: CurveDifference, names: tuple[str, str]) -> dict[str, Any]:
    """One line of the table of curves."""
    from vrcli.report import wording
    from vrcli.results.diff import both

    here, there = curve.points
    first = dict(zip(names, both(*curve.first), strict=True)) if curve.first_step is not None else {}
    parted = str(curve.first_step) if curve.first_step is not None else "never" if curve.common else "-"
    largest = "-" if curve.largest_step is None else wording.number(curve.largest)
    return {
        "curves": curve.metric, "points": str(here) if here == there else f"{here} / {there}",
        "part at step": parted, **first, "largest difference": largest,
        "at step": curve.largest_step if curve.largest else "-",
    }  # fmt: skip


def change(a: float, b: float) -> str:
    """How the second number differs from the first, with its share."""
    import math

    from vrcli.report import wording

    if not (math.isfinite(a) and math.isfinite(b)):
        return ""
    share = f" ({wording.signed(100 * (b - a) / abs(a))} %)" if a and a != b else ""
    return wording.signed(b - a) + share


def plots(
    a: RunRecord, b: RunRecord, first: Mapping[str, Any], second: Mapping[str, Any], asked: list[str]
) -> list[str]:
    """Both runs' curves in one plot for each metric: those asked for, or the validation loss."""
    from vrcli.report.text_plot import plot

    usual = [name for name in ("val_loss", "train_loss") if name in first or name in second][:1]
    out = []
    for name in asked or usual:
        series = {f"run {run.id}": own[name] for run, own in ((a, first), (b, second)) if name in own}
        drawn = plot({who: (list(curve.steps), list(curve.values)) for who, curve in series.items()}, x_label="step")
        out += ["", name, *drawn.splitlines()]
    return out


def as_json(a: RunRecord, b: RunRecord, found: RunDifference) -> dict[str, Any]:
    """The comparison as plain JSON values."""
    from vrcli.results.flat import json_number

    def plain(value: Any) -> Any:
        return json_number(value) if isinstance(value, float) else value

    def listed(pairs: Sequence[Difference]) -> list[dict[str, Any]]:
        return [{"name": p.name, "a": plain(p.a), "b": plain(p.b), "equal": p.equal} for p in pairs]

    curves = [
        {
            "metric": c.metric, "points": list(c.points), "common": c.common, "identical": c.identical,
            "first_step": c.first_step, "first": [plain(value) for value in c.first],
            "largest": plain(c.largest), "largest_step": c.largest_step,
        }
        for c in found.curves
    ]  # fmt: skip
    return {
        "a": a.id, "b": b.id, "same_spec": a.spec_id == b.spec_id, "bit_identical": found.same_curves,
        "identity": listed(found.identity), "settings": listed(found.settings), "results": listed(found.results),
        "curves": curves, "provenance": listed(found.provenance),
    }  # fmt: skip
