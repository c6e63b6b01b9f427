"""What every recorded run knows: metrics whose better direction everybody agrees on, and where a run is found."""

from __future__ import annotations

from collections.abc import Mapping

from vrcli.direction import Direction

#: The variable by which a script finds the run that it belongs to: a folder.
VARIABLE = "VR_RUN"
#: Metrics whose better direction everybody agrees on; any other objective has to be declared.
USUAL: Mapping[str, Direction] = {
    **dict.fromkeys(("loss", "nll", "perplexity", "error", "mse", "rmse", "mae", "bits_per_byte"), "min"),
    **dict.fromkeys(("accuracy", "acc", "f1", "auc", "bleu", "reward", "return", "score"), "max"),
}


def direction_of(name: str) -> Direction | None:
    """Which way a metric is better; None where nobody knows."""
    return USUAL.get(name)
