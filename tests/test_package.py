"""What users install: the wheel holds every package and the migrations, and works away from the source tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, made from a copy so that the source tree stays as it is."""
    source = tmp_path_factory.mktemp("source") / "vr"
    ignore = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "*.egg-info", "build", "dist", "*.db*", ".*_cache")
    shutil.copytree(ROOT, source, ignore=ignore, symlinks=True)
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_wheel_and_sdist_carry_all_packages_migrations_and_templates(built: Path):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        wheel = set(archive.namelist())
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        sdist = {name.partition("/")[2] for name in archive.getnames()}
    files = [path for package in ("vrcli", "tasks", "db") for path in (ROOT / package).rglob("*") if path.is_file()]
    source = {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}
    assert any(name.startswith("db/migrations/versions/") for name in source)
    assert "vrcli/report/page/templates/page.html.j2" in source
    source -= {name for name in source if name.startswith(("vrcli/tasks/", "vrcli/db/"))}  # the links
    installed = {name if name.startswith("vrcli/") else f"vrcli/{name}" for name in source}
    assert installed <= wheel
    assert not any(name.startswith(("tasks/", "db/")) for name in wheel)
    assert source <= sdist
    assert not any(name.startswith("tests/") for name in wheel)


@pytest.mark.slow
def test_the_wheel_runs_from_another_directory_without_the_test_extra(built: Path, tmp_path: Path):
    """A clean environment that borrows only the installed run-time dependencies of this one."""
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    site = next((home / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(next(built.glob("*.whl"))).extractall(site)
    borrowed = tmp_path / "borrowed"
    borrowed.mkdir()
    left_out = ("vrcli", "__editable__", "pytest", "hypothesis", "mypy", "ruff", "pytorch_optimizer", "pexpect")
    for folder in map(Path, sys.path):
        if folder.name != "site-packages":
            continue
        for entry in folder.iterdir():
            if not entry.name.startswith(left_out) and entry.suffix not in (".pth", ".egg-link"):
                (borrowed / entry.name).exists() or (borrowed / entry.name).symlink_to(entry)
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    work = tmp_path / "work"
    work.mkdir()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"VR_CACHE": str(tmp_path / "cache")}

    def vr(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, "-m", "vrcli", *words], cwd=work, env=env, capture_output=True, text=True)

    shown = vr("--help")
    assert shown.returncode == 0, shown.stderr
    assert "run" in shown.stdout
    done = vr("run", "cnn", "--preset", "smoke", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "best val loss" in done.stdout
    assert (work / "vr.db").exists()
    reported = vr("report", "--output", "r.html")
    assert reported.returncode == 0, reported.stderr
    assert "</html>" in (work / "r.html").read_text(encoding="utf-8")


#: What files say that need a distribution which is not imported by its own name.
MODULES = {
    "mkdocs-material": "name: material",
    "mlflow-skinny": "mlflow", "pillow": "PIL", "pytest-timeout": "timeout", "pytest-xdist": "--maxprocesses",
    "pytorch-optimizer": r"pytorch_optimizer|importorskip\(PACKAGE", "scikit-learn": "sklearn",
    "scikit-optimize": "skopt",
}  # fmt: skip


def test_every_dependency_says_which_file_needs_it():
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    lines = [line for line in text.splitlines() if any(f'"{one}"' in line for one in wanted)]
    assert len(lines) == len(wanted)
    for line in lines:
        found = re.match(r'.*?"([A-Za-z0-9-]+)(?:\[\w+\])?>=[\d.]+"\]?,?\s+# (.+)', line)
        assert found, f"no comment: {line}"
        module = MODULES.get(found[1], found[1])
        for name in found[2].partition(":")[0].split(" (")[0].split(", "):
            path = ROOT / name
            files = [path] if path.is_file() else list(path.rglob("*.py"))
            assert any(re.search(module, file.read_text("utf-8")) for file in files), f"{name} needs no {found[1]}"
