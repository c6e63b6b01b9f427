"""What a person sees of a sweep: live on a terminal, a line per trial elsewhere, and a table at the end."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vrcli.cli.console import err, notice, say
from vrcli.cli.screen import is_terminal, show, show_next, show_rows
from vrcli.cli.waiting import SIGN
from vrcli.report import wording
from vrcli.report.study.sweep import ended_text, header, note_text, plan_line, space_rows, sweep_blocks
from vrcli.report.wording import command, duration, settings
from vrcli.report.wording import value as loss
from vrcli.study.results import SweepPlan, SweepResult

if TYPE_CHECKING:
    from vrcli.db.location import Location
    from vrcli.search.definition import Definition
    from vrcli.search.trials import Trial
    from vrcli.study.events import Event, Note, RunsPlanned, SearchBegan

_WHAT = {
    "rerank": "on new seeds to rank the best trials of each search again", "fresh": "on fresh seeds",
    "budget": "on the same fresh seeds of what each search had found before its last trial",
}  # fmt: skip
_BARS = "▁▂▃▄▅▆▇█"


def spark(values: Sequence[float], width: int = 16) -> str:
    """A curve in one line of blocks, the newest values to the right."""
    shown = [value for value in values if math.isfinite(value)][-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in shown)


@dataclass
class _Shown:
    """A search as far as its events have told.

    Args:
        ended: the trials that have, by number.
        begun: when each open trial began, by the clock that only goes forward.
        losses: of the open trials, by epoch.
        took: seconds of each trial that completed.
    """

    definition: Definition
    total: int
    ended: dict[int, Trial] = field(default_factory=dict)
    open: dict[int, Trial] = field(default_factory=dict)
    begun: dict[int, float] = field(default_factory=dict)
    losses: dict[int, list[float]] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)
    exhausted: bool = False

    @property
    def name(self) -> str:
        return self.definition.optimizer

    @property
    def best(self) -> Trial | None:
        from vrcli.search.trials import best_of

        return best_of(self.ended.values(), self.definition.direction)


class SweepDisplay:
    """Shows the events of a sweep.

    Args:
        plan: nothing is run: what is planned goes to stdout.
        advise: end with what to do next.
        summary: the outcome goes to stdout; else nothing does.
        database: that next steps are about.
    """

    def __init__(
        self, *, quiet: bool, plan: bool = False, advise: bool = True, summary: bool = True,
        database: Location | None = None,
    ) -> None:  # fmt: skip
        self.quiet, self.plan, self.advise, self.summary, self.database = quiet, plan, advise, summary, database
        self.console = err()
        self.searches: dict[int, _Shown] = {}
        self.run_s: Mapping[str, float] = {}
        self.jobs = 1
        self.over: set[int] = set()
        self.begun: Counter[tuple[str, str]] = Counter()
        self.live: Any = None
        self.total = self.done = 0
        self.bar: Any = None

    def __enter__(self) -> SweepDisplay:
        self.wait("reading data, timing a few steps" if self.plan else "reading data, trying each optimizer")
        return self

    def __exit__(self, *error: object) -> None:
        SIGN.hide()
        self.stop_live()
        self.stop_bar()

    def wait(self, text: str) -> None:
        """Say what goes on until the next event."""
        if not self.quiet and self.bar is None and self.live is None:
            SIGN.show(text)

    def show(self, event: Event) -> None:
        """Say what an event tells."""
        from vrcli.study import events as e

        if not isinstance(event, e.Tick | e.RunStarted):
            SIGN.hide()
        if not isinstance(event, e.SearchBegan):
            self.taken_up()
        self.told(event)
        if isinstance(event, e.PlanMade | e.SearchBegan):
            self.wait("starting workers")
        elif isinstance(event, e.Tuned) or (isinstance(event, e.RunEnded) and self.done == self.total):
            self.wait("reading results")

    def told(self, event: Event) -> None:
        """Print what an event tells."""
        from vrcli.study import events as e

        match event:
            case e.Note():
                self.note(event)
            case e.PlanMade():
                self.run_s, self.jobs = event.run_s, event.jobs
                if not self.quiet:
                    to = None if self.plan else self.console
                    say(header(event.definitions[0], event.trials, event.about), to=to, prose=True)
                    show_rows(space_rows(event.definitions), to=to)
            case e.SearchBegan():
                self.began(event)
            case e.TrialStarted(at, trial):
                self.start_live()
                one = self.searches[at]
                one.open[trial.number], one.begun[trial.number] = trial, time.monotonic()
                one.losses[trial.number] = []
            case e.TrialEpoch(at, number, _, value):
                self.searches[at].losses[number].append(value)
            case e.TrialEnded(at, trial):
                self.ended(self.searches[at], trial)
            case e.SearchEnded(at, exhausted):
                self.searches[at].exhausted = bool(exhausted)
                self.over.add(at)
                if len(self.over) == len(self.searches):
                    self.stop_live()
            case e.RunsPlanned():
                self.runs_planned(event)
            case e.RunEnded():
                completed = event.run is not None and event.run.status == "completed"
                what = loss(event.run.best) if completed else event.run.status if event.run else "failed"
                self.counted(f"{event.optimizer}  fresh seed {event.seed}  {what}")
            case e.Tick() if self.live is not None:
                self.live.update(self.render())
            case e.Finished(SweepResult() as result) | e.Tuned(result):
                self.outcome(result)
            case e.Finished(SweepPlan() as plan) if self.summary and not self.quiet:
                for planned in plan.searches:
                    done = f"{planned.stored} of {plan.trials} trials stored"
                    say(f"{planned.definition.optimizer}: {done}, about {duration(planned.trial_s)} each")
                say(plan_line(plan))
                if is_terminal():
                    argv = [word for word in sys.argv if word != "--plan"]
                    show_next([(command(argv), "begin")], database=None)

    # -- parts --------------------------------------------------------------------------------------------------------

    def note(self, event: Note) -> None:
        if event.kind == "superseded" and self.quiet:
            return
        notice(note_text(event))

    def began(self, event: SearchBegan) -> None:
        ended = {t.number: t for t in event.trials if t.status != "running"}
        self.searches[event.search] = _Shown(event.definition, event.total, ended)
        where = f"sweep {event.sweep_id} · {event.name} · {event.definition.optimizer}"
        self.begun[where, f"at {len(ended)}/{event.total}" if event.trials else ""] += 1

    def taken_up(self) -> None:
        """Say which searches begin, and which continue; those of one optimizer that are alike in one line."""
        for (where, at), n in self.begun.items():
            if not self.quiet:
                several = f": {n} searches" if n > 1 else ""
                verb = f"continue{'s' * (n == 1)} {at}" if at else "is new" if n == 1 else "are new"
                say(f"{where}{several} {verb}", to=self.console)
        self.begun.clear()

    def ended(self, one: _Shown, trial: Trial) -> None:
        took = time.monotonic() - one.begun.pop(trial.number)
        del one.losses[trial.number], one.open[trial.number]
        one.ended[trial.number] = trial
        if trial.status == "completed":
            one.took.append(took)
        if self.quiet or self.live is not None:
            return
        outcome = loss(trial.value) if trial.status == "completed" else f"{trial.status} ({trial.error or 'no reason'})"
        best = one.best
        place = f"{len(one.ended)}/{one.total}"
        say(
            f"{self.label(one)} {place:>7}  {outcome}  best {loss(best.value if best else None)}  "
            f"{settings(trial.params, searched=trial.params)}  took {duration(took)}  {self.left()}",
            to=self.console,
        )

    def label(self, one: _Shown) -> str:
        """The optimizer of a search, and which of its searches it is where there are several."""
        alike = [other for other in self.searches.values() if other.name == one.name]
        number = next(at for at, other in enumerate(alike, 1) if other is one)
        return f"{one.name} search {number}/{len(alike)}" if len(alike) > 1 else one.name

    def runs_planned(self, event: RunsPlanned) -> None:
        """Say what follows; on a terminal a bar counts it."""
        self.stop_live()
        self.stop_bar()
        self.total, self.done = event.total, 0
        if self.quiet:
            return
        say(f"{wording.counted(event.total, 'run')} {_WHAT[event.what]}", to=self.console)
        if self.console.is_terminal and event.total:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
            from rich.table import Column

            last = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis"))

            self.bar = Progress(
                BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"),
                last, console=self.console, transient=True, refresh_per_second=4,
            )  # fmt: skip
            self.bar.add_task("", total=event.total)
            self.bar.start()

    def counted(self, line: str) -> None:
        """A run has ended.

        Args:
            line: what came out; nothing where it is not worth a line.
        """
        self.done += 1
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=self.done, **({"description": line} if line else {}))
        elif line and not self.quiet:
            say(line, to=self.console)
        if self.done == self.total:
            self.stop_bar()

    def stop_bar(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def outcome(self, result: SweepResult) -> None:
        self.stop_live()
        if self.quiet:
            return
        for one in result.searches:
            if one.exhausted:
                notice(f"{one.definition.optimizer}: {one.exhausted}")
            if one.at_edge:
                notice(
                    f"{one.definition.optimizer}: best {', '.join(one.at_edge)} at the end of what was searched; "
                    "better settings may lie beyond it (--space)"
                )
        if self.summary:
            show(sweep_blocks(result, advise=self.advise, rounded=is_terminal()), database=self.database, argv=sys.argv)

    # -- on a terminal ------------------------------------------------------------------------------------------------

    def start_live(self) -> None:
        self.stop_bar()  # one thing moves at a time
        if self.live is None and self.console.is_terminal and not self.quiet:
            from rich.live import Live

            self.live = Live(console=self.console, refresh_per_second=4, transient=True)
            self.live.start()

    def stop_live(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def left(self) -> str:
        """How long the searches still take; runs may follow them."""
        return f"about {duration(self.left_s())} left to search"

    def left_s(self) -> float:
        """Estimate of the seconds until every search has its total."""
        total = 0.0
        for one in self.searches.values():
            each = (
                sum(one.took) / len(one.took) if one.took else self.run_s.get(one.name, 0.0) * len(one.definition.seeds)
            )
            going = sum(min(time.monotonic() - begun, each) for begun in one.begun.values())
            total += 0.0 if one.exhausted else max((one.total - len(one.ended)) * each - going, 0.0)
        return total / self.jobs

    def render(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for one in self.searches.values():
            for line in self.lines(one):
                table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in line))
        table.add_row("", "", "", Text(self.left(), style="dim"))
        return table

    def lines(self, one: _Shown) -> list[list[Any]]:
        from rich.progress_bar import ProgressBar

        done, best = len(one.ended), one.best
        if not one.ended and not one.open:
            return [[self.label(one), "queued", "", ""]]
        said = f"best {loss(best.value)}  {settings(best.params, searched=best.params)}" if best else ""
        bar = ProgressBar(total=one.total, completed=done, width=24)
        lines: list[list[Any]] = [
            [self.label(one), bar, f"{done}/{one.total}", f"{said}  {ended_text(one.ended.values())}"],
        ]
        for number, losses in sorted(one.losses.items()):
            last = loss(losses[-1]) if losses else "-"
            epoch = f"{len(losses)}/{one.definition.epochs or '?'}"
            params = one.open[number].params
            text = f"{spark(losses)} {last}  {settings(params, searched=params)}"
            lines.append(["", f"  trial {number + 1}", epoch, text])
        return lines
