"""Recording a fit of Lightning's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import vrcli
from vrcli.db.store import Store


def test_a_fit_is_a_run(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from vrcli.record.lightning import Recording

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, width: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = nn.Linear(width, 1)

        def loss(self, batch: Tensor) -> Tensor:
            return (self.layer(batch) - batch.sum(1, keepdim=True)).square().mean()

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return self.loss(batch[0])

        def validation_step(self, batch: list[Tensor], index: int) -> None:
            self.log("val_loss", self.loss(batch[0]))

        def test_step(self, batch: list[Tensor], index: int) -> None:
            self.log("test_loss", self.loss(batch[0]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(32, 3)), batch_size=8)
    with vrcli.track("mine", seed=1, db=tmp_path / "vr.db") as run:
        trainer = lightning.Trainer(
            max_epochs=3, callbacks=[Recording(run)], logger=False, enable_checkpointing=False, accelerator="cpu",
            enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=2,
        )  # fmt: skip
        module = Module()
        trainer.fit(module, data, data)
        trainer.test(module, data, verbose=False)
    with Store.open(tmp_path / "vr.db") as store:
        [found] = store.runs.select()
        curves = store.curves.read([found.id])
    assert (found.status, found.optimizer, found.settings["lr"], found.settings["width"]) == (
        "completed",
        "sgd",
        0.05,
        3,
    )
    assert list(curves[found.id, "train_loss"].steps) == [1, 2, 3, 4, 5, 6]  # 4 batches, two of which are one step
    assert list(curves[found.id, "val_loss"].steps) == [2, 4, 6]
    assert found.results["best_val_loss"] == min(curves[found.id, "val_loss"].values)
    assert found.results["test_loss"] == pytest.approx(curves[found.id, "val_loss"].values[-1])
