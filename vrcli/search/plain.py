"""Stored searches with their trials as plain values: for JSON, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vrcli.output import CsvWriter, json_number
from vrcli.search.record import StoredSearch
from vrcli.search.summary import summarise
from vrcli.search.trials import SearchState, Trial

#: A search and where it stands.
Stored = tuple[StoredSearch, SearchState]


def write_csv(states: Sequence[SearchState], file: Any) -> None:
    """Trials by search in the order of their proposal; an empty cell is a value that there is not."""
    names = list(dict.fromkeys(name for state in states for name in state.definition.axes))
    several = len(states) > 1
    writer = CsvWriter(file)
    writer.writerow([*["optimizer"] * several, "trial", "status", "value", *names, "runs", "error"])
    for state in states:
        for trial in sorted(state.trials.values(), key=lambda t: t.number):
            value = "" if trial.value is None else trial.value
            cells = [trial.number + 1, trial.status, value, *(trial.params.get(name, "") for name in names)]
            cells += [" ".join(map(str, trial.run_ids)), trial.error or ""]
            writer.writerow([*[state.definition.optimizer] * several, *cells])


def sweep_json(found: Sequence[Stored]) -> Any:
    """A sweep of one search with its trials; of several, one such value for each."""
    bodies = [
        {**search_json(one, state), "trials": [trial_json(t) for t in state.trials.values()]} for one, state in found
    ]
    return bodies[0] if len(bodies) == 1 else bodies


def search_json(one: StoredSearch, state: SearchState) -> dict[str, Any]:
    """A sweep as plain JSON values."""
    summary = summarise(state)
    return {
        "id": one.sweep_id, "search": one.id, "name": one.name, "status": one.status,
        "created_at": one.created_at.isoformat(),
        "total": state.total, "ended": len(state.ended()), "definition": one.definition.plain(),
        "best": trial_json(summary.best) if summary.best else None, "statuses": summary.statuses,
        "diverged_share": summary.diverged_share, "importance": summary.importance,
        "convergence": list(summary.convergence), "best_of_k": _best_of_k(state),
    }  # fmt: skip


def _best_of_k(state: SearchState) -> dict[str, Any] | None:
    """What to expect of the best of k trials of this sweep; a value that is not finite becomes its name."""
    from vrcli.stats.budget import best_of_search  # scipy is slow to import

    found = best_of_search(
        ((trial.status, trial.value) for trial in state.ended()), direction=state.definition.direction
    )
    if found is None:
        return None
    curves = {"k": found.k, "expected": found.expected, "median": found.median, "all_diverged": found.all_diverged}
    return {name: [json_number(value) for value in values.tolist()] for name, values in curves.items()}


def trial_json(trial: Trial) -> dict[str, Any]:
    """A trial as plain JSON values; a value that is not finite becomes its name."""
    return {
        "number": trial.number, "status": trial.status, "params": trial.params,
        "value": None if trial.value is None else json_number(trial.value), "error": trial.error,
        "run_ids": list(trial.run_ids),
    }  # fmt: skip
