"""What can be asked of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import get_args

from vrcli.errors import UsageError, nearest
from vrcli.results.types import Spread

#: What is said where there is nothing to show.
EMPTY = "no finished runs yet; start with: vr run cnn --opt vradam"
#: The column that stands for every column.
ALL = "all"


@dataclass(frozen=True)
class TableOptions:
    """What the table is to look like.

    Args:
        metric: results to show; the first orders the rows.
        columns: what to print; with pivot or rows, the one thing that columns are.
        pivot: results to lay out by rows and columns.
        trials: also every trial of a search.
        best: one row per optimizer.
        names: what optimizers are called, "vradam=VRAdam".
        caption: makes a LaTeX table a float with this caption.
        label: the float's label.

    Raises:
        UsageError: names the option that is to blame.
    """

    metric: Sequence[str] = ()
    columns: Sequence[str] = ()
    pivot: Sequence[str] = ()
    rows: str | None = None
    group_by: Sequence[str] = ()
    sort: str | None = None
    spread: str = "ci"
    level: float = 0.95
    trials: bool = False
    best: bool = False
    names: Sequence[str] = ()
    caption: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        for name in ("columns", "pivot", "group_by", "names"):
            object.__setattr__(self, name, _names("--" + name.replace("_", "-"), getattr(self, name)))
        for flag, text in (("--sort", self.sort), ("--rows", self.rows)):
            _names(flag, [] if text is None else [text.lstrip(" -")])
        known = get_args(Spread)
        if self.spread not in known:
            raise UsageError(f"--spread {self.spread} is not one of {', '.join(known)}{nearest(self.spread, known)}")
        if not 0 < self.level < 1:
            raise UsageError(f"--level must be between 0 and 1, got {self.level:g}")
        if self.is_pivot and len(self.columns) > 1:
            raise UsageError("--columns names one thing with --pivot: task, dataset, preset, optimizer or a setting")
        if self.is_pivot and self.group_by:
            raise UsageError("--group-by pools settings, --pivot shows the best of them; leave one of them out")
        if self.is_pivot and self.best:
            raise UsageError("--best: --pivot shows the best settings in each cell anyway; leave one of them out")

        for text in self.names:
            if not all(text.partition("=")[::2]):
                raise UsageError(f"--names {text} must be optimizer=name, as in vradam=VRAdam")

    @property
    def renamed(self) -> dict[str, str]:
        """What to call an optimizer, by its name."""
        return {text.partition("=")[0].strip(): text.partition("=")[2].strip() for text in self.names}

    @property
    def is_pivot(self) -> bool:
        """Whether it is laid out by rows and columns."""
        return bool(self.pivot or self.rows)

    @property
    def is_usual(self) -> bool:
        """Whether nothing but the usual results was asked for."""
        return not (self.metric or self.columns or self.group_by or self.sort or self.is_pivot)

    @property
    def sorted_by(self) -> str:
        """What rows are ordered by, in whichever direction; empty for the usual order."""
        return (self.sort or "").removeprefix("-")

    def refuse_on_page(self) -> None:
        """Refuse what would have no effect on the page, which lays out tables of its own.

        Raises:
            UsageError: names the option that is to blame.
        """
        for field in fields(TableOptions):
            if field.name != "metric" and getattr(self, field.name) not in (field.default, []):
                flag = "--" + field.name.replace("_", "-")
                raise UsageError(
                    f"{flag} does not change the page; leave it out, or write the table: --format unsafehtml"
                )


def _names(flag: str, given: Sequence[str]) -> list[str]:
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if given and not names:
        raise UsageError(f"{flag} names nothing; vr report --help says what it takes")
    return names
