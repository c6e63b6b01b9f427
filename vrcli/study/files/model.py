"""A study as it is written down: one file with the experiment's parts, its scales, and what a source states of it.

Optimizers go by the names of the source throughout the file; each part says which of ours stands for a name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from vrcli.errors import UsageError
from vrcli.study.comparison import margin_of

#: The scale at which a study runs as it is written.
FULL = "full"
#: What a figure shows of the runs, and the curves that it draws unless others are named.
FIGURES: Mapping[str, tuple[str, ...]] = {
    "envelope": ("train_loss", "val_loss"),
    "curves": ("train_loss", "val_loss"),
    "telemetry": ("lr_effective", "velocity_norm", "gate"),
    "trials": ("train_loss", "val_loss"),
    "stability": (),
}
Value: TypeAlias = bool | int | float | str | list[Any]


class Model(BaseModel):
    """A table of the file: strict, and without keys that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _check_names(names: Iterable[str]) -> None:
    """Refuse what a table, a legend or the command line could not show as it is."""
    for name in names:
        if not name[:1].isalnum() or "|" in name or not name.isprintable():
            raise ValueError(f"a name begins with a letter or a digit, and has no | and no line break, got {name!r}")


class Change(Model):
    """What a scale changes of a part.

    Args:
        epochs: of every run; a warm-up that the preset counts in epochs shrinks with them.
        until: what ends every run instead, as "steps:500".
        optimizers: only these, by their names in the source.
        settings: of task and training, by name.
        probes: in the place of the part's.
    """

    epochs: int | None = Field(default=None, ge=1)
    until: str | None = None
    trials: int | None = Field(default=None, ge=0)
    searches: int | None = Field(default=None, ge=1)
    seeds: int | None = Field(default=None, ge=1)
    optimizers: list[str] | None = Field(default=None, min_length=2)
    settings: dict[str, Value] = Field(default_factory=dict)
    probes: dict[str, dict[str, Value]] | None = None
    probe_every: str | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Change:
        _check_end(self)
        return self


def _check_end(given: Change | Part) -> None:
    if given.epochs is not None and given.until is not None:
        raise ValueError("epochs and until are two ends of one run; leave one of them out")


class Scale(Change):
    """A named reduction of the whole study.

    Args:
        about: in one phrase, printed with every result.
        skip: parts that do not run.
        parts: what changes of one part besides.
    """

    about: str = ""
    skip: list[str] = Field(default_factory=list)
    parts: dict[str, Change] = Field(default_factory=dict)


class Part(Model):
    """One comparison: a task, a preset, and optimizers under one budget.

    Args:
        optimizers: ours by the source's name; a list of names where both are the same.
        trials: of each search; 0 takes the preset's settings, which are the source's where it states them.
        searches: independent ones of each optimizer.
        seeds: fresh ones; for each search where there is one.
        vary_split: each search, or each seed where nothing is searched, has data of its own (`split_seed`).
        metric: the result that the part is about; "" for the best validation objective.
        fix: settings by the source's name of the optimizer, kept at a value.
        space: axes of the search, likewise.
        probes: what is measured beside the loss: options by probe.
        probe_every: how often: "50" steps or "2e" epochs.
    """

    about: str = ""
    task: str
    preset: str = "paper"
    optimizers: dict[str, str] = Field(min_length=2)
    trials: int = Field(default=0, ge=0)
    searches: int = Field(default=1, ge=1)
    seeds: int = Field(default=5, ge=1)
    metric: str = ""
    search: str = "gp"
    vary_split: bool = False
    epochs: int | None = Field(default=None, ge=1)
    until: str | None = None
    settings: dict[str, Value] = Field(default_factory=dict)
    fix: dict[str, dict[str, Value]] = Field(default_factory=dict)
    space: dict[str, dict[str, str]] = Field(default_factory=dict)
    probes: dict[str, dict[str, Value]] = Field(default_factory=dict)
    probe_every: str | None = None
    deviations: list[str] = Field(default_factory=list)

    @field_validator("optimizers", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        listed = isinstance(given, list) and all(isinstance(name, str) for name in given)
        return dict(zip(given, given, strict=True)) if listed else given

    @model_validator(mode="after")
    def _ours_once(self) -> Part:
        _check_names(self.optimizers)
        ours = list(self.optimizers.values())
        if doubled := [name for at, name in enumerate(ours) if name in ours[:at]]:
            raise ValueError(f"{doubled[0]} stands for two optimizers of the source")
        _check_end(self)
        return self


class Stated(Model):
    """A number that the source states.

    Args:
        value: NaN where the source says that the training diverged.
        where: it stands: table and page.
    """

    optimizer: str
    metric: str
    value: float
    where: str = ""


class Claim(Model):
    """Something that the source says of two optimizers, and what decides whether it holds: one of `KINDS`.

    Args:
        less: the metric of the first is below that of the second.
        more: it is above.
        equivalent: they differ by less than `margin`.
        below: `curve` of the first stays under that of the second.
        within: `curve` of one optimizer, its mean over the run, lies in `range`.
        never_above: `curve` of one optimizer is at or below `of` at every stored step that has both.
        rate: from part to part, whose runs are of different lengths N, the smallest value of the mean of `curve` over
            the replicates falls no more slowly than N^`power` (ln N)^`logs`.
        margin: 0.005, or "2%" of the mean.
        after: share of the run from which the curves count.
        of: the curve that `curve` is divided by, step by step; with never_above, the one that it is held against.
        range: low and high.
        parts: where it is checked; everywhere by default.
        power: of N in a claimed rate.
        logs: of ln N in it.
    """

    text: str = ""
    less: list[str] | None = Field(default=None, min_length=2, max_length=2)
    more: list[str] | None = Field(default=None, min_length=2, max_length=2)
    equivalent: list[str] | None = Field(default=None, min_length=2, max_length=2)
    below: list[str] | None = Field(default=None, min_length=2, max_length=2)
    within: list[str] | None = Field(default=None, min_length=1, max_length=1)
    never_above: list[str] | None = Field(default=None, min_length=1, max_length=1)
    rate: list[str] | None = Field(default=None, min_length=1, max_length=1)
    metric: str = ""
    margin: float | str | None = None
    curve: str = ""
    of: str = ""
    range: list[float] | None = Field(default=None, min_length=2, max_length=2)
    after: float = Field(default=0.0, ge=0, lt=1)
    power: float | None = Field(default=None, lt=0, allow_inf_nan=False)
    logs: float = Field(default=0.0, allow_inf_nan=False)
    parts: list[str] = Field(default_factory=list)
    where: str = ""

    @model_validator(mode="after")
    def _one_check(self) -> Claim:
        kinds = [name for name in KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(f"a claim is one of {', '.join(KINDS)}; got {' and '.join(kinds) or 'none of them'}")
        needed = KINDS[kinds[0]][0]
        if not getattr(self, needed):
            raise ValueError(f"{kinds[0]} needs a {needed}")
        if (self.margin is None) == (self.equivalent is not None):
            raise ValueError("give a margin with equivalent, and only there")
        if kinds == ["within"] and not (self.range and self.range[0] < self.range[1]):
            got = "" if self.range is None else f", got {self.range}"
            raise ValueError(f"within needs a range, [low, high] with low < high{got}")
        if kinds == ["never_above"] and not self.of:
            raise ValueError("never_above needs an of, the curve that is never exceeded")
        if kinds == ["rate"] and (self.power is None or len({*self.parts}) < max(2, len(self.parts))):
            raise ValueError("rate needs a power, and two parts or more, each once")
        if left := self.model_fields_set & _OF_KINDS - {*KINDS[kinds[0]]}:
            raise ValueError(f"{kinds[0]} takes no {' and no '.join(sorted(left))}; leave it out")
        return self

    @field_validator("margin")
    @classmethod
    def _positive(cls, given: float | str | None) -> float | str | None:
        try:
            value, _ = margin_of(given)
        except UsageError as error:
            raise ValueError(error.text) from None
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"must be > 0 and finite, got {given}")
        return given

    @property
    def kind(self) -> str:
        """Which of `KINDS` it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def pair(self) -> tuple[str, str]:
        """The two optimizers, by their names in the source; one that is claimed something of alone stands twice."""
        names = getattr(self, self.kind)
        return names[0], names[-1]

    @property
    def of_order(self) -> bool:
        """Whether it can be decided at a reduced scale: what comes before what, and no distance."""
        return self.equivalent is None


#: Keys that a claim of each kind takes besides, the one that it needs first.
KINDS: Mapping[str, tuple[str, ...]] = {
    "less": ("metric",), "more": ("metric",), "equivalent": ("metric", "margin"), "below": ("curve", "after"),
    "within": ("curve", "of", "range", "after"), "never_above": ("curve", "of", "after"),
    "rate": ("curve", "power", "logs"),
}  # fmt: skip
#: Keys that stand with some kinds only; those of the margin are told by themselves.
_OF_KINDS = {"metric", "curve", "after", "of", "range", "power", "logs"}


class Figure(Model):
    """A figure of the page.

    Args:
        kind: one of `FIGURES`; stability, of one part, needs the probe sharpness.
        curves: to draw; those of the kind by default.
        parts: whose runs; all by default, each a row of panels.
    """

    kind: Literal["envelope", "curves", "telemetry", "trials", "stability"]
    title: str = ""
    curves: list[str] = Field(default_factory=list)
    optimizers: list[str] = Field(default_factory=list)
    parts: list[str] = Field(default_factory=list)


class Table(Model):
    """A table of the page: the source's numbers beside ours.

    Args:
        metrics: results, each a column; those that the source states by default.
    """

    title: str = ""
    metrics: list[str] = Field(default_factory=list)
    optimizers: list[str] = Field(default_factory=list)
    parts: list[str] = Field(default_factory=list)


class Data(Model):
    """What there is to know of a data set that must be had first.

    Args:
        download: what it is called where it is offered.
        size_mb: of the download.
        path: what lies in the folder of data sets (--data-dir) then.
    """

    download: str
    size_mb: float = Field(gt=0)
    path: str


class Study(Model):
    """A whole experiment.

    Args:
        primary: the pair of optimizers that counts, declared before anything runs.
        deviations: from the source, known beforehand.
        data: by the name under which parts use it.
        gates: the report says what the velocity's gate did in runs of VRAdam's family; the page keeps it of every step.
    """

    title: str
    source: str = ""
    about: str = ""
    primary: list[str] | None = Field(default=None, min_length=2, max_length=2)
    deviations: list[str] = Field(default_factory=list)
    parts: dict[str, Part] = Field(min_length=1)
    scales: dict[str, Scale] = Field(default_factory=dict)
    values: list[Stated] = Field(default_factory=list)
    claims: list[Claim] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    figures: list[Figure] = Field(default_factory=list)
    data: dict[str, Data] = Field(default_factory=dict)
    gates: bool = True

    @field_validator("parts", "scales")
    @classmethod
    def _with_names(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        _check_names(given)
        if info.field_name == "scales" and FULL in given:
            raise ValueError(f"{FULL} is the study as it is written; give the scale another name")
        return given

    def scale(self, name: str) -> Scale | None:
        """What a scale changes; the full one nothing."""
        return self.scales.get(name, Scale() if name == FULL else None)

    @property
    def scale_names(self) -> Sequence[str]:
        """As they are written, the full one last."""
        return [*(name for name in self.scales if name != FULL), FULL]

    @property
    def metrics(self) -> Sequence[str]:
        """What the source states numbers of."""
        return list(dict.fromkeys(one.metric for one in self.values))
