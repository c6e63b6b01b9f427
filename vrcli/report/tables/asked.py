"""The table of `vr report`: from what was asked for to text, and what is said beside it."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from vrcli.errors import UsageError, nearest
from vrcli.report.tables import pivot as pivoting
from vrcli.report.tables.columns import COLUMNS
from vrcli.report.tables.layout import WIDTH, Printed, every_name, fit, printed, show
from vrcli.report.tables.notes import hidden_searches, stopped_early, texts
from vrcli.report.tables.options import ALL, EMPTY, TableOptions
from vrcli.report.tables.render import DATA, LAID_OUT, floating, render
from vrcli.report.wording import counted
from vrcli.results.groups import group_runs
from vrcli.results.reading import Reading
from vrcli.results.selection import Selection
from vrcli.results.summary import SORTS, default_columns, selector, summarise
from vrcli.results.types import Column, Spread, Table


def _known(flag: str, names: Iterable[str], known: set[str], what: str) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=5, cutoff=0.3) or sorted(known)[:5]
            left = len(known) - len(near)
            hint = nearest(name, known) or f"; known: {', '.join(near)}{f' and {left} more' if left else ''}"
            raise UsageError(f"{flag} {name} is not {'an' if what[0] in 'aeiou' else 'a'} {what} of these runs{hint}")


def table_text(
    reading: Reading, options: TableOptions, format: str, *, whole: bool = False, width: int | None = None
) -> tuple[str, list[str]]:
    """The output, and what must be said beside it.

    Args:
        whole: leave no column out to fit a line, as for a file.
        width: of the lines; None for what suits a file or a pipe.

    Raises:
        UsageError: an option names what no run has.
    """
    if (options.caption or options.label) and not (format.startswith("latex") and format != "latex_longtable"):
        flag = "--caption" if options.caption else "--label"
        raise UsageError(f"{flag} belongs to a LaTeX table: --format latex_booktabs, latex or latex_raw")
    request, notices = _request(reading, options)
    if request is None:
        return render(Table((), ()), format).rstrip("\n") + "\n" if format in DATA else "", notices
    if options.is_pivot:
        text, more = request.pivoted(format)
    else:
        text, more = request.plain(format, narrow=not whole and format in LAID_OUT, width=width)
    if options.caption or options.label:
        text = floating(text, options.caption, options.label)
    return text.rstrip("\n") + "\n", notices + more


def table_columns(reading: Reading, options: TableOptions) -> tuple[Shown | None, list[str]]:
    """The columns of the table, for whoever lays them out, and what must be said beside it.

    Raises:
        UsageError: an option names what no run has.
    """
    request, notices = _request(reading, options)
    return None if request is None else request.shown(), notices


@dataclass(frozen=True)
class Shown:
    """A table as columns of text.

    Args:
        results: headings of the results, in order.
    """

    columns: Sequence[Printed]
    results: Sequence[str]
    made_of: Table | pivoting.Pivot

    def notes(self, titles: Collection[str]) -> Sequence[str]:
        """What stands below it where these columns are shown."""
        if isinstance(self.made_of, pivoting.Pivot):
            return self.made_of.notes
        return texts(show(self.made_of, [one.name for one in self.columns if one.title in titles]))


def _request(reading: Reading, options: TableOptions) -> tuple[_Request | None, list[str]]:
    """What the table is made from, None where there is nothing to show; and what must be said beside it."""
    notices = [*unfinished(reading), *hidden_searches(reading)]
    if not reading.finished:
        return None, [*notices, EMPTY]
    selection, repeated = reading.quoted(every_trial=options.trials), reading.repeated
    if repeated:
        notices.append(f"{counted(repeated, 'run')} with a trial's settings and seed: the table counts no trial twice")
    if not selection.runs:
        left = counted(len(reading.finished), "run")
        return None, [*notices, f"nothing is left to show: {left} of sweeps' trials"]
    if selection.searched > repeated:
        trials = counted(selection.searched - repeated, "run")
        notices.append(f"{trials} of sweeps' trials: not in the table (--trials shows them)")
    if selection.on_search_seed:
        notices.append(
            "some rows show a sweep's best trial on the seed that chose it (optimistic): add --confirm-seeds N"
        )
    return _Request(reading, selection, options), notices


def unfinished(reading: Reading) -> list[str]:
    """What is said of the runs that are in no table."""
    left = Counter(run.status for run in reading.unfinished)
    said = stopped_early(reading)
    if left:
        said.append(", ".join(f"{n} {status}" for status, n in left.items()) + ": runs that are not in the table")
    return said


@dataclass(frozen=True)
class _Request:
    """The runs of a table, and what it is to look like."""

    reading: Reading
    selection: Selection
    options: TableOptions

    def plain(self, format: str, *, narrow: bool, width: int | None) -> tuple[str, list[str]]:
        """Rows of settings; where it is to be narrow, without what does not fit a line."""
        options, notices, table = self.options, [], self._table(data=format in DATA)
        if not options.columns and narrow and not options.metric:
            table, dropped = fit(table, width)
            if dropped:
                most = f"to keep to {width or WIDTH} columns"
                notices.append(f"not shown, {most}: {', '.join(dropped)} (--columns all shows everything)")
        return render(table, format), notices + (texts(table) if format in ("tsv", "csv") else [])

    def shown(self) -> Shown:
        """What is shown, as columns."""
        if not self.options.is_pivot:
            table = self._table()
            own = printed(table, rounded=True)
            return Shown(own, [one.title for one in own if one.name in {c.key for c in table.columns}], table)
        found = self._pivot()
        heads, lines = pivoting.cells(found)
        cells = zip(*lines, strict=True)
        columns = [Printed(title, title, side, own) for (title, side), own in zip(heads, cells, strict=True)]
        return Shown(columns, [one.title for one in columns if one.side == "right"], found)

    def _table(self, *, data: bool = False) -> Table:
        """Rows of settings with the columns that were asked for.

        Args:
            data: for a format of raw numbers.
        """
        options, columns = self.options, self._asked()
        if options.best:
            _choosable("--best", selector(columns, self.selection.runs, self.reading.known))
        table = self._summarised(columns)
        self._check_sorted(table)
        if not options.columns:
            return table
        names = [own for name in options.columns for own in (every_name(table) if name == ALL else [name])]
        names = list(dict.fromkeys([*names, *options.metric]))
        # What has every number has every note as well.
        return replace(table, shown=tuple(names)) if data else show(table, names)

    def pivoted(self, format: str) -> tuple[str, list[str]]:
        """One result by rows and columns."""
        found = self._pivot()
        return pivoting.render(found, format), list(found.notes) if format in ("tsv", "csv") else []

    def _pivot(self) -> pivoting.Pivot:
        options, runs, known = self.options, self.selection.runs, self.reading.known
        rows, columns = self._axes()
        default = default_columns(runs, known)[0]
        metrics = self._columns([*options.pivot, *options.metric] or [default.key])
        chosen_by = selector(metrics, runs, known)
        if chosen_by.direction is None:
            chosen_by = selector((), runs, known)
        table = self._summarised(list(dict.fromkeys([*metrics, chosen_by])))
        if options.sort:
            _known("--sort", [options.sorted_by], pivoting.sorts(table, metrics, rows=rows, columns=columns),
                   "row or result")  # fmt: skip
        try:
            return pivoting.pivot(table, metrics, rows=rows, columns=columns, chosen_by=chosen_by, sort=options.sort)
        except ValueError:
            _choosable("--pivot", chosen_by)
            raise

    def _summarised(self, columns: Sequence[Column]) -> Table:
        options, plain = self.options, not self.options.is_pivot
        found = summarise(
            self.selection.runs, columns, trials=self.selection.trials, pruned=self.reading.pruned,
            reranked=self.selection.reranked, known=self.reading.known,
            one_per_optimizer=options.best, across=options.is_pivot,
            group_by=options.group_by, sort=options.sort if plain else None, level=options.level,
            spread=cast(Spread, options.spread),
        )  # fmt: skip
        renamed = options.renamed
        _known("--names", renamed, {row.optimizer for row in found.rows}, "optimizer")
        rows = tuple(replace(row, optimizer=renamed.get(row.optimizer, row.optimizer)) for row in found.rows)
        return replace(found, rows=rows)

    def _asked(self) -> list[Column]:
        """The results that the plain table is about, the first of which orders it; refuses names that no run has."""
        options = self.options
        results, settings = self._vocabulary()
        columns = [name for name in options.columns if name != ALL]
        _known("--columns", columns, {*COLUMNS, *results, *settings, ALL}, "column")
        _known("--group-by", options.group_by, settings, "setting")
        if options.sort:
            _known("--sort", [options.sorted_by], {*SORTS, *results, *settings}, "column")
        names = [*options.metric, *(name for name in columns if name in results)]
        if ALL in options.columns:
            names += [column.key for column in default_columns(self.selection.runs, self.reading.known)]
            names += sorted(results)
        return self._columns(names, exact=bool(options.columns))

    def _axes(self) -> tuple[str, str]:
        """What rows and columns are; refuses names that no run has."""
        options = self.options
        results, settings = self._vocabulary()
        rows = options.rows or ("optimizer" if list(options.columns) != ["optimizer"] else "task")
        columns = options.columns[0] if options.columns else ("task" if rows != "task" else "optimizer")
        _known("--pivot", options.pivot, results, "result")
        _known("--rows", [rows], {*pivoting.FIELDS, *settings}, "row")
        _known("--columns", [columns], {*pivoting.FIELDS, *settings}, "column")
        if rows == columns:
            raise UsageError(f"--rows and --columns are both {rows}; one of them must be another")
        return rows, columns

    def _vocabulary(self) -> tuple[set[str], set[str]]:
        """Names of the results and of the settings that the runs have; settings only where one may be meant."""
        options, runs = self.options, self.selection.runs
        results = {name for run in runs for name in run.results}
        asked = {*options.columns, *options.group_by, options.rows or "", options.sorted_by} - {""}
        if not options.group_by and not options.is_pivot and asked <= results:
            return results, set()
        return results, {name for group in group_runs(runs) for name in group.settings}

    def _columns(self, names: Sequence[str], *, exact: bool = False) -> list[Column]:
        """The results to show, by their names."""
        runs, known = self.selection.runs, self.reading.known
        _known("--metric", names, {name for run in runs for name in run.results}, "result")
        wanted = [Column.of(name, known) for name in dict.fromkeys(names)]
        return wanted or default_columns(runs, known)[: 1 if exact else None]

    def _check_sorted(self, table: Table) -> None:
        """Refuse to order rows by a setting that they were pooled over."""
        name = self.options.sorted_by
        if name in SORTS or any(name in row.cells for row in table.rows):
            return
        if any(name in row.varying for row in table.rows):
            raise UsageError(f"--sort {name}: --group-by pools runs that differ in it; leave one of them out")


def _choosable(flag: str, by: Column) -> None:
    if by.direction is None:
        raise UsageError(
            f"{flag}: whether less or more {by.key} is better is not known; choose by another result on validation "
            "with --metric"
        )
