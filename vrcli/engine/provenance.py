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

from vrcli.version import __version__

_LIBRARIES = (
    *("torch", "torchvision", "numpy", "pillow", "datasets", "scikit-learn"),
    *("scikit-optimize", "pytorch-optimizer"),
)


def collect(device: torch.device, threads: int, *, malloc_tuned: bool) -> dict[str, Any]:
    """Versions, hardware, repository state and command line of this process, as plain JSON values.

    The store keeps it without passwords.
    """
    return {
        "argv": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": library_versions(),
        "vr": __version__,
        "device": device_name(device),
        "cpu": cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "malloc_tuned": malloc_tuned,
        "directory": str(Path.cwd()),
        "git": git_state(Path.cwd()),
    }


@functools.cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that numbers may depend on."""
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
        "2.11, this is 2.15" by "torch", "processor" and "instructions" (processors of one name may have others, or a
        virtual machine not show them); nothing where it is the same or was not recorded.
    """
    now = {"torch": torch.__version__, "processor": cpu_name() if device.type == "cpu" else device_name(device)}
    then = {
        "torch": stored.get("libraries", {}).get("torch"),
        "processor": stored.get("cpu") if stored.get("device") == "cpu" else stored.get("device"),
    }
    if device.type == "cpu":
        now["instructions"], then["instructions"] = torch.backends.cpu.get_cpu_capability(), stored.get("instructions")
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


#: A stranger's repository may name programs that git would run. With these it runs none of its own.
_NO_PROGRAMS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_NO_ACCESS = {
    "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "GIT_TERMINAL_PROMPT": "0",
}  # fmt: skip


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and dirty flag of the repository around `folder`, or None where there is none.

    Nothing that the repository's configuration names is executed, and changes inside submodules are not looked for.
    """

    def git(*words: str) -> str | None:
        command, env = ["git", "--no-pager", *_NO_PROGRAMS, *words], {**os.environ, **_NO_ACCESS}
        try:
            done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    filters = _own_filters(git("config", "--show-scope", "--name-only", "--get-regexp", r"^filter\.") or "")
    return {"commit": commit, "dirty": bool(git(*filters, "status", "--porcelain", "--ignore-submodules=dirty"))}


def _own_filters(listed: str) -> list[str]:
    """What turns off the content filters that a repository itself defines; those of the user and the system stay.

    Args:
        listed: by line, where an entry of git's configuration stands, and its name.
    """
    words = []
    for scope, _, name in (line.partition("\t") for line in listed.splitlines()):
        if scope not in ("system", "global", "command"):
            words += ["-c", f"{name}={'false' if name.endswith('.required') else ''}"]
    return words
