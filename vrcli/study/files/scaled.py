"""From a part of a study at one scale to the comparison that carries it out: `vr compare` with these words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, nearest
from vrcli.execute.lookup import task_of
from vrcli.probing import NONE, Probing, options_of
from vrcli.probing import asked as asked_of_probes
from vrcli.study.asked import Asked, text_of
from vrcli.study.comparison import CompareRequest
from vrcli.study.define import tuning_of
from vrcli.study.files.model import Change, Part, Scale, Study
from vrcli.study.naming import usual_dataset
from vrcli.variants import variant

if TYPE_CHECKING:
    from vrcli.execute.lookup import TaskClass
    from vrcli.study.files.read import Written


@dataclass(frozen=True)
class ScaledPart:
    """A part at one scale.

    Args:
        names: our optimizers, or variants of them, by the source's name: those of this scale.
        request: the comparison.
        changed: what the scale makes of the part, in words.
        dataset: the name of the data set that the part is written for.
        probing: what its runs measure beside the loss.
    """

    name: str
    part: Part
    names: Mapping[str, str]
    request: CompareRequest
    changed: Sequence[str] = ()
    dataset: str = ""
    probing: Probing = NONE

    @property
    def ours(self) -> Mapping[str, str]:
        """The source's name by ours."""
        return {name: source for source, name in self.names.items()}


@dataclass(frozen=True)
class Scaled:
    """A study at one scale.

    Args:
        parts: those that run.
        skipped: names of those that do not.
    """

    written: Written
    name: str
    scale: Scale
    parts: Sequence[ScaledPart] = ()
    skipped: Sequence[str] = field(default=())

    @property
    def study(self) -> Study:
        return self.written.study

    @property
    def is_full(self) -> bool:
        """Whether every part runs as it is written."""
        return not self.skipped and not any(one.changed for one in self.parts)


def scaled(
    written: Written,
    name: str,
    *,
    only: Sequence[str] = (),
    device: str = "cpu",
    threads: int | None = None,
    datasets: Mapping[str, str] | None = None,
) -> Scaled:
    """A study at a scale.

    Args:
        only: parts; all by default.
        device: where runs run; never "auto".
        datasets: folders to read instead of the data sets of these names.

    Raises:
        UsageError: no such scale, part or data set.
    """
    study, datasets = written.study, datasets or {}
    scale = study.scale(name)
    if scale is None:
        hint = nearest(name, study.scale_names) or f"; it has {', '.join(study.scale_names)}"
        raise UsageError(f"--scale {name} is not a scale of {written.name}{hint}")
    left = [part for part in study.parts if part not in scale.skip]
    for part in only:
        if part not in study.parts:
            hint = nearest(part, study.parts) or f"; it has {', '.join(study.parts)}"
            raise UsageError(f"--only {part} is not part of {written.name}{hint}")
        if part not in left:
            raise UsageError(f"--only {part}: it does not run at scale {name}")
    used: set[str] = set()
    parts = [
        scaled_part(written, scale, name, part, device=device, threads=threads, datasets=datasets, used=used)
        for part in left if not only or part in only
    ]  # fmt: skip
    if unused := [dataset for dataset in datasets if dataset not in used]:
        known = sorted({dataset_of(one.request) for one in parts} | used)
        hint = nearest(unused[0], known) or f"; they use {', '.join(known)}"
        raise UsageError(f"--dataset {unused[0]}: no part uses a data set of that name{hint}")
    return Scaled(written, name, scale, parts, [part for part in study.parts if part in scale.skip])


def scaled_part(
    written: Written, scale: Scale, scale_name: str, name: str, *, device: str = "cpu", threads: int | None = None,
    datasets: Mapping[str, str] | None = None, used: set[str] | None = None,
) -> ScaledPart:  # fmt: skip
    """One part at a scale.

    Args:
        used: takes the names of the data sets that are read from elsewhere.

    Raises:
        UsageError: the task or its preset does not exist.
    """
    part = written.study.parts[name]
    changes = [scale, *([scale.parts[name]] if name in scale.parts else [])]
    task = task_of(part.task)
    left = next((one.optimizers for one in changes[::-1] if one.optimizers is not None), list(part.optimizers))
    texts = {source: text for source, text in part.optimizers.items() if source in left}
    names = {source: variant(text).name for source, text in texts.items()}

    def last(key: str) -> Any:
        return next((found for one in changes[::-1] if (found := getattr(one, key)) is not None), getattr(part, key))

    settings = _settings(task, part, changes)
    own = settings.get("dataset", _preset_value(task, part, "dataset", ""))
    if datasets and own in datasets:
        settings["dataset"] = datasets[own]
        if used is not None:
            used.add(own)
    trials = last("trials")
    asked = Asked(part.task, list(texts.values()), part.preset, (0,), device, threads, None, {}, settings)
    tuning = tuning_of(
        asked, fix=_texts(part.fix, names), space=_texts(part.space, names) if trials else (), trials=trials,
        searches=last("searches") if trials else 1, search=part.search if trials else "gp", new=True,
        vary_split=part.vary_split,
    )  # fmt: skip
    primary = tuple(names.get(source, "") for source in written.study.primary or ())
    request = CompareRequest(
        tuning, last("seeds"), part.metric or f"best_val_{task.metrics[0].name}",
        primary=(primary[0], primary[1]) if trials and len(primary) == 2 and all(primary) else None,
        tag=f"{written.name}:{name}:{scale_name}"[-255:],
    )  # fmt: skip
    changed = list(_changed(task, part, names, request, own)) if any(one != type(one)() for one in changes) else []
    return ScaledPart(name, part, names, request, changed, own, _probing(last("probes"), last("probe_every")))


def _probing(probes: Mapping[str, Mapping[str, Any]], every: str | None) -> Probing:
    """What the runs of a part measure beside the loss.

    Raises:
        UsageError: no such probe or option, or a value that is not accepted.
    """
    options = {f"{options_of(name)}{key}": value for name, own in probes.items() for key, value in own.items()}
    return asked_of_probes(list(probes), every, None, options)[0]


def dataset_of(request: CompareRequest) -> str:
    """The data set that a comparison asks for."""
    tuning = request.tuning
    return str(tuning.flags.get("dataset") or usual_dataset(task_of(tuning.task), tuning.preset))


def _texts(by_source: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """Settings by the source's names as --fix and --space take them."""
    return [
        f"{names[source]}.{name}={text_of(value)}"
        for source, settings in by_source.items() if source in names
        for name, value in settings.items()
    ]  # fmt: skip


def _settings(task: TaskClass, part: Part, changes: Sequence[Change]) -> dict[str, Any]:
    """Settings of task and training: the part's, then those of the scale; a warm-up keeps its share of the run.

    Raises:
        UsageError: the warm-up is counted in epochs and the run in something else.
    """
    found: dict[str, Any] = _plain(part.settings) | _end(part)
    before = found.get("epochs", _preset_value(task, part, "epochs", None))
    warmup = _warmup(task, part, found)
    for change in changes:
        ends = _end(change)
        if ends:
            found = {name: value for name, value in found.items() if name not in ("epochs", "until", "max_steps")}
        found |= _plain(change.settings) | ends
    told = any("warmup_epochs" in _plain(change.settings) for change in changes)
    if warmup and not told:
        if "until" in found and not part.until:
            raise UsageError(
                f"until = {found['until']} needs settings.warmup_epochs: preset {part.preset} warms up over "
                f"{warmup:g} of {before} epochs"
            )
        if before and "epochs" in found and found["epochs"] != before:
            found["warmup_epochs"] = warmup * found["epochs"] / before
    return found


def _warmup(task: TaskClass, part: Part, given: Mapping[str, Any]) -> float:
    """Epochs of warm-up; none without a schedule that has it."""
    schedule = given.get("schedule", _preset_value(task, part, "schedule", "constant"))
    if schedule == "constant":
        return 0.0
    from vrcli.spec import Training

    usual = Training.model_fields["warmup_epochs"].default
    return float(given.get("warmup_epochs", _preset_value(task, part, "warmup_epochs", usual)))


def _preset_value(task: TaskClass, part: Part, name: str, default: Any) -> Any:
    preset = task.presets.get(part.preset)
    return preset.settings[name].value if preset and name in preset.settings else default


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in settings.items()}


def _end(change: Change | Part) -> dict[str, Any]:
    return {key: value for key in ("epochs", "until") if (value := getattr(change, key)) is not None}


def _changed(
    task: TaskClass, part: Part, names: Mapping[str, str], request: CompareRequest, dataset: str
) -> Iterator[str]:
    """What the scale makes of the part, in words.

    Args:
        dataset: that the part asks for at this scale; the request may read it from elsewhere.
    """
    tuning = request.tuning
    for name, value in ({**tuning.flags, "dataset": dataset} if "dataset" in tuning.flags else tuning.flags).items():
        usual = _preset_value(task, part, name, None)
        written = (_plain(part.settings) | _end(part)).get(name, usual)
        if value != written:
            yield f"{name.replace('_', ' ')} {_number(value)}" + (f", not {_number(written)}" if written else "")
    if part.trials and not tuning.trials:
        yield f"no search, not {part.searches} of {part.trials} trials"
    elif tuning.trials:
        for word, now, before in (("trials", tuning.trials, part.trials), ("searches", tuning.searches, part.searches)):
            if now != before:
                yield f"{word} {now}, not {before}"
    if request.seeds != part.seeds:
        yield f"seeds {request.seeds}, not {part.seeds}"
    if left := [source for source in part.optimizers if source not in names]:
        yield f"without {', '.join(left)}"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
