"""MLflow: a tracking database in the format that MLflow's own programs read, one experiment per task.

It is MLflow's SQLite backend: its older folders of text files are no longer opened by its releases. NaN survives;
MLflow itself stores infinities as the largest numbers there are, 1.8e308 and -1.8e308.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from vrcli.db.records import Curve, RunRecord
from vrcli.output import JOURNALS, Target
from vrcli.results.export.selection import Clock, Selection, Written, files_left, mark, missing_library
from vrcli.results.flat import plain

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
#: What MLflow takes in one call.
_MOST_METRICS, _MOST_PARAMS = 1000, 100
_STATUS = {"completed": "FINISHED", "running": "RUNNING", "interrupted": "KILLED"}


def paths(path: Path) -> tuple[Path, ...]:
    """All that `write` makes."""
    return (path,)


def owns(path: Path) -> bool:
    """Whether nothing is in a folder but what an export has written there, or MLflow beside its database since."""
    return files_left(path) <= {DATABASE + ending for ending in JOURNALS}


def write(runs: Selection, to: Target) -> Written:
    """Write the folder.

    Raises:
        UsageError: mlflow is not installed.
    """
    client_class, path = _library(), to.path
    points = 0
    with to.part() as part:
        part.mkdir()
        client = client_class(tracking_uri=f"sqlite:///{part.absolute() / DATABASE}")
        experiments: dict[str, str] = {}
        for record, curves, clock in runs.timed():
            if record.task not in experiments:
                place = (path.absolute() / ARTIFACTS).as_uri()
                experiments[record.task] = client.create_experiment(record.task, artifact_location=place)
            run = _begin(client, experiments[record.task], record)
            _add_numbers(client, run.info.run_id, record, curves, clock)
            folder = part / Path(unquote(urlparse(run.info.artifact_uri).path)).relative_to(path.absolute())
            _add_files(runs, record, folder)
            points += sum(map(len, curves.values()))
        mark(part)
    return Written(
        paths(path), points, lines=(f"open it with: mlflow ui --backend-store-uri sqlite:///{path / DATABASE}",)
    )


def _library() -> Any:
    """MLflow's client; what it would print or send to its makers is switched off."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient

        import_module("mlflow.store.tracking.sqlalchemy_store")  # which not every build of mlflow has
    except ImportError:
        raise missing_library("mlflow") from None
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient


def _begin(client: Any, experiment: str, record: RunRecord) -> Any:
    """MLflow's run for a run, with what is known of it before its curves."""
    from mlflow.entities import Param

    tags = {
        "mlflow.runName": f"{record.optimizer} seed {record.seed} · {record.name}",
        "mlflow.source.name": "vr", "mlflow.user": record.host, "vr.run": str(record.id), "vr.status": record.status,
        "vr.uuid": record.uuid, "vr.spec_id": record.spec_id, "vr.tag": record.tag, "vr.group": record.group,
        "vr.error": record.error, "vr.dataset_fingerprint": record.dataset_fingerprint,
        "mlflow.source.git.commit": (record.provenance.get("git") or {}).get("commit"),
    }  # fmt: skip
    known = {name: text for name, text in tags.items() if text is not None}
    run = client.create_run(experiment, start_time=_milliseconds(record.created_at.timestamp()), tags=known)
    own = {"task": record.task, "preset": record.preset, "dataset": record.dataset, "optimizer": record.optimizer}
    values = {**own, "seed": record.seed, **record.settings}
    params = (Param(_key(name), str(plain(value))) for name, value in values.items() if value is not None)
    for some in _blocks(params, _MOST_PARAMS):
        client.log_batch(run.info.run_id, params=some)
    return run


def _add_numbers(client: Any, run_id: str, record: RunRecord, curves: Mapping[str, Curve], clock: Clock) -> None:
    """Curves under their names, results as result/NAME, then the end of the run."""
    from mlflow.entities import Metric

    ended = _milliseconds((record.finished_at or record.heartbeat_at).timestamp())

    def numbers() -> Iterator[Any]:
        for name, curve in curves.items():
            for step, value in zip(curve.steps, curve.values, strict=True):
                yield Metric(_key(name), value, _milliseconds(clock.at(step)), step)
        for name, value in record.results.items():
            yield Metric(f"result/{_key(name)}", value, ended, 0)

    for some in _blocks(numbers(), _MOST_METRICS):
        client.log_batch(run_id, metrics=some)
    if record.status != "running":
        client.set_terminated(run_id, _STATUS.get(record.status, "FAILED"), end_time=ended)


def _add_files(runs: Selection, record: RunRecord, folder: Path) -> None:
    """The run's pictures and texts, where MLflow looks for them."""
    for artifact in runs.store.artifacts.select(record.id):
        folder.mkdir(parents=True, exist_ok=True)
        name = Path(artifact.name)
        at = "" if artifact.step is None else f"-step{artifact.step}"
        data = runs.store.artifacts.read(record.id, artifact.name, step=artifact.step)
        (folder / f"{name.stem}{at}{name.suffix}").write_bytes(data)


def _blocks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while some := list(islice(items, size)):
        yield some


def _key(name: str) -> str:
    """A name of letters that MLflow accepts."""
    return "".join(letter if letter.isalnum() or letter in "_-./ " else "_" for letter in name)


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
