"""Carrying out a study while somebody watches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, cast

from vrcli.execute.stopping import stop_requests
from vrcli.study.events import Event, Finished


def follow(study: Callable[[Callable[[], bool]], Iterator[Event]], watch: Callable[[Any], object]) -> Any:
    """Carry out a study; the first Ctrl-C ends it in order.

    Args:
        study: makes the events; it is given what says whether to stop.
        watch: gets every event. Where it raises, the study ends as if it were interrupted.

    Returns:
        The result.
    """
    result = None
    with stop_requests() as should_stop, closing(cast("Generator[Event]", study(should_stop))) as events:
        for event in events:
            watch(event)
            if isinstance(event, Finished):
                result = event.result
    return result
