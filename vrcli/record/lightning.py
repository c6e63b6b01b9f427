"""Lightning: a callback that records what the module logs.

with vrcli.track("mine", seed=seed) as run:
    trainer = Trainer(callbacks=[Recording(run)])
    trainer.fit(module, data)
    trainer.test(module, data)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vrcli.record.tracked import Tracked


class Recording(Callback):
    """Records a fit: the optimizer and `hparams`, the training loss of each optimizer step, every `val_` metric that
    the module logs after each validation, and every `test_` metric.

    Args:
        run: of the `with` block around the fit.
    """

    def __init__(self, run: Tracked) -> None:
        self.run = run
        self._step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        optimizer = trainer.optimizers[0] if trainer.optimizers else None
        self.run.describe(optimizer=optimizer, settings=dict(pl_module.hparams))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Tensor | Mapping[str, Any] | None, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None and trainer.global_step > self._step:  # batches whose gradients accumulate are one step
            self._step = trainer.global_step
            self.run.log(self._step, train_loss=loss)
        trainer.should_stop = trainer.should_stop or self.run.should_stop()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = _of_split(trainer, "val_")
        if found and not trainer.sanity_checking:
            self.run.evaluate(trainer.global_step, **found)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if found := _of_split(trainer, "test_"):
            self.run.test(**found)


def _of_split(trainer: Trainer, prefix: str) -> dict[str, Tensor]:
    return {name: value for name, value in trainer.callback_metrics.items() if name.startswith(prefix)}
