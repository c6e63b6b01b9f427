"""What users install: the wheel holds every package and the migrations, and works away from the source tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
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
    shutil.copytree(ROOT, source, ignore=ignore)
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_wheel_and_sdist_carry_all_packages_and_migrations(built: Path):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        wheel = set(archive.namelist())
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        sdist = {name.partition("/")[2] for name in archive.getnames()}
    source = {str(p.relative_to(ROOT)) for package in ("vrcli", "tasks", "db") for p in (ROOT / package).rglob("*.py")}
    assert any(name.startswith("db/migrations/versions/") for name in source)
    assert source <= wheel
    assert source <= sdist
    assert not any(name.startswith("tests/") for name in wheel)


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


def test_every_dependency_says_which_file_needs_it():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start = lines.index("dependencies = [") + 1
    for line in lines[start : lines.index("]", start)]:
        assert "#" in line, f"no comment: {line}"
