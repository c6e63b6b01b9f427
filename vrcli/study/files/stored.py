"""What the store has of a part: which of its runs are there, and the comparison that they make.

Runs are known by their settings, not by the code or the machine that made them, so that a result can be read long
after. They are of one context, though: the same data, device and code of task and loop.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from vrcli.execute.job import Job
from vrcli.execute.lookup import headline_of, task_of
from vrcli.results.groups import FINISHED
from vrcli.search.definition import Definition
from vrcli.search.record import StoredSearch
from vrcli.search.record import select as stored_searches
from vrcli.search.trials import best_of
from vrcli.spec import TRACELESS, Threads
from vrcli.study.compare import counted
from vrcli.study.comparison import CompareRequest, metric_of
from vrcli.study.confirm import fresh_seeds
from vrcli.study.define import given_settings
from vrcli.study.files.scaled import ScaledPart, dataset_of
from vrcli.study.jobs import jobs_on
from vrcli.study.replicates import CANDIDATES, RERANK_SEEDS, Replicate, candidates, replicates, reranked
from vrcli.study.results import Arm, CompareResult, SearchResult
from vrcli.study.sweep import definitions_of

if TYPE_CHECKING:
    from vrcli.search.record import Store

#: Fresh runs by optimizer and replicate.
Blocks: TypeAlias = dict[str, list[list[Any]]]
#: Data, device, and code of engine and task.
Context: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True)
class Found:
    """What is there of a part.

    Args:
        planned: runs by optimizer, those of searches among them.
        runs: every stored one that belongs to it, by optimizer.
        trials: those of the searches' trials, likewise.
        arms: complete replicates.
        blocks: their fresh runs, by optimizer and replicate.
        failed: why there is no more of an optimizer, where a run of it failed.
        others: stored runs of the same settings in another context, which do not count.
    """

    part: ScaledPart
    planned: Mapping[str, int]
    runs: Mapping[str, Sequence[Any]]
    trials: Mapping[str, Sequence[Any]]
    arms: Sequence[Arm]
    blocks: Mapping[str, Sequence[Sequence[Any]]]
    failed: Mapping[str, str] = field(default_factory=dict)
    others: int = 0

    @property
    def done(self) -> int:
        """Runs that are stored."""
        return sum(map(len, self.runs.values()))

    @property
    def complete(self) -> bool:
        """Whether every optimizer has all of its runs, or failed."""
        return all(self.has_all(name) or name in self.failed for name in self.planned)

    def has_all(self, optimizer: str) -> bool:
        """Whether all fresh runs of an optimizer are there."""
        return len(self.blocks.get(optimizer, ())) == self.part.request.tuning.searches

    def diverged(self, optimizer: str) -> int:
        """How many of an optimizer's fresh runs diverged."""
        return sum(run.status == "diverged" for own in self.blocks.get(optimizer, ()) for run in own)

    def left_s(self) -> float | None:
        """Seconds that the runs that are not stored may take one after the other; None where none is stored."""
        known = {
            name: [run.results["wall_s"] + run.results.get("probe_s", 0.0) for run in own if "wall_s" in run.results]
            for name, own in self.runs.items()
        }
        every = [value for own in known.values() for value in own]
        if not every:
            return None
        return sum(
            (planned - len(self.runs.get(name, ()))) * _mean(known.get(name) or every)
            for name, planned in self.planned.items() if name not in self.failed
        )  # fmt: skip

    def result(self, metric: str = "", margin: float | None = None, relative: bool = False) -> CompareResult | None:
        """The comparison of the optimizers that have all of their runs; None below two of them.

        Args:
            metric: that of the part by default.
            margin: see `CompareRequest`.
        """
        blocks: Blocks = {name: list(map(list, own)) for name, own in self.blocks.items() if self.has_all(name)}
        if len(blocks) < 2:
            return None
        request = self.part.request
        declared = request.primary if request.primary and set(request.primary) <= {*blocks} else None
        request = replace(
            request, metric=metric or request.metric, margin=margin, relative=relative, primary=declared
        )  # fmt: skip
        task = task_of(request.tuning.task)
        arms = [arm for arm in self.arms if arm.optimizer in blocks]
        found = counted(request, metric_of(task, request), arms, blocks)
        return replace(found, metrics=headline_of(task), failed=self.failed)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def find_runs(store: Store | None, part: ScaledPart) -> Found:
    """What the store has of a part.

    Args:
        store: None where there is no database yet.
    """
    request = part.request
    task = task_of(request.tuning.task)
    given = given_settings(task, request.tuning)
    every = [] if store is None else store.runs.select(task=task.name, preset=request.tuning.preset)
    runs = _of_optimizers([run for run in every if part.probing.done_in(run.provenance)], given)
    if not request.tuning.trials:
        return _untuned(part, runs, given)
    return _tuned(part, runs, given, store)


def _of_optimizers(runs: Iterable[Any], names: Iterable[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {name: [] for name in names}
    for run in runs:
        if run.optimizer in found:
            found[run.optimizer].append(run)
    return found


# -- settings that no search chose ------------------------------------------------------------------------------------


def _untuned(part: ScaledPart, runs: Mapping[str, Sequence[Any]], given: Mapping[str, Mapping[str, Any]]) -> Found:
    request = part.request
    seeds = fresh_seeds(request.tuning.seeds, request.seeds)
    jobs = {name: _jobs(request, name, settings, seeds) for name, settings in given.items()}
    alike = {
        name: [run for run in runs[name] if run.seed in own and _alike(run, own[run.seed])]
        for name, own in ((name, {job.seed: job for job in own}) for name, own in jobs.items())
    }
    alike = _on_own_data(
        alike, dataset_of(request), lambda run: run.spec.get("task_settings", {}).get("dataset"), _context_of_run
    )
    vary = request.tuning.vary_split
    kept, others = _in_context(
        alike, _context_of_run, lambda run: run.status in FINISHED, lambda run: run.seed if vary else 0
    )
    failed = {name: f"run {run.id}, seed {run.seed}: {run.error}" for name, own in kept.items()
              for run in own if run.status == "failed"}  # fmt: skip
    ended = {name: _by_seed(own) for name, own in kept.items()}
    arms = [Arm(name, 0, settings, tuple(seeds)) for name, settings in given.items() if set(seeds) == {*ended[name]}]
    blocks = {arm.optimizer: [[ended[arm.optimizer][seed] for seed in seeds]] for arm in arms}
    stored = {name: list(own.values()) for name, own in ended.items()}
    failed = {name: why for name, why in failed.items() if name not in blocks}
    return Found(part, dict.fromkeys(given, len(seeds)), stored, {}, arms, blocks, failed, others)


def _on_own_data(
    found: dict[str, list[Any]], asked: str, read_by: Callable[[Any], str | None], context_of: Callable[[Any], Context]
) -> dict[str, list[Any]]:
    """The runs, or searches, whose data have the content of those asked for, wherever they lay; where none read these,
    all: of a copy that lies elsewhere."""
    every = [one for each in found.values() for one in each]
    contents = {context_of(one)[0] for one in every if read_by(one) == asked}
    if not contents:
        return found
    return {name: [one for one in each if context_of(one)[0] in contents] for name, each in found.items()}


def _jobs(request: CompareRequest, name: str, settings: Mapping[str, Any], seeds: Sequence[int]) -> list[Job]:
    tuning = request.tuning
    return jobs_on(seeds, tuning.task, name, tuning.preset, settings, device=tuning.device, threads=Threads(1),
                   vary_split=tuning.vary_split)  # fmt: skip


def _alike(run: Any, job: Job) -> bool:
    """Whether a stored run has the settings of a job, as far as both know them; where its data lie is not a matter."""
    asked, spec = job.request.model_dump(mode="json"), run.spec
    settings, training, own = spec.get("task_settings", {}), spec.get("training", {}), asked["training"]
    if any(training.get(name) != own.get(name) for name in TRACELESS):
        return False
    # A batch that was to take more samples than there are took those: each epoch was a step, and the one step of a run
    # was an epoch. Of a stream an epoch is what is said to be one.
    steps, ended = run.results.get("steps", 0), training.get("until") or training.get("max_steps")
    whole = steps == run.results.get("epochs") and (steps > 1 or not ended)
    cut = whole and not settings.get("steps_per_epoch") and own["batch_size"] >= training.get("batch_size", 0)
    ignored = ("dataset", "batch_size") if cut else ("dataset",)
    return all(_same(spec.get(name, {}), asked[name], ignored)
               for name in ("task_settings", "training", "optimizer_settings"))  # fmt: skip


def _same(stored: Mapping[str, Any], asked: Mapping[str, Any], ignored: Sequence[str]) -> bool:
    return all(asked[name] == value for name, value in stored.items() if name in asked and name not in ignored)


def _in_context(
    found: Mapping[str, Sequence[Any]], context_of: Callable[[Any], Context], finished: Callable[[Any], int],
    data_of: Callable[[Any], int],
) -> tuple[dict[str, list[Any]], int]:  # fmt: skip
    """The runs, or searches, of one context; where each has data of its own, of one context for each of these.

    Args:
        data_of: which of the data they are for.

    Returns:
        Them, and how many finished runs are of other contexts.
    """
    kept: dict[str, list[Any]] = {name: [] for name in found}
    others = 0
    for number in sorted({data_of(one) for own in found.values() for one in own}):
        part = {name: [one for one in own if data_of(one) == number] for name, own in found.items()}
        chosen, left = _one_context(part, context_of, finished)
        kept, others = {name: kept[name] + chosen[name] for name in kept}, others + left
    return kept, others


def _one_context(
    found: Mapping[str, Sequence[Any]], context_of: Callable[[Any], Context], finished: Callable[[Any], int]
) -> tuple[dict[str, list[Any]], int]:
    """The runs, or searches, of the context that has the most finished runs, the newest of equal ones.

    Returns:
        Them, and how many finished runs are of other contexts.
    """
    seen: Counter[Context] = Counter()
    newest: dict[Context, int] = {}
    for own in found.values():
        for one in own:
            context = context_of(one)
            seen[context] += finished(one)
            newest[context] = max(one.id, newest.get(context, 0))
    if not seen:
        return {name: [] for name in found}, 0
    best = max(seen, key=lambda context: (seen[context], newest[context]))
    kept = {name: [one for one in own if context_of(one) == best] for name, own in found.items()}
    return kept, sum(seen.values()) - seen[best]


def _context_of_run(run: Any) -> Context:
    return _context(run.dataset_fingerprint, run.spec.get("device"), run.spec.get("code", {}))


def _context_of_search(search: StoredSearch) -> Context:
    made = search.definition
    return _context(made.dataset_fingerprint, made.device, made.code)


def _context(fingerprint: str | None, device: str | None, code: Mapping[str, str]) -> Context:
    return fingerprint, device, code.get("engine"), code.get("task")


def _by_seed(runs: Iterable[Any]) -> dict[int, Any]:
    """The newest finished run of each seed."""
    return {run.seed: run for run in sorted(runs, key=lambda run: run.id) if run.status in FINISHED}


# -- settings that a search chose -------------------------------------------------------------------------------------


def _tuned(
    part: ScaledPart, runs: Mapping[str, Sequence[Any]], given: Mapping[str, Mapping[str, Any]], store: Store | None
) -> Found:
    request = part.request
    tuning = request.tuning
    plan = {one.tuning.search_seed: one for one in replicates(tuning, request.seeds)}
    again = reranked_runs(min(tuning.trials, CANDIDATES))
    planned = dict.fromkeys(given, (tuning.trials * len(tuning.seeds) + again + request.seeds) * tuning.searches)
    alike = _on_own_data(
        _searches(store, definitions_of(tuning), tuning.trials), dataset_of(request),
        lambda search: search.definition.settings.get("dataset"), _context_of_search,
    )  # fmt: skip
    ended = Counter(run.search_id for own in runs.values() for run in own if run.status in FINISHED)
    kept, others = _in_context(
        alike, _context_of_search, lambda search: ended[search.id],
        lambda search: search.definition.search_seed if tuning.vary_split else 0,
    )  # fmt: skip
    newest = {(name, search.definition.search_seed): search for name, own in kept.items() for search in own[::-1]}
    found = [of_search(search, plan[seed], runs[name], given[name]) for (name, seed), search in newest.items()]
    owned: dict[str, list[Any]] = defaultdict(list)
    trials: dict[str, list[Any]] = defaultdict(list)
    blocks: Blocks = {}
    for one in found:
        owned[one.optimizer] += one.runs
        trials[one.optimizer] += one.trials
        planned[one.optimizer] += 0 if one.again is None else one.again - again
        if one.arm is not None:
            blocks.setdefault(one.optimizer, []).append(one.fresh)
    arms = [one.arm for one in found if one.arm is not None]
    failed = {one.optimizer: one.failed for one in found if one.failed}
    return Found(part, planned, owned, trials, arms, blocks, failed, others)


@dataclass(frozen=True)
class _Search:
    """What is there of one search.

    Args:
        runs: all of them.
        again: how many runs rank its best trials; None where that is not known yet.
        arm: once all of its fresh runs are there.
    """

    optimizer: str
    trials: Sequence[Any]
    runs: Sequence[Any]
    again: int | None = None
    arm: Arm | None = None
    fresh: list[Any] = field(default_factory=list)
    failed: str = ""


def _searches(store: Store | None, definitions: Sequence[Definition], trials: int) -> dict[str, list[StoredSearch]]:
    """Stored searches like these, of so many trials: by optimizer, in the order asked for, of one the newest first."""
    known = [] if store is None else stored_searches(store, task=definitions[0].task)
    known = [one for one in known if one.total == trials]
    found: dict[str, list[StoredSearch]] = {definition.optimizer: [] for definition in definitions}
    for definition in definitions:
        found[definition.optimizer] += [one for one in known if _same_search(one.definition, definition)]
    return found


def of_search(search: StoredSearch, owner: Replicate, runs: Sequence[Any], given: Mapping[str, Any]) -> _Search:
    """What is there of a search.

    Args:
        runs: those of its optimizer.
        given: settings that no search chose.
    """
    name, state = search.definition.optimizer, search_result(search)
    own = sorted((run for run in runs if run.search_id == search.id), key=lambda run: run.id)
    ended = {(run.trial_id, run.seed): run for run in own if run.status in FINISHED}
    tried = [(search.trial_id(trial.number), seed) for trial in state.trials for seed in search.definition.seeds]
    trials = [ended[place] for place in tried if place in ended]
    if len(state.trials) < search.total:
        return _Search(name, trials, trials)
    chosen = candidates(state)
    if not chosen:
        return _Search(name, trials, trials, failed="no trial of a search completed")
    places = [(search.trial_id(trial.number), seed) for trial in chosen for seed in owner.rerank]
    places = places if len(chosen) > 1 else []
    again = [ended[place] for place in places if place in ended]
    if len(again) < len(places):
        return _Search(name, trials, [*trials, *again], len(places))
    order = reranked(state, again, RERANK_SEEDS)
    params = order[0].trial.params
    by_seed = {seed: run for (trial, seed), run in ended.items() if trial is None and _has(run, params)}
    fresh = [by_seed[seed] for seed in owner.fresh if seed in by_seed]
    arm = Arm(name, owner.number, {**given, **params}, owner.fresh, state, tuple(order))
    return _Search(
        name, trials, [*trials, *again, *fresh], len(places), arm if len(fresh) == len(owner.fresh) else None, fresh
    )  # fmt: skip


def reranked_runs(chosen: int) -> int:
    """Runs that rank so many trials again."""
    return chosen * RERANK_SEEDS if chosen > 1 else 0


def search_result(search: StoredSearch) -> SearchResult:
    """A stored search as far as it has come."""
    ended = tuple(trial for trial in search.trials() if trial.status != "running")
    return SearchResult(
        search.sweep_id, search.id, search.name, search.definition, search.total, ended,
        best_of(ended, search.definition.direction),
    )  # fmt: skip


def _same_search(stored: Definition, asked: Definition) -> bool:
    """Whether both are one search, whatever code and machine it ran on and wherever its data lie."""
    mine, theirs = stored.plain(), asked.plain()
    names = ("preset", "optimizer", "seeds", "search", "search_seed", "prune", "space")
    if any(mine[name] != theirs[name] for name in names):
        return False
    settings, own = mine["settings"], theirs["settings"]
    return all(settings.get(name) == own.get(name) for name in TRACELESS) and _same(settings, own, ("dataset",))


def _has(run: Any, params: Mapping[str, Any]) -> bool:
    """Whether a run has the settings that a search chose, as far as they go by the same name."""
    return all(run.settings[name] == value for name, value in params.items() if name in run.settings)
