"""Hugging Face's `Trainer`: a callback that records what it logs and evaluates.

with vrcli.track("mine", dataset="emotion") as run:
    trainer = Trainer(..., callbacks=[Recording(run)])
    trainer.train()
    trainer.evaluate(test_set, metric_key_prefix="test")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from numbers import Real
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vrcli.record.tracked import Tracked

#: Arguments that decide no curve: where things are written, how often, and to whom.
_ASIDE = ("output_dir", "logging", "save", "report_to", "run_name", "push", "hub", "disable_tqdm", "log_level", "seed")


class Recording(TrainerCallback):
    """Records a training: the optimizer, the arguments that differ from their defaults, what is logged as
    `train_loss`, `grad_norm` and `lr_effective`, every `eval_` metric as a `val_` metric, and every `test_` metric.

    Args:
        run: of the `with` block around the training.
    """

    def __init__(self, run: Tracked) -> None:
        self.run = run

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **words: Any
    ) -> None:
        optimizer = words.get("optimizer")
        inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        self.run.describe(optimizer=inner, seed=int(args.seed), settings=_own(args))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: Mapping[str, Any] | None = None, **words: Any,
    ) -> None:  # fmt: skip
        names = {"loss": "train_loss", "grad_norm": "grad_norm", "learning_rate": "lr_effective"}
        found = {names[name]: value for name, value in (logs or {}).items() if name in names}
        if found:
            self.run.log(state.global_step, **found)
        control.should_training_stop = control.should_training_stop or self.run.should_stop()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        metrics: Mapping[str, Any] | None = None, **words: Any,
    ) -> None:  # fmt: skip
        measured = {
            name: value
            for name, value in (metrics or {}).items()
            if isinstance(value, Real) and not name.endswith(_SPEED)
        }
        if found := _of_split(measured, "eval_"):
            self.run.evaluate(state.global_step, **found)
        if found := _of_split(measured, "test_"):
            self.run.test(**found)
        control.should_training_stop = control.should_training_stop or self.run.should_stop()


def _of_split(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


#: How the names of what the Trainer says of its own speed end.
_SPEED = ("_runtime", "_per_second")


def _own(args: TrainingArguments) -> dict[str, Any]:
    """The arguments that somebody chose."""
    usual = {field.name: field.default for field in fields(args)}
    return {
        name: getattr(args, name)
        for name, default in usual.items()
        if not name.startswith(_ASIDE) and isinstance(value := getattr(args, name), bool | int | float | str)
        and value != default
    }  # fmt: skip
