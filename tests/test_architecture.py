"""Who may import whom: read from the import statements, so that a wrong arrow fails here and not in a review."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Package or file -> modules that nothing in it may import.
FORBIDDEN = {
    "db": ("torch", "tasks", "vrcli", "typer", "numpy"),
    "tasks": ("vrcli", "db", "typer", "skopt"),
    "vrcli/optim": ("db", "typer", "vrcli.engine", "vrcli.cli", "skopt"),
    "vrcli/engine": ("db", "typer", "vrcli.cli", "vrcli.report", "skopt"),
    "vrcli/report": ("db", "torch", "tasks", "typer", "vrcli.cli", "vrcli.engine"),
    "vrcli/export": ("tasks", "typer", "vrcli.cli", "vrcli.engine", "vrcli.optim", "skopt"),
    "vrcli/sweep": ("typer", "vrcli.cli"),
    "vrcli/bench": ("typer", "vrcli.cli"),
    "vrcli/frames.py": ("torch", "tasks", "typer", "vrcli.cli", "vrcli.engine"),
    "vrcli/filter.py": ("torch", "typer", "vrcli.cli", "vrcli.engine"),
}
#: Slow to import: never at module level where `vr --help` would pay for it.
HEAVY = (
    *("torch", "torchvision", "skopt", "sqlalchemy", "datasets", "sklearn", "scipy", "matplotlib", "numpy", "pandas"),
    *("pyarrow", "plotly", "jinja2", "mlflow", "tensorboard"),
)
HEAVY_OWN = (
    *("db.store", "tasks.base", "vrcli.engine", "vrcli.runner", "vrcli.spec"),
    *("vrcli.report", "vrcli.export", "vrcli.frames"),
)
#: What names and words of reports are taken from; it is held to the same rule.
LIGHT = ("vrcli.report.types", "vrcli.report.wording")


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Modules that a file imports; with `top_level`, only those executed when it is imported."""
    tree = ast.parse(path.read_text())
    nodes = _executed_at_import(tree.body) if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _executed_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from _executed_at_import(node.body + node.orelse)


def matches(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_package_imports_what_it_may_not_know(package: str):
    path = ROOT / package
    files = [path] if path.is_file() else list(path.rglob("*.py"))
    assert files
    wrong = [f"{f.relative_to(ROOT)}: {m}" for f in files for m in imports(f) if matches(m, FORBIDDEN[package])]
    assert wrong == []


def test_the_store_is_entered_through_its_doors_alone():
    doors = ("db.store", "db.records", "db.errors", "db.location")
    files = [path for package in ("vrcli", "tasks") for path in (ROOT / package).rglob("*.py")]
    used = [f"{f.relative_to(ROOT)}: {m}" for f in files for m in imports(f) if matches(m, ("db",))]
    assert [line for line in used if not matches(line.partition(": ")[2], doors)] == []
    assert used


def test_the_parts_of_the_store_inherit_nothing_from_each_other():
    bases = {
        f"{path.stem}.{node.name}": [ast.unparse(base) for base in node.bases]
        for path in (ROOT / "db").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    parts = {name.partition(".")[2] for name in bases}
    assert {"Store", "Runs", "Sweeps", "Curves", "Artifacts", "Database"} <= parts
    errors = ["StoreError"]
    assert {name: own for name, own in bases.items() if own and own != errors and parts & set(own)} == {}


def test_no_task_imports_another():
    names = {"cnn", "transformer", "gflownet", "diffusion"}
    for name in names:
        others = tuple(f"tasks.{other}" for other in names - {name})
        assert [m for m in imports(ROOT / "tasks" / f"{name}.py") if matches(m, others)] == []


def test_the_command_line_imports_nothing_heavy_at_import():
    files = [*(ROOT / "vrcli" / "cli").rglob("*.py")]
    files += [ROOT / f"vrcli/{name}.py" for name in ("__init__", "errors", "filter")]
    files += [ROOT / "db/location.py"]
    files += [ROOT / f"{name.replace('.', '/')}.py" for name in LIGHT]
    wrong = [
        f"{f.relative_to(ROOT)}: {m}"
        for f in files
        for m in imports(f, top_level=True)
        if matches(m, HEAVY + HEAVY_OWN) and not matches(m, LIGHT)
    ]
    assert wrong == []


def test_slow_libraries_are_imported_only_inside_functions():
    lazy = {"vrcli/optim/zoo_adapters.py"}  # itself imported only to build one of its optimizers
    for package in ("tasks", "vrcli", "db"):
        for path in (ROOT / package).rglob("*.py"):
            slow = [
                m for m in imports(path, top_level=True) if matches(m, ("torchvision", "skopt", "pytorch_optimizer"))
            ]
            assert slow == [] or str(path.relative_to(ROOT)) in lazy, path


def test_only_the_search_knows_skopt():
    users = {
        str(path.relative_to(ROOT))
        for package in ("tasks", "vrcli", "db")
        for path in (ROOT / package).rglob("*.py")
        if any(matches(m, ("skopt",)) for m in imports(path))
    }
    assert users <= {"vrcli/sweep/search.py"}


def test_the_engine_and_the_reports_do_not_print():
    for package in ("vrcli/engine", "vrcli/report", "db", "tasks"):
        for path in (ROOT / package).rglob("*.py"):
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), path
