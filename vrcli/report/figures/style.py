"""The look that all figures share, and how they are saved. Matplotlib is imported when a figure is drawn."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vrcli.direction import Direction
from vrcli.errors import UsageError
from vrcli.output import CsvWriter
from vrcli.report.figures.scales import plain_log_ticks
from vrcli.report.text_plot import LOG_FROM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, which colour-blind people can tell apart; yellow is left out, it fades in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
#: With the colours, 28 combinations; in grey print the dashes remain.
DASHES = ("-", "--", "-.", ":")
#: Whose colour and dash are the same in every figure, as far as the colours go.
COMMON = ("vradam", "adamw", "sgd", "rmsprop", "adam", "flowadam", "muon")
#: How far configurations of one optimizer are mixed with black (below zero) or white, one after the other.
SHADES = (0.0, -0.4, 0.4)
#: The same on dark paper, where darker colours would vanish.
SHADES_ON_DARK = (0.0, 0.5, -0.35)
BLACK, WHITE = "#000000", "#ffffff"
#: Outcomes of trials: perceptually uniform, and the dark end, which stands out on white, is the good one.
OUTCOMES: Mapping[Direction, str] = {"min": "viridis", "max": "viridis_r"}
#: Colour of trials that diverged: none of the outcome scale's.
DIVERGED_COLOUR = "#CC0066"
SUFFIXES = (".png", ".svg", ".pdf")
#: Width of one panel and of a page of two, in inches, at which 9 pt text is legible in a column.
PANEL, PAGE = 3.4, 6.9
#: Lines of a legend that the panels make room for; each further one makes the figure as much higher, in inches.
_LEGEND_LINES, _LEGEND_LINE = 6, 0.165
_CJK = re.compile(
    r"CJK|Source Han|WenQuanYi|Droid Sans Fallback|Noto Sans (SC|TC|JP|KR|HK)|YaHei|SimHei|SimSun|PingFang|Heiti"
    r"|Hiragino|Yu Gothic|MS Gothic|Meiryo|IPA.*Gothic|TakaoGothic|Malgun|AppleGothic|Nanum|Arial Unicode|Unifont"
)
STYLE: Any = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "vr",
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Plot:
    """A figure and the numbers it shows.

    Args:
        rows: one mapping per point or line; all have the same keys.
    """

    figure: Figure
    rows: Sequence[Mapping[str, Any]]

    def save(self, path: Path, dpi: float = STYLE["savefig.dpi"]) -> None:
        """Write the figure in the format that the file's ending names.

        Args:
            dpi: dots per inch.

        Raises:
            UsageError: another ending than .png, .svg or .pdf.
            OSError: the file cannot be written.
        """
        check_suffix(path)
        with styled():
            stamp = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[path.suffix.lower()]
            self.figure.savefig(path, metadata=stamp, dpi=dpi)

    def lay_out(self, size: tuple[float, float] | None, title: str | None, *, caption: bool) -> None:
        """Fit the figure to where it will be printed.

        Args:
            size: width and height in inches; None leaves it.
            title: in place of the figure's own; None leaves that, and nothing is not a title.
            caption: keep the small print that says how to read it.
        """
        figure = self.figure
        with styled():
            if size is not None:
                figure.set_size_inches(*size)
            if title is not None:
                titled = [axes for axes in figure.axes if axes.get_title("left")]
                if len(titled) == 1 and not figure.get_suptitle():
                    titled[0].set_title(title, loc="left", fontweight="bold")
                else:
                    head(figure, title)
            for legend in list(figure.legends):
                note = legend.get_title().get_text().replace("\n", " ") if caption else ""
                labels = [text.get_text() for text in legend.get_texts()]
                handles = legend.legend_handles
                legend.remove()
                _legend(figure, handles, labels, note)

    def svg(self) -> str:
        """The figure as an SVG document."""
        with styled():
            written = StringIO()
            self.figure.savefig(written, format="svg", metadata={"Date": None})
            return written.getvalue()

    def save_data(self, path: Path) -> None:
        """Write the rows as csv; a number that does not exist is an empty field.

        Raises:
            OSError: the file cannot be written.
        """
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = CsvWriter(file, lineterminator="\n")
            writer.writerow(self.rows[0] if self.rows else [])
            writer.writerows(map(_field, row.values()) for row in self.rows)


def _field(value: Any) -> Any:
    return "" if isinstance(value, float) and not np.isfinite(value) else value


@contextmanager
def styled() -> Iterator[None]:
    """The shared style, for the time of a `with` block: figures are made and saved within it.

    Letters that no font here has are drawn as boxes, and nothing is said of it.
    """
    import matplotlib

    with matplotlib.rc_context({**STYLE, "font.family": ["sans-serif", *_more_fonts()]}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        yield


@cache
def _more_fonts() -> list[str]:
    """Fonts of this machine with Chinese, Japanese and Korean letters, which matplotlib's own font lacks."""
    from matplotlib.font_manager import fontManager

    return sorted({font.name for font in fontManager.ttflist if _CJK.search(font.name)})[:3]


def check_suffix(path: Path, flag: str = "") -> None:
    """Refuse a file whose ending names no format, before anything is drawn.

    Args:
        flag: the option that named it.

    Raises:
        UsageError: another ending than .png, .svg or .pdf.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{f'{flag} {path}'.lstrip()}: figures end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


class Series(NamedTuple):
    """What a line is of: its optimizer, and what the legend calls it."""

    optimizer: str
    label: str


def style_of(lines: Iterable[Series]) -> dict[Series, dict[str, Any]]:
    """Colour and dash of each line: an optimizer's are the same in every figure, as far as it is one of `COMMON`.

    Of several configurations of one optimizer the first has its style, the others its hue in another shade with
    another dash.
    """
    series = list(dict.fromkeys(lines))
    places = places_of(one.optimizer for one in series)
    seen: Counter[str] = Counter()
    found = {}
    for one in series:
        found[one] = line_style(places[one.optimizer], seen[one.optimizer])
        seen[one.optimizer] += 1
    return found


def places_of(optimizers: Iterable[str]) -> dict[str, int]:
    """Each optimizer's place among the colours and dashes: its own, or the next that is left."""
    names = list(dict.fromkeys(optimizers))
    found = {name: COMMON.index(name) for name in names if name in COMMON}
    # From the least common on, so that a stranger rarely looks like the optimizer every other figure shows.
    order = itertools.chain(reversed(range(len(COMMON))), itertools.count(len(COMMON)))
    free = (place for place in order if place not in found.values())
    others = [name for name in names if name not in COMMON]
    return found | dict(zip(others, free, strict=False))


def line_style(place: int, variant: int = 0, *, on_dark: bool = False) -> dict[str, Any]:
    """Colour and dash of a place, and of the further configurations of the optimizer that has it.

    Args:
        variant: 0 for the first configuration; twelve can be told apart.
        on_dark: for dark paper.
    """
    colour, base = COLOURS[place % len(COLOURS)], place // len(COLOURS) + place % len(COLOURS)
    shades = SHADES_ON_DARK if on_dark else SHADES
    amount = shades[variant % len(shades)]
    if colour == BLACK:
        # Nothing is darker: its shades are greys on either paper.
        colour, amount = ("#e8e8e8", -abs(amount)) if on_dark else (BLACK, abs(amount) + 0.1 * (amount < 0))
    return {"color": _mixed(colour, amount), "linestyle": DASHES[(base + variant) % len(DASHES)]}


def page_style(place: int, variant: int) -> dict[str, str]:
    """The same line in a browser: its colour on light and on dark paper, and its dash as plotly calls it."""
    light, dark = line_style(place, variant), line_style(place, variant, on_dark=True)
    dash = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}[light["linestyle"]]
    return {"light": light["color"], "dark": dark["color"], "dash": dash}


def _mixed(colour: str, amount: float) -> str:
    """A colour mixed with black, for an amount below zero, or with white."""
    if not amount:
        return colour
    other = BLACK if amount < 0 else WHITE
    parts = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * abs(amount)):02x}" for a, b in parts)


def _channels(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


def head(figure: Figure, title: str) -> None:
    """What the whole figure is of, in its upper left corner; nothing where it is not known."""
    if title or figure.get_suptitle():
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")


def new_figure(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """A figure without global state, laid out so that nothing overlaps; call it within `styled()`.

    Args:
        options: of `Figure.subplots`; `size` in inches besides.
    """
    from matplotlib.figure import Figure

    width = PAGE if columns > 1 else PANEL + 0.6
    size = options.pop("size", (width, 2.5 * rows + 0.3))
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).tolist()


def legend_below(figure: Figure, *panels: Axes, note: str = "") -> None:
    """One legend for the whole figure, under it, where it hides no data: every name of these panels once.

    Args:
        note: how to read the figure, in small print above the names.
    """
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        beyond = -(-len(found) // _legend_columns(figure, [*found])) - _LEGEND_LINES
        figure.set_figheight(figure.get_figheight() + max(0, beyond) * _LEGEND_LINE)
        _legend(figure, [*found.values()], [*found], note)


def _legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], note: str) -> None:
    lines = "\n".join(textwrap.wrap(note, int(figure.get_figwidth() * 17)))
    columns = _legend_columns(figure, labels)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=lines, title_fontsize=7)


def _legend_columns(figure: Figure, labels: Sequence[str]) -> int:
    longest = max(len(label) for label in labels)
    return max(1, min(len(labels), int(figure.get_figwidth() / (0.55 + 0.075 * longest))))


def named(setting: str) -> str:
    """A setting as an axis is called."""
    return "learning rate" if setting == "lr" else setting


def mark_on_top(axes: Axes, x: Sequence[float], colour: str, marker: str = "o") -> None:
    """Runs that diverged, as marks on the upper edge: their values have no place on the axis."""
    if len(x):
        axes.plot(
            x,
            [1.0] * len(x),
            linestyle="none",
            marker=marker,
            markersize=4,
            color=colour,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            zorder=5,
        )


def norm_of(outcomes: Sequence[float], *, log: bool = True) -> Normalize | None:
    """Colours of outcomes: on a logarithmic scale where one bad trial would swallow a linear one.

    Args:
        log: it may be logarithmic.
    """
    from matplotlib.colors import LogNorm, Normalize

    finite = [v for v in outcomes if math.isfinite(v)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    if log and low > 0 and high / low >= LOG_FROM:
        return LogNorm(low, high)
    return Normalize(low, high) if high > low else Normalize(low - abs(low) / 10, low + abs(low) / 10 + 1e-300)


def outcome_bar(
    figure: Figure, axes: Sequence[Axes], norm: Normalize, label: str, direction: Direction = "min"
) -> None:
    """The scale of the outcomes' colours, beside the panels that use it."""
    import matplotlib
    from matplotlib.colors import LogNorm

    bar = figure.colorbar(
        matplotlib.cm.ScalarMappable(norm, OUTCOMES[direction]), ax=axes, label=label, pad=0.02, aspect=30
    )
    if isinstance(norm, LogNorm):
        plain_log_ticks(bar.ax.yaxis, float(norm.vmax or 1.0) / float(norm.vmin or 1.0))
