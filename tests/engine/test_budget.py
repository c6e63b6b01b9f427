"""Where a run ends, what counts against its budget, and what follows the share that it has used."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from vrcli.engine.events import Artifact, Ended, Eval, Started, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import planned_steps, prepare
from vrcli.errors import UsageError
from vrcli.settings import resolve
from vrcli.spec import Training

_spec = importlib.util.spec_from_file_location("toy", Path(__file__).parent / "toy.py")
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)
Toy = toy.Toy

COSINE = {"schedule": "warmup-cosine", "warmup_epochs": 1}


def run(optimizer: str = "adamw", task: Any = Toy, **flags: Any) -> list[Any]:
    request = resolve(task, optimizer, flags={"lr": 0.05, **flags}).request
    return list(train(prepare(request, task)))


def results(events: list[Any]) -> Any:
    assert isinstance(events[-1], Ended)
    assert events[-1].status == "completed"
    return events[-1].results


def curve(events: list[Any], name: str) -> list[float]:
    return [v for e in events if isinstance(e, Steps) for v in e.values[name]]


def evals(events: list[Any]) -> list[Eval]:
    return [e for e in events if isinstance(e, Eval)]


def test_a_run_ends_at_its_steps_within_an_epoch_and_beyond_the_presets_epochs():
    events = run(until="steps:11")  # three steps an epoch, and three epochs by the preset
    assert results(events)["steps"] == 11
    assert [(e.epoch, e.step) for e in evals(events)] == [(1, 3), (2, 6), (3, 9), (4, 11)]
    assert events[0] == Started(parameters=4, steps_per_epoch=3, total_steps=11)


def test_epochs_are_epochs_however_they_are_asked_for():
    assert curve(run(until="epochs:4"), "train_loss") == curve(run(epochs=4), "train_loss")


@pytest.mark.parametrize("until", ["steps:12", "gradients:12"])
def test_the_same_steps_are_the_same_bits_whatever_they_are_counted_in(until):
    """One evaluation of the gradient each, so 4 epochs, 12 steps and 12 gradients are one budget."""
    by_epochs, other = run(epochs=4, **COSINE), run(until=until, **COSINE)
    for name in ("train_loss", "lr_effective"):
        assert curve(other, name) == curve(by_epochs, name)


def test_a_step_of_sam_counts_two_and_its_schedule_follows_the_share():
    pytest.importorskip("pytorch_optimizer")
    sam, half = run("sam", until="gradients:24", **COSINE), run("sam", until="steps:12", **COSINE)
    assert (results(sam)["steps"], results(sam)["gradient_evaluations"]) == (12, 24)
    assert curve(sam, "lr_effective") == curve(half, "lr_effective")
    assert curve(sam, "train_loss") == curve(half, "train_loss")


def test_what_the_last_step_takes_beyond_the_budget_is_charged():
    pytest.importorskip("pytorch_optimizer")
    events = run("sam", until="gradients:5")
    assert results(events)["gradient_evaluations"] == 6
    assert evals(events)[-1].share == pytest.approx(6 / 5)
    assert [e.values["gradients"] for e in evals(events)] == [6]


def test_lbfgs_is_charged_what_it_used():
    events = run("lbfgs", until="gradients:30", **COSINE)
    found = results(events)
    assert found["steps"] < 30 <= found["gradient_evaluations"]
    assert found["gradient_evaluations"] - 30 < 25  # one step of at most 25
    rates = curve(events, "lr_effective")
    assert all(0 < rate <= 0.05 for rate in rates)


def test_flowadam_is_charged_what_it_counts_itself():
    flags = {"lr": 0.05, "until": "gradients:200", "switch_sensitivity": 0.9, "curvature_sensitivity": 0.1}
    prepared = prepare(resolve(Toy, "flowadam", flags=flags).request, Toy)
    *_, ended = train(prepared)
    own = prepared.optimizer.counters()
    assert own["triggers"] > 0
    assert ended.results["gradient_evaluations"] == own["evaluations"] >= 200
    assert ended.results["steps"] == own["steps"] < 200


@pytest.mark.parametrize(("optimizer", "products"), [("adahessian", 9), ("sophiah", 1)])
def test_products_of_the_hessian_have_a_count_of_their_own(optimizer, products):
    """SophiaH makes one every 10 steps."""
    pytest.importorskip("pytorch_optimizer")
    found = results(run(optimizer))
    assert (found["gradient_evaluations"], found["hessian_products"]) == (9, products)
    assert "hessian_products" not in results(run("sgd"))


def test_every_sample_of_hutchinson_is_a_product():
    pytest.importorskip("pytorch_optimizer")
    assert results(run("adahessian", num_samples=3))["hessian_products"] == 27


def test_seconds_are_those_of_training():
    class Slow(Toy):
        def evaluate(self, model, split):
            time.sleep(0.2)  # not training
            return super().evaluate(model, split)

    events = run(task=Slow, until="seconds:0.3", batch_size=24, eval_every=200)
    found = results(events)
    assert found["train_s"] >= 0.3
    assert found["wall_s"] - found["train_s"] > 0.15 * len(evals(events))
    assert events[0].total_steps is None
    assert evals(events)[-1].share >= 1


def test_seconds_drive_the_schedule_down():
    rates = curve(run(until="seconds:0.5", schedule="warmup-cosine", warmup_epochs=0), "lr_effective")
    assert rates[0] == 0.05
    assert rates[-1] < 0.05


def test_an_optimizer_that_must_know_its_steps_is_refused_where_nobody_does():
    pytest.importorskip("pytorch_optimizer")
    assert results(run("ranger21", until="gradients:12"))["steps"] == 12
    with pytest.raises(UsageError, match="ranger21 needs num_iterations, the number of steps of the whole run"):
        run("ranger21", until="seconds:1")


def test_steps_are_planned_only_where_they_are_known():
    def planned(closure: bool, **training: Any) -> int | None:
        capabilities = frozenset({"closure"}) if closure else frozenset()
        return planned_steps(Training(batch_size=8, **training), 24, capabilities)[1]

    assert planned(True, epochs=4) == 12
    assert planned(True, epochs=4, max_steps=5) == 5
    assert planned(True, until="steps:7") == 7
    assert planned(False, until="gradients:7") == 7
    assert planned(True, until="gradients:7") is None
    assert planned(False, until="seconds:7") is None


def test_evaluations_between_epochs_come_every_so_many_steps_and_at_the_end():
    events = run(eval_every=4)
    assert [(e.number, e.step) for e in evals(events)] == [(1, 4), (2, 8), (3, 9)]
    assert [e.values["epoch"] for e in evals(events)] == pytest.approx([4 / 3, 8 / 3, 3])
    losses = curve(events, "train_loss")
    assert evals(events)[1].values["epoch_train_loss"] == pytest.approx(sum(losses[4:8]) / 4)
    found = results(events)
    assert found["best_step"] in (4, 8, 9)
    assert found["best_epoch"] == found["best_step"] / 3


def test_evaluating_more_often_changes_no_bit_of_training():
    for optimizer in ("adamw", "vradam"):
        often, seldom = run(optimizer, noise=0.3, eval_every=1), run(optimizer, noise=0.3)
        assert curve(often, "train_loss") == curve(seldom, "train_loss")
        assert evals(often)[-1].values["val_loss"] == evals(seldom)[-1].values["val_loss"]


def test_full_batches_are_recorded_in_blocks_not_by_epoch():
    events = run(batch_size=24, epochs=600, eval_every=300)
    blocks = [e.steps for e in events if isinstance(e, Steps)]
    assert [step for block in blocks for step in block] == list(range(1, 601))
    assert len(blocks) < 30
    assert [e.epoch for e in evals(events)] == [300, 600]


def test_patience_counts_evaluations():
    class Stuck(Toy):
        def evaluate(self, model, split):
            return {"loss": 1.0, "accuracy": 0.5}

    events = run(task=Stuck, eval_every=2, patience=2, epochs=50)
    assert evals(events)[-1].step == 6
    assert events[-1].reason == "no better validation loss for 2 evaluations"


def test_files_are_kept_once_an_epoch_and_at_the_end():
    class Filing(Toy):
        def artifacts(self, model, *, epoch, last):
            return {f"{epoch}{' last' if last else ''}": b""}

    events = run(task=Filing, eval_every=1, until="steps:7")
    assert [e.name for e in events if isinstance(e, Artifact)] == ["1", "2", "3 last"]


def test_a_run_over_a_budget_is_the_same_bits_again():
    torch.manual_seed(3)
    first = run("lbfgs", until="gradients:40", **COSINE)
    torch.manual_seed(4)
    assert curve(run("lbfgs", until="gradients:40", **COSINE), "train_loss") == curve(first, "train_loss")
