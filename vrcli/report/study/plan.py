"""What a study would take, and what it is made of, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from vrcli.report.study.blocks import Block, Rows
from vrcli.report.study.experiment import n_of
from vrcli.report.wording import counted, duration, number, setting
from vrcli.study.files.run import PlannedPart, StudyPlan
from vrcli.study.files.scaled import Scaled, ScaledPart


def plan_blocks(plan: StudyPlan) -> list[Block]:
    """Runs, those that are stored, time and memory, by part and optimizer."""
    scaled = plan.study
    blocks: list[Block] = [f"{scaled.written.name}, scale {scaled.name}: {scaled.study.title}", ""]
    rows = [row for part in plan.parts for row in _rows(part)]
    blocks.append(Rows(list(rows[0]), rows, list(rows[0])[2:]))
    blocks.append("")
    for part in plan.parts:
        name = part.found.part.name
        if part.missing:
            blocks.append(f"{name}: {part.missing}")
        elif part.about:
            memory = part.memory_bytes
            shown = (
                "" if math.isnan(memory) else f", {number(memory / 2**20, 3)} MiB of memory for each of its processes"
            )
            blocks.append(f"{name}: {part.about}{shown}")
        blocks += [f"{name}: {opt} cannot run here: {why}" for opt, why in part.found.failed.items()]
    left = sum(count for part in plan.parts for count in part.left.values())
    if math.isfinite(plan.left_s):
        blocks.append(f"{counted(left, 'run')} left: about {duration(plan.left_s)} with --jobs {plan.jobs}")
    else:
        blocks.append(f"{counted(left, 'run')} left; how long they take is not known")
    return blocks


def _rows(part: PlannedPart) -> Iterator[dict[str, Any]]:
    found = part.found
    for name, planned in found.planned.items():
        run_s, left = part.run_s.get(name, math.nan), part.left[name]
        yield {
            "part": found.part.name, "optimizer": name, "n": n_of(found), "runs": planned,
            "stored": len(found.runs.get(name, ())), "s/run": number(run_s, 3) if math.isfinite(run_s) else "-",
            "left": duration(left * run_s) if left else "-",
        }  # fmt: skip


def plan_json(plan: StudyPlan) -> dict[str, Any]:
    """The same as plain JSON values."""
    from vrcli.report.study.compare import plain

    return plain({
        "study": plan.study.written.name, "scale": plan.study.name, "jobs": plan.jobs, "left_s": plan.left_s,
        "parts": [
            {
                "part": one.found.part.name, "missing": one.missing, "memory_bytes": one.memory_bytes,
                "left_s": one.left_s,
                "optimizers": {
                    name: {"runs": planned, "stored": planned - one.left[name], "run_s": one.run_s.get(name)}
                    for name, planned in one.found.planned.items()
                },
            }
            for one in plan.parts
        ],
    })  # fmt: skip


def show_blocks(scaled: Scaled) -> list[Block]:
    """What a study will run, and where each number comes from."""
    study = scaled.study
    blocks: list[Block] = [" · ".join(filter(None, [study.title, study.source]))]
    blocks += [study.about] * bool(study.about)
    blocks.append(f"scale {scaled.name}{f': {scaled.scale.about}' if scaled.scale.about else ''}; "
                  f"scales: {', '.join(study.scale_names)}")  # fmt: skip
    for part in scaled.parts:
        blocks += ["", *_shown(part)]
    if study.values:
        rows = [{"stated": one.optimizer, "result": one.metric, "value": number(one.value), "where": one.where}
                for one in study.values]  # fmt: skip
        blocks += ["", Rows(list(rows[0]), rows, ["value"])]
    from vrcli.report.study.experiment import claim_text

    blocks += [""] * bool(study.claims) + [f"claim: {claim_text(one)}" for one in study.claims]
    blocks += [""] * bool(study.deviations) + [f"deviation: {text}" for text in study.deviations]
    return blocks


def _shown(part: ScaledPart) -> Iterator[Block]:
    """One part: what runs, and every setting that is not a default, with its origin."""
    request = part.request
    tuning = request.tuning
    how = (
        f"{counted(tuning.searches, 'independent search')} of {counted(tuning.trials, 'trial')} each, then "
        f"{counted(request.seeds, 'fresh seed')} per search"
        if tuning.trials else f"no search: {counted(request.seeds, 'fresh seed')}"
    )  # fmt: skip
    yield f"part {part.name}: {part.part.about}" if part.part.about else f"part {part.name}"
    yield f"{tuning.task}, preset {tuning.preset}; {how}"
    yield from (f"changed at this scale: {text}" for text in part.changed)
    yield from (f"deviation: {text}" for text in part.part.deviations)
    rows = list(_settings(part))
    yield Rows(["setting", "value", "where from"], rows)


def _settings(part: ScaledPart) -> Iterator[dict[str, str]]:
    from vrcli.study.files.origins import origins_of

    for name, value, origin in origins_of(part):
        yield {"setting": name, "value": setting(value), "where from": origin}
