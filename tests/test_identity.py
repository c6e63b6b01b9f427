"""Which code a run is of: digests of other people's files, declared revisions of ours, and what commands make of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vrcli import identity
from vrcli.db.store import Store
from vrcli.engine.revision import REVISION
from vrcli.optim import registry
from vrcli.settings import resolve
from vrcli.tasks.registry import load

SPIRALS = "vrcli.cli.scaffold.task_template:Spirals"
HEAVY = """
import torch
from helper import scale


class HeavyBall(torch.optim.Optimizer):
    def __init__(self, params, lr: float = 1e-3, momentum: float = 0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    state["buf"] = group["momentum"] * state.get("buf", 0) + p.grad
                    p.add_(state["buf"], alpha=-group["lr"] * scale())
"""
DIGEST = """
import importlib, sys
from vrcli import identity
sys.path.insert(0, sys.argv[1])
module, name = sys.argv[2].split(":")
print(identity.of_class(getattr(importlib.import_module(module), name)))
"""


def digest(folder: Path, target: str) -> str:
    """A class's identity, in a process of its own."""
    words = [sys.executable, "-B", "-c", DIGEST, str(folder), target]
    return subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder).stdout.strip()


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py" if not name.endswith("init") else folder / "lab" / "__init__.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


LOOSE = {"mine": "import helper\nclass A: pass\n", "helper": "def f():\n    import deep\n", "deep": "X = 1\n"}


def test_a_digest_is_of_the_content_and_not_of_the_place(tmp_path):
    here, there = write(tmp_path / "a", **LOOSE), write(tmp_path / "b" / "c", **LOOSE)
    first = digest(here, "mine:A")
    assert first.startswith("source ")
    assert digest(there, "mine:A") == first == digest(here, "mine:A")
    write(here, unrelated="X = 1\n")
    assert digest(here, "mine:A") == first
    (here / "helper.py").write_bytes((here / "helper.py").read_bytes().replace(b"\n", b"\r\n"))
    assert digest(here, "mine:A") == first


@pytest.mark.parametrize("edited", ["mine", "helper", "deep"])
def test_every_module_that_is_imported_counts(tmp_path, edited):
    first = digest(write(tmp_path, **LOOSE), "mine:A")
    write(tmp_path, **{edited: LOOSE[edited] + "Y = 2\n"})
    assert digest(tmp_path, "mine:A") != first


@pytest.mark.parametrize("init", [True, False])
def test_modules_of_a_package_count_also_of_one_without_init(tmp_path, init):
    files = {
        "lab__opt": "from . import parts\nfrom .more import *\nimport beside\nclass A: pass\n",
        "lab__parts": "X = 1\n", "lab__more": "X = 1\n", "lab__other": "X = 1\n", "beside": "X = 1\n",
    }  # fmt: skip
    files |= {"init": "X = 1\n"} if init else {}
    first = digest(write(tmp_path, **files), "lab.opt:A")
    for name in files:
        write(tmp_path, **{name: files[name] + "Y = 2\n"})
        assert (digest(tmp_path, "lab.opt:A") == first) is (name == "lab__other"), name
        write(tmp_path, **{name: files[name]})


def test_a_package_of_the_users_own_may_be_called_like_a_part_of_ours(tmp_path):
    mine = write(tmp_path, tasks__mine="from tasks import helper\nimport db\nclass A: pass\n", tasks__helper="X = 1\n",
                 db="Y = 1\n")  # fmt: skip
    first = digest(mine, "tasks.mine:A")
    write(mine, tasks__helper="X = 2\n")
    assert digest(mine, "tasks.mine:A") != first


def test_of_installed_packages_only_those_of_the_same_distribution_count(tmp_path):
    files = {"mine": "import mate, stranger\nclass A: pass\n", "mate": "X = 1\n", "stranger": "X = 1\n"}
    write(tmp_path, **files)
    for dist, modules in (("mine-1.0", "mine\nmate\n"), ("stranger-1.0", "stranger\n")):
        info = tmp_path / f"{dist}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist.partition('-')[0]}\nVersion: 1.0\n")
        (info / "top_level.txt").write_text(modules)
    first = digest(tmp_path, "mine:A")
    write(tmp_path, stranger="X = 2\n")
    assert digest(tmp_path, "mine:A") == first
    write(tmp_path, mate="X = 2\n")
    assert digest(tmp_path, "mine:A") != first


def test_the_revision_of_what_is_built_on_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, built_on="from vrcli.tasks.cnn import Cnn\nfrom vrcli.optim import VRAdam\nclass A(Cnn): pass\n")
    import built_on

    first = identity.of_class(built_on.A)
    monkeypatch.setattr(load("cnn"), "revision", 99)
    assert identity.of_class(built_on.A) == first  # once in a process
    identity.of_class.cache_clear()
    assert identity.of_class(built_on.A) != first


def test_each_kind_of_code_has_its_identity():
    cnn = load("cnn")

    def optimizer(name: str) -> str:
        return identity.code_of(cnn, name)["optimizer"]

    engine, own = f"revision {REVISION}", f"revision {registry.find('vradam').revision}"
    assert identity.code_of(cnn, "vradam") == {
        "engine": engine, "task": f"revision {cnn.revision}", "optimizer": own,
    }  # fmt: skip
    assert optimizer("vrcli.optim.vradam:VRAdam") == own
    assert optimizer("adamw") == optimizer("torch.optim:AdamW") == "torch"
    spirals = load("vrcli.cli.scaffold.task_template:Spirals")
    assert identity.code_of(spirals, "adamw")["task"].startswith("source ")
    pytest.importorskip("pytorch_optimizer")
    from importlib.metadata import version

    zoo = f"pytorch-optimizer {version('pytorch-optimizer')}"
    assert optimizer("lion") == optimizer("pytorch_optimizer:AdaFactor") == zoo
    assert optimizer("sam") == f"{zoo} revision 1"  # adapted here


def test_a_class_without_a_file_is_never_the_same_twice():
    words = [sys.executable, "-c", "from vrcli import identity\nclass A: pass\nprint(identity.of_class(A))"]
    found = [subprocess.run(words, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert all(one.startswith("unknown ") for one in found)
    assert found[0] != found[1]


def test_a_specs_id_follows_from_the_code_and_not_from_versions(monkeypatch):
    cnn = load("cnn")
    first = resolve(cnn, "vradam", preset="smoke").request.on("digits", "00")
    monkeypatch.setattr("vrcli.version.__version__", "99")
    monkeypatch.setattr("torch.__version__", "99")
    assert resolve(cnn, "vradam", preset="smoke").request.on("digits", "00").spec_id == first.spec_id
    monkeypatch.setattr(cnn, "revision", 99)
    assert resolve(cnn, "vradam", preset="smoke").request.on("digits", "00").spec_id != first.spec_id


# -- the promise, through the commands --------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`vr ARGS` as a process of its own, in a folder with an optimizer, its helper and a file that it does not know."""
    write(tmp_path, heavyball=HEAVY, helper="def scale():\n    return 1.0\n", unrelated="X = 1\n")

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vrcli", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ})

    return call


@pytest.mark.slow
@pytest.mark.timeout(900)  # six processes that import torch
def test_a_comparison_is_about_the_code_as_it_is(shell, tmp_path):
    words = ("compare", SPIRALS, "--preset", "smoke", "--opt", "heavyball:HeavyBall", "--opt", "adamw", "--seeds", 2)
    words = (*words, "--threads", 1, "--format", "json")

    def compared() -> dict[str, list[int]]:
        done = shell(*words)
        assert done.returncode == 0, done.stderr
        body = json.loads(done.stdout)
        losses.append(body["optimizers"]["heavyball:HeavyBall"]["values"])
        return {name: one["runs"] for name, one in body["optimizers"].items()}

    losses: list[dict[str, float]] = []
    first = compared()
    write(tmp_path, heavyball=HEAVY.replace("* scale()", "* scale() * 0"))
    edited = compared()
    assert edited["adamw"] == first["adamw"]
    assert not {*edited["heavyball:HeavyBall"]} & {*first["heavyball:HeavyBall"]}
    assert losses[1] != losses[0]
    write(tmp_path, heavyball=HEAVY, unrelated="X = 2\n")
    assert compared() == first  # the old code again, beside a file that it does not import
    assert losses[-1] == losses[0]


@pytest.mark.slow
def test_a_sweep_does_not_go_on_in_other_code(shell, tmp_path):
    words = ("sweep", SPIRALS, "--preset", "smoke", "--opt", "heavyball:HeavyBall", "--search", "random")
    words = (*words, "--threads", 1)
    assert shell(*words, "--trials", 1).returncode == 0
    with Store.open(tmp_path / "vr.db") as store:
        store.searches.resume(1, trials=2)
        store.searches.set_status(1, "interrupted")
    write(tmp_path, helper="def scale():\n    return 0.5\n")
    refused = shell("sweeps", "resume", 1)
    assert refused.returncode == 2
    assert "sweep 1 began with other code: optimizer code source " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    another = shell(*words, "--trials", 1)
    assert another.returncode == 0, another.stderr
    assert "note: sweep 1 (heavyball:HeavyBall, 1/2 trials) is of other code (optimizer code source " in another.stderr
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        assert [len(store.searches.trials(sweep.id)) for sweep in store.searches.select()] == [1, 1]
