"""What a study has come to: its parts, the source's numbers beside ours, its claims, and what must be known of both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vrcli.report.study.blocks import Block, Rows
from vrcli.report.study.compare import compare_json, plain, summary_blocks
from vrcli.report.study.spread import settings_text
from vrcli.report.verdicts import line
from vrcli.report.wording import MINUS, counted, duration, number, p_value, quantity, signed, span, with_half_width
from vrcli.results.types import values_of
from vrcli.stats.inference import t_interval
from vrcli.stats.replicates import Pair
from vrcli.study.files.claims import Decided
from vrcli.study.files.model import Claim, Table
from vrcli.study.files.run import StudyResult
from vrcli.study.files.stored import Found
from vrcli.variants import subset_name

LEVEL = 0.95
BESIDE = "What the source states, and what came out"


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


def sections(result: StudyResult, gates: Mapping[str, Sequence[Any]] | None = None) -> list[Section]:
    """The whole outcome.

    Args:
        gates: what `vrcli.results.gates` found, by part.
    """
    study = result.study.study
    found = [Section("", list(_head(result))), Section("Parts", [_parts(result)])]
    tables = [(one.title or BESIDE, beside(result, one)) for one in study.tables or [Table()] * bool(study.values)]
    found += [Section(title, [rows, *_legend(result)]) for title, rows in tables if rows is not None]
    if study.claims:
        found.append(Section("Claims", [_claims(result.claims), *_evidence(result.claims)]))
    found.append(Section("Settings", _settings(result)))
    found += [Section(f"Part {name}", _part(one)) for name, one in result.found.items()]
    if gates and any(gates.values()):
        found.append(Section("The velocity's gate", _gates(gates)))
    found.append(Section("Deviations", list(_deviations(result))))
    return [one for one in found if one.blocks]


def section_blocks(found: Sequence[Section]) -> list[Block]:
    """For a terminal or a notebook: every section under its title."""
    blocks: list[Block] = []
    for section in found:
        blocks += ["", section.title.upper()] if section.title else []
        blocks += section.blocks
    return blocks


def study_json(result: StudyResult) -> dict[str, Any]:
    """The outcome as plain JSON values."""
    study = result.study
    return plain({
        "study": study.written.name, "scale": study.name, "title": study.study.title, "failed": dict(result.failed),
        "parts": {
            name: {
                "planned": sum(found.planned.values()), "stored": found.done, "complete": found.complete,
                "changed": list(found.part.changed), "failed": dict(found.failed),
                "comparison": compare_json(done) if found.complete and (done := found.result()) else None,
            }
            for name, found in result.found.items()
        },
        "claims": [
            {"claim": claim_text(one.claim), "part": one.part, "verdict": one.said.value, "evidence": evidence(one)}
            for one in result.claims
        ],
        "values": [
            {"optimizer": one.optimizer, "metric": one.metric, "stated": one.value, "where": one.where}
            for one in study.study.values
        ],
    })  # fmt: skip


def _head(result: StudyResult) -> Iterator[Block]:
    study, scaled = result.study.study, result.study
    yield " · ".join(filter(None, [study.title, study.source]))
    if study.about:
        yield study.about
    reduced = "" if scaled.is_full else "; reduced: no distance is decided"
    yield f"scale {scaled.name}{f': {scaled.scale.about}' if scaled.scale.about else ''}{reduced}"
    if study.primary:
        pair = f"{study.primary[0]} and {study.primary[1]} are the pair that counts"
        alike = "; where nothing is searched all pairs count alike" if _some_unsearched(result) else ""
        yield f"declared before anything ran: {pair}{alike}"
    for name, why in result.failed.items():
        yield f"part {name} has no result: {why}"


def _some_unsearched(result: StudyResult) -> bool:
    return any(not found.part.request.tuning.trials for found in result.found.values())


def _parts(result: StudyResult) -> Rows:
    rows = []
    for name, found in result.found.items():
        request, left = found.part.request, found.left_s()
        planned = sum(found.planned.values())
        rows.append({
            "part": name,
            "what": f"{request.tuning.task}, preset {request.tuning.preset}" + _colon(found.part.part.about),
            "n": n_of(found),
            "done": f"{found.done}/{planned}",
            "left": "-" if found.done >= planned or not left else duration(left),
            "at this scale": "; ".join(found.part.changed) or "as it is written",
        })  # fmt: skip
    rows += [
        {"part": name, "what": "", "n": "", "done": "-", "left": "", "at this scale": "does not run"}
        for name in result.study.skipped
    ]
    return Rows(list(rows[0]), rows, ["done", "left"])


def _colon(text: str) -> str:
    return f": {text}" if text else ""


def n_of(found: Found) -> str:
    """How often the part is replicated: searches x fresh seeds, or seeds."""
    request = found.part.request
    tuning = request.tuning
    return f"{tuning.searches} x {request.seeds}" if tuning.trials else str(request.seeds)


def _settings(result: StudyResult) -> list[Block]:
    """What every optimizer was given, as its runs have it."""
    rows = []
    for part, found in result.found.items():
        searched = bool(found.part.request.tuning.trials)
        for name, ours in found.part.names.items():
            given = [run.spec.get("optimizer_settings", {}) for own in found.blocks.get(ours, ()) for run in own]
            used = {key for one in given for key, value in one.items() if value is not None and value is not False}
            on = [{key: value for key, value in one.items() if key in used} for one in given]
            if on:
                shown = name if name == ours else f"{name} ({ours})"
                rows.append({"part": part, "optimizer": shown, "settings": settings_text(on, rounded=searched)})
    any_searched = any(found.part.request.tuning.trials for found in result.found.values())
    legend = "of searches, the range of what they chose; " * any_searched + "what is off is left out"
    return [Rows(["part", "optimizer", "settings"], rows, wrap=["settings"]), legend] if rows else []


# -- beside the source ------------------------------------------------------------------------------------------------


def beside(result: StudyResult, table: Table) -> Rows | None:
    """The source's numbers and ours, a row for each optimizer and metric; None where nothing is to be shown."""
    study = result.study.study
    stated = {(one.optimizer, one.metric): one for one in study.values}
    metrics = table.metrics or study.metrics
    shown_of = [name for name in study.parts if not table.parts or name in table.parts]
    names = table.optimizers or list(dict.fromkeys(name for part in shown_of for name in study.parts[part].optimizers))
    parts = {name: one for name, one in result.found.items() if name in shown_of}
    of_source = any((name, metric) in stated for name in names for metric in metrics)
    rows = []
    for metric in metrics:
        for name in names:
            value = stated.get((name, metric))
            row = {"": name, "metric": quantity(metric)}
            row |= {"the source": "-" if value is None else number(value.value)} if of_source else {}
            for part, found in parts.items():
                ours = found.part.names.get(name)
                shown, mean = ("-", math.nan) if ours is None else _ours(found, ours, metric)
                called = "" if ours in (None, name) else f" ({ours})"
                row[f"{part} (n = {n_of(found)})"] = shown + called * (shown != "-")
                if value is not None and not found.part.changed:
                    row[f"{part} {MINUS} source"] = "-" if math.isnan(mean) else signed(mean - value.value)
            rows.append(row)
    if not rows or not parts:
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return Rows(columns, [{key: row.get(key, "-") for key in columns} for row in rows], columns[2:])


def _ours(found: Found, optimizer: str, metric: str) -> tuple[str, float]:
    """Mean and interval over the replicates, as far as they are there; how many diverged where some did."""
    blocks = found.blocks.get(optimizer, ())
    table = np.array([values_of(own, metric) for own in blocks])
    if not table.size:
        return ("failed" if optimizer in found.failed else "-"), math.nan
    values = table.mean(axis=1) if found.part.request.tuning.trials else table.reshape(-1)
    if n_diverged := found.diverged(optimizer):
        return f"NaN ({n_diverged} of {table.size} diverged)", math.nan
    if not np.isfinite(table).all():
        return ("-" if np.isnan(table).all() else "NaN"), math.nan  # no task of the part may have such a result
    low, high = t_interval(values, LEVEL) if len(values) > 1 else (math.nan, math.nan)
    shown = with_half_width(float(values.mean()), (high - low) / 2)
    short = "" if found.has_all(optimizer) else f" (of {len(values)} so far)"
    return shown + short, float(values.mean())


def _legend(result: StudyResult) -> list[Block]:
    places = sorted({one.where for one in result.study.study.values if one.where})
    text = f"± is a {100 * LEVEL:g}% interval over the searches, or over the seeds where nothing was searched"
    return [text, *([f"the source's numbers stand in: {', '.join(places)}"] if places else [])]


# -- claims -----------------------------------------------------------------------------------------------------------


def claim_text(claim: Claim) -> str:
    """A claim in words."""
    if claim.text:
        return claim.text
    a, b = claim.pair
    of = quantity(claim.metric or claim.curve)
    match claim.kind:
        case "less":
            return f"{a} has a lower {of} than {b}"
        case "more":
            return f"{a} has a higher {of} than {b}"
        case "equivalent":
            return f"{a} and {b} are equal in {of} within {claim.margin}"
        case "within":
            over = f" over {quantity(claim.of)}" if claim.of else ""
            low, high = claim.range or (math.nan, math.nan)
            return f"{a}'s {of}{over} lies in {low:g} to {high:g}"
        case "never_above":
            return f"{a}'s {of} is never above its {quantity(claim.of)}"
        case "rate":
            logs = f" (ln N)^{claim.logs:g}" if claim.logs else ""
            return f"{a}'s {of} falls as fast as N^{claim.power:g}{logs}"
    return f"{a}'s {of} stays under {b}'s" + (f" from {100 * claim.after:g}% of the run" if claim.after else "")


def _claims(claims: Sequence[Decided]) -> Rows:
    rows = [
        {"claim": claim_text(one.claim) + (f" ({one.claim.where})" if one.claim.where else ""), "part": one.part,
         "verdict": one.said.value}
        for one in claims
    ]  # fmt: skip
    return Rows(["claim", "part", "verdict"], rows)


def _evidence(claims: Sequence[Decided]) -> list[Block]:
    """What each verdict rests on."""
    found: list[Block] = [""]
    found += [f"{claim_text(one.claim)}, part {one.part}: {text}" for one in claims if (text := evidence(one))]
    return found if len(found) > 1 else []


def evidence(one: Decided) -> str:
    """The numbers behind a verdict, in one line."""
    if one.pair is None:
        return one.reason
    pair = one.pair
    tests = pair.tests if isinstance(pair, Pair) else pair.family
    more = f", {p_value(pair.p_holm)} after Holm over {tests} pairs" if tests > 1 else ""
    if not isinstance(pair, Pair):
        return f"{line(pair, one.unit)}{more}; n = {pair.n}" + (f"; {one.reason}" if one.reason else "")
    n = f"n = {pair.searches} x {one.result.seeds if one.result else '?'}"
    if math.isnan(pair.difference):
        return f"by rank ({pair.test}), {p_value(pair.p_looks)}{more}; {n}"
    low, high = map(signed, pair.interval)
    size = f"{pair.a} {MINUS} {pair.b}: {signed(pair.difference)} [{low}, {high}]"
    return f"{size}, {p_value(pair.p_looks)} ({pair.test}){more}; {n}"


# -- the rest ---------------------------------------------------------------------------------------------------------


def _part(found: Found) -> list[Block]:
    result = found.result()
    if result is not None and found.complete:
        return summary_blocks(result)
    planned = sum(found.planned.values())
    blocks: list[Block] = [f"{found.done} of {planned} runs are stored; nothing is compared yet"]
    return blocks + [f"{name} failed: {why}" for name, why in found.failed.items()]


def _gates(gates: Mapping[str, Sequence[Any]]) -> list[Block]:
    rows = [
        {
            "part": part, "": one.optimizer, "runs": one.runs, "gate, mean": number(one.mean, 3),
            "lowest": number(one.low, 3), "highest": number(one.high, 3),
            "bound": span(one.bounds, 3),
            "steps at the bound": f"{100 * one.at_bound:.1f} %",
        }
        for part, own in gates.items() for one in own
    ]  # fmt: skip
    return [
        Rows(list(rows[0]), rows, list(rows[0])[2:]),
        "the gate multiplies the learning rate; its bound is 1 / (1 + lr_cutoff). A gate that stays at its bound makes "
        "the optimizer AdamW at a smaller rate",
    ]


def _deviations(result: StudyResult) -> Iterator[Block]:
    yield from (f"- {text}" for text in result.study.study.deviations)
    for name, found in result.found.items():
        yield from (f"- {name}: {text}" for text in [*found.part.part.deviations, *_own_deviations(found)])


def _own_deviations(found: Found) -> Iterator[str]:
    """What the runs themselves tell: other data than the preset's, other runs of the same settings."""
    runs = [run for own in found.runs.values() for run in own]
    usual, share = found.part.dataset, found.part.request.tuning.flags.get("subset")
    asked = (usual, subset_name(usual, share) if share else usual)
    data = sorted({(run.dataset or "", (run.dataset_fingerprint or "")[:6]) for run in runs})
    for dataset, digest in data:
        if usual and dataset not in asked:
            yield f"the data are {dataset} (content {digest}), not {usual}"
    devices = sorted({str(run.spec.get("device")) for run in runs} - {"cpu"})
    if devices:
        yield f"ran on {', '.join(devices)}"
    if found.others:
        yield f"{counted(found.others, 'stored run')} of the same settings on other data, code or devices are left out"
