"""What every figure is: options declared as data, and from stored runs to the drawing, its numbers and its text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, NamedTuple, get_args, get_type_hints

from vrcli.errors import UsageError, nearest
from vrcli.report.figures.style import Plot, Series
from vrcli.report.figures.text import Page
from vrcli.report.wording import counted, quantity, settings, unconfirmed
from vrcli.results.lines import MOST_SECTIONS, Configurations, Line, Reader, outcomes, several_machines
from vrcli.results.types import Column, Run
from vrcli.stats.curves import Band

#: Runs by the line they stand on, by section.
Sections = dict[str, dict[Series, Sequence[Any]]]
#: Bands that hold a share of the runs, or of what their mean may be; the others have no such share.
SHARES = ("ci", "quantile")
NO_RUNS = "no runs yet; start with: vr run cnn --opt vradam"
NONE_FINISHED = "none of these runs has finished"


class Axis(NamedTuple):
    """What runs are drawn over.

    Args:
        plural: of its unit.
        whole: it has no halves.
    """

    label: str
    plural: str
    whole: bool


AXES = {
    "step": Axis("step", "steps", True),
    "epoch": Axis("epoch", "epochs", True),
    "gradients": Axis("gradient evaluation", "gradient evaluations", True),
    "seconds": Axis("wall time (s)", "seconds", False),
}
#: As they may be asked for besides.
PLURALS = {f"{name}s": name for name in ("step", "epoch")}


@dataclass(frozen=True)
class Option:
    """How a field of a figure is asked for; it annotates the field's type.

    Args:
        flag: empty for words without one.
        choices: values that are accepted; any where empty.
        also: values that are accepted besides, and not named.
        selects: it says which runs, and stands with the options that do.
    """

    flag: str
    help: str
    metavar: str | None = None
    choices: Sequence[str] = ()
    also: Collection[str] = ()
    selects: bool = False


# Options that several figures have.
ANY_CURVE = Option("--metric", "curve to draw, repeatable", "NAME")
Metrics = Annotated[tuple[str, ...], replace(ANY_CURVE, help=f"{ANY_CURVE.help} [default: train_loss, val_loss]")]
Outcome = Annotated[str | None, Option("--metric", "result [default: the best validation objective]", "NAME")]
X = Annotated[
    str, Option("--x", "steps, epochs, gradients or seconds", "AXIS", ("steps", "epochs", "gradients", "seconds"), AXES)
]
Every = Annotated[bool, Option("--all", "every configuration, not each optimizer's best")]
EveryStep = Annotated[bool, Option("--every-step", "each step of long curves, not means over bins")]
Log = Annotated[bool | None, Option("--log/--no-log", "logarithmic y axis [default: where it serves]")]
BANDS = get_args(Band)


def check_level(level: float | None, band: str) -> None:
    """Refuse what is not a share, and a share of a band that has none."""
    if level is not None and not 0 < level < 1:
        raise UsageError(f"--level must be between 0 and 1 (0.95 is 95%), got {level:g}")
    if level is not None and band not in SHARES:
        raise UsageError(f"--level goes with --band {' or '.join(SHARES)}; the band {band} has no share")


@dataclass(frozen=True)
class Drawn:
    """A figure that was asked for.

    Args:
        text: the same for a terminal.
        log: logarithmic y axis of the text; None for where it serves.
    """

    plot: Plot
    text: Callable[[Page], str]
    log: bool | None = None


@dataclass(frozen=True)
class Figure(ABC):
    """One figure: its docstring is its help, its fields are its options."""

    #: Which of the options that select runs it has, as fields of a filter.
    selects: ClassVar[Sequence[str]] = ("tasks", "opts", "preset", "tag", "group", "sweeps", "where", "since", "status")

    def __post_init__(self) -> None:
        if (x := getattr(self, "x", None)) in PLURALS:
            object.__setattr__(self, "x", PLURALS[x])

    @classmethod
    def options(cls) -> dict[str, tuple[Any, Option, Any]]:
        """By field: its type, how it is asked for, and its default."""
        hints = get_type_hints(cls, include_extras=True)
        return {one.name: (*get_args(hints[one.name]), one.default) for one in fields(cls)}

    def check(self) -> None:
        """Refuse bad values before any work.

        Raises:
            UsageError: names the option that is to blame.
        """
        for name, (_, option, _) in self.options().items():
            value = getattr(self, name)
            if option.choices and value is not None and value not in (*option.choices, *option.also):
                hint = nearest(value, option.choices)
                raise UsageError(f"{option.flag} {value} is not one of {', '.join(option.choices)}{hint}")

    @abstractmethod
    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        """Read the runs and draw them; None where there is nothing to draw.

        Args:
            notes: takes what must be said beside the figure, or instead of it.

        Raises:
            UsageError: runs that no such figure can be made of.
        """


@dataclass(frozen=True)
class Computed(Figure):
    """A figure of theory: it reads no runs."""

    selects: ClassVar[Sequence[str]] = ()

    def make(self, reader: Reader, notes: list[str]) -> Drawn:
        return self.compute()

    @abstractmethod
    def compute(self) -> Drawn:
        """Work it out and draw it."""


def best_settings(reader: Reader, notes: list[str], *, every: bool, most: int = MOST_SECTIONS) -> Sections | None:
    """Each optimizer's best settings, or all of them, as lines; None where no run has finished."""
    runs = reader.runs()
    chosen = reader.configurations(runs, every=every, most=most)
    notes += _left_out(chosen)
    if not chosen.sections:
        notes.append(NONE_FINISHED if runs else NO_RUNS)
        return None
    return named(chosen.sections, in_order=True)


def _left_out(chosen: Configurations) -> list[str]:
    """What must be said of runs that are on no line."""
    notes = unfinished(chosen.unfinished)
    if chosen.searched:
        notes.append(f"{counted(chosen.searched, 'run')} of sweeps' trials: not drawn (vr plot sweep draws them)")
    if chosen.on_search_seed:
        notes.append(
            "some lines show a sweep's best trial on the seed that chose it (optimistic): add --confirm-seeds N"
        )
    if chosen.unconfirmed:
        notes.append(unconfirmed(chosen.unconfirmed))
    if chosen.dropped:
        notes.append("only the best settings of each optimizer are drawn; --all draws all")
    return notes


def unfinished(count: int) -> list[str]:
    """What must be said of runs that have not ended."""
    return [f"{counted(count, 'run')} still running, failed or interrupted: not drawn"] * bool(count)


def named(sections: Mapping[str, Sequence[Line]], *, in_order: bool = False) -> Sections:
    """Runs by line, as legends call it.

    Args:
        in_order: by name, not by rank: an optimizer keeps its colour from figure to figure.
    """
    found: Sections = {}
    for title, lines in sections.items():
        pairs = list(zip(_series(lines), (line.runs for line in lines), strict=True))
        found[title] = dict(sorted(pairs, key=lambda pair: pair[0].label) if in_order else pairs)
    return found


def _series(lines: Sequence[Line]) -> list[Series]:
    """Each line by its optimizer, with the settings in which the optimizer's lines differ where it has several."""
    labels = [
        f"{line.runs[0].id} {line.runs[0].name} · {line.optimizer}" if line.alone
        else f"{line.optimizer} {settings(line.settings)}".strip()
        for line in lines
    ]  # fmt: skip
    again = {label for label in labels if labels.count(label) > 1}
    return [
        Series(line.optimizer, f"{label} (run {line.runs[0].id})" if label in again else label)
        for label, line in zip(labels, lines, strict=True)
    ]


def directed(reader: Reader, asked: str | None, runs: Sequence[Run]) -> Column:
    """The result that is shown, of which either less or more is better.

    Raises:
        UsageError: the runs have no such result, or nobody knows which of its values are better.
    """
    column = reader.of_result(asked, runs) if asked else reader.objective(runs)
    known = {name for run in runs for name in run.results}
    if asked and column.key not in known:
        hint = nearest(column.key, known) or "; they have " + ", ".join(sorted(known))
        raise UsageError(f"--metric {column.key} is not a result of these runs{hint}")
    _ = column.better  # refuses what has no direction
    return column


def lacking(runs: Sequence[Run], key: str) -> list[str]:
    """What must be said of runs that completed without a result."""
    without = len(runs) - len(outcomes(runs, key))
    verb = "has" if without == 1 else "have"
    return [f"{without} of {counted(len(runs), 'run')} {verb} no {key}: not drawn"] if without else []


def runs_of(sections: Sections) -> list[Any]:
    """All of their runs."""
    return [run for lines in sections.values() for runs in lines.values() for run in runs]


def unseen(panels: Mapping[str, Mapping[str, Mapping[Series, Mapping[str, tuple[Any, Any]]]]]) -> list[str]:
    """What must be said of lines of which nothing can be drawn, because all of their runs diverged before it."""
    return [
        f"{section}: {counted(len(own), 'run')} of {series.label} diverged before the first point of {quantity(metric)}"
        for section, in_section in panels.items()
        for metric, panel in in_section.items()
        for series, own in panel.items()
        if not any(len(x) for x, _ in own.values())
    ]


def machines(runs: Iterable[Any], x: str) -> list[str]:
    """Seconds of different machines on one axis must be said."""
    return ["times come from different machines"] * (x == "seconds" and several_machines(runs))


def no_curves(x: str = "step") -> str:
    """What is said where there is no curve."""
    return "these runs have no such curves" + (f" over {x}" if x != "step" else "")
