"""`vr runs diff`: two runs side by side, what differs first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.cli.console import say
from vrcli.cli.screen import show, suggest
from vrcli.db.location import Location
from vrcli.errors import UsageError
from vrcli.report.study.blocks import Block, Rows
from vrcli.results.single import check_metrics, curves_of

if TYPE_CHECKING:
    from vrcli.db.records import Curve, RunRecord
    from vrcli.results.diff import RunDifference


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
    from vrcli.results.diff import compare, difference_json  # numpy is slow to import

    with req.open_existing(database) as store:
        a, b = store.runs.get(first), store.runs.get(second)
        if a.id == b.id:
            raise UsageError(f"{first} and {second} are the same run; name two")
        check_metrics(store, [a, b], metric)
        curves = curves_of(store, a, metric), curves_of(store, b, metric)
    found = compare(a, b, *curves)
    if format == "json":
        print(json.dumps(difference_json(a, b, found)))
        return
    show(blocks(a, b, found, all=all))
    for line in plots(a, b, *curves, metric):
        say(line)
    suggest(*((f"vr runs show {run.id}", "that run in full") for run in (a, b)), database=database)


def blocks(a: RunRecord, b: RunRecord, found: RunDifference, *, all: bool) -> list[Block]:
    """Everything but the plots."""
    from vrcli.report import difference

    runs = f"run {a.id}", f"run {b.id}"
    out: list[Block] = [*difference.headlines(a, b, found)]
    for rows in difference.sections(found, runs, all=all):
        columns = list(rows[0])
        least = [name for name in ("at step", "points") if name in columns]
        out += ["", Rows(columns, rows, ["points"], list(runs), least)]
    if not all and (same := difference.equal_parts(found)):
        out += ["", f"equal are, of {same} (--all shows them)"]
    return out


def plots(
    a: RunRecord, b: RunRecord, first: Mapping[str, Curve], second: Mapping[str, Curve], asked: Sequence[str]
) -> list[str]:
    """Both runs' curves in one plot for each metric: those asked for, or the validation loss."""
    from vrcli.report.text_plot import plot

    usual = [name for name in ("val_loss", "train_loss") if name in first or name in second][:1]
    out: list[str] = []
    for name in asked or usual:
        series: dict[str, tuple[Any, Any]] = {
            f"run {run.id}": (own[name].steps, own[name].values)
            for run, own in ((a, first), (b, second))
            if name in own
        }
        out += ["", name, *plot(series, x_label="step").splitlines()]
    return out
