"""Data are known without loading them only while everything that decides them is as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vrcli.execute.known_data import known_data, prepare_known
from vrcli.settings import resolve


@pytest.fixture
def request_of(valley, tmp_path):
    """The class and the spec of a task that reads `data.txt`."""
    import filed

    file = tmp_path / "data.txt"
    file.write_text("2.0")

    def make(name="Filed", **flags):
        task = getattr(filed, name)
        return resolve(task, "adamw", flags={"dataset": str(file), **flags}).request, task

    return make


def test_what_was_loaded_is_known_afterwards(request_of):
    spec, task = request_of()
    assert known_data(spec, task) is None
    ready = prepare_known(spec, task)
    found = known_data(spec, task)
    assert found.fingerprint == ready.spec.dataset_fingerprint
    assert (found.dataset, found.samples, found.about) == ("filed", 32, "one file")
    assert known_data(spec.model_copy(update={"seed": 3, "optimizer": "sgd"}), task) == found


def test_it_is_not_known_where_file_code_or_settings_are_others(request_of, tmp_path, monkeypatch):
    spec, task = request_of()
    prepare_known(spec, task)
    assert known_data(spec.model_copy(update={"code": {**spec.code, "task": "source 0"}}), task) is None
    assert known_data(request_of(width=5)[0], task) is None
    assert known_data(request_of(split_seed=1)[0], task) is None
    assert known_data(request_of(subset=0.5)[0], task) is None
    before, file = known_data(spec, task), tmp_path / "data.txt"
    about = file.stat()
    file.write_text("3.0")  # as long as before
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert known_data(spec, task) is None
    assert prepare_known(spec, task).spec.dataset_fingerprint != before.fingerprint
    file.unlink()
    assert known_data(spec, task) is None
    monkeypatch.setattr("vrcli.engine.provenance.library_versions", lambda: {"torch": "0"})
    file.write_text("3.0")
    assert known_data(spec, task) is None


def test_a_task_that_does_not_speak_of_its_own_data_is_never_known(request_of):
    spec, task = request_of("Silent")
    prepare_known(spec, task)
    assert known_data(spec, task) is None


def test_a_file_that_changes_while_it_is_read_leaves_nothing(request_of, tmp_path, monkeypatch):
    spec, task = request_of()
    load = task.data

    def changing(self, generator):
        found = load(self, generator)
        Path(self.config.dataset).write_text("4.00")
        return found

    monkeypatch.setattr(task, "data", changing)
    prepare_known(spec, task)
    assert known_data(spec, task) is None


@pytest.mark.parametrize("name", ["cnn", "diffusion", "transformer", "gflownet"])
def test_the_tasks_that_come_with_vr_name_the_files_they_read(name):
    from vrcli.tasks.registry import load

    task = load(name)
    config = resolve(task, "adamw", preset="smoke").request.task_settings
    files = task(task.Config(**config)).files()
    assert files is not None
    assert all(file.is_file() for file in files)
    if "dataset" in config and name != "gflownet":
        assert task(task.Config(**{**config, "dataset": "/no/such/folder"})).files() is None
