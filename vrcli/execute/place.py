"""Where runs run and where they are stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vrcli.db.location import Location
from vrcli.engine.probes.asked import NONE, Probing
from vrcli.errors import UsageError
from vrcli.execute.checkpoints import Checkpoints
from vrcli.execute.job import Job, RunOutcome, of_lineage, of_spec
from vrcli.spec import Threads

if TYPE_CHECKING:
    from vrcli.db.liveness import Process
    from vrcli.db.store import Store
    from vrcli.engine.prepare import DataCache
    from vrcli.execute.executor import Executor
    from vrcli.execute.known_data import KnownData


def check_threads(given: int | None) -> int | None:
    """Refuse more threads than the machine has cores, and none at all."""
    most = os.cpu_count() or 1
    if given is not None and not 1 <= given <= most:
        raise UsageError(f"--threads must be in 1..{most}, the cores of this machine, got {given}")
    return given


#: Each job is a process with torch in it: hundreds of them would take the machine down before the first run.
JOBS_PER_CORE = 4
#: How often a run goes on from its checkpoint after the process that ran it died.
RETRIES = 2


def _retries(job: Job) -> int:
    return 0 if job.rehearse else RETRIES


def _close_runs(database: Location, process: Process, why: str, goes_on: bool) -> None:
    """End the runs of a worker that is gone. A rehearsal may have had no database yet, and needs none."""
    from vrcli.db.store import Store, StoreError

    failed = why and not goes_on
    with suppress(StoreError), Store.open(database, mode="write") as store:
        store.runs.close_of(process, "failed" if failed else "interrupted", why or "interrupted")


@dataclass(frozen=True)
class Place:
    """What carries out a command's runs.

    Args:
        jobs: runs at the same time.
        threads: of all runs together; None for what torch takes, or one where a task's steps are too short to share.
        tune: keep freed memory where runs run.
        checkpoints: how often runs are written down, and where.
        probing: what they measure beside the loss.

    Raises:
        UsageError: jobs or threads that the machine has not, or none; or checkpoints cannot be written there.
    """

    database: Location
    data_dir: Path | None = None
    jobs: int = 1
    threads: int | None = None
    tune: bool = True
    checkpoints: Checkpoints = Checkpoints()
    probing: Probing = NONE

    @classmethod
    def of(
        cls, db: str | os.PathLike[str] | Location | None, data_dir: str | os.PathLike[str] | None, jobs: int,
        threads: int | None, tune: bool, checkpoint_every: str, checkpoint_dir: str | os.PathLike[str] | None,
        probing: Probing = NONE,
    ) -> Place:  # fmt: skip
        """The same, as functions and commands take it.

        Raises:
            UsageError: --checkpoint-every makes no sense.
        """
        checkpoints = Checkpoints.asked(checkpoint_every, checkpoint_dir)
        folder = None if data_dir is None else Path(data_dir)
        return cls(Location.given(db), folder, jobs, threads, tune, checkpoints, probing)

    def __post_init__(self) -> None:
        most = JOBS_PER_CORE * (os.cpu_count() or 1)
        if not 1 <= self.jobs <= most:
            raise UsageError(f"--jobs must be in 1..{most}, {JOBS_PER_CORE} for each core here, got {self.jobs}")
        check_threads(self.threads)
        self.checkpoints.check()

    def keep_memory(self) -> bool:
        """Keep freed memory in this process, where that is asked for and can be. Before the first tensor."""
        from vrcli.engine.allocator import keep_freed_memory

        return self.tune and keep_freed_memory()

    @cached_property
    def cache(self) -> DataCache:
        """The data of the last run in this process."""
        from vrcli.engine.prepare import DataCache

        return DataCache()

    @cached_property
    def threads_each(self) -> Threads:
        """CPU threads of each run: of all that are given, or that torch would take, its share."""
        import torch

        return Threads(max(1, (self.threads or torch.get_num_threads()) // self.jobs), chosen=self.threads is not None)

    @property
    def data_folder(self) -> Path:
        """Folder of data sets."""
        from vrcli.tasks.images import cache_dir

        return self.data_dir or cache_dir()

    def executor(self) -> Executor:
        """Workers, the first of which begins with the first job."""
        from vrcli.execute.local import LocalExecutor
        from vrcli.execute.worker import Worker

        make = partial(Worker, self.database, self.data_dir, self.tune, self.checkpoints, self.probing)
        return LocalExecutor(make, self.jobs, partial(_close_runs, self.database), _retries)

    def store(self, mode: Literal["create", "write"] = "create") -> Store:
        """The database for writing."""
        from vrcli.db.store import Store

        return Store.open(self.database, mode=mode)

    @contextmanager
    def stored(self) -> Iterator[Store | None]:
        """The database for reading; None where there is none yet."""
        from vrcli.db.store import EmptyDatabase, Store

        try:
            store = None
            if self.database.path is None or self.database.path.exists():
                store = Store.open(self.database, mode="read")
        except EmptyDatabase:
            pass
        try:
            yield store
        finally:
            if store is not None:
                store.close()

    def data_of(self, job: Job) -> KnownData | None:
        """The data of a job, where they are known without loading them."""
        from vrcli.execute.known_data import known_data
        from vrcli.tasks.registry import load

        return known_data(job.request, load(job.task), self.data_dir)

    def earlier(self, store: Store, job: Job) -> RunOutcome | None:
        """The stored run that does instead of a job, as far as that can be told without loading data."""
        from vrcli.execute.known_data import known_data
        from vrcli.tasks.registry import load

        if job.reuse == "lineage":
            return of_lineage(store, job.lineage, job.seed, self.probing)
        data = known_data(job.request, load(job.task), self.data_dir)
        if data is None:
            return None
        request = job.request.with_training(batch_size=min(job.request.training.batch_size, data.samples))
        run = of_spec(store, request.on(data.dataset, data.fingerprint), self.probing)
        return None if run is None else RunOutcome(run, reused=True)
