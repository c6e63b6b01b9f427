"""`vr tasks`: what can be trained, and where every number of a preset comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.cli.console import err, say
from vrcli.cli.lazy import noun
from vrcli.cli.scaffold import address, write_task
from vrcli.cli.screen import facts, hanging, show_next, show_rows, suggest
from vrcli.cli.waiting import waited, waiting
from vrcli.report.study.blocks import Rows
from vrcli.report.wording import setting as text
from vrcli.settings import preset_settings, resolve, settings_of
from vrcli.spec import Training
from vrcli.study.asked import DEFAULT_OPTIMIZER
from vrcli.tasks.registry import catalogue, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vrcli.tasks.base import Task
    from vrcli.tasks.check import Finding

app = noun("List and show tasks.")


@app.command("list")
def list_tasks(format: str = req.FORMAT, debug: bool = req.DEBUG) -> None:
    """List the tasks; one that cannot be imported is listed with its error."""
    req.check_format(format)

    rows: list[dict[str, Any]] = []
    with waiting("importing the tasks"):
        found = list(catalogue())
    for row in found:
        presets = list(row.task.presets) if row.task else []
        summary = row.task.summary if row.task else f"unavailable: {row.error}"
        rows.append({"task": row.name, "from": row.origin, "presets": presets, "summary": summary})
    if format == "json":
        print(json.dumps(rows))
        return
    shown = [{**r, "presets": " ".join(r["presets"])} for r in rows]
    show_rows(Rows(["task", "presets", "from", "summary"], shown, wrap=["presets", "summary"], least=["from"]))
    name = shown[0]["task"]
    suggest((f"vr tasks show {name}", "its settings, and where each comes from"), (f"vr run {name}", "train it"))


@app.command("show")
def show(
    name: str = typer.Argument(help="task"),
    preset: str = typer.Option("quick", "--preset", help="which preset's values"),
    opt: str | None = typer.Option(None, "--opt", help="also the settings of this optimizer", show_default=False),
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Show a preset: every setting, its value, and where that is from."""
    req.check_format(format)
    with waiting("importing the task"):
        task = load(name)
        rows = preset_rows(task, preset, opt)
    spaces = {o: {n: str(d) for n, d in space.items()} for o, space in task.space.items()}
    if format == "json":
        print(json.dumps({"task": name, "preset": preset, "settings": rows, "space": spaces}))
        return
    print_preset(task, preset, rows, spaces)
    words = f"vr run {name}" + (f" --opt {opt}" if opt else "") + (f" --preset {preset}" if preset != "quick" else "")
    suggest((words, "train it"), (f"{words} --help", "every setting as an option"))


def print_preset(
    task: type[Task[Any]], preset: str, rows: list[dict[str, str]], spaces: Mapping[str, Mapping[str, str]]
) -> None:
    """What a preset says, for people."""
    say(f"{task.name} · {task.summary}", style="bold", prose=True)
    chosen = task.presets[preset].summary
    others = ", ".join(p for p in task.presets if p != preset)
    say(f"preset {preset}{f' ({chosen})' if chosen else ''}; others: {others}", prose=True)
    say()
    show_rows(Rows(["setting", "value", "where from"], rows, wrap=["where from", "value"]))
    if spaces:
        say()
        say("search space", style="bold")
    axes = ("   ".join(f"{n} {d}" for n, d in space.items()) for space in spaces.values())
    facts(zip(("others" if o == "*" else o for o in spaces), axes, strict=True), width=12)


def preset_rows(task: type[Task[Any]], preset: str, optimizer: str | None) -> list[dict[str, str]]:
    """One row per setting of the task, the loop, and the optimizers that the preset names (or the one asked for)."""

    base = optimizer or DEFAULT_OPTIMIZER
    resolved = resolve(task, base, preset=preset)
    settings = settings_of(task, base)
    config = {**resolved.request.task_settings, **dict(resolved.request.training)}
    rows = [
        {"setting": n, "value": text(config[n]), "where from": resolved.origins[n]}
        for n, s in settings.by_name.items() if s.section != "optimizer"
    ]  # fmt: skip
    named = [optimizer] if optimizer else [name for name in task.presets[preset].optimizers if name != "*"]
    for name in named:
        own = settings_of(task, name)
        sourced = preset_settings(task, name, preset, own)
        hyper = resolve(task, name, preset=preset).request.optimizer_settings
        for key, setting in own.by_name.items():
            if setting.section == "optimizer" and (optimizer or key in sourced):
                origin = str(sourced[key]) if key in sourced else "default"
                rows.append({"setting": f"{name}.{key}", "value": text(hyper[setting.key]), "where from": origin})
    return rows


@app.command("check")
def check(name: str = typer.Argument(help="name, or module:Class"), debug: bool = req.DEBUG) -> None:
    """Check that a task keeps its contract; exit code 1 where it does not."""
    findings = []
    with waiting("importing the task"):
        task = load(name)
    for finding in waited(findings_of(task), "checking"):
        hanging(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.name:26} {finding.detail}", 33)
        findings.append(finding)
    failed = sum(not f.passed for f in findings)
    say(f"{name}: {len(findings) - failed} of {len(findings)} checks passed")
    if failed:
        raise typer.Exit(1)
    preset = "" if "quick" in task.presets else f" --preset {next(iter(task.presets))}"
    suggest((f"vr run {name}{preset}", "train it"))


def findings_of(task: type[Task[Any]]) -> Iterator[Finding]:
    """What the checks of a task find, as they end."""
    from vrcli.tasks.check import check, check_declaration
    from vrcli.tasks.loop import LoopTask

    if not issubclass(task, LoopTask):
        yield from check(task, training_fields=Training.model_fields)
        return
    yield (declared := check_declaration(task, task.training_settings or Training.model_fields))
    if declared.passed:
        from vrcli.record.check import check_loop

        preset = "smoke" if "smoke" in task.presets else next(iter(task.presets))
        yield from check_loop(resolve(task, "adamw", preset=preset).request, task)


@app.command("new")
def new(
    name: str = typer.Argument(help="name of the task"),
    folder: Path | None = typer.Option(
        None, "--folder", help="where to write it [default: ./NAME]", show_default=False
    ),
    loop: bool = typer.Option(False, "--loop", help="a task with a training loop of its own"),
    debug: bool = req.DEBUG,
) -> None:
    """Write a package with a working task of your own, to be changed."""

    target = folder or Path(name)
    for path in write_task(name, target, loop=loop):
        say(f"wrote {path}", to=err())
    where, here = quote(str(target)), address("task", name)
    steps = [
        (f"cd {where} && vr tasks check {here}", "does it keep its contract?"),
        (f"vr run {here}", "train it, in that folder"),
        ("python -m pip install -e .", f"there, too: then it is called {name} everywhere (uv: uv pip install -e .)"),
    ]
    show_next(steps, to=err())
