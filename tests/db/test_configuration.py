"""Runs of one configuration: equal in everything but the seed, and known by a digest that the store keeps."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from vrcli.db.configuration import configuration_of, flat_settings
from vrcli.db.store import Store

ASSETS = Path(__file__).parent / "assets"
SPEC: dict[str, Any] = {
    "task": "cnn",
    "preset": "quick",
    "dataset": "digits",
    "dataset_fingerprint": "d1",
    "task_settings": {"dataset": "/data/digits", "width": 16},
    "optimizer": "sgd",
    "optimizer_settings": {"lr": 0.1, "betas": [0.9, 0.999]},
    "training": {"epochs": 3},
    "seed": 0,
    "threads": 1,
    "versions": {"torch": "2.11.0"},
}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"seed": 5}, True),
        ({"seed": None}, True),
        ({"task_settings": {"dataset": "/elsewhere/digits", "width": 16}}, True),
        ({"dataset_fingerprint": "d2"}, False),
        ({"dataset": "mnist"}, False),
        ({"task": "diffusion"}, False),
        ({"preset": "paper"}, False),
        ({"optimizer": "adamw"}, False),
        ({"task_settings": {"dataset": "/data/digits", "width": 16, "seed": 3}}, False),
        ({"optimizer_settings": {"lr": 0.2, "betas": [0.9, 0.999]}}, False),
        ({"threads": 2}, False),
        ({"versions": {"torch": "2.12.0"}}, False),
        ({"code": "ab12"}, False),
    ],
)
def test_a_configuration_is_everything_but_the_seed(change: dict[str, Any], same: bool) -> None:
    assert (configuration_of({**SPEC, **change}) == configuration_of(SPEC)) is same
    assert len(configuration_of(SPEC)) == 16


def test_without_known_content_the_path_of_the_data_counts() -> None:
    unknown = {**SPEC, "dataset_fingerprint": ""}
    assert configuration_of(unknown) != configuration_of({**unknown, "task_settings": {"dataset": "x", "width": 16}})


def test_the_digest_does_not_depend_on_order_or_on_having_been_stored() -> None:
    turned = dict(reversed(SPEC.items())) | {"optimizer_settings": {"betas": (0.9, 0.999), "lr": 0.1}}
    assert configuration_of(turned) == configuration_of(json.loads(json.dumps(SPEC))) == configuration_of(SPEC)


def test_a_run_is_stored_with_its_configuration_and_its_settings(store: Store) -> None:
    run = store.runs.begin(SPEC, spec_id="s", provenance={})
    assert store.runs.get(run.id).configuration == configuration_of(SPEC)
    assert run.settings == flat_settings(SPEC)
    assert run.settings["betas"] == [0.9, 0.999]


@pytest.mark.parametrize("asset", ["schema_0001.db", "schema_0002.db"])
def test_old_runs_form_the_groups_that_they_formed_before(asset: str, tmp_path: Path) -> None:
    """Before, reports compared the columns and the text of all settings; the digest must neither split nor merge."""
    path = tmp_path / "vr.db"
    path.write_bytes((ASSETS / asset).read_bytes())
    groups: dict[Any, set[int]] = defaultdict(set)
    with closing(sqlite3.connect(path)) as database:
        columns = "id, spec, task, dataset, dataset_fingerprint, preset, optimizer"
        for id, spec, *own in database.execute(f"SELECT {columns} FROM runs"):
            groups[*own, json.dumps(flat_settings(json.loads(spec)), sort_keys=True)].add(id)
    Store.upgrade(path)
    found: dict[str, set[int]] = defaultdict(set)
    with Store.open(path, mode="read") as store:
        for run in store.runs.select():
            found[run.configuration].add(run.id)
            assert run.configuration == configuration_of(run.spec)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, groups.values()))
