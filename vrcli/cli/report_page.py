"""`vr report --format html`: one file to hand over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.output import Target
    from vrcli.report.page.data import Source
    from vrcli.report.page.sweeps import Search

#: Runs whose curves take long enough to read that it is said.
MANY = 100


def write_page(
    store: Store, runs: Sequence[RunRecord], output: Target, *, metrics: Sequence[str] = (), command: str = ""
) -> None:
    """Write the page of these runs.

    Args:
        runs: all to be shown, whatever became of them, the newest first.
        metrics: results for the tables' columns; by default what each section has.
        command: that asked for the page, to be named on it.

    Raises:
        UsageError: the file cannot be written.
    """
    from vrcli.cli.console import err, notice, say
    from vrcli.report.page.data import page_of
    from vrcli.report.page.render import render_page

    output.check()
    if len(runs) >= MANY:
        notice(f"reading the curves of {len(runs)} runs")
    text = render_page(page_of(source_of(store, runs, metrics=metrics, command=command)))
    output.write_text(text)
    size = len(text.encode()) / 1e6
    say(f"wrote {output.path}: {len(runs)} run{'s' * (len(runs) != 1)} on one page, {size:.1f} MB", to=err())


def source_of(store: Store, runs: Sequence[RunRecord], *, metrics: Sequence[str], command: str) -> Source:
    """Gather what the page needs from the store."""
    from datetime import UTC, datetime

    from vrcli.cli.report_table import declared
    from vrcli.report.page.data import Source, selection_notes
    from vrcli.results.groups import FINISHED
    from vrcli.results.selection import all_searches, quotable, stopped_early
    from vrcli.results.types import Column
    from vrcli.version import __version__

    finished = [run for run in runs if run.status in FINISHED]
    searched = {run.search_id for run in runs if run.search_id is not None}
    selection = quotable(finished, all_searches(store, searched))
    stopped = stopped_early(store, searched)
    known = declared({run.task for run in runs})
    return Source(
        runs=runs,
        selection=selection,
        searches=searches_of(store, runs),
        commands=commands_of(runs),
        read=lambda ids, names: store.curves.read(ids, names),
        known=known,
        columns=[Column.of(name, known) for name in metrics],
        pruned=frozenset(run.id for run in finished if run.search_id in stopped),
        database=store.label,
        version=__version__,
        made_at=datetime.now(UTC),
        command=command,
        notes=selection_notes(runs, selection, stopped),
    )


def searches_of(store: Store, runs: Iterable[RunRecord]) -> list[Search]:
    """All trials of the optimizers that the runs are of, by sweep."""
    from dataclasses import replace

    from vrcli.report.page.sweeps import Search, Trial

    found = []
    for id in sorted({run.search_id for run in runs if run.search_id is not None}):
        sweep = store.searches.get(id)
        section = (sweep.task, sweep.dataset or "", sweep.dataset_fingerprint or "", sweep.preset or "")
        trials = [
            Trial(t.number + 1, t.params, t.state, t.value, t.epochs, t.run_id) for t in store.searches.trials(id)
        ]
        search = Search(sweep.sweep_id, sweep.name, section, sweep.optimizer, sweep.trials, sweep.status, trials)
        command = best_command(sweep.settings, search.best.params) if search.best else ""
        found.append(replace(search, command=command))
    return found


def best_command(definition: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """What trains with a search's best settings on a fresh seed; empty for a search of a version with other fields."""
    from vrcli.report.study.command import run_command
    from vrcli.search.definition import Definition

    try:
        return run_command(Definition.of(definition), params)
    except (KeyError, TypeError):
        return ""


def commands_of(runs: Iterable[RunRecord]) -> dict[int, str]:
    """What repeats each run."""
    from vrcli.cli.runs import command_of

    return {run.id: command_of(run) for run in runs}
