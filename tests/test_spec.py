"""A run's description: what it is complete with, and what its id is a digest of."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from vrcli.spec import Request, RunSpec, Training

CODE = {"engine": "revision 1", "task": "revision 1", "optimizer": "revision 1"}
OPTIMIZER: dict[str, Any] = {
    "lr": 0.01, "betas": (0.9, 0.999), "beta3": 1.0, "eps": 1e-08, "weight_decay": 1e-05, "power": 2.0,
    "normgrad": False, "lr_cutoff": 19.0, "norm_scope": "global", "maximize": False, "foreach": None, "fused": None,
    "capturable": False,
}  # fmt: skip
TASK = {
    "dataset": "digits", "split_seed": 0, "model": "cnn", "channels": 4, "hidden": 16, "criterion": "cross-entropy",
    "val_fraction": 0.2, "test_fraction": 0.2, "flip": False, "crop_padding": 0, "augment_validation": False,
    "normalisation": "data", "channels_last": True,
}  # fmt: skip


def request(**task_settings: Any) -> Request:
    return Request(
        task="cnn", preset="smoke", task_settings={**TASK, **task_settings}, optimizer="vradam",
        optimizer_settings=OPTIMIZER, training=Training(epochs=2), seed=0, device="cpu", threads=1, code=CODE,
    )  # fmt: skip


def test_an_id_is_that_of_the_runs_stored_so_far():
    """The id that a stored run of these settings has; it was not computed here."""
    assert request().on("digits", "c727ebd51632ca8c").spec_id == "64c3a704f1c8382b"


def test_a_folder_counts_by_its_content_and_not_by_its_path():
    here, there = (request(dataset=path).on("cats", "00") for path in ("/data/cats", "/home/me/cats"))
    assert here.spec_id == there.spec_id
    assert request(dataset="/data/cats").on("cats", "01").spec_id != here.spec_id


def test_a_request_has_no_id_and_a_spec_no_unknown_data():
    assert not hasattr(request(), "spec_id")
    with pytest.raises(ValidationError, match="dataset"):
        RunSpec(**dict(request()))


def test_a_spec_asks_for_the_same_on_other_data():
    first = request().on("digits", "00")
    assert first.spec_id  # known now, and no part of what is asked
    assert first.on("digits", "01") == request().on("digits", "01")


def test_a_request_with_other_training_is_another_request():
    first = request()
    other = first.with_training(batch_size=7)
    assert (first.training.batch_size, other.training.batch_size) == (128, 7)
    assert other.training.epochs == 2


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("steps:1e3", "steps:1000"), (" gradients : 20000 ", "gradients:20000"), ("seconds:2.50", "seconds:2.5")],
)
def test_an_end_is_written_one_way(text, canonical):
    assert Training(until=text).model_dump()["until"] == canonical


def test_a_run_that_ends_elsewhere_has_no_epochs_in_its_spec():
    first, second = (
        request().model_copy(update={"training": Training(until="steps:7", epochs=epochs)}).on("digits", "00")
        for epochs in (2, 30)
    )
    assert "epochs" not in first.model_dump()["training"]
    assert "max_steps" not in first.model_dump()["training"]
    assert first.spec_id == second.spec_id != request().on("digits", "00").spec_id
    assert RunSpec(**first.model_dump()).spec_id == first.spec_id


def test_epochs_are_one_setting_however_they_are_asked_for():
    assert Training(until="epochs:7") == Training(epochs=7)


def test_settings_that_came_later_leave_no_trace_where_they_are_not_set():
    assert not {"until", "eval_every"} & set(Training().model_dump())
    assert Training(eval_every=5).model_dump()["eval_every"] == 5


@pytest.mark.parametrize("text", ["foo:3", "gradients", "gradients:0", "seconds:nan", "seconds:-1", "steps:2.5",
                                  "steps:1,seconds:2", "seconds:inf", "epochs:0", ""])  # fmt: skip
def test_an_end_that_is_none_is_refused(text):
    with pytest.raises(ValidationError, match="until"):
        Training(until=text)
