"""What a study asks for, resolved once: the jobs that workers carry out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vrcli.execute.job import Job, Lineage
from vrcli.execute.lookup import task_of
from vrcli.search.definition import Definition
from vrcli.spec import Threads
from vrcli.variants import base_of


class JobOf(Protocol):
    """`job_of` for a known number of threads."""

    def __call__(self, definition: Definition, params: Mapping[str, Any], seed: int, **more: Any) -> Job: ...


def job_of(definition: Definition, params: Mapping[str, Any], seed: int, *, threads: Threads, **more: Any) -> Job:
    """One run with these settings of a search.

    Raises:
        UsageError: a setting is not accepted.
    """
    (job,) = jobs_on(
        [seed], definition.task, definition.optimizer, definition.preset, {**definition.explicit, **params},
        device=definition.device, threads=threads, **more,
    )  # fmt: skip
    return job


def jobs_on(
    seeds: Sequence[int],
    task: str,
    optimizer: str,
    preset: str,
    flags: Mapping[str, Any],
    *,
    device: str,
    threads: Threads,
    lineage: Lineage = Lineage(),
    vary_split: bool = False,
    **more: Any,
) -> list[Job]:
    """One run for each seed.

    Args:
        flags: settings by name.
        threads: CPU threads of each run; a task may take fewer where they are not chosen.
        vary_split: each seed splits the data in its own way.
        more: see `Job`.

    Raises:
        UsageError: a setting is not accepted.
    """
    from vrcli.settings import resolve

    base, highest = base_of(optimizer), max(seeds, default=0)
    request = resolve(
        task_of(task), base, preset=preset, flags=flags, seed=highest, device=device, threads=threads
    ).request
    return [Job(task, optimizer, request.with_seed(seed, split=vary_split), lineage, **more) for seed in seeds]
