"""The README: every shell block in it runs, in order, in one folder, as a reader would run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
#: What the long commands are shortened to, unless the slow test runs them as they stand.
SHORTER = {"--trials 8 --jobs 2": "--trials 2 --searches 2 --seeds 2 --jobs 2"}
#: The installations are run by continuous integration, in a fresh environment.
BLOCKS = [b for b in re.findall(r"(?<!-->\n)```sh\n(.*?)```", README, re.S) if "pip install ." not in b]

#: `pip install -e FOLDER` without touching this environment: into a folder on the path.
_PIP = f"""
pip() {{
    '{sys.executable}' -m pip install --quiet --no-deps --no-build-isolation --no-index \\
        --upgrade --target "$SITE" "./${{@: -1}}"
}}
"""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("shorter", [SHORTER, pytest.param({}, marks=pytest.mark.slow)], ids=["short", "whole"])
def test_every_command_block_runs(tmp_path: Path, shorter: dict[str, str]):
    pytest.importorskip("pip", reason="an environment made by uv has no pip")
    for name, body in re.findall(r"<!-- file (\S+) -->\n```\w+\n(.*?)```", README, re.S):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(body)
    site = tmp_path / "site"
    tools = Path(sys.executable).parent
    assert (tools / "vr").exists(), "install the project first"
    # One thread: two on a machine that is busy with other tests wait for each other.
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "SITE": str(site),
        "PYTHONPATH": str(site),
        "PATH": f"{tools}:{os.environ['PATH']}",
    }
    assert len(BLOCKS) >= 4
    assert all(whole in README for whole in shorter)
    for block in BLOCKS:
        if "sqlite3 " in block and not shutil.which("sqlite3"):
            continue
        for whole, short in shorter.items():
            block = block.replace(whole, short)
        done = subprocess.run(["bash", "-ec", _PIP + block], cwd=tmp_path, env=env, capture_output=True, text=True)
        env |= dict(re.findall(r"^export (\w+)=(\S+)$", block, re.M))
        assert done.returncode == 0, f"{block}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def test_the_toml_example_is_accepted(tmp_path: Path):
    from vrcli.settings import load_config, resolve

    example = next(b for b in re.findall(r"```toml\n(.*?)```", README, re.S) if 'task = "cnn"' in b)
    (tmp_path / "my.toml").write_text(example)
    config = load_config(str(tmp_path / "my.toml"))
    from vrcli.tasks.registry import load

    settings = {k: v for k, v in config.items() if k not in ("task", "opt", "seeds")}
    spec = resolve(load(config["task"]), config["opt"], config=settings).request
    assert spec.optimizer_settings["beta3"] == 1.0
    assert spec.training.epochs == 20


def python_example(word: str) -> str:
    return next(b for b in re.findall(r"```python\n(.*?)```", README, re.S) if word in b)


def test_the_notebook_example_runs(stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for seed in range(3):
        stored("adamw", seed=seed, loss=0.1 * (seed + 1))
    monkeypatch.chdir(tmp_path)
    *body, last = python_example("vrcli.load").strip().splitlines()
    names: dict[str, object] = {}
    exec("\n".join([*body, f"shown = {last}"]), names)  # the README's own text
    shown = names["shown"]
    assert shown["count"].tolist() == [3] * 4
    assert shown["mean"].iloc[-1] == pytest.approx(0.2)


def test_the_functions_example_runs(inline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(python_example("vrcli.compare("), names)  # the README's own text
    printed = capsys.readouterr().out
    assert "3 fresh seeds, the same for all" in printed
    assert names["found"].verdicts[0] in printed
    assert names["run"].runs[0].settings["beta3"] == 1.0
    assert names["found"].pairs()["a"].tolist() == ["vradam"]


def test_the_pictures_are_there_and_small():
    pictures = re.findall(r"!\[[^\]]+\]\((\S+)\)", README)
    assert len(pictures) == 3
    for name in pictures:
        body = (ROOT / name).read_bytes()
        assert body.startswith(b"\x89PNG")
        assert len(body) < 200_000


def test_the_python_example_runs():
    import torch

    example = python_example("VRAdam(")
    names = {"model": torch.nn.Linear(2, 1)}
    exec(example, names)  # the README's own text
    names["model"](torch.ones(1, 2)).sum().backward()
    names["optimizer"].step()
    assert names["optimizer"].telemetry()["lr_effective"] > 0


def test_the_documented_commands_are_the_ones_that_ci_runs():
    script = (ROOT / ".ci" / "run").read_text()
    for name in ("try", "tests"):
        assert f"command_of {name}" in script
        assert re.search(rf"<!-- {name} -->\n```sh\n.+?\n```\n<!-- end -->", README, re.S)
