"""`vr probes`: what can be measured during training beside the loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from vrcli.cli import request as req
from vrcli.cli.console import err, say
from vrcli.cli.lazy import noun
from vrcli.cli.screen import hanging, show_next, show_rows, suggest
from vrcli.cli.waiting import waiting
from vrcli.engine.probes.registry import catalogue, load
from vrcli.errors import VrError
from vrcli.probing import option_fields
from vrcli.report.study.blocks import Rows
from vrcli.report.wording import setting

app = noun("List, show and check probes.")
NAME = typer.Argument(help="name, or package.module:Class")


@app.command("list")
def list_probes(format: str = req.FORMAT, debug: bool = req.DEBUG) -> None:
    """List the probes. One that cannot be imported is listed with its error."""
    req.check_format(format)
    with waiting("importing the probes"):
        rows = [{"probe": name, "from": origin, "summary": _summary(name)} for name, (_, origin) in catalogue().items()]
    if format == "json":
        print(json.dumps(rows))
        return
    show_rows(Rows(["probe", "from", "summary"], rows, wrap=["summary"]))
    name = rows[0]["probe"]
    show = (f"vr probes show {name}", "its options and curves")
    suggest(show, (f"vr run cnn --probe {name} --probe-every 5e", "measure it every five epochs"))


def _summary(name: str) -> str:
    try:
        return load(name).summary
    except VrError as error:
        return f"unavailable: {error}"


@app.command("show")
def show(name: str = NAME, format: str = req.FORMAT, debug: bool = req.DEBUG) -> None:
    """Show a probe: what it measures, its options and its curves."""
    req.check_format(format)
    with waiting("importing the probe"):
        probe = load(name)
        rows: list[dict[str, Any]] = [
            {"option": "--" + key.replace("_", "-"), "default": setting(info.get_default()),
             "meaning": info.description or ""}
            for key, info in option_fields(name).items()
        ]  # fmt: skip
    about = " ".join((probe.__doc__ or "").split())
    if format == "json":
        print(json.dumps({"probe": probe.name, "summary": probe.summary, "about": about, "options": rows}))
        return
    say(f"{probe.name} · {probe.summary}", style="bold", prose=True)
    say(about, prose=True)
    say()
    if rows:
        show_rows(Rows(["option", "default", "meaning"], rows, wrap=["meaning"]))
    suggest((f"vr run cnn --probe {name} --probe-every 5e", "measure it every five epochs"))


@app.command("check")
def check(name: str = NAME, format: str = req.FORMAT, debug: bool = req.DEBUG) -> None:
    """Check that a probe leaves runs as they are. Exit code 1 where it does not."""
    req.check_format(format)
    from vrcli.bench.check_probe import check as run_checks

    with waiting("training with and without it"):
        findings = run_checks(name)
    failed = sum(not one.passed for one in findings)
    if format == "json":
        print(json.dumps([{"check": one.name, "passed": one.passed, "detail": one.detail} for one in findings]))
    else:
        for one in findings:
            hanging(f"{'ok  ' if one.passed else 'FAIL'}  {one.name:26} {one.detail}", 33)
        say(f"{name}: {len(findings) - failed} of {len(findings)} checks passed")
    if failed:
        raise typer.Exit(1)
    if format == "text":
        suggest((f"vr run cnn --probe {name}", "measure with it"))


@app.command("new")
def new(
    name: str = typer.Argument(help="name of the probe"),
    folder: Path | None = typer.Option(
        None, "--folder", help="where to write it [default: ./NAME]", show_default=False
    ),
    debug: bool = req.DEBUG,
) -> None:
    """Write a package with a working probe of your own, to be changed."""
    from vrcli.cli.scaffold import write_probe

    target = folder or Path(name)
    for path in write_probe(name, target):
        say(f"wrote {path}", to=err())
    known = f"make it known (in a uv environment: uv pip install -e {target})"
    steps = [(f"python -m pip install -e {target}", known), (f"vr probes check {name}", "does it leave runs alone?")]
    show_next([*steps, (f"vr run cnn --probe {name}", "measure with it")], to=err())
