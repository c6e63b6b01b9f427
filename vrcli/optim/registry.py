"""Which optimizers there are, their settings, and how one is built over a model.

Listing reads data only, and so does finding an optimizer of this package, of torch or of the zoo: torch is imported
when settings or an optimizer are asked for. A third party's class, from an entry point or a path, is imported to be
found, since what it needs is read off the class: its attributes `capabilities` (names out of `CAPABILITIES`) and
`space`, `curves` (what its `telemetry` records), a `step` that requires its closure, methods `train` and `eval`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, first_line, nearest
from vrcli.importing import entry_points, in_working_directory, installed, why_not
from vrcli.optim.rows import CAPABILITIES, TORCH_ROWS, VR_ROWS, Row
from vrcli.optim.zoo import INSTALL as ZOO_INSTALL
from vrcli.optim.zoo import ORIGIN as ZOO_ORIGIN
from vrcli.optim.zoo import PACKAGE as ZOO_PACKAGE
from vrcli.optim.zoo import ZOO_ROWS

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel
    from torch import nn

__all__ = [
    "CAPABILITIES",
    "Row",
    "build",
    "catalogue",
    "check_settings",
    "construct",
    "find",
    "load",
    "names",
    "settings_model",
    "validate",
]

ENTRY_POINT_GROUP = "vrcli.optimizers"


@cache
def _rows() -> Mapping[str, Row]:
    """Every row by name.

    Raises:
        UsageError: two optimizers have the same name.
    """
    rows: dict[str, Row] = {}
    for row in (*VR_ROWS, *TORCH_ROWS, *ZOO_ROWS, *_entry_point_rows()):
        other = rows.setdefault(row.name, row)
        if other is not row and other.target != row.target:
            one, two = (f"{r.target} ({r.origin})" for r in (other, row))
            raise UsageError(f"two optimizers are called {row.name!r}: {one} and {two}")
    return rows


def _entry_point_rows() -> list[Row]:
    return [
        Row(entry.name, entry.value, "", origin)
        for entry in entry_points(group=ENTRY_POINT_GROUP)
        for origin in [entry.dist.name if entry.dist else "entry point"]
    ]


def catalogue() -> list[Row]:
    """Every registered optimizer, this package's own first, without importing any: third parties' lack a summary."""
    return list(_rows().values())


def is_installed(row: Row) -> bool:
    """Whether the package that an optimizer comes with is there; looks for the zoo's only."""
    return row.origin != ZOO_ORIGIN or find_spec(ZOO_PACKAGE) is not None


def names() -> list[str]:
    """The names in `catalogue`, in its order."""
    return list(_rows())


def find(name: str) -> Row:
    """The row called `name`, or a row for the class at "package.module:Class".

    Raises:
        UsageError: no such name (the nearest one is in the message), or a third party's class that cannot be imported.
    """
    if ":" in name:
        return _described(Row(name, name, "", name.partition(":")[0].partition(".")[0]))
    row = _rows().get(name)
    if row is None:
        raise UsageError(f"no optimizer is called {name!r}{nearest(name, _rows())} (vr opts list)")
    return row if row.summary else _described(row)


def _described(row: Row) -> Row:
    """A third party's row completed from its class."""
    found: Any = load(row)
    needs = set(getattr(found, "capabilities", ()))
    closure = inspect.signature(found.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        needs.add("closure")
    if callable(getattr(found, "train", None)) and callable(getattr(found, "eval", None)):
        needs.add("train_eval")
    curves = getattr(found, "curves", None if hasattr(found, "telemetry") else ())
    summary = (inspect.getdoc(found) or row.target).partition("\n")[0].rstrip(".")
    try:
        return replace(
            row, summary=summary, capabilities=frozenset(needs), space=getattr(found, "space", {}),
            curves=None if curves is None else tuple(curves),
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(str(error)) from error


def load(row: Row) -> type[torch.optim.Optimizer]:
    """Import the row's class.

    Raises:
        UsageError: it refuses, cannot be imported, or is not a `torch.optim.Optimizer`.
    """
    if row.refusal:
        raise UsageError(f"{row.name} cannot be used: {row.refusal}")
    import torch

    found = _import(row, row.target)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise UsageError(f"{row.target} is not a torch.optim.Optimizer class")
    return found


def _import(row: Row, target: str) -> Any:
    find = in_working_directory if row.name == row.target else installed
    try:
        return find(target)
    except Exception as error:  # whatever a third party's module raises, the user sees one line
        if row.origin == ZOO_ORIGIN and isinstance(error, ModuleNotFoundError):
            raise UsageError(f"{row.name} comes with the extra 'zoo': {ZOO_INSTALL}") from error
        why = first_line(error) if find is installed else why_not(target, error)
        raise UsageError(f"optimizer {row.name!r} cannot be imported: {why}") from error


@cache
def settings_model(name: str) -> type[BaseModel]:
    """The optimizer's hyperparameters with defaults, bounds and descriptions, from its constructor's signature.

    Raises:
        UsageError: no such optimizer, or one that cannot be used.
    """
    from vrcli.optim.settings import model_of

    row = find(name)
    return model_of(load(row), name=row.name, defaults=row.defaults, optional=row.steps_setting)


def validate(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every hyperparameter of the optimizer, `settings` over its defaults.

    Raises:
        UsageError: an unknown setting (with the nearest), or a bad value (naming the setting).
    """
    from vrcli.optim.settings import validated

    return validated(name, settings_model(name), settings)


def build(
    name: str, model: nn.Module, settings: Mapping[str, Any], *, steps: int | None = None
) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters of `model`.

    Args:
        steps: of the whole run, for an optimizer with a setting that is their number.

    Raises:
        UsageError: as `validate` and `construct`.
    """
    return construct(name, model, validate(name, settings), steps=steps)


def construct(
    name: str, model: nn.Module, validated: Mapping[str, Any], *, steps: int | None = None
) -> torch.optim.Optimizer:
    """As `build`, from settings that are complete and validated already.

    Raises:
        UsageError: the constructor refuses the combination of values; or nothing is trainable; or the number of steps
            is needed and not known.
    """
    from vrcli.optim.settings import needed

    row = find(name)
    optimizer: Any = load(row)
    values = dict(validated)
    if row.steps_setting and values[row.steps_setting] is None:
        if steps is None:
            raise UsageError(f"{name} needs {row.steps_setting}, the number of steps of the whole run")
        values[row.steps_setting] = steps
    values = needed(optimizer, values)
    parameters: Any = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError(f"{name}: the model has no trainable parameter")
    if row.groups:
        parameters = _import(row, row.groups)(model)
    try:
        built: torch.optim.Optimizer = optimizer(model if row.takes_model else parameters, **values)
        return built
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise UsageError(f"{name}: {' '.join(str(error).split())}") from error


def check_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """As `validate`, and the constructor accepts the values together (Nesterov needs momentum, say)."""
    from torch import nn

    values = validate(name, settings)
    with _compiler_left_alone():
        construct(name, nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), values, steps=100)
    return values


@contextmanager
def _compiler_left_alone() -> Iterator[None]:
    """The first optimizer of a process imports torch's compiler, only to keep it off: more seconds than all the rest.

    What torch remembers of that is put there while an optimizer is built that never trains.
    """
    from torch.optim import Optimizer

    inner: Any = getattr(Optimizer.add_param_group, "__wrapped__", None)
    if inner is None or "torch._dynamo" in sys.modules or hasattr(inner, _DISABLED):
        yield
        return
    setattr(inner, _DISABLED, inner)
    try:
        yield
    finally:
        delattr(inner, _DISABLED)


_DISABLED = "__dynamo_disable"
