"""Tables, lines and next steps as a person sees them: fitted to a terminal, in a pipe the plain text.

No line of a table is longer than the terminal is wide and no word is broken. What does not fit is left out column by
column, the least important first, and a line below the table says which.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vrcli.cli.console import folded, out, say
from vrcli.passwords import masked_line
from vrcli.report.study.blocks import Block, Command, Next, Rows, Step, Strong
from vrcli.report.tables.grid import grid
from vrcli.visible import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vrcli.db.location import Location

#: Between two columns.
GAP = 2
#: A column of words is not made narrower than this while another can be left out.
WORDS = 20
#: Colours that a light and a dark terminal both show; whoever sees none reads the same word.
STYLES = {
    "diverged": "red", "failed": "red", "interrupted": "magenta", "not answering": "magenta", "stopped": "magenta",
    "running": "cyan",
}  # fmt: skip
#: Whether a word of the shell ends here: spaces inside quotes are part of it.
_SHELL_WORD = re.compile(r"(?:[^\s']|'[^']*')+")


def is_terminal() -> bool:
    """Whether a person reads stdout."""
    return out().is_terminal


def terminal_width() -> int | None:
    """Columns of the terminal on stdout; None where there is none, and lines may have any length."""
    console = out()
    return console.width if console.is_terminal else None


def show(blocks: Iterable[Block], *, database: Location | None = None, argv: Sequence[str] = ()) -> None:
    """Print an outcome.

    Args:
        database: that next steps are about.
        argv: the command that was given, which next steps may repeat.
    """
    for block in blocks:
        match block:
            case Rows():
                show_rows(block)
            case Next():
                show_next(block.steps, database=database, argv=argv, apart=False)
            case Command():
                show_command(block)
            case _:
                say(block, prose=True, style="bold" if isinstance(block, Strong) else None)


# -- tables -----------------------------------------------------------------------------------------------------------


def show_rows(rows: Rows, *, to: Console | None = None, more: str = "--format json shows all") -> Collection[str]:
    """Print a table.

    Args:
        more: how to see columns that were left out, beside a wider terminal.

    Returns:
        the columns that are shown.
    """
    console = to or out()
    if not console.is_terminal:
        for line in grid(rows.columns, rows.rows, right=rows.right):
            say(line, to=console)
        return rows.columns
    fitted = fit(rows, console.width)
    console.print(_table(rows, fitted))
    if any(rows.best.values()):
        say(f"* {rows.mark}", to=console, prose=True)
    if fitted.same:
        said = " · ".join(f"{name} {text}" for name, text in fitted.same.items())
        say(f"{'all rows: ' if len(rows.rows) > 1 else ''}{said}", to=console, prose=True)
    if fitted.left_out:
        say(f"left out: {', '.join(fitted.left_out)} (a wider terminal or {more})", to=console, prose=True)
    return fitted.widths.keys()


@dataclass(frozen=True)
class Fitted:
    """A table as far as a terminal has room for it.

    Args:
        widths: of the columns that are shown, in characters.
        same: columns that have one text in all rows, and need no column for it.
        left_out: the other columns that there is no room for.
    """

    widths: Mapping[str, int]
    same: Mapping[str, str]
    left_out: Sequence[str]


def fit(rows: Rows, width: int) -> Fitted:
    """Which columns are shown, and how wide they are.

    Args:
        width: of the terminal, in characters.
    """
    from rich.cells import cell_len

    texts = {name: _texts(rows, name) for name in rows.columns}
    full = {name: max(map(cell_len, [name, *own])) for name, own in texts.items()}
    low = {name: _narrowest(name, texts[name], name in rows.wrap, width) for name in rows.columns}
    shown, gone = list(rows.columns), []
    same = [name for name in rows.least if len({*texts[name]} - {""}) == 1 and texts[name][0]]
    last = [name for name in rows.columns[:0:-1] if name not in (*rows.least, *rows.wrap)]
    leaving = iter([*same, *(name for name in rows.least if name not in same), *last])
    if _total(full, shown) > width:
        while _total(low, shown) > width and (name := next(leaving, "")):
            shown.remove(name)
            gone.append(name)
    widths = _shared(low, [name for name in shown if name in rows.wrap], _total(low, shown) - width)
    left = max(0, width - _total(widths, shown))
    for name in sorted(shown, key=lambda name: name not in rows.wrap):
        more = min(left, full[name] - widths[name])
        widths[name] += more
        left -= more
    told = {name: texts[name][0] for name in rows.columns if name in gone and name in same and texts[name][0] != "-"}
    left_out = [name for name in rows.columns if name in gone and name not in same]
    return Fitted({name: widths[name] for name in shown}, told, left_out)


def _shared(low: Mapping[str, int], names: Sequence[str], over: int) -> dict[str, int]:
    """The widths with columns of words made narrower where there is no room even for their longest words."""
    widths = dict(low)
    for _ in range(max(0, over)):
        widest = max(names, key=lambda name: widths[name], default=None)
        if widest is not None and widths[widest] > len("settings"):
            widths[widest] -= 1
    return widths


def _total(widths: Mapping[str, int], names: Sequence[str]) -> int:
    return sum(widths[name] for name in names) + GAP * (len(names) - 1)


def _narrowest(name: str, texts: Sequence[str], wraps: bool, width: int) -> int:
    """How narrow a column can be without breaking a word; a word that needs half a line has to break."""
    from rich.cells import cell_len

    heading = max(map(cell_len, name.split()), default=0)
    whole = max(map(cell_len, texts), default=0)
    if not wraps:
        return max(heading, whole)
    longest = max((cell_len(word) for text in texts for word in text.split()), default=0)
    return max(heading, min(max(longest, min(whole, WORDS)), width // 2))


def _texts(rows: Rows, name: str) -> list[str]:
    """The cells of a column, with a sign behind the best ones."""
    found = ["" if row.get(name) is None else visible(str(row[name])) for row in rows.rows]
    best = rows.best.get(name)
    return [f"{text}{'*' if place in best else ' '}" for place, text in enumerate(found)] if best else found


def _table(rows: Rows, fitted: Fitted) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for name, width in fitted.widths.items():
        side: Any = "right" if name in rows.right else "left"
        table.add_column(Text(name), justify=side, width=width, overflow="fold")
    for place, texts in enumerate(zip(*(_texts(rows, name) for name in fitted.widths), strict=True)):
        styles = ("bold" if place in rows.best.get(name, ()) else STYLES.get(text, "")
                  for name, text in zip(fitted.widths, texts, strict=True))  # fmt: skip
        table.add_row(*(Text(text, style=style) for text, style in zip(texts, styles, strict=True)))
    return table


# -- lines ------------------------------------------------------------------------------------------------------------


def facts(pairs: Iterable[tuple[str, str]], *, indent: int = 2, width: int = 10) -> None:
    """Print names with what is to be known of them; on a terminal long lines go on below their beginning."""
    for name, text in pairs:
        hanging(f"{' ' * indent}{name:{width}} {text}", indent + width + 1)


def hanging(line: str, indent: int) -> None:
    """Print a line; on a terminal one that is too long goes on below, indented, and no word is broken."""
    console = out()
    for part in folded(visible(line), console.width, indent) if console.is_terminal else [line]:
        say(part, to=console)


def show_next(
    steps: Sequence[Step | tuple[str, str]],
    *,
    database: Location | None = None,
    argv: Sequence[str] = (),
    to: Console | None = None,
    apart: bool = True,
) -> None:
    """Print commands to go on with: one to a line, and each with a few words.

    Args:
        apart: on a terminal an empty line stands before them.
        database: that they are about; one that they would not find by themselves is named in them.
        argv: the command that was given, the program first, to which some of them add options.
    """
    console = to or out()
    told = [
        Step(masked_line(_whole(step, argv)) + _database_option(step, database), step.why)
        for step in (Step(*s) for s in steps)
    ]
    if not told:
        return
    found = Next(told)
    if not console.is_terminal:
        for line in found.lines:
            say(line, to=console)
        return
    if max(map(len, found.lines)) <= console.width:
        shown = found.lines
    else:
        shown = []
        for i, step in enumerate(told):
            parts = command_lines(step.command, console.width - 6)
            shown += [f"{'' if i or k else 'next':6}{line}" for k, line in enumerate(parts)]
            shown += folded(f"{'':10}{step.why}", console.width, 10)
    for line in ["", *shown] if apart else shown:
        say(line, to=console)


def suggest(*steps: tuple[str, str], database: Location | None = None) -> None:
    """`show_next` where a person reads stdout; programs do not go on by hand."""
    if is_terminal():
        show_next(steps, database=database)


def _whole(step: Step, argv: Sequence[str]) -> str:
    """The command of a step, with all words of the one that was given where it adds to that."""
    from vrcli.report.wording import command

    if not (step.options and argv):
        return step.text
    new = step.options.split()
    flags, kept, words = {word for word in new if word.startswith("--")}, [], iter(argv)
    for word in words:
        if word in flags:
            follows = new[new.index(word) + 1 : new.index(word) + 2]
            if follows and not follows[0].startswith("--"):
                next(words, "")
        elif word.partition("=")[0] not in flags:
            kept.append(word)
    return command([*kept, *new])


def _database_option(step: Step, database: Location | None) -> str:
    """What names the database in a command that would take another one."""
    return "" if database is None or step.options else database.option


def show_command(command: str) -> None:
    """Print a command to copy, on a line of its own or on several that a shell takes as one."""
    console = out()
    for line in command_lines(command, console.width - 2) if console.is_terminal else [command]:
        say(f"  {line}", to=console)


def _kept_together(words: Iterable[str]) -> list[str]:
    """Words of a command, an option with what follows it."""
    kept: list[str] = []
    for word in words:
        if kept and kept[-1].startswith("-") and " " not in kept[-1] and "=" not in kept[-1] and word[0] != "-":
            kept[-1] += f" {word}"
        else:
            kept.append(word)
    return kept


def command_lines(command: str, width: int) -> list[str]:
    """A command in lines that fit a width and can be copied together."""
    lines: list[str] = []
    for word in _kept_together(_SHELL_WORD.findall(command)):
        if lines and len(lines[-1]) + len(word) + 3 <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}" if lines else word)
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]
