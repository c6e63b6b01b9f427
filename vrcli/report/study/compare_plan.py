"""What a comparison would take, in words and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from vrcli.report.study.blocks import Block, Rows
from vrcli.report.study.sweep import header, space_rows
from vrcli.report.wording import counted, duration, number
from vrcli.study.compare_plan import ComparePlan


def plan_blocks(plans: Sequence[ComparePlan]) -> list[Block]:
    """Runs, those that are stored, and time, by optimizer."""
    blocks: list[Block] = []
    for plan in plans:
        blocks += [*([""] if blocks else []), *_task_blocks(plan)]
    return [*blocks, "", _left(plans)]


def _task_blocks(plan: ComparePlan) -> Iterator[Block]:
    request = plan.request
    if plan.definitions:
        yield header(plan.definitions[0], request.tuning.trials, plan.about)
        yield space_rows(plan.definitions)
        searches = counted(request.tuning.searches, "independent search")
        yield f"{searches} of each optimizer, then {counted(request.seeds, 'fresh seed')} per search"
    else:
        data = f" · {plan.about}" if plan.about else ""
        yield f"{plan.task}{data} · preset {request.tuning.preset} · {counted(request.seeds, 'fresh seed')}, no search"
    yield ""
    rows = [
        {
            "": name, "trials": one.trials or "-", "re-ranking": one.reranking or "-", "fresh": one.fresh,
            "stored": one.stored, "left": one.left, "s/run": number(one.run_s, 3) if math.isfinite(one.run_s) else "-",
            "time left": duration(one.left * one.run_s) if one.left and math.isfinite(one.run_s) else "-",
        }
        for name, one in plan.runs.items()
    ]  # fmt: skip
    yield Rows.of([{name: str(value) for name, value in row.items()} for row in rows])
    if request.looks > 1:
        yield f"fewer, where one of the {request.looks} looks decides earlier"
    if request.by_budget:
        yield "--by-budget adds the runs of what each search has found after a part of its trials"


def _left(plans: Sequence[ComparePlan]) -> str:
    left = sum(one.left for plan in plans for one in plan.runs.values())
    seconds = sum(plan.left_s for plan in plans)
    if not left:
        return "no run is left: all are stored"
    if not math.isfinite(seconds):
        return f"{counted(left, 'run')} left; how long they take is not known"
    return f"{counted(left, 'run')} left: about {duration(seconds)} with --jobs {plans[0].jobs}, from a few timed steps"


def plan_json(plans: Sequence[ComparePlan]) -> dict[str, Any]:
    """The same as plain JSON values."""
    from vrcli.report.study.compare import plain

    return plain({
        "jobs": plans[0].jobs, "left_s": sum(plan.left_s for plan in plans),
        "tasks": [
            {
                "task": plan.task, "preset": plan.request.tuning.preset, "trials": plan.request.tuning.trials,
                "searches": plan.request.tuning.searches, "seeds": plan.request.seeds, "left_s": plan.left_s,
                "optimizers": {
                    name: {"trials": one.trials, "reranking": one.reranking, "fresh": one.fresh, "stored": one.stored,
                           "left": one.left, "run_s": one.run_s}
                    for name, one in plan.runs.items()
                },
            }
            for plan in plans
        ],
    })  # fmt: skip
