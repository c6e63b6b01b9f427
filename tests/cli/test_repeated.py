"""A finished sweep or comparison that is asked for again answers from the store: no data, no workers."""

from __future__ import annotations

import json

import pytest

from vrcli.errors import VrError

pytestmark = pytest.mark.usefixtures("valley", "inline")
FILED = ("filed:Filed", "--threads", "1", "--device", "cpu", "--dataset", "data.txt")
STUDIES = {
    "sweep": ("sweep", *FILED, "--trials", 3, "--opt", "adamw", "--opt", "sgd", "--search", "random",
              "--confirm-seeds", 2),
    "compare": ("compare", *FILED, "--opt", "adamw", "--opt", "sgd", "--seeds", 2, "--target", 3),
    "tuned compare": ("compare", *FILED, "--opt", "adamw", "--opt", "sgd", "--seeds", 2, "--trials", 2, "--search",
                      "random", "--searches", 3),
}  # fmt: skip


@pytest.fixture
def no_workers(monkeypatch):
    """From now on a job that is submitted is an error."""
    from vrcli.execute.place import Place

    class Refusing:
        def submit(self, key, payload):
            raise VrError("a job was submitted")

        def free(self):
            return 1

        def close(self, **kwargs):
            return []

    return lambda: monkeypatch.setattr(Place, "executor", lambda self: Refusing())


@pytest.mark.parametrize("name", STUDIES)
def test_a_finished_study_starts_nothing_until_its_data_change(vr, no_workers, tmp_path, name):
    file, words = tmp_path / "data.txt", STUDIES[name]
    file.write_text("2.0")
    first = vr(*words)
    assert first.code == 0, first.err
    told = json.loads(vr(*words, "--format", "json").out)
    no_workers()
    again = vr(*words)
    assert (again.code, again.out) == (0, first.out)
    assert json.loads(vr(*words, "--format", "json").out) == told
    file.write_text("-3.25")
    assert vr(*words).err.endswith("a job was submitted\n")


def test_what_is_left_to_do_is_done(vr, no_workers, tmp_path):
    (tmp_path / "data.txt").write_text("2.0")
    words = STUDIES["sweep"]
    assert vr(*words).code == 0
    no_workers()
    assert vr(*words[:-2]).code == 0
    for more in (("--confirm-seeds", 3), ("--trials", 4)):
        assert vr(*words, *more).err.endswith("a job was submitted\n")
