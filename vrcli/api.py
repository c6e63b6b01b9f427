"""The Python API: the words, defaults, checks and database of the commands, which call these functions themselves.

    import vrcli
    found = vrcli.compare("cnn", opt=["vradam", "adamw"], seeds=3)
    found                # the table and the verdicts, as HTML in a notebook
    found.frame()        # a row per run, as a pandas frame

Tasks and optimizers are names, or classes that other processes can import. Keyword arguments that are not parameters
are settings of the task, the training and (`run` alone) the optimizer. What cannot be carried out raises what the
commands print as one line, mostly `vrcli.errors.UsageError`; nothing is recorded. After Ctrl-C the same call continues.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from vrcli.db.location import Location
from vrcli.following import commanded, completed, follow, sweep_request, with_file
from vrcli.probing import asked as asked_of_probes

if TYPE_CHECKING:
    import torch

    from vrcli.outcomes import CompareOutcome, RunsOutcome, SweepOutcome, TasksOutcome
    from vrcli.plan_outcomes import ComparePlanOutcome, PlanOutcome
    from vrcli.results.frames import Frames
    from vrcli.study.asked import Asked
    from vrcli.tasks.base import Task

__all__ = ["compare", "load", "plan", "run", "sweep"]

TaskLike: TypeAlias = "str | type[Task[Any]]"
OptimizerLike: TypeAlias = "str | type[torch.optim.Optimizer]"
#: Several tasks.
Tasks: TypeAlias = "list[TaskLike] | list[str] | tuple[TaskLike, ...]"
Optimizers: TypeAlias = "OptimizerLike | Sequence[OptimizerLike]"
#: Settings by name, or the texts that the command line takes: {"lr": 0.01} or ["lr=0.01"].
Texts: TypeAlias = "Mapping[str, Any] | Sequence[str]"
Probes: TypeAlias = "str | type[Any] | Sequence[str | type[Any]]"
Database: TypeAlias = "str | os.PathLike[str] | Location"
Watch: TypeAlias = Callable[[Any], object]
Config: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any]"


@with_file
def run(
    task: TaskLike | None = None,
    *,
    command: str | None = None,
    metric: str | None = None,
    opt: OptimizerLike | None = None,
    preset: str | None = None,
    seed: int | None = None,
    seeds: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    config: Config | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    tag: str | None = None,
    db: Database | None = None,
    lr_from: int | str | None = None,
    keep_weights: Literal["best", "last", "both", "update"] | None = None,
    new: bool = False,
    probe: Probes = (),
    probe_every: str | int | None = None,
    checkpoint_every: str = "60s",
    checkpoint_dir: str | os.PathLike[str] | None = None,
    malloc_tuning: bool = True,
    watch: Watch | None = None,
    **settings: Any,
) -> RunsOutcome:
    """Train a task with an optimizer, and store the run. This is `vr run`.

    A run that was interrupted goes on when the same call is made again.

    Args:
        task: its name, or a class made from `vrcli.tasks.base.Task`.
        command: instead of a task, what trains it: "python train.py --lr {lr} --seed {seed}".
        metric: the objective of `command`; val_loss by default.
        opt: an optimizer's name or class; vradam by default.
        preset: named configuration of the task; quick by default.
        seed: of weights, data order and noise; 0 by default.
        seeds: train with this many, which count on from `seed`; 1 by default.
        device: auto, cpu, cuda or mps; auto by default.
        threads: CPU threads; torch's choice by default, one where steps are short.
        config: a TOML file with parameters and settings; what is given here comes before it.
        data_dir: folder of data sets; the user's cache by default.
        tag: a word to find the runs by.
        db: a database file, an SQLAlchemy URL or a `Location`; VR_DB or vr.db by default.
        lr_from: number or name of a run whose learning rates are replayed, in the place of `lr` and the schedule.
        keep_weights: best, last, both, or update (before and after the last step): kept with the run, for
            `vr runs export --to weights`, `vr runs path` and `vr runs plane`.
        new: start a new run, even if one like it was interrupted, which would go on.
        probe: what to measure beside the loss: a probe's name or class, or several.
        probe_every: how often: 50 (steps) or "2e" (epochs); every epoch by default.
        checkpoint_every: how often a run is written down, to go on from there: "60s", "500" (steps) or "off".
        checkpoint_dir: folder for that; VR_CHECKPOINTS or beside the database by default.
        malloc_tuning: this process keeps freed memory from now on (glibc), which makes steps faster.
        watch: gets every event of `vrcli.study.events` and `vrcli.engine.events`; by default a terminal or a notebook
            shows progress.
        settings: of the task, the training and the optimizer: `beta3=1.0`, `epochs=3`.

    Raises:
        UsageError, UnknownTask, TaskError, StoreError: this cannot be carried out; nothing was recorded.
        RunFailed: training raised an error; the run is stored as failed.
    """
    from vrcli.execute.place import Place
    from vrcli.outcomes import RunsOutcome
    from vrcli.study.asked import complete
    from vrcli.study.train import TrainRequest, train

    task, opts = commanded(task, command, metric, [] if opt is None else [opt])
    probing, config, settings = asked_of_probes(probe, probe_every, config, settings)
    asked = complete(task, opts, preset=preset, device=device, threads=threads, config=config, flags=settings,
                     seed=seed, seeds=seeds, tag=tag)  # fmt: skip
    place = Place.of(db, data_dir, 1, asked.threads, malloc_tuning, checkpoint_every, checkpoint_dir, probing)
    request = TrainRequest(
        asked.task, asked.optimizers[0], asked.preset, asked.config, asked.flags, asked.seeds, asked.device, asked.tag,
        new, keep_weights, lr_from,
    )  # fmt: skip
    return RunsOutcome(place.database, follow(lambda stop: train(request, place, should_stop=stop), watch, "run"))


@with_file
def sweep(
    task: TaskLike | None = None,
    *,
    command: str | None = None,
    metric: str | None = None,
    opt: Optimizers = (),
    trials: int = 40,
    searches: int = 1,
    preset: str | None = None,
    space: Texts = (),
    fix: Texts = (),
    equal: str | Sequence[str] | None = None,
    search: str = "gp",
    initial: int | None = None,
    search_seed: int = 0,
    prune: str = "none",
    seed: int | None = None,
    seeds: int | None = None,
    confirm_seeds: int = 0,
    jobs: int = 1,
    new: bool = False,
    device: str | None = None,
    threads: int | None = None,
    config: Config | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    db: Database | None = None,
    probe: Probes = (),
    probe_every: str | int | None = None,
    checkpoint_every: str = "60s",
    checkpoint_dir: str | os.PathLike[str] | None = None,
    malloc_tuning: bool = True,
    watch: Watch | None = None,
    **settings: Any,
) -> SweepOutcome:
    """Search settings; every optimizer gets the same budget. This is `vr sweep`.

    The same call again goes on where it was interrupted; a larger `trials` extends it.

    Args:
        task: its name, or a class made from `vrcli.tasks.base.Task`.
        command: instead of a task, what trains it: "python train.py --lr {lr} --seed {seed}".
        metric: the objective of `command`; val_loss by default.
        opt: an optimizer's name or class, or several; vradam by default.
        trials: of each search in all.
        searches: independent ones of each optimizer.
        preset: named configuration of the task; quick by default.
        space: axes: `{"lr": "log:1e-5:1e-1", "lr_cutoff": "int:5:30", "normgrad": "true,false"}`.
        fix: settings of the optimizers kept at a value: `{"weight_decay": 1e-5}`.
        equal: search these settings of every optimizer and no others, "lr,weight_decay"; the others stay as stated.
        search: gp, forest, random or sobol.
        initial: points of a Sobol sequence before the search learns; a third of the trials by default, 3 to 8.
        search_seed: seed of the search.
        prune: stop hopeless trials early: median or halving.
        seed: of weights, data order and noise; 0 by default.
        seeds: runs of each trial, averaged; 1 by default.
        confirm_seeds: run the best settings on this many fresh seeds.
        jobs: trials that run at the same time; the threads are divided among them.
        new: start another sweep beside an unfinished one that has other settings.
        device: auto, cpu, cuda or mps; auto by default.
        threads: CPU threads of all runs together; torch's choice by default, one for each run of short steps.
        config: a TOML file with parameters and settings; what is given here comes before it.
        data_dir: folder of data sets; the user's cache by default.
        db: a database file, an SQLAlchemy URL or a `Location`; VR_DB or vr.db by default.
        probe: what to measure beside the loss: a probe's name or class, or several.
        probe_every: how often: 50 (steps) or "2e" (epochs); every epoch by default.
        checkpoint_every: how often a run is written down, to go on from there: "60s", "500" (steps) or "off".
        checkpoint_dir: folder for that; VR_CHECKPOINTS or beside the database by default.
        malloc_tuning: the workers keep freed memory (glibc), which makes steps faster.
        watch: gets every event of `vrcli.study.events`; by default a terminal or a notebook shows progress.
        settings: of the task and the training: `epochs=3`.

    Raises:
        UsageError, UnknownTask, TaskError, StoreError: this cannot be carried out; nothing was recorded.
        Interrupted: Ctrl-C, or somebody stopped the sweep.
    """
    from vrcli.outcomes import SweepOutcome
    from vrcli.study import sweep as study

    task, opt = commanded(task, command, metric, opt)
    request, place = sweep_request(
        task=task, opt=opt, trials=trials, searches=searches, preset=preset, space=space, fix=fix, equal=equal,
        search=search, initial=initial, search_seed=search_seed, prune=prune, seed=seed, seeds=seeds,
        confirm_seeds=confirm_seeds, jobs=jobs, new=new, device=device, threads=threads, config=config,
        data_dir=data_dir, db=db, malloc_tuning=malloc_tuning, probe=probe, probe_every=probe_every,
        checkpoint_every=checkpoint_every, checkpoint_dir=checkpoint_dir, settings=settings,
    )  # fmt: skip
    found = follow(lambda stop: study.sweep(request, place, should_stop=stop), watch, "sweep")
    return SweepOutcome(place.database, found)


def plan(task: TaskLike | None = None, *, watch: Watch | None = None, **words: Any) -> PlanOutcome:
    """What `sweep` would do with the same words: spaces, budget, what is stored, an estimate of the time. This is
    `vr sweep --plan`; nothing is recorded.

    Args:
        task: its name, or a class made from `vrcli.tasks.base.Task`.
        watch: gets every event of `vrcli.study.events`.
        words: whatever `sweep` takes.

    Raises:
        UsageError, UnknownTask, TaskError, StoreError: this cannot be carried out.
    """
    from vrcli.plan_outcomes import PlanOutcome
    from vrcli.study import sweep as study

    words = completed("sweep", task, words)
    parameters = inspect.signature(sweep).parameters
    usual = {name: one.default for name, one in parameters.items() if name not in ("watch", "settings")}
    settings = {name: words.pop(name) for name in list(words) if name not in usual}
    words = {**usual, **words}
    words["task"], words["opt"] = commanded(words["task"], words.pop("command"), words.pop("metric"), words["opt"])
    request, place = sweep_request(**words, settings=settings)
    return PlanOutcome(place.database, follow(lambda _: study.plan(request, place), watch, "sweep"))


@overload
def compare(task: Any = None, *, plan: Literal[True], **words: Any) -> ComparePlanOutcome: ...
@overload
def compare(task: TaskLike | None = None, **words: Any) -> CompareOutcome: ...
@overload
def compare(task: Tasks, **words: Any) -> TasksOutcome: ...
@with_file
def compare(
    task: TaskLike | Tasks | None = None,
    *,
    command: str | None = None,
    opt: Optimizers = (),
    trials: int = 0,
    searches: int | None = None,
    seeds: int | None = None,
    seed: int | None = None,
    preset: str | None = None,
    space: Texts = (),
    fix: Texts = (),
    equal: str | Sequence[str] | None = None,
    search: str = "gp",
    initial: int | None = None,
    search_seed: int = 0,
    vary_split: bool = False,
    metric: str | None = None,
    against: str | None = None,
    primary: str | Sequence[str] | None = None,
    margin: float | str | None = None,
    looks: int = 1,
    level: float = 0.95,
    target: float | None = None,
    power: bool = False,
    explain: bool = False,
    by_budget: bool = False,
    jobs: int = 1,
    plan: bool = False,
    device: str | None = None,
    threads: int | None = None,
    config: Config | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    tag: str | None = None,
    db: Database | None = None,
    probe: Probes = (),
    probe_every: str | int | None = None,
    checkpoint_every: str = "60s",
    checkpoint_dir: str | os.PathLike[str] | None = None,
    malloc_tuning: bool = True,
    watch: Watch | None = None,
    **settings: Any,
) -> CompareOutcome | TasksOutcome | ComparePlanOutcome:
    """Tune optimizers alike, and say which can be called better. This is `vr compare`.

    Runs pair by seed: the same initial weights and order of the data. The same call goes on where it was interrupted.
    Each of several tasks has the whole protocol; what holds over all follows.

    Args:
        task: its name, or a class made from `vrcli.tasks.base.Task`; or a list of them.
        command: instead of a task, what trains it: "python train.py --lr {lr} --seed {seed}".
        opt: names or classes of two or more optimizers.
        trials: of each search that tunes an optimizer; 0 takes the preset's settings.
        searches: independent ones of each optimizer; 5 by default. The verdict holds for the optimizers when there are
            several, for the settings found when there is one.
        seeds: fresh ones, the same for all optimizers; 3 for each search by default, 5 where nothing is searched.
        seed: of the first runs, 0 by default; another one repeats the whole protocol on seeds of its own.
        preset: named configuration of the task; quick by default.
        space: axes of the search: `{"lr": "log:1e-5:1e-1"}`.
        fix: settings of the optimizers kept at a value: `{"weight_decay": 1e-5}`.
        equal: search these settings of every optimizer and no others, "lr,weight_decay"; the others stay as stated.
        search: gp, forest, random or sobol.
        initial: points of a Sobol sequence before the search learns; a third of the trials by default, 3 to 8.
        search_seed: seed of the first search.
        vary_split: every search, or every seed where nothing is searched, splits the data in another way.
        metric: the result to compare; by default the test value of the objective at the best validation epoch.
        against: compare all optimizers with this one, instead of every pair.
        primary: the pair that counts, declared before anything runs: "vradam,adamw".
        margin: optimizers within it count as equal: 0.005, or "2%" of the mean.
        looks: how often to look at the result while searches are added; it stops early where all is decided.
        level: of the intervals; 1 - level is the verdict's error rate.
        target: also steps and seconds to this validation loss.
        power: also what more seeds could show.
        explain: also each verdict with its numbers in a sentence, and what the lines mean.
        by_budget: also run what each search had found after a quarter and half of its trials on the fresh seeds.
        jobs: runs at the same time; the threads are divided among them.
        plan: say what would run, what of it is stored, and about how long it takes; run and record nothing.
        device: auto, cpu, cuda or mps; auto by default.
        threads: CPU threads of all runs together; torch's choice by default, one for each run of short steps.
        config: a TOML file with parameters and settings; what is given here comes before it.
        data_dir: folder of data sets; the user's cache by default.
        tag: a word to find the runs by.
        db: a database file, an SQLAlchemy URL or a `Location`; VR_DB or vr.db by default.
        probe: what to measure beside the loss: a probe's name or class, or several.
        probe_every: how often: 50 (steps) or "2e" (epochs); every epoch by default.
        checkpoint_every: how often a run is written down, to go on from there: "60s", "500" (steps) or "off".
        checkpoint_dir: folder for that; VR_CHECKPOINTS or beside the database by default.
        malloc_tuning: the workers keep freed memory (glibc), which makes steps faster.
        watch: gets every event of `vrcli.study.events`; by default a terminal or a notebook shows progress.
        settings: of the task and the training: `epochs=3`.

    Raises:
        UsageError, UnknownTask, TaskError, StoreError: this cannot be carried out; nothing was recorded.
        VrError: a run failed: a comparison with holes in it is none.
        Interrupted: Ctrl-C.
    """
    from vrcli.execute.place import Place
    from vrcli.outcomes import CompareOutcome, TasksOutcome
    from vrcli.plan_outcomes import ComparePlanOutcome
    from vrcli.study.across import compare_tasks
    from vrcli.study.asked import complete, listed
    from vrcli.study.compare import compare as compare_one
    from vrcli.study.compare_plan import plan_comparisons
    from vrcli.study.comparison import CompareRequest, margin_of, pair_of
    from vrcli.study.define import tuning_of

    if command is not None:
        from vrcli.record.command import compared

        task, opt = commanded(task, command, metric, opt)
        metric = compared(metric)
    probing, config, settings = asked_of_probes(probe, probe_every, config, settings)

    def request_of(one: Any) -> tuple[CompareRequest, Asked]:
        asked = complete(one, listed(opt), preset=preset, device=device, threads=threads, config=config, flags=settings,
                         seed=seed, tag=tag)  # fmt: skip
        usual_searches, usual_seeds, shift = (5, 3, asked.seeds[0]) if trials else (1, 5, 0)
        tuning = tuning_of(
            asked, space=space, fix=fix, equal=equal, search=search, initial=initial, search_seed=search_seed + shift,
            trials=trials, searches=usual_searches if searches is None else searches, vary_split=vary_split,
        )  # fmt: skip
        return CompareRequest(
            tuning, usual_seeds if seeds is None else seeds, metric or "", level, against, pair_of(primary),
            *margin_of(margin), looks, target=target, tag=asked.tag, by_budget=by_budget,
        ), asked  # fmt: skip

    all_asked, (first, *_) = zip(*map(request_of, task if isinstance(task, list | tuple) else [task]), strict=True)
    place = Place.of(db, data_dir, jobs, first.threads, malloc_tuning, checkpoint_every, checkpoint_dir, probing)
    if plan:
        found = follow(lambda stop: plan_comparisons(all_asked, place, should_stop=stop), watch, "compare")
        return ComparePlanOutcome(place.database, found)
    if isinstance(task, list | tuple):
        found = follow(lambda stop: compare_tasks(all_asked, place, should_stop=stop), watch, "compare")
        return TasksOutcome(place.database, found, power, explain)
    found = follow(lambda stop: compare_one(all_asked[0], place, should_stop=stop), watch, "compare")
    return CompareOutcome(place.database, found, power, explain)


def load(db: Database | None = None) -> Frames:
    """A database of runs as pandas frames: `.runs()`, `.curves()`, `.sweeps()`, `.searches()` and `.trials()`.

    Args:
        db: a database file, an SQLAlchemy URL or a `Location`; VR_DB or vr.db by default.

    Raises:
        StoreError: there is no such database, or it cannot be read.
    """
    from vrcli.execute.lookup import registered
    from vrcli.results.frames import Frames

    return Frames(Location.given(db), registered)
