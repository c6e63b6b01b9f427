"""Stored runs as lines of figures: which runs stand together, in which section, and their curves over an axis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from vrcli.errors import UsageError, nearest, no_curve
from vrcli.results.filter import Filter
from vrcli.results.groups import FINISHED, differing
from vrcli.results.known import known_of
from vrcli.results.reading import Reading
from vrcli.results.summary import grouped, summarise
from vrcli.results.types import POSITIONS, Column, Run, Section, data_name, outcome, same_name_other_data, section_of
from vrcli.stats.curves import bounded, rescaled

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store

#: Rows of panels beyond which a figure is no longer one page.
MOST_SECTIONS = 6
#: Lines beyond which a panel cannot be read.
MOST_LINES = 12
#: Beginnings of the names of curves that every run has, unless it diverged before their first point.
ALL_HAVE = ("train_", "val_")

Arrays: TypeAlias = tuple[Any, Any]
K = TypeVar("K")
#: Curves by run, line, metric and section.
Panels: TypeAlias = dict[str, dict[str, dict[K, dict[str, Arrays]]]]


@dataclass(frozen=True)
class Line:
    """Runs that stand as one line.

    Args:
        settings: those in which it differs from the other lines of its optimizer.
        alone: it is one run, which stands under its own name.
    """

    optimizer: str
    runs: Sequence[RunRecord]
    settings: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


@dataclass(frozen=True)
class Configurations:
    """The lines of each section, and how much is in none.

    Args:
        unfinished: runs that have not ended.
        searched: runs of trials of sweeps.
        on_search_seed: some lines are a sweep's best trial, for want of fresh seeds.
        dropped: configurations of optimizers that have a better one.
        unconfirmed: optimizers whose lines are not the best of their sweeps, which have no fresh seeds.
    """

    sections: Mapping[str, Sequence[Line]]
    unfinished: int = 0
    searched: int = 0
    on_search_seed: bool = False
    dropped: int = 0
    unconfirmed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reader:
    """What figures ask the store for.

    Args:
        asked: which runs.
    """

    store: Store
    asked: Filter

    def runs(self) -> list[RunRecord]:
        """The runs asked for, the newest first."""
        return self.asked.select(self.store)

    def named(self, refs: Sequence[str], words: Sequence[str]) -> tuple[list[RunRecord], bool]:
        """The runs asked for by number or name, else those of the tasks; and whether runs were named.

        Args:
            refs: runs.
            words: runs or tasks.

        Raises:
            UsageError: none of the runs named is among those asked for.
        """
        tasks = {run.task for run in self.store.runs.select(results=())}
        found = [word for word in words if word not in tasks and (word.isdecimal() or "-" in word)]
        refs = [*refs, *found]
        asked = replace(self.asked, tasks=[word for word in words if word not in found])
        if not refs:
            return asked.select(self.store), False
        named = [self.store.runs.get(ref) for ref in dict.fromkeys(refs)]
        if not asked.words():
            return named, True
        kept = {run.id for run in asked.select(self.store)}
        if not any(run.id in kept for run in named):
            raise UsageError(f"none of the {len(named)} run{'s' * (len(named) != 1)} named matches {asked.words()}")
        return [run for run in named if run.id in kept], True

    def of_result(self, key: str, runs: Iterable[Run]) -> Column:
        """A result with its direction."""
        return Column.of(key, known_of(self.store, (run.task for run in runs)))

    def objective(self, runs: Sequence[Run]) -> Column:
        """The result by which runs are chosen: their best validation objective."""
        return self.of_result(min((run.objective for run in runs), default="best_val_loss"), runs)

    def configurations(self, runs: Sequence[RunRecord], *, every: bool, most: int = MOST_SECTIONS) -> Configurations:
        """Runs pooled over seeds: each optimizer's best settings as `vr report --best` has them, or all settings.

        Raises:
            UsageError: too many sections or configurations for one figure.
        """
        reading = Reading.of(self.store, runs)
        done, chosen, pruned = reading.finished, reading.quoted(), reading.pruned
        by_id = {run.id: run for run in done}
        sections: dict[str, Sequence[Line]] = {}
        dropped, unconfirmed = 0, set()
        for title, members in by_section([by_id[run.id] for run in chosen.runs], most).items():
            column = self.objective(members)
            columns = [column] if column.direction else []
            best = not every and bool(columns)
            rows = summarise(members, columns, trials=chosen.trials, pruned=pruned, one_per_optimizer=best).rows
            if every and len(rows) > MOST_LINES:
                raise UsageError(
                    f"--all: {title} has {len(rows)} configurations and a panel takes {MOST_LINES}; --opt, --tag or "
                    "--where lr>1e-3 narrow them"
                )
            dropped += len(grouped(members, chosen.trials, pruned, (), across=best)) - len(rows)
            unconfirmed |= {row.optimizer for row in rows if row.unconfirmed}
            own = _differing_by_optimizer(rows)
            sections[title] = [
                Line(row.optimizer, [by_id[i] for i in row.run_ids], settings)
                for row, settings in zip(rows, own, strict=True)
            ]
        return Configurations(
            sections, len(runs) - len(done), chosen.searched, bool(chosen.on_search_seed), dropped,
            tuple(sorted(unconfirmed)),
        )  # fmt: skip

    def metrics(self, runs: Sequence[Run], asked: Sequence[str], defaults: Sequence[str]) -> list[str]:
        """The curves to draw: those asked for, by name or by quantity (accuracy), else the defaults that exist.

        Raises:
            UsageError: none of the runs has such a curve.
        """
        known = self.store.curves.metrics([run.id for run in runs])
        drawable = [name for name in known if name not in POSITIONS.values()]
        found: list[str] = []
        for name in asked:
            matching = [name] if name in known else [n for n in (f"train_{name}", f"val_{name}") if n in known]
            if not matching:
                raise no_curve(name, drawable)
            found += matching
        if not found:
            found = [name for name in defaults if name in known] or [n for n in drawable if n.startswith("val_")][:1]
        return list(dict.fromkeys(found))

    def curves(self, runs: Iterable[Run], metrics: Sequence[str], x: str) -> dict[tuple[int, str], Arrays]:
        """Positions and values (see `bounded`) by run and metric."""
        axis, runs = POSITIONS.get(x), list(runs)
        each = {run.id: gradients_per_step(run) for run in runs} if x == "gradients" else {}
        stored = self.store.curves.read([run.id for run in runs], [*metrics, *([axis] if axis else [])])
        found: dict[tuple[int, str], Arrays] = {}
        for (run, metric), curve in stored.items():
            if metric not in metrics:
                continue
            steps, values = np.asarray(curve.steps), bounded(curve.values)
            known = stored.get((run, axis)) if axis else None
            if axis is None:
                found[run, metric] = steps, values
            elif known is not None:
                found[run, metric] = rescaled(steps, known.steps, known.values), values
            elif (ratio := each.get(run)) is not None:
                found[run, metric] = steps * ratio, values
        return found

    def file(self, runs: Iterable[Run], name: str) -> bytes | None:
        """A file that the first of the runs keeps that has one of this name."""
        artifacts = self.store.artifacts
        found = (run.id for run in runs if any(one.name == name for one in artifacts.select(run.id)))
        return next((artifacts.read(id, name) for id in found), None)

    def panels(self, sections: Mapping[str, Mapping[K, Sequence[Run]]], metrics: Sequence[str], x: str) -> Panels[K]:
        """Curves by run, line, metric and section; lines and panels without curves are left out.

        Of training and validation a run that diverged before the first point has an empty curve, for it counts.

        Args:
            sections: runs by line.
        """
        read = self.curves([run for lines in sections.values() for runs in lines.values() for run in runs], metrics, x)
        found: Panels[K] = {}
        for section, lines in sections.items():
            in_section = {}
            for metric in metrics:
                panel = {
                    line: {str(run.id): read[run.id, metric] for run in runs if (run.id, metric) in read}
                    for line, runs in lines.items()
                }
                if not any(panel.values()):
                    continue
                if metric.startswith(ALL_HAVE):
                    for line, runs in lines.items():
                        n_diverged = [str(run.id) for run in runs if run.status == "diverged"]
                        panel[line] |= {id: ((), ()) for id in n_diverged if id not in panel[line]}
                in_section[metric] = {line: own for line, own in panel.items() if own}
            if in_section:
                found[section] = in_section
        return found


def gradients_per_step(run: Run) -> float | None:
    """Mean number of a run's gradient evaluations in a step; None where it was not counted."""
    gradients, steps = run.results.get("gradient_evaluations"), run.results.get("steps")
    return gradients / steps if gradients is not None and steps else None


def _differing_by_optimizer(rows: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Of each row the settings in which it differs from its optimizer's other rows."""
    found: list[Mapping[str, Any]] = [{}] * len(rows)
    for optimizer in dict.fromkeys(row.optimizer for row in rows):
        places = [i for i, row in enumerate(rows) if row.optimizer == optimizer]
        own = differing([rows[i].settings for i in places], [optimizer] * len(places))
        for place, values in zip(places, own, strict=True):
            found[place] = values
    return found


def finished(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs that ended."""
    return [run for run in runs if run.status in FINISHED]


def section_titles(runs: Iterable[Run]) -> dict[Section, str]:
    """A heading for each task, data set and preset."""
    sections = dict.fromkeys(section_of(run) for run in runs)
    ambiguous = same_name_other_data(sections)
    return {one: " · ".join(filter(None, [one[0], data_name(one, ambiguous), one[3]])) for one in sections}


def by_section(runs: Sequence[RunRecord], most: int = MOST_SECTIONS) -> dict[str, list[RunRecord]]:
    """The runs of each section by its title.

    Raises:
        UsageError: more sections than the figure takes, with the options that narrow them.
    """
    titles = section_titles(runs)
    if len(titles) > most:
        names = ", ".join(sorted(titles.values())[:8])
        more = f" and {len(titles) - 8} more" if len(titles) > 8 else ""
        asked = "one task, --preset or --where dataset=NAME" if most == 1 else "tasks, --preset or --where dataset=NAME"
        raise UsageError(
            f"these runs are of {len(titles)} tasks, data sets or presets ({names}{more}), and one figure takes "
            f"{most}; name {asked}"
        )
    found: dict[str, list[RunRecord]] = {title: [] for title in sorted(titles.values())}
    for run in runs:
        found[titles[section_of(run)]].append(run)
    return found


def by_optimizer(runs: Sequence[RunRecord]) -> dict[str, Sequence[Line]]:
    """Every run on its optimizer's line, whatever its settings, by section."""
    sections: dict[str, Sequence[Line]] = {}
    for title, members in by_section(runs).items():
        lines: dict[str, list[RunRecord]] = defaultdict(list)
        for run in sorted(members, key=lambda run: run.id):
            lines[run.optimizer].append(run)
        sections[title] = [Line(name, own) for name, own in sorted(lines.items())]
    return sections


def own_lines(runs: Sequence[RunRecord]) -> dict[str, Sequence[Line]]:
    """Each run as a line of its own, as far as they can be told apart."""
    if len(runs) > MOST_LINES:
        return by_optimizer(runs)
    return {
        title: [Line(run.optimizer, [run], alone=True) for run in members]
        for title, members in by_section(runs).items()
    }


def several_machines(runs: Iterable[RunRecord]) -> bool:
    """Whether their seconds are of different machines."""
    return len({(run.provenance.get("cpu"), run.provenance.get("device"), run.host) for run in runs}) > 1


def outcomes(runs: Iterable[Run], key: str) -> dict[int, float]:
    """A result as a cost by run id; runs that completed without it are left out."""
    return {run.id: value for run in runs if (value := outcome(run, key)) is not None}


def differing_besides(lines: Iterable[Sequence[Run]], setting: str) -> list[str]:
    """Settings other than one in which runs of the same line differ."""
    found: dict[str, None] = {}
    for runs in lines:
        values: dict[str, set[str]] = defaultdict(set)
        own = [run.settings for run in runs]
        for name in dict.fromkeys(name for settings in own for name in settings):
            values[name] = {repr(settings.get(name)) for settings in own}
        found |= dict.fromkeys(name for name, seen in values.items() if len(seen) > 1 and name != setting)
    return list(found)


def of_setting(runs: Sequence[Run], setting: str) -> dict[int, float]:
    """The value of a numeric setting by run id.

    Raises:
        UsageError: no run has it, or it is not a number.
    """
    flat: Mapping[int, Mapping[str, Any]] = {run.id: run.settings for run in runs}
    known = {name for own in flat.values() for name in own}
    if setting not in known:
        hint = nearest(setting, known) or f"; they have {', '.join(sorted(known))}"
        raise UsageError(f"--setting {setting} is not a setting of these runs{hint}")
    found = {id: own[setting] for id, own in flat.items() if own.get(setting) is not None}
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in found.values()):
        raise UsageError(f"--setting {setting} is not a number; vr plot sweep --kind settings shows choices")
    return {id: float(value) for id, value in found.items()}
