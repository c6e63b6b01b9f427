"""Which stored runs a part of a study takes for its own, and what a plan says of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vrcli
from vrcli.report.study.experiment import _own_deviations
from vrcli.studies import plan_study, read_study

pytestmark = pytest.mark.usefixtures("valley", "inline")
PART = """
[parts.{name}]
task = "{task}"
preset = "quick"
optimizers = {{ New = "vradam", Old = "sgd" }}
epochs = 2
seeds = 2
settings = {{ {settings} }}
{more}
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a study of parts with these settings."""
    monkeypatch.chdir(tmp_path)

    def write(parts: dict[str, str], task: str = "valley:Valley", more: str = "") -> Path:
        path = tmp_path / "own.toml"
        text = "".join(PART.format(name=name, task=task, settings=own, more=more) for name, own in parts.items())
        path.write_text(f'title = "parts"\n{text}')
        return path

    return write


def done(path: Path) -> dict[str, int]:
    return {name: found.done for name, found in read_study(path).result.found.items()}


def test_a_batch_of_all_samples_is_no_smaller_one(written: Any) -> None:
    path = written({"whole": "batch_size = 32", "half": "batch_size = 16", "more": "batch_size = 500"})
    vrcli.study(path, only="whole", threads=1)
    assert done(path) == {"whole": 4, "half": 0, "more": 4}  # there are 32 samples
    vrcli.study(path, only="half", threads=1)
    assert done(path) == {"whole": 4, "half": 4, "more": 4}


def test_parts_that_differ_in_their_data_only_have_runs_of_their_own(written: Any, tmp_path: Path) -> None:
    for name, value in {"one": "1.0", "two": "2.0"}.items():
        (tmp_path / f"{name}.txt").write_text(value)
    path = written({name: f'dataset = "{name}.txt"' for name in ("one", "two")}, "filed:Filed")
    vrcli.study(path, only="one", threads=1)
    vrcli.study(path, only="two", threads=1)
    found = read_study(path).result.found
    used = {part: {run.spec["task_settings"]["dataset"] for own in one.runs.values() for run in own}
            for part, one in found.items()}  # fmt: skip
    assert used == {"one": {"one.txt"}, "two": {"two.txt"}}
    assert {part: (one.done, one.others) for part, one in found.items()} == {"one": (4, 0), "two": (4, 0)}


def test_a_part_of_the_data_that_was_asked_for_is_no_deviation(written: Any) -> None:
    path = written({"one": "subset = 0.5"})
    vrcli.study(path, threads=1)
    found = read_study(path).result.found["one"]
    assert {run.dataset for own in found.runs.values() for run in own} == {"valley-subset-0.5"}
    assert list(_own_deviations(found)) == []


def test_data_that_were_moved_are_the_same(written: Any, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("1.0")
    path = written({"one": 'dataset = "one.txt"'}, "filed:Filed")
    vrcli.study(path, threads=1)
    (tmp_path / "one.txt").rename(tmp_path / "moved.txt")
    moved = written({"one": 'dataset = "moved.txt"'}, "filed:Filed")
    assert done(moved) == {"one": 4}
    moved.write_text(moved.read_text().replace("seeds = 2", "seeds = 3"))
    vrcli.study(moved, threads=1)  # trains the third seed alone, on the file where it is now
    assert done(moved) == {"one": 6}


def test_batches_of_a_stream_or_of_a_run_cut_short_are_never_all_of_it(written: Any) -> None:
    """Of these each epoch is a step, too."""
    settings = 'dataset = "flow", steps_per_epoch = 1, batch_size = '
    stream = written({"six": f"{settings}6", "twelve": f"{settings}12"}, "streamed:Streamed")
    vrcli.study(stream, only="six", threads=1)
    assert done(stream) == {"six": 4, "twelve": 0}
    cut = written({"less": "batch_size = 8", "more": "batch_size = 16"})
    cut.write_text(cut.read_text().replace("epochs = 2", 'until = "steps:1"'))
    vrcli.study(cut, only="less", threads=1)
    assert done(cut) == {"less": 4, "more": 0}


SLOW = """
import time
from vrcli.engine.probes.base import Probe

class Slow(Probe):
    name = "slow"
    summary = "sleeps"

    def measure(self, view):
        time.sleep(0.05)
        return {"value": 1.0}
"""


def test_a_plan_counts_the_time_of_its_probes(written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    probed = written({"one": "batch_size = 8"}, more='probes = { "slow:Slow" = {} }\nprobe_every = "1"\n')
    measurements = 2 * 2 * 2 * 4  # optimizers, seeds, epochs, steps
    assert 0.05 * measurements <= plan_study(probed, threads=1, jobs=1).left_s
    probed.write_text(f"{probed.read_text()}{PART.format(name='two', task='valley:Valley', settings='', more='')}")
    one, two = plan_study(probed, threads=1, jobs=1).result.parts
    assert two.left_s < 0.05 * measurements <= one.left_s
