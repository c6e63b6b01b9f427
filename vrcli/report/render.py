"""A table in any format: what `tabulate` knows under its usual names, and csv and json with the raw numbers."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tabulate

from vrcli.report.statistics import Summary
from vrcli.report.types import Column, Row, Table
from vrcli.report.wording import MINUS, duration, number, settings, with_half_width

#: GitHub's pipe table under the name people look for.
ALIASES = {"markdown": "pipe", "md": "pipe"}
OWN = ("csv", "json")
LATEX = ("latex", "latex_booktabs", "latex_longtable", "latex_raw")
HTML = ("html", "unsafehtml")


def formats() -> list[str]:
    """Every accepted format name."""
    return sorted({"markdown", *OWN, *tabulate.tabulate_formats})


def render(table: Table, format: str) -> str:
    """The table as text, with its footnotes where the format has room for them.

    Args:
        format: one of `formats()`.

    Raises:
        ValueError: an unknown format.
    """
    name = ALIASES.get(format, format)
    if name == "json":
        return to_json(table)
    if name == "csv":
        return to_csv(table)
    if name not in tabulate.tabulate_formats:
        raise ValueError(f"unknown table format {format!r}")
    markup = MARKUPS.get(name, PLAIN)
    columns, lines = cells(table)
    body = [[_cell(text, bold, markup) for text, bold in line] for line in lines]
    headers = [markup.escape(_clean(title)) for title, _ in columns]
    style = "unsafehtml" if name == "html" else name
    align = [side for _, side in columns]
    # tabulate ignores alignments given without a row to align
    found = tabulate.tabulate(body, headers, tablefmt=style, disable_numparse=True, colalign=align if body else None)
    notes = [markup.escape(_clean(note)) for note in table.notes]
    return markup.finish(found, notes)


def cells(table: Table) -> tuple[list[tuple[str, str]], list[list[tuple[str, bool]]]]:
    """Headings with their alignment, and the rows as (text, bold) cells."""
    ambiguous = _same_name_other_data(table)
    with_settings = any(row.shown for row in table.rows)
    with_diverged = any(row.diverged for row in table.rows)
    unequal = table.unequal_budgets
    columns = [("task", "left"), ("optimizer", "left")]
    columns += [("settings", "left")] if with_settings else []
    columns += [(column.title or column.key, "right") for column in table.columns]
    columns += [("n", "right")] + ([("diverged", "right")] if with_diverged else []) + [("budget", "right")]
    lines: list[list[tuple[str, bool]]] = []
    previous: object = None
    for row in table.rows:
        first = table.columns[0].key if table.columns else ""
        best = bool(first) and row.cells[first].best
        line = [(_label(row, ambiguous) if row.section != previous else "", False), (row.optimizer, best)]
        previous = row.section
        line += [(settings(dict(row.shown)), False)] if with_settings else []
        line += [(_value(row, column), row.cells[column.key].best) for column in table.columns]
        line += [(str(row.n), False)]
        line += [(f"{row.diverged}/{row.n}", False)] if with_diverged else []
        marks = (" ¶" if row.pruned else "") + (" §" if row.section in unequal else "")
        line += [(_budget(row) + marks, False)]
        lines.append(line)
    return columns, lines


def _label(row: Row, ambiguous: set[tuple[str, str]]) -> str:
    data = row.dataset
    if (row.task, row.dataset) in ambiguous:
        data += f"#{row.fingerprint[:6]}"
    about = ", ".join(part for part in (data, row.preset) if part)
    return f"{row.task} ({about})" if about else row.task


def _same_name_other_data(table: Table) -> set[tuple[str, str]]:
    seen: dict[tuple[str, str], set[str]] = {}
    for row in table.rows:
        seen.setdefault((row.task, row.dataset), set()).add(row.fingerprint)
    return {name for name, prints in seen.items() if len(prints) > 1}


def _budget(row: Row) -> str:
    text = f"{row.trials} x {'?' if row.epochs is None else row.epochs}"
    return text if row.max_steps is None else f"{text} ({row.max_steps} steps)"


def _value(row: Row, column: Column) -> str:
    cell = row.cells[column.key]
    found = cell.summary
    if not found.n:
        return "-"
    if not math.isfinite(found.mean):
        return "NaN"
    text = _cost(found, column) if column.is_cost else _mean(found, column)
    if found.diverged:
        text += " ‡"
    return text + (" †" if cell.tied else "")


def _mean(found: Summary, column: Column) -> str:
    return with_half_width(found.mean, found.half_width, percent=column.percent)


def _cost(found: Summary, column: Column) -> str:
    """What a run cost: a mean without an interval, in a unit that reads well."""
    if column.key in ("wall_s", "train_s"):
        return duration(found.mean)
    if column.key == "peak_memory_bytes":
        return f"{found.mean / 2**20:,.0f} MiB"
    whole = column.key in ("parameters", "steps", "epochs") or abs(found.mean) >= 1000
    return f"{found.mean:,.0f}" if whole else number(found.mean, 3)


def to_json(table: Table) -> str:
    """Every number in full; a number that does not exist is null, never NaN."""
    rows = []
    for row in table.rows:
        metrics = {
            column.key: {
                **{key: _finite(getattr(row.cells[column.key].summary, key)) for key in NUMBERS},
                "n": row.cells[column.key].summary.n,
                "diverged": row.cells[column.key].summary.diverged,
                "values": [_finite(v) for v in row.cells[column.key].summary.values],
                "best": row.cells[column.key].best,
                "tied_with_best": row.cells[column.key].tied,
            }
            for column in table.columns
        }
        identity = {key: getattr(row, key) for key in IDENTITY}
        rows.append(
            {
                **identity,
                "settings": dict(row.settings),
                "differing": dict(row.shown),
                "seeds": list(row.seeds),
                "runs": list(row.run_ids),
                **{key: getattr(row, key) for key in BUDGET},
                "metrics": metrics,
            }
        )
    body = {"level": table.level, "rows": rows, "notes": list(table.notes)}
    return json.dumps(body, indent=2, allow_nan=False, default=str, ensure_ascii=False)


IDENTITY = ("task", "dataset", "fingerprint", "preset", "optimizer")
BUDGET = ("n", "diverged", "trials", "pruned", "epochs", "max_steps")
NUMBERS = ("mean", "sd", "median", "low", "high")


def to_csv(table: Table) -> str:
    """One line per row, five numbers per metric; a number that does not exist is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    metrics = [f"{column.key}_{key}" for column in table.columns for key in (*NUMBERS, "n")]
    writer.writerow([*IDENTITY, "settings", *BUDGET, *metrics])
    for row in table.rows:
        numbers: list[object] = []
        for column in table.columns:
            found = row.cells[column.key].summary
            numbers += [_finite(getattr(found, key)) for key in NUMBERS] + [found.n]
        about = [getattr(row, key) for key in IDENTITY]
        writer.writerow([*about, settings(dict(row.shown)), *(getattr(row, key) for key in BUDGET), *numbers])
    return out.getvalue()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


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
    """One line, without control characters and without the private characters used below as stand-ins."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ue000-\uf8ff]+", " ", text)


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
    "§": r"\S",
    "¶": r"\P",
    MINUS: "$-$",
    "|": r"\textbar{}",
}


def _latex(found: str, notes: list[str]) -> str:
    # LaTeX ignores the line ends of the source, so each footnote is a paragraph.
    safe = [_latex_escape(note) for note in notes]
    text = "\n\n".join([found, *(rf"{{\footnotesize {note}}}" for note in safe)])
    return _replacing(LATEX_SYMBOLS)(text)


WIKI = {"|": "&#124;", "<": "&lt;", "[": "&#91;", "!": "&#33;"}
_latex_escape = _replacing(tabulate.LATEX_ESCAPE_RULES)
PLAIN = Markup(None, str, _lines)
MARKDOWN = Markup(("**", "**"), _markdown, _paragraphs)
MARKUPS: dict[str, Markup] = {
    "pipe": MARKDOWN,
    "github": MARKDOWN,
    "tsv": Markup(None, str, lambda found, _: found),
    **dict.fromkeys(HTML, Markup(("<b>", "</b>"), html.escape, _html)),
    **dict.fromkeys(LATEX, Markup((BOLD_ON, BOLD_OFF), str, _latex)),
    "latex_raw": Markup((BOLD_ON, BOLD_OFF), _latex_escape, _latex),
    "rst": Markup(("**", "**"), _replacing({c: f"\\{c}" for c in "\\*`|_"}), _paragraphs),
    "mediawiki": Markup(("'''", "'''"), _replacing(WIKI), _paragraphs),
    "moinmoin": Markup(("'''", "'''"), _replacing({"|": "&#124;"}), _paragraphs),
    "jira": Markup(("*", "*"), _replacing({c: f"\\{c}" for c in "|*{["}), _paragraphs),
    "textile": Markup(("*", "*"), _replacing({"|": "&#124;", "<": "&lt;", "*": "&#42;"}), _paragraphs),
    "youtrack": Markup(("*", "*"), _replacing({"|": "\\|", "*": "\\*"}), _paragraphs),
    "asciidoc": Markup(("*", "*"), _replacing({"|": "\\|", "*": "\\*"}), _paragraphs),
    "orgtbl": Markup(("*", "*"), _replacing({"|": "\\vert{}"}), _paragraphs),
}
