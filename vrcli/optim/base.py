"""What the optimizers of this package share: how a state comes back after loading, copying or unpickling."""

from __future__ import annotations

from typing import Any

from torch.optim.optimizer import Optimizer


class OwnOptimizer(Optimizer):
    """A `torch.optim.Optimizer` whose `state_dict` is the same before and after a round trip."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up a state; a group saved before a setting existed gets that setting's default."""
        super().__setstate__(state)
        # torch adds this default to every optimizer it restores; one without that setting would hand it to its groups
        self.defaults.pop("differentiable", None)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)
