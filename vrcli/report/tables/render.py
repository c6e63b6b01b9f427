"""A table in any format: laid out by `tabulate`, or as csv, tsv and json with the raw numbers."""

from __future__ import annotations

import html
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import tabulate

from vrcli.errors import UsageError, nearest
from vrcli.output import CsvWriter, finite
from vrcli.report.tables.columns import COLUMNS, raw
from vrcli.report.tables.layout import printed
from vrcli.report.tables.notes import notes, texts
from vrcli.report.wording import MINUS
from vrcli.results.types import Cell, Row, Several, Table
from vrcli.visible import visible, visible_json

#: Formats of raw numbers.
DATA = ("csv", "tsv", "json")
#: Formats whose lines are read as they are, so that they may be fitted to a terminal.
LAID_OUT = ("text", "plain", "grid", "markdown", "github", "pipe", "rst")
#: Formats by the ending of the file, where none is named.
ENDINGS = {
    ".html": "html", ".htm": "html", ".md": "markdown", ".tex": "latex_booktabs", ".csv": "csv", ".tsv": "tsv",
    ".json": "json", ".txt": "text", ".rst": "rst",
}  # fmt: skip
#: How the names of the formats begin that a file of such an ending may hold; other endings are text of any kind.
KINDS: dict[str | None, tuple[str, ...]] = {
    "html": ("html", "unsafehtml"), "latex_booktabs": ("latex",), "csv": ("csv",), "tsv": ("tsv",), "json": ("json",),
}  # fmt: skip

#: Headings with their alignment, and the rows as (text, bold) cells.
Cells: TypeAlias = tuple[list[tuple[str, str]], list[list[tuple[str, bool]]]]


def formats() -> list[str]:
    """Every accepted format name."""
    return sorted({*DATA, *STYLES})


def format_of(name: str | None, output: Path | None = None) -> str:
    """The format that was asked for, or that the file's ending means; markdown where nothing says one.

    Raises:
        UsageError: there is no such format, or the file has the ending of another.
    """
    if name is not None and name not in formats():
        raise UsageError(f"--format {name} is not one of {', '.join(formats())}{nearest(name, formats())}")
    ending = output.suffix.lower() if output is not None else ""
    usual = ENDINGS.get(ending)
    if name is None and ending and usual is None:
        raise UsageError(f"--output {output}: tables end in {', '.join(ENDINGS)}; another ending needs a --format")
    if name is not None and usual in KINDS and not name.startswith(KINDS[usual]):
        raise UsageError(f"--output {output} would hold {name}; leave out --format, or name another ending")
    return name or usual or "markdown"


def render(table: Table, format: str) -> str:
    """The table as text, with its footnotes where the format has room for them.

    Args:
        format: one of `formats()`.

    Raises:
        ValueError: an unknown format.
    """
    if format == "json":
        return to_json(table)
    if format in ("csv", "tsv"):
        return to_csv(table, "\t" if format == "tsv" else ",")
    return lay_out(cells(table), texts(table), format)


def cells(table: Table) -> Cells:
    """What every format writes."""
    columns = printed(table)
    heads = [(column.title, column.side) for column in columns]
    return heads, [list(line) for line in zip(*(column.cells for column in columns), strict=True)]


def lay_out(found: Cells, notes: Sequence[str], format: str) -> str:
    """Cells and footnotes in one of the formats that are laid out.

    Raises:
        ValueError: an unknown format.
    """
    if format not in STYLES:
        raise ValueError(f"unknown table format {format!r}")
    style, markup = STYLES[format]
    columns, lines = found
    body = [[_cell(text, bold, markup) for text, bold in line] for line in lines]
    headers = [markup.escape(_clean(title)) for title, _ in columns]
    align = [side for _, side in columns]
    with _tight():
        # tabulate ignores alignments given without a row to align
        text = tabulate.tabulate(body, headers, tablefmt=style, disable_numparse=True, colalign=align if body else None)
    head = f"% needs \\usepackage{{{PACKAGES[format]}}}\n" if format in PACKAGES else ""
    return head + markup.finish(text, [markup.escape(_clean(note)) for note in notes])


@contextmanager
def _tight() -> Iterator[None]:
    """Columns as narrow as their content: tabulate widens headings by a setting of its module alone."""
    before, tabulate.MIN_PADDING = tabulate.MIN_PADDING, 0
    try:
        yield
    finally:
        tabulate.MIN_PADDING = before


def to_json(table: Table) -> str:
    """Every number in full; a number that does not exist is null, never NaN."""
    rows = []
    for row in table.rows:
        metrics = {column.key: cell_json(row.cells[column.key]) for column in table.columns}
        identity = {key: getattr(row, key) for key in IDENTITY}
        declared = {key: value for name in COLUMNS for key, value in raw(row, name).items()}
        rows.append(
            {
                **identity,
                "settings": dict(row.settings),
                "shown": {name: plain(value) for name, value in row.shown.items()},
                "settings_of_searches": {name: list(values) for name, values in row.ranges.items()},
                "searched_settings": list(row.axes),
                "runs_of_searches": list(row.per_search),
                "seeds": list(row.seeds),
                "runs": list(row.run_ids),
                "pooled_over": dict(row.varying),
                "hardware": list(row.hardware),
                **{key: getattr(row, key) for key in BUDGET},
                **{key: value for key, value in declared.items() if key not in (*IDENTITY, *BUDGET, "settings")},
                "metrics": metrics,
            }
        )
    told = notes(table)
    warnings = [{"kind": note.kind, "text": note.text} for note in told if note.warns]
    body = {"level": table.level, "rows": rows, "notes": [note.text for note in told], "warnings": warnings}
    return visible_json(json.dumps(body, indent=2, allow_nan=False, default=str, ensure_ascii=False))


def plain(value: Any) -> Any:
    """A setting for JSON: of several searches, the value of each."""
    return list(value.values) if isinstance(value, Several) else value


def cell_json(cell: Cell) -> dict[str, Any]:
    """One result of one row in full."""
    found = cell.summary
    return {
        **{key: finite(getattr(found, key)) for key in NUMBERS},
        "n": found.n,
        "diverged": found.diverged,
        "values": [finite(v) for v in found.values],
        "best": cell.best,
        "tied_with_best": cell.tied,
    }


IDENTITY = ("task", "dataset", "fingerprint", "preset", "optimizer")
BUDGET = ("n", "diverged", "searches", "trials", "reranked", "searched", "pruned", "epochs", "max_steps", "until")
NUMBERS = ("mean", "sd", "median", "low", "high")


def to_csv(table: Table, delimiter: str = ",") -> str:
    """One line per row, five numbers per metric; a number that does not exist is an empty field.

    Where columns were asked for, those and no others; a budget is its trials, epochs and steps.
    """
    names = [*IDENTITY, "settings", *BUDGET, *(column.key for column in table.columns)]
    lines = [
        {head: field for name in (names if table.shown is None else table.shown)
         for head, field in _csv_fields(row, name, asked=table.shown is not None).items()}
        for row in table.rows
    ]  # fmt: skip
    out = io.StringIO()
    writer = CsvWriter(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(lines[0] if lines else names)
    for line in lines:
        # Only csv has a way to write a field of several lines.
        plain = delimiter == ","
        writer.writerow([f if plain or not isinstance(f, str) else _clean(f) for f in line.values()])
    return out.getvalue()


def _csv_fields(row: Row, name: str, *, asked: bool) -> Mapping[str, object]:
    """What stands under one column: several numbers of a result, one value of most of anything else."""
    if name in row.cells:
        found = row.cells[name].summary
        return {**{f"{name}_{key}": finite(getattr(found, key)) for key in NUMBERS}, f"{name}_n": found.n}
    if name in COLUMNS:
        return raw(row, name)
    return {name: row.settings.get(name) if asked else getattr(row, name)}


@dataclass(frozen=True)
class Markup:
    """How one family of formats writes bold and special characters, and where its footnotes go.

    Args:
        bold: what stands before and after bold text, None where there is no bold.
        escape: makes any text safe.
        finish: the whole output, from the table and the escaped footnotes.
    """

    bold: tuple[str, str] | None
    escape: Callable[[str], str]
    finish: Callable[[str, list[str]], str]


def _cell(text: str, bold: bool, markup: Markup) -> str:
    safe = markup.escape(_clean(text))
    if not (bold and safe and markup.bold):
        return safe
    return f"{markup.bold[0]}{safe}{markup.bold[1]}"


def _clean(text: str) -> str:
    """One line, with control characters written out, without the private characters used below as stand-ins."""
    return re.sub(r"[\ue000-\uf8ff]+", " ", visible(text))


def _replacing(table: Mapping[str, str]) -> Callable[[str], str]:
    mapping = str.maketrans(dict(table))
    return lambda text: text.translate(mapping)


def _markdown(text: str) -> str:
    safe = re.sub(r"([\\|*`\[\]])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", safe)  # an underscore inside a word is literal on GitHub


def _lines(found: str, notes: list[str]) -> str:
    return "\n".join([found, *notes])


def _paragraphs(found: str, notes: list[str]) -> str:
    """Footnotes after an empty line, each on a line of its own (two spaces end a line in markdown)."""
    return found + ("\n\n" + "  \n".join(notes) if notes else "")


def _html(found: str, notes: list[str]) -> str:
    return "\n".join([found, *(f"<p>{note}</p>" for note in notes)])


#: Stand-ins that pass tabulate's own escaping of LaTeX untouched.
BOLD_ON, BOLD_OFF = "\ue000", "\ue001"
LATEX_SYMBOLS = {
    BOLD_ON: r"\textbf{",
    BOLD_OFF: "}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "§": r"\S{}",
    "¶": r"\P{}",
    "‖": r"$\|$",
    "×": r"$\times$",
    MINUS: "$-$",
    "|": r"\textbar{}",
    # After the end of a row, LaTeX takes both for arguments of the line break.
    "[": "{[}",
    "*": "{*}",
}
#: Formats that LaTeX knows only with a package.
PACKAGES = {"latex_booktabs": "booktabs", "latex_longtable": "longtable"}
#: Combining characters that LaTeX has a command for.
ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0327": "c", "\u030c": "v"}


def _latex(found: str, notes: list[str]) -> str:
    # LaTeX ignores the line ends of the source, so each footnote is a paragraph.
    safe = [_latex_escape(note) for note in notes]
    text = "\n\n".join([found, *(rf"{{\footnotesize {note}}}" for note in safe)])
    text = _replacing(LATEX_SYMBOLS)(text).replace("--", "-{}-")
    return re.sub(r"[^\x00-\x7f]", lambda match: _latex_letter(match[0]), text)


def floating(text: str, caption: str | None, label: str | None) -> str:
    """A LaTeX table as a float, with its footnotes below.

    Args:
        caption: plain text.
        label: what `\\ref` takes, as it is.
    """
    lines = text.strip().splitlines()
    needs = [line for line in lines[:1] if line.startswith("% needs")]
    words = [] if caption is None else [rf"\caption{{{_latex(_latex_escape(_clean(caption)), [])}}}"]
    words += [] if label is None else [rf"\label{{{_clean(label)}}}"]
    return "\n".join([*needs, r"\begin{table}[t]", r"\centering", *words, *lines[len(needs) :], r"\end{table}"])


def _latex_letter(letter: str) -> str:
    """A character for any LaTeX: with its accent as a command, else by its number, since few fonts have all."""
    base, *marks = list(unicodedata.normalize("NFKD", letter))
    if base.isascii() and base.isalpha() and all(mark in ACCENTS for mark in marks):
        return "".join(f"\\{ACCENTS[mark]}{{" for mark in marks) + base + "}" * len(marks)
    return f"{{[}}U+{ord(letter):04X}{{]}}"


_latex_escape = _replacing(tabulate.LATEX_ESCAPE_RULES)
PLAIN = Markup(None, str, _lines)
MARKDOWN = Markup(("**", "**"), _markdown, _paragraphs)
LATEX = Markup((BOLD_ON, BOLD_OFF), str, _latex)
HTML = Markup(("<b>", "</b>"), html.escape, _html)
#: By format: tabulate's name for it, and its markup.
STYLES: dict[str, tuple[str, Markup]] = {
    "text": ("simple", PLAIN),
    "plain": ("plain", PLAIN),
    "grid": ("grid", PLAIN),
    "markdown": ("pipe", MARKDOWN),
    "pipe": ("pipe", MARKDOWN),
    "github": ("github", MARKDOWN),
    "rst": ("rst", Markup(("**", "**"), _replacing({c: f"\\{c}" for c in "\\*`|_"}), _paragraphs)),
    "html": ("unsafehtml", HTML),
    "unsafehtml": ("unsafehtml", HTML),
    "latex": ("latex", LATEX),
    "latex_booktabs": ("latex_booktabs", LATEX),
    "latex_longtable": ("latex_longtable", LATEX),
    "latex_raw": ("latex_raw", Markup((BOLD_ON, BOLD_OFF), _latex_escape, _latex)),
}
