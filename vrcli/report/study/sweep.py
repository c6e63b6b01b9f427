"""What a sweep plans and has come to, in words and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vrcli.direction import Direction, cost
from vrcli.output import finite
from vrcli.report.budget_text import best_of_k_rows
from vrcli.report.study.blocks import Block, Next, Rows, Step
from vrcli.report.study.command import run_command
from vrcli.report.study.spread import settings_text, spread_text
from vrcli.report.wording import duration, end_text, number
from vrcli.results.types import end_of
from vrcli.study.naming import shown

if TYPE_CHECKING:
    from vrcli.search.definition import Definition
    from vrcli.search.trials import Trial
    from vrcli.study.events import Note
    from vrcli.study.results import SearchResult, SweepPlan, SweepResult


def ended_text(trials: Iterable[Trial]) -> str:
    """How the trials that did not complete ended ("2 diverged, 1 failed"), or nothing."""
    counts: dict[str, int] = {}
    for trial in trials:
        if trial.status != "completed":
            counts[trial.status] = counts.get(trial.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def best_of_k(
    searches: Mapping[str, Sequence[tuple[str, float | None]]], objective: str, direction: Direction
) -> list[Block]:
    """Expected best value after k trials: comparable where the numbers of trials are not.

    Args:
        searches: state and value of each trial that ended, by optimizer.
        objective: what is searched for.
    """
    rows = best_of_k_rows(searches, direction)
    columns = list(rows[0])
    title = f"best val {objective} to expect after so many trials (Dodge et al. 2019; the median where trials diverged)"
    return [title, Rows(columns, rows, columns[1:])]


def space_rows(definitions: Sequence[Definition]) -> Rows:
    """The spaces, one line per axis, with their origin; several searches of one optimizer have the same."""
    definitions = list({one.optimizer: one for one in reversed(definitions)}.values())[::-1]
    rows = [
        {"": f"  {d.optimizer if i == 0 else ''}", "searched": name, "range": str(axis), "where from": axis.origin}
        for d in definitions
        for i, (name, axis) in enumerate(d.axes.items())
    ]
    return Rows(["", "searched", "range", "where from"], rows, wrap=["range", "where from"])


def header(definition: Definition, trials: int, about: str) -> str:
    """What is searched, and what it costs."""
    data = definition.dataset + (f" ({about})" if about else "")
    several = f" x {len(definition.seeds)} seeds" if len(definition.seeds) > 1 else ""
    epochs = end_text(definition.ending)
    pruned = "" if definition.prune == "none" else f" · hopeless trials stopped early ({definition.prune})"
    objective = f"best validation {definition.objective}"
    return (
        f"{shown(definition.task)} · {data} · preset {definition.preset} · objective: {objective} · "
        f"budget {trials} trials x {epochs}{several} for each optimizer{pruned}"
    )


def equal_text(names: Sequence[str]) -> str:
    """What --equal did."""
    verb = "is" if len(names) == 1 else "are"
    return f"only {' and '.join(names)} {verb} searched (--equal); what else an optimizer has stays as stated"


def note_text(note: Note) -> str:
    """A note in words."""
    facts = note.facts
    match note.kind:
        case "superseded":
            one = facts["search"]
            done = f"{one.ended}/{one.total} trials"
            code = ", ".join(one.code)
            return f"sweep {one.sweep_id} ({one.optimizer}, {done}) is of other code ({code}); another begins"
        case "code unknown":
            return (
                f"sweep {facts['sweep_id']} does not say which code its trials ran; "
                "those that follow may be of other code"
            )
        case "unequal budgets":
            one = ", ".join(
                f"{s.definition.optimizer} {len(s.trials)} x {end_of(s.definition.ending)}"
                for s in facts["result"].searches
            )
            return f"the optimizers had unequal budgets: {one}"
        case "equal":
            return equal_text(facts["settings"])
        case "database" | "data":
            return str(facts["text"])


def plan_line(plan: SweepPlan) -> str:
    """How long a sweep would take."""
    return f"about {duration(plan.left_s)} with --jobs {plan.jobs}, from a few timed steps"


def plan_json(plan: SweepPlan) -> dict[str, Any]:
    """A plan as plain JSON values."""
    searches = [
        {
            "optimizer": one.definition.optimizer, "space": {n: str(a) for n, a in one.definition.axes.items()},
            "origin": dict(one.definition.origins), "trials": plan.trials, **one.definition.ending,
            "seeds": list(one.definition.seeds), "stored": one.stored, "trial_s": one.trial_s,
        }
        for one in plan.searches
    ]  # fmt: skip
    return {"sweeps": searches, "left_s": plan.left_s, "jobs": plan.jobs}


def plan_blocks(plan: SweepPlan) -> list[Block]:
    """What a sweep would do, for people."""
    definitions = [one.definition for one in plan.searches]
    found: list[Block] = [header(definitions[0], plan.trials, plan.about), space_rows(definitions), ""]
    for one in plan.searches:
        done = f"{one.stored} of {plan.trials} trials stored"
        found.append(f"{one.definition.optimizer}: {done}, about {duration(one.trial_s)} each")
    return [*found, plan_line(plan)]


def sweep_blocks(result: SweepResult, *, advise: bool = True, rounded: bool = False) -> list[Block]:
    """The whole outcome for people.

    Args:
        advise: end with what to do next.
        rounded: settings have as many digits as mean something.
    """
    rows = end_rows(result.searches, rounded=rounded)
    best = _best_words(result.searches[0])
    table = Rows(list(rows[0]), rows, ["searches", "trials", best], ["settings"], ["not completed"])
    return [table, *(["", *advice(result)] if advise else [])]


def sweep_json(result: SweepResult) -> dict[str, Any]:
    """A sweep's outcome as plain JSON values."""
    rows = end_rows(result.searches)
    spread = {row["optimizer"]: _spread_json(result.searches, row["optimizer"]) for row in rows}
    return {"sweeps": [search_json(one) for one in result.searches], "spread": spread}


def _spread_json(searches: Sequence[SearchResult], optimizer: str) -> dict[str, Any]:
    """The best values of an optimizer's searches, and the means of their runs on fresh seeds."""
    from vrcli.stats.inference import summary

    own = [one for one in searches if one.definition.optimizer == optimizer]
    best = [one.best.value for one in own if one.best and one.best.value is not None]
    fresh = [mean for one in own if (mean := _fresh_mean(one)) is not None]
    objective = own[0].definition.objective
    found = {f"{name}_val_{objective}": summary(values) for name, values in (("best", best), ("fresh", fresh))}
    return {"searches": len(own)} | {
        name: {"n": one.n, "mean": finite(one.mean), "sd": finite(one.sd)} for name, one in found.items()
    }


def search_json(one: SearchResult) -> dict[str, Any]:
    """The outcome of one search as plain JSON values."""
    statuses = [trial.status for trial in one.trials]
    return {
        "id": one.sweep_id, "search": one.search_id, "name": one.name, "optimizer": one.definition.optimizer,
        "trials": len(one.trials), **one.definition.ending,
        "statuses": {status: statuses.count(status) for status in dict.fromkeys(statuses)},
        f"best_val_{one.definition.objective}": one.best.value if one.best else None,
        "best_params": one.best.params if one.best else None,
        "command": command_of(one) or None, "confirmed": fresh_json(one) if one.fresh else None,
    }  # fmt: skip


def command_of(one: SearchResult) -> str:
    """What trains with a search's best settings; empty where none completed."""
    return run_command(one.definition, one.best.params) if one.best else ""


def outcome_lines(result: SweepResult) -> list[str]:
    """One line for each optimizer: its best, or the mean and spread of several searches, and the command for it."""
    found = []
    rows = {row["optimizer"]: row for row in end_rows(result.searches)}
    for name in dict.fromkeys(one.definition.optimizer for one in result.searches):
        own = [one for one in result.searches if one.definition.optimizer == name]
        best, words = min(own, key=_best_cost), _best_words(own[0])
        value = f"{words} {rows[name][words]}" if best.best else "nothing completed"
        searches = f"{len(own)} searches of " if len(own) > 1 else ""
        found.append(f"{name}  {value} of {searches}{rows[name]['trials']} trials  {command_of(best)}".rstrip())
    return found


def advice(result: SweepResult) -> list[Block]:
    """The winner's command, and that its value is optimistic, unless fresh seeds were run."""
    winners = [one for one in result.searches if one.best is not None]
    if not winners:
        return []
    steps = [Step(command_of(min(winners, key=_best_cost)), "the best settings, on a fresh seed")]
    if any(one.fresh for one in result.searches):
        return [Next([*steps, Step("vr report", "the runs on fresh seeds as a table")])]
    if fresh := sum(one.fresh_stored for one in result.searches):
        return [Next([*steps, Step("vr report", f"the {fresh} runs on fresh seeds that are stored")])]
    confirm = Step("vr sweep", "the best of many trials is optimistic: the same settings on fresh seeds",
                   "--confirm-seeds 5")  # fmt: skip
    return [Next([*steps, confirm])]


def end_rows(searches: Sequence[SearchResult], *, rounded: bool = False) -> list[dict[str, Any]]:
    """One row per optimizer: what its search found for what it was given, or the mean and spread of several.

    Args:
        rounded: settings have as many digits as mean something.
    """
    found: dict[str, list[SearchResult]] = {}
    for one in searches:
        found.setdefault(one.definition.optimizer, []).append(one)
    several = any(len(own) > 1 for own in found.values())
    rows = []
    for name, own in sorted(found.items(), key=lambda pair: _mean_best(pair[1])):
        best = [one.best for one in own if one.best]
        fresh = f"fresh seeds: val {own[0].definition.objective}"
        row: dict[str, Any] = {"optimizer": name} | ({"searches": len(own)} if several else {})
        row["trials"] = _counts(len(one.trials) for one in own)
        row[_best_words(own[0])] = spread_text([one.best.value if one.best else None for one in own])
        row["not completed"] = ended_text(trial for one in own for trial in one.trials) or "-"
        row["settings"] = settings_text([one.params for one in best], rounded=rounded) or "-"
        if len(own) == 1 and own[0].fresh:
            row[fresh] = fresh_json(own[0])["text"]
        elif any(one.fresh for one in own):
            row[fresh] = spread_text([_fresh_mean(one) for one in own])
        rows.append(row)
    return rows


def _counts(values: Iterable[int]) -> str:
    known = sorted(set(values))
    return str(known[0]) if len(known) == 1 else f"{known[0]}-{known[-1]}"


def _fresh_mean(one: SearchResult) -> float | None:
    """Mean over the search's runs on fresh seeds, NaN where one of them diverged or failed; None without any."""
    from vrcli.stats.over_searches import over_searches

    values = [math.nan if run.value is None else run.value for run in one.fresh]
    return over_searches([values], direction=one.definition.direction).mean if values else None


def _mean_best(searches: Sequence[SearchResult]) -> float:
    """As a cost, by which optimizers are ordered."""
    from vrcli.stats.inference import summary

    mean = summary([one.best.value for one in searches if one.best and one.best.value is not None]).mean
    return cost(mean, searches[0].definition.direction)


def fresh_json(one: SearchResult) -> dict[str, Any]:
    """A search's runs on fresh seeds as plain JSON values, with their summary in words.

    Where one of them diverged or failed there is no mean: it is not left out.
    """
    from vrcli.stats.inference import summary

    runs = one.fresh
    values = [run.value for run in runs]
    bad = [f"seed {run.seed} {run.status}" for run in runs if run.status != "completed"]
    mean = _fresh_mean(one)
    if mean is not None and not math.isfinite(mean):
        mean = None
    sd = None if mean is None or len(runs) < 2 else summary([value for value in values if value is not None]).sd
    spread = "" if sd is None else f" sd {number(sd, 2)}"
    return {
        "n": len(runs), "seeds": sorted(run.seed for run in runs), f"val_{one.definition.objective}": values,
        "run_ids": [i for run in runs for i in run.run_ids], "not_completed": bad,
        "mean": mean, "sd": sd,
        "text": ", ".join([f"{'NaN' if mean is None else number(mean)}{spread} (n = {len(runs)})", *bad]),
    }  # fmt: skip


def _best_cost(one: SearchResult) -> float:
    return cost(one.best.value if one.best else None, one.definition.direction)


def _best_words(one: SearchResult) -> str:
    """How a search's best value is headed."""
    return f"best val {one.definition.objective}"
