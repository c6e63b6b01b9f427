"""Each figure of `vr plot`: from the chosen runs to the drawing, the numbers and the text."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from vrcli.cli import plot_data as from_store
from vrcli.cli.console import notice
from vrcli.cli.plot_data import AXES, Chosen
from vrcli.errors import UsageError, nearest
from vrcli.report.wording import counted, quantity

if TYPE_CHECKING:
    from vrcli.cli.filters import Filter
    from vrcli.cli.plot_output import Output
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.report.figures.style import Plot
    from vrcli.results.types import Column
    from vrcli.stats.curves import Band

LOSSES = ("train_loss", "val_loss")
TELEMETRY = ("train_loss", "lr_effective", "velocity_norm", "gate")
#: Positions on an axis of seconds, on which runs have none in common.
GRID = 200


def split_refs(store: Store, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words that are runs' numbers or names, and the others, which are tasks."""
    tasks = {run.task for run in store.runs.select(results=())}
    refs = [word for word in words if word not in tasks and (word.isdecimal() or "-" in word)]
    return refs, [word for word in words if word not in refs]


def named_runs(store: Store, refs: Sequence[str], given: Filter) -> list[RunRecord]:
    """The runs asked for by number or name, else those that the filter selects.

    Raises:
        UsageError: none of the runs named is among those that the filter selects.
    """
    if not refs:
        return given.select(store)
    named = [store.runs.get(ref) for ref in dict.fromkeys(refs)]
    if not given.words():
        return named
    kept = {run.id for run in given.select(store)}
    if not any(run.id in kept for run in named):
        raise UsageError(f"none of the {counted(len(named), 'run')} named matches {given.words()}")
    return [run for run in named if run.id in kept]


def own_lines(runs: Sequence[RunRecord]) -> Chosen:
    """Each run as a line of its own."""
    if len(runs) > from_store.MOST_LINES:
        return Chosen(from_store.by_optimizer(runs))
    sections = from_store.by_section(runs)
    return Chosen({
        title: {f"{run.id} {run.name} · {run.optimizer}": [run] for run in members}
        for title, members in sections.items()
    })  # fmt: skip


def curves(store: Store, chosen: Chosen, asked: Sequence[str], x: str, every_step: bool, output: Output) -> None:
    """Draw single runs."""
    from vrcli.report.figures import text as figure_text
    from vrcli.report.figures.curves import STRETCHES, run_curves

    metrics = from_store.metrics_of(store, chosen.runs, asked, LOSSES)
    panels = from_store.panels(store, chosen, metrics, x)
    if _no_curves(panels, x):
        return
    _say([*from_store.machines_note(chosen.runs, x), *from_store.unseen(panels)])
    stretches = None if every_step else STRETCHES
    plot = run_curves(panels, x_label=AXES[x], log=output.log, stretches=stretches, diverged=chosen.diverged)
    output.deliver(plot, lambda page: figure_text.run_curves(plot.rows, page, AXES[x]))


def envelope(
    store: Store,
    chosen: Chosen,
    asked: Sequence[str],
    x: str,
    band: tuple[str, float],
    every_step: bool,
    output: Output,
) -> None:
    """Draw the mean and spread over seeds."""
    from vrcli.report.figures import text as figure_text
    from vrcli.report.figures.curves import STRETCHES, envelope_rows, listed

    metrics = from_store.metrics_of(store, chosen.runs, asked, LOSSES)
    panels = from_store.panels(store, chosen, metrics, x)
    if _no_curves(panels, x):
        return
    _say([*from_store.machines_note(chosen.runs, x), *from_store.unseen(panels)])
    plot = envelope_rows(
        {section: {title: listed(panel) for title, panel in own.items()} for section, own in panels.items()},
        x_label=AXES[x], band=cast("Band", band[0]), level=band[1], log=output.log,
        grid_points=GRID if x == "seconds" else None, stretches=None if every_step else STRETCHES,
        diverged=chosen.diverged,
    )  # fmt: skip
    more = {quantity(name) for name in metrics if _more_is_better(name, chosen.runs)}
    output.deliver(plot, lambda page: figure_text.envelopes(plot.rows, page, AXES[x], more))


def _more_is_better(metric: str, runs: Sequence[RunRecord]) -> bool:
    """Only of metrics on validation are tasks asked: of learning rates and norms they know nothing."""
    from vrcli.results.types import Column

    column = from_store.of_result(metric, runs) if metric.startswith("val_") else Column.of(metric)
    return column.direction == "max"


def telemetry(
    store: Store, chosen: Chosen, asked: Sequence[str], x: str, band: str, level: float, output: Output
) -> None:
    """Draw what the optimizers did beside the loss."""
    from vrcli.report.figures import text as figure_text
    from vrcli.report.figures.curves import listed
    from vrcli.report.figures.curves import telemetry as draw

    metrics = from_store.metrics_of(store, chosen.runs, asked, TELEMETRY)
    panels = from_store.panels(store, chosen, metrics, x)
    if _no_curves(panels, x):
        return
    missing = [quantity(name) for name in TELEMETRY if name not in metrics]
    if missing and not asked:
        notice(f"none of these runs recorded: {', '.join(missing)}")
    _say([*from_store.machines_note(chosen.runs, x), *from_store.unseen(panels)])
    ((title, panel),) = panels.items()
    plot = draw(
        {metric: listed(lines) for metric, lines in panel.items()}, x_label=AXES[x], band=cast("Band", band),
        level=level, log=output.log, grid_points=GRID if x == "seconds" else None, title=title,
        diverged=chosen.diverged[title],
    )  # fmt: skip
    output.deliver(plot, lambda page: f"{title}\n\n{figure_text.telemetry(plot.rows, page, AXES[x])}")


def target(store: Store, chosen: Chosen, asked: str | None, value: float | None, x: str, output: Output) -> None:
    """Draw how long runs took to reach a target.

    Raises:
        UsageError: no such curve, or one of which nobody knows whether less or more is better.
    """
    from vrcli.report.figures import text as figure_text
    from vrcli.report.figures.curves import listed
    from vrcli.report.figures.performance import target as draw
    from vrcli.stats.budget import steps_to_target

    ((title, lines),) = chosen.sections.items()
    default = from_store.objective(chosen.runs).key.removeprefix("best_")
    metrics = from_store.metrics_of(store, chosen.runs, [asked] if asked else [], [default])
    if _no_curves(metrics, "step"):
        return
    metric = metrics[0]
    direction = from_store.of_result(metric, chosen.runs).direction
    if direction is None:
        raise UsageError(f"--metric {metric}: whether less or more is better is not known")
    panels = from_store.panels(store, chosen, [metric], x)
    if _no_curves(panels, x):
        return
    (panel,) = panels[title].values()
    if value is None:
        value = _within_reach(listed(panel), direction)
    if not math.isfinite(value):
        notice(f"no run has a finite {quantity(metric)}, so there is no target to reach")
        return
    reached = {
        name: steps_to_target(
            list(own.values()), value, direction=direction,
            diverged=[run.status == "diverged" for id in own for run in lines[name] if str(run.id) == id],
        )
        for name, own in panel.items()
    }  # fmt: skip
    goal = f"{quantity(metric)} {'≤' if direction == 'min' else '≥'} {value:.4g}"
    if not any(found.reached for found in reached.values()):
        notice(f"no run reached {goal}; the best value is {_best(listed(panel), direction):.4g}")
    _say(from_store.machines_note(chosen.runs, x))
    words = {"step": "steps", "epoch": "epochs", "seconds": "seconds"}[x]
    plot = draw(reached, x_label=words, target_label=goal, title=title)
    output.deliver(plot, lambda page: f"{title}\n{figure_text.target(plot.rows, page, words, goal)}")


def _best(panel: Mapping[str, Sequence[tuple[Any, Any]]], direction: str) -> float:
    import numpy as np

    values = np.concatenate([np.asarray(y, dtype=np.float64) for own in panel.values() for _, y in own])
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan
    return float(values.min() if direction == "min" else values.max())


def _within_reach(panel: Mapping[str, Sequence[tuple[Any, Any]]], direction: str) -> float:
    """The value that at least half the runs of each optimizer reach, where all have some; said on stderr."""
    import numpy as np

    sign = 1.0 if direction == "min" else -1.0
    medians = []
    for own in panel.values():
        best = [sign * _best({"": [curve]}, direction) for curve in own]
        medians.append(float(np.median(np.where(np.isfinite(best), best, np.inf))))
    reachable = [value for value in medians if math.isfinite(value)]
    # Rounded to three digits towards what is easier, so that it is still reached.
    worst = sign * max(reachable, default=math.nan)
    if not math.isfinite(worst):
        return worst
    unit = 10.0 ** (math.floor(math.log10(abs(worst))) - 2) if worst else 1.0
    value = float(f"{(math.ceil if direction == 'min' else math.floor)(worst / unit) * unit:.6g}")
    notice(f"target {value:.4g}, which half the runs of each optimizer reach; --target names another")
    return value


def profile(chosen: Chosen, asked: str | None, per_seed: bool, output: Output) -> None:
    """Draw performance profiles over the tasks that all optimizers have."""
    from vrcli.report.figures import text as figure_text
    from vrcli.report.figures.performance import profile as draw

    costs: dict[str, dict[str, float]] = defaultdict(dict)
    names = dict.fromkeys(name for lines in chosen.sections.values() for name in lines)
    labels, tasks = set(), []
    for section, lines in chosen.sections.items():
        everyone = [run for runs in lines.values() for run in runs]
        column = _cost(asked, everyone, bool(asked))
        _say(from_store.lacking(everyone, column.key))
        labels.add(quantity(column.key))
        problems = {name: _problems(section, runs, column.key, per_seed) for name, runs in lines.items()}
        shared = set.intersection(*(set(problems.get(name, ())) for name in names))
        if not shared:
            missing = [name for name in names if not problems.get(name)]
            notice(f"{section} is left out: no runs of {', '.join(missing)} with {column.key}" if missing
                   else f"{section} is left out: the optimizers share no seed")  # fmt: skip
        tasks += [section] * bool(shared)
        for name in names:
            costs[name] |= {problem: problems[name][problem] for problem in sorted(shared)}
    if not any(costs.values()):
        raise UsageError("no task has runs of all these optimizers; name some with --opt, or run what is missing")
    if any(cost <= 0 for own in costs.values() for cost in own.values()):
        raise UsageError("a profile divides by the best value and needs positive ones; --metric names another result")
    label = labels.pop() if len(labels) == 1 else "best validation objective"
    if len(next(iter(costs.values()))) == 1:
        notice("a profile needs several tasks: over one it says no more than which optimizer was best there and by "
               "what factor; --per-seed counts each seed")  # fmt: skip
    note = f"over {'seeds of ' * per_seed}{'; '.join(tasks)}"
    plot = draw(costs, cost_label=label, problem="seed" if per_seed else "task", note=note)
    output.deliver(plot, lambda page: f"{note}\n{figure_text.profile(plot.rows, page, label)}")


def _cost(asked: str | None, runs: Sequence[RunRecord], checked: bool) -> Column:
    """The result that counts as cost."""
    column = from_store.of_result(asked, runs) if asked else from_store.objective(runs)
    known = {name for run in runs for name in run.results}
    if checked and column.key not in known:
        raise UsageError(f"--metric {column.key} is no result of these runs"
                         f"{nearest(column.key, known) or '; they have ' + ', '.join(sorted(known))}")  # fmt: skip
    if column.direction != "min":
        raise UsageError(f"--metric {column.key} is no cost: this figure needs a result of which less is better")
    return column


def _problems(section: str, runs: Sequence[RunRecord], key: str, per_seed: bool) -> dict[str, float]:
    """The cost of each problem: of each seed, or the mean over seeds, which is a failure once a run diverged.

    Runs that did not record the result are left out; without any other there is no problem.
    """
    known = from_store.outcomes(runs, key)
    if per_seed:
        return {f"{section} seed {run.seed}": known[run.id] for run in runs if run.id in known}
    return {section: sum(known.values()) / len(known)} if known else {}


def sensitivity(runs: Sequence[RunRecord], setting: str, tolerance: float, asked: str | None, output: Output) -> None:
    """Draw the outcome over one setting."""
    from vrcli.report.figures import text as figure_text
    from vrcli.report.figures.settings import pooled_words
    from vrcli.report.figures.settings import sensitivity as draw
    from vrcli.report.figures.sweeps import Trial

    done, notes = from_store.finished(runs)
    _say(notes)
    if not done:
        notice("none of these runs has finished")
        return
    (title,) = from_store.by_section(done, 1)
    column = _cost(asked, done, bool(asked))
    at = from_store.of_setting(done, setting)
    known = from_store.outcomes(done, column.key)
    _say(from_store.lacking(done, column.key))
    lines: dict[str, list[RunRecord]] = defaultdict(list)
    for run in sorted(done, key=lambda run: (run.optimizer, run.id)):
        if run.id in at and run.id in known:
            lines[run.optimizer].append(run)
    trials = {name: [Trial({setting: at[run.id]}, known[run.id]) for run in own] for name, own in lines.items()}
    if len(set(at.values())) < 2:
        notice(f"all of these runs have the same {setting}: a sweep, or runs with several, would show more")
    label = quantity(column.key)
    pooled = from_store.differing_besides(lines.values(), setting)
    plot = draw(trials, setting, outcome_label=label, tolerance=tolerance, title=title, pooled=pooled)
    note = f"\n\n{pooled_words(pooled)}" if pooled else ""
    output.deliver(plot, lambda page: f"{title}\n{figure_text.sensitivity(plot.rows, page, setting, label)}{note}")


def sweep(
    store: Store,
    words: Sequence[str],
    opts: Sequence[str],
    preset: str | None,
    where: Sequence[str],
    kind: str,
    x: str,
    output: Output,
) -> None:
    """Draw the trials of searches."""
    from vrcli.cli import plot_sweeps
    from vrcli.cli.filters import Filter
    from vrcli.report.figures import settings as setting_figures
    from vrcli.report.figures import sweeps as sweep_figures
    from vrcli.report.figures import text as figure_text

    sweeps = plot_sweeps.named(store, words, opts, preset)
    if not sweeps:
        notice("no sweeps yet; start with: vr sweep cnn --opt vradam --trials 20")
        return
    title = plot_sweeps.one_section(sweeps)
    refs = [str(one.id) for one in sweeps]
    chosen = Filter(sweeps=refs, where=where).select(store) if where else store.runs.select(sweep=refs)
    runs = {run.id: run for run in chosen}
    key = from_store.objective(list(runs.values())).key
    trials, left_out = {}, 0
    for name, one in zip(plot_sweeps.titles(sweeps), sweeps, strict=True):
        trials[name], without = plot_sweeps.trials_of(store, one, runs, key.removeprefix("best_"), x)
        left_out += without
    if left_out:
        notice(f"{counted(left_out, 'trial')} failed, unfinished or not matching: not drawn")
    if not any(trials.values()):
        notice("no trial has ended yet")
        return
    label = quantity(key)
    if kind == "trials":
        plot: Plot = sweep_figures.sweep(trials, outcome_label=label, x_label=AXES[x], title=title)
        output.deliver(plot, lambda page: f"{title}\n{figure_text.sweep(plot.rows, page, label)}")
    else:
        draw = setting_figures.settings_grid if kind == "settings" else setting_figures.parallel
        text = figure_text.settings_grid if kind == "settings" else figure_text.parallel
        plot = draw(trials, outcome_label=label, title=title)
        output.deliver(plot, lambda page: f"{title}\n{text(plot.rows, page, label)}")


def _no_curves(panels: Collection[str], x: str) -> bool:
    if not panels:
        notice("these runs have no such curves" + (f" over {x}" if x != "step" else ""))
    return not panels


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        notice(note)
