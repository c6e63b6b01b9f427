"""The README: what it shows is done, as a reader would do it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from documents import ROOT, blocks

README = (ROOT / "README.md").read_text()
#: What the long command is shortened to. The documentation's tour has it, too, and runs it as it stands.
WHOLE, SHORT = "--trials 8 --jobs 2", "--trials 1 --searches 2 --seeds 2 --jobs 2 --preset smoke"


def test_every_command_block_runs(tmp_path: Path):
    """But for the installations: continuous integration runs those, in a fresh environment."""
    tools = Path(sys.executable).parent
    assert (tools / "vr").exists(), "install the project first"
    # One thread: two on a machine that is busy with other tests wait for each other.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{tools}:{os.environ['PATH']}"}
    (block,) = (block for block in blocks(README, "sh") if not block.mark)
    assert WHOLE in block.body
    assert block.body in (ROOT / "docs/tutorial/index.md").read_text()
    script = block.body.replace(WHOLE, SHORT) + "vr plot difference --output difference.png"
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    for words in ("p (Holm, 3 tests)", "best val loss (minimum over epochs)"):
        assert words in done.stdout
        assert words in README


def test_the_outcome_that_is_shown_is_that_of_the_tour():
    (shown,) = (block.body for block in blocks(README, "text"))
    assert shown in (ROOT / "docs/tutorial/index.md").read_text()


def test_the_picture_is_there_and_small():
    (name,) = re.findall(r"!\[[^\]]+\]\((\S+)\)", README)
    body = (ROOT / name).read_bytes()
    assert body.startswith(b"\x89PNG")
    assert len(body) < 200_000


def test_the_python_example_runs():
    import torch

    (example,) = blocks(README, "python")
    names = {"model": torch.nn.Linear(2, 1)}
    exec(example.body, names)  # the README's own text
    names["model"](torch.ones(1, 2)).sum().backward()
    names["optimizer"].step()
    assert names["optimizer"].telemetry()["lr_effective"] > 0


def test_the_documented_commands_are_the_ones_that_ci_runs():
    script = (ROOT / ".ci" / "run").read_text()
    for name in ("try", "tests"):
        assert re.search(rf"for name in .*\b{name}\b.*; do\n    command=\$\(command_of", script)
        assert re.search(rf"<!-- {name} -->\n```sh\n.+?\n```\n<!-- end -->", README, re.S)
    (tests,) = (block.body for block in blocks(README, "sh") if block.mark == "tests")
    assert "python -m pytest" in tests
    assert "mkdocs build --strict" in tests
    assert "run: .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()


def test_commits_meet_the_same_linters_as_tests():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    style = (ROOT / "tests" / "test_style.py").read_text()
    for words in ('["ruff", "check"]', '["ruff", "format", "--check"]'):
        assert words in style
    assert "python -m mypy &&" in (ROOT / "README.md").read_text()
    assert re.findall(r"entry: python -m (.+)", hooks) == ["ruff check --fix", "ruff format", "mypy"]
    assert "repo: local" in hooks
