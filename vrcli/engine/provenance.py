"""Where and with what a run was made: enough to explain a number years later."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from vrcli import __version__
from vrcli.secret import masked

_LIBRARIES = (
    *("torch", "torchvision", "numpy", "pillow", "datasets", "scikit-learn"),
    *("scikit-optimize", "pytorch-optimizer"),
)


def collect(device: torch.device, threads: int, *, malloc_tuned: bool) -> dict[str, Any]:
    """Versions, hardware, repository state and command line of this process, as plain JSON values."""
    return {
        "argv": masked(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": _library_versions(),
        "vr": __version__,
        "device": device_name(device),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "malloc_tuned": malloc_tuned,
        "directory": str(Path.cwd()),
        "git": git_state(Path.cwd()),
    }


@functools.cache
def _library_versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"torch": torch.__version__}  # with its build


def differences(stored: Mapping[str, Any], device: torch.device) -> dict[str, str]:
    """What may give a run that was made elsewhere other bits than one made now on `device`.

    Args:
        stored: the run's provenance.

    Returns:
        "2.11, this is 2.15" by "torch" and "processor"; nothing where it is the same or was not recorded.
    """
    now = {"torch": torch.__version__, "processor": cpu_name() if device.type == "cpu" else device_name(device)}
    then = {
        "torch": stored.get("libraries", {}).get("torch"),
        "processor": stored.get("cpu") if stored.get("device") == "cpu" else stored.get("device"),
    }
    if then["torch"] == version("torch"):  # recorded without its build
        then["torch"] = torch.__version__
    return {name: f"{then[name]}, this is {now[name]}" for name in now if then[name] not in (None, now[name])}


@functools.cache
def cpu_name() -> str:
    """The processor's model as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """ "NVIDIA H200" for a CUDA device; its type otherwise."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and dirty flag of the repository around `folder`, or None where there is none."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "dirty": bool(git("status", "--porcelain"))}
