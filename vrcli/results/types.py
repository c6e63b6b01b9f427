"""What reports take and give: runs, columns, and the structured table behind every format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from vrcli.direction import HUGE
from vrcli.errors import UsageError

if TYPE_CHECKING:  # lists of runs need no scipy
    from vrcli.stats.inference import Direction, Summary

#: Task, data set, its fingerprint, preset: what rows must share to be compared.
Section: TypeAlias = tuple[str, str, str, str]


class Declared(NamedTuple):
    """What tasks say of one of their metrics, as `tasks.base.Metric` has it; no direction where they contradict."""

    direction: Direction | None
    percent: bool = False
    shown: bool = False


#: What tasks say of their metrics, by result name.
Known: TypeAlias = Mapping[str, Declared]

#: Curves that give an axis its positions, by what the axis is called; they are not results.
#: Gradients have one where their number follows from no number of steps.
POSITIONS = {"epoch": "epoch", "seconds": "wall_s", "gradients": "gradients"}

#: What stands beside a mean: a confidence interval, the standard deviation, the smallest and largest value, nothing.
Spread: TypeAlias = Literal["ci", "sd", "minmax", "none"]


class Run(Protocol):
    """A stored run, as far as reports look at it."""

    @property
    def id(self) -> int: ...
    @property
    def task(self) -> str: ...
    @property
    def preset(self) -> str | None: ...
    @property
    def dataset(self) -> str | None: ...
    @property
    def dataset_fingerprint(self) -> str | None: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def status(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def spec(self) -> Mapping[str, Any]: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def configuration(self) -> str: ...
    @property
    def objective(self) -> str: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...
    @property
    def results(self) -> Mapping[str, float]: ...


def outcome(run: Run, name: str) -> float | None:
    """A result of a finished run as it counts: NaN where it diverged, whatever it had reached before; None without."""
    value = run.results.get(name) if run.status == "completed" else math.nan
    return math.nan if value is not None and abs(value) > HUGE else value


def test_value(run: Run) -> float | None:
    """The test value of a run's objective; the test loss where that was not measured, None without."""
    name = run.objective.removeprefix("best_").removeprefix("val_")
    return run.results.get(f"test_{name}", run.results.get("test_loss"))


def values_of(runs: Iterable[Run], name: str) -> list[float]:
    """A result of every run as it counts; NaN where there is none."""
    return [math.nan if (value := outcome(run, name)) is None else value for run in runs]


#: Of runs that end where the program does that trains them.
_OWN_ENDS = {"commands:1": "1 command", "scripts:1": "1 script"}


def end_of(settings: Mapping[str, Any]) -> str:
    """What was to end a run, of all its settings: "gradients:20000", the number of its epochs, "?" where unknown."""
    epochs, steps = settings.get("epochs"), settings.get("max_steps")
    text = settings.get("until") or ("?" if epochs is None else str(epochs))
    text = _OWN_ENDS.get(text, text)
    return text if steps is None else f"{text} ({steps} steps)"


def repeatable(settings: Mapping[str, Any]) -> bool:
    """Whether the same settings and seed end at the same step each time: a number of seconds does not."""
    return not str(settings.get("until") or "").startswith("seconds:")


def axes_of(run: Run) -> tuple[str, ...]:
    """Names of the settings that a search chose for a run; none for a run on its own."""
    return getattr(run, "axes", ())


def data_name(section: Section, ambiguous: Collection[tuple[str, str]]) -> str:
    """A data set's name, with the beginning of its fingerprint where another of that name is about."""
    task, dataset, fingerprint, _ = section
    return f"{dataset}#{fingerprint[:6]}" if (task, dataset) in ambiguous else dataset


def same_name_other_data(sections: Iterable[Section]) -> set[tuple[str, str]]:
    """Tasks and names of data sets that stand for more than one content."""
    seen: dict[tuple[str, str], set[str]] = {}
    for task, dataset, fingerprint, _ in sections:
        seen.setdefault((task, dataset), set()).add(fingerprint)
    return {name for name, prints in seen.items() if len(prints) > 1}


def section_of(run: Run) -> Section:
    """What runs must share to be compared."""
    return run.task, run.dataset or "", run.dataset_fingerprint or "", run.preset or ""


class NamedRun(Run, Protocol):
    """A run, with what it is called by."""

    @property
    def name(self) -> str: ...
    @property
    def spec_id(self) -> str: ...
    @property
    def tag(self) -> str | None: ...
    @property
    def group(self) -> str | None: ...
    @property
    def error(self) -> str | None: ...


class ListedRun(NamedRun, Protocol):
    """A run whose process may have ended without a word."""

    @property
    def answers(self) -> bool: ...


#: Results that tell what a run cost, and how they are titled; everything else tells how good it is.
COSTS = {
    "wall_s": "s/run",
    "train_s": "training s",
    "samples_per_s": "samples/s",
    "step_ms": "ms/step",
    "optimizer_ms": "optimizer ms/step",
    "peak_memory_bytes": "peak memory",
    "steps": "steps",
    "epochs": "epochs",
    "parameters": "parameters",
    "gradient_evaluations": "gradients",
    "hessian_products": "Hessian products",
}
#: Those that differ from one time to the next, and from one machine to another, whatever was computed.
TIMINGS = frozenset(COSTS) - {"steps", "epochs", "parameters", "gradient_evaluations", "hessian_products"}


@dataclass(frozen=True)
class Column:
    """One result as a column.

    Args:
        key: its name among a run's results ("best_val_loss").
        title: heading.
        direction: whether smaller or larger is better; None where that is not known, and no row is the best.
        percent: shown times 100.
        shown: stands in every table of its task, and is not left out to save room.
    """

    key: str
    title: str = ""
    direction: Direction | None = "min"
    percent: bool = False
    shown: bool = False

    @classmethod
    def of(cls, key: str, known: Known | None = None) -> Column:
        """The column of a result: as `known` has it, else by a name that means the same everywhere."""
        title = COSTS.get(key) or key.replace("_", " ").replace("accuracy", "acc").replace("perplexity", "ppl")
        if known and key in known:
            return cls(key, title, *known[key])
        quantity = key.rsplit("_", 1)[-1]
        smaller = quantity in ("loss", "perplexity") or (key in COSTS and key != "samples_per_s")
        larger = quantity == "accuracy" or key == "samples_per_s"
        return cls(key, title, "min" if smaller else "max" if larger else None, quantity == "accuracy")

    @property
    def better(self) -> Direction:
        """Whether smaller or larger is better.

        Raises:
            UsageError: nobody knows.
        """
        if self.direction is None:
            raise UsageError(f"{self.key}: whether less or more is better is not known", "--metric")
        return self.direction

    @property
    def is_cost(self) -> bool:
        return self.key in COSTS

    @property
    def measures_machine(self) -> bool:
        """Whether it is another number on another machine."""
        return self.key in TIMINGS


def shown_columns(runs: Iterable[Run], known: Known) -> list[Column]:
    """What tasks want shown beside their objective, of what the runs measured on validation."""
    keys = {key for run in runs for key in run.results if key.startswith("val_")}
    return [Column.of(key, known) for key, declared in known.items() if declared.shown and key in keys]


@dataclass(frozen=True)
class Cell:
    """One metric of one row.

    Args:
        summary: over the row's seeds; a diverged run's value is NaN.
        best: the best of its section.
        tied: not significantly different from the best (Holm over the section's rows).
    """

    summary: Summary
    best: bool = False
    tied: bool = False


@dataclass(frozen=True)
class Several:
    """The values of one setting, one for each search that chose it."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """Runs of one configuration, which differ in nothing but their seed; or the winners of several searches.

    Args:
        settings: every setting by name; of several searches those that all share.
        shown: those that stand beside the row, see `groups.shown_settings`.
        seeds: one per run that counts, in order.
        run_ids: likewise.
        diverged: runs that diverged.
        repeats: further finished runs of a seed that is counted already.
        trials: configurations tried to find this one, by each search.
        pruned: some of them were stopped before their budget was spent.
        epochs: planned for each run; None where unknown, or where it ends elsewhere.
        max_steps: planned limit of steps, if there is one.
        until: what ends each run instead of epochs, as "gradients:20000".
        hardware: distinct machines.
        cells: by column key.
        searched: trials of a search on the seeds of that search, no fresh ones.
        axes: names of the settings that a search chose for its runs.
        varying: where runs of several configurations were pooled on request, the number of values by setting.
        per_search: where the row is of several searches of its optimizer, the number of runs of each, in order; then
            a search is one observation.
        ranges: of those, the settings in which they differ, with the value of each search.
        replaced: runs of settings that one of these searches had chosen before; they do not count.
        passed_over: searches of the optimizer under another protocol, which did worse on validation.
        parameters: of the model, every number that its runs have.
        reranked: runs by which a search ranked its best trials again, beside its trials.
        unconfirmed: a search found more, but none of its settings ran on a fresh seed.
    """

    task: str
    dataset: str
    fingerprint: str
    preset: str
    optimizer: str
    settings: Mapping[str, Any]
    shown: Mapping[str, Any]
    seeds: tuple[int | None, ...]
    run_ids: tuple[int, ...]
    diverged: int
    repeats: int
    trials: int
    pruned: bool
    epochs: int | None
    max_steps: int | None
    hardware: tuple[str, ...]
    cells: Mapping[str, Cell]
    searched: bool = False
    axes: tuple[str, ...] = ()
    varying: Mapping[str, int] = field(default_factory=dict)
    per_search: tuple[int, ...] = ()
    ranges: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    replaced: int = 0
    passed_over: int = 0
    parameters: tuple[int, ...] = ()
    until: str | None = None
    reranked: int = 0
    unconfirmed: bool = False

    @property
    def n(self) -> int:
        """Runs that count."""
        return len(self.run_ids)

    @property
    def section(self) -> Section:
        return self.task, self.dataset, self.fingerprint, self.preset

    @property
    def observations(self) -> list[tuple[int, ...]]:
        """Places among its runs of those that are one observation: each run alone, or those of one search."""
        sizes = self.per_search or (1,) * self.n
        ends = [sum(sizes[: at + 1]) for at in range(len(sizes))]
        return [tuple(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]

    @property
    def searches(self) -> int:
        """Searches that the row is of; 1 also for settings that no search chose, as for its trials."""
        return len(self.per_search) or 1

    @property
    def end(self) -> str:
        """What was to end each run."""
        return end_of({"epochs": self.epochs, "max_steps": self.max_steps, "until": self.until})

    @property
    def budget(self) -> tuple[int | str, ...]:
        """Searches, trials of each, and what was to end a run."""
        return self.searches, self.trials, self.end


@dataclass(frozen=True)
class Note:
    """What must be said of a table for it to be believed.

    Args:
        kind: what it is about, one word: "budget", "pruned", "searched", "partly", "spread", ...
        warns: it weakens what the table says.
    """

    kind: str
    text: str
    warns: bool = False


@dataclass(frozen=True)
class Table:
    """Rows by section, the best first, and what must be said below them.

    Args:
        columns: the results.
        noted: names of the columns that the notes are about; None for all.
        said: notes besides those that follow from the rows.
        spread: what stands beside a mean.
        shown: names of the columns to print, results by their keys; None for those that say something.
        common_preset: a note says the preset of all rows, so that the rows need not.
        chosen_by: the result by which only the best of an optimizer's settings are there.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    level: float = 0.95
    noted: tuple[str, ...] | None = None
    said: tuple[Note, ...] = ()
    spread: Spread = "ci"
    shown: tuple[str, ...] | None = None
    common_preset: bool = False
    chosen_by: Column | None = None

    @property
    def unequal_budgets(self) -> frozenset[Section]:
        """The sections whose rows had different budgets, or searched different numbers of settings."""
        return unequal_budgets(self.rows) | unequal_axes(self.rows)


def unequal_budgets(rows: Iterable[Row]) -> frozenset[Section]:
    """The sections whose rows had different budgets."""
    return _unequal((row.section, row.budget) for row in rows)


def unequal_axes(rows: Iterable[Row]) -> frozenset[Section]:
    """The sections whose searches, of the same number of trials, had different numbers of settings to find."""
    return _unequal((row.section, len(row.axes)) for row in rows if row.axes)


def _unequal(pairs: Iterable[tuple[Section, object]]) -> frozenset[Section]:
    seen = Counter(section for section, _ in set(pairs))
    return frozenset(section for section, count in seen.items() if count > 1)
