"""Importing a command when it is called."""

from __future__ import annotations

import gc
import importlib

import pytest

from vrcli.cli.lazy import COMMANDS, load, uncollected


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    assert load(name).help.partition("\n\n")[0].replace("\n", " ") == COMMANDS[name]


def test_garbage_is_collected_again_after_a_failed_import() -> None:
    found = []

    def fail() -> None:
        with uncollected():
            found.append(gc.isenabled())
            importlib.import_module("no_such_module_here")

    with pytest.raises(ImportError):
        fail()
    assert [*found, gc.isenabled()] == [False, True]


def test_only_imports_are_kept_from_the_collector() -> None:
    """What a command without a new module leaves behind is collected as ever."""
    before = gc.get_freeze_count()
    with uncollected():
        pass
    assert gc.get_freeze_count() == before
