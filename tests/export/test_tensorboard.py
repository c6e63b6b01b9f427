"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from db.store import Store
from vrcli.errors import UsageError

pytest.importorskip("tensorboard")
Export = Callable[..., Path]


def _read(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def test_scalars_settings_and_pictures_survive(export: Export, store: Store) -> None:
    path = export("tensorboard")
    folders = sorted(path.iterdir())
    beginnings = ["0001-cnn-vradam-", "0002-cnn-my.module_", "0003-transformer-adamw-", "0004-cnn-sgd-"]
    assert all(folder.name.startswith(text) for folder, text in zip(folders, beginnings, strict=True))
    read = _read(folders[0])
    curve = store.curves(1)[1, "train_loss"]
    events = read.Scalars("train/loss")
    assert [event.step for event in events] == list(curve.steps)
    np.testing.assert_array_equal([event.value for event in events], np.asarray(curve.values, dtype=np.float32))
    start = store.run(1).created_at.timestamp()
    # Two seconds for the first four steps, one for the other four.
    expected = [0.5, 1.0, 1.5, 2.0, 2.25, 2.5, 2.75, 3.0]
    np.testing.assert_allclose([event.wall_time - start for event in events], expected, atol=1e-5)
    assert read.Scalars("result/best_val_loss")[0].value == 1.0
    image = read.Images("samples")[0]
    assert (image.width, image.height, image.step) == (7, 5, 8)


def test_settings_are_hyperparameters(export: Export) -> None:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    read = _read(sorted(export("tensorboard").iterdir())[0])
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
    with pytest.raises(UsageError, match="--force replaces it"):
        export("tensorboard")
    export("tensorboard", ids=[1], force=True)
    assert len(list(path.iterdir())) == 1
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds other files"):
        export("tensorboard", force=True)
    assert (path / "thesis.tex").exists()


def test_a_missing_library_is_named(export: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'vrcli\[tensorboard\]'"):
        export("tensorboard")
    assert not (tmp_path / "out").exists()
