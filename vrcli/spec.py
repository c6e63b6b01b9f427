"""RunSpec: the complete, validated, frozen description of one run.

Equal specs have equal `spec_id`s and give the same curve, bit for bit, on the same machine with the same libraries.
Before the data are loaded there is a `Request`: the same without the data's identity.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

#: Settings of the loop that are not part of a spec while they are not set: they came later than stored specs.
TRACELESS = ("until", "eval_every", "workers", "subset", "lr_from", "lr_digest")
#: Those of them that nobody sets by name: they follow from the run whose learning rates are replayed.
REPLAYED = ("lr_from", "lr_digest")
#: Those whose place these rates take.
REPLACED = ("schedule", "warmup_epochs", "warmup_factor", "eta_min")
#: What the end of a run can be counted in.
UNITS = ("epochs", "steps", "gradients", "seconds")
#: What ends the run of a command: its own end.
_COMMANDS = "commands"


class Until(NamedTuple):
    """Where a run ends: after so many epochs, steps, evaluations of the gradient, or seconds of training.

    Args:
        amount: whole but for seconds.
    """

    unit: str
    amount: float

    def __str__(self) -> str:
        number = int(self.amount) if float(self.amount).is_integer() else self.amount
        return f"{self.unit}:{number}"

    @classmethod
    def of(cls, text: str) -> Until:
        """What "gradients:20000" says.

        Raises:
            ValueError: it says none of them.
        """
        unit, _, number = (part.strip() for part in text.partition(":"))
        if unit not in (*UNITS, _COMMANDS):
            raise ValueError(f"must be {', '.join(UNITS[:-1])} or {UNITS[-1]} with a number, as in gradients:20000")
        try:
            amount = float(number)
        except ValueError:
            amount = math.nan
        if unit != "seconds" and not amount.is_integer():
            raise ValueError(f"must be a whole number of {unit}")
        if not 0 < amount < 2**53:
            raise ValueError("must be a finite number above 0")
        return cls(unit, amount)

    @property
    def repeatable(self) -> bool:
        """Whether it ends every run of one spec at the same step."""
        return self.unit != "seconds"


class Rates(NamedTuple):
    """Learning rates that a run replays, one per step.

    Args:
        run: name of the run that had them.
    """

    run: str
    values: tuple[float, ...]

    def encoded(self) -> bytes:
        """The values as 64-bit floats, the first byte the least."""
        return struct.pack(f"<{len(self.values)}d", *self.values)

    @classmethod
    def decoded(cls, run: str, data: bytes) -> Rates:
        return cls(run, struct.unpack(f"<{len(data) // 8}d", data))

    @property
    def digest(self) -> str:
        """Of the values alone, 16 hexadecimal digits."""
        return hashlib.blake2b(self.encoded(), digest_size=8).hexdigest()


class Training(BaseModel):
    """Settings of the training loop, the same for every task."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    until: str | None = Field(
        None, description="end of the run instead of --epochs: steps:N, gradients:N, seconds:S or epochs:N"
    )
    epochs: int = Field(10, ge=1, description="passes over the training set")
    batch_size: int = Field(128, ge=1, description="samples per step")
    max_steps: int | None = Field(None, ge=1, description="stop after this many steps")
    eval_every: int | None = Field(None, ge=1, description="evaluate every so many steps, not after every epoch")
    schedule: Literal["constant", "warmup-cosine"] = Field("constant", description="learning-rate schedule")
    warmup_epochs: float = Field(5.0, ge=0, description="linear warm-up of warmup-cosine, in epochs")
    warmup_factor: float = Field(0.1, gt=0, le=1, description="learning rate at the first step, as a share of lr")
    eta_min: float = Field(0.0, ge=0, description="learning rate at the end of warmup-cosine")
    grad_clip: float | None = Field(None, gt=0, description="largest 2-norm of all gradients together")
    patience: int | None = Field(
        None, ge=1, description="stop after this many evaluations without a better validation loss"
    )
    stop_loss: float | None = Field(
        None, description="stop once the mean training loss since the last evaluation is below this"
    )
    stop_accuracy: float | None = Field(None, gt=0, le=1, description="stop once the training accuracy reaches this")
    precision: Literal["fp32", "bf16", "auto"] = Field("fp32", description="autocast precision of model and loss")
    workers: int = Field(0, ge=0, le=64, description="processes that read data which do not fit into memory")
    subset: float | None = Field(
        None, gt=0, lt=1, description="share of the training, validation and test samples that is used"
    )
    accumulate_gradients: bool = Field(False, description="never zero the gradients (a fault of released code)")
    lr_from: str | None = Field(None, description="optimizer and configuration of the run whose rates are replayed")
    lr_digest: str | None = Field(None, description="digest of those rates")

    @field_validator("until")
    @classmethod
    def _canonical(cls, text: str | None) -> str | None:
        return text if text is None else str(Until.of(text))

    @model_validator(mode="before")
    @classmethod
    def _one_end(cls, given: Any) -> Any:
        """A run that ends elsewhere has no number of epochs; "epochs:20" and 20 epochs are one thing."""
        if not isinstance(given, Mapping) or not isinstance(text := given.get("until"), str):
            return given
        others = {name: value for name, value in given.items() if name not in ("epochs", "max_steps")}
        try:
            until = Until.of(text)
        except ValueError:  # the field's own validator says so
            return others
        return {**others, "until": None, "epochs": int(until.amount)} if until.unit == "epochs" else others

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not set leaves no trace, so that stored specs keep their identity."""
        body: dict[str, Any] = dump(self)
        absent = {name for name in TRACELESS if not body.get(name)}
        if "until" not in absent:
            absent |= {"epochs", "max_steps"}
        if "lr_from" not in absent:
            absent |= set(REPLACED)
        return {name: value for name, value in body.items() if name not in absent}

    @property
    def end(self) -> Until:
        """What ends the run, if nothing else does; `max_steps` may do so before."""
        return Until("epochs", self.epochs) if self.until is None else Until.of(self.until)


@dataclass(frozen=True)
class Threads:
    """CPU threads for a run.

    Args:
        most: as many as it may have.
        chosen: the user's number, which the run has; else a task whose steps are too short to share takes one.
    """

    most: int
    chosen: bool = False


class Request(BaseModel):
    """Everything that decides a run's curve but the content of its data.

    Args:
        task_settings: the task's config, defaults resolved.
        optimizer: registered name or "package.module:Class".
        optimizer_settings: the optimizer's hyperparameters, defaults resolved.
        device: where it runs; never "auto".
        code: the identity of the engine's, the task's and the optimizer's code (see `vrcli.identity`). Specs of an
            earlier version have none, and `versions` of vr and torch instead.
        rates: what `training.lr_digest` is the digest of; no part of what is stored as the spec.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    preset: str
    task_settings: dict[str, Any]
    optimizer: str
    optimizer_settings: dict[str, Any]
    training: Training
    seed: int = Field(0, ge=0, lt=2**63, description="seed of initial weights, data order and noise")
    device: str = "cpu"
    threads: int = Field(1, ge=1, description="CPU threads of tensor operations")
    code: dict[str, str] = Field(default_factory=dict)
    rates: Rates | None = Field(default=None, exclude=True, repr=False)

    def with_training(self, **changes: Any) -> Request:
        """The same request with other settings of the training loop, which are not validated."""
        return self.model_copy(update={"training": self.training.model_copy(update=changes)})

    def with_seed(self, seed: int, *, split: bool = False) -> Request:
        """The same request with another seed, which is not validated.

        Args:
            split: the split of the data moves on by as much as the seed is above 0.
        """
        own = {"split_seed": self.task_settings.get("split_seed", 0) + seed} if split else {}
        return self.model_copy(update={"seed": seed, "task_settings": {**self.task_settings, **own}})

    def on(self, dataset: str, fingerprint: str) -> RunSpec:
        """The spec of this request on data that are known now."""
        asked = {name: getattr(self, name) for name in Request.model_fields}
        asked["training"] = self.training.model_copy(update={"workers": 0})  # who reads them changes no batch
        return RunSpec(**asked, dataset=dataset, dataset_fingerprint=fingerprint)


class RunSpec(Request):
    """A request and its data: everything that decides a run's curve.

    Args:
        dataset: short name of the data set.
        dataset_fingerprint: digest of the data's content.
    """

    dataset: str
    dataset_fingerprint: str

    @cached_property
    def spec_id(self) -> str:
        """Digest of the whole spec, 16 hexadecimal digits. A folder counts by its content, not by its path."""
        return digest_of(self.model_dump(mode="json"), self.dataset)


def digest_of(body: Mapping[str, Any], dataset: str | None) -> str:
    """The `spec_id` of a spec as plain JSON values."""
    if dataset is not None and "task_settings" in body:
        body = {**body, "task_settings": {**body["task_settings"], "dataset": dataset}}
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=8).hexdigest()
