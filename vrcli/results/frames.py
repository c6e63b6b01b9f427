"""Stored runs as pandas frames, for notebooks.

    import vrcli

    with vrcli.load("vr.db") as db:
        runs = db.runs(task="cnn")
        curves = db.curves(runs, "val_loss")
    curves.groupby(["optimizer", "step"])["value"].agg(["mean", "std", "count"])

The database is only read, also while runs are being written to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeAlias

import numpy as np
import pandas as pd

from vrcli.db.location import Location
from vrcli.db.records import Curve, RunRecord
from vrcli.db.store import Store
from vrcli.errors import UsageError, nearest, no_curve
from vrcli.results.filter import Filter
from vrcli.results.flat import plain, rows

Names: TypeAlias = str | Iterable[str] | None
#: A frame of `runs`, numbers or names of runs, or one of them.
RunRefs: TypeAlias = "pd.DataFrame | int | str | Iterable[int | str] | None"

_WHOLE = ("id", "seed", "sweep_id", "trial_id")
_TIMES = ("created_at", "updated_at", "started_at", "finished_at")


class Frames:
    """A database opened for reading, as pandas frames. Close it, or use it in a `with` block.

    Args:
        path: an SQLite file, an SQLAlchemy URL, or a `Location`.
        registered: see `Filter`.

    Raises:
        StoreError: there is no such database, or it cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Location = "vr.db",
        registered: Callable[[str], Iterable[str]] = lambda what: (),
    ) -> None:
        self.store, self._registered = Store.open(path, mode="read"), registered

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<vr database {self.store.label}>"

    def close(self) -> None:
        """Give the database back; frames already made stay."""
        self.store.close()

    def runs(
        self,
        *,
        task: Names = None,
        opt: Names = None,
        preset: str | None = None,
        tag: str | None = None,
        group: str | None = None,
        sweep: int | str | Iterable[int | str] | None = None,
        where: Names = None,
        since: str | None = None,
        status: Names = None,
    ) -> pd.DataFrame:
        """One row per run, the newest first.

        Args:
            sweep: number or name of a sweep, or several.
            where: conditions as `vr report --where` takes them: "dataset=digits lr>1e-3".
            since: a date, or how long ago: "2026-11-20", "12h", "7d".
            status: completed, diverged, failed, interrupted or running.

        Returns:
            Columns, in this order:
            fields: id (Int64), name, task, dataset, preset, optimizer, seed (Int64), status, error, tag, group,
                sweep_id and trial_id (Int64), created_at and finished_at (datetime64, UTC), host,
                dataset_fingerprint, spec_id, uuid;
            settings by their names: lr, beta3, batch_size, epochs, ...; those of other optimizers are missing, lists
                are text ("0.9,0.999");
            results (float64): best_val_loss, best_epoch, test_loss, final_val_loss, wall_s, ...; NaN where there is
                none. One that is called like a setting is `result.NAME`: `epochs` was asked for, `result.epochs` done.

        Raises:
            UsageError: a value that no run has; the nearest is named.
        """
        chosen = Filter(
            tasks=_many(task),
            opts=_many(opt),
            preset=preset,
            tag=tag,
            group=group,
            sweeps=[str(ref) for ref in _many(sweep)],
            where=_many(where),
            since=since,
            registered=self._registered,
        )
        return runs_frame(self._records(chosen, _many(status)))

    def curves(self, runs: RunRefs = None, metrics: Names = None) -> pd.DataFrame:
        """Curves in long format: one row per run, metric and step.

        Args:
            runs: a frame of `runs` (or a part of it), numbers or names of runs, or one of them; all runs by default.
            metrics: names of curves, all by default: train_loss, lr_effective, ... per step; val_loss, wall_s, ...
                per epoch, at the epoch's last step.

        Returns:
            Columns run (int64), metric (category), step (int64), value (float64; NaN and infinities as recorded),
            optimizer (category), seed (Int64), in the order of runs, then metrics, then steps.

        Raises:
            StoreError: there is no such run.
            UsageError: none of the runs has a curve of that name.
        """
        records = self._referenced(runs)
        wanted = _many(metrics)
        found = self.store.curves.read([record.id for record in records], wanted or None)
        if records:
            self._check_metrics(records, wanted, {name for _, name in found})
        return curves_frame(records, list(found.values()))

    def sweeps(self) -> pd.DataFrame:
        """One row per search of a sweep, the newest first; the searches of one sweep share its id and name.

        Returns:
            Columns id (int64), name, status, task, dataset, preset, optimizer, trials (int64, the budget), created_at
            and updated_at (datetime64, UTC), search_id (int64), uuid (of the search).
        """
        names = ["id", "name", "status", "task", "dataset", "preset", "optimizer", "trials"]
        names += ["created_at", "updated_at", "search_id", "uuid"]
        made = [
            {name: getattr(search, name, None) for name in names} | {"id": search.sweep_id, "search_id": search.id}
            for search in self.store.searches.select()
        ]
        return _typed(pd.DataFrame(made, columns=names), ())

    def searches(self, sweep: int | str | Iterable[int | str] | None = None) -> pd.DataFrame:
        """One row per search of one, several or all sweeps, the newest first, as the view v_searches has them.

        Args:
            sweep: number or name of a sweep, or several.

        Returns:
            Columns search_id, sweep_id (int64), sweep, task, preset, dataset, optimizer, search_seed (Int64), status,
            trials and ended (int64: the budget, and how many have ended); best_trial (Int64, counted from 0) and
            best_value (float64) of the search itself; n and diverged (int64: runs on fresh seeds of its newest
            settings), mean_test_loss and mean_best_value (float64, of test_loss, whatever the objective, and of the
            objective's best value; over those that did not diverge), configuration; then the best trial's settings by
            name: lr, beta3, ...
        """
        refs = {self.store.sweeps.get(ref).id for ref in _many(sweep)}
        made = [row for row in self.store.searches.overview() if sweep is None or row["sweep_id"] in refs]
        params = [json.loads(row.pop("best_params") or "{}") for row in made]
        names = ["search_id", "sweep_id", "sweep", "task", "preset", "dataset", "optimizer", "search_seed", "status"]
        names += ["trials", "ended", "best_trial", "best_value", "n", "diverged", "mean_test_loss", "mean_best_value"]
        names += ["configuration"]
        rows = [
            {"search_id": row.pop("id"), **row} | {f"param.{k}" if k in names else k: plain(v) for k, v in own.items()}
            for row, own in zip(made, params, strict=True)
        ]
        frame = pd.DataFrame(rows, columns=None if rows else names)
        for name in ("best_value", "mean_test_loss", "mean_best_value"):
            frame[name] = frame[name].astype("float64")
        return _typed(frame, ("search_seed", "best_trial"))

    def trials(self, sweep: int | str | Iterable[int | str] | None = None) -> pd.DataFrame:
        """One row per trial of one, several or all sweeps.

        Args:
            sweep: number or name of a sweep, or several.

        Returns:
            Columns sweep_id and search_id (int64), optimizer, number (int64, counted from 0), state, value (float64,
            the objective), epochs and attempt (Int64), run_id (Int64, its latest run), started_at and finished_at
            (datetime64, UTC), error; then what was searched, by name: lr, beta3, ...
        """
        refs = dict.fromkeys(self.store.sweeps.get(ref).id for ref in _many(sweep))
        chosen = [one for ref in refs for one in self.store.searches.select(sweep=ref)]
        if sweep is None:
            chosen = self.store.searches.select()
        names = ["sweep_id", "search_id", "optimizer", "number", "state", "value", "epochs", "attempt", "run_id"]
        names += ["started_at", "finished_at", "error"]
        made = []
        for record in chosen:
            for trial in self.store.searches.trials(record.id):
                params = {f"param.{n}" if n in names else n: plain(v) for n, v in trial.params.items()}
                own = {name: getattr(trial, name) for name in names}
                made.append({**own, **params})
        frame = pd.DataFrame(made, columns=None if made else names)
        frame["value"] = frame["value"].astype("float64")
        return _typed(frame, ("epochs", "attempt", "run_id"))

    def _records(self, chosen: Filter, statuses: list[Any]) -> list[RunRecord]:
        from vrcli.db.records import RUN_STATUSES

        for status in statuses:
            if status not in RUN_STATUSES:
                hint = nearest(status, RUN_STATUSES) or f"; those are {', '.join(RUN_STATUSES)}"
                raise UsageError(f"status {status!r} is none{hint}")
        return [record for record in chosen.select(self.store) if not statuses or record.status in statuses]

    def _referenced(self, runs: RunRefs) -> list[RunRecord]:
        if runs is None:
            return self.store.runs.select(results=())
        refs = runs["id"].tolist() if isinstance(runs, pd.DataFrame) else _many(runs)
        numbers = [ref if isinstance(ref, str) else int(ref) for ref in refs]
        if any(isinstance(ref, str) for ref in numbers):
            numbers = [self.store.runs.get(ref).id for ref in numbers]
        by_id = {record.id: record for record in self.store.runs.select(ids=[int(ref) for ref in numbers], results=())}
        return [by_id[int(ref)] if int(ref) in by_id else self.store.runs.get(ref) for ref in dict.fromkeys(numbers)]

    def _check_metrics(self, records: list[RunRecord], wanted: list[str], found: set[str]) -> None:
        missing = [name for name in wanted if name not in found]
        if not missing:
            return
        raise no_curve(missing[0], self.store.curves.metrics([record.id for record in records]), flag="")


def runs_frame(records: list[RunRecord]) -> pd.DataFrame:
    """The frame of `Frames.runs`."""
    from vrcli.results.flat import FIELDS

    frame = pd.DataFrame(rows(records), columns=None if records else list(FIELDS))
    for name in dict.fromkeys(name for record in records for name in record.results):
        column = f"result.{name}" if f"result.{name}" in frame else name
        frame[column] = frame[column].astype("float64")
    return _typed(frame, _WHOLE)


def curves_frame(records: list[RunRecord], curves: list[Curve]) -> pd.DataFrame:
    """The frame of `Frames.curves`."""
    by_id = {record.id: record for record in records}
    counts = [len(curve) for curve in curves]
    owners = [by_id[curve.run_id] for curve in curves]
    steps = [np.asarray(curve.steps) for curve in curves]
    values = [np.asarray(curve.values) for curve in curves]
    seeds = pd.array([owner.seed for owner in owners], dtype="Int64")
    return pd.DataFrame({
        "run": np.repeat(np.array([curve.run_id for curve in curves], dtype=np.int64), counts),
        "metric": pd.Categorical([curve.metric for curve in curves]).repeat(counts),
        "step": np.concatenate(steps) if steps else np.empty(0, dtype=np.int64),
        "value": np.concatenate(values) if values else np.empty(0),
        "optimizer": pd.Categorical([owner.optimizer for owner in owners]).repeat(counts),
        "seed": seeds.repeat(counts),
    })  # fmt: skip


def _typed(frame: pd.DataFrame, whole: Iterable[str]) -> pd.DataFrame:
    """Whole numbers stay whole where some are missing, and times are times where all are missing."""
    for name in whole:
        frame[name] = frame[name].astype("Int64")
    for name in _TIMES:
        if name in frame:
            frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame


def _many(value: Any) -> list[Any]:
    """One value or several as a list, None as an empty one."""
    if value is None:
        return []
    return [value] if isinstance(value, (str, int, np.integer)) else list(value)
