"""Conditions on runs: what they read, keep and refuse."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vrcli.errors import UsageError
from vrcli.report.where import Condition, keep, parse, since


@dataclass(frozen=True)
class FakeRun:
    id: int = 1
    task: str = "cnn"
    dataset: str | None = "digits"
    optimizer: str = "adamw"
    status: str = "completed"
    tag: str | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    results: dict[str, float] = field(default_factory=dict)


def run(lr: float = 0.1, **optimizer_settings: Any) -> FakeRun:
    settings = {"lr": lr, **optimizer_settings}
    return FakeRun(spec={"optimizer_settings": settings}, results={"best_val_loss": lr * 2})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr>1e-3", [Condition("lr", ">", 1e-3)]),
        ("lr >= 1e-3, dataset=cifar10", [Condition("lr", ">=", 1e-3), Condition("dataset", "=", "cifar10")]),
        ("normgrad==true", [Condition("normgrad", "=", True)]),
        ("tag != none", [Condition("tag", "!=", None)]),
        ("dataset='two words'", [Condition("dataset", "=", "two words")]),
    ],
)
def test_conditions_are_read(text: str, expected: list[Condition]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "  ", "lr", "lr>", ">3", "lr=<3", "lr 3", "lr>1 what"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--where"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("lr>0.05", [0.1, 1.0]),
        ("lr=0.1", [0.1]),
        ("lr!=0.1", [0.01, 1.0]),
        ("best_val_loss<=0.2 task=cnn", [0.01, 0.1]),
        ("task=transformer", []),
        ("normgrad=true", [1.0]),
        ("normgrad=1", []),
        ("dataset>3", []),
    ],
)
def test_every_condition_must_hold(text: str, kept: list[float]) -> None:
    runs = [run(0.01), run(0.1), run(1.0, normgrad=True)]
    assert [r.spec["optimizer_settings"]["lr"] for r in keep(runs, parse(text))] == kept


def test_a_name_that_no_run_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean best_val_loss"):
        keep([run()], parse("best_val_los<1"))


def test_a_value_that_is_not_a_number_is_in_no_order() -> None:
    lost = FakeRun(results={"best_val_loss": float("nan")})
    assert keep([lost], parse("best_val_loss<1")) == keep([lost], parse("best_val_loss>1")) == []


def test_since() -> None:
    now = datetime(2026, 5, 20, 12, tzinfo=UTC)
    assert since("12h", now) == now - timedelta(hours=12)
    assert since("2w", now) == now - timedelta(days=14)
    assert since("2026-05-01T10:00+00:00") == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert since("2026-05-01") == datetime(2026, 5, 1).astimezone()
    for text in ("soon", "3 moons", "2026-13-01", "", "99999999999w"):
        with pytest.raises(UsageError, match="--since"):
            since(text, now)
