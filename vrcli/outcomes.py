"""What `vrcli.run`, `sweep`, `compare` and `study` give back: printed as the commands print it, HTML in a
notebook, pandas frames, and the facts behind them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.db.location import Location
from vrcli.direction import better
from vrcli.report.study.blocks import Block, lines, to_html

if TYPE_CHECKING:
    import pandas as pd

    from vrcli.db.records import RunRecord
    from vrcli.results.frames import Frames, Names
    from vrcli.stats.across_tasks import AcrossTasks, Ranks
    from vrcli.stats.comparison import Comparison
    from vrcli.stats.replicates import Pair
    from vrcli.study.files.claims import Decided
    from vrcli.study.files.run import StudyResult
    from vrcli.study.results import CompareResult, SearchResult, SweepResult, TasksResult, TrainResult

__all__ = [
    "CompareOutcome", "Outcome", "RunsOutcome", "StudyOutcome", "SweepOutcome", "TasksOutcome",
]  # fmt: skip


@dataclass(frozen=True, repr=False)
class Outcome:
    """What all of them can do.

    Args:
        database: where the runs are stored.
    """

    database: Location

    def blocks(self) -> Sequence[Block]:
        """What is shown: lines and tables."""
        raise NotImplementedError

    def as_json(self) -> Any:
        """What the command prints with `--format json`, as plain values."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(lines(self.blocks()))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return to_html(self.blocks())

    def _read(self, frame: Callable[[Frames], pd.DataFrame]) -> pd.DataFrame:
        from vrcli.results.frames import Frames

        with Frames(self.database) as stored:
            return frame(stored)


@dataclass(frozen=True, repr=False)
class RunsOutcome(Outcome):
    """Runs of one configuration, one per seed."""

    result: TrainResult

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        """The stored runs, in the order of their seeds: `.status`, `.results`, `.spec`, ..."""
        return tuple(self.result.runs)

    def blocks(self) -> Sequence[Block]:
        from vrcli.report.study.runs import run_rows

        return [run_rows(self.runs, self.result.metrics)]

    def __str__(self) -> str:
        from vrcli.report.study.runs import outcome_lines

        return "\n".join(line for run in self.runs for line in outcome_lines(run, self.result.metrics))

    def as_json(self) -> Any:
        from vrcli.results.flat import as_json

        bodies = [as_json(run) for run in self.runs]
        return bodies[0] if len(self.result.seeds) == 1 else bodies

    def frame(self) -> pd.DataFrame:
        """One row per run: the columns of `vrcli.load(...).runs()`."""
        return _runs_frame(self.runs)

    def curves(self, metrics: Names = None) -> pd.DataFrame:
        """The runs' curves: one row per run, metric and step, as `vrcli.load(...).curves()`."""
        return self._read(lambda stored: stored.curves([run.id for run in self.runs], metrics))


@dataclass(frozen=True, repr=False)
class SweepOutcome(Outcome):
    """Searches of one or several optimizers under one budget."""

    result: SweepResult

    @property
    def searches(self) -> tuple[SearchResult, ...]:
        """One or several per optimizer: `.best`, `.trials`, `.definition`, `.fresh`, ..."""
        return self.result.searches

    @property
    def best(self) -> Mapping[str, Mapping[str, Any]]:
        """The best settings of each optimizer that has any; of its several searches, those of the best value."""
        found: dict[str, Any] = {}
        for one in self.searches:
            name, best, way = one.definition.optimizer, one.best, one.definition.direction
            if best is not None and (name not in found or better(best.value, found[name].value, way)):
                found[name] = best
        return {name: best.params for name, best in found.items()}

    def blocks(self) -> Sequence[Block]:
        from vrcli.report.study.sweep import sweep_blocks

        return sweep_blocks(self.result)

    def as_json(self) -> Any:
        from vrcli.report.study.sweep import sweep_json

        return sweep_json(self.result)

    def frame(self) -> pd.DataFrame:
        """One row per search: optimizer, trials, the objective's best value and, by name, the settings that gave it."""
        import pandas as pd

        value = f"best_val_{self.searches[0].definition.objective}"

        rows = [
            {
                "optimizer": one.definition.optimizer, "sweep_id": one.sweep_id, "search_id": one.search_id,
                "trials": len(one.trials), **one.definition.ending,
                value: one.best.value if one.best else None, **(one.best.params if one.best else {}),
            }
            for one in self.searches
        ]  # fmt: skip
        return pd.DataFrame(rows).astype({value: "float64"})

    def trials(self) -> pd.DataFrame:
        """One row per trial: the columns of `vrcli.load(...).trials()`."""
        found = self._read(lambda stored: stored.trials({one.sweep_id for one in self.searches}))
        return found[found["search_id"].isin([one.search_id for one in self.searches])].reset_index(drop=True)

    def curves(self, metrics: Names = None) -> pd.DataFrame:
        """The curves of all trials' runs, as `vrcli.load(...).curves()`."""
        ids = [run for one in self.searches for trial in one.trials for run in trial.run_ids]
        return self._read(lambda stored: stored.curves(ids, metrics))


@dataclass(frozen=True, repr=False)
class _Compared(Outcome):
    """What comparisons of one and of several tasks have in common.

    Args:
        power: what more seeds could show is shown, too.
        explain: so is each verdict with its numbers in a sentence, and what the lines mean.
    """

    result: Any
    power: bool = False
    explain: bool = False

    @property
    def verdict(self) -> str:
        """What can be claimed of all pairs together, in a few words."""
        from vrcli.report.study.across import verdict

        return verdict(self.result)

    @property
    def failed(self) -> Mapping[str, str]:
        """Why an optimizer, or one of several tasks, has no comparison, by name."""
        return dict(self.result.failed)

    def blocks(self) -> Sequence[Block]:
        from vrcli.report.study.across import blocks

        return blocks(self.result, power=self.power, explain=self.explain)


@dataclass(frozen=True, repr=False)
class CompareOutcome(_Compared):
    """A comparison of optimizers, and what can be claimed."""

    result: CompareResult

    @property
    def comparisons(self) -> tuple[Comparison | Pair, ...]:
        """One per pair of optimizers: `.better` (None where nothing can be claimed), `.difference`, `.p_holm`, ..."""
        replicated = self.result.replicated
        return tuple(self.result.comparisons) if replicated is None else replicated.pairs

    @property
    def verdicts(self) -> tuple[str, ...]:
        """One sentence with its numbers per pair, then one for each optimizer that failed."""
        from vrcli.report.study.compare import verdicts

        return tuple(verdicts(self.result))

    @property
    def tuned(self) -> SweepOutcome | None:
        """The searches behind the settings; None where the preset's were taken."""
        return None if self.result.tuned is None else SweepOutcome(self.database, self.result.tuned)

    @property
    def runs(self) -> Mapping[str, tuple[RunRecord, ...]]:
        """The runs on fresh seeds by optimizer, in the order of their seeds."""
        found: dict[str, tuple[Any, ...]] = {name: tuple(self.result.of(name)) for name in self.result.runs}
        return found

    def as_json(self) -> Any:
        from vrcli.report.study.compare import compare_json

        return compare_json(self.result)

    def frame(self) -> pd.DataFrame:
        """One row per run on a fresh seed: the columns of `vrcli.load(...).runs()`."""
        return _runs_frame([run for runs in self.runs.values() for run in runs])

    def pairs(self) -> pd.DataFrame:
        """One row per pair of optimizers: every number of its comparison, `better`, and the verdict in words."""
        import pandas as pd

        return pd.DataFrame([
            {**asdict(one), "better": one.better, "verdict": verdict}
            for one, verdict in zip(self.comparisons, self.verdicts, strict=False)
        ])  # fmt: skip

    def curves(self, metrics: Names = None) -> pd.DataFrame:
        """The curves of the runs on fresh seeds, as `vrcli.load(...).curves()`."""
        ids = [run.id for runs in self.runs.values() for run in runs]
        return self._read(lambda stored: stored.curves(ids, metrics))


@dataclass(frozen=True, repr=False)
class TasksOutcome(_Compared):
    """A comparison of optimizers on several tasks, and what can be claimed over them."""

    result: TasksResult

    @property
    def tasks(self) -> Mapping[str, CompareOutcome]:
        """The comparison on each task that has one, by name."""
        more = self.power, self.explain
        return {name: CompareOutcome(self.database, one, *more) for name, one in self.result.tasks.items()}

    @property
    def comparisons(self) -> tuple[AcrossTasks, ...]:
        """One per pair of optimizers over the tasks: `.effect` (a mean log ratio), `.low`, `.high`, `.p_holm`, ..."""
        return tuple(self.result.pairs)

    @property
    def ranks(self) -> Ranks | None:
        """The optimizers ranked over the tasks; None below six tasks."""
        return self.result.ranks

    @property
    def verdicts(self) -> tuple[str, ...]:
        """One sentence with its numbers per pair of optimizers over the tasks, then those of each task."""
        from vrcli.report.study.across import verdicts

        return tuple(verdicts(self.result))

    def as_json(self) -> Any:
        from vrcli.report.study.across import tasks_json

        return tasks_json(self.result)

    def frame(self) -> pd.DataFrame:
        """One row per run on a fresh seed, of all tasks: the columns of `vrcli.load(...).runs()`."""
        return _runs_frame([run for one in self.tasks.values() for runs in one.runs.values() for run in runs])

    def pairs(self) -> pd.DataFrame:
        """One row per pair of optimizers and task: the mean log ratio with its interval, and the replicates' own."""
        import pandas as pd

        return pd.DataFrame(
            [{"a": pair.a, "b": pair.b, **asdict(task)} for pair in self.comparisons for task in pair.tasks]
        )


@dataclass(frozen=True, repr=False)
class StudyOutcome(Outcome):
    """A whole experiment: what is stored of it, and what that says."""

    result: StudyResult

    @property
    def claims(self) -> tuple[Decided, ...]:
        """Every claim of the source in every part: `.said`, `.claim`, `.part`, `.pair`, ..."""
        return tuple(self.result.claims)

    @property
    def parts(self) -> Mapping[str, CompareOutcome]:
        """The comparison of each part that is complete, by name."""
        found = {name: one.result() for name, one in self.result.found.items() if one.complete}
        return {name: CompareOutcome(self.database, one) for name, one in found.items() if one is not None}

    @property
    def failed(self) -> Mapping[str, str]:
        """Why a part has no result, by name; of a part whose optimizer failed, that."""
        return self.result.all_failed

    @property
    def complete(self) -> bool:
        """Whether all runs of the scale are there."""
        return all(one.complete for one in self.result.found.values())

    def blocks(self) -> Sequence[Block]:
        from vrcli.db.store import Store
        from vrcli.report.study.experiment import section_blocks, sections
        from vrcli.report.study.written import gates_of

        with Store.open(self.database, mode="read") as store:
            return section_blocks(sections(self.result, gates_of(store, self.result)))

    def as_json(self) -> Any:
        from vrcli.report.study.experiment import study_json

        return study_json(self.result)

    def write(self, folder: str | os.PathLike[str], *, force: bool = False) -> int:
        """Write the page with its figures and runs to a folder; how many runs those are.

        Raises:
            UsageError: the folder cannot be written, or holds something else.
        """
        from vrcli.db.store import Store
        from vrcli.report.study.written import target_of, write_page

        with Store.open(self.database, mode="read") as store:
            return write_page(self.result, store, target_of(Path(folder), force))


def _runs_frame(runs: Iterable[RunRecord]) -> pd.DataFrame:
    from vrcli.results.frames import runs_frame

    return runs_frame(list(runs))
