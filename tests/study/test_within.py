"""Claims about where a curve lies, and parts that measure with probes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vrcli
from vrcli.db.store import Store
from vrcli.errors import UsageError
from vrcli.report.study.experiment import claim_text, evidence
from vrcli.study.files.model import Claim

TEXT = """
title = "measured"
[parts.one]
task = "valley:Valley"
preset = "quick"
optimizers = {{ Descent = "sgd@plain:lr=0.01", Adam = "adam@plain:lr=0.01" }}
epochs = 4
seeds = {seeds}
probes = {{ updates = {{ layers = false }}, sharpness = {{ top = 1 }} }}
probe_every = "2"
[[claims]]
within = ["Descent"]
curve = "updates_cosine_gradient"
range = [0.99, 1.01]
[[claims]]
within = ["Adam"]
curve = "updates_cosine_gradient"
range = [1.5, 2.0]
[[claims]]
within = ["Descent"]
curve = "sharpness_1"
of = "sharpness_threshold"
range = [1.0, 2.0]
after = 0.5
[[claims]]
below = ["Descent", "Adam"]
curve = "updates_norm"
[[figures]]
kind = "stability"
"""


@pytest.fixture
def study(valley: None, inline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def carry_out(seeds: int) -> Any:
        (tmp_path / "measured.toml").write_text(TEXT.format(seeds=seeds))
        return vrcli.study("measured", threads=1, db=tmp_path / "vr.db")

    return carry_out


def test_a_part_measures_and_its_curves_decide(study: Any, tmp_path: Path) -> None:
    found = study(3)
    # Gradient descent follows its gradient, no cosine is above 1, and a linear model at this rate is far from unstable.
    assert [claim.said.name for claim in found.claims[:3]] == ["REPRODUCED", "CONTRADICTED", "CONTRADICTED"]
    assert evidence(found.claims[0]) == "mean 1 [1, 1], in 0.99 to 1.01; n = 3"
    assert "not in 1 to 2" in evidence(found.claims[2])
    assert claim_text(found.claims[2].claim) == "Descent's sharpness 1 over sharpness threshold lies in 1 to 2"
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        assert {run.provenance["probe_every"] for run in store.runs.select()} == {"2"}


def test_runs_that_were_not_measured_do_not_count(study: Any, tmp_path: Path) -> None:
    text = TEXT.format(seeds=2)
    (tmp_path / "measured.toml").write_text(
        "\n".join(line for line in text.split("[[claims]]")[0].splitlines() if "probe" not in line)
    )
    vrcli.study("measured", threads=1, db=tmp_path / "vr.db")
    found = study(2)
    assert found.claims[0].said.name == "REPRODUCED"
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        assert len(store.runs.select()) == 8


def test_a_claim_of_one_optimizer_stands_for_one() -> None:
    assert Claim(within=["New"], curve="gate", range=[0.1, 1.0]).pair == ("New", "New")
    for wrong in ({"range": None}, {"range": [1.0, 0.0]}, {"range": [0.0, 1.0], "metric": "steps"}):
        with pytest.raises(ValueError, match="within"):
            Claim(**{"within": ["New"], "curve": "gate", **wrong})


def test_who_stops_sooner_can_be_compared(valley: None) -> None:
    from valley import Valley

    from vrcli.study.comparison import metric_of

    request: Any = SimpleNamespace(metric="steps", tuning=SimpleNamespace(task="valley"))
    assert metric_of(Valley, request).direction == "min"
    request.metric = "stpes"
    with pytest.raises(UsageError, match="stpes is not a result of valley"):
        metric_of(Valley, request)
