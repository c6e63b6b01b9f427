"""`vr plot`: figures of what was stored, as files, windows, numbers or text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vrcli.cli import filters as only
from vrcli.cli import request as req
from vrcli.cli.filters import Filter
from vrcli.cli.plot_output import Output
from vrcli.db.location import Location
from vrcli.errors import UsageError, nearest
from vrcli.results.types import POSITIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vrcli.cli.plot_data import Chosen
    from vrcli.db.records import RunRecord

BANDS = ("sd", "ci", "minmax", "quantile")
#: Bands that hold a share of the runs, or of what their mean may be; the others have no such share.
SHARES = ("ci", "quantile")
AXES = ("step", *POSITIONS)
KINDS = ("trials", "settings", "parallel")

app = typer.Typer(help="Draw curves, sweeps and comparisons.", no_args_is_help=True, rich_markup_mode=None)

OUTPUT = typer.Option(None, "--output", "-o", metavar="FILE", help="write FILE.png, .svg or .pdf", show_default=False)
DATA = typer.Option(None, "--data", metavar="FILE", help="write the numbers behind it as FILE.csv", show_default=False)
SHOW = typer.Option(False, "--show", help="open it in a window or the system's viewer")
METRIC = typer.Option([], "--metric", metavar="NAME", help="curve to draw, repeatable [default: train_loss, val_loss]")
X = typer.Option("step", "--x", metavar="AXIS", help="step, epoch or seconds")
LOG = typer.Option(None, "--log/--no-log", help="logarithmic y axis [default: where it serves]", show_default=False)
BAND = typer.Option("sd", "--band", help="around the mean: sd, ci, minmax or quantile")
LEVEL = typer.Option(
    None, "--level", metavar="SHARE", help="share of a ci or quantile band [default: 0.95]", show_default=False
)
EVERY_STEP = typer.Option(False, "--every-step", help="each step of long curves, not means of stretches")
RUN = typer.Option([], "--run", metavar="RUN", help="only this run (number or name); repeatable")


@app.command("curves")
def curves(
    tasks: list[str] = typer.Argument(None, metavar="[TASK|RUN]...", help="tasks, or runs by number or name"),
    run: list[str] = RUN, opt: list[str] = only.OPT, preset: str | None = only.PRESET, tag: str | None = only.TAG,
    group: str | None = only.GROUP, sweep: list[str] = only.SWEEP, where: list[str] = only.WHERE,
    since: str | None = only.SINCE, metric: list[str] = METRIC, x: str = X, log: bool | None = LOG,
    every_step: bool = EVERY_STEP, output: Path | None = OUTPUT, data: Path | None = DATA, show: bool = SHOW,
    force: bool = req.FORCE, database: Location = req.DB, debug: bool = req.DEBUG,
) -> None:  # fmt: skip
    """Every run's own curve, thin, coloured by optimizer: training left, validation right."""
    target = _begin(Output(output, data, show, force, database, log), x)
    from vrcli.cli import plot_data, plot_draw
    from vrcli.cli.runs import open_existing

    with open_existing(database) as store:
        refs, names = plot_draw.split_refs(store, tasks or [])
        given = Filter(names, opt, preset, tag, group, sweep, where, since)
        runs = plot_draw.named_runs(store, [*run, *refs], given)
        if not runs:
            _nothing()
            return
        chosen = plot_draw.own_lines(runs) if run or refs else plot_data.Chosen(plot_data.by_optimizer(runs))
        plot_draw.curves(store, chosen, metric, x, every_step, target)


@app.command("envelope")
@only.selecting
def envelope(
    chosen: Filter,
    every: bool = typer.Option(False, "--all", help="every configuration, not each optimizer's best"),
    metric: list[str] = METRIC, x: str = X, band: str = BAND, level: float | None = LEVEL, log: bool | None = LOG,
    every_step: bool = EVERY_STEP, output: Path | None = OUTPUT, data: Path | None = DATA, show: bool = SHOW,
    force: bool = req.FORCE, database: Location = req.DB, debug: bool = req.DEBUG,
) -> None:  # fmt: skip
    """Mean curve and spread over the seeds of each optimizer's best settings: training left, validation right."""
    target = _begin(Output(output, data, show, force, database, log), x, band, level)
    from vrcli.cli import plot_data, plot_draw
    from vrcli.cli.runs import open_existing

    with open_existing(database) as store:
        runs = chosen.select(store)
        found = _finished(plot_data.configurations(store, runs, every=every), runs)
        if found is not None:
            plot_draw.envelope(store, found, metric, x, (band, level or 0.95), every_step, target)


@app.command("telemetry")
@only.selecting
def telemetry(
    chosen: Filter,
    every: bool = typer.Option(False, "--all", help="every configuration, not each optimizer's best"),
    metric: list[str] = typer.Option([], "--metric", metavar="NAME", help="curve to draw, repeatable"),
    x: str = X, band: str = typer.Option("quantile", "--band", help="sd, ci, minmax or quantile"),
    level: float | None = typer.Option(None, "--level", metavar="SHARE", show_default=False,
                                       help="share of a ci or quantile band [default: 0.9]"), log: bool | None = LOG,
    output: Path | None = OUTPUT, data: Path | None = DATA, show: bool = SHOW,
    force: bool = req.FORCE, database: Location = req.DB, debug: bool = req.DEBUG,
) -> None:  # fmt: skip
    """Loss, effective learning rate, velocity norm and gate above each other, of one task."""
    target = _begin(Output(output, data, show, force, database, log), x, band, level)
    from vrcli.cli import plot_data, plot_draw
    from vrcli.cli.runs import open_existing

    with open_existing(database) as store:
        runs = chosen.select(store)
        found = _finished(plot_data.configurations(store, runs, every=every, most=1), runs)
        if found is not None:
            plot_draw.telemetry(store, found, metric, x, band, level or 0.9, target)


@app.command("target")
@only.selecting
def target(
    chosen: Filter,
    every: bool = typer.Option(False, "--all", help="every configuration, not each optimizer's best"),
    value: float | None = typer.Option(None, "--target", metavar="LOSS", help="[default: what half the runs of each "
                                       "optimizer reach]", show_default=False),
    metric: str | None = typer.Option(None, "--metric", metavar="NAME", help="[default: the validation objective]",
                                      show_default=False),
    x: str = X, output: Path | None = OUTPUT, data: Path | None = DATA, show: bool = SHOW,
    force: bool = req.FORCE, database: Location = req.DB, debug: bool = req.DEBUG,
) -> None:  # fmt: skip
    """The share of runs that reached a target loss, over the steps, epochs or seconds it took them; of one task."""
    wanted = _begin(Output(output, data, show, force, database), x)
    if value is not None and not math.isfinite(value):
        raise UsageError(f"--target must be a finite number, got {value}")
    from vrcli.cli import plot_data, plot_draw
    from vrcli.cli.runs import open_existing

    with open_existing(database) as store:
        runs = chosen.select(store)
        found = _finished(plot_data.configurations(store, runs, every=every, most=1), runs)
        if found is not None:
            plot_draw.target(store, found, metric, value, x, wanted)


@app.command("profile")
@only.selecting
def profile(
    chosen: Filter,
    metric: str | None = typer.Option(None, "--metric", metavar="NAME", help="result, less is better [default: the "
                                      "best validation objective]", show_default=False),
    per_seed: bool = typer.Option(False, "--per-seed", help="each seed of each task is a problem of its own"),
    output: Path | None = OUTPUT, data: Path | None = DATA, show: bool = SHOW,
    force: bool = req.FORCE, database: Location = req.DB, debug: bool = req.DEBUG,
) -> None:  # fmt: skip
    """On what share of the tasks each optimizer is within a factor of the best (Dolan and More)."""
    target = _begin(Output(output, data, show, force, database))
    from vrcli.cli import plot_data, plot_draw
    from vrcli.cli.runs import open_existing

    with open_existing(database) as store:
        runs = chosen.select(store)
        found = _finished(plot_data.configurations(store, runs, every=False, most=10_000), runs)
        if found is not None:
            plot_draw.profile(found, metric, per_seed, target)


@app.command("sensitivity")
@only.selecting
def sensitivity(
    chosen: Filter,
    setting: str = typer.Option("lr", "--setting", metavar="NAME", help="the setting on the x axis"),
    tolerance: float = typer.Option(0.1, "--tolerance", help="the stable range stays within this share of the best"),
    metric: str | None = typer.Option(None, "--metric", metavar="NAME", help="result, less is better [default: the "
                                      "best validation objective]", show_default=False),
    output: Path | None = OUTPUT, data: Path | None = DATA, show: bool = SHOW,
    force: bool = req.FORCE, database: Location = req.DB, debug: bool = req.DEBUG,
) -> None:  # fmt: skip
    """The outcome over the learning rate, how wide its stable range is and where runs diverge; of one task."""
    target = _begin(Output(output, data, show, force, database))
    if not 0 < tolerance < 100:
        raise UsageError(f"--tolerance must be > 0 (0.1 is 10%), got {tolerance:g}")
    from vrcli.cli import plot_draw
    from vrcli.cli.runs import open_existing

    with open_existing(database) as store:
        runs = chosen.select(store)
        if not runs:
            _nothing()
            return
        plot_draw.sensitivity(runs, setting, tolerance, metric, target)


@app.command("sweep")
def sweep(
    sweeps: list[str] = typer.Argument(None, metavar="SWEEP|TASK", help="sweeps by number or name [default: the "
                                       "newest, and its like of other optimizers]", show_default=False),
    opt: list[str] = only.OPT, preset: str | None = only.PRESET, where: list[str] = only.WHERE,
    kind: str = typer.Option("trials", "--kind", help="trials (curves), settings (scatter) or parallel (coordinates)"),
    x: str | None = typer.Option(None, "--x", metavar="AXIS", help="of the curves: step, epoch or seconds [default: "
                                 "epoch]", show_default=False),
    output: Path | None = OUTPUT, data: Path | None = DATA, show: bool = SHOW,
    force: bool = req.FORCE, database: Location = req.DB, debug: bool = req.DEBUG,
) -> None:  # fmt: skip
    """All trials of a search coloured by their outcome, and the best so far; or the outcome over each setting."""
    target = _begin(Output(output, data, show, force, database), x or "epoch")
    _one_of("--kind", kind, KINDS)
    if x is not None and kind != "trials":
        raise UsageError(f"--x is the axis of curves, which --kind {kind} does not draw; leave one of them out")
    from vrcli.cli import plot_draw
    from vrcli.cli.runs import open_existing

    with open_existing(database) as store:
        plot_draw.sweep(store, sweeps or [], opt, preset, where, kind, x or "epoch", target)


def _begin(output: Output, x: str = "step", band: str = "sd", level: float | None = None) -> Output:
    """Refuse bad values before any work."""
    output.check()
    _one_of("--x", x, AXES)
    _one_of("--band", band, BANDS)
    if level is not None and not 0 < level < 1:
        raise UsageError(f"--level must be between 0 and 1 (0.95 is 95%), got {level:g}")
    if level is not None and band not in SHARES:
        raise UsageError(f"--level goes with --band {' or '.join(SHARES)}; the band {band} has no share")
    return output


def _one_of(flag: str, given: str, accepted: Sequence[str]) -> None:
    if given not in accepted:
        raise UsageError(f"{flag} {given} is not one of {', '.join(accepted)}{nearest(given, accepted)}")


def _finished(chosen: Chosen, runs: Sequence[RunRecord]) -> Chosen | None:
    """What there is to draw, with what must be said of the rest; None, with one line, where nothing is."""
    from vrcli.cli.console import notice

    for note in chosen.notes:
        notice(note)
    if chosen.sections:
        return chosen
    if runs:
        notice("none of these runs has finished")
    else:
        _nothing()
    return None


def _nothing() -> None:
    from vrcli.cli.console import notice

    notice("no runs yet; start with: vr run cnn --opt vradam")
