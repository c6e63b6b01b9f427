"""Shared fixtures: one thread, a private cache and working directory, reproducible property tests."""

from __future__ import annotations

import os

# One thread each, here and in every process that a test starts: as many tests run side by side as there are cores,
# and torch's threads would wait for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

settings.register_profile("vr", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("vr")


@pytest.fixture(autouse=True)
def _private_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache or database."""
    monkeypatch.setenv("VR_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("VR_DB", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
