"""From a constructor's signature to a pydantic model of its hyperparameters."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from vrcli.errors import UsageError, nearest

#: Arguments that are not hyperparameters: `differentiable` would record the step itself in the autograd graph.
_HIDDEN = frozenset({"self", "defaults", "params", "parameters", "model", "differentiable", "named_parameters"})

#: Bounds by the names that the field agrees on. A class whose own default lies outside keeps only its own checks.
_BOUNDS: Mapping[str, Mapping[str, Any]] = {
    "lr": {"gt": 0},
    "betas": {"ge": 0, "lt": 1},
    "beta1": {"ge": 0, "lt": 1},
    "beta2": {"ge": 0, "lt": 1},
    "beta3": {"ge": 0},
    "eps": {"ge": 0},
    "weight_decay": {"ge": 0},
    "adamw_lr": {"gt": 0},
    "adamw_betas": {"ge": 0, "lt": 1},
    "adamw_eps": {"ge": 0},
    "adamw_weight_decay": {"ge": 0},
    "momentum": {"ge": 0},
    "momentum_decay": {"ge": 0},
    "alpha": {"ge": 0},
    "rho": {"ge": 0},
    "lambd": {"ge": 0},
    "d": {"gt": 0},
    "lr_decay": {"ge": 0},
    "lr_cutoff": {"ge": 0},
    "power": {"gt": 0},
    "initial_accumulator_value": {"ge": 0},
    "etas": {"gt": 0},
    "step_sizes": {"gt": 0},
    "max_iter": {"ge": 1},
    "max_eval": {"ge": 1},
    "history_size": {"ge": 1},
    "tolerance_grad": {"ge": 0},
    "tolerance_change": {"ge": 0},
    "ns_steps": {"ge": 1, "lt": 100},
    "warmup_steps": {"ge": 0},
    "gamma": {"ge": 0},
    "tolerance": {"gt": 0},
}

_DESCRIPTIONS: Mapping[str, str] = {
    "lr": "learning rate",
    "betas": "decay rates of the running averages; in the family of Adam, of the gradient and of its square",
    "beta1": "decay rate of the running average of the gradient",
    "beta2": "decay rate of the running average of the squared gradient",
    "eps": "added to the denominator for numerical stability",
    "weight_decay": "weight decay",
    "momentum": "momentum factor",
    "nesterov": "use Nesterov momentum",
    "dampening": "dampening of the momentum",
    "amsgrad": "keep the maximum of the second moments",
    "maximize": "maximise the objective instead of minimising it",
    "foreach": "work on lists of tensors; chosen automatically if not given",
    "fused": "use the fused kernel; chosen automatically if not given",
    "capturable": "safe to capture in a CUDA graph",
    "decoupled_weight_decay": "decay the weights themselves instead of adding an L2 penalty",
}

#: Values of arguments that constructors annotate as plain strings and check only in their first step.
_CHOICES: Mapping[str, Any] = {"line_search_fn": Literal["strong_wolfe"] | None}

_DEFAULT_LR = 1e-3  # for constructors of the older style that require it
_SIMPLE = (bool, int, float, str)


def model_of(
    optimizer: type[torch.optim.Optimizer],
    *,
    name: str,
    defaults: Mapping[str, Any],
    optional: str = "",
) -> type[BaseModel]:
    """A frozen pydantic model with one field per hyperparameter that has a value of a simple type.

    Args:
        name: for messages.
        defaults: in place of the constructor's.
        optional: a setting that may be left out, since it is the run's number of steps.

    Raises:
        UsageError: the constructor requires an argument that has neither a default nor a simple type.
    """
    annotations = _annotations(optimizer)
    fields: dict[str, Any] = {}
    for parameter in _parameters(optimizer):
        key = parameter.name
        default = defaults.get(key, parameter.default)
        if default is parameter.empty and key == "lr":
            default = _DEFAULT_LR
        kind = _CHOICES.get(key) or _simple_type(annotations.get(key, _type_of(default)), default)
        if kind is None and default is parameter.empty:
            raise UsageError(f"{name} requires the argument {key!r}, which cannot be given as a setting")
        if kind not in (None, type(None)) and not key.startswith("_"):
            default = ... if default is parameter.empty else default
            description = _describe(optimizer, key)
            if key == optional:
                kind, default = kind | None, None
                description += "; that of the run if not given"
            fields[key] = (_bounded(kind, key, default), Field(default, description=description))
    config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, protected_namespaces=()
    )
    return create_model(optimizer.__name__ + "Settings", __config__=config, **fields)


def validated(name: str, model: type[BaseModel], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` over the model's defaults, or a UsageError that names the setting."""
    for key in settings:
        if key not in model.model_fields:
            known = ", ".join(model.model_fields)
            raise UsageError(f"{key} is not a setting of {name}{nearest(key, model.model_fields)} (it has: {known})")
    try:
        return model(**settings).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise UsageError(f"{key} {_problem(first)}, got {settings.get(key)!r}") from error


def needed(optimizer: type[torch.optim.Optimizer], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without those that are the constructor's own defaults.

    A class may fix an argument that its base class has: naming that argument would then be an error, default or not.
    """
    own = {parameter.name: parameter.default for parameter in _parameters(optimizer)}
    return {key: value for key, value in values.items() if own[key] is inspect.Parameter.empty or own[key] != value}


def _problem(error: Any) -> str:
    context = error.get("ctx", {})
    for bound, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
        if bound in context:
            each = "each " if any(isinstance(part, int) for part in error["loc"]) else ""
            return f"must {each}be {sign} {context[bound]:g}"
    if error["type"] == "missing":
        return "needs more values" if len(error["loc"]) > 1 else "is required"
    return str(error["msg"]).replace("Input should", "must")


def _parameters(optimizer: type) -> list[inspect.Parameter]:
    """The constructor's named arguments, through `**kwargs` up the class hierarchy."""
    found: dict[str, inspect.Parameter] = {}
    for cls in optimizer.__mro__:
        if cls is torch.optim.Optimizer or "__init__" not in vars(cls):
            continue
        signature = inspect.signature(vars(cls)["__init__"])
        for parameter in signature.parameters.values():
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found.setdefault(parameter.name, parameter)
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            break
    return [p for p in found.values() if p.name not in _HIDDEN]


def _annotations(optimizer: type) -> dict[str, Any]:
    """Resolved annotations of the constructor; none where a class's own cannot be resolved."""
    merged: dict[str, Any] = {}
    for cls in reversed(optimizer.__mro__):
        if "__init__" in vars(cls) and cls not in (object, torch.optim.Optimizer):
            try:
                merged |= typing.get_type_hints(vars(cls)["__init__"])
            except Exception:  # names that exist only for type checkers: the default's type serves instead
                continue
    return merged


def _type_of(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return None
    if isinstance(default, tuple):
        return tuple[tuple(_type_of(item) for item in default)]  # type: ignore[misc]  # built at run time
    return int | float if type(default) is int else type(default)


def _simple_type(annotation: Any, default: Any) -> Any:
    """`annotation` reduced to simple types (tensors drop out), or None if nothing is left."""
    if annotation is inspect.Parameter.empty or annotation is Any:
        annotation = _type_of(default)
    if annotation in _SIMPLE or annotation is type(None):
        return annotation
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return annotation
    if origin in (Union, types.UnionType):
        kept = [kind for kind in (_simple_type(a, default) for a in arguments) if kind is not None]
        if not set(kept) - {type(None)}:
            return None
        return Union[tuple(kept)]  # noqa: UP007  # built at run time
    if origin in (tuple, list):
        inner = [a if a is Ellipsis else _simple_type(a, None) for a in arguments]
        return None if None in inner or not inner else origin[tuple(inner)]
    return None


def _bounded(kind: Any, key: str, default: Any) -> Any:
    bounded = _with_bounds(kind, _BOUNDS.get(key, {}))
    if default is not ...:
        try:
            TypeAdapter(bounded).validate_python(default)
        except ValidationError:  # a default of infinity among them
            return _with_bounds(kind, {"allow_inf_nan": True})
    return bounded


def _with_bounds(kind: Any, bounds: Mapping[str, Any]) -> Any:
    """`kind` with the bounds on each number in it."""
    if kind is float:
        return Annotated[kind, Field(**{"allow_inf_nan": False, **bounds})]
    if kind is int:
        return Annotated[kind, Field(**{key: value for key, value in bounds.items() if key != "allow_inf_nan"})]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return Union[tuple(_with_bounds(a, bounds) for a in arguments)]  # noqa: UP007  # built at run time
    if origin in (tuple, list):
        return origin[tuple(a if a is Ellipsis else _with_bounds(a, bounds) for a in arguments)]
    return kind


def _describe(optimizer: type, key: str) -> str:
    """One phrase: the class's own documentation where it has an entry, else the field's usual meaning."""
    if key in _DESCRIPTIONS:
        return _DESCRIPTIONS[key]
    for cls in optimizer.__mro__:
        text = inspect.getdoc(cls) or ""
        entry = re.search(
            rf"^ *(?::param {key}:(?: [\w\[\], ]+\.)?|{key}(?: \([^)\n]*\))?:)\s+(.+(?:\n {{5,}}.+)*)", text, re.M
        )
        if entry and cls is not torch.optim.Optimizer:
            sentence = re.split(r" ?\(default|\.(?: |$)|; ", " ".join(entry.group(1).split()))[0]
            return sentence.strip() or key
    return key.replace("_", " ")
