"""Every optimizer that lists cleanly trains the cnn task's smoke preset through the engine."""

from __future__ import annotations

import statistics

import pytest

from vrcli.engine.events import Ended, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import prepare
from vrcli.optim.registry import catalogue, find
from vrcli.settings import resolve
from vrcli.tasks.cnn import Cnn

RUNNING = [row.name for row in catalogue() if not row.refusal]
#: Optimizers whose own row says why they do not train here, though they run.
MAY_FAIL = {"dadaptadagrad", "dadaptadan"}
#: In the default tests: those that once learned nothing here, each for a reason of its own.
FEW = ["lamb", "sophiah", "adadelta", "lars"]


def losses_of(name: str, **flags: object) -> tuple[list[float], str]:
    """Training losses by step of ten epochs, five times the preset's, and how the run ended."""
    prepared = prepare(resolve(Cnn, name, preset="smoke", flags={"epochs": 10, **flags}).request, Cnn)
    losses: list[float] = []
    for event in train(prepared):
        if isinstance(event, Steps):
            losses += event.values["train_loss"]
        if isinstance(event, Ended):
            return losses, event.status
    raise AssertionError("the run never ended")


def check_one(name: str) -> None:
    losses, status = losses_of(name)
    assert losses
    fell = status == "completed" and statistics.mean(losses[-9:]) < 0.95 * losses[0]
    if name in MAY_FAIL:
        assert find(name).note
    else:
        assert fell, (status, losses[0], statistics.mean(losses[-9:]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FEW)
def test_those_with_a_scale_or_a_protocol_of_their_own_train(name: str) -> None:
    check_one(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RUNNING)
def test_every_optimizer_trains(name: str) -> None:
    check_one(name)


def test_a_presets_rate_for_all_leaves_those_on_another_scale_alone() -> None:
    def lr(name: str, **flags: object) -> object:
        return resolve(Cnn, name, preset="smoke", flags=flags).request.optimizer_settings["lr"]

    assert (lr("adamw"), lr("adadelta"), lr("prodigy"), lr("sophiah")) == (0.01, 1.0, 1.0, 0.06)
    assert lr("sophiah", lr=0.2) == 0.2


def test_the_run_tells_its_number_of_steps() -> None:
    resolved = resolve(Cnn, "ranger21", preset="smoke", flags={"max_steps": 13})
    assert prepare(resolved.request, Cnn).optimizer.start_warm_down == int(0.72 * 13)  # type: ignore[attr-defined]  # Ranger21's
    resolved = resolve(Cnn, "ranger21", preset="smoke", flags={"num_iterations": 50})
    assert prepare(resolved.request, Cnn).optimizer.start_warm_down == int(0.72 * 50)  # type: ignore[attr-defined]  # the same
