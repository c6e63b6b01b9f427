"""What the shell completes where a value is asked for.

By the flag of an option, and by the metavar or the command of an argument, whichever command has it. No library that
is slow to import is needed, no task is imported, and a database is read as it lies there.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

Completer = Callable[[typer.Context, str], list[str]]

#: Presets that a task has whose file cannot be read.
USUAL_PRESETS = ("smoke", "quick", "paper", "released")
#: What is offered: zsh evaluates the words that it gets, and what a file or a database says must not run as code.
OFFERED = re.compile(r"~?[\w.@:+/=,-]*")
#: Characters of a part of a path or a list that is offered.
LONGEST = 100


def complete_values(app: typer.Typer, command: str) -> None:
    """Give the options and arguments of an app's commands what completes their values."""
    for one in app.registered_commands:
        words = command if one.name == command else f"{command} {one.name}"
        for parameter in inspect.signature(one.callback or app).parameters.values():
            about = parameter.default
            if getattr(about, "autocompletion", "") is None:
                about.autocompletion = completer_of(about, words)


def completer_of(about: Any, command: str) -> Completer | None:
    """What completes the values of an option or argument; None where only its user knows."""
    found = _completer(about, command)
    return found and plain(found)


def plain(completer: Completer) -> Completer:
    """Only such words of a completer as every shell takes for themselves."""

    def found(ctx: typer.Context, incomplete: str) -> list[str]:
        words = filter(OFFERED.fullmatch, completer(ctx, incomplete))
        return [word for word in words if all(len(part) <= LONGEST for part in re.split("[/,]", word))]

    return found


def _completer(about: Any, command: str) -> Completer | None:
    if not isinstance(about, typer.models.OptionInfo):
        return ARGUMENTS.get(about.metavar) or ARGUMENTS.get(command)
    flag = next((flag for flag in about.param_decls or () if flag.startswith("--")), "")
    return BY_COMMAND.get((command.partition(" ")[0], flag)) or OPTIONS.get(flag)


# -- what there is ----------------------------------------------------------------------------------------------------


def tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tasks; after the first one those that are not given yet, where several can be."""
    from vrcli.tasks.registry import names

    given = _given(ctx).tasks
    return [name for name in names() if name not in given]


def optimizers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Optimizers; after NAME@ the labels that the database knows."""
    from vrcli.optim.registry import names

    return [*names(), *(name for name in _stored(ctx, "optimizer") if "@" in name)]


def probes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Probes."""
    from vrcli.engine.probes.registry import names

    return names()


def pair(ctx: typer.Context, incomplete: str) -> list[str]:
    """Two of the optimizers given, with a comma between them."""
    given = [name.partition(":")[0] for name in _given(ctx).optimizers]
    return [f"{one},{other}" for one in given for other in given if one != other]


def given_optimizers(ctx: typer.Context, incomplete: str) -> list[str]:
    """The optimizers of the command line, else all."""
    return [name.partition(":")[0] for name in _given(ctx).optimizers] or optimizers(ctx, incomplete)


def presets(ctx: typer.Context, incomplete: str) -> list[str]:
    """The presets of the tasks named; of all tasks where none is."""
    from vrcli.tasks.registry import own

    chosen = [own()[name] for name in _given(ctx).tasks or own() if name in own()]
    return list(dict.fromkeys(name for target in chosen for name in _presets(target))) or list(USUAL_PRESETS)


def stored(kind: str) -> Completer:
    """Names of one kind in the database."""
    return lambda ctx, incomplete: _stored(ctx, kind)


def tasks_and_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tasks, and runs by number or name."""
    return [*tasks(ctx, incomplete), *_stored(ctx, "run")]


def columns(ctx: typer.Context, incomplete: str) -> list[str]:
    """Columns of a report and results, after each comma anew."""
    from vrcli.report.tables.columns import COLUMNS

    before, comma, _ = incomplete.rpartition(",")
    return [before + comma + name for name in dict.fromkeys([*COLUMNS, "all", *_stored(ctx, "metric")])]


def results(ctx: typer.Context, incomplete: str) -> list[str]:
    """Results and curves in the database, after each comma anew."""
    before, comma, _ = incomplete.rpartition(",")
    return [before + comma + name for name in _stored(ctx, "metric")]


def words(*given: str) -> Completer:
    """One of a few words."""
    return lambda ctx, incomplete: list(given)


def files(*endings: str) -> Completer:
    """Folders, and files with one of these endings (any without)."""

    def found(ctx: typer.Context, incomplete: str) -> list[str]:
        folder, slash, _ = incomplete.rpartition("/")
        try:
            entries = sorted(os.scandir(Path(folder + slash or ".").expanduser()), key=lambda one: one.name)
        except OSError:
            return []
        return [
            folder + slash + one.name + ("/" if one.is_dir() else "")
            for one in entries
            if not one.name.startswith(".") and (one.is_dir() or not endings or one.name.endswith(endings))
        ]

    return found


_CONFIGS, _DATABASES, _ANY = files(".toml"), files(".db", ".sqlite", ".sqlite3"), files()
#: By flag; the same flag asks for the same, whichever command has it, ...
OPTIONS: Mapping[str, Completer] = {
    "--probe": probes, "--probe-every": words("1e", "10e", "100"),
    "--opt": optimizers, "--task": tasks, "--preset": presets, "--against": given_optimizers, "--primary": pair,
    "--config": _CONFIGS, "--db": _DATABASES, "--tag": stored("tag"), "--group": stored("group"),
    "--sweep": stored("sweep"), "--run": stored("run"), "--lr-from": stored("run"), "--metric": results,
    "--columns": columns, "--sort": columns,
    "--pivot": results, "--rows": words("optimizer", "task", "dataset", "preset"),
    "--status": words("running", "completed", "diverged", "failed", "interrupted"),
    "--format": words("text", "json"), "--device": words("auto", "cpu", "cuda", "mps"),
    "--search": words("gp", "forest", "random", "sobol"), "--prune": words("none", "median", "halving"),
    "--weights": words("best", "last"),
    "--keep-weights": words("best", "last", "both", "update"), "--checkpoint-every": words("60s", "off"),
    "--spread": words("ci", "sd", "minmax", "none"), "--band": words("ci", "sd", "minmax", "quantile"),
    "--x": words("steps", "epochs", "gradients", "seconds"), "--precision": words("fp32", "bf16", "auto"),
    "--plain-precision": words("fp32", "bf16"),
    "--output": _ANY, "--data": _ANY, "--data-dir": _ANY, "--checkpoint-dir": _ANY, "--folder": _ANY,
    "--samples": _ANY,
}  # fmt: skip
#: ... but for these.
BY_COMMAND: Mapping[tuple[str, str], Completer] = {
    ("report", "--format"): words("markdown", "text", "csv", "tsv", "json", "latex_booktabs", "html"),
    ("sweeps", "--format"): words("csv", "json", "text"),
}
#: By the metavar of an argument, or by its command.
ARGUMENTS: Mapping[str | None, Completer] = {
    "TASK": tasks, "RUN": stored("run"), "[TASK|RUN]...": tasks_and_runs, "SWEEP": stored("sweep"),
    "run": tasks, "sweep": tasks, "compare": tasks, "tasks show": tasks, "tasks check": tasks, "bench tasks": tasks,
    "opts show": optimizers, "opts check": optimizers, "opts list": optimizers,
    "probes show": probes, "probes check": probes,
    "sweeps show": stored("sweep"), "sweeps resume": stored("sweep"), "sweeps stop": stored("sweep"),
    "sweeps export": stored("sweep"), "plot sweep": stored("sweep"), "db merge": _DATABASES, "db backup": _DATABASES,
}  # fmt: skip


# -- what was given ---------------------------------------------------------------------------------------------------


def _given(ctx: typer.Context) -> Any:
    """The choice that the words before this one make."""
    from vrcli.cli.config_file import CHOICE, Choice

    known = ctx.meta.get(CHOICE)
    if known is not None:
        return known
    found = ctx.params.get("tasks") or ctx.params.get("task") or ctx.params.get("name") or ()
    given: Iterable[str] = (found,) if isinstance(found, str) else found
    return Choice(None, ctx.params.get("opts") or (), None, tuple(given))


def _stored(ctx: typer.Context, kind: str) -> list[str]:
    from vrcli.db.location import Location
    from vrcli.db.stored_names import names_in

    where = ctx.params.get("database")
    path = Location.given(where).path
    return [] if path is None else names_in(path, kind)


def _presets(target: str) -> list[str]:
    """The presets that a file of ours defines, which is read and not imported: the keys of its mapping of presets."""
    from vrcli.tasks import registry

    path = Path(registry.__file__).parent / f"{target.partition(':')[0].rpartition('.')[2]}.py"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else ()
        )
        named = any(isinstance(one, ast.Name) and one.id.lower() == "presets" for one in targets)
        if named and isinstance(value := getattr(node, "value", None), ast.Dict):
            return [str(key.value) for key in value.keys if isinstance(key, ast.Constant)]
    return list(USUAL_PRESETS)
