"""The values that leave the store: frozen, free of SQLAlchemy and of numpy."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from vrcli.db import liveness
from vrcli.db.configuration import flat_settings
from vrcli.db.damage import is_object

RUN_STATUSES = ("running", "completed", "diverged", "failed", "interrupted")
ENDED_RUNS = RUN_STATUSES[1:]
SEARCH_STATUSES = ("running", "completed", "interrupted", "stopped")
TRIAL_STATES = ("pending", "running", "completed", "diverged", "failed", "pruned", "interrupted")
ENDED_TRIALS = TRIAL_STATES[2:]


def split_value(value: float) -> tuple[float | None, str | None]:
    """A number as its two columns: (value, None), or (None, "nan" | "inf" | "-inf") where SQL has no such number."""
    if math.isfinite(value):
        return value, None
    return None, str(value)


def join_value(value: float | None, kind: str | None) -> float:
    """The number behind the two columns of `split_value`; a damaged one is none."""
    if kind is not None:
        return float(kind)
    return value if isinstance(value, float | int) else math.nan


@dataclass(frozen=True)
class RunRecord:
    """One training of one task with one optimizer and one seed.

    Args:
        uuid: identity across databases; `id` and `name` are this database's.
        name: two words, unique in the database.
        status: one of RUN_STATUSES.
        spec_id: hash of the complete configuration.
        group: what the runs of one command share.
        heartbeat_at: when the run last wrote anything.
        finished_at: None while running.
        process: what tells this process from a later one with the same pid, see `vrcli.db.liveness`.
        error: why the run failed or diverged, in one line.
        spec_json: the complete configuration as JSON, read as `spec`.
        provenance_json: versions, machine and command line as JSON, read as `provenance`.
        sweep_id: the sweep it was made for.
        trial_id: the trial it was made for; None where the sweep's best settings are confirmed.
        search_id: the search of that sweep.
        objective: the result by which runs of its task are chosen ("best_val_loss").
        configuration: equal for runs that differ in nothing but their seed, see `vrcli.db.configuration`.
        axes_json: the first point that its search tried as JSON, None without a search; its names are read as `axes`.
        results: the figures of the finished run by name.
    """

    id: int
    uuid: str
    name: str
    status: str
    task: str
    preset: str | None
    dataset: str | None
    dataset_fingerprint: str | None
    optimizer: str
    seed: int | None
    spec_id: str
    tag: str | None
    group: str | None
    created_at: datetime
    heartbeat_at: datetime
    finished_at: datetime | None
    host: str
    pid: int
    process: str
    error: str | None
    spec_json: str
    provenance_json: str
    sweep_id: int | None
    trial_id: int | None
    search_id: int | None
    objective: str
    configuration: str
    axes_json: str | None
    results: Mapping[str, float]

    @property
    def answers(self) -> bool:
        """Whether the process that runs it is alive, as far as can be told from here."""
        return self.answers_at(None)

    def answers_at(self, now: datetime | None) -> bool:
        """As `answers`, at a time of the database's own clock."""
        return liveness.answers(self.host, self.pid, self.process, self.heartbeat_at, now)

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The complete configuration; decoded when first asked for, which keeps long lists fast."""
        decoded: dict[str, Any] = json.loads(self.spec_json)
        return decoded

    @property
    def best(self) -> float | None:
        """The objective's value; None where the run has none."""
        return self.results.get(self.objective)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting of the configuration by its own name, see `vrcli.db.configuration.flat_settings`."""
        return flat_settings(self.spec)

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Names of the settings that a search chose, for a trial and for what confirms it; empty without a search."""
        return tuple(json.loads(self.axes_json)) if self.axes_json and is_object(self.axes_json) else ()

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Versions, machine, command line and repository state."""
        decoded: dict[str, Any] = json.loads(self.provenance_json)
        return decoded


@dataclass(frozen=True)
class Curve:
    """The values of one metric of one run in order of its steps.

    Both arrays support the buffer protocol: `numpy.asarray(curve.values)` copies nothing.

    Args:
        steps: int64, strictly increasing.
        values: float64; NaN and infinities as recorded.
    """

    run_id: int
    metric: str
    steps: array[int]
    values: array[float]

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class ArtifactRecord:
    """A file kept with a run, without its bytes.

    Args:
        step: the step it belongs to, None for the whole run.
        size: in bytes.
    """

    run_id: int
    name: str
    step: int | None
    media_type: str
    size: int
    created_at: datetime


@dataclass(frozen=True)
class MetricFact:
    """What a task says of one of its results or curves.

    Args:
        metric: name of the result ("test_accuracy").
        direction: "min" or "max"; None where neither is better.
        percent: shown times 100.
        shown: stands in every table of its task.
    """

    task: str
    metric: str
    direction: Literal["min", "max"] | None
    unit: str
    percent: bool
    shown: bool = False


@dataclass(frozen=True)
class SweepRecord:
    """Searches that have everything in common but the optimizer, or the seed of the search.

    Args:
        uuid: identity across databases; `id` and `name` are this database's.
        shared_key: hash of what its searches share; None where an earlier version did not write it down.
    """

    id: int
    uuid: str
    name: str
    shared_key: str | None
    task: str
    preset: str | None
    dataset: str | None
    dataset_fingerprint: str | None
    created_at: datetime


@dataclass(frozen=True)
class SearchRecord:
    """One search of one optimizer's settings.

    Args:
        uuid: identity across databases; `id` is this database's.
        name: of the sweep that it belongs to, as are task, preset, dataset and dataset_fingerprint.
        search_seed: tells repeated searches of one optimizer apart.
        direction: which value of the objective is better.
        key: hash of the definition.
        status: one of SEARCH_STATUSES.
        settings_json: the complete definition as JSON, read as `settings`.
        trials: the budget.
        updated_at: when it or one of its trials last changed.
        host: of the process that drives it, as are pid and process.
    """

    id: int
    uuid: str
    sweep_id: int
    name: str
    optimizer: str
    search_seed: int | None
    direction: Literal["min", "max"]
    key: str
    status: str
    task: str
    preset: str | None
    dataset: str | None
    dataset_fingerprint: str | None
    settings_json: str
    trials: int
    created_at: datetime
    updated_at: datetime
    host: str
    pid: int
    process: str

    @property
    def answers(self) -> bool:
        """Whether the process that drives it is alive, as far as can be told from here."""
        return self.answers_at(None)

    def answers_at(self, now: datetime | None) -> bool:
        """As `answers`, at a time of the database's own clock."""
        return liveness.answers(self.host, self.pid, self.process, self.updated_at, now)

    @property
    def objective(self) -> str:
        """The metric that it searches for, without its split."""
        return str(self.settings.get("objective", "loss"))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The complete definition: spaces, search and its seed, optimizers, epochs, seeds."""
        decoded: dict[str, Any] = json.loads(self.settings_json)
        return decoded


@dataclass(frozen=True)
class TrialRecord:
    """One point of a search.

    Args:
        optimizer: the search's, as is sweep_id.
        number: its place among the search's trials, counted from 0.
        params_json: the point as JSON, read as `params`.
        state: one of TRIAL_STATES.
        value: the objective; None until there is one.
        epochs: how many it was trained, fewer than the budget where it was pruned.
        attempt: how often it was started.
        host: of the process that last started it, as are pid and process.
        error: why it failed, diverged or was pruned, in one line.
        run_id: its latest run.
    """

    id: int
    uuid: str
    search_id: int
    sweep_id: int
    optimizer: str
    number: int
    params_json: str
    state: str
    value: float | None
    epochs: int | None
    attempt: int
    created_at: datetime
    started_at: datetime | None
    heartbeat_at: datetime | None
    finished_at: datetime | None
    host: str | None
    pid: int | None
    process: str | None
    error: str | None
    run_id: int | None

    @cached_property
    def params(self) -> dict[str, Any]:
        """The point: values by hyperparameter."""
        decoded: dict[str, Any] = json.loads(self.params_json)
        return decoded


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    Args:
        added: numbers of the runs that are new here.
        updated: numbers of the runs that were here unfinished and went on over there.
        known: how many runs were here already.
        running: how many were left out because they had not ended.
        repeated: those of `added` that repeat a configuration and seed that a run here has, too.
        points: how many points came in.
        sweeps: numbers of the sweeps that are new here.
        searches: numbers of the searches that are new here.
        trials: how many trials are new here.
        conflicting_trials: how many were left out because this database has another trial in their place.
    """

    added: tuple[int, ...]
    updated: tuple[int, ...]
    known: int
    running: int
    repeated: tuple[int, ...]
    points: int
    sweeps: tuple[int, ...]
    searches: tuple[int, ...]
    trials: int
    conflicting_trials: int
