"""The registry's data: one row per optimizer that comes with torch or stands in this package. Imports no torch.

Source:      torch.optim's documentation for the capabilities; arXiv 2505.13196, Tables 6 to 12, for the search spaces
             (learning rates log-uniform in 1e-5..0.1 for every baseline; VRAdam's four settings).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vrcli.tasks.space import Categorical, Integer, Real, Space

#: Named in a row's capabilities, asked for by the engine: the name of an optimizer decides nothing.
CAPABILITIES: Mapping[str, str] = {
    "closure": "step() needs a closure that evaluates the loss again",
    "create_graph": "needs gradients that can be differentiated once more (backward with create_graph=True)",
    "train_eval": "keeps two sets of weights: has train() and eval()",
    "lr_free": "estimates its own learning rate; lr is a factor, normally 1",
    "sparse": "takes sparse gradients",
    "no_resume": "keeps state that cannot be put back: an interrupted run of it begins again",
}

PAPER_LR = "the VRAdam paper's range for its baselines"
OWN_RANGE = "chosen here: the paper does not tune it"


@dataclass(frozen=True)
class Row:
    """One optimizer.

    Args:
        name: what users type.
        target: "module:Class"; imported only when it is used.
        summary: one line.
        origin: the distribution it comes from ("torch", "vr", "pytorch-optimizer", ...).
        space: default search space; a task may state another.
        capabilities: keys of `CAPABILITIES`.
        defaults: values for arguments that the constructor requires, or that must differ from its defaults here.
        groups: "module:function" from a model to parameter groups, for optimizers that treat matrices and vectors
            differently; empty for all trainable parameters in one group.
        takes_model: the constructor takes the model itself instead of parameters.
        steps_setting: the setting that is the run's number of steps unless it is given; empty for none.
        own_lr: its lr has another scale than AdamW's, so that a preset's lr for every optimizer does not apply.
        note: what a user has to know before the first run, in one line; empty for most.
        refusal: why it cannot be built here, in one line; empty when it can.
        curves: what its `telemetry` records of every step beside the engine's; None where nobody says.
        revision: of an optimizer defined or adapted here: raised by hand when its numbers change.
    """

    name: str
    target: str
    summary: str
    origin: str
    space: Space = field(default_factory=dict)
    capabilities: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    groups: str = ""
    takes_model: bool = False
    steps_setting: str = ""
    own_lr: bool = False
    note: str = ""
    refusal: str = ""
    curves: tuple[str, ...] | None = ()
    revision: int = 1

    def __post_init__(self) -> None:
        unknown = self.capabilities - CAPABILITIES.keys()
        if unknown:
            raise ValueError(f"{self.name}: unknown capabilities {sorted(unknown)}; known: {sorted(CAPABILITIES)}")

    @property
    def keeps_lr(self) -> bool:
        """Whether its own default stands where a preset gives one lr to every optimizer."""
        return self.own_lr or "lr_free" in self.capabilities


def lr_space(low: float, high: float, origin: str) -> Space:
    """A search over the learning rate alone, on a log axis."""
    return {"lr": Real(low, high, log=True, origin=origin)}


#: What an optimizer searches for which nobody chose a range.
GENERIC_SPACE: Space = {"lr": Real(1e-5, 0.1, log=True, origin=PAPER_LR, generic=True)}


def _torch(name: str, attribute: str, summary: str, **more: Any) -> Row:
    return Row(name, f"torch.optim:{attribute}", summary, "torch", **{"space": GENERIC_SPACE, **more})


#: What the optimizers that look at the velocity search beside their lr.
VELOCITY_SPACE: Space = {
    "beta3": Real(0.1, 1.5, origin="Table 6 of the paper"),
    "normgrad": Categorical((True, False), origin="Table 6 of the paper"),
    "lr_cutoff": Integer(3, 30, origin="Table 6 of the paper"),
}

TORCH_ROWS = (
    _torch("adam", "Adam", "adaptive moments, weight decay as an L2 penalty"),
    _torch("adamw", "AdamW", "adaptive moments, decoupled weight decay"),
    _torch("sgd", "SGD", "stochastic gradient descent, with momentum and Nesterov momentum"),
    _torch("rmsprop", "RMSprop", "gradient over a running root mean square"),
    _torch("nadam", "NAdam", "Adam with Nesterov momentum"),
    _torch("radam", "RAdam", "Adam with the variance of its early steps rectified"),
    _torch(
        "adagrad", "Adagrad", "gradient over the root of the sum of all squares", capabilities=frozenset({"sparse"})
    ),
    _torch("adamax", "Adamax", "Adam with the infinity norm in place of the second moment"),
    _torch(
        "adadelta",
        "Adadelta",
        "update scaled by a running mean of past updates",
        space=lr_space(1e-3, 10, OWN_RANGE),
        own_lr=True,
    ),
    _torch("asgd", "ASGD", "averaged stochastic gradient descent"),
    _torch("rprop", "Rprop", "step sizes from the signs of successive gradients; meant for full batches"),
    _torch("adafactor", "Adafactor", "second moments of matrices kept as rows and columns"),
    _torch(
        "lbfgs",
        "LBFGS",
        "limited-memory quasi-Newton; evaluates the loss several times per step",
        space=lr_space(1e-2, 2, OWN_RANGE),
        capabilities=frozenset({"closure"}),
    ),
    _torch(
        "sparseadam",
        "SparseAdam",
        "Adam that touches only the rows with a gradient",
        capabilities=frozenset({"sparse"}),
        refusal="takes only sparse gradients, and no task here produces them",
    ),
)


def _own_rows() -> tuple[Row, ...]:
    """The rows that stand in the files of this package: `ROW = Row(...)`, of which nothing else is executed."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    rows = [re.search(r"^ROW = (Row\(.*?^\))$", text, re.S | re.M) for text in texts]
    return tuple(eval(row[1], globals()) for row in rows if row)


#: This package's own optimizers. Their files import torch, which listing them must not wait for.
VR_ROWS = _own_rows()
