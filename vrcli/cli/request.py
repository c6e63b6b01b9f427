"""Options that commands share, and what they were given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import typer

from vrcli.cli.config_file import FILE_META, META, by_keyword
from vrcli.cli.console import notice
from vrcli.db.location import Location
from vrcli.errors import UsageError, nearest
from vrcli.execute.place import check_threads

if TYPE_CHECKING:
    from vrcli.db.store import Store

# Options that several commands share.
TASK = typer.Argument(None, help="task to train (vr tasks list)", show_default=False)
COMMAND = typer.Option(
    None, "--command", metavar="TEXT", show_default=False,
    help="train by this instead of a task: 'python train.py --lr {lr} --optimizer {opt} --seed {seed}'; --time-limit S "
    "ends it, --dataset NAME says on what",
)  # fmt: skip
OBJECTIVE = typer.Option(
    None, "--metric", show_default=False,
    help="objective of --command: val_loss, val_accuracy, regret:min [default: val_loss]",
)  # fmt: skip
DB: Any = typer.Option(
    "vr.db", "--db", envvar="VR_DB", parser=Location, metavar="TEXT", help="database file, or an SQLAlchemy URL"
)
FORMAT = typer.Option("text", "--format", help="text or json")
PRESET = typer.Option(None, "--preset", help="named configuration of the task [default: quick]", show_default=False)
SEED = typer.Option(None, "--seed", help="seed of weights, data order and noise [default: 0]", show_default=False)
DEVICE = typer.Option(None, "--device", help="auto, cpu, cuda or mps [default: auto]", show_default=False)
THREADS = typer.Option(
    None, "--threads", callback=check_threads, help="CPU threads [default: torch's; 1 for short steps]",
    show_default=False,
)  # fmt: skip
CONFIG = typer.Option(
    None, "--config", help="TOML file with options and settings; a flag wins over it", show_default=False
)
DATA_DIR = typer.Option(None, "--data-dir", help="folder of data sets [default: the user's cache]", show_default=False)
TAG = typer.Option(None, "--tag", help="a word to find the runs by", show_default=False)
FORCE = typer.Option(False, "--force", help="replace a file that vr did not write")
QUIET = typer.Option(False, "--quiet", "-q", help="print the outcome only")
DEBUG = typer.Option(False, "--debug", help="show tracebacks")
PROBE = typer.Option(
    [], "--probe", metavar="NAME", show_default=False,
    help="measure this beside the loss (vr probes list); repeat for several; --probe-NAME-OPTION sets its options",
)  # fmt: skip
PROBE_EVERY = typer.Option(
    None, "--probe-every", metavar="K|Ne", show_default=False,
    help="how often probes measure: 50 (steps) or 2e (epochs) [default: 1e]",
)  # fmt: skip
CHECKPOINT_EVERY = typer.Option(
    "60s", "--checkpoint-every", metavar="60s|N|off",
    help="how often a checkpoint is written: 60s, 500 (steps) or off; an interrupted run continues from the last one",
)  # fmt: skip
CHECKPOINT_DIR = typer.Option(
    None, "--checkpoint-dir", envvar="VR_CHECKPOINTS", show_default=False,
    help="folder of the checkpoints [default: beside the database]",
)  # fmt: skip
KEEP_WEIGHTS = typer.Option(
    None, "--keep-weights", metavar="best|last|both|update", show_default=False,
    help="keep these weights with the run, for vr runs export --to weights; update: before and after the last step",
)  # fmt: skip
MALLOC = typer.Option(True, "--malloc-tuning/--no-malloc-tuning", help="keep freed memory (glibc)")


def check_format(given: str, accepted: tuple[str, ...] = ("text", "json")) -> None:
    """Refuse an output format that the command does not have."""
    if given not in accepted:
        raise UsageError(f"--format {given} is not one of {', '.join(accepted)}{nearest(given, accepted)}")


def open_store(database: Location, mode: Literal["create", "write"] = "create") -> Store:
    """The database for writing; what opening it did on the user's behalf is said."""
    from vrcli.db.store import Store

    store = Store.open(database, mode=mode)
    for line in store.notices:
        notice(line)
    return store


def open_existing(database: Location, mode: Literal["read", "write"] = "read") -> Store:
    """A database that is there, for reading or writing.

    Raises:
        UsageError: it is not; how to make one is said.
    """
    from vrcli.db.store import Store

    if database.path is not None and not database.path.exists():
        raise UsageError(f"there is no {database} here; `vr run` makes it, --db or VR_DB names another")
    return Store.open(database, mode="read") if mode == "read" else open_store(database, mode="write")


def words(ctx: typer.Context) -> dict[str, Any]:
    """What was given, as `vrcli.api` takes it: the command's own options by name, and the settings."""
    return {**by_keyword(ctx.params), "config": ctx.meta[FILE_META], **ctx.meta[META]}
