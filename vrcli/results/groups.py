"""Which runs belong together: equal in everything but the seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vrcli.results.types import Run, Section, section_of

FINISHED = ("completed", "diverged")
_ABSENT = object()


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, one for each seed, in the order of their seeds; or several such groups together.

    Args:
        settings: those that all of its runs share.
        repeats: finished runs left out because their seed is there already: the same seed gives the same bits, so
            counting it twice would invent precision.
        varying: where groups were pooled, the number of values of each setting in which they differ.
        searches: where several searches of an optimizer stand together, the number of runs of each, in order.
        ranges: of those, the settings in which the searches differ, with the value of each.
        replaced: runs of settings that one of these searches had chosen before.
    """

    runs: tuple[Run, ...]
    settings: Mapping[str, Any]
    repeats: int
    varying: Mapping[str, int] = field(default_factory=dict)
    searches: tuple[int, ...] = ()
    ranges: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    replaced: int = 0

    @property
    def section(self) -> Section:
        return section_of(self.runs[0])

    @property
    def optimizer(self) -> str:
        return self.runs[0].optimizer


def group_runs(runs: Iterable[Run], separate_by: Callable[[Run], Hashable] = lambda run: None) -> list[Group]:
    """Group finished runs by their configuration, in order of first appearance.

    Of several finished runs of one seed the newest counts.

    Args:
        separate_by: runs of which this differs are never of one group.
    """
    members: dict[tuple[str, Hashable], list[Run]] = defaultdict(list)
    for run in runs:
        if run.status in FINISHED:
            members[run.configuration, separate_by(run)].append(run)
    groups = []
    for found in members.values():
        newest: dict[int | None, Run] = {}
        for run in sorted(found, key=lambda r: (r.created_at, r.id)) if len(found) > 1 else found:
            newest[run.seed] = run
        ordered = sorted(newest.values(), key=lambda r: (r.seed is None, r.seed or 0))
        groups.append(Group(tuple(ordered), found[0].settings, len(found) - len(ordered)))
    return groups


def pool(groups: Sequence[Group], names: Sequence[str], separate_by: Callable[[Group], Hashable]) -> list[Group]:
    """Groups of one section and optimizer that agree in the named settings, as one group each.

    What else they differ in is not a setting of the pooled group; `varying` names it.

    Args:
        separate_by: groups of which this differs are never pooled.
    """
    found: dict[Hashable, list[Group]] = defaultdict(list)
    for group in groups:
        own = tuple(repr(group.settings.get(name)) for name in names)
        found[group.section, group.optimizer, own, separate_by(group)].append(group)
    return [_pooled(members) for members in found.values()]


def _pooled(members: Sequence[Group]) -> Group:
    if len(members) == 1:
        return members[0]
    common, varying = _shared(members)
    runs = tuple(run for group in members for run in group.runs)
    return Group(runs, common, sum(group.repeats for group in members), varying)


def _shared(members: Sequence[Group]) -> tuple[dict[str, Any], dict[str, int]]:
    """The settings that groups share, and the number of values of each in which they differ."""
    names = {name for group in members for name in group.settings}
    values = {name: {repr(group.settings.get(name)) for group in members} for name in names}
    varying = {name: len(seen) for name, seen in sorted(values.items()) if len(seen) > 1}
    return {name: value for name, value in members[0].settings.items() if name not in varying}, varying


def search_of(run: Run) -> int | None:
    """The search whose winner or trial a run is; None for a run on its own."""
    found: int | None = getattr(run, "search_id", None)
    return found


def trial_of(run: Run) -> int | None:
    """The trial that a run measured; None for a run on its own or on a fresh seed."""
    found: int | None = getattr(run, "trial_id", None)
    return found


def repeated_searches(runs: Iterable[Run], *, across: bool = False) -> set[tuple[int, bool]]:
    """The searches that are one of several of their optimizer, and whether it is their trials that are.

    Where several trials of a search are there, trials are looked at one by one and are not among several.

    Args:
        across: count the searches of all sweeps together, not those of each.
    """
    found: dict[Hashable, dict[int, set[int | None]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        search, trial = search_of(run), trial_of(run)
        if search is not None:
            sweep = None if across else getattr(run, "sweep_id", None)
            found[section_of(run), run.optimizer, sweep, trial is not None][search].add(trial)
    return {
        (search, None not in trials)
        for own in found.values()
        if len(own) > 1 and all(len(trials) == 1 for trials in own.values())
        for search, trials in own.items()
    }


def together(groups: Sequence[Group], across: Callable[[Group], Hashable] | None = None) -> list[Group]:
    """Groups of several searches of one optimizer in one sweep as one group, search by search.

    Of each search the settings count that were run last.

    Args:
        across: put those of several sweeps together, too, of which this does not differ.
    """
    found: dict[Hashable, dict[int, list[Group]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        first = group.runs[0]
        own = across(group) if across else getattr(first, "sweep_id", None)
        found[group.section, group.optimizer, trial_of(first) is not None, own][search_of(first) or 0].append(group)
    return [_searches_together(list(own.values())) for own in found.values()]


def _searches_together(searches: Sequence[Sequence[Group]]) -> Group:
    last = [max(own, key=lambda group: max((run.created_at, run.id) for run in group.runs)) for own in searches]
    units = sorted(last, key=lambda group: (group.runs[0].seed or 0, search_of(group.runs[0]) or 0))
    runs = tuple(run for unit in units for run in unit.runs)
    common, varying = _shared(units)
    ranges = {name: tuple(unit.settings.get(name) for unit in units) for name in varying}
    replaced = sum(len(group.runs) for own in searches for group in own) - len(runs)
    counts = tuple(len(unit.runs) for unit in units) if len(units) > 1 else ()
    return Group(runs, common, sum(unit.repeats for unit in units), {}, counts, ranges, replaced)


def axis_names(axes: Iterable[str]) -> set[str]:
    """The names that searched settings may have among all settings.

    An optimizer's `opt_NAME` is typed so where the task or `vr` has a NAME, too; see `vrcli.db.configuration`.
    """
    bare = [axis.removeprefix("opt_") for axis in axes]
    return {*axes, *bare, *(f"optimizer.{name}" for name in bare)}


def unsearched(name: str, rows: Iterable[tuple[str, Mapping[str, Any], Collection[str]]]) -> dict[str, list[Any]]:
    """The values by optimizer of a setting that no search chose, where optimizers differ in it; else nothing.

    Args:
        rows: optimizer, settings and names of the searched settings of each.
    """
    found: dict[str, list[Any]] = defaultdict(list)
    for optimizer, settings, axes in rows:
        if name not in axis_names(axes):
            found[optimizer] += [settings[key] for key in (name, f"optimizer.{name}") if key in settings]
    found = {optimizer: list(dict.fromkeys(own)) for optimizer, own in found.items() if own}
    return found if len({repr(sorted(own)) for own in found.values()}) > 1 else {}


def differing(
    settings: Sequence[Mapping[str, Any]], optimizers: Sequence[str], ignore: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Of each row's settings, those that another row has too but with another value.

    A setting that only one optimizer has is no difference between optimizers, and neither is the code of each; that one
    of its rows has and another lacks (recorded by another version) is.

    Args:
        optimizers: one per row.
    """
    own: dict[str, set[str]] = defaultdict(set)
    for row, optimizer in zip(settings, optimizers, strict=True):
        own[optimizer].update(row)
    values: dict[str, set[str]] = defaultdict(set)
    code: dict[str, set[Any]] = defaultdict(set)
    previous: dict[str, Any] = {}
    for row, optimizer in zip(settings, optimizers, strict=True):
        for name in own[optimizer]:
            value = row.get(name, _ABSENT)
            if name == "optimizer_code":
                code[optimizer].add(value)
                continue
            # Most rows repeat the value before them, which spares writing it out.
            if name not in previous or type(value) is not type(previous[name]) or value != previous[name]:
                values[name].add("" if value is _ABSENT else repr(value))
                previous[name] = value
    names = {name for name, seen in values.items() if len(seen) > 1} - set(ignore)
    return [
        {n: v for n, v in row.items() if n in names or (n == "optimizer_code" and len(code[optimizer]) > 1)}
        for row, optimizer in zip(settings, optimizers, strict=True)
    ]


def shown_settings(
    settings: Sequence[Mapping[str, Any]],
    optimizers: Sequence[str],
    axes: Sequence[Collection[str]],
    ignore: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """The settings that stand beside each row wherever rows are listed: those that tell rows apart, see `differing`,
    those that a search chose for the row, whether or not they differ from another's, and the learning rate.

    Args:
        optimizers: one per row, as are axes.
        axes: names of the settings that a search chose.
        ignore: settings that are shown elsewhere.
    """
    left_out = set(ignore)
    found = []
    for row, own, chosen in zip(settings, differing(settings, optimizers, left_out), axes, strict=True):
        names = {*own, "lr", *axis_names(chosen)} - left_out
        found.append({name: value for name, value in row.items() if name in names})
    return found
