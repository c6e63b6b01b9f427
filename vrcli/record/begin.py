"""`vrcli.track`: the beginning of a run that a script trains with a loop of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.db.location import Location
from vrcli.direction import Direction
from vrcli.errors import UsageError
from vrcli.record.described import parameters_of, spec_of
from vrcli.record.tracked import Measured, Tracked
from vrcli.record.usual import VARIABLE

if TYPE_CHECKING:
    import torch


def track(
    task: str,
    *,
    dataset: str = "",
    optimizer: torch.optim.Optimizer | str | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    optimizer_settings: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Direction] | None = None,
    patience: int | None = None,
    tag: str | None = None,
    group: str | None = None,
    db: str | os.PathLike[str] | Location | None = None,
    quiet: bool = False,
) -> Tracked:
    """Record a run that your own script trains.

        with vrcli.track("my-gpt", optimizer=optimizer, seed=seed, settings=vars(args)) as run:
            for step in range(1, 1001):
                ...
                run.log(step, train_loss=loss)
                if step % 100 == 0:
                    run.evaluate(step, val_loss=measure(model))
            run.test(loss=measure_test(model))

    The run is *completed* at the end of the block, *failed* after an exception, *interrupted* after Ctrl-C, *diverged*
    where the training loss or the objective was not finite. Under torchrun rank 0 records and the others do nothing.
    Runs that differ in nothing but the seed repeat each other; an edit of the script begins another configuration.
    In a command of `vr` (`--command`) the values go to the run that `vr` began, whatever is said here.

    Args:
        task: what is trained; runs of one task stand together in tables.
        dataset: what it is trained on.
        optimizer: its name and hyperparameters are read off it; or a name.
        seed: what tells repeated runs apart; by default the setting of that name.
        settings: everything else that decides the curve: `vars(args)`.
        optimizer_settings: hyperparameters, where `optimizer` is a name or hides them.
        metrics: what is measured and which way is better, the objective first: `{"reward": "max"}`. By default what
            `run.evaluate` gets, if everybody knows which way is better: loss, accuracy, perplexity and so on.
        patience: `run.should_stop()` says so after this many evaluations without a better one.
        tag: a word to find the runs by.
        group: what the runs of one experiment share.
        db: a database file, an SQLAlchemy URL or a `Location`; VR_DB or vr.db by default.
        quiet: leave out the line on stderr that names the run at its end.

    Raises:
        UsageError: a value is not accepted; nothing was recorded.
    """
    for name, direction in (metrics or {}).items():
        if direction not in ("min", "max"):
            raise UsageError(f"metrics[{name!r}] must be min or max, got {direction!r}")
    if patience is not None and patience < 1:
        raise UsageError(f"patience must be >= 1, got {patience}")
    spec = spec_of(task, dataset, optimizer, settings or {}, optimizer_settings or {}, seed)
    parameters = parameters_of(optimizer)
    declared = [Measured(name.removeprefix("val_"), direction) for name, direction in (metrics or {}).items()]
    words: dict[str, Any] = {
        "spec": spec, "metrics": declared, "location": Location.given(db), "tag": tag, "group": group,
        "patience": patience, "quiet": _rank() > 0, "device": parameters[0].device if parameters else None,
        "parameters": sum(p.numel() for p in parameters) if parameters else None,
        "announced": not quiet,
    }  # fmt: skip
    if (folder := os.environ.get(VARIABLE)) is not None:
        from vrcli.record.piped import Piped

        return Piped(Path(folder), spec["seed"], **words)
    return Tracked(**words)


def _rank() -> int:
    """Of this process among those of torchrun; 0 where there is one process."""
    text = os.environ.get("RANK", "")
    return int(text) if text.isdecimal() else 0
