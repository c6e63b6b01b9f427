"""Short curves of the engine, of vr's own tasks and of its own optimizers, pinned to the revision each declares.

A stored run is taken for a repetition only while the code is the same, and of vr's own code the declared revision says
so. Whoever changes numbers raises it and pins the new curves:

    python tests/test_revisions.py            # refuses a curve that changed while its revision did not
    python tests/test_revisions.py --force    # takes those too, before they are released

The last bits depend on torch and on the processor: optimizers are pinned in float64, tasks for a few steps of SGD,
which does not enlarge rounding as Adam does. Where torch draws other random numbers than it did, nothing can be
compared.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from vrcli.engine.events import Eval, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import prepare
from vrcli.engine.revision import REVISION
from vrcli.optim import registry
from vrcli.optim.rows import VR_ROWS
from vrcli.settings import resolve
from vrcli.tasks import registry as tasks
from vrcli.tasks.base import Metric, Preset, Split, Splits, Task, TaskConfig, assumed, mean_over

FILE = Path(__file__).with_name("revisions.json")
OWN_TASKS = [name for name in tasks.names() if tasks.targets()[name][1] == "vr"]
OWN_OPTIMIZERS = [row.name for row in VR_ROWS]
#: Relative: what torch's versions and processors may differ in stays far below.
TOLERANCE = {"engine": 1e-5, "optimizer": 1e-5, "task": 1e-4}
#: Where a ReLU or the tie of a max-pool may fall to the other side on processors that round otherwise. The norm of the
#: third gradient differs by 5.5e-4 from the pinned one on a processor with AVX2 alone, and no loss by more than 4e-6.
ROUNDED = {"task cnn smoke criterion=mse": 1e-3}
#: Their evaluation's noise comes from the weights' bits, so rounding changes it.
UNPINNED = {("diffusion", "fresh_noise")}


class Line(Task[TaskConfig]):
    """Least squares in float64, with noise from every generator that the engine seeds."""

    name = "line"
    summary = "linear regression"
    metrics = (Metric("loss", "min"),)
    presets = {"quick": Preset({"epochs": assumed(3, "short"), "batch_size": assumed(8, "four steps an epoch")})}

    def data(self, generator):
        x = torch.randn(60, 3, generator=generator, dtype=torch.float64)
        y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        return Splits(*(Split((x[s], y[s])) for s in (slice(0, 30), slice(30, 45), slice(45, 60))), dataset="line")

    def model(self, data):
        return nn.Linear(3, 1).double()

    def train_batch(self, split, index, generator):
        x, y = split.take(index)
        return x + 0.01 * torch.randn(x.shape, generator=generator, dtype=x.dtype), y

    def loss(self, model, batch):
        x, y = batch
        return (model(x + 0.01 * torch.randn_like(x)).squeeze(1) - y).square().mean()

    def evaluate(self, model, split):
        (loss,) = mean_over(split, 4, lambda batch: (self.loss(model, batch),))
        return {"loss": loss}


ENGINE = {
    "plain": {},
    "schedule": {"schedule": "warmup-cosine", "warmup_epochs": "1", "eta_min": "0.001"},
    "clipped": {"grad_clip": "0.5"},
    "accumulated": {"accumulate_gradients": "true"},
    "until a loss": {"stop_loss": "3", "epochs": "9"},
}


def engine_curve(variant: str) -> dict[str, Any]:
    return {"curve": run(Line, "quick", {"lr": "0.02", **ENGINE[variant]})}


def task_variants(name: str) -> dict[str, dict[str, str]]:
    """The settings of each pinned curve: the preset smoke, and with each switch and choice set otherwise."""
    found: dict[str, dict[str, str]] = {"smoke": {}}
    task = tasks.load(name)
    usual = resolve(task, "sgd", preset="smoke").request.task_settings
    for field, info in task.Config.model_fields.items():
        if (name, field) in UNPINNED:
            continue
        choices = (True, False) if info.annotation is bool else get_args(info.annotation)
        for choice in choices:
            if isinstance(choice, bool | str) and choice != usual[field]:
                found[f"smoke {field}={choice}"] = {field: str(choice)}
    return found


def task_curve(name: str, variant: str) -> dict[str, Any]:
    """A few steps; the data's digest, as a text or a picture may be another on another machine."""
    flags = {**task_variants(name)[variant], "max_steps": "3", "epochs": "1", "lr": "0.01"}
    preset = variant.partition(" ")[0]
    data = prepare(resolve(tasks.load(name), "sgd", preset=preset, flags=flags).request, tasks.load(name))
    return {"data": data.spec.dataset_fingerprint, "curve": run(tasks.load(name), preset, flags)}


def run(task: type[Task[Any]], preset: str, flags: Mapping[str, str]) -> list[float]:
    """Training losses, gradient norms and rates of all steps, then what each epoch measured."""
    request = resolve(task, "sgd", preset=preset, flags=flags, threads=1).request
    found: dict[str, list[float]] = {}
    for event in train(prepare(request, task)):
        if isinstance(event, Steps):
            for name in ("train_loss", "grad_norm", "lr_effective"):
                found.setdefault(name, []).extend(event.values.get(name, ()))
        if isinstance(event, Eval):
            for name, value in event.values.items():
                if name.startswith("val_"):
                    found.setdefault(name, []).append(value)
    return [value for name in sorted(found) for value in found[name]]


def optimizer_variants(name: str) -> dict[str, dict[str, Any]]:
    """The settings of each pinned curve: the defaults, weight decay, and each switch set otherwise."""
    found: dict[str, dict[str, Any]] = {"defaults": {}}
    for field, info in registry.settings_model(name).model_fields.items():
        if field == "weight_decay":
            found["weight_decay=0.1"] = {field: 0.1}
        elif isinstance(info.default, bool):
            found[f"{field}={not info.default}"] = {field: not info.default}
    return found


def optimizer_curve(name: str, variant: str) -> dict[str, Any]:
    """Losses and last weights of a small network; its outputs, and so its gradients, are of very different sizes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = [nn.Flatten(), nn.Linear(36, 8), nn.LayerNorm(8), nn.Linear(8, 3)]
        model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), *head).double()
        x, y = torch.randn(12, 1, 6, 6, dtype=torch.float64), torch.randn(12, 3, dtype=torch.float64)
    sizes = torch.tensor([3.0, 0.1, 0.001], dtype=torch.float64)
    optimizer = registry.build(name, model, {"lr": 0.02, **optimizer_variants(name)[variant]}, steps=15)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (sizes * (model(x) - y)).square().mean()
        loss.backward()
        return loss

    losses = []
    for _ in range(15):
        with torch.enable_grad():
            losses.append(optimizer.step(closure).item())
    return {"curve": losses + [p.detach().square().sum().item() for p in (*model.parameters(), *model[-1].weight)]}


def drawn() -> list[float]:
    """Random numbers of each kind that tasks use."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kinds = [torch.randn(20), torch.rand(20), torch.randperm(9), torch.empty(20).bernoulli_(0.5)]
        kinds += [torch.randn(20, dtype=torch.float64), torch.randint(100, (9,)), torch.ones(9).multinomial(9)]
        return torch.cat([kind.double() for kind in kinds]).tolist()


def revision(kind: str, name: str) -> int:
    if kind == "engine":
        return REVISION
    return tasks.load(name).revision if kind == "task" else registry.find(name).revision


def subjects() -> Iterator[tuple[str, str, str]]:
    """Kind, name and variant of all that is pinned."""
    yield from (("engine", "engine", variant) for variant in ENGINE)
    yield from (("optimizer", name, variant) for name in OWN_OPTIMIZERS for variant in optimizer_variants(name))
    yield from (("task", name, variant) for name in OWN_TASKS for variant in task_variants(name))


def measured(kind: str, name: str, variant: str) -> dict[str, Any]:
    if kind == "engine":
        return engine_curve(variant)
    return task_curve(name, variant) if kind == "task" else optimizer_curve(name, variant)


@cache
def pins() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def first_difference(pinned: list[float], found: list[float], tolerance: float) -> str:
    """Where two curves part, in words; empty where they are equal but for rounding."""
    if len(pinned) != len(found):
        return f"{len(pinned)} values -> {len(found)}"
    scale = max(map(abs, pinned), default=0.0)
    for at, (a, b) in enumerate(zip(pinned, found, strict=True)):
        if not math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-3 * tolerance * scale):
            return f"value {at + 1}: {a!r} -> {b!r}"
    return ""


def problem(
    kind: str, name: str, pinned: Mapping[str, Any], found: list[float], declared: int, variant: str = ""
) -> str:
    """What is wrong with a revision, and what to do; empty where nothing is."""
    tolerance = ROUNDED.get(f"{kind} {name} {variant}", TOLERANCE[kind])
    parted = first_difference(pinned["curve"], found, tolerance)
    where = {"engine": "REVISION in vrcli/engine/revision.py", "task": f"`revision` of the class of {name} in tasks/"}
    if parted and declared == pinned["revision"]:
        raised = where.get(kind, f"`revision` of {name}'s row in vrcli/optim/rows.py")
        return (
            f"{name} gives other numbers ({parted}), so stored runs would be taken for runs of this code: "
            f"set {raised} to {declared + 1}, then run `python tests/test_revisions.py`; or mend what changed them"
        )
    if declared != pinned["revision"]:
        return (
            f"{name} is of revision {declared}, its curve of {pinned['revision']}: run `python tests/test_revisions.py`"
        )
    return ""


@pytest.mark.parametrize(("kind", "name", "variant"), list(subjects()))
def test_numbers_change_with_the_revision_only(kind, name, variant):
    if first_difference(pins()["drawn"], drawn(), 1e-4):
        pytest.skip("torch draws other random numbers here")
    pinned = pins().get(f"{kind} {name} {variant}")
    assert pinned is not None, f"{name} {variant} is not pinned: run `python tests/test_revisions.py`"
    if pinned["curve"] is None:
        pytest.skip("these settings do not go together")
    found = measured(kind, name, variant)
    if found.get("data") != pinned.get("data"):
        pytest.skip("the data are others here, and the specs of runs say so themselves")
    if said := problem(kind, name, pinned, found["curve"], revision(kind, name), variant):
        pytest.fail(said)


def test_nothing_is_pinned_that_is_gone():
    assert sorted(pins()) == sorted(["drawn", *(" ".join(subject) for subject in subjects())])


def test_a_change_is_said_with_what_to_do():
    pinned = {"revision": 1, "curve": [1.0, 0.5]}
    assert problem("task", "cnn", pinned, [1.0 + 1e-7, 0.5], 1) == ""
    same = problem("task", "cnn", pinned, [1.0, 0.501], 1)
    assert "cnn gives other numbers (value 2: 0.5 -> 0.501)" in same
    assert "set `revision` of the class of cnn in tasks/ to 2" in same
    assert "its curve of 1: run" in problem("task", "cnn", pinned, [1.0, 0.501], 2)
    assert "vrcli/optim/rows.py to 2" in problem("optimizer", "muon", pinned, [1.0, 0.5 + 1e-4], 1)


def write(*, force: bool) -> int:
    """Pin every curve as it is now; those that changed at the same revision only by force."""
    old = json.loads(FILE.read_text()) if FILE.exists() else {}
    new, refused = {"drawn": drawn()}, 0
    for kind, name, variant in subjects():
        key, declared = f"{kind} {name} {variant}", revision(kind, name)
        try:
            found = measured(kind, name, variant)
        except Exception as error:
            print(f"{key}: not pinned, {type(error).__name__}: {error}")
            found = {"curve": None}
        new[key] = {"revision": declared, **found}
        before = old.get(key)
        if before and before["curve"] and before["revision"] == declared and before.get("data") == found.get("data"):
            said = problem(kind, name, before, found["curve"] or [], declared, variant)
            if not said or not force:
                new[key] = before
            refused += bool(said) and not force
            if said:
                print(f"{key}: {said}")
    FILE.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(new.items())) + "\n}\n")
    return int(bool(refused))


if __name__ == "__main__":
    sys.exit(write(force="--force" in sys.argv[1:]))
