"""`--subset` on the command line: what a run on a part of the data says of itself, and what it proposes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("valley")


def test_a_part_has_a_name_of_its_own_and_what_comes_next_is_on_it_too(vr: Callable[..., Any]) -> None:
    words = ("run", "valley:Valley", "--opt", "sgd", "--threads", "1")
    assert "--subset" not in vr(*words).out
    done = vr(*words, "--subset", "0.25")
    assert "vr compare valley:Valley --opt sgd --opt adamw --subset 0.25" in done.out
    part, whole = json.loads(vr("runs", "list", "--format", "json").out)
    assert (part["dataset"], whole["dataset"]) == ("valley-subset-0.25", "valley")
    assert vr("runs", "rerun", "2").code == 0
    assert "bit-identical" in vr("runs", "diff", "2", "3").out
