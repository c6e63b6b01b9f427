"""`vr opts`: which optimizers there are, where each comes from and what it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.cli.console import say
from vrcli.cli.lazy import noun
from vrcli.cli.screen import hanging, show_rows, suggest
from vrcli.cli.waiting import waiting
from vrcli.errors import UsageError, nearest
from vrcli.optim.registry import CAPABILITIES, catalogue, find, is_installed, settings_model
from vrcli.optim.zoo import INSTALL
from vrcli.report.study.blocks import Rows
from vrcli.report.study.runs import other
from vrcli.report.wording import counted, setting

if TYPE_CHECKING:
    from vrcli.optim.rows import Row

app = noun("List, show and check optimizers.")

#: Capabilities, in a table for people.
_SPECIAL: Mapping[str, str] = {
    "closure": "loss again in a step",
    "create_graph": "second derivatives",
    "train_eval": "two sets of weights",
    "lr_free": "finds its own lr",
    "sparse": "sparse gradients",
    "no_resume": "begins again after a stop",
}


@app.command("list")
def list_optimizers(
    pattern: str | None = typer.Argument(None, help="shell pattern, as 'ada*'", show_default=False),
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """List the optimizers and where each comes from."""
    req.check_format(format)

    with waiting("importing the optimizers"):
        known = list(catalogue())
    rows: list[dict[str, Any]] = [
        {"optimizer": r.name, "from": r.origin, "installed": is_installed(r), "needs": sorted(r.capabilities),
         "summary": f"cannot run: {r.refusal}" if r.refusal else r.summary}
        for r in known if pattern is None or fnmatch(r.name, pattern.lower())
    ]  # fmt: skip
    if format == "json":
        print(json.dumps(rows))
        return
    if not rows:
        raise UsageError(f"no optimizer matches {pattern!r} (vr opts list)")
    print_optimizers(rows)


def print_optimizers(rows: Sequence[dict[str, Any]]) -> None:
    """A table of the optimizers that are installed, and how many others there are."""
    shown = [{**r, "special": ", ".join(map(_SPECIAL.__getitem__, r["needs"]))} for r in rows if r["installed"]]
    if shown:
        columns = ["optimizer", "from", "special", "summary"]
        show_rows(Rows(columns, shown, wrap=["summary", "special"], least=["from"]))
    if more := len(rows) - len(shown):
        those = f"{more} more of" if shown else f"{counted(more, 'optimizer')} of"
        say(f"{those} pytorch-optimizer, which is not installed: {INSTALL}", prose=True)
    if shown:
        suggest((f"vr opts show {shown[0]['optimizer']}", "its settings, defaults and search space"))


@app.command("check")
def check(
    name: str = typer.Argument(help="name, or package.module:Class"),
    fix: list[str] = typer.Option([], "--fix", help="setting to check it at: lr=0.1"),
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Check that an optimizer keeps torch's conventions, and time it. It is timed beside AdamW; exit code 1 where
    a convention is broken."""
    req.check_format(format)
    import torch

    from vrcli.bench.check_optimizer import check as run_checks

    torch.set_num_threads(1)  # its tensors are small
    with waiting("checking"):
        results = run_checks(name, _known(name, dict(text.partition("=")[::2] for text in fix)))
    failed = sum(r.status == "failed" for r in results)
    if format == "json":
        print(json.dumps([{"check": r.name, "status": r.status, "detail": r.detail} for r in results]))
    else:
        marks = {"passed": "ok", "failed": "FAIL", "not applicable": "-"}
        for r in results:
            hanging(f"{marks[r.status]:5} {r.name:26} {r.detail}", 33)
        say(f"{name}: {failed} of {len(results)} checks failed" if failed else f"{name}: no check failed")
    if failed:
        raise typer.Exit(1)
    if format == "text":
        suggest((f"vr run cnn --opt {name}", "train with it"))


def _known(name: str, settings: dict[str, str]) -> dict[str, str]:
    """The same settings.

    Raises:
        UsageError: the optimizer has no setting of one of the names.
    """
    fields = settings_model(name).model_fields
    for key in settings:
        if key not in fields:
            raise UsageError(f"--fix {key}: {name} has no setting of that name{nearest(key, fields)}")
    return settings


@app.command("show")
def show(
    name: str = typer.Argument(help="name, or package.module:Class"), format: str = req.FORMAT, debug: bool = req.DEBUG
) -> None:
    """Show an optimizer's settings, their defaults and its search space."""
    req.check_format(format)
    with waiting("importing the optimizer"):
        row, settings = find(name), _settings(name)
    space = {n: str(d) for n, d in row.space.items()}
    if format == "json":
        body = {
            "optimizer": row.name, "from": row.origin, "summary": row.summary, "capabilities": sorted(row.capabilities),
            "note": row.note, "settings": settings, "space": space,
        }  # fmt: skip
        print(json.dumps(body))
        return
    print_optimizer(row, settings)
    if space:
        say()
        hanging("search space   " + "   ".join(f"{n} {d}" for n, d in space.items()), 15)
    better = f"is it better than {other(name)}?"
    suggest((f"vr run cnn --opt {name}", "train with it"), (f"vr compare cnn --opt {name} --opt {other(name)}", better))


def print_optimizer(row: Row, settings: list[dict[str, str]]) -> None:
    """What an optimizer is and takes, for people."""
    say(f"{row.name} · {row.summary}", style="bold", prose=True)
    refusal = f" · cannot run: {row.refusal}" if row.refusal else ""
    say(f"{row.target.replace(':', '.')} (from {row.origin}){refusal}")
    about = [f"{name}: {CAPABILITIES[name]}" for name in sorted(row.capabilities)]
    about += [f"note: {row.note}"] if row.note else []
    for line in [*about, ""]:
        say(line, prose=True)
    show_rows(Rows(["setting", "default", "meaning"], settings, wrap=["meaning"]))


def _settings(name: str) -> list[dict[str, str]]:
    """One row per setting of an optimizer."""
    return [
        {"setting": n, "default": setting(f.get_default(call_default_factory=True)), "meaning": f.description or ""}
        for n, f in settings_model(name).model_fields.items()
    ]
