"""The real protocol on runs that train nothing: search, store, re-ranking and statistics are vr's own.

A run's loss is a valley over the learning rate (and the momentum, where that is searched) plus noise: what a seed does
to all optimizers alike, and what it does to this one. Optimizers that are variants of one differ by their names only.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vrcli.db.location import Location
from vrcli.db.store import Store
from vrcli.engine.probes.asked import NONE
from vrcli.execute.executor import Message
from vrcli.execute.job import Job, Rehearsal, RunOutcome, of_spec
from vrcli.execute.known_data import KnownData
from vrcli.execute.place import Place
from vrcli.study.compare import CompareRequest, compare
from vrcli.study.define import SweepRequest
from vrcli.study.events import Finished
from vrcli.study.replicates import STRIDE
from vrcli.study.results import CompareResult
from vrcli.tasks.registry import load

NOISE = 0.02
NAMES = ("alike:First", "alike:Second", "alike:Third", "alike:Fourth")
FINGERPRINT = "0" * 16
TASK = "valley:Valley"


@dataclass(frozen=True)
class World:
    """How losses come about.

    Args:
        worse: by how much an optimizer's loss is above that of the others, by name.
        steep: how fast the loss rises with the distance from the best learning rate, per decade squared: the luck of a
            search grows with it, the noise of a run does not.
        wander: sd in decades of where the best learning rate is, from one search of one optimizer to another; without
            it alike optimizers, whose searches begin with the same points, would have the same luck.
        diverging: share of the runs that diverge, whatever their settings.
        seed: of all noise.
    """

    worse: Mapping[str, float] = field(default_factory=dict)
    steep: float = 0.06
    wander: float = 0.3
    diverging: float = 0.0
    seed: int = 0

    def losses(self, job: Job) -> tuple[float, float]:
        """Best validation and test loss of a run; NaN where it diverged."""
        settings = job.request.optimizer_settings
        lr, momentum = float(settings["lr"]), float(settings["momentum"])
        best = -2 + self._rng("best", job.optimizer, job.seed // STRIDE).normal(0, self.wander)
        value = 0.3 + self.steep * (math.log10(lr) - best) ** 2 + 0.05 * (momentum - 0.9) ** 2
        value += self.worse.get(job.optimizer, 0.0)
        own = self._rng("own", job.optimizer, job.seed, repr(sorted(settings.items())))
        if own.random() < self.diverging:
            return math.nan, math.nan
        shared = self._rng("shared", job.seed).normal(0, NOISE / 2)
        both = own.normal(0, NOISE / math.sqrt(2))
        val, test = own.normal(0, NOISE / math.sqrt(2), 2)
        return value + shared + both + val, value + shared + both + test

    def _rng(self, *words: object) -> np.random.Generator:
        digest = hashlib.blake2b(repr((self.seed, *words)).encode(), digest_size=8).digest()
        return np.random.default_rng(int.from_bytes(digest, "little"))


class Inline:
    """An executor that has done a job by the time it is submitted."""

    def __init__(self, world: World, store: Store) -> None:
        self.world, self.store = world, store
        self.messages: list[Message] = []

    def free(self) -> int:
        return 1

    def submit(self, key: Any, job: Job) -> None:
        self.messages.append(Message(key, "done", self.done(job)))

    def done(self, job: Job) -> Any:
        task = load(job.task)
        if job.rehearse:
            return Rehearsal("valley", FINGERPRINT, "", 0.0)
        spec = job.request.on("valley", FINGERPRINT)
        if job.reuse == "spec" and (earlier := of_spec(self.store, spec, NONE)) is not None:
            return RunOutcome(earlier, reused=True)
        run = self.store.runs.begin(
            spec.model_dump(mode="json"), spec_id=spec.spec_id, provenance={}, metrics=task.metrics,
            **job.named_lineage.plain(),
        )  # fmt: skip
        val, test = self.world.losses(job)
        if math.isnan(val):
            return RunOutcome(self.store.runs.finish(run.id, "diverged"))
        results = {"best_val_loss": val, "val_loss": val, "test_loss": test}
        return RunOutcome(self.store.runs.finish(run.id, "completed", results=results), (val,))

    def receive(self, timeout_s: float) -> Sequence[Message]:
        found, self.messages = self.messages, []
        return found

    def close(self, *, patience_s: float = 0.0) -> Sequence[Message]:
        return []


@dataclass(frozen=True)
class Somewhere(Place):
    """A place whose runs are made up."""

    world: World = World()

    def executor(self) -> Any:
        return Inline(self.world, Store.open(self.database, mode="create"))

    def data_of(self, job: Job) -> KnownData | None:
        return None

    @contextmanager
    def stored(self) -> Iterator[Store | None]:
        yield None

    def earlier(self, store: Store, job: Job) -> RunOutcome | None:
        return None


def compared(
    folder: Path, world: World, *, names: Sequence[str] = NAMES[:2], spaces: Sequence[str] = ("lr=log:1e-4:1",),
    trials: int = 8, searches: int = 5, seeds: int = 3,
) -> CompareResult:  # fmt: skip
    """A whole comparison, in a database of its own."""
    tuning = SweepRequest(
        TASK, list(names), preset="smoke", trials=trials, searches=searches, spaces=spaces,
        search_seed=1000 * world.seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as own:
        place = Somewhere(Location(Path(own) / "a.db"), world=world)
        *_, last = compare(CompareRequest(tuning, seeds), place)
    assert isinstance(last, Finished)
    assert isinstance(last.result, CompareResult)
    return last.result
