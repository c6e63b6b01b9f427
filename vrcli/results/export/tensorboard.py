"""TensorBoard: a folder of event files, one subfolder per run with scalars, settings and pictures.

Under HPARAMS stand the settings in which the runs differ, under TEXT all of them. TensorBoard keeps scalars as 32-bit
floats; NaN and infinities survive.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vrcli.db.records import RunRecord
from vrcli.output import Target
from vrcli.results.export.selection import Clock, Selection, Written, files_left, folder_of, mark, missing_library
from vrcli.results.flat import plain


def paths(path: Path) -> tuple[Path, ...]:
    """All that `write` makes."""
    return (path,)


def owns(path: Path) -> bool:
    """Whether nothing is in a folder but what an export has written there."""
    return not files_left(path)


def write(runs: Selection, to: Target) -> Written:
    """Write the folder.

    Raises:
        UsageError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing_library("tensorboard") from None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    points, varying = 0, _varying([_settings(record) for record in runs.records])
    with to.part() as part:
        part.mkdir()
        for record, curves, clock in runs.timed():
            with SummaryWriter(str(part / folder_of(record)), max_queue=10_000) as out:
                _add_settings(out, record, varying)
                _add_pictures(out, runs, record, clock)
                for name, curve in curves.items():
                    for step, value in zip(curve.steps, curve.values, strict=True):
                        out.add_scalar(_tag(name), value, step, walltime=clock.at(step))
                    points += len(curve)
        mark(part)
    return Written(paths(to.path), points, lines=(f"open it with: tensorboard --logdir {to.path}",))


def _tag(metric: str) -> str:
    """A metric under the heading TensorBoard gathers it by: train/..., val/..., other/..."""
    first, _, rest = metric.partition("_")
    return f"{first}/{rest}" if rest and first in ("train", "val", "test") else f"other/{metric}"


def _settings(record: RunRecord) -> dict[str, Any]:
    own = {"task": record.task, "preset": record.preset, "dataset": record.dataset, "optimizer": record.optimizer}
    values = {**own, "seed": record.seed, "status": record.status, **record.settings}
    return {name: _value(value) for name, value in values.items() if value is not None}


def _varying(settings: Sequence[Mapping[str, Any]]) -> set[str]:
    """Names of settings in which runs differ, and those that are always worth a column."""
    names = {name for own in settings for name in own}
    return {"task", "optimizer", "seed", "lr"} | {
        name for name in names if any(own.get(name) != settings[0].get(name) for own in settings)
    }


def _add_settings(out: Any, record: RunRecord, varying: set[str]) -> None:
    from torch.utils.tensorboard.summary import hparams

    settings, begin = _settings(record), record.created_at.timestamp()
    results = {f"result/{name}": value for name, value in record.results.items()}
    for summary in hparams({name: value for name, value in settings.items() if name in varying}, results):
        out.file_writer.add_summary(summary, walltime=begin)
    table = ["|setting|value|", "|---|---|", *(f"|{name}|`{value}`|" for name, value in settings.items())]
    out.add_text("settings", "\n".join(table), 0, walltime=begin)
    for tag, value in results.items():
        out.add_scalar(tag, value, 0, walltime=(record.finished_at or record.heartbeat_at).timestamp())


def _value(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else str(plain(value))


def _add_pictures(out: Any, runs: Selection, record: RunRecord, clock: Clock) -> None:
    """The run's PNG files as they are stored; one that cannot be read has no size to show it in."""
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError
    from tensorboard.compat.proto.summary_pb2 import Summary

    for artifact in runs.store.artifacts.select(record.id):
        if artifact.media_type != "image/png":
            continue
        data = runs.store.artifacts.read(record.id, artifact.name, step=artifact.step)
        try:
            with Image.open(BytesIO(data)) as picture:
                width, height = picture.size
        except UnidentifiedImageError:
            continue
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
        step = artifact.step or 0
        tag = Path(artifact.name).stem
        out.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step, clock.at(step))
