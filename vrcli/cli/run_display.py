"""What a person sees of a run: its progress on stderr, its outcome on stdout, with and without a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vrcli.cli.console import err, notice, say
from vrcli.cli.screen import show_next
from vrcli.cli.waiting import SIGN
from vrcli.report import wording
from vrcli.report.study.runs import outcome_lines, run_steps
from vrcli.report.wording import settings as wording_settings
from vrcli.report.wording import value

if TYPE_CHECKING:
    from vrcli.db.location import Location
    from vrcli.db.records import RunRecord
    from vrcli.engine.events import Event
    from vrcli.engine.prepare import Prepared
    from vrcli.execute.checkpoints import Unsaved
    from vrcli.execute.outage import Away
    from vrcli.report.study.blocks import Step

#: Settings that say much whoever set them.
ALWAYS = ("lr", "weight_decay")


def settings_line(settings: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """The optimizer's settings that say something: lr and weight decay, and what the preset or the user set."""
    shown = {n: v for n, v in settings.items() if n in ALWAYS or origins.get(n, "default") != "default"}
    return wording_settings({name: found for name, found in shown.items() if found is not None})


class RunDisplay:
    """Watches one run: a header, a line per epoch, and on a terminal a bar with the step, rate and time left."""

    def __init__(
        self, origins: Mapping[str, str], *, quiet: bool, summary: bool = True, database: Location | None = None
    ) -> None:
        self.origins, self.quiet, self.summary, self.database = origins, quiet, summary, database
        self.console = err()
        self.bar: Any = None
        self.last: RunRecord | None = None

    def __enter__(self) -> RunDisplay:
        if not self.quiet:
            SIGN.show("reading data, building the model")
        return self

    def __exit__(self, *error: object) -> None:
        SIGN.hide()
        self._stop_bar()
        self.say_next()

    def of(self, origins: Mapping[str, str]) -> RunDisplay:
        """The same, where only now it is known where the settings come from."""
        self.origins = origins
        return self

    def say_next(self) -> None:
        """What to do next: once, also after several seeds."""
        if self.last is not None and self.summary and not self.quiet:
            show_next(self._steps(self.last), database=self.database)

    def show(self, event: Any) -> None:
        """Say what an event of a study tells: of runs one after the other."""
        from vrcli.study import events as e

        match event:
            case e.Note():
                from vrcli.report.study.sweep import note_text

                notice(note_text(event))
            case e.RunBegan():
                self.origins = event.origins
                self.begin(event.run, event.prepared)
            case e.RunEnded(reused=False):
                self.end(event.run)
            case e.RunsPlanned() | e.RunEnded() | e.Finished():
                pass
            case _:
                self.event(event)

    # -- the runner's calls -------------------------------------------------------------------------------------------

    def begin(self, record: RunRecord, prepared: Prepared) -> None:
        from vrcli.tasks.base import headline
        from vrcli.tasks.loop import LoopTask

        SIGN.hide()
        self.prepared, self.spec = prepared, prepared.spec
        self.metrics = headline(prepared.task.metrics)
        # A command keeps its learning rate to itself, and every loop of its own how many samples a step takes.
        self.has_lr, self.has_rate = prepared.task.own_optimizers is None, not isinstance(prepared.task, LoopTask)
        self.lr: float | None = None
        self.rate = 0.0
        if self.quiet:
            return
        for line in self.header():
            say(line, to=self.console, prose=True)
        say(to=self.console)
        say(self.columns(), to=self.console, style="bold")
        if self.console.is_terminal:
            self._start_bar()

    def event(self, event: Event | Away | Unsaved) -> None:
        from vrcli.engine.events import Ended, Eval, Started, Steps
        from vrcli.execute.checkpoints import Unsaved
        from vrcli.execute.outage import Away

        if isinstance(event, Away | Unsaved):
            notice(str(event))
        elif isinstance(event, Started):
            self.total = event.total_steps or self.spec.training.until
            if self.bar is not None and event.step and event.total_steps:
                at = f"{event.step}/{self.total}"
                self.bar.update(self.job, completed=event.step / event.total_steps, at=at)
        elif isinstance(event, Steps):
            self.lr = event.values.get("lr_effective", [self.lr])[-1]
            self.rate = event.samples / event.train_s if event.train_s > 0 else 0.0
            if self.bar is not None:
                loss = event.values.get("train_loss")
                text = f"loss {value(loss[-1])}" if loss else ""
                text += f"   {self.rate:,.0f} samples/s" if loss and self.has_rate else ""
                at = f"{event.steps[-1]}/{self.total}"
                self.bar.update(self.job, completed=min(1.0, event.share), at=at, text=text)
        elif isinstance(event, Eval):
            if not self.quiet:
                say(self.row(event), to=self.bar.console if self.bar else self.console)
        elif isinstance(event, Ended):
            self._stop_bar()

    def end(self, record: RunRecord) -> None:
        self._stop_bar()
        if self.summary:
            for line in outcome_lines(record, self.metrics):
                say(line, prose=True)
        self.last = record

    def _steps(self, record: RunRecord) -> list[Step]:
        """What to do next; only the database knows which other optimizers a command takes."""
        task, others = type(self.prepared.task), []
        if self.database is not None and hasattr(task, "command"):
            from vrcli.db.errors import StoreError
            from vrcli.db.store import Store
            from vrcli.results.single import optimizers_beside

            with suppress(StoreError), Store.open(self.database, mode="read") as store:
                others = optimizers_beside(store, record)
        return run_steps(record, task, others)

    def _stop_bar(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    # -- lines --------------------------------------------------------------------------------------------------------

    def header(self) -> list[str]:
        spec, task = self.spec, self.prepared.task
        about = f" ({self.prepared.data.about})" if self.prepared.data.about else ""
        precision = "" if spec.training.precision == "fp32" else f", {spec.training.precision}"
        threads = f", {spec.threads} thread{'s' * (spec.threads != 1)}" if spec.device == "cpu" else ""
        parts = [
            spec.task,
            f"{spec.dataset}{about}",
            f"preset {spec.preset}",
            f"{spec.optimizer} {settings_line(spec.optimizer_settings, self.origins)}",
            f"seed {spec.seed}",
            f"{spec.device}{threads}{precision}",
        ]
        lines = [" · ".join(parts)]
        if spec.rates is not None:
            lines.append(f"  {wording.replay(spec.rates.run, spec.training.lr_from or '')}")
        if spec.preset == "quick" and "paper" in task.presets:
            lines.append(f"  the paper's setting is --preset paper ({task.presets['paper'].summary})")
        return lines

    def columns(self) -> str:
        heads = "".join(f"{'val ' + m.name:>{self.width}}" for m in self.metrics)
        cost = f"{'lr eff':>11}" * self.has_lr + f"{'samples/s':>12}" * self.has_rate
        return f"{'step' if self.by_step else 'epoch':>9}{'train loss':>13}{heads}{cost}"

    @property
    def by_step(self) -> bool:
        """Whether its lines stand for steps and a share of the budget, not for epochs."""
        return self.spec.training.until is not None or self.spec.training.eval_every is not None

    @property
    def width(self) -> int:
        """Of a metric's column."""
        return 16 if len(self.metrics) < 3 else 14

    def row(self, event: Any) -> str:
        values = event.values
        epoch = f"{event.step} {event.share:4.0%}" if self.by_step else f"{event.epoch}/{self.spec.training.epochs}"
        cells = "".join(f"{value(values[f'val_{m.name}'], percent=m.percent):>{self.width}}" for m in self.metrics)
        lr = "-" if self.lr is None else f"{self.lr:.1e}"
        train = value(values.get("epoch_train_loss"))
        cost = f"{lr:>11}" * self.has_lr + f"{self.rate:>12,.0f}" * self.has_rate
        return f"{epoch:>9}{train:>13}{cells}{cost}"

    def _start_bar(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("   step {task.fields[at]}"), BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"), TimeRemainingColumn(), TextColumn("left"),
            console=self.console, transient=True, refresh_per_second=5,
        )  # fmt: skip
        self.job = self.bar.add_task("", total=1.0, at="0", text="")
        self.bar.start()
