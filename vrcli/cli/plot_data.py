"""What figures are drawn from: which stored runs stand in which panel, and their curves over the axis asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from vrcli.errors import UsageError, nearest, no_curve
from vrcli.report.wording import counted, quantity
from vrcli.results.types import POSITIONS, section_of

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.results.types import Column, Section

AXES = {"step": "step", "epoch": "epoch", "seconds": "wall time (s)"}
#: Rows of panels beyond which a figure is no longer one page.
MOST_SECTIONS = 6
#: Lines beyond which a panel cannot be read.
MOST_LINES = 12
#: Beginnings of the names of curves that every run has, unless it diverged before their first point.
ALL_HAVE = ("train_", "val_")

#: Runs by what their line is called, by the title of their section.
Sections: TypeAlias = dict[str, dict[str, list["RunRecord"]]]


@dataclass(frozen=True)
class Chosen:
    """The runs of a figure.

    Args:
        notes: what must be said of those that are not in it.
    """

    sections: Sections
    notes: Sequence[str] = ()

    @property
    def runs(self) -> list[RunRecord]:
        return [run for lines in self.sections.values() for runs in lines.values() for run in runs]

    @property
    def diverged(self) -> dict[str, dict[str, int]]:
        """How many of the runs of each line diverged, by section."""
        return {
            section: {label: sum(run.status == "diverged" for run in runs) for label, runs in lines.items()}
            for section, lines in self.sections.items()
        }


def finished(runs: Sequence[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """The runs that ended, and a note of the others."""
    from vrcli.results.groups import FINISHED

    done = [run for run in runs if run.status in FINISHED]
    others = len(runs) - len(done)
    return done, [f"{counted(others, 'run')} still running, failed or interrupted: not drawn"] * bool(others)


def section_titles(runs: Iterable[RunRecord]) -> dict[Section, str]:
    """A heading for each task, data set and preset; with the data's fingerprint where only that differs."""
    keys: dict[Section, str] = {}
    for run in runs:
        words = [run.task, run.dataset or "", run.preset or ""]
        keys[section_of(run)] = " · ".join(word for word in words if word)
    titles = list(keys.values())
    return {key: f"{title} · {key[2][:8]}" if titles.count(title) > 1 else title for key, title in keys.items()}


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


def objective(runs: Sequence[RunRecord]) -> Column:
    """The result by which runs are chosen: their best validation objective."""
    return of_result(min((run.objective for run in runs), default="best_val_loss"), runs)


def of_result(key: str, runs: Sequence[RunRecord]) -> Column:
    """A result with its direction; the task is asked only where the name does not tell: loading it costs a second."""
    from vrcli.results.types import Column

    column = Column.of(key)
    if column.direction is None:
        from vrcli.cli.report_table import declared

        column = Column.of(key, declared(run.task for run in runs))
    return column


def configurations(store: Store, runs: Sequence[RunRecord], *, every: bool, most: int = MOST_SECTIONS) -> Chosen:
    """Runs pooled over seeds: each optimizer's best settings as `vr report --best` has them, or all settings.

    Raises:
        UsageError: too many sections or configurations for one figure.
    """
    from vrcli.cli.report import all_searches, stopped_early
    from vrcli.results.selection import quotable
    from vrcli.results.summary import grouped, summarise

    done, notes = finished(runs)
    searched = {run.search_id for run in done if run.search_id is not None}
    chosen, stopped = quotable(done, all_searches(store, searched)), stopped_early(store, searched)
    pruned = {run.id for run in done if run.search_id in stopped}
    by_id = {run.id: run for run in done}
    if chosen.searched:
        notes.append(f"{counted(chosen.searched, 'run')} of sweeps' trials: not drawn (vr plot sweep draws them)")
    if chosen.flattered:
        notes.append("some lines show the best trial of a sweep on the search's own seed; --confirm-seeds gives more")
    sections: Sections = {}
    dropped = 0
    for title, members in by_section([by_id[run.id] for run in chosen.runs], most).items():
        column = objective(members)
        columns = [column] if column.direction else []
        best = not every and bool(columns)
        rows = summarise(members, columns, trials=chosen.trials, pruned=pruned, one_per_optimizer=best).rows
        if every and len(rows) > MOST_LINES:
            raise UsageError(
                f"--all: {title} has {len(rows)} configurations and a panel takes {MOST_LINES}; --opt, --tag or "
                "--where lr>1e-3 narrow them"
            )
        dropped += len(grouped(members, chosen.trials, pruned, ())) - len(rows)
        # By name, not by rank: an optimizer keeps its colour from figure to figure.
        lines = zip(_labels(rows), ([by_id[i] for i in row.run_ids] for row in rows), strict=True)
        sections[title] = dict(sorted(lines, key=lambda line: line[0]))
    if dropped:
        notes.append("of an optimizer with several settings the best stand here; --all draws each")
    return Chosen(sections, notes)


def _labels(rows: Sequence[Any]) -> list[str]:
    """Each row by its optimizer, with the settings in which the optimizer's rows differ where it has several."""
    from vrcli.report.wording import settings
    from vrcli.results.groups import differing

    found = [""] * len(rows)
    for optimizer in dict.fromkeys(row.optimizer for row in rows):
        places = [i for i, row in enumerate(rows) if row.optimizer == optimizer]
        own = differing([rows[i].settings for i in places], [optimizer] * len(places))
        for place, values in zip(places, own, strict=True):
            found[place] = f"{optimizer} {settings(values)}".strip()
    again = {label for label in found if found.count(label) > 1}
    pairs = zip(found, rows, strict=True)
    return [f"{label} (run {row.run_ids[0]})" if label in again else label for label, row in pairs]


def by_optimizer(runs: Sequence[RunRecord]) -> Sections:
    """Every run under its optimizer's name, whatever its settings."""
    sections: Sections = {}
    for title, members in by_section(runs).items():
        lines: dict[str, list[RunRecord]] = defaultdict(list)
        for run in sorted(members, key=lambda run: run.id):
            lines[run.optimizer].append(run)
        sections[title] = dict(sorted(lines.items()))
    return sections


def metrics_of(store: Store, runs: Sequence[RunRecord], asked: Sequence[str], defaults: Sequence[str]) -> list[str]:
    """The curves to draw: those asked for, by name or by quantity (accuracy), else those of the defaults that exist.

    Raises:
        UsageError: none of the runs has such a curve.
    """
    known = store.curves.metrics([run.id for run in runs])
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


Arrays: TypeAlias = tuple[Any, Any]


def curves(store: Store, runs: Sequence[RunRecord], metrics: Sequence[str], x: str) -> dict[tuple[int, str], Arrays]:
    """Positions and values by run and metric."""
    import numpy as np

    from vrcli.stats.curves import rescaled

    axis = POSITIONS.get(x)
    stored = store.curves.read([run.id for run in runs], [*metrics, *([axis] if axis else [])])
    found: dict[tuple[int, str], Arrays] = {}
    for (run, metric), curve in stored.items():
        if metric not in metrics:
            continue
        steps = np.asarray(curve.steps)
        known = stored.get((run, axis)) if axis else None
        if axis is None:
            found[run, metric] = steps, np.asarray(curve.values)
        elif known is not None:
            found[run, metric] = rescaled(steps, known.steps, known.values), np.asarray(curve.values)
    return found


def panels(
    store: Store, chosen: Chosen, metrics: Sequence[str], x: str
) -> dict[str, dict[str, dict[str, dict[str, Arrays]]]]:
    """Curves by run, line, panel and section; lines and panels without curves are left out.

    Of training and validation a run that diverged before the first point has an empty curve, for it counts.
    """
    read = curves(store, chosen.runs, metrics, x)
    found = {}
    for section, lines in chosen.sections.items():
        in_section = {}
        for metric in metrics:
            panel = {
                label: {str(run.id): read[run.id, metric] for run in runs if (run.id, metric) in read}
                for label, runs in lines.items()
            }
            if not any(panel.values()):
                continue
            if metric.startswith(ALL_HAVE):
                for label, runs in lines.items():
                    lost = [str(run.id) for run in runs if run.status == "diverged"]
                    panel[label] |= {id: ((), ()) for id in lost if id not in panel[label]}
            in_section[quantity(metric)] = {label: own for label, own in panel.items() if own}
        if in_section:
            found[section] = in_section
    return found


def machines_note(runs: Sequence[RunRecord], x: str) -> list[str]:
    """Seconds of different machines on one axis must be said."""
    machines = {(run.provenance.get("cpu"), run.provenance.get("device"), run.host) for run in runs}
    return ["times come from different machines"] if x == "seconds" and len(machines) > 1 else []


def outcomes(runs: Iterable[RunRecord], key: str) -> dict[int, float]:
    """A result as a cost by run id: NaN where the run diverged; runs that completed without it are left out."""
    found = {run.id: run.results.get(key) if run.status == "completed" else float("nan") for run in runs}
    return {id: value for id, value in found.items() if value is not None}


def lacking(runs: Sequence[RunRecord], key: str) -> list[str]:
    """What must be said of runs that `outcomes` leaves out."""
    without = len(runs) - len(outcomes(runs, key))
    verb = "has" if without == 1 else "have"
    return [f"{without} of {counted(len(runs), 'run')} {verb} no {key}: not drawn"] if without else []


def unseen(sections: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Arrays]]]]) -> list[str]:
    """What must be said of lines of which nothing can be drawn, because all of their runs diverged before it."""
    return [
        f"{section}: {counted(len(own), 'run')} of {label} diverged before the first point of {title}"
        for section, in_section in sections.items()
        for title, panel in in_section.items()
        for label, own in panel.items()
        if not any(len(x) for x, _ in own.values())
    ]


def differing_besides(lines: Iterable[Sequence[RunRecord]], setting: str) -> list[str]:
    """Settings other than one in which runs of the same line differ."""

    found: dict[str, None] = {}
    for runs in lines:
        values: dict[str, set[str]] = defaultdict(set)
        own = [run.settings for run in runs]
        for name in dict.fromkeys(name for settings in own for name in settings):
            values[name] = {repr(settings.get(name)) for settings in own}
        found |= dict.fromkeys(name for name, seen in values.items() if len(seen) > 1 and name != setting)
    return list(found)


def of_setting(runs: Sequence[RunRecord], setting: str) -> dict[int, float]:
    """The value of a numeric setting by run id.

    Raises:
        UsageError: no run has it, or it is no number.
    """

    flat: Mapping[int, Mapping[str, Any]] = {run.id: run.settings for run in runs}
    known = {name for own in flat.values() for name in own}
    if setting not in known:
        hint = nearest(setting, known) or f"; they have {', '.join(sorted(known))}"
        raise UsageError(f"--setting {setting} is no setting of these runs{hint}")
    found = {id: own[setting] for id, own in flat.items() if own.get(setting) is not None}
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in found.values()):
        raise UsageError(f"--setting {setting} is not a number; vr plot sweep --kind settings shows choices")
    return {id: float(value) for id, value in found.items()}
