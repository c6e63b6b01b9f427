"""How long torch's threads spin before they sleep.

libgomp's threads wait for each other by spinning, 300,000 turns by default: on a processor that another process keeps
busy, each wait of a small network's many short ones lasts until the scheduler takes the spinning thread away.
"""

from __future__ import annotations

import os
import sys

#: Turns: few enough to sleep soon beside a busy process, enough not to sleep between two steps of a quiet machine.
_TURNS = "20000"


def spin_briefly() -> None:
    """Let torch's threads sleep sooner, unless the user has said how they wait. Before torch is imported."""
    said = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & {*os.environ}
    if not said and "torch" not in sys.modules:  # libgomp reads it once, when it is loaded
        os.environ["GOMP_SPINCOUNT"] = _TURNS
