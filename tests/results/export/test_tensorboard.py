"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vrcli.db.store import Store
from vrcli.errors import UsageError

pytest.importorskip("tensorboard")
Export = Callable[..., Path]


def _read(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def _folders(path: Path) -> list[Path]:
    return sorted(found for found in path.iterdir() if found.is_dir())


def test_scalars_settings_and_pictures_survive(export: Export, store: Store) -> None:
    path = export("tensorboard")
    folders = _folders(path)
    beginnings = ["0001-cnn-vradam-", "0002-cnn-my.module_", "0003-transformer-adamw-", "0004-cnn-sgd-"]
    assert all(folder.name.startswith(text) for folder, text in zip(folders, beginnings, strict=True))
    read = _read(folders[0])
    curve = store.curves.read(1)[1, "train_loss"]
    events = read.Scalars("train/loss")
    assert [event.step for event in events] == list(curve.steps)
    np.testing.assert_array_equal([event.value for event in events], np.asarray(curve.values, dtype=np.float32))
    start = store.runs.get(1).created_at.timestamp()
    # Two seconds for the first four steps, one for the other four.
    expected = [0.5, 1.0, 1.5, 2.0, 2.25, 2.5, 2.75, 3.0]
    np.testing.assert_allclose([event.wall_time - start for event in events], expected, atol=1e-5)
    assert read.Scalars("result/best_val_loss")[0].value == 1.0
    image = read.Images("samples")[0]
    assert (image.width, image.height, image.step) == (7, 5, 8)


def test_settings_are_hyperparameters(export: Export) -> None:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    read = _read(_folders(export("tensorboard"))[0])
    tag = metadata.SESSION_START_INFO_TAG
    content = read.summary_metadata[tag].plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["lr"].number_value == 0.01
    assert settings["betas"].string_value == "0.9,0.999"
    assert settings["optimizer"].string_value == "vradam"
    assert settings["seed"].number_value == 0
    assert "flip" not in settings  # the same in all runs
    assert b"|flip|`False`|" in read.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]


def test_a_folder_of_something_else_is_never_replaced(export: Export, tmp_path: Path) -> None:
    path = export("tensorboard")
    export("tensorboard", ids=[1, 2])  # as it was written
    assert len(_folders(path)) == 2
    next(path.rglob("events*")).write_bytes(b"changed since")
    with pytest.raises(UsageError, match="--force replaces it"):
        export("tensorboard")
    export("tensorboard", ids=[1], force=True)
    assert len(_folders(path)) == 1
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds other files"):
        export("tensorboard", force=True)
    assert (path / "thesis.tex").exists()


@pytest.mark.parametrize("marker", [None, "", "[]", '{"files": 3}', '{"files": []}'])
def test_event_files_of_other_programs_are_never_replaced(export: Export, tmp_path: Path, marker: str | None) -> None:
    foreign = tmp_path / "out" / "lab" / "events.out.tfevents.1700000000.lab.1.0"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"a month of training")
    if marker is not None:
        (tmp_path / "out" / ".vr-export.json").write_text(marker)
    with pytest.raises(UsageError, match="holds other files than an export to tensorboard"):
        export("tensorboard", force=True)
    assert foreign.read_bytes() == b"a month of training"


def test_times_are_those_of_the_clock_whichever_curves_are_written(export: Export, store: Store) -> None:
    start = store.runs.get(1).created_at.timestamp()
    for metrics, tags in ((["val_loss"], ["val/loss"]), (["val_loss", "wall_s"], ["other/wall_s", "val/loss"])):
        read = _read(_folders(export("tensorboard", ids=[1], metrics=metrics, force=True))[0])
        assert sorted(tag for tag in read.Tags()["scalars"] if not tag.startswith("result/")) == tags
        times = [event.wall_time - start for event in read.Scalars("val/loss")]
        np.testing.assert_allclose(times, [2.0, 3.0], atol=1e-5)


def test_a_picture_that_cannot_be_read_is_left_out(export: Export, store: Store) -> None:
    run = store.runs.begin({"task": "cnn", "optimizer": "sgd"}, spec_id="x", provenance={})
    store.artifacts.add(run.id, "broken.png", b"no picture", media_type="image/png")
    store.curves.add(run.id, {"val_loss": ([1], [2.0])})
    read = _read(_folders(export("tensorboard", ids=[run.id]))[0])
    assert read.Tags()["images"] == []
    assert read.Scalars("val/loss")[0].value == 2.0


def test_a_missing_library_is_named(export: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'vrcli\[tensorboard\]'"):
        export("tensorboard")
    assert not (tmp_path / "out").exists()
