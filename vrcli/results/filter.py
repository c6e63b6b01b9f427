"""Which stored runs are asked for: what all commands and frames select them by."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrcli.errors import UsageError, nearest

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store


@dataclass(frozen=True)
class Filter:
    """What was asked for.

    Args:
        where: texts of conditions, all of which must hold.
        since: as `where.since` reads it.
        status: one of RUN_STATUSES; that no run has it is not a fault.
        registered: names of "tasks" or "optimizers" that could have runs; beside others that have some, one that has
            none yet is not a fault.
    """

    tasks: Sequence[str] = ()
    opts: Sequence[str] = ()
    preset: str | None = None
    tag: str | None = None
    group: str | None = None
    sweeps: Sequence[str] = ()
    where: Sequence[str] = ()
    since: str | None = None
    status: str | None = None
    registered: Callable[[str], Iterable[str]] = lambda what: ()

    def select(
        self, store: Store, *, results: Iterable[str] | None = None, limit: int | None = None
    ) -> list[RunRecord]:
        """The runs, the newest first; none where the database has none at all.

        Args:
            results: names of those to read, None for all; all are read where a condition may name one.
            limit: at most so many.

        Raises:
            UsageError: a value that no run has, or a combination that no run matches.
        """
        from vrcli.db.records import RUN_STATUSES
        from vrcli.results import where as conditions

        if self.status is not None and self.status not in RUN_STATUSES:
            hint = nearest(self.status, RUN_STATUSES) or f"; those are {', '.join(RUN_STATUSES)}"
            raise UsageError(f"--status {self.status} is not a status of a run{hint}")
        asked = [condition for text in self.where for condition in conditions.parse(text)]
        begin = conditions.since(self.since) if self.since is not None else None
        for ref in self.sweeps:
            store.sweeps.get(ref)
        found = store.runs.select(
            task=self.tasks or None,
            optimizer=self.opts or None,
            preset=self.preset,
            tag=self.tag,
            group=self.group,
            sweep=self.sweeps or None,
            status=self.status,
            since=begin,
            results=None if asked else results,
            limit=None if asked else limit,
        )
        kept = conditions.keep(found, asked)[:limit]
        if kept and len(self.tasks) < 2 and len(self.opts) < 2:
            return kept
        everything = store.runs.select(results=())
        if everything:
            self._check(everything, kept)
        return kept

    def _check(self, everything: Sequence[RunRecord], kept: Sequence[RunRecord]) -> None:
        """Refuse what nothing matches, naming the option that is to blame where one alone is."""
        self._check_values("task", self.tasks, {run.task for run in everything}, "tasks", bool(kept))
        self._check_values("--opt", self.opts, {run.optimizer for run in everything}, "optimizers", bool(kept))
        for flag, value, name in (
            ("--preset", self.preset, "preset"),
            ("--tag", self.tag, "tag"),
            ("--group", self.group, "group"),
        ):
            if value is not None:
                self._check_values(flag, [value], {getattr(run, name) for run in everything} - {None})
        if not kept and self.status is None:  # what is running now may well be nothing
            raise UsageError(f"none of the {len(everything)} stored runs matches {self.words()}")

    def _check_values(
        self, flag: str, values: Sequence[str], stored: set[str], what: str = "", others: bool = False
    ) -> None:
        for value in values:
            if value in stored:
                continue
            if others and value in self.registered(what):
                self.say(f"no runs of {value} yet")
                continue
            hint = nearest(value, stored) or (f"; stored: {', '.join(sorted(stored))}" if stored else "")
            raise UsageError(f"{flag} {value}: no stored run has it{hint}")

    def say(self, text: str) -> None:
        """Say what is not a fault, but may surprise."""
        warnings.warn(text, stacklevel=7)  # whoever called Frames.runs

    def words(self) -> str:
        """What was asked for, as options."""
        words = list(self.tasks) + [f"--opt {name}" for name in self.opts]
        words += [f"--sweep {ref}" for ref in self.sweeps] + [f"--where {text!r}" for text in self.where]
        named = {"preset": self.preset, "tag": self.tag, "group": self.group, "since": self.since}
        named["status"] = self.status
        return " ".join(words + [f"--{name} {value}" for name, value in named.items() if value is not None])
