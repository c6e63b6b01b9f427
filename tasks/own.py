"""What a task says of itself where a program of its own trains it, not the engine's loop (see `vrcli.tasks.loop`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel


class OwnProgram:
    """What is so of every other task."""

    #: Settings of `vrcli.spec.Training` that can be given; None for all.
    training_settings: ClassVar[Sequence[str] | None] = None
    #: Settings of the training that nobody chooses.
    fixed_training: ClassVar[Mapping[str, Any]] = {}
    #: The optimizers' settings, where the task's own program makes the optimizer and not vr.
    own_optimizers: ClassVar[type[BaseModel] | None] = None

    @classmethod
    def lacking(cls, settings: Mapping[str, Any]) -> str:
        """Which of the optimizer's settings must have a value and has none, in one line; empty where all is said."""
        return ""

    @classmethod
    def identity(cls) -> str | None:
        """Of the code that decides a curve, read anew; None: that of the class."""
        return None
