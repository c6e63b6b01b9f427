"""What is recorded of a run's origin."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vrcli.engine.provenance import _own_filters, git_state

REPOSITORIES = {
    "fsmonitor": [("core.fsmonitor", "{evil}")],
    "fsmonitor and its own hooks": [("core.fsmonitor", "{evil}"), ("core.hooksPath", "hooks")],
    "clean filter": [("filter.Evil.x.clean", "{evil}"), ("filter.Evil.x.required", "true")],
    "process filter": [("filter.Evil.x.process", "{evil}"), ("filter.Evil.x.required", "true")],
}


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a file, all of it committed."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_text("a\n")
    (folder / ".gitattributes").write_text("a.txt filter=Evil.x\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


@pytest.mark.parametrize("kind", REPOSITORIES)
def test_nothing_that_a_repository_names_is_executed(repository: Path, tmp_path: Path, kind: str) -> None:
    trace, evil = tmp_path / "trace", tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\necho x >> {trace}\ncat\n")
    evil.chmod(0o755)
    hooks = repository / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "post-index-change").symlink_to(evil)
    for name, value in REPOSITORIES[kind]:
        git(repository, "config", name, value.format(evil=evil))
    (repository / "a.txt").touch()  # git looks at its content again
    subprocess.run(["git", "status"], cwd=repository, capture_output=True, stdin=subprocess.DEVNULL)
    assert trace.exists(), "this git would not have executed it"
    trace.unlink()
    (repository / "a.txt").touch()
    assert git_state(repository) == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}
    (repository / "a.txt").write_text("b\n")
    found = git_state(repository)
    assert found is not None
    assert found["dirty"]
    assert not trace.exists()


def test_a_users_own_filters_stay() -> None:
    listed = (
        "global\tfilter.lfs.clean\nsystem\tfilter.lfs.process\nlocal\tfilter.a.b.required\nworktree\tfilter.c.clean"
    )
    assert _own_filters(listed) == ["-c", "filter.a.b.required=false", "-c", "filter.c.clean="]


def test_no_repository_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
