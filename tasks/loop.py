"""The contract of a task whose training loop is its own: what `train` may call, and what the task declares.

`vr` chooses the optimizer, its settings, the seed, the device and the budget, and records what the loop reports. The
loop does all the rest. Runs, searches, comparisons and checkpoints are those of every other task.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Protocol

import torch
from torch import Tensor, nn

from vrcli.tasks.base import Batch, C, Split, Splits, Task

#: In place of a digest of data that nobody looks at.
DECLARED = "declared"
#: What a loop that only takes its steps from `run.steps()` and its optimizer from `run.optimizer()` honours.
USUAL_SETTINGS = ("until", "epochs", "max_steps", "schedule", "warmup_epochs", "warmup_factor", "eta_min", "patience")


class LoopRun(Protocol):
    """What `LoopTask.train` gets: the run that it trains.

    Attributes:
        seed: of the run. Python's, numpy's and torch's global generators are seeded by it already.
        device: where to train.
        threads: CPU threads; torch takes as many already.
        training: the settings that `vr` gives every loop: `training.epochs`, `training.batch_size`, ...
        optimizer_name: which optimizer is asked for; `optimizer` builds it.
        optimizer_settings: its hyperparameters.
        steps_per_epoch: as said to `optimizer`; 1 before.
    """

    seed: int
    device: torch.device
    threads: int
    training: Any
    optimizer_name: str
    optimizer_settings: Mapping[str, Any]
    steps_per_epoch: int

    def optimizer(self, model: nn.Module, *, steps_per_epoch: int = 1) -> torch.optim.Optimizer:
        """The chosen optimizer over the model, with the chosen settings. Its `step` follows the schedule.

        Args:
            model: on its device already; `best_weights` and --keep-weights are about its weights.
            steps_per_epoch: what --epochs and the warm-up count.
        """

    def generator(self, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
        """Random numbers of one purpose ("order", 3), the same for every optimizer. A second call gives the same
        generator, wherever it is."""

    def steps(self) -> Iterator[int]:
        """The numbers of the steps to take, from 1 or from where `restore` went on, until the budget is used up."""

    def should_stop(self) -> bool:
        """Whether to leave the loop: the budget is used up, `patience` is, or somebody asked the run to stop."""

    def log(self, step: int, **values: Tensor | float) -> None:
        """Values of one step: `run.log(step, train_loss=loss)`. Tensors stay on their device until a block is read.

        Raises:
            UsageError: the step is recorded already or beyond the budget, or a value is not a number.
        """

    def evaluate(self, step: int, **values: Tensor | float) -> bool:
        """Values of the validation split after a step, the objective among them: `run.evaluate(step, val_loss=v)`.

        Returns:
            Whether it is the best so far. Then the weights of the model of `optimizer` are kept for `best_weights`.

        Raises:
            UsageError: as `log`; or the objective is missing.
        """

    def best_weights(self) -> None:
        """Put the weights of the best evaluation into the model that `optimizer` was given."""

    def test(self, **values: Tensor | float) -> None:
        """Values of the test split: once, with the best weights.

        Raises:
            UsageError: it is recorded already.
        """

    def keep(self, name: str, data: bytes) -> None:
        """Keep a file with the run."""

    def save(self, **objects: Any) -> None:
        """Write the run down, where it is time to: `run.save(model=model, optimizer=optimizer)`, after a step.

        Objects with a `state_dict`, or plain values. Where the random generators and the curves are is kept too.
        """

    def restore(self, **objects: Any) -> int:
        """Put what `save` wrote back into the objects, before the first step.

        Returns:
            The step after which it was written; 0 where nothing is: the run begins.

        Raises:
            UsageError: other objects were saved.
        """

    def restored(self, name: str) -> Any:
        """A plain value that `save` wrote; None where nothing is."""


class LoopTask(Task[C]):
    """One thing to train, by a loop of its own.

    Its name, metrics, `Config`, presets and search spaces are those of every task. What is random in `train` must come
    from the run's seed: then the same seed gives the same curve, and runs of two optimizers pair.
    """

    #: Those that `train` honours.
    training_settings: ClassVar[Sequence[str] | None] = USUAL_SETTINGS
    #: Why a run fails that measured no objective.
    unmeasured: ClassVar[str] = "train() never called run.evaluate(step, val_{objective}=...)"

    @abstractmethod
    def train(self, run: LoopRun) -> None:
        """Train, and report to `run`. Called once in a run."""

    def dataset(self) -> tuple[str, str]:
        """Name and identity of the data. Nobody looks at their content: say another identity when it changes."""
        return self.config.dataset or "unknown", DECLARED

    # -- what the engine's loop would ask for -------------------------------------------------------------------------

    def data(self, generator: torch.Generator) -> Splits:
        self._none("data")

    def model(self, data: Splits) -> nn.Module:
        self._none("model")

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self._none("loss")

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        self._none("evaluation")

    def _none(self, what: str) -> NoReturn:
        raise TypeError(f"{self.name} trains by itself: its {what} is inside train()")
