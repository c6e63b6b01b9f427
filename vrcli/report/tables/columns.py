"""The columns of a table that are neither results nor settings, each declared whole: heading, text and raw values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vrcli.report.wording import settings
from vrcli.results.types import Row, Section, Table, data_name, same_name_other_data


@dataclass(frozen=True)
class View:
    """A table as it is printed.

    Args:
        names: of all its columns.
        rounded: settings that a search chose have as many digits as mean something.
    """

    table: Table
    names: Sequence[str]
    rounded: bool = False

    @cached_property
    def ambiguous(self) -> set[tuple[str, str]]:
        """Tasks and data sets of which there are several contents."""
        return same_name_other_data([row.section for row in self.table.rows])

    @cached_property
    def unequal(self) -> frozenset[Section]:
        """Sections whose rows had different budgets."""
        return self.table.unequal_budgets

    def label(self, row: Row) -> str:
        """The task with the data set and preset that have no column of their own."""
        data = "" if "dataset" in self.names and not self.ambiguous else data_name(row.section, self.ambiguous)
        preset = "" if "preset" in self.names or self.table.common_preset else row.preset
        about = ", ".join(part for part in (data, preset) if part)
        return f"{row.task} ({about})" if about else row.task

    def is_best(self, row: Row) -> bool:
        """Whether a row is the best by the first result, which is shown."""
        columns = self.table.columns
        first = columns[0].key if columns and columns[0].key in self.names else ""
        return bool(first) and row.cells[first].best


@dataclass(frozen=True)
class Field:
    """One column.

    Args:
        text: of a row.
        raw: values by name for csv and json, where they are not the attribute of the row that has the column's name.
        numeric: aligned to the right, and after the results where every column is shown.
        once: only in the first row of a section.
        bold: whether the best row stands out in it.
        usual: whether it says something about these rows; False for one that must be asked for.
    """

    text: Callable[[Row, View], str]
    raw: Callable[[Row], Mapping[str, Any]] | None = None
    numeric: bool = False
    once: bool = False
    bold: bool = False
    usual: Callable[[Table], bool] = lambda table: False


#: By name, in the order in which all of them stand.
COLUMNS: dict[str, Field] = {
    "task": Field(lambda row, view: view.label(row), once=True, usual=lambda table: True),
    "dataset": Field(lambda row, view: row.dataset, once=True),
    "preset": Field(lambda row, view: row.preset, once=True),
    "optimizer": Field(lambda row, view: row.optimizer, bold=True, usual=lambda table: True),
    "settings": Field(
        lambda row, view: settings(dict(row.shown), searched=row.axes if view.rounded else ()),
        raw=lambda row: {"settings": settings(dict(row.shown))},
        usual=lambda table: any(row.shown for row in table.rows),
    ),
    "n": Field(lambda row, view: count(row), numeric=True, usual=lambda table: True),
    "diverged": Field(
        lambda row, view: f"{row.diverged}/{row.n}",
        numeric=True,
        usual=lambda table: any(row.diverged for row in table.rows),
    ),
    "budget": Field(
        lambda row, view: budget(row) + _budget_marks(row, view.unequal),
        raw=lambda row: {
            "searches": row.searches,
            "trials": row.trials,
            "reranked": row.reranked,
            "epochs": row.epochs,
            "max_steps": row.max_steps,
            "until": row.until,
        },
        numeric=True,
        usual=lambda table: True,
    ),
}


def cells(name: str, view: View) -> list[tuple[str, bool]]:
    """A column's text by row, and whether it is bold."""
    column, found, previous = COLUMNS[name], [], None
    for row in view.table.rows:
        text = "" if column.once and row.section == previous else column.text(row, view)
        found.append((text, column.bold and view.is_best(row)))
        previous = row.section
    return found


def raw(row: Row, name: str) -> Mapping[str, Any]:
    """A column's values for csv and json by their names."""
    own = COLUMNS[name].raw
    return own(row) if own is not None else {name: getattr(row, name)}


def in_order(results: Sequence[str], wanted: Callable[[Field], bool] = lambda column: True) -> list[str]:
    """Names of columns with the results between those of text and those of numbers."""
    names = [name for name, column in COLUMNS.items() if wanted(column)]
    text = [name for name in names if not COLUMNS[name].numeric]
    return [*text, *results, *(name for name in names if COLUMNS[name].numeric)]


def count(row: Row) -> str:
    """ "3" runs, "5 x 3" searches x runs of each, "5 x 2-3" where they have not as many."""
    if not row.per_search:
        return str(row.n)
    least, most = min(row.per_search), max(row.per_search)
    return f"{row.searches} x {least}" + (f"-{most}" if most > least else "")


def budget(row: Row) -> str:
    """ "20 x 30": trials x epochs; "5 x 8 x gradients:2000": searches x trials x what ended each run.

    "5 x (8 + 9) x 30" where 9 more runs of each search ranked its best trials again.
    """
    trials = f"({row.trials} + {row.reranked})" if row.reranked else str(row.trials)
    text = f"{trials} x {row.end}"
    return f"{row.searches} x {text}" if row.per_search else text


def _budget_marks(row: Row, unequal: frozenset[Section]) -> str:
    return (" ¶" if row.pruned else "") + searched_mark(row) + (" §" if row.section in unequal else "")


def searched_mark(row: Row) -> str:
    """What stands beside a trial on the seed that its settings were chosen by, wherever it is shown."""
    return " ‖" if row.searched else ""
