"""Who may import whom: read from the import statements, so that a wrong arrow fails here and not in a review.

The house has storeys: a room may import what its row lists, and nothing else of this project. Heavy and foreign
libraries stay in the rooms that need them, and no files import each other in a circle.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vrcli.cli import lazy

ROOT = Path(__file__).parents[1]
#: Folders with code, and what their modules' names begin with.
FOLDERS = {"vrcli": "vrcli", "tasks": "vrcli.tasks", "db": "vrcli.db"}
#: What every room may import: errors, importing what the user names, what writes files, removes what is left of them
#: and shows text, passwords, names of variants, the version, which of two values is better.
COMMON = (
    "vrcli.direction", "vrcli.errors", "vrcli.importing", "vrcli.leftovers", "vrcli.output", "vrcli.passwords",
    "vrcli.variants", "vrcli.version", "vrcli.visible",
)  # fmt: skip

#: Room -> what of ours it may import besides itself. A module's room is the longest of these names it begins with.
ALLOWED: dict[str, tuple[str, ...]] = {
    "vrcli.direction": (),
    "vrcli.errors": (),
    "vrcli.importing": (),
    "vrcli.leftovers": ("vrcli.db.liveness",),
    "vrcli.output": ("vrcli.db.location",),
    "vrcli.passwords": (),
    "vrcli.variants": (),
    "vrcli.version": (),
    "vrcli.visible": (),
    "vrcli.db": (),
    "vrcli.tasks": (),
    "vrcli.stats": (),
    "vrcli.optim": ("vrcli.tasks.space",),
    "vrcli.identity": ("vrcli.tasks", "vrcli.optim", "vrcli.engine.revision"),
    "vrcli.spec": (),
    "vrcli.settings": ("vrcli.tasks", "vrcli.optim", "vrcli.identity", "vrcli.spec"),
    # Probes are words of the user like settings, and are carried out by the engine.
    "vrcli.probing": ("vrcli.settings", "vrcli.engine.probes"),
    "vrcli.engine": ("vrcli.tasks", "vrcli.optim", "vrcli.spec"),
    "vrcli.search": ("vrcli.tasks.space", "vrcli.db", "vrcli.stats", "vrcli.identity"),
    "vrcli.execute": ("vrcli.engine", "vrcli.db", "vrcli.spec", "vrcli.tasks", "vrcli.optim", "vrcli.identity"),
    "vrcli.record": ("vrcli.execute", "vrcli.engine", "vrcli.db", "vrcli.spec", "vrcli.optim", "vrcli.tasks"),
    "vrcli.results": ("vrcli.db", "vrcli.stats", "vrcli.spec"),
    "vrcli.study": (
        "vrcli.search", "vrcli.execute", "vrcli.results", "vrcli.stats", "vrcli.spec", "vrcli.settings",
        "vrcli.probing", "vrcli.engine.events",
    ),
    "vrcli.report": ("vrcli.results", "vrcli.stats"),
    "vrcli.report.study": ("vrcli.report", "vrcli.results", "vrcli.stats", "vrcli.search", "vrcli.study"),
    "vrcli.bench": tuple(
        f"vrcli.{room}" for room in ("db", "tasks", "stats", "optim", "spec", "settings", "engine", "search", "execute",
                                     "results", "study", "report", "record")
    ),
    "vrcli.outcomes": ("vrcli.db", "vrcli.results", "vrcli.report", "vrcli.stats", "vrcli.study"),
    "vrcli.plan_outcomes": ("vrcli.outcomes", "vrcli.report", "vrcli.study"),
    # Words go to a study, and what comes back into an outcome. Of the command line it has the displays of progress, for
    # a person at a terminal or a notebook, and the file that says what the options of a command say.
    "vrcli.following": (
        "vrcli.study", "vrcli.record", "vrcli.settings", "vrcli.cli.watching", "vrcli.cli.config_file",
        "vrcli.probing", "vrcli.execute.place",
    ),
    "vrcli.api": (
        "vrcli.following", "vrcli.probing", "vrcli.record.command", "vrcli.execute.place", "vrcli.execute.checkpoints",
        "vrcli.outcomes", "vrcli.plan_outcomes", "vrcli.study", "vrcli.execute.lookup",
        "vrcli.results.frames", "vrcli.db.location", "vrcli.tasks.base", "vrcli.cli.watching",
    ),
    "vrcli.studies": (
        "vrcli.following", "vrcli.outcomes", "vrcli.plan_outcomes", "vrcli.study", "vrcli.execute.place",
        "vrcli.execute.lookup",
        "vrcli.db.location", "vrcli.db.store",
    ),
    "vrcli.cli": ("vrcli",),
    "vrcli": ("vrcli",),
}  # fmt: skip
#: Libraries -> the only rooms or files that import them.
LIBRARIES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("typer", "click"): ("vrcli.cli",),
    ("rich",): ("vrcli.cli",),
    ("skopt",): ("vrcli.search.search",),
    ("sqlalchemy", "alembic"): ("vrcli.db",),
    ("torch",): (
        "vrcli.tasks",
        "vrcli.optim",
        "vrcli.engine",
        "vrcli.execute",
        "vrcli.record",
        "vrcli.bench",
        "vrcli.cli",
        "vrcli.api",  # the type of a parameter
        "vrcli.results.export.tensorboard",
    ),
    ("torchvision", "datasets"): ("vrcli.tasks",),
    ("matplotlib", "tabulate", "jinja2", "plotly"): ("vrcli.report", "vrcli.cli.plot_output"),
    ("pandas",): ("vrcli.results.frames", "vrcli.outcomes"),
    ("pyarrow", "mlflow", "tensorboard", "wandb"): ("vrcli.results.export", "vrcli.bench"),
    ("safetensors",): ("vrcli.engine.weights",),
    ("greenlet",): ("vrcli.engine.driven", "vrcli.engine.driving"),
    ("lightning",): ("vrcli.record.lightning",),
    ("transformers",): ("vrcli.record.transformers",),
    ("scipy",): ("vrcli.stats", "vrcli.search.search", "vrcli.bench"),
}
#: All that `vr --help` executes of ours, beside what the modules themselves import at their top.
STARTING = ("vrcli", "vrcli.cli", "vrcli.cli.app", "vrcli.cli.lazy", "vrcli.db.location", *COMMON)
#: Slow to import: never at module level where `vr --help` would pay for it.
HEAVY = (
    *("torch", "torchvision", "skopt", "sqlalchemy", "datasets", "sklearn", "scipy", "matplotlib", "numpy", "pandas"),
    *("pyarrow", "plotly", "jinja2", "mlflow", "tensorboard", "pydantic"),
    *("vrcli.db.store", "vrcli.tasks.base", "vrcli.engine", "vrcli.execute", "vrcli.spec", "vrcli.settings"),
    *("vrcli.report", "vrcli.results", "vrcli.stats", "vrcli.study", "vrcli.search"),
)


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its name."""
    found = {}
    for folder, prefix in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            relative = path.relative_to(ROOT / folder)
            if folder == "vrcli" and relative.parts[0] in ("tasks", "db"):
                continue  # the links that editors follow
            found[".".join([prefix, *relative.with_suffix("").parts]).removesuffix(".__init__")] = path
    return found


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Modules that a file imports; with `top_level`, only those executed when it is imported."""
    tree = ast.parse(path.read_text())
    for node in _executed_at_import(tree.body) if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            inner = [name for name in names if name in modules()]
            yield from inner
            if len(inner) < len(names):
                yield node.module


def _executed_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from _executed_at_import(node.body + node.orelse)


def under(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def room_of(module: str) -> str:
    return max((room for room in ALLOWED if under(module, (room,))), key=len)


def test_every_room_imports_only_what_lies_below_it():
    wrong = set()
    for name, path in modules().items():
        room = room_of(name)
        allowed = (room, *ALLOWED[room], *COMMON)
        wrong |= {(name, m) for m in imports(path) if under(m, ("vrcli",)) and not under(m, allowed)}
    assert wrong == set()


@pytest.mark.parametrize("libraries", LIBRARIES, ids=lambda names: names[0])
def test_libraries_stay_in_their_rooms(libraries: tuple[str, ...]):
    users = {name for name, path in modules().items() if any(under(m, libraries) for m in imports(path))}
    assert users
    assert {name for name in users if not under(name, LIBRARIES[libraries])} == set()


def test_no_files_import_each_other_in_a_circle():
    graph = {name: {m for m in imports(path) if m in modules() and m != name} for name, path in modules().items()}
    left = dict(graph)
    while leaves := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in leaves:
            del left[name]
    # What is left imports a circle or lies on one; only circles have every file imported by another that is left.
    while tops := [name for name in left if not any(name in targets for targets in left.values())]:
        for name in tops:
            del left[name]
    assert sorted(left) == []


def test_no_task_imports_another():
    names = {"cnn", "transformer", "gflownet", "diffusion"}
    for name in names:
        others = tuple(f"vrcli.tasks.{other}" for other in names - {name})
        assert [m for m in imports(ROOT / "tasks" / f"{name}.py") if under(m, others)] == []


def test_the_command_line_imports_nothing_heavy_before_a_command_is_chosen():
    found = {m for name in STARTING for m in imports(modules()[name], top_level=True)}
    assert {m for m in found if under(m, HEAVY)} == set()
    assert {m for m in found if under(m, ("vrcli",))} <= {*STARTING, "vrcli.db.errors"}


def test_slow_libraries_are_imported_only_inside_functions():
    lazy = {"vrcli.optim.zoo_adapters"}  # itself imported only to build one of its optimizers
    slow = ("torchvision", "skopt", "pytorch_optimizer")
    for name, path in modules().items():
        assert name in lazy or [m for m in imports(path, top_level=True) if under(m, slow)] == []


def test_only_the_command_line_prints():
    for name, path in modules().items():
        if under(name, ("vrcli.cli",)):
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), name


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command below one of `vr`, with its function."""
    if not (inner := getattr(command, "commands", {})):
        yield name, inspect.unwrap(command.callback)
    for word, one in inner.items():
        yield from commands(f"{name} {word}", one)


def test_files_and_functions_can_be_taken_in():
    long = {}
    for name, path in modules().items():
        text = path.read_text()
        if (lines := len(text.splitlines())) > 400:
            long[name] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > 50:
                long[f"{name}:{node.name}"] = lines_of(node)
    assert long == {}


@pytest.mark.parametrize("verb", lazy.COMMANDS)
def test_commands_call_the_api_and_print(verb: str):
    long = {}
    for name, function in commands(verb, lazy.load(verb)):
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        assert isinstance(node, ast.FunctionDef)
        if (lines := lines_of(node)) > 20:
            long[name] = lines
    assert long == {}


def test_the_package_list_is_the_folders():

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {name if path.name == "__init__.py" else name.rpartition(".")[0] for name, path in modules().items()}
    assert listed == folders
