import math
import random
from dataclasses import dataclass, replace

import pytest

from vrcli.errors import UsageError, VrError
from vrcli.execute.executor import Interrupted, Message
from vrcli.execute.job import Job, RunOutcome
from vrcli.search import axes
from vrcli.search.definition import Definition
from vrcli.search.trials import SearchState, Trial
from vrcli.spec import Request, Training
from vrcli.study.tune import Tuning
from vrcli.tasks.space import Categorical, Integer, Real

SPACE = {"lr": Real(1e-5, 1.0, log=True), "k": Integer(0, 9), "flag": Categorical((True, False))}


def definition(optimizer="vradam", space=SPACE, **changes):
    made = Definition(
        task="t", preset="quick", optimizer=optimizer, explicit={}, settings={}, space=axes.describe(space),
        origins={}, seeds=(0,), device="cpu", search="gp", initial=4, search_seed=1, prune="none", epochs=9,
    )  # fmt: skip
    return replace(made, **changes)


@dataclass(frozen=True)
class Run:
    """What the loop looks at of a run."""

    status: str
    best: float | None = None
    error: str | None = None
    id: int = 1


class Memory:
    """A record of trials that outlives the loops that write to it."""

    id = 1

    def __init__(self):
        self.open, self.closed = {}, {}

    def trials(self):
        return [*self.closed.values(), *(self.open[n] for n in sorted(self.open))]

    def add(self, number, params):
        assert number not in self.open
        assert number not in self.closed
        self.open[number] = Trial(number, params)

    def start(self, number):
        assert number in self.open

    def release(self, number):
        assert number in self.open

    def close(self, number, outcome):
        trial = self.open.pop(number)
        self.closed[number] = replace(trial, status=outcome.status, value=outcome.value, losses=outcome.losses)

    def trial_id(self, number):
        return number


def job_of(definition, params, seed, **more):
    """A job of a task that nobody has."""
    request = Request(
        task="t", preset="quick", task_settings={}, optimizer=definition.optimizer, optimizer_settings=params,
        training=Training(), seed=seed,
    )  # fmt: skip
    return Job("t", definition.optimizer, request, **more)


def bowl(params):
    return (math.log10(params["lr"]) + 2) ** 2 + (params["k"] - 4) ** 2 + params["flag"]


def ends(status, value=None, losses=()):
    return Message(None, "done", RunOutcome(Run(status, value), losses))


def completes(job):
    value = bowl(job.request.optimizer_settings)
    return ends("completed", value, (value + 1, value))


class Toy:
    """An executor that ends its jobs in a random order, one per `receive`."""

    def __init__(self, jobs, act=completes, seed=0):
        self.jobs, self.act, self.waiting, self.rng = jobs, act, [], random.Random(seed)
        self.most, self.closed, self.seen = 0, False, []

    def free(self):
        return self.jobs - len(self.waiting)

    def submit(self, key, payload):
        self.waiting.append((key, payload))
        self.seen.append((key, payload))
        self.most = max(self.most, len(self.waiting))
        assert len(self.waiting) <= self.jobs

    def receive(self, timeout_s):
        key, payload = self.waiting.pop(self.rng.randrange(len(self.waiting)))
        return [replace(self.act(payload), key=key)]

    def close(self, *, patience_s=0.0):
        self.closed = True
        self.waiting = []
        return []


class Killed(BaseException):
    """Ends the controller anywhere, as SIGKILL does."""


class Mortal(Memory):
    """Dies before or after the n-th write."""

    def __init__(self):
        super().__init__()
        self.left, self.after = math.inf, False

    def write(self, what, *args):
        self.left -= 1
        if self.left < 0 and not self.after:
            raise Killed
        getattr(super(), what)(*args)
        if self.left < 0:
            raise Killed

    def add(self, *args):
        self.write("add", *args)

    def start(self, *args):
        self.write("start", *args)

    def close(self, *args):
        self.write("close", *args)


def finish(record, total, executor=None, made=None, **kwargs):
    search = SearchState(made or definition(), record, total)
    for _ in Tuning([search], executor or Toy(1), job_of=job_of).run(**kwargs):
        pass
    return search


def points(record):
    return [(t.number, t.params) for t in sorted(record.closed.values(), key=lambda t: t.number)]


def test_a_sweep_runs_to_its_total_and_finds_the_best():
    sweep = finish(Memory(), 15)
    assert sweep.done
    assert sorted(sweep.trials) == list(range(15))
    assert sweep.best().value == min(bowl(t.params) for t in sweep.trials.values())


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_killed_at_ten_random_writes_ends_with_every_trial_once(jobs):
    whole, rng = Memory(), random.Random(jobs)
    finish(whole, 20)
    record, kills = Mortal(), 0
    while kills < 10:
        record.left, record.after = rng.randrange(1, 4), rng.random() < 0.5
        with pytest.raises(Killed):
            finish(record, 20, Toy(jobs, seed=kills))
        kills += 1
    record.left = math.inf
    finish(record, 20, Toy(jobs))
    assert sorted(record.closed) == list(range(20))
    assert not record.open
    assert len({axes.key(t.params) for t in record.closed.values()}) == 20
    if jobs == 1:
        assert points(record) == points(whole)


def test_open_trials_are_redone_with_the_same_settings():
    record = Memory()
    record.add(0, {"lr": 0.5, "k": 3, "flag": True})
    executor = Toy(1)
    finish(record, 3, executor)
    assert executor.seen[0][0] == (0, 0)
    assert executor.seen[0][1].request.optimizer_settings == {"lr": 0.5, "k": 3, "flag": True}
    assert sorted(record.closed) == [0, 1, 2]


def test_a_finished_sweep_does_nothing_and_a_larger_total_extends_it():
    record, longer = Memory(), Memory()
    finish(record, 6)
    executor = Toy(1)
    finish(record, 6, executor)
    assert executor.seen == []
    finish(record, 9, executor)
    assert len(executor.seen) == 3
    finish(longer, 9)
    assert points(record) == points(longer)


def test_workers_are_kept_busy_and_go_to_the_next_sweep():
    records = [Memory(), Memory()]
    searches = [SearchState(definition(name), record, 5) for name, record in zip("ab", records, strict=True)]
    executor = Toy(3)
    assert list(Tuning(searches, executor, job_of=job_of).run())
    assert [len(record.closed) for record in records] == [5, 5]
    assert executor.most == 3
    assert [key[0] for key, _ in executor.seen] == [0] * 5 + [1] * 5


@pytest.mark.parametrize("kind", ["failed", "died"])
def test_crashes_are_recorded_and_the_sweep_goes_on(kind):
    def act(job):
        dies = job.request.optimizer_settings["flag"]
        return Message(None, kind, "its process was killed") if dies else completes(job)

    sweep = finish(Memory(), 12, Toy(2, act))
    statuses = [t.status for t in sweep.trials.values()]
    assert statuses.count("failed") >= 1
    assert len(statuses) == 12
    assert {t.error for t in sweep.trials.values() if t.status == "failed"} == {"its process was killed"}
    assert not sweep.best().params["flag"]


def test_when_everything_diverges_there_is_no_best():
    sweep = finish(Memory(), 8, Toy(1, lambda job: ends("diverged")))
    assert sweep.best() is None
    assert sweep.done


def test_a_refusal_of_the_first_trial_ends_the_sweep():
    executor = Toy(1, lambda job: Message(None, "refused", "no such data"))
    with pytest.raises(VrError, match="vradam: no such data"):
        finish(Memory(), 8, executor)
    assert len(executor.seen) == 1


def test_settings_that_are_refused_together_fail_their_trial_alone():
    def choosy(definition, params, seed, **more):
        if params["flag"]:
            raise UsageError("--flag does not go with these")
        return job_of(definition, params, seed, **more)

    record = Memory()
    record.add(0, {"lr": 0.5, "k": 3, "flag": False})
    search = SearchState(definition(), record, 12)
    assert list(Tuning([search], Toy(1), job_of=choosy).run())
    assert {t.status for t in search.trials.values() if t.params["flag"]} == {"failed"}
    assert {t.status for t in search.trials.values() if not t.params["flag"]} == {"completed"}


def test_a_used_up_space_ends_the_sweep():
    done = ends("completed", 1.0)
    sweep = finish(Memory(), 50, Toy(1, lambda job: done), definition(space={"k": Integer(0, 4)}))
    assert len(sweep.trials) == 5
    assert sweep.done
    assert "5" in sweep.exhausted


def test_a_stop_leaves_the_running_trials_open():
    record, asked = Memory(), []

    def should_stop():
        asked.append(1)
        return len(asked) > 4

    with pytest.raises(Interrupted) as stop:
        finish(record, 8, Toy(2), should_stop=should_stop)
    assert stop.value.exit_code == 130
    assert len(record.open) == 1
    finish(record, 8)
    assert sorted(record.closed) == list(range(8))


def test_interrupted_trials_run_again():
    first = []

    def act(job):
        first.append(job)
        return ends("interrupted") if len(first) == 1 else completes(job)

    executor = Toy(1, act)
    finish(Memory(), 2, executor)
    assert [key[1] for key, _ in executor.seen] == [0, 0, 1]


def test_limits_of_pruned_sweeps_come_from_the_trials_that_ended():
    executor = Toy(1)
    finish(Memory(), 8, executor, made=definition(prune="median", epochs=2))
    limits = [job.limits for _, job in executor.seen]
    assert limits[:4] == [{}] * 4
    assert all(set(found) == {1} for found in limits[4:])


def test_code_that_was_edited_meanwhile_ends_the_sweep_and_leaves_its_trials_open():
    def act(job):
        return Message(None, "edited", {"optimizer": "another"}) if len(toy.seen) > 2 else completes(job)

    toy, memory = Toy(2), Memory()
    toy.act = act
    with pytest.raises(VrError, match="edited meanwhile") as stopped:
        finish(memory, 9, toy)
    assert not isinstance(stopped.value, Interrupted)
    assert memory.open
    assert {trial.status for trial in memory.closed.values()} == {"completed"}
    finish(memory, 9)
    assert [trial.status for trial in memory.closed.values()] == ["completed"] * 9


def test_an_interruption_names_what_the_user_began():
    search = SearchState(definition(), Memory(), 5)
    with pytest.raises(Interrupted, match="the comparison was interrupted; the same command continues it"):
        list(Tuning([search], Toy(1), job_of=job_of, what="comparison").run(lambda: True))
