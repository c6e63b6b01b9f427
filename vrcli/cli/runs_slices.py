"""`vr runs path` and `vr runs plane`: the loss on the line between the kept weights of two runs, and around those of
one."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from vrcli.cli import request as req
from vrcli.cli.console import say
from vrcli.cli.screen import suggest
from vrcli.cli.waiting import waiting
from vrcli.db.location import Location
from vrcli.errors import UsageError


def path(
    first: str = typer.Argument(metavar="RUN", help="number or name of a run"),
    second: str | None = typer.Argument(
        None, metavar="RUN", help="number or name of another; without it the line is that of the last update"
    ),
    points: int = typer.Option(25, "--points", help="where it is measured, both ends among them"),
    weights: str | None = typer.Option(
        None,
        "--weights",
        metavar="best|last",
        help="which of two runs [default: best, where both kept those]",
        show_default=False,
    ),
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Measure the loss between two runs or along a last step.

    Two runs must have kept their weights (vr run --keep-weights best), one run those before and after its last step
    (--keep-weights update). What is measured is kept with the first run; vr plot path draws it.
    """
    req.check_format(format)
    from vrcli.study import slices

    if second is None and weights is not None:
        raise UsageError("--weights goes with two runs; the line of one run is that of its last update")
    with req.open_existing(database, mode="write") as store, waiting("evaluating the networks on the line"):
        if second is None:
            a, found = slices.update(store, first, points=points, data_dir=data_dir)
            runs, where = [a.id], f"along the last update of run {a.id}"
        else:
            a, b, found = slices.path(store, first, second, which=weights, points=points, data_dir=data_dir)
            runs, where = [a.id, b.id], f"between the {found.which} weights of run {a.id} and run {b.id}"
    if format == "json":
        print(json.dumps({"runs": runs, "weights": found.which, "t": found.at, **found.values}))
        return
    say(f"measured at {len(found.at)} points {where}")
    suggest((f"vr plot path {' '.join(map(str, runs))}", "the loss along the line"), database=database)


def plane(
    run: str = typer.Argument(metavar="RUN", help="number or name of a run"),
    points: int = typer.Option(21, "--points", help="along either direction, odd; their square is measured"),
    span: float = typer.Option(
        1.0, "--span", help="how far it reaches on either side; at 1 a filter is moved by its own length"
    ),
    seed: int = typer.Option(0, "--seed", help="seed of the two directions"),
    weights: str | None = typer.Option(
        None, "--weights", metavar="best|last", help="which [default: best, where it kept those]", show_default=False
    ),
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Measure the loss on a random plane through a run.

    Its two directions are filter-normalised (arXiv 1712.09913). The run must have kept its weights (vr run
    --keep-weights best). What is measured is kept with the run; vr plot plane draws it.
    """
    req.check_format(format)
    from vrcli.study.slices import plane as measure

    with req.open_existing(database, mode="write") as store, waiting("evaluating the networks around the run"):
        of, found = measure(store, run, which=weights, points=points, span=span, seed=seed, data_dir=data_dir)
    if format == "json":
        facts = {"run": of.id, "weights": found.which, "seed": found.seed, "at": found.at}
        print(json.dumps({**facts, **found.values}))
        return
    say(f"measured at {points} x {points} points around the {found.which} weights of run {of.id}")
    suggest((f"vr plot plane {of.id}", "the loss on the plane"), database=database)
