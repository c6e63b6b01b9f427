"""Numbers and times as people read them."""

from __future__ import annotations

import datetime as dt
import math

import pytest

from vrcli.report import wording
from vrcli.report.tables.runs import ago, settings_texts


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.06341, 0.00213, "0.0634 ± 0.0021"),
        (5.991, 0.25, "5.99 ± 0.25"),
        (0.5, 1.27, "0.5 ± 1.3"),
        (1234.5, 56.0, "1234 ± 56"),
        (-0.02, 0.011, "−0.020 ± 0.011"),
        (0.0634, 0.0, "0.06340 ± 0"),
        (3.21e-6, 1.1e-7, "(3.21 ± 0.11)e-06"),
        (0.0634, math.nan, "0.06340"),
        (math.nan, math.nan, "NaN"),
        (0.0, 0.01, "0.000 ± 0.010"),
    ],
)
def test_mean_and_half_width_end_at_the_same_digit(mean: float, half: float, text: str) -> None:
    assert wording.with_half_width(mean, half) == text


def test_percent() -> None:
    assert wording.with_half_width(0.982, 0.001, percent=True) == "98.20 ± 0.10 %"
    assert wording.with_half_width(0.982, 0.02, percent=True) == "98.2 ± 2.0 %"
    assert wording.with_half_width(0.982, math.nan, percent=True) == "98.2 %"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.06341, "0.06341"),
        (12.3456, "12.35"),
        (0.0, "0"),
        (1e-7, "1.000e-07"),
        (-math.inf, "−inf"),
        (123456.0, "123456"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert wording.number(value) == text


def test_p_values() -> None:
    assert wording.p_value(0.0004) == "p < 0.001"
    assert wording.p_value(0.0061) == "p = 0.006"
    assert wording.p_value(0.049) == "p = 0.049"
    assert wording.p_value(0.5) == "p = 0.50"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4, "just now"), (30, "30 s ago"), (150, "2 min ago"), (7300, "2 h ago"), (3 * 86400, "3 d ago")],
)
def test_ago(seconds: float, text: str) -> None:
    now = dt.datetime(2025, 3, 1, 12, tzinfo=dt.UTC)
    assert ago(now - dt.timedelta(seconds=seconds), now) == text
    assert ago((now - dt.timedelta(seconds=seconds)).replace(tzinfo=None), now) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (99_960, "100 kB"), (258_048, "258 kB"),
        (999_700, "1.0 MB"), (5_700_000_000, "5.7 GB"), (12_345_000_000_000, "12345 GB"),
    ],
)  # fmt: skip
def test_size(count: int, text: str) -> None:
    assert wording.size(count) == text


def test_long_ago_is_a_date() -> None:
    now = dt.datetime(2025, 3, 1, 12, tzinfo=dt.UTC)
    assert ago(dt.datetime(2024, 12, 24, 12, tzinfo=dt.UTC), now) == "2024-12-24"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.26, "4.3 s"), (12.4, "12 s"), (200, "3 min 20 s"), (3900, "1 h 05 min"), (math.nan, "-")]
)
def test_duration(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_settings_are_short() -> None:
    assert wording.settings({"lr": 0.0030, "normgrad": True, "betas": [0.9, 0.999], "clip": None}) == (
        "lr=0.003 normgrad=True betas=0.9,0.999 clip=-"
    )


def test_a_list_of_runs_shows_the_learning_rate_and_what_differs(make_run) -> None:
    runs = [make_run(beta3=1.0, lr=0.003), make_run(beta3=1.0, lr=0.08), make_run("sgd", lr=0.003, momentum=0.9)]
    assert settings_texts(runs) == ["lr=0.003", "lr=0.08", "lr=0.003"]
    assert settings_texts(runs[:1]) == ["lr=0.003"]
    assert settings_texts([]) == []


def test_tasks_and_presets_are_not_compared_setting_by_setting(make_run) -> None:
    runs = [make_run(), make_run(task="transformer", training={"batch_size": 8})]
    assert settings_texts(runs) == ["lr=0.003", "lr=0.003"]
    runs = [make_run(), make_run(preset="paper", training={"batch_size": 1024})]
    assert settings_texts(runs) == ["preset=quick lr=0.003", "preset=paper lr=0.003"]


def test_a_command_line_can_be_typed_again() -> None:
    argv = ["/usr/bin/vr", "runs", "list", "--where", "lr>1"]
    assert wording.command(argv) == "vr runs list --where 'lr>1'"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train_loss", "training loss"),
        ("epoch_train_loss", "training loss (epoch mean)"),
        ("val_mode_error", "validation mode error"),
        ("best_val_loss", "best validation loss"),
        ("test_accuracy", "test accuracy"),
        ("lr_effective", "effective learning rate"),
        ("velocity_norm", "velocity norm"),
        ("gate", "gate"),
    ],
)
def test_results_and_curves_are_called_the_same_everywhere(name, expected) -> None:
    assert wording.quantity(name) == expected


@pytest.mark.parametrize(
    ("count", "verb", "text"),
    [(1, "", "1 trial"), (2, "", "2 trials"), (0, "are", "0 trials are"), (1, "have", "1 trial has")],
)
def test_one_is_not_written_as_several(count: int, verb: str, text: str) -> None:
    assert wording.counted(count, "trial", verb) == text


@pytest.mark.parametrize(("word", "said"), [("search", "2 searches"), ("trial", "2 trials"), ("box", "2 boxes")])
def test_a_count_knows_the_plural(word, said):
    assert wording.counted(2, word) == said
    assert wording.counted(1, word) == f"1 {word}"


def test_the_best_of_a_curve_is_named_by_its_direction_and_by_what_ends_a_run():
    assert wording.best_over("min", until=False) == "minimum over epochs"
    assert wording.best_over("max", until=True) == "maximum over evaluations"
