"""Recording a training of Hugging Face's Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vrcli
from vrcli.db.store import Store


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        found = self.layer(x)
        return {"loss": (found - labels).square().mean(), "logits": found}


def test_a_training_is_a_run(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from vrcli.record.transformers import Recording

    x = torch.randn(16, 3)
    rows: list[dict[str, Any]] = [{"x": one, "labels": one.sum(0, keepdim=True)} for one in x]
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), num_train_epochs=3, per_device_train_batch_size=8, learning_rate=0.01,
        logging_steps=1, eval_strategy="epoch", save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
        seed=7,
    )  # fmt: skip
    with vrcli.track("mine", dataset="rows", db=tmp_path / "vr.db") as run:
        trainer = transformers.Trainer(
            model=Model(), args=args, train_dataset=rows, eval_dataset=rows, callbacks=[Recording(run)]
        )
        trainer.train()
        trainer.evaluate(rows, metric_key_prefix="test")
    with Store.open(tmp_path / "vr.db") as store:
        [found] = store.runs.select()
        curves = store.curves.read([found.id])
    assert (found.status, found.seed, found.optimizer) == ("completed", 7, "adamw")
    assert found.settings["learning_rate"] == 0.01
    assert "output_dir" not in found.settings
    assert list(curves[found.id, "train_loss"].steps) == [1, 2, 3, 4, 5, 6]
    assert list(curves[found.id, "val_loss"].steps) == [2, 4, 6]
    assert found.results["best_val_loss"] == min(curves[found.id, "val_loss"].values)
    assert found.results["test_loss"] == pytest.approx(curves[found.id, "val_loss"].values[-1], rel=1e-4)
