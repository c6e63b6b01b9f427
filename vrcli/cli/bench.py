"""`vr bench`: how fast things are, measured side by side on this machine."""

from __future__ import annotations

import typer

app = typer.Typer(help="Measure speed, side by side.", no_args_is_help=True, rich_markup_mode=None)
