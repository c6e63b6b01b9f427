"""What of a study makes no sense: names that nothing has, settings that are not accepted. A line for each fault."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from vrcli.errors import UsageError, nearest, refusal
from vrcli.execute.lookup import curves_of, task_of
from vrcli.probing import curves_of as curves_of_probes
from vrcli.study.comparison import checked
from vrcli.study.files.model import FULL, Part, Study
from vrcli.study.files.read import Faulty, Place, Written, at, find, lines_of
from vrcli.study.files.scaled import ScaledPart, scaled_part
from vrcli.variants import base_of

#: Curves that any run may have, whatever its optimizer.
CURVES = ("train_loss", "epoch_train_loss", "lr_effective", "grad_norm")


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
    named = list(_names(written.study))
    spoilt = {where[1] for where, _ in named if where[0] == "scales"}
    for where, what in [*named, *_requests(written, spoilt)]:
        yield at(where, lines, what)


def _names(study: Study) -> Iterator[tuple[Place, str]]:
    """Names that stand for nothing."""
    sources = list(dict.fromkeys(name for part in study.parts.values() for name in part.optimizers))

    def known(where: Place, names: Collection[str], of: Collection[str], what: str) -> Iterator[tuple[Place, str]]:
        for name in names:
            if name not in of:
                yield where, f"{what} {name}{nearest(name, of) or '; it has ' + ', '.join(of)}"

    optimizer, of_part, piece = "the study has no optimizer", "the part has no optimizer", "the study has no part"
    yield from known(("primary",), study.primary or (), sources, optimizer)
    for name, part in study.parts.items():
        for key in ("fix", "space"):
            yield from known(("parts", name, key), getattr(part, key), part.optimizers, of_part)
    for name, scale in study.scales.items():
        yield from known(("scales", name, "skip"), scale.skip, study.parts, piece)
        yield from known(("scales", name, "parts"), scale.parts, study.parts, piece)
        yield from known(("scales", name, "optimizers"), scale.optimizers or (), sources, optimizer)
        for part_name, change in scale.parts.items():
            own = study.parts[part_name].optimizers if part_name in study.parts else sources
            place = ("scales", name, "parts", part_name, "optimizers")
            yield from known(place, change.optimizers or (), own, of_part)
        if set(study.parts) <= set(scale.skip):
            yield ("scales", name, "skip"), "this scale skips every part"
    for number, value in enumerate(study.values):
        yield from known(("values", number, "optimizer"), [value.optimizer], sources, optimizer)
    for number, claim in enumerate(study.claims):
        yield from known(("claims", number, claim.kind), claim.pair, sources, optimizer)
        yield from known(("claims", number, "parts"), claim.parts, study.parts, piece)
        if len(set(claim.pair)) < 2 and len(getattr(claim, claim.kind)) == 2:
            yield ("claims", number, claim.kind), f"give two different optimizers, got {claim.pair[0]} twice"
    for key in ("tables", "figures"):
        for number, one in enumerate(getattr(study, key)):
            yield from known((key, number, "optimizers"), one.optimizers, sources, optimizer)
            yield from known((key, number, "parts"), one.parts, study.parts, piece)
    for number, figure in enumerate(study.figures):
        if figure.kind == "stability":
            shown = [study.parts[name] for name in figure.parts or study.parts if name in study.parts]
            if len(shown) != 1 and not set(figure.parts) - set(study.parts):
                yield ("figures", number, "parts"), f"a figure of stability is of one part, got {len(shown)}"


def _requests(written: Written, spoilt: Collection[str | int]) -> Iterator[tuple[Place, str]]:
    """Parts that cannot be carried out at a scale, and metrics that no run has.

    Args:
        spoilt: scales whose names stand for nothing, of which no more can be said.
    """
    study, said = written.study, set[str]()
    sound: list[ScaledPart] = []
    sharp: set[str] = set()  # parts that measure the sharpness at some scale
    for scale_name in [FULL, *(name for name in study.scales if name != FULL)]:
        if scale_name in spoilt:
            continue
        scale = study.scale(scale_name)
        assert scale is not None
        for name in study.parts:
            if name in scale.skip:
                continue
            where: Place = ("parts", name) if scale_name == FULL else ("scales", scale_name, "parts", name)
            try:
                part = scaled_part(written, scale, scale_name, name)
                if len(part.names) < 2:
                    left = f"only {next(iter(part.names))} runs" if part.names else "none runs"
                    raise UsageError(f"of its optimizers {left} at scale {scale_name}; skip the part there")
                checked(part.request)
            except Exception as error:
                if not getattr(error, "exit_code", None):  # of an error that is made for users
                    raise
                text = in_words(error)
                if text not in said:  # not at every scale again
                    yield where, text
                said.add(text)
            else:
                sound += [part] * (part.name not in [one.name for one in sound])
                sharp |= {name} if "sharpness" in part.probing.given else set()
    for number, figure in enumerate(study.figures):
        unmeasured = {one.name for one in sound} - sharp
        if (
            figure.kind == "stability"
            and len(shown := figure.parts or list(study.parts)) == 1
            and shown[0] in unmeasured
        ):
            yield ("figures", number, "kind"), "a figure of stability needs a part with the probe sharpness"
    if len(sound) == len(study.parts):
        yield from _metrics(study, {one.name: one for one in sound})


def _metrics(study: Study, parts: Mapping[str, ScaledPart]) -> Iterator[tuple[Place, str]]:
    """Results and curves that no run of any of the parts has that they are asked of."""
    results = {name: _results(scaled.part) for name, scaled in parts.items()}

    def curves(optimizers: Collection[str]) -> dict[str, list[str] | None]:
        return {name: _curves(scaled, results[name], optimizers) for name, scaled in parts.items()}

    def refused(
        where: Place, names: Sequence[str], among: Sequence[str], of: Mapping[str, Sequence[str] | None], what: str
    ) -> Iterator[tuple[Place, str]]:
        lists = [own for part, own in of.items() if not among or part in among]
        known = list(dict.fromkeys(one for own in lists for one in own or ()))
        for name in names if lists and None not in lists else ():  # parts that are not there are told elsewhere
            if name and not any(fnmatchcase(name, pattern) for pattern in known):
                hint = nearest(name, known) or f"; there are {', '.join(known)}"
                yield where, f"{name} is not a {what}{hint}"

    for number, value in enumerate(study.values):
        yield from refused(("values", number, "metric"), [value.metric], (), results, "result of these tasks")
    for number, claim in enumerate(study.claims):
        yield from refused(("claims", number, "metric"), [claim.metric], claim.parts, results, "result of these tasks")
        for key in ("curve", "of"):
            yield from refused(
                ("claims", number, key), [getattr(claim, key)], claim.parts, curves(claim.pair), "curve of these runs"
            )
    for number, table in enumerate(study.tables):
        yield from refused(("tables", number, "metrics"), table.metrics, table.parts, results, "result of these tasks")
    for number, figure in enumerate(study.figures):
        yield from refused(
            ("figures", number, "curves"), figure.curves, figure.parts, curves(figure.optimizers), "curve of these runs"
        )


def _results(part: Part) -> list[str]:
    """The results of a part's runs."""
    metrics = task_of(part.task).metrics
    return [
        f"best_val_{metrics[0].name}",
        *(f"{split}_{m.name}" for m in metrics for split in ("test", "val")),
        "steps",
    ]


def _curves(scaled: ScaledPart, results: Sequence[str], among: Collection[str]) -> list[str] | None:
    """The curves of a part's runs, as patterns; None where an optimizer does not say which it records.

    Args:
        among: the optimizers whose runs these are; all of the part by default.
    """
    own = [curves_of(base_of(text)) for name, text in scaled.part.optimizers.items() if not among or name in among]
    if None in own:
        return None
    validation = [one for one in results if one.startswith("val_")]
    others = [*CURVES, *(name for names in own for name in names or ())]
    return list(dict.fromkeys([*validation, *others, *curves_of_probes(scaled.probing)]))


def in_words(error: Exception) -> str:
    """What an error says, with the key of the file in the place of the option."""
    if not isinstance(error, UsageError):
        return str(error)
    return refusal(error.option.lstrip("-").replace("-", "_"), error.text)
