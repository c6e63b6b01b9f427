"""What a person sees of a sweep: live on a terminal, a line per trial elsewhere, and a table at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vrcli.cli.console import err, say
from vrcli.report.wording import duration, settings

if TYPE_CHECKING:
    from vrcli.search.definition import Definition
    from vrcli.study.tune import Sweep, Trial

_BARS = "▁▂▃▄▅▆▇█"


def loss(value: float | None) -> str:
    """A loss in four decimals, in powers of ten where that says nothing."""
    if value is None:
        return "-"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"


def spark(values: Sequence[float], width: int = 16) -> str:
    """A curve in one line of blocks, the newest values to the right."""
    shown = [value for value in values if math.isfinite(value)][-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in shown)


def ended_text(sweep: Sweep) -> str:
    """How the trials that did not complete ended ("2 diverged, 1 failed"), or nothing."""
    counts: dict[str, int] = {}
    for trial in sweep.ended():
        if trial.status != "completed":
            counts[trial.status] = counts.get(trial.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def best_of_k_lines(searches: Mapping[str, Sequence[tuple[str, float | None]]], objective: str) -> list[str]:
    """Expected best value after k trials: comparable where the numbers of trials are not.

    Args:
        searches: state and value of each trial that ended, by optimizer.
        objective: what is minimised.
    """
    from vrcli.cli.grid import grid
    from vrcli.report.budget_text import best_of_k_rows

    rows = best_of_k_rows(searches)
    columns = list(rows[0])
    title = f"best val {objective} to expect after so many trials (Dodge et al. 2019; the median where trials diverged)"
    return [title, *grid(columns, rows, right=columns[1:])]


def space_lines(definitions: Sequence[Definition]) -> list[str]:
    """The spaces, one line per axis, with their origin."""
    from vrcli.cli.grid import grid

    rows = [
        {"": f"  {d.optimizer if i == 0 else ''}", "searched": name, "range": str(axis), "where from": axis.origin}
        for d in definitions
        for i, (name, axis) in enumerate(d.axes.items())
    ]
    return grid(["", "searched", "range", "where from"], rows)


def header(definition: Definition, trials: int, about: str) -> str:
    """What is searched, and what it costs."""
    data = definition.dataset + (f" ({about})" if about else "")
    several = f" x {len(definition.seeds)} seeds" if len(definition.seeds) > 1 else ""
    epochs = f"{definition.epochs} epoch{'s' * (definition.epochs != 1)}"
    pruned = "" if definition.prune == "none" else f" · hopeless trials stopped early ({definition.prune})"
    return (
        f"{definition.task} · {data} · preset {definition.preset} · objective: best validation loss · "
        f"budget {trials} trials x {epochs}{several} for each optimizer{pruned}"
    )


class SweepDisplay:
    """Watches the sweeps of one command.

    Args:
        run_s: estimate of one run's seconds, by optimizer, until trials have been timed.
    """

    def __init__(self, sweeps: Sequence[Sweep], *, jobs: int, run_s: Mapping[str, float], quiet: bool) -> None:
        self.sweeps, self.jobs, self.quiet = sweeps, jobs, quiet
        self.console = err()
        self.run_s = run_s
        self.begun: dict[tuple[str, int], float] = {}
        self.losses: dict[tuple[str, int], list[float]] = {}
        self.took: dict[str, list[float]] = {}
        self.live: Any = None

    def __enter__(self) -> SweepDisplay:
        if self.console.is_terminal and not self.quiet:
            from rich.live import Live

            self.live = Live(console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.stop()

    # -- the controller's calls ---------------------------------------------------------------------------------------

    def started(self, sweep: Sweep, trial: Trial) -> None:
        key = (sweep.definition.optimizer, trial.number)
        self.begun[key], self.losses[key] = time.monotonic(), []

    def noted(self, sweep: Sweep, trial: Trial, note: Mapping[str, Any]) -> None:
        if "loss" in note:
            self.losses[sweep.definition.optimizer, trial.number].append(note["loss"])

    def ended(self, sweep: Sweep, trial: Trial) -> None:
        name = sweep.definition.optimizer
        took = time.monotonic() - self.begun.pop((name, trial.number))
        self.losses.pop((name, trial.number))
        if trial.status == "completed":
            self.took.setdefault(name, []).append(took)
        if self.quiet or self.live is not None:
            return
        outcome = loss(trial.value) if trial.status == "completed" else f"{trial.status} ({trial.error or 'no reason'})"
        best = sweep.best()
        place = f"{len(sweep.ended())}/{sweep.total}"
        say(
            f"{name} {place:>7}  {outcome}  best {loss(best.value if best else None)}  "
            f"{settings(trial.params)}  {duration(took)}  {duration(self.left_s())} left",
            to=self.console,
        )

    def tick(self) -> None:
        if self.live is not None:
            self.live.update(self.render())

    # -- what is shown ------------------------------------------------------------------------------------------------

    def left_s(self) -> float:
        """Estimate of the seconds until every sweep has its total."""
        total = 0.0
        for sweep in self.sweeps:
            name, took = sweep.definition.optimizer, self.took.get(sweep.definition.optimizer, [])
            each = sum(took) / len(took) if took else self.run_s.get(name, 0.0) * len(sweep.definition.seeds)
            going = sum(min(time.monotonic() - begun, each) for key, begun in self.begun.items() if key[0] == name)
            total += max((sweep.total - len(sweep.ended())) * each - going, 0.0) if not sweep.exhausted else 0.0
        return total / self.jobs

    def render(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for sweep in self.sweeps:
            for line in self.lines(sweep):
                table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in line))
        table.add_row("", "", "", Text(f"{duration(self.left_s())} left", style="dim"))
        return table

    def lines(self, sweep: Sweep) -> list[list[Any]]:
        from rich.progress_bar import ProgressBar

        name, done, best = sweep.definition.optimizer, len(sweep.ended()), sweep.best()
        if not sweep.trials:
            return [[name, "queued", "", ""]]
        said = f"best {loss(best.value)}  {settings(best.params)}" if best else ""
        notes = ended_text(sweep)
        lines: list[list[Any]] = [
            [
                name,
                ProgressBar(total=sweep.total, completed=done, width=24),
                f"{done}/{sweep.total}",
                f"{said}  {notes}",
            ]
        ]
        for (optimizer, number), losses in sorted(self.losses.items()):
            if optimizer == name:
                last = loss(losses[-1]) if losses else "-"
                epoch = f"{len(losses)}/{sweep.definition.epochs}"
                text = f"{spark(losses)} {last}  {settings(sweep.trials[number].params)}"
                lines.append(["", f"  trial {number + 1}", epoch, text])
        return lines


def end_rows(sweeps: Sequence[Sweep], confirmed: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per optimizer: what its search found for what it was given."""
    rows = []
    for sweep in sorted(sweeps, key=_best_value):
        best = sweep.best()
        row = {
            "optimizer": sweep.definition.optimizer,
            "trials": len(sweep.ended()),
            "best val loss": loss(best.value if best else None),
            "not completed": ended_text(sweep) or "-",
            "settings": settings(best.params) if best else "-",
        }
        fresh = confirmed.get(sweep.definition.optimizer)
        if fresh is not None:
            row["fresh seeds: val loss"] = fresh["text"]
        rows.append(row)
    return rows


def _best_value(sweep: Sweep) -> float:
    best = sweep.best()
    return math.inf if best is None or best.value is None else best.value
