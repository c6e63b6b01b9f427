"""What the HTML page says, from records: one section per task, data set and preset, and every run."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from vrcli.report.figures.style import page_style, places_of
from vrcli.report.page import curves as lines
from vrcli.report.page.sweeps import SearchBlock, search_block
from vrcli.report.page.tables import (
    Data,
    Grid,
    Head,
    Verdicts,
    at_a_glance,
    best_on_validation,
    labels,
    row_labels,
    summary_grid,
    verdicts,
)
from vrcli.report.tables.notes import notes, stopped_early
from vrcli.report.tables.runs import settings_texts
from vrcli.report.wording import counted, duration, number
from vrcli.results.reading import Reading
from vrcli.results.selection import Selection, SweptRun
from vrcli.results.summary import default_columns, summarise
from vrcli.results.trials import Search
from vrcli.results.types import (
    Column,
    Known,
    NamedRun,
    Note,
    Row,
    Section,
    data_name,
    same_name_other_data,
    section_of,
    test_value,
)
from vrcli.version import __version__

#: Rows of a table whose curves are drawn at once; of more, one per optimizer until the others are switched on.
DRAWN_AT_ONCE = 10


class PageRun(SweptRun, NamedRun, Protocol):
    """A run, with what the page says of it besides its results."""

    @property
    def host(self) -> str: ...


@dataclass(frozen=True)
class Source:
    """Everything that the page is made from.

    Args:
        runs: all that were asked for, whatever became of them, the newest first.
        selection: those that tables quote.
        searches: the trials of sweeps that the runs belong to.
        commands: what repeats each run, by id.
        read: reads curves.
        columns: results to show; what each section has by default.
        known: metrics that the tasks declare.
        pruned: ids of runs whose settings come from a search that stopped trials early.
        database: how it is called.
        command: that wrote the page, empty where it is not known.
        notes: what the reader must know of all of it.
        differences: picture of the stored comparisons as SVG; empty where there are none.
    """

    runs: Sequence[PageRun]
    selection: Selection
    searches: Sequence[Search]
    commands: Mapping[int, str]
    read: lines.Reader
    known: Known
    database: str
    version: str
    made_at: datetime
    columns: Sequence[Column] = ()
    pruned: frozenset[int] = frozenset()
    command: str = ""
    notes: Sequence[str] = ()
    differences: str = ""


@dataclass(frozen=True)
class Line:
    """One row of a section's table among its charts.

    Args:
        name: its optimizer, in full.
        colour: its place in the page's palette.
        shown: drawn from the beginning.
    """

    label: str
    name: str
    colour: int
    n: int
    shown: bool


@dataclass(frozen=True)
class SectionView:
    """One task, data set and preset.

    Args:
        anchor: its place on the page.
        curves: what its charts are drawn from; None where no run has curves.
    """

    anchor: str
    task: str
    about: str
    glance: Mapping[str, Any] | None
    table: Grid | None
    notes: Sequence[Note]
    verdicts: Verdicts | None
    lines: Sequence[Line]
    curves: Mapping[str, Any] | None
    searches: SearchBlock | None
    search_lines: Sequence[Line]


@dataclass(frozen=True)
class Page:
    """Everything on the page."""

    source: Source
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    sections: Sequence[SectionView]
    runs: Grid
    run_ids: Sequence[int]
    details: Mapping[str, Any]
    palette: Sequence[Mapping[str, str]]


@dataclass
class _Work:
    """What is gathered while the sections are made."""

    source: Source
    names: Mapping[str, str]
    places: Mapping[str, int]
    drawn: dict[tuple[int, int], int] = field(default_factory=dict)
    own_curves: dict[int, list[Any]] = field(default_factory=dict)

    def colours(self, optimizers: Iterable[str]) -> list[int]:
        """The place in the page's palette of each line of a chart: one of its own for each line of an optimizer."""
        seen: Counter[str] = Counter()
        found = []
        for name in optimizers:
            found.append(self.drawn.setdefault((self.places[name], seen[name]), len(self.drawn)))
            seen[name] += 1
        return found

    @property
    def palette(self) -> list[dict[str, str]]:
        return [page_style(place, variant) for place, variant in self.drawn]

    @property
    def most_of_run(self) -> int:
        return lines.points_per_run(len(self.source.runs))


def page_of(source: Source) -> Page:
    """Make all of the page's content; curves are read section by section and thinned at once."""
    optimizers = sorted({run.optimizer for run in source.runs} | {s.optimizer for s in source.searches})
    work = _Work(source, labels(optimizers), places_of(optimizers))
    sections = [_section(place, section, work) for place, section in enumerate(_sections(source))]
    for run in source.runs:
        if run.id not in work.own_curves:
            work.own_curves[run.id] = _own_curves(run, source.read([run.id], _metrics_of(run)), work)
    warnings = list(source.notes)
    warnings += list(dict.fromkeys(f"{v.task} ({v.about}): {n.text}" for v in sections for n in v.notes if n.warns))
    return Page(
        source=source,
        facts=_facts(source),
        warnings=warnings,
        sections=sections,
        runs=runs_grid(source.runs),
        run_ids=[run.id for run in source.runs],
        details={str(run.id): _details(run, work) for run in source.runs},
        palette=work.palette,
    )


def _sections(source: Source) -> list[Section]:
    """Those of quoted runs and of searches, by name."""
    return sorted({section_of(run) for run in source.selection.runs} | {s.section for s in source.searches})


def _section(place: int, section: Section, work: _Work) -> SectionView:
    source = work.source
    runs = [run for run in source.selection.runs if section_of(run) == section]
    columns = [c for c in source.columns if any(c.key in run.results for run in runs)]
    table = summarise(
        runs,
        columns or default_columns(runs, source.known),
        trials=source.selection.trials,
        pruned=source.pruned,
        reranked=source.selection.reranked,
        known=source.known,
    )
    by_id = {run.id: run for run in source.runs}
    series = [_row_curves(row.run_ids, by_id, len(table.rows), work) for row in table.rows]
    searches = [s for s in source.searches if s.section == section]
    found = search_block(searches, work.names) if searches else None
    task, _, _, preset = section
    data = data_name(section, same_name_other_data(_sections(source)))
    objective = by_id[table.rows[0].run_ids[0]].objective.removeprefix("best_") if table.rows else "val_loss"
    return SectionView(
        anchor=f"section-{place}",
        task=task,
        about=" · ".join(filter(None, [data, preset])),
        glance=at_a_glance(table, by_id, source.known),
        table=summary_grid(table) if table.rows else None,
        notes=notes(table),
        verdicts=verdicts(table, by_id, work.names, source.known),
        lines=_lines(table.rows, best_on_validation(table, by_id, source.known), work),
        curves=lines.block(series, objective) if any(series) else None,
        searches=found,
        search_lines=[
            Line(label, s.optimizer, colour, len(s.ended), True)
            for label, s, colour in zip(
                found.labels if found else [], searches, work.colours(s.optimizer for s in searches), strict=True
            )
        ],
    )


def _lines(rows: Sequence[Row], best: Sequence[Row], work: _Work) -> list[Line]:
    at_once = {id(row) for row in (rows if len(rows) <= DRAWN_AT_ONCE else best[:DRAWN_AT_ONCE])}
    found = []
    colours = work.colours(row.optimizer for row in rows)
    for row, label, colour in zip(rows, row_labels(rows, work.names), colours, strict=True):
        found.append(Line(label, row.optimizer, colour, row.n, id(row) in at_once))
    return found


def _row_curves(
    run_ids: Sequence[int], runs: Mapping[int, PageRun], rows: int, work: _Work
) -> dict[str, dict[str, Any]]:
    """A row's envelopes; the runs' own curves are kept on the way, so that every curve is read once."""
    curves = work.source.read(run_ids, None)
    for run_id in run_ids:
        if run_id in runs:
            work.own_curves[run_id] = _own_curves(runs[run_id], curves, work)
    return lines.row_series(run_ids, curves, lines.points_per_envelope(rows * max(1, len(_sections(work.source)))))


def _metrics_of(run: PageRun) -> list[str]:
    """The two curves that show how a run went."""
    return ["train_loss", run.objective.removeprefix("best_")]


def _own_curves(run: PageRun, curves: Mapping[tuple[int, str], Any], work: _Work) -> list[Any]:
    return lines.run_curves(run.id, curves, _metrics_of(run), work.most_of_run)


def _facts(source: Source) -> list[tuple[str, str]]:
    """The overview: how much there is, and how it ended."""
    runs = source.runs
    states = Counter(run.status for run in runs)
    times = [run.created_at for run in runs]
    spent = sum(run.results.get("wall_s", 0.0) for run in runs)
    facts = [
        ("runs", f"{len(runs):,}"),
        ("tasks", str(len({run.task for run in runs}))),
        ("optimizers", str(len({run.optimizer for run in runs}))),
    ]
    if source.searches:
        facts.append(("sweeps", str(len({s.sweep_id for s in source.searches}))))
    facts += [(state, f"{states[state]:,}") for state in ("diverged", "failed", "interrupted", "running")]
    facts = [fact for fact in facts if fact[1] != "0" or fact[0] == "diverged"]
    if spent:
        facts.append(("training time", duration(spent)))
    if times:
        first, last = f"{min(times):%Y-%m-%d}", f"{max(times):%Y-%m-%d}"
        facts.append(("trained", first if first == last else f"{first} to {last}"))
    return facts


def source_of(
    reading: Reading, searches: Sequence[Search], read: lines.Reader, *, commands: Mapping[int, str],
    metric: Sequence[str] = (), database: str = "", command: str = "", differences: str = "",
) -> Source:  # fmt: skip
    """What the page of some runs is made from.

    Args:
        metric: results for the tables' columns; by default what each section has.
        commands: see `Source`, as are database, command and differences.
    """
    selection = reading.quoted()
    return Source(
        runs=reading.runs,
        selection=selection,
        searches=searches,
        commands=commands,
        read=read,
        known=reading.known,
        database=database,
        version=__version__,
        made_at=datetime.now(UTC),
        columns=[Column.of(name, reading.known) for name in metric],
        pruned=reading.pruned,
        command=command,
        notes=_left_out(reading, selection),
        differences=differences,
    )


def _left_out(reading: Reading, selection: Selection) -> list[str]:
    """What the tables leave out, as `vr report` says it beside every other format."""
    notes = stopped_early(reading)
    if left := reading.unfinished:
        notes.append(f"{counted(len(left), 'run')} still running, failed or interrupted: not in the tables")
    if selection.searched:
        notes.append(
            f"{counted(selection.searched, 'run')} of sweeps' trials: not in the tables, but under their sweep"
        )
    if selection.on_search_seed:
        text = "some rows show the best trial of a sweep on the search's own seed"
        notes.append(f"{text}: the best of many is optimistic, fresh seeds (--confirm-seeds) are not")
    return notes


def runs_grid(runs: Sequence[PageRun]) -> Grid:
    """Every run in one line."""
    tagged, many = any(run.tag for run in runs), len({run.preset for run in runs}) > 1
    heads = [Head("id", True), Head("name"), Head("started"), Head("task"), Head("data")]
    heads += [Head("preset")] if many else []
    heads += [Head("optimizer"), Head("settings"), Head("seed", True), Head("status")]
    heads += [Head("best val", True), Head("test", True), Head("time", True)]
    heads += [Head("tag")] if tagged else []
    found = []
    for run, text in zip(runs, settings_texts(runs), strict=True):
        best, tested = run.results.get(run.objective, math.nan), test_value(run)
        wall = run.results.get("wall_s", math.nan)
        line = [Data(str(run.id), key=run.id), Data(run.name)]
        line += [Data(f"{run.created_at:%Y-%m-%d %H:%M}", key=run.created_at.timestamp())]
        line += [Data(run.task), Data(run.dataset or "-")] + ([Data(run.preset or "-")] if many else [])
        line += [Data(run.optimizer), Data(text), Data("-" if run.seed is None else str(run.seed), key=run.seed)]
        line += [Data(run.status), _number(best), _number(math.nan if tested is None else tested)]
        line += [Data(duration(wall), key=wall if math.isfinite(wall) else None)]
        found.append(line + ([Data(run.tag or "")] if tagged else []))
    return Grid(heads, found)


def _number(value: float) -> Data:
    return Data(number(value), key=value) if math.isfinite(value) else Data("-")


def _details(run: PageRun, work: _Work) -> dict[str, Any]:
    """A run in full; it is shown as text when asked for."""
    spec = dict(run.spec)
    parts: dict[str, Any] = defaultdict(dict)
    for key, value in spec.items():
        if isinstance(value, Mapping):
            parts[key.removesuffix("_settings")] = dict(value)
        else:
            parts["run"][key] = value
    about = {"id": run.id, "name": run.name, "status": run.status, "started": f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC"}
    about |= {"host": run.host, "spec": run.spec_id, "tag": run.tag, "group": run.group, "sweep": run.sweep_id}
    parts["run"] = {**about, **parts["run"]}
    return {
        "title": f"run {run.id} · {run.name} · {run.optimizer}",
        "error": run.error,
        "command": work.source.commands.get(run.id, ""),
        "settings": {name: values for name, values in parts.items() if values},
        "results": {name: _result(value) for name, value in sorted(run.results.items())},
        "provenance": dict(run.provenance),
        "curves": work.own_curves.get(run.id, []),
        "diverged": run.status == "diverged",
    }


def _result(value: float) -> str:
    """A result in full: whole numbers without decimals."""
    return f"{value:,.0f}" if math.isfinite(value) and value == int(value) else number(value, 6)
