"""Is the process that writes a run still alive?

A pid alone does not say: pids are used again, and are another's on another host or in another container. A process is
known by host, pid and a token "boot/namespace/start": the kernel's boot id, the pid namespace and the start time in
ticks since boot. Unlike a start time in seconds the token does not move when the clock is set.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import psutil

#: A process that cannot be looked at (another host, another container, a machine of the same name) holds what it
#: writes by a lease: it renews it so often, and has lost it after so long a silence.
RENEWED_S = 20.0
LEASE = timedelta(seconds=60)


@dataclass(frozen=True)
class Process:
    """The identity of a process."""

    host: str
    pid: int
    token: str


@cache
def _here() -> tuple[str, str]:
    """Boot id and pid namespace of this process; empty where the system has none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot, os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return "", ""


def _start(pid: int) -> str | None:
    """When the process with this pid began, as text; None where there is none, or only its zombie."""
    try:
        # The command name in the second field may hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None


def current() -> Process:
    """The identity of this process."""
    return _identity(os.getpid())


@cache
def _identity(pid: int) -> Process:
    return identity(pid)


def identity(pid: int) -> Process:
    """The identity of a process of this host that is alive."""
    return Process(socket.gethostname(), pid, "/".join((*_here(), _start(pid) or "")))


def answers(host: str, pid: int, token: str, heartbeat_at: datetime, now: datetime | None = None) -> bool:
    """Whether a process is alive, as far as can be told from here.

    Args:
        heartbeat_at: when it was last heard of.
        now: by the clock that `heartbeat_at` was taken from; None for this machine's.
    """
    return not is_dead(Process(host, pid, token), heartbeat_at, now or datetime.now(UTC))


def is_dead(process: Process, heartbeat_at: datetime, now: datetime) -> bool:
    """True only where the process is known to be gone, or its lease is over where it cannot be looked at.

    A process of this host that is suspended is alive, however long it is silent.
    """
    over = now - heartbeat_at > LEASE
    boot, _, rest = process.token.partition("/")
    namespace, _, start = rest.partition("/")
    here_boot, here_namespace = _here()
    if process.host != socket.gethostname() or boot != here_boot or namespace != here_namespace:
        return over
    return _start(process.pid) != start
