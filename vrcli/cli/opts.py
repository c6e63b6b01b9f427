"""`vr opts`: which optimizers there are, where each comes from and what it takes."""

from __future__ import annotations

import json
from typing import Any

import typer

from vrcli.cli import request as req
from vrcli.errors import UsageError

app = typer.Typer(help="List, show and check optimizers.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_optimizers(
    pattern: str | None = typer.Argument(None, help="shell pattern, as 'ada*'", show_default=False),
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """List the optimizers and where each comes from."""
    req.check_format(format)
    from fnmatch import fnmatch

    from vrcli.cli.console import say
    from vrcli.cli.grid import grid
    from vrcli.optim.registry import catalogue

    rows: list[dict[str, Any]] = [
        {"optimizer": r.name, "from": r.origin, "needs": sorted(r.capabilities),
         "summary": f"cannot run: {r.refusal}" if r.refusal else r.summary}
        for r in catalogue() if pattern is None or fnmatch(r.name, pattern.lower())
    ]  # fmt: skip
    if format == "json":
        print(json.dumps(rows))
        return
    if not rows:
        raise UsageError(f"no optimizer matches {pattern!r} (vr opts list shows all)")
    for line in grid(["optimizer", "from", "needs", "summary"], [{**r, "needs": ",".join(r["needs"])} for r in rows]):
        say(line)


@app.command("show")
def show(
    name: str = typer.Argument(help="name, or package.module:Class"), format: str = req.FORMAT, debug: bool = req.DEBUG
) -> None:
    """Show an optimizer's settings, their defaults and its search space."""
    req.check_format(format)
    from vrcli.cli.console import say, short
    from vrcli.cli.grid import grid
    from vrcli.optim.registry import find, settings_model

    row = find(name)
    fields = settings_model(name).model_fields
    rows = [
        {"setting": n, "default": short(f.get_default(call_default_factory=True)), "meaning": f.description or ""}
        for n, f in fields.items()
    ]
    space = {n: str(d) for n, d in row.space.items()}
    if format == "json":
        body = {
            "optimizer": row.name,
            "from": row.origin,
            "summary": row.summary,
            "capabilities": sorted(row.capabilities),
        }
        print(json.dumps({**body, "settings": rows, "space": space}))
        return
    say(f"{row.name} · {row.summary}", style="bold")
    say(
        f"{row.target.replace(':', '.')} (from {row.origin})" + (f" · cannot run: {row.refusal}" if row.refusal else "")
    )
    say()
    for line in grid(["setting", "default", "meaning"], rows):
        say(line)
    if space:
        say()
        say("search space   " + "   ".join(f"{n} {d}" for n, d in space.items()))
