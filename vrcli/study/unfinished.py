"""What an earlier run of the same command left: a run that was interrupted, and those of other seeds that ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vrcli.execute.place import Place
from vrcli.execute.run import check
from vrcli.results.groups import FINISHED

if TYPE_CHECKING:
    from vrcli.search.record import Store
    from vrcli.settings import Resolved

#: What is known of a stored run alone.
_OF_DATA = ("dataset", "dataset_fingerprint")


@dataclass(frozen=True)
class Unfinished:
    """What is there of a command with several seeds.

    Args:
        group: of its runs; None where it had one seed, or none of it is there.
        ended: its runs that have ended, by seed.
    """

    group: str | None = None
    ended: Mapping[int, Any] = field(default_factory=dict)


def unfinished(store: Store, resolved: Sequence[Resolved], tag: str | None, task: Any, place: Place) -> Unfinished:
    """The newest interrupted command that asked for one of these runs, on the data as they are."""
    asked = {one.request.seed: _comparable(one.request.model_dump(mode="json")) for one in resolved}
    first = resolved[0].request

    def same(run: Any) -> bool:
        own = (run.search_id, run.tag) == (None, tag) and run.seed in asked
        return own and place.probing.done_in(run.provenance) and _comparable(run.spec) == asked[run.seed]

    stored = store.runs.select(task=first.task, optimizer=first.optimizer, status="interrupted", results=())
    candidates = [run for run in stored if run.group is not None and same(run)]
    if not candidates:
        return Unfinished()
    now = check(first, task, data_dir=place.data_dir, cache=place.cache)

    def of_now(run: Any) -> bool:
        """On the data as they are, in batches as they are cut to these data."""
        batch_size = run.spec.get("training", {}).get("batch_size")
        return (run.dataset_fingerprint, batch_size) == (now.dataset_fingerprint, now.training.batch_size)

    run = next(filter(of_now, candidates), None)
    if run is None:
        return Unfinished()
    ended = [run for run in store.runs.select(group=run.group, status=FINISHED) if same(run) and of_now(run)]
    return Unfinished(run.group, {int(run.seed or 0): run for run in reversed(ended)})


def _comparable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Without what its data decide: a batch is cut to their number."""
    body = {name: value for name, value in spec.items() if name not in _OF_DATA}
    body["training"] = {name: value for name, value in body.get("training", {}).items() if name != "batch_size"}
    return body
