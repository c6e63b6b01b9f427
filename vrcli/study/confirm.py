"""Chosen settings on seeds that did not choose them: the figures that reports quote, and that a comparison rests on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from vrcli.execute.executor import PATIENCE_S, Executor, Interrupted, Message
from vrcli.execute.job import Job, RunOutcome
from vrcli.execute.outage import Away
from vrcli.study.events import Event, RunEnded, RunStarted, Tick
from vrcli.study.tune import Teller, edited, stayed_away, written


def fresh_seeds(seeds: Sequence[int], count: int) -> list[int]:
    """The first seeds above those of the search: the same for every optimizer, so that the runs pair."""
    return [max(seeds) + 1 + i for i in range(count)]


def run_fresh(
    jobs: Sequence[Job],
    executor: Executor,
    *,
    earlier: Callable[[Job], RunOutcome | None],
    should_stop: Callable[[], bool],
    what: str,
    skip: Callable[[Job], bool] = lambda job: False,
) -> Iterator[Event]:
    """Run every job, as many at a time as the executor takes; runs that are stored already are not repeated.

    Args:
        earlier: the stored run that does instead of a job.
        what: is going on, for the message of an interruption.
        skip: asked before a job begins; one that is skipped has no `RunEnded`.

    Raises:
        Interrupted: `should_stop` said so; running jobs had time to end in order.
        Outage: the database stayed away.
    """
    waiting, running, stopped, tell = deque(enumerate(jobs)), 0, False, Teller()
    while waiting or running or stopped:
        while waiting and (running == 0 or executor.free() > 0) and not should_stop():
            at, job = waiting.popleft()
            if skip(job):
                continue
            found = yield from written(partial(earlier, job), should_stop, tell)
            if found is not None:
                yield RunEnded(at, job.optimizer, job.seed, found.run, reused=True)
                continue
            executor.submit(at, job)
            running += 1
            yield RunStarted(job.optimizer, job.seed)
        if stopped or should_stop():
            executor.close(patience_s=PATIENCE_S)
            raise Interrupted(f"the {what} was interrupted; the same command continues it")
        for message in executor.receive(0.2) if running else ():
            if message.kind == "outage":
                executor.close(patience_s=PATIENCE_S)
                raise stayed_away(message.body)
            if message.kind == "note" and isinstance(message.body, Away | str):
                yield from tell(message.body)
            if message.kind != "note":
                running -= 1
                ended = _ended(message, jobs[message.key])
                stopped = stopped or (ended.run is not None and ended.run.status == "interrupted")
                yield ended
        yield Tick()


def _ended(message: Message, job: Job) -> RunEnded:
    if message.kind == "done":
        outcome: RunOutcome = message.body
        return RunEnded(message.key, job.optimizer, job.seed, outcome.run, reused=outcome.reused)
    reason = edited(job.request.code, message.body) if message.kind == "edited" else str(message.body)
    return RunEnded(message.key, job.optimizer, job.seed, problem=message.kind, reason=reason)
