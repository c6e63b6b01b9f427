"""Claims about where a curve lies, and parts that measure with probes."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vrcli
from vrcli.db.store import Store
from vrcli.errors import UsageError
from vrcli.report.study.experiment import claim_text, evidence
from vrcli.study.files import claims
from vrcli.study.files.model import Claim

TEXT = """
title = "measured"
[parts.one]
task = "valley:Valley"
preset = "quick"
optimizers = {{ Descent = "sgd@plain:lr=0.01", Adam = "adam@plain:lr=0.01" }}
epochs = 4
seeds = {seeds}
probes = {{ updates = {{ layers = true }}, sharpness = {{ top = 1 }} }}
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
[[claims]]
never_above = ["Descent"]
curve = "updates_gradient_norm"
of = "grad_norm"
[[claims]]
never_above = ["Descent"]
curve = "sharpness_threshold"
of = "sharpness_1"
after = 0.5
[[claims]]
never_above = ["Adam"]
curve = "updates_cosine_previous"
of = "updates_norm/none"
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
    # The probe's norm of the gradient is the engine's; the threshold is far above the sharpness, at every step.
    assert [claim.said.name for claim in found.claims[4:]] == ["REPRODUCED", "CONTRADICTED", "UNDECIDED"]
    same, above, missing = map(evidence, found.claims[4:])
    assert re.match(r"above at 0 of 12 steps of 3 runs, at most (1\.0000|0\.9999)\d\d times as high", same), same
    assert re.match(r"above at 9 of 9 steps of 3 runs, at most [\d.]+ times as high$", above), above
    assert missing == "no step has a number of both updates_cosine_previous and updates_norm/none"
    assert claim_text(found.claims[5].claim) == "Descent's sharpness threshold is never above its sharpness 1"
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


def test_a_diverged_run_is_not_left_out(study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXT.replace('lr=0.01", Adam', 'lr=1e9", Adam')
    monkeypatch.setitem(globals(), "TEXT", text)
    found = study(2)
    assert found.claims[0].said.name == "UNDECIDED"
    assert evidence(found.claims[0]) == "runs diverged, so that the curves have no means"


def test_a_curve_of_which_runs_diverged_is_not_compared(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "TEXT", TEXT.replace('adam@plain:lr=0.01"', 'adam@plain:lr=1e9"'))
    found = study(2)
    assert found.claims[3].said.name == "UNDECIDED"
    assert evidence(found.claims[3]) == "runs diverged, so that the curves have no means"


def test_where_the_other_curve_is_zero_there_is_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = {(run, "a"): (np.array([1, 2]), np.array([3.0, 8.0])) for run in (1, 2)} | {
        (run, "b"): (np.array([1, 2]), np.array([0.0, 2.0])) for run in (1, 2)
    }
    monkeypatch.setattr(claims, "Reader", lambda *_: SimpleNamespace(curves=lambda *_: curves))
    request = SimpleNamespace(tuning=SimpleNamespace(trials=0), level=0.95)
    found: Any = SimpleNamespace(
        part=SimpleNamespace(name="one", request=request),
        blocks={"Adam": [[SimpleNamespace(id=run) for run in (1, 2)]]},
    )
    claim = Claim(within=["Adam"], curve="a", of="b", range=[0.0, 5.0])
    store: Any = None
    assert claims._means(claim, found, "Adam", store) == [4.0, 4.0]


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


RATES = """
title = "rates"
[parts.short]
task = "functions"
preset = "smoke"
optimizers = {{ Half = "sgd@a:lr=0.5,momentum=0", Slow = "sgd@b:lr=1e-4,momentum=0" }}
until = "steps:16"
seeds = {seeds}
settings = {{ noise = 1.0, jitter = 0.1, eval_every = 1, condition = 1.0 }}
[parts.long]
task = "functions"
preset = "smoke"
optimizers = {{ Half = "sgd@c:lr=0.25,momentum=0", Slow = "sgd@d:lr=5e-5,momentum=0" }}
until = "steps:64"
seeds = {seeds}
settings = {{ noise = 1.0, jitter = 0.1, eval_every = 4, condition = 1.0 }}
[scales.half]
skip = ["long"]
[[claims]]
rate = ["Half"]
curve = "val_gradient"
power = -0.5
parts = ["{first}", "{second}"]
[[claims]]
rate = ["Slow"]
curve = "val_gradient"
power = -0.5
parts = ["{first}", "{second}"]
"""


def rates(tmp_path: Path, seeds: int, first: str = "short", second: str = "long") -> Any:
    text = RATES.format(seeds=seeds, first=first, second=second)
    (tmp_path / "rates.toml").write_text(text)
    return vrcli.study("rates", threads=1, db=tmp_path / "vr.db")


def test_a_rate_is_compatible_or_violated_and_never_reproduced(
    inline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fast, slow = rates(tmp_path, 5).claims
    assert (fast.said.name, slow.said.name) == ("COMPATIBLE", "VIOLATED")  # the slow one has hardly moved
    assert fast.part == "short to long"
    assert "the claimed rate's -0.50; N = 16, 64: " in evidence(fast)
    assert "n = 5 seeds" in evidence(slow)
    assert claim_text(fast.claim) == "Half's validation gradient falls as fast as N^-0.5"
    back = rates(tmp_path, 5, "long", "short").claims[0]
    assert back.said.name == "UNDECIDED"
    assert evidence(back) == "the parts' runs must be longer from part to part, got 64, 16 steps"
    skipped = vrcli.study("rates", scale="half", threads=1, db=tmp_path / "vr.db").claims[0]
    assert (skipped.said.name, evidence(skipped)) == ("NOT_RUN", "fewer than two of its parts run")


def test_why_a_rate_is_not_decided(inline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = RATES.replace("lr=0.5,", "lr=1e9,").replace("steps:16", "steps:4").replace("steps:64", "steps:8")
    for seeds, why in ((4, "4 seeds, and a rate needs 5"), (5, "5 of 5 runs diverged or did not end")):
        (tmp_path / "rates.toml").write_text(text.format(seeds=seeds, first="short", second="long"))
        claim = vrcli.study("rates", threads=1, db=tmp_path / "vr.db").claims[0]
        assert (claim.said.name, evidence(claim)) == ("UNDECIDED", f"part short: {why}")
