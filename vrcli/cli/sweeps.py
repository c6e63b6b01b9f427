"""`vr sweeps`: what was searched, what came out, and going on with it."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.cli.console import err, notice, put, say
from vrcli.cli.lazy import noun
from vrcli.cli.screen import is_terminal, show_next, suggest
from vrcli.cli.screen import show as show_screen
from vrcli.db.location import Location
from vrcli.errors import UsageError
from vrcli.output import Target
from vrcli.report import wording
from vrcli.report.study import sweep as display
from vrcli.report.study.blocks import Block, Command, Next, Rows, Step
from vrcli.report.study.spread import Found, search_blocks, spread_lines
from vrcli.report.tables.runs import ago
from vrcli.search import record
from vrcli.search.plain import Stored, search_json, sweep_json, write_csv
from vrcli.search.search import initial_points
from vrcli.search.summary import summarise
from vrcli.search.trials import in_order
from vrcli.study.asked import at_least
from vrcli.study.naming import shown

if TYPE_CHECKING:
    from vrcli.search.record import StoredSearch
    from vrcli.search.trials import SearchState

app = noun("List, show, resume, stop and export sweeps.")

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
    with req.open_existing(database) as store:
        stored = record.select(store, task=task, optimizer=opt)
        found = [(one, one.state()) for one in stored]
        fresh = store.searches.overview()
        for one in record.damaged(store):
            notice(f"search {one.id} of sweep {one.sweep_id} is damaged and left out; vr db check says where")
    if format == "json":
        print(json.dumps([search_json(one, state) for one, state in found]))
        return
    if not found:
        say("no sweeps yet, or none that match; start with: vr sweep cnn --trials 20")
        return
    show_screen(list_blocks(found, fresh))
    suggest((f"vr sweeps show {found[0][0].sweep_id}", "its spaces, best trials and curves"), database=database)


def list_blocks(found: Sequence[Stored], overview: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What `vr sweeps list` prints: a line for each search, and how far those of one optimizer lie apart."""
    rows = [list_row(one, state) for one, state in found]
    columns = [name for name in rows[0] if name != "search" or several_of_one(found)]
    least = [name for name in ("when", "preset", "dataset", "not completed", "task", "search") if name in columns]
    blocks: list[Block] = [Rows(columns, rows, ["id", "search", "trials", "best val"], ["settings"], least)]
    for id in dict.fromkeys(one.sweep_id for one, _ in found):
        own = [(one, state) for one, state in found if one.sweep_id == id]
        blocks += [f"sweep {id}, {line}" for line in spread_lines(found_of(own, overview))]
    return blocks


def several_of_one(found: Sequence[Stored]) -> bool:
    """Whether a sweep has several searches of one optimizer."""
    return len({(one.sweep_id, one.definition.optimizer) for one, _ in found}) < len(found)


def found_of(found: Sequence[Stored], overview: Sequence[Mapping[str, Any]]) -> list[Found]:
    """What stored searches have come to, by the seed of the search.

    Args:
        overview: the rows of all searches, see `Searches.overview`.
    """
    fresh = {row["id"]: row for row in overview}
    searches = []
    for one, state in sorted(found, key=lambda pair: (pair[0].definition.optimizer, pair[0].definition.search_seed)):
        best, own = state.best(), fresh[one.id]
        means = [math.nan if own["diverged"] else own[name] for name in ("mean_test_loss", "mean_best_value")]
        d = one.definition
        searches.append(
            Found(d.optimizer, d.search_seed, len(state.ended()), state.total, best.value if best else None,
                  best.params if best else {}, own["n"], *means)
        )  # fmt: skip
    return searches


def list_row(one: StoredSearch, state: SearchState) -> dict[str, Any]:
    """A line of `vr sweeps list`."""
    d, best = one.definition, state.best()
    return {
        "id": one.sweep_id, "when": ago(one.created_at), "task": shown(d.task), "dataset": d.dataset,
        "preset": d.preset,
        "optimizer": d.optimizer, "search": d.search_seed, "status": wording.status(one),
        "trials": f"{len(state.ended())}/{state.total}",
        "best val": wording.value(best.value if best else None),
        "not completed": display.ended_text(state.ended()) or "-",
        "settings": settings_of(best.params) if best else "-",
    }  # fmt: skip


def settings_of(params: Mapping[str, Any]) -> str:
    """What a search chose; on a terminal in as many digits as mean something."""
    return wording.settings(params, searched=params if is_terminal() else ())


@app.command("show")
def show(
    ref: str = REF,
    top: int = typer.Option(5, "--top", min=1, help="how many of the best trials"),
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Show a sweep: its space, its best trials, and what mattered. It shows convergence and diverged trials, too."""
    req.check_format(format)
    with req.open_existing(database) as store:
        found = [(one, one.state()) for one in record.of_sweep(store, ref)]
        fresh = store.searches.overview()
    if format == "json":
        print(json.dumps(sweep_json(found)))
        return
    if several_of_one(found):
        show_screen(several_blocks(found, fresh), database=database)
        return
    for place, (one, state) in enumerate(found):
        show_screen([*[""] * (place > 0), *show_blocks(one, state, top)], database=database)


def several_blocks(found: Sequence[Stored], overview: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What `vr sweeps show` prints of a sweep with several searches of one optimizer: a line for each, their spread."""
    one, state = found[0]
    blocks: list[Block] = [f"sweep {one.sweep_id} · {one.name}", display.header(one.definition, state.total, "")]
    blocks += [display.space_rows([other.definition for other, _ in found]), ""]
    blocks += search_blocks(found_of(found, overview), rounded=is_terminal())
    steps = resume_steps(one.sweep_id, [state for _, state in found])
    return [*blocks, "", Next([*steps, Step(f"vr sweeps export {one.sweep_id}", "every trial, as a table")])]


def resume_steps(id: int, states: Sequence[SearchState]) -> list[Step]:
    """How a sweep goes on, where it has trials left."""
    left = sum(state.total - len(state.ended()) for state in states)
    return [Step(f"vr sweeps resume {id}", f"go on with it; {wording.counted(left, 'trial', 'are')} left")] * (left > 0)


def show_blocks(one: StoredSearch, state: SearchState, top: int) -> list[Block]:
    """Everything `vr sweeps show` prints."""
    from vrcli.report.study.command import run_command
    from vrcli.report.text_plot import plot  # scipy is slow to import

    d, summary = one.definition, summarise(state)
    done = f"{len(state.ended())}/{state.total} trials"
    lines: list[Block] = [" · ".join([f"sweep {one.sweep_id}", one.name, d.optimizer, wording.status(one), done])]
    lines += [display.header(d, state.total, ""), display.space_rows([d])]
    lines.append(
        f"search {d.search}, seed {d.search_seed}, {d.initial or initial_points(state.total)} initial points; "
        f"seeds {', '.join(map(str, d.seeds))}"
    )
    if d.explicit:
        lines.append(f"fixed {wording.settings(d.explicit)}")
    counts = ", ".join(f"{count} {status}" for status, count in summary.statuses.items()) or "none ended"
    lines += ["", f"trials: {counts}; diverged {100 * summary.diverged_share:.0f}%"]
    completed, val = in_order(state.ended(), d.direction), f"val {d.objective}"
    if completed:
        rows = [
            {"trial": t.number + 1, val: wording.value(t.value), "settings": settings_of(t.params),
             "runs": ",".join(map(str, t.run_ids))}
            for t in completed[:top]
        ]  # fmt: skip
        columns = ["trial", val, "settings", "runs"]
        lines += ["", Rows(columns, rows, ["trial", val], ["settings", "runs"])]
    if ended := [(trial.status, trial.value) for trial in state.ended()]:
        lines += ["", *display.best_of_k({d.optimizer: ended}, d.objective, d.direction)]
    if summary.importance:
        shares = sorted(summary.importance.items(), key=lambda pair: -pair[1])
        lines += ["", "importance (loss of a forest's fit when the setting is shuffled)"]
        lines += [f"  {name:14} {100 * share:3.0f}%  {'━' * round(30 * share)}" for name, share in shares]
    steps = [i + 1 for i, value in enumerate(summary.convergence) if value is not None]
    if len(steps) > 1:
        values = [value for value in summary.convergence if value is not None]
        lines += ["", *plot({f"best {val}": (steps, values)}, x_label="trial").splitlines()]
    if completed:
        lines += ["", "run the best with", Command(run_command(d, completed[0].params))]
    todo = resume_steps(one.sweep_id, [state])
    if todo:
        lines += ["", Next(todo)]
    return lines


@app.command("resume")
def resume(
    ref: str = REF,
    trials: int | None = typer.Option(None, "--trials", help="new total [default: as stored]", show_default=False),
    jobs: int = typer.Option(1, "--jobs", "-j", help="trials that run at the same time"),
    confirm_seeds: int = typer.Option(0, "--confirm-seeds", help="run the best settings on this many fresh seeds"),
    retry_failed: bool = typer.Option(False, "--retry-failed", help="also repeat the trials that failed"),
    threads: int | None = req.THREADS,
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    checkpoint_every: str = req.CHECKPOINT_EVERY,
    checkpoint_dir: Path | None = req.CHECKPOINT_DIR,
    malloc_tuning: bool = req.MALLOC,
    debug: bool = req.DEBUG,
) -> None:
    """Go on with a stored sweep to its total, or to a larger one."""
    req.check_format(format)
    at_least(
        ("--trials", 1 if trials is None else trials, 1), ("--jobs", jobs, 1), ("--confirm-seeds", confirm_seeds, 0)
    )
    from vrcli.cli.sweep import print_outcome
    from vrcli.cli.sweep_display import SweepDisplay
    from vrcli.cli.watching import watch
    from vrcli.execute.checkpoints import Checkpoints
    from vrcli.execute.place import Place
    from vrcli.study import sweep as study

    checkpoints = Checkpoints.asked(checkpoint_every, checkpoint_dir)
    place = Place(database, data_dir, jobs, threads, malloc_tuning, checkpoints)
    found = watch(
        lambda stop: study.resume(
            ref, place, trials=trials or 0, confirm_seeds=confirm_seeds, retry_failed=retry_failed, should_stop=stop
        ),
        SweepDisplay(quiet=quiet or format == "json", database=database),
    )
    raise typer.Exit(print_outcome(found, format, quiet))


@app.command("stop")
def stop(ref: str = REF, database: Location = req.DB, debug: bool = req.DEBUG) -> None:
    """Ask a sweep to stop, on whichever machine it runs. It can be resumed."""
    with req.open_store(database, mode="write") as store:
        stored = record.of_sweep(store, ref)
        running = [one for one in stored if one.status == "running"]
        id = store.sweeps.get(ref).id
        if not running:
            statuses = ", ".join(dict.fromkeys(one.status for one in stored)) or "empty"
            raise UsageError(f"sweep {id} is not running; it is {statuses}")
        for one in running:
            store.searches.set_status(one.id, "stopped")
    say(f"sweep {id} stops within seconds")
    show_next([(f"vr sweeps resume {id}", "go on with it")], database=database)


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
    target = None if output is None else Target(output, database=database, force=force)
    if target is not None:
        target.check()
    with req.open_existing(database) as store:
        found = [(one, one.state()) for one in record.of_sweep(store, ref)]
    text = io.StringIO(newline="")
    if format == "json":
        json.dump(sweep_json(found), text)
        text.write("\n")
    else:
        write_csv([state for _, state in found], text)
    if target is None:
        put(text.getvalue(), exact=True)
    else:
        target.write_text(text.getvalue())
        say(f"wrote {target.path} ({sum(len(state.trials) for _, state in found):,} trials)", to=err())
