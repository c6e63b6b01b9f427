"""What a claim's verdict rests on, in one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from vrcli.report.study.blocks import Rows
from vrcli.report.study.experiment import _settings, evidence
from vrcli.stats.replicates import compare_replicates
from vrcli.study.files.claims import Decided, Said
from vrcli.study.files.model import Claim


def test_searches_have_p_before_and_after_the_correction() -> None:
    values = {"a": np.array([[1.0], [1.2], [1.1]]), "b": np.array([[1.3], [1.45], [1.5]])}
    values["c"] = np.array([[2.0], [1.0], [3.0]])
    (pair, *_) = compare_replicates(values, metric="test_loss").pairs
    claim = Claim(less=["a", "b"], metric="test_loss")
    said = evidence(Decided(claim, "tuned", Said.UNDECIDED, ("a", "b"), SimpleNamespace(seeds=1), pair))
    own = "a − b: −0.32 [−0.51, −0.13], p = 0.019 (paired t)"
    assert said == f"{own}, p = 0.057 after Holm over 3 pairs; n = 3 x 1"


def test_a_setting_that_some_searches_turned_off_is_not_shown_as_on() -> None:
    specs = [{"lr": 0.1, "normgrad": False, "amsgrad": False}, {"lr": 0.2, "normgrad": True, "amsgrad": False}]
    runs = [[SimpleNamespace(spec={"optimizer_settings": one})] for one in specs]
    part = SimpleNamespace(names={"New": "vradam"}, request=SimpleNamespace(tuning=SimpleNamespace(trials=3)))
    result: Any = SimpleNamespace(found={"one": SimpleNamespace(part=part, blocks={"vradam": runs})})
    rows, _ = _settings(result)
    assert isinstance(rows, Rows)
    assert rows.rows == [{"part": "one", "optimizer": "New (vradam)", "settings": "lr=0.1..0.2 normgrad=False|True"}]
