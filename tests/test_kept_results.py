"""The results that are kept: every page is what `vr study report` makes of the runs beside it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs" / "results").glob("*/page.md"))


def test_there_are_some() -> None:
    assert PAGES
    for page in PAGES:
        assert {path.name for path in page.parent.iterdir()} <= {"page.md", "runs.sqlite", "figures"}
        for figure in page.parent.glob("figures/*"):
            assert figure.stat().st_size < 200_000
            assert f"figures/{figure.name}" in page.read_text()


def test_the_readme_quotes_them() -> None:
    readme = (PAGES[0].parents[3] / "README.md").read_text()
    found = re.search(r"\*\*What it found so far\.\*\*(.*?)\n\n", readme, re.S)
    assert found is not None
    quoted = re.findall(r"[+−][\d.]+ \[[^]]+\]", found[1])
    assert len(quoted) >= 4
    pages = " ".join(page.read_text() for page in PAGES)
    assert [one for one in quoted if one not in pages] == []


@pytest.mark.parametrize(
    "page", [PAGES[0], *(pytest.param(page, marks=pytest.mark.slow) for page in PAGES[1:])], ids=lambda p: p.parent.name
)
def test_a_page_is_made_again_from_the_runs_beside_it(vr: Callable[..., Any], tmp_path: Path, page: Path) -> None:
    shutil.copy(page.parent / "runs.sqlite", tmp_path)
    made = re.search(r"Made by `vr (study report .+) --output FOLDER`", page.read_text())
    assert made is not None
    done = vr(*made[1].split(), "--output", "again")
    assert done.code == 0, done.err
    assert (tmp_path / "again" / "page.md").read_text() == page.read_text()
    again = {path.name for path in (tmp_path / "again").glob("figures/*")}
    assert again == {path.name for path in page.parent.glob("figures/*")}
