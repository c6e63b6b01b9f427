"""What of a study makes no sense: names that nothing has, settings that are not accepted. A line for each fault."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from vrcli.errors import nearest
from vrcli.execute.lookup import task_of
from vrcli.study.comparison import checked
from vrcli.study.files.model import FULL, Part, Study
from vrcli.study.files.read import Faulty, Place, Written, at, find, lines_of
from vrcli.study.files.scaled import ScaledPart, scaled_part

#: Curves that any run may have.
CURVES = ("train_loss", "epoch_train_loss", "lr_effective", "grad_norm", "velocity_norm", "gate")
_FLAG = re.compile(r"--([a-z][a-z-]*)")


def faults_of(name: str) -> tuple[str, ...]:
    """Every fault of a study, a line each.

    Raises:
        UsageError: there is no such file.
    """
    try:
        written = find(name)
    except Faulty as error:
        return error.faults
    return tuple(_faults(written))


def sound(written: Written) -> Written:
    """The study itself, where it makes sense.

    Raises:
        Faulty: it does not.
    """
    if found := list(_faults(written)):
        raise Faulty(written.path, found)
    return written


def _faults(written: Written) -> Iterator[str]:
    lines = lines_of(Path(written.path).read_text("utf-8"))
    for where, what in [*_names(written.study), *_requests(written)]:
        yield at(where, lines, what)


def _names(study: Study) -> Iterator[tuple[Place, str]]:
    """Names that stand for nothing."""
    sources = list(dict.fromkeys(name for part in study.parts.values() for name in part.optimizers))

    def known(where: Place, names: Collection[str], of: Collection[str], what: str) -> Iterator[tuple[Place, str]]:
        for name in names:
            if name not in of:
                yield where, f"{name} is not a {what}{nearest(name, of) or '; there are ' + ', '.join(of)}"

    optimizer = "optimizer of the study"
    yield from known(("primary",), study.primary or (), sources, optimizer)
    for name, part in study.parts.items():
        for key in ("fix", "space"):
            yield from known(("parts", name, key), getattr(part, key), part.optimizers, "optimizer of the part")
    for name, scale in study.scales.items():
        yield from known(("scales", name, "skip"), scale.skip, study.parts, "part")
        yield from known(("scales", name, "parts"), scale.parts, study.parts, "part")
        yield from known(("scales", name, "optimizers"), scale.optimizers or (), sources, optimizer)
        for part_name, change in scale.parts.items():
            own = study.parts[part_name].optimizers if part_name in study.parts else sources
            place = ("scales", name, "parts", part_name, "optimizers")
            yield from known(place, change.optimizers or (), own, "optimizer of the part")
        if set(study.parts) <= set(scale.skip):
            yield ("scales", name, "skip"), "leaves no part to run"
    for number, value in enumerate(study.values):
        yield from known(("values", number, "optimizer"), [value.optimizer], sources, optimizer)
    for number, claim in enumerate(study.claims):
        yield from known(("claims", number, claim.kind), claim.pair, sources, optimizer)
        yield from known(("claims", number, "parts"), claim.parts, study.parts, "part")
        if len(set(claim.pair)) < 2:
            yield ("claims", number, claim.kind), f"give two different optimizers, got {claim.pair[0]} twice"
        if isinstance(claim.margin, str) and not re.fullmatch(r"\s*[0-9.]+\s*%?\s*", claim.margin):
            yield ("claims", number, "margin"), f"must be a number or a percentage, got {claim.margin}"
    for key in ("tables", "figures"):
        for number, one in enumerate(getattr(study, key)):
            yield from known((key, number, "optimizers"), one.optimizers, sources, optimizer)
            yield from known((key, number, "parts"), one.parts, study.parts, "part")


def _requests(written: Written) -> Iterator[tuple[Place, str]]:
    """Parts that cannot be carried out at a scale, and metrics that no run has."""
    study, said = written.study, set[str]()
    sound: list[ScaledPart] = []
    for scale_name in [FULL, *(name for name in study.scales if name != FULL)]:
        scale = study.scale(scale_name)
        assert scale is not None
        for name in study.parts:
            if name in scale.skip:
                continue
            where: Place = ("parts", name) if scale_name == FULL else ("scales", scale_name, "parts", name)
            try:
                part = scaled_part(written, scale, scale_name, name)
                checked(part.request)
            except Exception as error:
                if not getattr(error, "exit_code", None):  # of an error that is made for users
                    raise
                text = in_words(str(error))
                if text not in said:  # not at every scale again
                    yield where, text
                said.add(text)
            else:
                sound += [part] * (part.name not in [one.name for one in sound])
    if len(sound) == len(study.parts):
        yield from _metrics(study, {one.name: one.part for one in sound})


def _metrics(study: Study, parts: Mapping[str, Part]) -> Iterator[tuple[Place, str]]:
    """Results and curves that no run of any of the parts has that they are asked of."""
    results = {name: _results(part) for name, part in parts.items()}
    curves = {
        name: [*(one for one in own if one.startswith("val_")), *CURVES] for name, own in results.items()
    }  # fmt: skip

    def refused(
        where: Place, names: Sequence[str], among: Sequence[str], of: Mapping[str, Sequence[str]], what: str
    ) -> Iterator[tuple[Place, str]]:
        known = list(dict.fromkeys(one for part, own in of.items() if not among or part in among for one in own))
        for name in names:
            if name and name not in known:
                hint = nearest(name, known) or f"; there are {', '.join(known)}"
                yield where, f"{name} is not a {what} of these tasks{hint}"

    for number, value in enumerate(study.values):
        yield from refused(("values", number, "metric"), [value.metric], (), results, "result")
    for number, claim in enumerate(study.claims):
        yield from refused(("claims", number, "metric"), [claim.metric], claim.parts, results, "result")
        yield from refused(("claims", number, "curve"), [claim.curve], claim.parts, curves, "curve")
    for number, table in enumerate(study.tables):
        yield from refused(("tables", number, "metrics"), table.metrics, table.parts, results, "result")
    for number, figure in enumerate(study.figures):
        yield from refused(("figures", number, "curves"), figure.curves, figure.parts, curves, "curve")


def _results(part: Part) -> list[str]:
    """The results of a part's runs."""
    metrics = task_of(part.task).metrics
    return [f"best_val_{metrics[0].name}", *(f"{split}_{m.name}" for m in metrics for split in ("test", "val"))]


def in_words(message: str) -> str:
    """What an option's refusal says, of a key of the file."""
    return _FLAG.sub(lambda found: found[1].replace("-", "_"), message)
