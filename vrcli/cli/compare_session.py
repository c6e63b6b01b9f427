"""One invocation of `vr compare`: tune under equal budgets, run fresh seeds, test, and say what can be claimed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.cli.console import err, notice, say
from vrcli.cli.request import open_store, threads_each
from vrcli.db.location import Location
from vrcli.errors import UsageError, nearest

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.search.definition import Wish
    from vrcli.stats.comparison import Comparison
    from vrcli.study.paired import PairedJob
    from vrcli.tasks.base import Metric, Task

_OPEN = ("pending", "running", "interrupted")


@dataclass
class CompareSession:
    """What one command was asked for.

    Args:
        trials: to tune each optimizer with; 0 takes the preset's settings.
        seeds: how many fresh ones; they count on from those of the search.
        threads: of all runs together; None for what the machine has.
        metric: the result that the verdict is about.
        power: also say what more seeds could show.
    """

    wish: Wish
    trials: int
    seeds: int
    jobs: int
    threads: int | None
    database: Location
    data_dir: Path | None
    tune: bool
    quiet: bool
    tag: str | None
    metric: str
    level: float
    target: float | None
    power: bool
    sweeps: dict[str, dict[str, Any]] = field(default_factory=dict)
    code: dict[str, dict[str, str]] = field(default_factory=dict)
    stored: list[RunRecord] = field(default_factory=list)

    # -- the outline --------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Everything the command does; returns what `--format json` prints."""
        from vrcli.report.tables.comparison import values_of
        from vrcli.stats.comparison import compare_all

        self.check_metric()
        flags = self.settings()
        if self.trials:
            flags = self.tuned()
        groups = self.confirm(flags)
        values = {
            name: {int(run.seed or 0): value for run, value in zip(runs, values_of(runs, self.metric), strict=True)}
            for name, runs in groups.items()
        }
        direction = self.task_metric().direction
        comparisons = compare_all(values, metric=self.words, direction=direction, level=self.level, bootstrap=True)
        lines = self.lines(groups, comparisons)
        if not self.quiet:
            for line in lines:
                say(line, prose=True)
        return self.body(groups, values, comparisons)

    # -- before anything runs -----------------------------------------------------------------------------------------

    @cached_property
    def task(self) -> type[Task[Any]]:
        from vrcli.tasks.registry import load

        return load(self.wish.task)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """What a run measures, by result name."""
        objective = self.task.metrics[0]
        found = {f"best_val_{objective.name}": objective}
        for metric in self.task.metrics:
            found[f"test_{metric.name}"] = found[f"val_{metric.name}"] = metric
        return found

    def check_metric(self) -> None:
        if self.metric not in self.metrics:
            hint = nearest(self.metric, self.metrics) or f"; {self.wish.task} has {', '.join(self.metrics)}"
            raise UsageError(f"--metric {self.metric} is no result of {self.wish.task}{hint}")

    def task_metric(self) -> Metric:
        return self.metrics[self.metric]

    @property
    def words(self) -> str:
        return self.metric.replace("_", " ")

    def settings(self) -> dict[str, dict[str, Any]]:
        """Each optimizer's given settings, checked before anything is recorded."""
        from vrcli.search.definition import given_settings
        from vrcli.spec import resolve

        found = given_settings(self.task, self.wish)
        for optimizer, flags in found.items():
            self.code[optimizer] = resolve(self.task, optimizer, preset=self.wish.preset, flags=flags).spec.code
        return found

    # -- runs ---------------------------------------------------------------------------------------------------------

    def tuned(self) -> dict[str, dict[str, Any]]:
        """Each optimizer's best settings after its sweep."""
        from vrcli.cli.sweep_session import Session

        session = Session(
            wish=self.wish, trials=self.trials, jobs=self.jobs, threads=self.threads, database=self.database,
            data_dir=self.data_dir, tune=self.tune, quiet=self.quiet, advise=False,
        )  # fmt: skip
        self.sweeps = {one["optimizer"]: one for one in session.run()["sweeps"]}
        given = self.settings()
        for optimizer, one in self.sweeps.items():
            if one["best_params"] is None:
                raise UsageError(f"no trial of {optimizer} completed: there are no settings to compare it with")
            given[optimizer] |= one["best_params"]
        counts = {one["trials"] for one in self.sweeps.values()}
        if len(counts) > 1:
            notice("the optimizers had unequal budgets: " + self.budget())
        return given

    def jobs_of(self, flags: Mapping[str, Mapping[str, Any]]) -> list[PairedJob]:
        """One job per seed and optimizer, seed by seed, so that a stop leaves whole pairs."""
        from vrcli.study.confirm import fresh_seeds
        from vrcli.study.paired import PairedJob

        facts = [self.wish.task, self.wish.preset, dict(flags), self.code]
        definition = json.dumps(facts, sort_keys=True, default=str)
        group = f"compare-{hashlib.blake2b(definition.encode(), digest_size=3).hexdigest()}"
        return [
            PairedJob(self.wish.task, optimizer, self.wish.preset, given, seed, self.wish.device, self.threads_each,
                      group, self.code[optimizer], self.tag, self.sweeps[optimizer]["search"] if self.sweeps else None)
            for seed in fresh_seeds(self.wish.seeds, self.seeds) for optimizer, given in flags.items()
        ]  # fmt: skip

    @cached_property
    def threads_each(self) -> int:
        """CPU threads of each run."""
        return threads_each(self.threads, self.jobs)

    def confirm(self, flags: Mapping[str, Mapping[str, Any]]) -> dict[str, list[RunRecord]]:
        """The paired runs of every optimizer, in the order of their seeds."""
        from vrcli.execute.executor import LocalExecutor
        from vrcli.execute.run import stop_requests
        from vrcli.study.paired import PairedWorkshop, run_jobs

        jobs = self.jobs_of(flags)
        workshop = PairedWorkshop(self.database, self.data_dir, self.tune)
        with (
            stop_requests() as should_stop,
            # Refused here, in one line, if it cannot be used; closed after the workers, it folds their journal.
            open_store(self.database),
            closing(LocalExecutor(workshop, self.jobs)) as executor,
        ):
            records = run_jobs(jobs, executor, ended=self.progress(len(jobs)), should_stop=should_stop)
        groups: dict[str, list[RunRecord]] = {name: [] for name in flags}
        for job, record in zip(jobs, records, strict=True):
            groups[job.optimizer].append(record)
        return groups

    def progress(self, total: int) -> Callable[[PairedJob, RunRecord], None]:
        done, begun = 0, datetime.now(UTC)

        def ended(job: PairedJob, record: RunRecord) -> None:
            nonlocal done
            done += 1
            if record.finished_at is not None and record.finished_at < begun:
                self.stored.append(record)
            elif not self.quiet:
                value = record.results.get(self.metric)
                shown = record.status if record.status != "completed" or value is None else f"{value:.4f}"
                text = (
                    f"{done:>4}/{total}  {job.optimizer:12} seed {job.seed:<4} run {record.id:<5} {self.words} {shown}"
                )
                say(text, to=err())
            if done == total and self.stored and not self.quiet:
                say(self.stored_line(total), to=err())

        return ended

    def stored_line(self, total: int) -> str:
        """How many runs were not made by this command, and with what else they were made."""
        import torch

        from vrcli.engine.provenance import differences

        device = torch.device(self.wish.device)
        made = Counter(
            text for run in self.stored for text in map(" ".join, differences(run.provenance, device).items())
        )
        parts = [f"{len(self.stored)} of the {total} runs were stored already"]
        return "; ".join([*parts, *(f"{count} were made with {text}" for text, count in made.items())])

    # -- what is said -------------------------------------------------------------------------------------------------

    def budget(self) -> str:
        return ", ".join(f"{name} {one['trials']} x {one['epochs']}" for name, one in self.sweeps.items())

    def lines(self, groups: Mapping[str, Sequence[RunRecord]], comparisons: Sequence[Comparison]) -> list[str]:
        """The whole outcome for people."""
        from vrcli.cli.grid import grid
        from vrcli.report.tables.comparison import comparison_rows
        from vrcli.report.verdicts import detail, line, verdict
        from vrcli.tasks.base import headline

        first = next(iter(groups.values()))[0]
        epochs = first.spec["training"]["epochs"]
        tuned = f"{self.trials} trials x {epochs} epochs each, then" if self.trials else f"{epochs} epochs,"
        head = [first.task, first.dataset or "", f"preset {first.preset}", f"{tuned} {self.seeds} fresh seeds paired"]
        objective = self.task.metrics[0].name
        columns = {f"best_val_{objective}": (f"best val {objective}", self.task.metrics[0].percent)}
        columns |= {f"test_{m.name}": (f"test {m.name}", m.percent) for m in headline(self.task.metrics)}
        budgets = {name: self.sweeps[name]["trials"] if self.sweeps else 1 for name in groups}
        rows = comparison_rows(groups, columns, budgets, level=self.level)
        lines = ["", " · ".join(head), "", *grid(list(rows[0]), rows, right=list(rows[0])[1:])]
        lines.append(f"± is a {100 * self.level:g}% interval of the mean")
        if self.trials:
            lines.append(f"the settings come from one search each (--search-seed {self.wish.search_seed})")
        lines.append("")
        for one in comparisons:
            lines += [line(one), *(f"  {text}" for text in [detail(one)] if text), f"→ {verdict(one)}"]
        if self.power:
            lines += ["", *self.power_lines(comparisons)]
        if self.trials:
            lines += ["", *self.best_of_k_lines()]
        if self.target is not None:
            lines += ["", *self.target_lines(groups)]
        return lines

    def power_lines(self, comparisons: Sequence[Comparison]) -> list[str]:
        from vrcli.report.wording import number

        lines = ["what more seeds could show (power 0.8, given the spread seen)"]
        for one in comparisons:
            seen = "no number of seeds" if one.seeds_needed is None else f"{one.seeds_needed} seeds"
            lines.append(
                f"  {one.a}, {one.b}: {one.n} seeds show a difference of {number(one.detectable, 2)}; "
                f"the one seen would take {seen}"
            )
        return lines

    def best_of_k_lines(self) -> list[str]:
        """Expected best loss after k trials, from all trials of the sweeps: comparable where budgets are not."""
        from vrcli.cli.sweep_display import best_of_k_lines
        from vrcli.db.store import Store

        with Store.open(self.database, mode="read") as store:
            searches = {
                name: [(t.state, t.value) for t in store.searches.trials(one["search"]) if t.state not in _OPEN]
                for name, one in self.sweeps.items()
            }
        return best_of_k_lines(searches, self.task.metrics[0].name)

    def target_lines(self, groups: Mapping[str, Sequence[RunRecord]]) -> list[str]:
        """Steps and seconds to the target; a run that never gets there is censored, not averaged."""
        from vrcli.db.store import Store
        from vrcli.stats.budget import steps_to_target

        assert self.target is not None
        name = f"val_{self.task.metrics[0].name}"
        lines = [f"to {name.replace('_', ' ')} {self.target:g}"]
        with Store.open(self.database, mode="read") as store:
            for optimizer, runs in groups.items():
                curves = store.curves.read([run.id for run in runs], [name, "wall_s", "epoch"])
                texts = []
                for x, unit in ((None, "steps"), ("epoch", "epochs"), ("wall_s", "s")):
                    pairs: list[tuple[Sequence[float], Sequence[float]]] = []
                    for run in runs:
                        loss = curves.get((run.id, name))
                        if loss is None:  # it diverged before its first evaluation
                            pairs.append(((), ()))
                        else:
                            pairs.append((loss.steps if x is None else curves[run.id, x].values, loss.values))
                    diverged = [run.status == "diverged" for run in runs]
                    found = steps_to_target(pairs, self.target, diverged=diverged)
                    if found.median is not None:
                        texts.append(f"{found.median:.4g} {unit}")
                median = f"median {'  '.join(texts)}   " if texts else ""
                lines.append(f"  {optimizer:12} {median}reached by {found.reached} of {found.n}")
        return lines

    def body(
        self,
        groups: Mapping[str, Sequence[RunRecord]],
        values: Mapping[str, Mapping[int, float]],
        comparisons: Sequence[Comparison],
    ) -> dict[str, Any]:
        """The outcome as plain JSON values."""
        from vrcli.report.verdicts import verdict

        pairs = [{**_plain(asdict(one)), "verdict": verdict(one), "better": one.better} for one in comparisons]
        return {
            "task": self.wish.task, "preset": self.wish.preset, "metric": self.metric, "level": self.level,
            "trials": self.trials, "sweeps": list(self.sweeps.values()), "comparisons": pairs,
            "optimizers": {
                name: {"values": _plain(values[name]), "runs": [run.id for run in runs],
                       "statuses": [run.status for run in runs]}
                for name, runs in groups.items()
            },
        }  # fmt: skip


def _plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The same for JSON, which has no NaN and no infinities: those become their names."""

    from vrcli.results.flat import json_number

    def one(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [one(v) for v in value]
        return json_number(value) if isinstance(value, float) else value

    return {str(key): one(value) for key, value in values.items()}
