"""The training loop: what it yields, what it decides, and that its randomness is the seed's alone."""

from __future__ import annotations

import importlib.util
import math
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vrcli.engine import schedules
from vrcli.engine.events import Artifact, Ended, Eval, Started, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import DataCache, autocast_dtype, pick_device, prepare
from vrcli.engine.seeding import GlobalNoise, derive
from vrcli.errors import UsageError
from vrcli.settings import resolve
from vrcli.spec import Training

_spec = importlib.util.spec_from_file_location("toy", Path(__file__).parent / "toy.py")
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)
Toy = toy.Toy


def run(optimizer: str = "adamw", seed: int = 0, task: Any = Toy, stop: Any = None, **flags: Any) -> list[Any]:
    resolved = resolve(task, optimizer, flags={"lr": 0.05, **flags}, seed=seed)
    prepared = prepare(resolved.request, task)
    return list(train(prepared, **({"should_stop": stop} if stop else {})))


def curve(events: list[Any], name: str) -> list[float]:
    return [v for e in events if isinstance(e, Steps) for v in e.values[name]]


def ended(events: list[Any]) -> Ended:
    assert isinstance(events[-1], Ended)
    return events[-1]


def test_events_come_in_order_and_count_every_step():
    events = run()
    assert events[0] == Started(parameters=4, steps_per_epoch=3, total_steps=9)
    assert [s for e in events if isinstance(e, Steps) for s in e.steps] == list(range(1, 10))
    assert [(e.epoch, e.step) for e in events if isinstance(e, Eval)] == [(1, 3), (2, 6), (3, 9)]
    assert [e.name for e in events if isinstance(e, Artifact)] == ["note.txt"]
    assert ended(events).status == "completed"


def test_the_loop_computes_what_a_plain_loop_computes():
    """Independent reference: the same batches through torch.optim.SGD by hand."""
    events = run("sgd", lr=0.05)
    task = Toy(Toy.Config())
    data = task.data(torch.Generator().manual_seed(derive(0, "split")))
    torch.manual_seed(derive(0, "model"))
    model = task.model(data)
    expected = []
    for epoch in (1, 2, 3):
        order = torch.randperm(24, generator=torch.Generator().manual_seed(derive(0, "order", epoch)))
        for index in order.split(8):
            x, y = data.train.tensors[0][index], data.train.tensors[1][index]
            loss = (model(x).squeeze(1) - y).square().mean()
            grads = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, g in zip(model.parameters(), grads, strict=True):
                    p -= 0.05 * g
            expected.append(loss.item())
    assert curve(events, "train_loss") == pytest.approx(expected, rel=1e-5)


def test_same_seed_same_bits_and_another_seed_other_bits():
    first, again, other = (run("vradam", seed=s, noise=0.3, augment=0.1) for s in (1, 1, 2))
    assert curve(first, "train_loss") == curve(again, "train_loss")
    assert curve(first, "train_loss") != curve(other, "train_loss")


class Drawing(torch.optim.SGD):
    """Draws from the generators of Python and numpy, as some published optimizers do."""

    def step(self, closure: Any = None) -> Any:
        self.param_groups[0]["lr"] = 0.01 * (random.random() + np.random.random())
        return super().step(closure)


def test_what_python_and_numpy_draw_is_the_seeds_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "drawing", SimpleNamespace(Drawing=Drawing))
    first, again = run("drawing:Drawing"), run("drawing:Drawing")
    assert curve(first, "train_loss") == curve(again, "train_loss")


def test_weights_order_and_noise_do_not_depend_on_the_optimizer():
    """The first step of two optimizers sees the same weights, batch, augmentation and noise."""
    a, b, c = (curve(run(o, noise=0.3, augment=0.1), "train_loss") for o in ("adamw", "sgd", "lbfgs"))
    assert a[0] == b[0] == c[0]
    assert a[1] != b[1]


def test_noise_of_a_step_does_not_depend_on_what_came_before():
    """An optimizer that draws random numbers does not change the loss's noise."""
    plain = curve(run("sgd", noise=0.5, lr=1e-12), "train_loss")
    closure = curve(run("lbfgs", noise=0.5, lr=1e-12), "train_loss")
    assert plain == pytest.approx(closure, rel=1e-4)


def test_best_weights_are_measured_on_test_and_selection_sees_only_validation():
    events = run("sgd", lr=0.4, epochs=12)
    results = ended(events).results
    losses = [e.values["val_loss"] for e in events if isinstance(e, Eval)]
    assert results["best_val_loss"] == min(losses)
    assert results["best_epoch"] == losses.index(min(losses)) + 1
    assert results["val_loss"] == results["best_val_loss"]
    assert results["final_val_loss"] == losses[-1]
    until_best = run("sgd", lr=0.4, epochs=int(results["best_epoch"]))
    assert ended(until_best).results["test_loss"] == results["test_loss"]


def test_epoch_loss_weights_a_short_last_batch_by_its_samples():
    events = run("sgd", rows=10, lr=1e-12, epochs=1)
    losses = curve(events, "train_loss")
    expected = (8 * losses[0] + 2 * losses[1]) / 10
    assert ended(events).results["final_train_loss"] == pytest.approx(expected)


def test_divergence_names_the_first_bad_step_and_keeps_the_curve():
    events = run("sgd", lr=50.0, epochs=40)
    end = ended(events)
    losses = curve(events, "train_loss")
    bad = next(i for i, v in enumerate(losses) if not math.isfinite(v))
    assert end.status == "diverged"
    assert end.reason == f"loss not finite at step {bad + 1}, lr 50"
    assert "test_loss" not in end.results


def test_a_loss_above_the_tasks_bound_diverges():
    class Low(Toy):
        diverged_above = 1e-3

    end = ended(run(task=Low))
    assert end.status == "diverged"
    assert "above 0.001 at step 1" in end.reason


def test_a_stop_request_ends_the_run_as_interrupted_with_what_was_measured():
    calls = iter(range(1000))
    events = run(stop=lambda: next(calls) >= 4, epochs=50)
    assert ended(events).status == "interrupted"
    assert 0 < len(curve(events, "train_loss")) < 150


def test_ctrl_c_inside_a_step_keeps_what_was_measured():
    class Interrupting(Toy):
        count = 0

        def loss(self, model, batch):
            Interrupting.count += 1
            if Interrupting.count == 5:
                raise KeyboardInterrupt
            return super().loss(model, batch)

    events = run(task=Interrupting)
    assert ended(events).status == "interrupted"
    assert len(curve(events, "train_loss")) == 4


def test_max_steps_patience_stop_loss_and_stop_accuracy():
    assert ended(run(max_steps=5)).results["steps"] == 5
    patient = ended(run("sgd", lr=1e-30, epochs=30, patience=2))
    assert patient.results["epochs"] == 3
    assert "no better validation loss for 2 epochs" in patient.reason
    assert ended(run(stop_loss=1e6)).results["epochs"] == 1
    accurate = ended(run("sgd", lr=0.3, epochs=200, stop_accuracy=0.9))
    assert accurate.results["epochs"] < 200
    assert "training accuracy reached 0.9" in accurate.reason


def test_gradient_clipping_bounds_the_update_and_records_the_norm_before_it():
    clipped = run("sgd", lr=1.0, grad_clip=0.01, max_steps=1)
    free = run("sgd", lr=1.0, max_steps=1)
    assert curve(clipped, "grad_norm") == curve(free, "grad_norm")
    assert curve(clipped, "grad_norm")[0] > 0.01


def test_accumulated_gradients_are_sums_over_all_steps():
    separate = curve(run("sgd", lr=1e-12), "grad_norm")
    summed = curve(run("sgd", lr=1e-12, accumulate_gradients=True), "grad_norm")
    assert summed[0] == separate[0]
    assert summed[-1] > 3 * max(separate)


def test_closures_are_refused_where_they_cannot_work():
    class Sampled(Toy):
        no_closure = "its batch is sampled from the model"

    with pytest.raises(UsageError, match="--opt lbfgs needs a closure, which toy cannot give: its batch is sampled"):
        run("lbfgs", task=Sampled)
    with pytest.raises(UsageError, match="--accumulate-gradients"):
        run("lbfgs", accumulate_gradients=True)


def test_a_batch_above_the_training_set_is_cut_with_a_notice():
    told: list[str] = []
    prepared = prepare(resolve(Toy, "sgd", flags={"batch_size": 1000}).request, Toy, notice=told.append)
    assert prepared.spec.training.batch_size == 24
    assert told == ["--batch-size 1000 is above the 24 training samples; taking those"]


def test_vradam_records_its_telemetry_per_step():
    events = run("vradam", beta3=5.0)
    gate, lr = curve(events, "gate"), curve(events, "lr_effective")
    assert len(gate) == 9
    assert lr == pytest.approx([0.05 * g for g in gate], rel=1e-5)
    assert len(set(gate)) > 1  # copies, not nine views of the last value


def test_warmup_cosine_meets_its_end_points():
    training = Training(epochs=10, schedule="warmup-cosine", warmup_epochs=2, warmup_factor=0.1, eta_min=0.001)
    lr = schedules.make(training, steps_per_epoch=5, total_steps=50)
    values = [lr(1.0, step) for step in range(50)]
    assert values[0] == pytest.approx(0.1)
    assert values[10] == pytest.approx(1.0)
    assert values[-1] == pytest.approx(0.001)
    assert values[:10] == sorted(values[:10])
    assert values[10:] == sorted(values[10:], reverse=True)
    middle = 10 + (49 - 10) / 2
    assert lr(1.0, middle) == pytest.approx((1 + 0.001) / 2)
    assert schedules.make(Training(), 5, 50) is None


def test_a_warmup_longer_than_the_run_still_ends():
    training = Training(epochs=1, schedule="warmup-cosine", warmup_epochs=5)
    lr = schedules.make(training, steps_per_epoch=4, total_steps=4)
    assert [lr(1.0, s) for s in range(4)] == pytest.approx([0.1, 0.325, 0.55, 0.775])


def test_evaluation_does_not_disturb_training_noise():
    class Drawing(Toy):
        def evaluate(self, model, split):
            torch.randn(7)
            return super().evaluate(model, split)

    assert curve(run(noise=0.3), "train_loss") == curve(run(noise=0.3, task=Drawing), "train_loss")


def test_global_noise_equals_torchs_own_seeding():
    GlobalNoise(torch.device("cpu")).seed(5)
    ours = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(ours, torch.rand(3))


def test_data_are_loaded_once_per_configuration():
    cache, loads = DataCache(), []

    class Counting(Toy):
        def data(self, generator):
            loads.append(1)
            return super().data(generator)

    for seed in (0, 1):
        prepare(resolve(Counting, "sgd", seed=seed).request, Counting, cache=cache)
    assert len(loads) == 1
    prepare(resolve(Counting, "sgd", flags={"rows": 12}).request, Counting, cache=cache)
    assert len(loads) == 2


def test_devices_that_are_not_there_are_refused():
    assert pick_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="--device must be auto, cpu, cuda or mps, got tpu"):
        pick_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="--device cuda is not there; this machine has cpu"):
            pick_device("cuda")


def test_precision_names():
    cpu = torch.device("cpu")
    assert autocast_dtype("fp32", cpu) is None
    assert autocast_dtype("bf16", cpu) is torch.bfloat16
    assert autocast_dtype("auto", cpu) in (None, torch.bfloat16)
    assert ended(run(precision="bf16")).status == "completed"


def test_settings_that_the_task_cannot_serve_are_refused():
    class Silent(Toy):
        metrics = Toy.metrics[:1]

    with pytest.raises(UsageError, match="--stop-accuracy: toy has no metric called accuracy"):
        run(task=Silent, stop_accuracy=0.9)


def test_gradient_evaluations_are_counted():
    assert ended(run("sgd")).results["gradient_evaluations"] == 9
    assert ended(run("lbfgs")).results["gradient_evaluations"] > 9


def test_attention_can_be_differentiated_twice():
    """AdaHessian needs the gradient's gradient, which the fused kernels of attention do not have."""
    pytest.importorskip("pytorch_optimizer")

    class Attentive(Toy):
        def loss(self, model: Any, batch: Any) -> torch.Tensor:
            x, y = batch
            heads = model(x).view(1, 1, -1, 1) * torch.ones(8)
            seen = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
            return (seen.mean((0, 1, 3)) - y).square().mean()

    events = run("adahessian", task=Attentive)
    assert ended(events).status == "completed"
    losses = curve(events, "train_loss")
    assert all(map(math.isfinite, losses))
    assert losses[-1] != losses[0]
