"""Curves and artifacts: every number comes back as it went in."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vrcli.db.records import RunRecord, join_value, split_value
from vrcli.db.store import Store, StoreError

Begin = Callable[..., RunRecord]


def _bits(values: object) -> list[bytes]:
    """Floats to the bit, with one NaN for all NaNs and one zero, of which SQLite has only one."""
    return [struct.pack("d", math.nan if math.isnan(value) else value + 0.0) for value in values]  # type: ignore[attr-defined]


@given(st.floats())
def test_a_number_survives_its_two_columns(value: float) -> None:
    assert _bits([join_value(*split_value(value))]) == _bits([value])


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda name: "\x00" not in name and name.isprintable()),
        st.dictionaries(st.integers(0, 2**62), st.floats(), max_size=30),
        max_size=4,
    )
)
def test_points_come_back_bit_for_bit(begin: Begin, store: Store, curves: dict[str, dict[int, float]]) -> None:
    run = begin()
    store.curves.add(run.id, {name: (list(curve), list(curve.values())) for name, curve in curves.items()})
    found = store.curves.read(run.id)
    assert found.keys() == {(run.id, name) for name, curve in curves.items() if curve}
    for (_, name), curve in found.items():
        steps = sorted(curves[name])
        assert list(curve.steps) == steps
        assert _bits(curve.values) == _bits(curves[name][step] for step in steps)
    assert sorted(store.curves.metrics(run.id)) == sorted(name for name, curve in curves.items() if curve)


def test_any_sequences_of_numbers_are_taken(begin: Begin, store: Store) -> None:
    run = begin()
    store.curves.add(
        run.id,
        {
            "numpy": (np.arange(3), np.array([0.1, np.nan, 0.3], dtype=np.float32)),
            "array": (array("q", [5]), array("d", [math.inf])),
            "whole": (range(2), (1, True)),
        },
    )
    found = {
        name: (curve.steps.tolist(), curve.values.tolist()) for (_, name), curve in store.curves.read(run.id).items()
    }
    assert found["array"] == ([5], [math.inf])
    assert found["whole"] == ([0, 1], [1.0, 1.0])
    assert found["numpy"][0] == [0, 1, 2]
    np.testing.assert_array_equal(found["numpy"][1], np.array([0.1, np.nan, 0.3], dtype=np.float32).astype(float))


def test_a_step_written_again_is_replaced(begin: Begin, store: Store) -> None:
    run = begin()
    store.curves.add(run.id, {"loss": ([1, 2, 3], [1.0, math.nan, 3.0])})
    store.curves.add(run.id, {"loss": ([2, 3, 4], [20.0, math.inf, 40.0])})
    curve = store.curves.read(run.id)[run.id, "loss"]
    assert (list(curve.steps), list(curve.values)) == ([1, 2, 3, 4], [1.0, 20.0, math.inf, 40.0])
    assert len(curve) == 4


def test_points_out_of_order_come_back_in_order(begin: Begin, store: Store) -> None:
    run = begin()
    store.curves.add(run.id, {"loss": ([3, 1, 2], [3.0, 1.0, 2.0])})
    assert list(store.curves.read(run.id)[run.id, "loss"].values) == [1.0, 2.0, 3.0]


def test_wrong_points_leave_nothing_behind(begin: Begin, store: Store) -> None:
    run = begin()
    with pytest.raises(StoreError, match="loss has 2 steps but 1 values"):
        store.curves.add(run.id, {"fine": ([1], [1.0]), "loss": ([1, 2], [1.0])})
    with pytest.raises(StoreError, match="has no run 77"):
        store.curves.add(77, {"loss": ([1], [1.0])})
    assert store.curves.metrics(run.id) == []
    assert store.curves.metrics(77) == []


def test_curves_are_chosen_by_run_and_metric(begin: Begin, store: Store) -> None:
    runs = [begin(seed=seed).id for seed in range(3)]
    for run in runs:
        store.curves.add(run, {"a": ([1], [run]), "b": ([1], [run + 0.5])})
    assert store.curves.read(runs[:2], "a").keys() == {(runs[0], "a"), (runs[1], "a")}
    assert store.curves.read(runs[0]).keys() == {(runs[0], "a"), (runs[0], "b")}
    assert store.curves.read(runs, ["b", "none"]).keys() == {(run, "b") for run in runs}
    assert store.curves.read([]) == {}
    assert store.curves.metrics(runs[0]) == ["a", "b"]
    assert store.curves.read(runs)[runs[2], "b"].values[0] == runs[2] + 0.5
    store.curves.add(runs[2], {"c": ([1], [0.0])})
    assert store.curves.metrics(runs[:2]) == ["a", "b"]
    assert store.curves.metrics(runs) == ["a", "b", "c"]
    assert store.curves.metrics(range(runs[1] + 1, 40_000)) == ["a", "b", "c"]
    assert store.curves.metrics([]) == []


def test_adding_points_is_a_heartbeat(begin: Begin, store: Store) -> None:
    run = begin()
    store.curves.add(run.id, {})
    later = store.runs.get(run.id).heartbeat_at
    assert later > run.heartbeat_at
    store.runs.heartbeat(run.id)
    assert store.runs.get(run.id).heartbeat_at > later


def test_a_curve_is_numpy_without_a_copy(begin: Begin, store: Store) -> None:
    run = begin()
    store.curves.add(run.id, {"loss": ([1, 2], [0.5, 0.25])})
    curve = store.curves.read(run.id)[run.id, "loss"]
    values = np.asarray(curve.values)
    assert values.dtype == np.float64
    assert np.asarray(curve.steps).dtype == np.int64
    assert values.__array_interface__["data"][0] == curve.values.buffer_info()[0]


def test_artifacts_keep_their_bytes(begin: Begin, store: Store) -> None:
    run, data = begin(), bytes(range(256)) * 300
    store.artifacts.add(run.id, "grid.png", data, media_type="image/png", step=2)
    store.artifacts.add(run.id, "grid.png", b"ten", media_type="image/png", step=10)
    store.artifacts.add(run.id, "notes", b"", media_type="text/plain")
    kept = [(record.name, record.step, record.size, record.media_type) for record in store.artifacts.select(run.id)]
    assert kept == [
        ("grid.png", 2, 76800, "image/png"),
        ("grid.png", 10, 3, "image/png"),
        ("notes", None, 0, "text/plain"),
    ]
    assert store.artifacts.read(run.id, "grid.png") == b"ten"
    assert store.artifacts.read(run.id, "grid.png", step=2) == data
    assert store.artifacts.read(run.id, "notes") == b""
    store.artifacts.add(run.id, "notes", b"new", media_type="text/plain")
    assert store.artifacts.read(run.id, "notes") == b"new"
    assert len(store.artifacts.select(run.id)) == 3
    with pytest.raises(StoreError, match=r"no artifact grid of step 3; it has: grid\.png, notes"):
        store.artifacts.read(run.id, "grid", step=3)
    with pytest.raises(StoreError, match="has no run 5"):
        store.artifacts.add(5, "a", b"", media_type="text/plain")


def test_what_is_measured_after_the_end_is_attached_and_replaces_nothing_that_the_run_kept(
    begin: Begin, store: Store
) -> None:
    run = begin()
    store.artifacts.add(run.id, "grid.png", b"own", media_type="image/png")
    with pytest.raises(StoreError, match=f"run {run.id} is still running"):
        store.artifacts.attach(run.id, "measured.path.json", b"early")
    store.runs.finish(run.id, "completed")
    for data in (b"one", b"two"):
        store.artifacts.attach(run.id, "measured.path.json", data)
    assert [file.name for file in store.artifacts.select(run.id)] == ["grid.png", "measured.path.json"]
    assert store.artifacts.read(run.id, "measured.path.json") == b"two"
    with pytest.raises(StoreError, match=r"is called measured\.\.\.\., got grid.png"):
        store.artifacts.attach(run.id, "grid.png", b"other")
    with pytest.raises(StoreError, match="run 99 is not there"):
        store.artifacts.attach(99, "measured.path.json", b"")
