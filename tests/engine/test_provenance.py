"""What is recorded of a run's origin."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from vrcli.engine.provenance import collect


def test_the_command_line_is_recorded_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vr", "run", "cnn", "--db", "postgresql://user:SECRET@host/db"])
    found = collect(torch.device("cpu"), 1, malloc_tuned=False)
    assert found["argv"] == ["vr", "run", "cnn", "--db", "postgresql://user:***@host/db"]
    assert "SECRET" not in json.dumps(found)
