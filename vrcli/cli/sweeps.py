"""`vr sweeps`: what was searched, what came out, and going on with it."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.db.location import Location
from vrcli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vrcli.search.record import StoreLedger
    from vrcli.study.tune import Sweep

app = typer.Typer(help="List, show, resume, stop and export sweeps.", no_args_is_help=True, rich_markup_mode=None)

REF = typer.Argument(help="id or name of a sweep")


@app.command("list")
def list_sweeps(
    task: str | None = typer.Option(None, "--task", help="only this task"),
    opt: str | None = typer.Option(None, "--opt", help="only this optimizer"),
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """List stored sweeps, newest first."""
    req.check_format(format)
    from vrcli.cli.console import say
    from vrcli.cli.grid import grid
    from vrcli.cli.runs import open_existing
    from vrcli.search import record as ledger

    with open_existing(database) as store:
        books = ledger.books(store, task=task, optimizer=opt)
        found = [(book, _sweep(book)) for book in books]
    if format == "json":
        print(json.dumps([as_json(book, sweep) for book, sweep in found]))
        return
    if not found:
        say("no sweeps yet, or none that match; start with: vr sweep cnn --trials 20")
        return
    rows = [list_row(book, sweep) for book, sweep in found]
    for line in grid(list(rows[0]), rows, right=["id", "trials", "best val"]):
        say(line)


def list_row(book: StoreLedger, sweep: Sweep) -> dict[str, Any]:
    """A line of `vr sweeps list`."""
    from vrcli.cli.sweep_display import ended_text, loss
    from vrcli.report.wording import settings
    from vrcli.results.settings_shown import ago

    d, best = book.definition, sweep.best()
    return {
        "id": book.sweep_id, "when": ago(book.created_at), "task": d.task, "dataset": d.dataset, "preset": d.preset,
        "optimizer": d.optimizer, "status": status_text(book), "trials": f"{len(sweep.ended())}/{sweep.total}",
        "best val": loss(best.value if best else None), "not completed": ended_text(sweep) or "-",
        "settings": settings(best.params) if best else "-",
    }  # fmt: skip


@app.command("show")
def show(
    ref: str = REF,
    top: int = typer.Option(5, "--top", min=1, help="how many of the best trials"),
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Show a sweep: space, best trials, convergence, how much each setting mattered, how many trials diverged."""
    req.check_format(format)
    from vrcli.cli.console import say
    from vrcli.cli.runs import open_existing
    from vrcli.search import record as ledger

    with open_existing(database) as store:
        found = [(book, _sweep(book)) for book in ledger.books_of(store, ref)]
    if format == "json":
        print(json.dumps(whole_json(found)))
        return
    for place, (book, sweep) in enumerate(found):
        for line in [""] * (place > 0) + show_lines(book, sweep, top):
            say(line)


def show_lines(book: StoreLedger, sweep: Sweep, top: int) -> list[str]:
    """Everything `vr sweeps show` prints."""
    from vrcli.cli import sweep_display as display
    from vrcli.cli.grid import grid
    from vrcli.cli.sweep_command import run_command
    from vrcli.report.text_plot import plot
    from vrcli.report.wording import settings
    from vrcli.search.summary import summarise

    d, summary = book.definition, summarise(sweep)
    done = f"{len(sweep.ended())}/{sweep.total} trials"
    lines = [" · ".join([f"sweep {book.sweep_id}", book.name, d.optimizer, status_text(book), done])]
    lines += [display.header(d, sweep.total, ""), *display.space_lines([d])]
    lines.append(
        f"search {d.search}, seed {d.search_seed}, {d.initial} initial points; seeds {', '.join(map(str, d.seeds))}"
    )
    if d.explicit:
        lines.append(f"fixed {settings(d.explicit)}")
    counts = ", ".join(f"{count} {status}" for status, count in summary.statuses.items()) or "none ended"
    lines += ["", f"trials: {counts}; diverged {100 * summary.diverged_share:.0f}%"]
    completed = sorted((t for t in sweep.ended() if t.status == "completed"), key=lambda t: (t.value, t.number))
    if completed:
        rows = [
            {"trial": t.number + 1, "val loss": display.loss(t.value), "settings": settings(t.params),
             "runs": ",".join(map(str, t.run_ids))}
            for t in completed[:top]
        ]  # fmt: skip
        lines += ["", *grid(["trial", "val loss", "settings", "runs"], rows, right=["trial", "val loss"])]
    if ended := [(trial.status, trial.value) for trial in sweep.ended()]:
        lines += ["", *display.best_of_k_lines({d.optimizer: ended}, "loss")]
    if summary.importance:
        shares = sorted(summary.importance.items(), key=lambda pair: -pair[1])
        lines += ["", "importance (loss of a forest's fit when the setting is shuffled)"]
        lines += [f"  {name:14} {100 * share:3.0f}%  {'━' * round(30 * share)}" for name, share in shares]
    steps = [i + 1 for i, value in enumerate(summary.convergence) if value is not None]
    if len(steps) > 1:
        values = [value for value in summary.convergence if value is not None]
        lines += ["", *plot({"best val loss": (steps, values)}, x_label="trial").splitlines()]
    if completed:
        lines += ["", "run the best with", f"  {run_command(d, completed[0].params)}"]
    if len(sweep.ended()) < sweep.total:
        lines.append(f"go on with:  vr sweeps resume {book.sweep_id}")
    return lines


@app.command("resume")
def resume(
    ref: str = REF,
    trials: int | None = typer.Option(None, "--trials", help="new total [default: as stored]", show_default=False),
    jobs: int = typer.Option(1, "--jobs", "-j", help="trials that run at the same time"),
    confirm_seeds: int = typer.Option(0, "--confirm-seeds", help="run the best settings on this many fresh seeds"),
    retry_failed: bool = typer.Option(False, "--retry-failed", help="do the trials that failed again, too"),
    threads: int | None = req.THREADS,
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    malloc_tuning: bool = req.MALLOC,
    debug: bool = req.DEBUG,
) -> None:
    """Go on with a stored sweep to its total, or to a larger one."""
    req.check_format(format)
    for flag, value, least in (
        ("--trials", trials or 1, 1),
        ("--jobs", jobs, 1),
        ("--confirm-seeds", confirm_seeds, 0),
    ):
        if value < least:
            raise UsageError(f"{flag} must be >= {least}, got {value}")
    if trials == 0:
        raise UsageError("--trials must be >= 1, got 0")
    from vrcli.cli.sweep import print_outcome
    from vrcli.cli.sweep_session import Session, exit_code

    session = Session(
        wish=None, trials=trials or 0, jobs=jobs, threads=threads, database=database, data_dir=data_dir,
        tune=malloc_tuning, quiet=quiet or format == "json", confirm_seeds=confirm_seeds,
        retry_failed=retry_failed,
    )  # fmt: skip
    body = session.resume(ref)
    if format == "json":
        print(json.dumps(body))
    elif quiet:
        print_outcome(body)
    raise typer.Exit(exit_code(body))


@app.command("stop")
def stop(ref: str = REF, database: Location = req.DB, debug: bool = req.DEBUG) -> None:
    """Ask a running sweep to stop, on whichever machine it runs; it can be resumed."""
    from vrcli.cli.console import say
    from vrcli.search import record as ledger

    with req.open_store(database, mode="write") as store:
        books = ledger.books_of(store, ref)
        running = [book for book in books if book.status == "running"]
        id = store.sweeps.get(ref).id
        if not running:
            statuses = ", ".join(dict.fromkeys(book.status for book in books)) or "empty"
            raise UsageError(f"sweep {id} is not running; it is {statuses}")
        for book in running:
            store.searches.set_status(book.id, "stopped")
    say(f"sweep {id} stops within seconds; go on with it:  vr sweeps resume {id}")


@app.command("export")
def export(
    ref: str = REF,
    format: str = typer.Option("csv", "--format", help="csv or json"),
    output: Path | None = typer.Option(None, "--output", "-o", help="file [default: stdout]", show_default=False),
    force: bool = req.FORCE,
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Write a sweep's trials as a table, one row each."""
    req.check_format(format, ("csv", "json"))
    from vrcli.cli.console import err, say
    from vrcli.cli.runs import open_existing
    from vrcli.output import Target
    from vrcli.search import record as ledger

    target = None if output is None else Target(output, database=database, force=force)
    if target is not None:
        target.check()
    with open_existing(database) as store:
        found = [(book, _sweep(book)) for book in ledger.books_of(store, ref)]
    text = io.StringIO(newline="")
    if format == "json":
        json.dump(whole_json(found), text)
        text.write("\n")
    else:
        write_csv([sweep for _, sweep in found], text)
    if target is None:
        sys.stdout.write(text.getvalue())
    else:
        target.write_text(text.getvalue())
        say(f"wrote {target.path} ({sum(len(sweep.trials) for _, sweep in found):,} trials)", to=err())


def status_text(book: StoreLedger) -> str:
    """A sweep's status; what is recorded as running although its process is gone is not answering."""
    return "not answering" if book.status == "running" and not book.answers else book.status


def write_csv(sweeps: Sequence[Sweep], file: Any) -> None:
    """Trials by search in the order of their proposal; an empty cell is a value that there is not."""
    names = list(dict.fromkeys(name for sweep in sweeps for name in sweep.definition.axes))
    several = len(sweeps) > 1
    writer = csv.writer(file)
    writer.writerow([*["optimizer"] * several, "trial", "status", "value", *names, "runs", "error"])
    for sweep in sweeps:
        for trial in sorted(sweep.trials.values(), key=lambda t: t.number):
            value = "" if trial.value is None else trial.value
            cells = [trial.number + 1, trial.status, value, *(trial.params.get(name, "") for name in names)]
            cells += [" ".join(map(str, trial.run_ids)), trial.error or ""]
            writer.writerow([*[sweep.definition.optimizer] * several, *cells])


def whole_json(found: Sequence[tuple[StoreLedger, Sweep]]) -> Any:
    """A sweep of one search with its trials; of several, one such value for each."""
    bodies = [
        {**as_json(book, sweep), "trials": [trial_json(t) for t in sweep.trials.values()]} for book, sweep in found
    ]
    return bodies[0] if len(bodies) == 1 else bodies


def as_json(book: StoreLedger, sweep: Sweep) -> dict[str, Any]:
    """A sweep as plain JSON values."""
    from vrcli.search.summary import summarise

    summary = summarise(sweep)
    return {
        "id": book.sweep_id, "search": book.id, "name": book.name, "status": book.status,
        "created_at": book.created_at.isoformat(),
        "total": sweep.total, "ended": len(sweep.ended()), "definition": book.definition.plain(),
        "best": trial_json(summary.best) if summary.best else None, "statuses": summary.statuses,
        "diverged_share": summary.diverged_share, "importance": summary.importance,
        "convergence": list(summary.convergence), "best_of_k": best_of_k_json(sweep),
    }  # fmt: skip


def best_of_k_json(sweep: Sweep) -> dict[str, Any] | None:
    """What to expect of the best of k trials of this sweep; a value that is not finite becomes its name."""
    from vrcli.results.flat import json_number
    from vrcli.stats.budget import best_of_search

    found = best_of_search((trial.status, trial.value) for trial in sweep.ended())
    if found is None:
        return None
    curves = {"k": found.k, "expected": found.expected, "median": found.median, "all_diverged": found.all_diverged}
    return {name: [json_number(value) for value in values.tolist()] for name, values in curves.items()}


def trial_json(trial: Any) -> dict[str, Any]:
    """A trial as plain JSON values; a value that is not finite becomes its name."""
    from vrcli.results.flat import json_number

    return {
        "number": trial.number, "status": trial.status, "params": trial.params,
        "value": None if trial.value is None else json_number(trial.value), "error": trial.error,
        "run_ids": list(trial.run_ids),
    }  # fmt: skip


def _sweep(book: StoreLedger) -> Sweep:
    from vrcli.study.tune import Sweep

    return Sweep(book.definition, book, book.total)
