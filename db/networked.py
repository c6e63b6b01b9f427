"""Whether a file lies on another machine's disk, where SQLite's locks and its journal may not hold."""

from __future__ import annotations

from pathlib import Path

import psutil

#: Types of file systems whose locks are known to fail, at some servers or under some options.
TYPES = frozenset(
    {"nfs", "nfs3", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afpfs", "afs", "lustre", "gpfs", "beegfs", "ceph",
     "glusterfs", "panfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse"}
)  # fmt: skip


def network_type(path: Path) -> str | None:
    """The type of the network file system that a file is on, "nfs4"; None where it is on none, as far as is known."""
    try:
        mounts = psutil.disk_partitions(all=True)
        real = path.resolve()
    except OSError:
        return None
    around = [mount for mount in mounts if real.is_relative_to(mount.mountpoint)]
    fstype = max(around, key=lambda mount: len(mount.mountpoint)).fstype if around else ""
    return fstype if fstype in TYPES else None


def warning(path: Path | None, label: str) -> tuple[str, ...]:
    """What the user should know before two processes write there."""
    found = None if path is None else network_type(path)
    if found is None:
        return ()
    return (
        f"{label} is on a network file system ({found}), where SQLite's locks may fail: let one machine write to it, "
        "or use PostgreSQL (--db postgresql://user@host/name)",
    )
