"""What the functions of the API have in common: a command in the place of a task, and whoever watches."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from vrcli.errors import UsageError

if TYPE_CHECKING:
    from vrcli.execute.place import Place
    from vrcli.study.define import SweepRequest
    from vrcli.study.events import Event


F = TypeVar("F", bound=Callable[..., Any])


def with_file(function: F) -> F:
    """A function whose configuration file may say what its caller does not."""

    @functools.wraps(function)
    def called(task: Any = None, **words: Any) -> Any:
        return function(**completed(function.__name__, task, words))

    return cast("F", called)


def completed(command: str, task: Any, words: Mapping[str, Any]) -> dict[str, Any]:
    """What was given by keyword, and what a configuration file among it says; nobody else loads a command line."""
    given = {name: value for name, value in {"task": task, **words}.items() if value is not None}
    if isinstance(given.get("config", {}), Mapping):
        return given
    from vrcli.cli import config_file

    return config_file.completed(command, given)


def commanded(task: Any, command: str | None, metric: str | None, opt: Any) -> tuple[Any, Any]:
    """Task and optimizers; of a command the task by which it is found, called `task` where that is a name.

    Raises:
        UsageError: the command cannot be one.
    """
    from vrcli.study.asked import listed

    if command is None:
        if metric is not None:
            raise UsageError("--metric needs --command; a task has its own objective")
        return task, opt
    from vrcli.record.command import CHOSEN, names_in, optimizers_of, reference
    from vrcli.settings import RESERVED

    for name in names_in(command):
        if name in RESERVED and name not in CHOSEN:
            raise UsageError(f"--command: {{{name}}} is what --{name.replace('_', '-')} says; give it another name")
    if task is not None and (not isinstance(task, str) or ":" in task):
        raise UsageError("--command takes a plain name before it, not a task class")
    return reference(command, metric, task), optimizers_of(command, listed(opt))


def sweep_request(*, task: Any, opt: Any, settings: Mapping[str, Any], **words: Any) -> tuple[SweepRequest, Place]:
    """What a sweep is asked, and where it runs."""
    from vrcli.execute.place import Place
    from vrcli.probing import asked as asked_of_probes
    from vrcli.study.asked import complete, listed
    from vrcli.study.define import tuning_of

    probing, words["config"], settings = asked_of_probes(
        words.pop("probe"), words.pop("probe_every"), words["config"], settings
    )
    shared = {name: words.pop(name) for name in ("preset", "device", "threads", "config", "seed", "seeds")}
    asked = complete(task, listed(opt), **shared, flags=settings)
    tune, where = words.pop("malloc_tuning"), ("db", "data_dir", "jobs", "checkpoint_every", "checkpoint_dir")
    about = {name: words.pop(name) for name in where}
    return tuning_of(asked, **words), Place.of(threads=asked.threads, tune=tune, probing=probing, **about)


def follow(
    study: Callable[[Callable[[], bool]], Iterator[Event]],
    watch: Callable[[Any], object] | None,
    what: Literal["run", "sweep", "compare", "study"],
) -> Any:
    """Carry out a study; without a watcher a person sees the progress, on stderr, where there is one."""
    from vrcli.study.follow import follow as carry_out

    if watch is not None or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        return carry_out(study, watch or (lambda event: None))
    from vrcli.cli.watching import display_of
    from vrcli.cli.watching import watch as shown

    return shown(study, display_of(what))
