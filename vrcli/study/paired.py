"""The same seeds for several optimizers, each with settings of its own: the runs that a comparison rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.db.location import Location
from vrcli.errors import UsageError, VrError
from vrcli.execute.executor import Executor, Refused, Work, run_all

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.engine.prepare import DataCache


@dataclass(frozen=True)
class PairedJob:
    """One run: everything that `vrcli.spec.resolve` needs, and what it belongs to.

    Args:
        code: the identity of the code that is compared, as the command found it.
        search_id: the search that found the settings, which is the budget they cost.
    """

    task: str
    optimizer: str
    preset: str
    flags: Mapping[str, Any]
    seed: int
    device: str
    threads: int
    group: str
    code: Mapping[str, str]
    tag: str | None = None
    search_id: int | None = None


@dataclass(frozen=True)
class PairedWorkshop:
    """Makes the work of one worker process; it can be pickled."""

    database: Location
    data_dir: Path | None = None
    tune: bool = True

    def __call__(self) -> Work:
        from vrcli.engine.allocator import keep_freed_memory

        tuned = self.tune and keep_freed_memory()  # before torch allocates anything

        from vrcli.db.store import Store
        from vrcli.engine.prepare import DataCache

        return _Bench(Store.open(self.database), self.data_dir, tuned, DataCache())


@dataclass(frozen=True)
class _Bench:
    """Runs the jobs of one worker; data and imports stay between them."""

    store: Store
    data_dir: Path | None
    tuned: bool
    cache: DataCache

    def __call__(self, job: PairedJob, note: Callable[[Any], None], should_stop: Callable[[], bool]) -> RunRecord:
        from vrcli.execute.run import RunFailed, execute
        from vrcli.execute.trial import check_code
        from vrcli.spec import resolve
        from vrcli.tasks.base import TaskError
        from vrcli.tasks.registry import UnknownTask, load

        try:
            task = load(job.task)
            spec = resolve(
                task, job.optimizer, preset=job.preset, flags=job.flags, seed=job.seed, device=job.device,
                threads=job.threads,
            ).spec  # fmt: skip
            check_code(spec, job.code)
            return execute(
                spec, task, self.store, data_dir=self.data_dir, cache=self.cache, malloc_tuned=self.tuned,
                should_stop=should_stop, reuse=True, group=job.group, tag=job.tag, search_id=job.search_id,
            )  # fmt: skip
        except RunFailed:
            raise
        except (UsageError, TaskError, UnknownTask) as error:
            raise Refused(str(error)) from error

    def close(self) -> None:
        """Fold what this worker wrote into the database's file."""
        self.store.close()


def run_jobs(
    jobs: Sequence[PairedJob],
    executor: Executor,
    *,
    ended: Callable[[PairedJob, RunRecord], object],
    should_stop: Callable[[], bool],
) -> list[RunRecord]:
    """Run every job, a few at a time; the records in the order of the jobs.

    Raises:
        UsageError: a job cannot be carried out as it was asked for.
        VrError: a run failed or its process died: a comparison with holes in it is none.
        Interrupted: `should_stop` said so.
    """
    found: dict[int, RunRecord] = {}
    for message in run_all(jobs, executor, should_stop=should_stop, what="comparison"):
        job = jobs[message.key]
        if message.kind == "refused":
            raise UsageError(str(message.body))
        if message.kind != "done":
            raise VrError(f"{job.optimizer}, seed {job.seed}: {message.body}")
        found[message.key] = message.body
        ended(job, message.body)
    return [found[i] for i in range(len(jobs))]
