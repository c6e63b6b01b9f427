"""What every figure is: options declared as data, and from stored runs to the drawing, its numbers and its text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, get_args

from vrcli.errors import UsageError, nearest
from vrcli.report.figures.style import Plot, Series
from vrcli.report.figures.text import Page
from vrcli.report.wording import counted, quantity, settings
from vrcli.results.lines import MOST_SECTIONS, Chosen, Line, Reader, outcomes, several_machines
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
    "seconds": Axis("wall time (s)", "seconds", False),
}


@dataclass(frozen=True)
class Option:
    """How an option of a figure is asked for.

    Args:
        flags: none for words without a flag.
        choices: values that are accepted; any where empty.
        selects: it says which runs, and stands with the options that do.
    """

    default: Any
    flags: tuple[str, ...]
    help: str
    metavar: str | None = None
    choices: Sequence[str] = ()
    selects: bool = False


def option(default: Any, flag: str, help: str, **about: Any) -> Any:
    """A field of a figure that is an option.

    Args:
        flag: empty for words without one.
        about: see `Option`.
    """
    return field(default=default, metadata={"option": Option(default, tuple(flag.split()), help, **about)})


def options_of(figure: type[Figure] | Figure) -> dict[str, Option]:
    """The options of a figure by the name of their field."""
    return {one.name: one.metadata["option"] for one in fields(figure)}


# Options that several figures have.


def metrics_option(help: str = "curve to draw, repeatable [default: train_loss, val_loss]") -> Any:
    return option((), "--metric", help, metavar="NAME")


def x_option(default: str | None = "step", help: str = "step, epoch or seconds") -> Any:
    return option(default, "--x", help, metavar="AXIS", choices=tuple(AXES))


def cost_option() -> Any:
    return option(None, "--metric", "result, less is better [default: the best validation objective]", metavar="NAME")


def every_option() -> Any:
    return option(False, "--all", "every configuration, not each optimizer's best")


def log_option() -> Any:
    return option(None, "--log/--no-log", "logarithmic y axis [default: where it serves]")


def every_step_option() -> Any:
    return option(False, "--every-step", "each step of long curves, not means of stretches")


def band_option(default: str, help: str) -> Any:
    return option(default, "--band", help, choices=get_args(Band))


def level_option(default: str) -> Any:
    return option(None, "--level", f"share of a ci or quantile band [default: {default}]", metavar="SHARE")


def check_level(level: float | None, band: str) -> None:
    """Refuse what is no share, and a share of a band that has none."""
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
    selects: ClassVar[Sequence[str]] = ("tasks", "opts", "preset", "tag", "group", "sweeps", "where", "since")

    def check(self) -> None:
        """Refuse bad values before any work.

        Raises:
            UsageError: names the option that is to blame.
        """
        for name, about in options_of(self).items():
            value = getattr(self, name)
            if about.choices and value is not None and value not in about.choices:
                hint = nearest(value, about.choices)
                raise UsageError(f"{about.flags[0]} {value} is not one of {', '.join(about.choices)}{hint}")

    @abstractmethod
    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        """Read the runs and draw them; None where there is nothing to draw.

        Args:
            notes: takes what must be said beside the figure, or instead of it.

        Raises:
            UsageError: runs that no such figure can be made of.
        """


def best_settings(reader: Reader, notes: list[str], *, every: bool, most: int = MOST_SECTIONS) -> Sections | None:
    """Each optimizer's best settings, or all of them, as lines; None where no run has finished."""
    runs = reader.runs()
    chosen = reader.configurations(runs, every=every, most=most)
    notes += _left_out(chosen)
    if not chosen.sections:
        notes.append(NONE_FINISHED if runs else NO_RUNS)
        return None
    return named(chosen.sections, in_order=True)


def _left_out(chosen: Chosen) -> list[str]:
    """What must be said of runs that are on no line."""
    notes = unfinished(chosen.unfinished)
    if chosen.searched:
        notes.append(f"{counted(chosen.searched, 'run')} of sweeps' trials: not drawn (vr plot sweep draws them)")
    if chosen.flattered:
        notes.append("some lines show the best trial of a sweep on the search's own seed; --confirm-seeds gives more")
    if chosen.dropped:
        notes.append("of an optimizer with several settings the best stand here; --all draws each")
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


def cost(reader: Reader, asked: str | None, runs: Sequence[Run]) -> Column:
    """The result that counts as cost.

    Raises:
        UsageError: the runs have no such result, or less of it is not better.
    """
    column = reader.of_result(asked, runs) if asked else reader.objective(runs)
    known = {name for run in runs for name in run.results}
    if asked and column.key not in known:
        hint = nearest(column.key, known) or "; they have " + ", ".join(sorted(known))
        raise UsageError(f"--metric {column.key} is no result of these runs{hint}")
    if column.direction != "min":
        raise UsageError(f"--metric {column.key} is no cost: this figure needs a result of which less is better")
    return column


def lacking(runs: Sequence[Run], key: str) -> list[str]:
    """What must be said of runs that completed without a result."""
    without = len(runs) - len(outcomes(runs, key))
    verb = "has" if without == 1 else "have"
    return [f"{without} of {counted(len(runs), 'run')} {verb} no {key}: not drawn"] if without else []


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
