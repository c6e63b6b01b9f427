"""A request for one run, and what came of it: what goes to a worker and what comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.engine.probes.asked import Probing
    from vrcli.spec import Request, RunSpec


@dataclass(frozen=True)
class Lineage:
    """What a run belongs to.

    Args:
        group: what the runs of one command share.
        search_id: the search that it is made for, or that found its settings.
        trial_id: the trial that it is made for.
        variant: the name to store the run under, where that is not its optimizer's own.
    """

    tag: str | None = None
    group: str | None = None
    search_id: int | None = None
    trial_id: int | None = None
    variant: str | None = None

    def plain(self) -> dict[str, Any]:
        """As `Store.runs.begin` takes it."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """One run: what is asked for, and what it belongs to. It can be pickled.

    Args:
        task: by which a process finds it: its name, or "module:Class".
        optimizer: its name, or that of a variant of it, under which the run is stored.
        request: settings resolved, with the identity of the code that is to run.
        limits: by evaluation, the objective's best value so far with which the run goes on.
        reuse: which earlier run does instead: one of the same lineage and seed, or any of the same spec.
        rehearse: load the data and time a few steps; nothing is stored.
    """

    task: str
    optimizer: str
    request: Request
    lineage: Lineage = Lineage()
    limits: Mapping[int, float] = field(default_factory=dict)
    reuse: Literal["lineage", "spec"] = "lineage"
    rehearse: bool = False

    @property
    def seed(self) -> int:
        return self.request.seed

    @property
    def named_lineage(self) -> Lineage:
        """What the run belongs to, with the name of its variant."""
        return replace(self.lineage, variant=self.optimizer if "@" in self.optimizer else None)


@dataclass(frozen=True)
class RunOutcome:
    """What came of a job.

    Args:
        losses: the objective on validation, per evaluation.
        pruned: why it was stopped early, in one line; empty where it was not.
        reused: the run was there already.
    """

    run: RunRecord
    losses: tuple[float, ...] = ()
    pruned: str = ""
    reused: bool = False


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsed job found.

    Args:
        run_s: estimate of the run's seconds.
        memory_bytes: the most that the process took so far; NaN where nobody counted.
        batch_size: that the data allow; None where it is the loop's own affair.
    """

    dataset: str
    fingerprint: str
    about: str
    run_s: float
    memory_bytes: float = math.nan
    batch_size: int | None = None


def of_lineage(store: Store, lineage: Lineage, seed: int, probing: Probing) -> RunOutcome | None:
    """A run of this lineage and seed that ended and was measured so; whoever asked for it may not have heard of it."""
    found = store.runs.select(search=lineage.search_id, group=lineage.group, status=("completed", "diverged"))
    own = (run for run in found if run.trial_id == lineage.trial_id and run.seed == seed)
    run = next((run for run in own if probing.done_in(run.provenance)), None)
    if run is None:
        return None
    objective = run.objective.removeprefix("best_")
    curve = store.curves.read([run.id], [objective]).get((run.id, objective))
    return RunOutcome(run, tuple(curve.values) if curve else (), reused=True)


def of_spec(store: Store, spec: RunSpec, probing: Probing) -> RunRecord | None:
    """A run of this spec that ended and was measured so, where running it again would give the same bits."""
    if not spec.training.end.repeatable:
        return None
    limit = None if probing else 1
    found: list[RunRecord] = store.runs.select(spec_id=spec.spec_id, status=("completed", "diverged"), limit=limit)
    return next((run for run in found if probing.done_in(run.provenance)), None)
