"""Conditions on runs: what they read, keep and refuse."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vrcli.db.configuration import flat_settings
from vrcli.errors import UsageError
from vrcli.results.flat import rows
from vrcli.results.where import Condition, keep, parse, since


@dataclass(frozen=True)
class FakeRun:
    id: int = 1
    task: str = "cnn"
    dataset: str | None = "digits"
    optimizer: str = "adamw"
    status: str = "completed"
    tag: str | None = None
    spec_id: str = "0012"
    sweep_id: int | None = None
    search_id: int | None = None
    created_at: datetime = datetime(2026, 5, 1, 12, tzinfo=UTC)
    spec: dict[str, Any] = field(default_factory=dict)
    results: dict[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        return flat_settings(self.spec)


def run(lr: float = 0.1, **optimizer_settings: Any) -> FakeRun:
    settings = {"lr": lr, **optimizer_settings}
    return FakeRun(spec={"optimizer_settings": settings}, results={"best_val_loss": lr * 2})


DATA = Condition("dataset", "=", "cifar10", "cifar10")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr>1e-3", [Condition("lr", ">", "1e-3", 1e-3)]),
        ("lr >= 1e-3, dataset=cifar10", [Condition("lr", ">=", "1e-3", 1e-3), DATA]),
        ("lr>1e-3,dataset=cifar10", [Condition("lr", ">", "1e-3", 1e-3), DATA]),
        ("dataset=cifar10 ,lr <= 2,", [DATA, Condition("lr", "<=", "2", 2.0)]),
        ("betas=0.9,0.999", [Condition("betas", "=", "0.9,0.999", "0.9,0.999")]),
        ("betas=0.9,0.999,dataset=cifar10", [Condition("betas", "=", "0.9,0.999", "0.9,0.999"), DATA]),
        ("normgrad==true", [Condition("normgrad", "=", "true", True)]),
        ("tag != none", [Condition("tag", "!=", "none", None)]),
        ("dataset='two words'", [Condition("dataset", "=", "two words", "two words")]),
        ("tag='1'", [Condition("tag", "=", "1", "1")]),
    ],
)
def test_conditions_are_read(text: str, expected: list[Condition]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "  ", "lr", "lr>", ">3", "lr=<3", "lr 3", "lr>1 what", "lr=,", "lr=,tag=1"])
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


@pytest.mark.parametrize("tag", ["1", "1e5", "1.50", "nan", "true", "none", "0x1"])
def test_text_is_compared_as_it_was_written(tag: str) -> None:
    mine, other = FakeRun(tag=tag), FakeRun(tag="other")
    assert keep([mine, other], parse(f"tag={tag}")) == [mine]
    assert keep([mine, other], parse(f"tag!={tag}")) == [other]
    assert keep([mine, other], parse("spec_id=0012")) == [mine, other]
    assert keep([mine, other], parse("spec_id=12")) == []


def test_lists_are_compared_as_they_are_typed() -> None:
    runs = [run(betas=[0.9, 0.999]), run(betas=(0.9, 0.99)), run()]
    assert keep(runs, parse("betas=0.9,0.999 lr=0.1")) == runs[:1]
    assert keep(runs, parse("betas!=0.9,0.999")) == runs[1:2]


def test_names_are_those_of_the_frames() -> None:
    """Every column that rows have can be asked for, and means the same."""
    clash = FakeRun(
        tag="own", sweep_id=3, results={"epochs": 2.0, "loss": 0.5},
        spec={"training": {"epochs": 5}, "task_settings": {"tag": "setting", "betas": [1, 2]}},
    )  # fmt: skip
    other = FakeRun(id=2, spec={"training": {"epochs": 2}})
    (row, _) = rows([clash, other])
    assert {"result.epochs", "setting.tag", "sweep_id", "epochs", "uuid"} <= row.keys()
    for name, value in row.items():
        if value is not None and name != "created_at":
            assert clash in keep([clash, other], parse(f"{name}={value}")), name
    assert keep([clash, other], parse("result.epochs<5")) == [clash]
    assert keep([clash, other], parse("epochs<5")) == [other]
    assert keep([clash, other], parse("sweep_id=none")) == [other]


def test_times_are_in_order() -> None:
    runs = [FakeRun(), FakeRun(created_at=datetime(2026, 7, 1, tzinfo=UTC))]
    assert keep(runs, parse("created_at>2026-06-01")) == runs[1:]
    assert keep(runs, parse("created_at=2026-05-01T12:00+00:00")) == runs[:1]
    with pytest.raises(UsageError, match=r"--where created_at: 'soon' is not a time; write 2026-11-20"):
        keep(runs, parse("created_at>soon"))


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
