"""What a person sees of a comparison while it runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from vrcli.cli.console import notice, say
from vrcli.cli.sweep_display import SweepDisplay
from vrcli.report.wording import number

if TYPE_CHECKING:
    from vrcli.study.events import Event


class CompareDisplay(SweepDisplay):
    """Shows the events of a comparison: those of its sweep, then a line for each run.

    Args:
        summary: also what the searches came to.
    """

    def __init__(self, *, quiet: bool, summary: bool = True) -> None:
        super().__init__(quiet=quiet, advise=False, summary=summary)
        self.metric = ""
        self.stored: list[Any] = []

    def told(self, event: Event) -> None:
        from vrcli.study import events as e

        match event:
            case e.TaskBegan(task, number, tasks):
                self.searches, self.over = {}, set()
                if not self.quiet:
                    say(f"task {number} of {tasks}: {task}", to=self.console)
            case e.TaskEnded(task, _, reason):
                self.stop_live()
                if reason:
                    notice(f"{task} has no result: {reason}; its runs are stored")
            case e.RunsPlanned():
                self.stored, self.metric = [], event.metric
                self.runs_planned(event)
            case e.RunEnded():
                self.run_ended(event)
            case _:
                super().told(event)

    def run_ended(self, event: Any) -> None:
        run, line = event.run, ""
        if event.reused:
            self.stored.append(run)
        else:
            at = "" if self.bar else f"{self.done + 1:>4}/{self.total}  "
            name = f"run {run.id:<5}" if run is not None else ""
            line = f"{at}{event.optimizer:12} seed {event.seed:<4} {name} {self._outcome(run)}"
        self.counted(line)
        if self.done == self.total and self.stored and not self.quiet:
            say(self.stored_line(), to=self.console, prose=True)

    def _outcome(self, run: Any) -> str:
        """What came of a run: the result that is compared, or how it ended."""
        value = run.results.get(self.metric) if run is not None and run.status == "completed" else None
        if value is not None:
            return f"{self.metric.replace('_', ' ')} {number(value)}"
        return "failed" if run is None else str(run.status)

    def stored_line(self) -> str:
        """How many runs were not made by this command, and with what else they were made."""
        import torch

        from vrcli.engine.provenance import differences

        device = torch.device(self.stored[0].spec["device"])
        made = Counter(
            text for run in self.stored for text in map(" ".join, differences(run.provenance, device).items())
        )
        parts = [f"{len(self.stored)} of the {self.total} runs were stored already"]
        return "; ".join([*parts, *(f"{count} were made with {text}" for text, count in made.items())])
