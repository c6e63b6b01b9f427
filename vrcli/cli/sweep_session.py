"""One invocation of `vr sweep`: define, probe, find or begin the stored sweeps, run them, show what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.cli import sweep_display as display
from vrcli.cli.console import err, notice, say
from vrcli.cli.request import open_store, threads_each
from vrcli.db.location import Location
from vrcli.errors import UsageError, VrError
from vrcli.report.wording import duration

if TYPE_CHECKING:
    from vrcli.db.store import Store
    from vrcli.execute.executor import LocalExecutor
    from vrcli.execute.trial import Probe
    from vrcli.search.definition import Definition, Wish
    from vrcli.search.record import StoreLedger
    from vrcli.study.confirm import Confirmed
    from vrcli.study.tune import Sweep


@dataclass
class Session:
    """What one command was asked for.

    Args:
        wish: None to go on with a stored sweep.
        trials: of each optimizer, in all; 0 for what a stored sweep has.
        threads: of all trials together; None for what the machine has.
        new: begin beside an unfinished sweep with other settings.
        tune: keep freed memory in the workers.
        retry_failed: do the failed trials of a stored sweep again.
        advise: end with what to do next.
    """

    wish: Wish | None
    trials: int
    jobs: int
    threads: int | None
    database: Location
    data_dir: Path | None = None
    new: bool = False
    tune: bool = True
    quiet: bool = False
    confirm_seeds: int = 0
    retry_failed: bool = False
    advise: bool = True
    probes: dict[str, Probe] = field(default_factory=dict)

    # -- the two things it can do -------------------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """Show what `run` would do."""
        with closing(self.executor()) as executor:
            definitions = self.define(executor)
        stored = self.stored(definitions)
        self.show_header(definitions, always=True)
        left_s, body = 0.0, []
        for definition in definitions:
            done = stored.get(definition.optimizer, 0)
            each = self.probes[definition.optimizer].run_s * len(definition.seeds)
            left_s += max(self.trials - done, 0) * each
            body.append({
                "optimizer": definition.optimizer, "space": {n: str(a) for n, a in definition.axes.items()},
                "origin": dict(definition.origins), "trials": self.trials, "epochs": definition.epochs,
                "seeds": list(definition.seeds), "stored": done, "trial_s": each,
            })  # fmt: skip
            if not self.quiet:
                say(f"{definition.optimizer}: {done} of {self.trials} trials stored, about {duration(each)} each")
        left_s /= self.jobs
        if not self.quiet:
            say(f"about {duration(left_s)} with --jobs {self.jobs}, from a few timed steps")
        return {"sweeps": body, "left_s": left_s, "jobs": self.jobs}

    def run(self) -> dict[str, Any]:
        """Bring every optimizer's sweep to its total, and show what was found."""
        from vrcli.execute.run import stop_requests
        from vrcli.search import record as ledger

        with stop_requests() as should_stop, closing(self.executor()) as executor:
            definitions = self.define(executor)
            # The workers leave before the store does: the last to close the database folds its journal.
            with open_store(self.database) as store, closing(executor):
                self.say_superseded(store, definitions)
                books = ledger.enter(store, definitions, self.trials, new=self.new)
                return self.search(books, executor, should_stop)

    def resume(self, ref: str) -> dict[str, Any]:
        """Go on with the searches of one stored sweep under the definitions they began with."""
        from vrcli.execute.run import stop_requests
        from vrcli.search import record as ledger

        with (
            stop_requests() as should_stop,
            open_store(self.database, mode="write") as store,
            closing(self.executor()) as executor,
        ):
            books = ledger.books_of(store, ref)
            for book in books:
                self.check_code(book)
                probe = self.probe(book.definition, executor)
                found = book.definition.on(probe.dataset, probe.fingerprint)
                if changes := book.definition.differences(found):
                    raise UsageError(f"sweep {book.sweep_id} began on other data: {', '.join(changes)}")
                self.probes[book.definition.optimizer] = probe
            again = self.retry_failed
            claimed = [ledger.claim(store, book, self.trials or book.total, retry_failed=again) for book in books]
            self.trials = self.trials or max(book.total for book in books)
            return self.search(claimed, executor, should_stop)

    def search(
        self, books: Sequence[StoreLedger], executor: LocalExecutor, should_stop: Callable[[], bool]
    ) -> dict[str, Any]:
        """Run stored sweeps to their totals, and the best settings on fresh seeds."""
        from vrcli.study import tune as controller
        from vrcli.study.tune import Sweep

        sweeps = [Sweep(book.definition, book, book.total) for book in books]
        finished = False

        def stop() -> bool:
            return should_stop() or any(book.told_to_stop() for book in books)

        try:
            self.show_header([book.definition for book in books])
            for book, one in zip(books, sweeps, strict=True):
                self.show_start(book, one)
            run_s = {name: probe.run_s for name, probe in self.probes.items()}
            watcher = display.SweepDisplay(sweeps, jobs=self.jobs, run_s=run_s, quiet=self.quiet)
            with watcher:
                controller.run(
                    sweeps, executor, threads=self.threads_each, watcher=watcher, should_stop=stop
                )  # fmt: skip
            finished = True
            confirmed = self.confirm(sweeps, executor, stop) if self.confirm_seeds else {}
        finally:
            for book in books:
                book.leave("completed" if finished else "interrupted")
        return self.show_end(books, sweeps, confirmed)

    # -- its parts ----------------------------------------------------------------------------------------------------

    @cached_property
    def threads_each(self) -> int:
        """CPU threads of each trial."""
        return threads_each(self.threads, self.jobs)

    def executor(self) -> LocalExecutor:
        from vrcli.execute.executor import LocalExecutor
        from vrcli.execute.trial import Workshop

        return LocalExecutor(Workshop(self.database, self.data_dir, self.tune), self.jobs)

    def define(self, executor: LocalExecutor) -> list[Definition]:
        """The definitions, on the data as they are; a short timed run of each says that it can be carried out."""
        from vrcli.search.definition import define
        from vrcli.tasks.registry import load

        found = []
        assert self.wish is not None
        for definition in define(load(self.wish.task), self.wish):
            probe = self.probe(definition, executor)
            self.probes[definition.optimizer] = probe
            found.append(definition.on(probe.dataset, probe.fingerprint))
        return found

    def probe(self, definition: Definition, executor: LocalExecutor) -> Probe:
        from vrcli.execute.trial import ProbeJob

        executor.submit("probe", ProbeJob(definition, self.threads_each))
        while True:
            for message in executor.receive(0.5):
                if message.kind in ("refused", "edited"):
                    raise UsageError(message.body)
                if message.kind in ("failed", "lost"):
                    raise VrError(f"{definition.optimizer} cannot run here: {message.body}")
                if message.kind == "done":
                    found: Probe = message.body
                    return found

    def stored(self, definitions: Sequence[Definition]) -> dict[str, int]:
        """How many trials are stored for each optimizer; refuses what would not fit. Nothing is written."""
        from vrcli.db.store import EmptyDatabase, Store
        from vrcli.search import record as ledger

        if self.database.path is not None and not self.database.path.exists():
            return {}
        try:
            store = Store.open(self.database, mode="read")
        except EmptyDatabase:
            return {}
        with store:
            found = {d.optimizer: ledger.match(store, d, new=self.new) for d in definitions}
            self.say_superseded(store, definitions)
            return {name: ledger.count(one) for name, one in found.items() if one is not None}

    def say_superseded(self, store: Store, definitions: Sequence[Definition]) -> None:
        from vrcli.search import record as ledger

        for line in filter(None, (ledger.superseded(store, one) for one in definitions)):
            if not self.quiet:
                notice(line)

    def check_code(self, book: StoreLedger) -> None:
        """Refuse to go on with a stored sweep in other code than it began with.

        Raises:
            UsageError: what is other code now.
        """
        from vrcli.identity import changes, code_of
        from vrcli.tasks.registry import load

        began, now = book.definition.code, code_of(load(book.definition.task), book.definition.optimizer)
        if not began:
            notice(
                f"sweep {book.sweep_id} does not say which code its trials ran; those that follow may be of other code"
            )
        elif found := changes(began, now):
            raise UsageError(
                f"sweep {book.sweep_id} began with other code: {', '.join(found)}; vr sweep begins another"
            )

    def confirm(
        self, sweeps: Sequence[Sweep], executor: LocalExecutor, should_stop: Callable[[], bool]
    ) -> dict[str, dict[str, Any]]:
        from vrcli.study.confirm import confirm

        by_optimizer: dict[str, list[Confirmed]] = {}

        def ended(sweep: Sweep, one: Confirmed) -> None:
            by_optimizer.setdefault(sweep.definition.optimizer, []).append(one)
            if not self.quiet:
                what = display.loss(one.outcome.value) if one.outcome.value is not None else one.outcome.status
                say(f"{sweep.definition.optimizer}  fresh seed {one.seed}  {what}", to=err())

        confirm(
            sweeps, self.confirm_seeds, executor, lambda sweep, best: sweep.ledger.confirm_links(best.number),
            threads=self.threads_each, ended=ended, should_stop=should_stop,
        )  # fmt: skip
        return {name: _summary(ones) for name, ones in by_optimizer.items()}

    def show_advice(self, books: Sequence[StoreLedger], body: Sequence[Mapping[str, Any]]) -> None:
        """The winner's command, and that its value is flattered, unless fresh seeds were run."""
        winners = [one for one in body if one["best_val_loss"] is not None]
        if not winners:
            return
        say(f"  {min(winners, key=itemgetter('best_val_loss'))['command']}")
        if self.confirm_seeds:
            return
        if fresh := sum(book.confirmed() for book in books):
            say(f"  {fresh} runs on fresh seeds are stored: vr report shows them")
        else:
            say("  the best of many trials is flattered by its luck: --confirm-seeds 5 runs it on fresh seeds")

    # -- what is said -------------------------------------------------------------------------------------------------

    def show_header(self, definitions: Sequence[Definition], *, always: bool = False) -> None:
        if self.quiet:
            return
        about = next((p.about for p in self.probes.values()), "")
        to = None if always else err()
        say(display.header(definitions[0], self.trials, about), to=to)
        for line in display.space_lines(definitions):
            say(line, to=to)

    def show_start(self, book: StoreLedger, sweep: Sweep) -> None:
        if self.quiet:
            return
        state = f"goes on at {len(sweep.ended())}/{sweep.total}" if sweep.trials else "is new"
        say(f"sweep {book.sweep_id} · {book.name} · {sweep.definition.optimizer} {state}", to=err())

    def show_end(
        self, books: Sequence[StoreLedger], sweeps: Sequence[Sweep], confirmed: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        from vrcli.cli.grid import grid
        from vrcli.cli.sweep_command import run_command

        body: list[dict[str, Any]] = []
        for book, sweep in zip(books, sweeps, strict=True):
            best = sweep.best()
            if sweep.exhausted and not self.quiet:
                notice(f"{sweep.definition.optimizer}: {sweep.exhausted}")
            body.append({
                "id": book.sweep_id, "search": book.id, "name": book.name, "optimizer": sweep.definition.optimizer,
                "trials": len(sweep.ended()), "epochs": sweep.definition.epochs,
                "statuses": {s: sum(t.status == s for t in sweep.ended()) for s in {t.status for t in sweep.ended()}},
                "best_val_loss": best.value if best else None, "best_params": best.params if best else None,
                "command": run_command(sweep.definition, best.params) if best else None,
                "confirmed": confirmed.get(sweep.definition.optimizer),
            })  # fmt: skip
        if not self.quiet:
            rows = display.end_rows(sweeps, confirmed)
            for line in grid(list(rows[0]), rows, right=["trials", "best val loss"]):
                say(line)
            for name, text in edges(sweeps):
                notice(f"{name}: {text}")
            if self.advise:
                self.show_advice(books, body)
        return {"sweeps": body}


def edges(sweeps: Sequence[Sweep]) -> list[tuple[str, str]]:
    """The optimizers whose best settings lie at an end of what was searched, where better ones may lie beyond."""
    from vrcli.search.summary import at_edge

    return [
        (sweep.definition.optimizer, f"best {', '.join(found)} at the end of what was searched; better settings may "
         "lie beyond it (--space)")
        for sweep in sweeps if (found := at_edge(sweep))
    ]  # fmt: skip


def exit_code(body: Mapping[str, Any]) -> int:
    """0 when every sweep found settings, 1 when no trial of one completed."""
    return int(any(one["best_params"] is None for one in body["sweeps"]))


def _summary(ones: Sequence[Confirmed]) -> dict[str, Any]:
    from vrcli.stats.inference import summary

    values = [one.outcome.value for one in ones if one.outcome.status == "completed" and one.outcome.value is not None]
    bad = [f"seed {one.seed} {one.outcome.status}" for one in ones if one.outcome.status != "completed"]
    body: dict[str, Any] = {
        "n": len(ones), "seeds": sorted(one.seed for one in ones), "val_loss": values,
        "run_ids": [i for one in ones for i in one.outcome.run_ids], "not_completed": bad,
    }  # fmt: skip
    text = "-"
    if values:
        found, several = summary(values), len(values) > 1
        body |= {"mean": found.mean, "sd": found.sd if several else None}
        text = f"{found.mean:.4f}" + (f" sd {found.sd:.4f}" if several else "") + f" (n = {len(values)})"
    body["text"] = ", ".join([text, *bad])
    return body
