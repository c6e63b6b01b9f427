"""Runs to report on, as plain values."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from vrcli.db.configuration import configuration_of, flat_settings


@dataclass(frozen=True)
class FakeRun:
    """What reports read of a stored run, without a database."""

    id: int
    task: str
    preset: str | None
    dataset: str | None
    dataset_fingerprint: str | None
    optimizer: str
    seed: int | None
    status: str
    spec: Mapping[str, Any]
    results: Mapping[str, float]
    created_at: dt.datetime = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    provenance: Mapping[str, Any] = field(default_factory=lambda: {"cpu": "cpu A", "device": "cpu"})
    sweep_id: int | None = None
    search_id: int | None = None
    trial_id: int | None = None
    spec_id: str = ""
    objective: str = "best_val_loss"

    @property
    def settings(self) -> Mapping[str, Any]:
        return flat_settings(self.spec)

    @property
    def configuration(self) -> str:
        return configuration_of(self.spec)


@pytest.fixture
def make_run() -> Callable[..., FakeRun]:
    """A factory of runs: a spec in the shape of RunSpec around the given values; ids count up."""
    made = 0

    def make(
        optimizer: str = "vradam",
        seed: int = 0,
        loss: float | None = 0.1,
        *,
        task: str = "cnn",
        preset: str = "quick",
        dataset: str = "digits",
        fingerprint: str = "ab12cd34",
        status: str = "completed",
        results: Mapping[str, float] | None = None,
        training: Mapping[str, Any] | None = None,
        created_at: dt.datetime | None = None,
        cpu: str = "cpu A",
        **settings: Any,
    ) -> FakeRun:
        nonlocal made
        made += 1
        found = {} if loss is None else {"best_val_loss": loss, "test_loss": 1.1 * loss, "val_loss": loss}
        spec = {
            "task": task,
            "preset": preset,
            "dataset": dataset,
            "dataset_fingerprint": fingerprint,
            "task_settings": {"dataset": "", "channels": 16},
            "optimizer": optimizer,
            "optimizer_settings": {"lr": 0.003, **settings},
            "training": {"epochs": 20, "batch_size": 64, "max_steps": None, **(training or {})},
            "seed": seed,
            "device": "cpu",
            "threads": 2,
            "versions": {"torch": "2.11.0"},
        }
        when = created_at or dt.datetime(2025, 1, 1, 12, made // 60 % 60, made % 60, tzinfo=dt.UTC)
        provenance = {"cpu": cpu, "device": "cpu"}
        return FakeRun(
            id=made,
            task=task,
            preset=preset,
            dataset=dataset,
            dataset_fingerprint=fingerprint,
            optimizer=optimizer,
            seed=seed,
            status=status,
            spec=spec,
            results={**found, **(results or {})},
            created_at=when,
            provenance=provenance,
            spec_id=json.dumps(spec, sort_keys=True),
        )

    return make
