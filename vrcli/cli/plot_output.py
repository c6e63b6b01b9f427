"""Where a figure goes: a file, the numbers behind it, a window, or the terminal as text."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrcli.cli import request as req
from vrcli.cli.console import err, notice, put, say
from vrcli.cli.options import Bundle
from vrcli.cli.screen import is_terminal, show_next
from vrcli.db.location import Location
from vrcli.errors import UsageError, VrError
from vrcli.output import Target
from vrcli.report.study.blocks import Step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vrcli.report.figures.base import Drawn
    from vrcli.report.figures.style import Plot
    from vrcli.report.figures.text import Page

#: Columns of a text plot: what a pipe gets, and the most that a wide terminal gets.
NARROW, WIDE = 80, 100


FIGURE = typer.Option(None, "--output", "-o", metavar="FILE", help="write FILE.png, .svg or .pdf", show_default=False)
DATA = typer.Option(None, "--data", metavar="FILE", help="write the numbers behind it as FILE.csv", show_default=False)
SIZE = typer.Option(None, "--size", metavar="WxH", help="width and height in inches: 3.3x2.5", show_default=False)
TITLE = typer.Option(None, "--title", help='in place of the figure\'s own; "" for none', show_default=False)
CAPTION = typer.Option(True, "--caption/--no-caption", help="the small print that says how to read the figure")
SHOW = typer.Option(False, "--show", help="open it in a window or the system's viewer")


@dataclass(frozen=True)
class Output(Bundle):
    """Where the figure goes, and the database that it is made from."""

    database: Annotated[Location, req.DB] = field(default_factory=Location.given)
    figure: Annotated[Path | None, FIGURE] = None
    data: Annotated[Path | None, DATA] = None
    size: Annotated[str | None, SIZE] = None
    title: Annotated[str | None, TITLE] = None
    caption: Annotated[bool, CAPTION] = True
    show: Annotated[bool, SHOW] = False
    force: Annotated[bool, req.FORCE] = False

    def check(self) -> None:
        """Refuse what cannot be written, before any work.

        Raises:
            UsageError: an unknown ending, or a file that cannot be written.
        """
        from vrcli.report.figures.style import check_suffix

        size_of(self.size)
        if self.figure is None and not self.show:
            for flag, given in (
                ("--size", self.size),
                ("--title", self.title),
                ("--no-caption", not self.caption or None),
            ):
                if given is not None:
                    raise UsageError(f"{flag} changes a picture: name a file with --output, or give --show")
        if self.figure is not None:
            check_suffix(self.figure, "--output")
            self.target(self.figure, "--output").check()
        if self.data is not None:
            if self.data.suffix.lower() != ".csv":
                raise UsageError(f"--data {self.data}: the numbers are written as .csv")
            self.target(self.data, "--data").check()

    def target(self, path: Path, flag: str) -> Target:
        """One of the two files."""
        return Target(path, flag, self.database, self.force)

    def deliver(self, drawn: Drawn) -> None:
        """Write and show the figure as asked, or print it as text where nothing was asked."""
        plot = drawn.plot
        if self.size is not None or self.title is not None or not self.caption:
            plot.lay_out(size_of(self.size), self.title, caption=self.caption)
        if self.figure is not None:
            with self.target(self.figure, "--output").part() as part:
                plot.save(part)
            say(f"wrote {self.figure}", to=err())
        if self.data is not None:
            with self.target(self.data, "--data").part() as part:
                plot.save_data(part)
            say(f"wrote {self.data} ({len(plot.rows):,} rows)", to=err())
        if self.show:
            show(plot)
        if self.figure is None and self.data is None and not self.show:
            put(drawn.text(page(drawn.log)).rstrip("\n") + "\n")
            if is_terminal():
                show_next([Step("vr plot", "as a picture; .png and .svg, too", "--output figure.pdf")],
                          argv=sys.argv)  # fmt: skip


def size_of(text: str | None) -> tuple[float, float] | None:
    """Width and height in inches of "3.3x2.5".

    Raises:
        UsageError: it says something else.
    """
    if text is None:
        return None
    try:
        width, height = (float(part) for part in text.lower().split("x"))
    except ValueError:
        width = height = math.nan
    if not (1 <= width <= 40 and 1 <= height <= 40):
        raise UsageError(f"--size must be WIDTHxHEIGHT in inches, each from 1 to 40, as in 3.3x2.5, got {text}")
    return width, height


def page(log: bool | None) -> Page:
    """What the terminal, or a pipe, takes."""
    from vrcli.report.figures.text import Page

    width = min(WIDE, shutil.get_terminal_size((NARROW, 24)).columns) if sys.stdout.isatty() else NARROW
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    return Page(width=width, ascii=plain, log=log)


def show(plot: Plot) -> None:
    """Open the figure in a window, else in the system's viewer; where neither works, say where it lies."""
    if has_display() and in_window(plot.figure):
        return

    with tempfile.NamedTemporaryFile(prefix="vr-", suffix=".png", delete=False) as file:
        path = Path(file.name)
    try:
        plot.save(path)
    except OSError as error:
        raise VrError(f"--show: {path} cannot be written: {error.strerror or error}") from error
    try:
        opened = has_display() and typer.launch(str(path)) == 0
    except OSError:
        opened = False
    if not opened:
        notice(f"no window or viewer can be opened here; the figure is in {path} (--output names another file)")


def has_display() -> bool:
    """Whether there is a screen to draw on."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def in_window(figure: Figure) -> bool:
    """Show the figure in a window of matplotlib's and wait until it is closed; False where it has no such backend."""
    from matplotlib import pyplot

    try:
        pyplot.figure(figure)
        if getattr(figure.canvas, "required_interactive_framework", None) is None:
            return False
        pyplot.show()
    except Exception:  # a toolkit fails in as many ways as there are toolkits; the system's viewer is left
        return False
    return True
