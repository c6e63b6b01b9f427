"""RunSpec: the complete, validated, frozen description of one run.

Equal specs have equal `spec_id`s and give the same curve, bit for bit, on the same machine with the same libraries.
Before the data are loaded there is a `Request`: the same without the data's identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Training(BaseModel):
    """Settings of the training loop, the same for every task."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(10, ge=1, description="passes over the training set")
    batch_size: int = Field(128, ge=1, description="samples per step")
    max_steps: int | None = Field(None, ge=1, description="stop after this many steps")
    schedule: Literal["constant", "warmup-cosine"] = Field("constant", description="learning-rate schedule")
    warmup_epochs: float = Field(5.0, ge=0, description="linear warm-up of warmup-cosine, in epochs")
    warmup_factor: float = Field(0.1, gt=0, le=1, description="learning rate at the first step, as a share of lr")
    eta_min: float = Field(0.0, ge=0, description="learning rate at the end of warmup-cosine")
    grad_clip: float | None = Field(None, gt=0, description="largest 2-norm of all gradients together")
    patience: int | None = Field(None, ge=1, description="stop after this many epochs without a better validation loss")
    stop_loss: float | None = Field(None, description="stop once an epoch's mean training loss is below this")
    stop_accuracy: float | None = Field(None, gt=0, le=1, description="stop once the training accuracy reaches this")
    precision: Literal["fp32", "bf16", "auto"] = Field("fp32", description="autocast precision of model and loss")
    accumulate_gradients: bool = Field(False, description="never zero the gradients (a fault of released code)")


class Request(BaseModel):
    """Everything that decides a run's curve but the content of its data.

    Args:
        task_settings: the task's config, defaults resolved.
        optimizer: registered name or "package.module:Class".
        optimizer_settings: the optimizer's hyperparameters, defaults resolved.
        device: where it runs; never "auto".
        code: the identity of the engine's, the task's and the optimizer's code (see `vrcli.identity`). Specs of an
            earlier version have none, and `versions` of vr and torch instead.
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

    def with_training(self, **changes: Any) -> Request:
        """The same request with other settings of the training loop, which are not validated."""
        return self.model_copy(update={"training": self.training.model_copy(update=changes)})

    def with_seed(self, seed: int) -> Request:
        """The same request with another seed, which is not validated."""
        return self.model_copy(update={"seed": seed})

    def on(self, dataset: str, fingerprint: str) -> RunSpec:
        """The spec of this request on data that are known now."""
        asked = {name: getattr(self, name) for name in Request.model_fields}
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
