"""Does an optimizer keep the conventions that the engine, and every PyTorch training loop, relies on?"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vrcli.bench.optim import LISTS
from vrcli.bench.timing import alternate
from vrcli.optim import registry
from vrcli.optim.rows import Row

Status = Literal["passed", "failed", "not applicable"]


@dataclass(frozen=True)
class CheckResult:
    """One line of a conformance report.

    Args:
        name: what was checked.
        status: "passed", "failed" or "not applicable".
        detail: what was measured, or why it failed or does not apply, in one line.
    """

    name: str
    status: Status
    detail: str


class _Fails(Exception):
    """The check found a fault."""


class _Skip(Exception):
    """The check does not apply."""


@dataclass
class Subject:
    """The optimizer under test, with the settings it is tested at."""

    row: Row
    settings: Mapping[str, Any] = field(default_factory=dict)

    def model(self, dtype: torch.dtype = torch.float32) -> nn.Sequential:
        """A fresh small network with filters, matrices and vectors; always the same."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            head = [nn.Flatten(), nn.Linear(36, 8), nn.LayerNorm(8), nn.Linear(8, 3)]
            return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), *head).to(dtype)

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        optimizer = registry.build(self.row.name, model, self.settings, steps=40)
        if "train_eval" in self.row.capabilities:
            optimizer.train()  # type: ignore[attr-defined]  # what the capability says
        return optimizer

    def fresh(self, dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, torch.optim.Optimizer]:
        model = self.model(dtype)
        return model, self.build(model)

    def train(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
        """Losses of `steps` full-batch steps on fixed data."""
        return [float(self.step(model, optimizer).detach()) for _ in range(steps)]

    def step(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, spoil: Callable[[nn.Module], None] | None = None
    ) -> Tensor:
        """One step as the engine takes it; `spoil` changes the gradients before the optimizer sees them."""
        images, labels = _data(next(model.parameters()).dtype)

        def closure() -> Tensor:
            optimizer.zero_grad()
            with torch.enable_grad():
                loss: Tensor = nn.functional.cross_entropy(model(images), labels)
                loss.backward(create_graph="create_graph" in self.row.capabilities)
            if spoil is not None:
                spoil(model)
            return loss

        if "closure" in self.row.capabilities:
            evaluated: list[Tensor] = []

            def remember() -> float:
                evaluated.append(closure())
                return evaluated[-1]  # type: ignore[return-value]  # torch annotates a float, tensors are the custom

            optimizer.step(remember)
            return evaluated[0]
        loss = closure()
        optimizer.step()
        return loss


def _data(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(24) % 3
    images = 0.5 * torch.randn(24, 1, 6, 6, generator=generator) + (labels.view(-1, 1, 1, 1) - 1)
    return images.to(dtype), labels


def check(name: str, settings: Mapping[str, Any] | None = None, *, rounds: int = 7) -> list[CheckResult]:
    """Run every check on one optimizer.

    Args:
        name: a registered name, or "package.module:Class".
        settings: hyperparameters; those not named keep their defaults.
        rounds: values behind the median step time.

    Raises:
        UsageError: no such optimizer, one that cannot be used here, or settings that it refuses.
    """
    subject = Subject(registry.find(name), settings or {})
    subject.fresh()
    return [_run(title, function, subject) for title, function in CHECKS.items()] + [
        _run("step time", lambda s: _step_time(s, rounds), subject)
    ]


def _run(title: str, function: Callable[[Subject], str], subject: Subject) -> CheckResult:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return CheckResult(title, "passed", function(subject))
    except _Skip as reason:
        return CheckResult(title, "not applicable", str(reason))
    except _Fails as fault:
        return CheckResult(title, "failed", str(fault))
    except Exception as error:  # whatever the optimizer raises is its result
        return CheckResult(title, "failed", " ".join(f"{type(error).__name__}: {error}".split())[:200])


def _loss_falls(subject: Subject) -> str:
    model, optimizer = subject.fresh()
    losses = subject.train(model, optimizer, 40)
    detail = f"{losses[0]:.4f} to {losses[-1]:.4f} in 40 steps at its defaults"
    if not losses[-1] < losses[0]:
        raise _Fails(detail)
    return detail


def _determinism(subject: Subject) -> str:
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        model, optimizer = subject.fresh()
        subject.train(model, optimizer, 12)
        runs.append(model)
    _same(runs[0], runs[1], "two runs from one seed differ")
    return "the same bits from the same seed"


def _round_trip(subject: Subject) -> str:
    model, optimizer = subject.fresh()
    subject.train(model, optimizer, 12)
    twin = subject.model()
    twin.load_state_dict(copy.deepcopy(model.state_dict()))
    loaded = subject.build(twin)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for some, one in ((model, optimizer), (twin, loaded)):
        torch.manual_seed(1)
        subject.train(some, one, 5)
    _same(model, twin, "a resumed run continues differently")
    return "a resumed run continues with the same bits"


def _groups(subject: Subject) -> str:
    if subject.row.takes_model or subject.row.groups:
        raise _Skip("it makes its parameter groups from the model")
    model = subject.model()
    first, last = model[0], model[-1]
    optimizer = subject.build(first)
    optimizer.add_param_group({"params": list(last.parameters())})
    before = _copies(model)
    subject.train(model, optimizer, 12)
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    if not any(name.startswith("6.") for name in moved):
        raise _Fails("a group added later is not trained")
    return "a group added later is trained"


def _schedules(subject: Subject) -> str:
    if subject.row.capabilities & {"lr_free", "train_eval"}:
        raise _Skip("it replaces the schedule")
    model, optimizer = subject.fresh()
    subject.train(model, optimizer, 12)
    before = _copies(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0 * group["lr"]
    subject.train(model, optimizer, 1)
    if any(not torch.equal(p, before[name]) for name, p in model.named_parameters()):
        raise _Fails("weights move although every group's lr is 0: a schedule may not reach it")
    return "weights rest while every group's lr is 0"


def _closure(subject: Subject) -> str:
    model, optimizer = subject.fresh()
    calls: list[bool] = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        with torch.enable_grad():
            loss: Tensor = sum((p * p).sum() for p in model.parameters())  # type: ignore[assignment]  # sum begins at an int
            loss.backward(create_graph="create_graph" in subject.row.capabilities)
        return loss

    returned = optimizer.step(closure)  # type: ignore[arg-type]  # torch annotates a float
    if not calls:
        raise _Fails("step(closure) never calls the closure")
    if returned is None:
        raise _Fails("step(closure) does not return the loss")
    if not all(calls):
        raise _Fails("the closure runs without gradients enabled")
    return f"called {'once' if len(calls) == 1 else f'{len(calls)} times'} per step, its loss returned"


def _frozen(subject: Subject) -> str:
    model = subject.model()
    optimizer = subject.build(model)
    for p in model[0].parameters():  # frozen after the optimizer was made
        p.requires_grad_(False)
    before = _copies(model[0])
    subject.train(model, optimizer, 3)
    if any(not torch.equal(p, before[name]) for name, p in model[0].named_parameters()):
        raise _Fails("frozen parameters move")
    return "parameters without a gradient stay"


def _nan(subject: Subject) -> str:
    if "lr_free" in subject.row.capabilities or "closure" in subject.row.capabilities:
        raise _Skip("what a NaN does depends on the search for a step")
    model, optimizer = subject.fresh()
    subject.train(model, optimizer, 12)

    def spoil(m: nn.Module) -> None:
        for p in m.parameters():
            assert p.grad is not None
            p.grad.fill_(math.nan)

    subject.step(model, optimizer, spoil)
    if all(p.isfinite().all() for p in model.parameters()):
        raise _Fails("a step on NaN gradients leaves every weight finite: divergence is hidden")
    return "reaches the weights, so divergence shows"


def _zero(subject: Subject) -> str:
    if "closure" in subject.row.capabilities:
        raise _Skip("it searches along the gradient")
    model, optimizer = subject.fresh()

    def spoil(m: nn.Module) -> None:
        for p in m.parameters():
            if p.grad is not None:
                p.grad.mul_(0)

    for _ in range(3):
        subject.step(model, optimizer, spoil)
    if not all(p.isfinite().all() for p in model.parameters()):
        raise _Fails("zero gradients give weights that are not finite")
    subject.train(model, optimizer, 2)
    if not all(p.isfinite().all() for p in model.parameters()):
        raise _Fails("weights are not finite in the first step after zero gradients")
    return "weights stay finite"


def _dtypes(subject: Subject) -> str:
    good: list[str] = []
    bad: list[str] = []
    for dtype in (torch.float64, torch.bfloat16):
        label = str(dtype).removeprefix("torch.")
        try:
            model, optimizer = subject.fresh(dtype)
            subject.train(model, optimizer, 3)
            finite = all(p.isfinite().all() and p.dtype is dtype for p in model.parameters())
            (good if finite else bad).append(label)
        except Exception as error:  # an unsupported type may surface as anything
            bad.append(f"{label} ({type(error).__name__})")
    if bad:
        raise _Fails(f"cannot train {', '.join(bad)}")
    return f"trains {', '.join(good)} as well"


def _memory(subject: Subject) -> str:
    def per_parameter(optimizer: torch.optim.Optimizer, model: nn.Module) -> float:
        tensors = {t.data_ptr(): t.nbytes for t in _tensors(optimizer.state_dict()["state"])}
        return sum(tensors.values()) / sum(p.nbytes for p in model.parameters())

    model, optimizer = subject.fresh()
    subject.train(model, optimizer, 12)
    adamw = Subject(registry.find("adamw"))
    other, base = adamw.fresh()
    adamw.train(other, base, 1)
    return f"state {per_parameter(optimizer, model):.2f} x the weights (AdamW {per_parameter(base, other):.2f})"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _step_time(subject: Subject, rounds: int) -> str:
    """On the shapes of ResNet-32: many small tensors, where overhead shows."""
    if subject.row.capabilities & {"closure", "create_graph"}:
        raise _Skip("a step contains evaluations of the model")

    class Shapes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tensors = nn.ParameterList(nn.Parameter(torch.ones(s)) for s in LISTS["resnet32"]())

    steps = {}
    for label, one in (("it", subject), ("adamw", Subject(registry.find("adamw")))):
        model = Shapes()
        optimizer = one.build(model)
        generator = torch.Generator().manual_seed(0)
        for p in model.parameters():
            p.grad = 1e-3 * torch.randn(p.shape, generator=generator)
        steps[label] = optimizer.step
    timings = alternate(steps, rounds=rounds)
    return (
        f"{1e3 * timings.median_s('it'):.2f} ms on the shapes of ResNet-32, {timings.ratio('it', 'adamw'):.2f} x "
        f"torch's AdamW (medians of {rounds}, {torch.get_num_threads()} threads)"
    )


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def _same(one: nn.Module, other: nn.Module, fault: str) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        if not torch.equal(a, b):
            raise _Fails(f"{fault} (first in {name}, by up to {float((a - b).detach().abs().max()):.1e})")


CHECKS: Mapping[str, Callable[[Subject], str]] = {
    "loss falls": _loss_falls,
    "determinism": _determinism,
    "state-dict round trip": _round_trip,
    "parameter groups": _groups,
    "schedules": _schedules,
    "closure": _closure,
    "frozen parameters": _frozen,
    "NaN gradient": _nan,
    "zero gradient": _zero,
    "dtypes": _dtypes,
    "memory": _memory,
}
