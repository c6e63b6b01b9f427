"""Databases on network file systems, told by the table of mounts that the system gives."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vrcli.db.networked import network_type
from vrcli.db.store import Store


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that the table says is another machine's. There is no server here that one could mount."""
    far = tmp_path / "far"
    (far / "near").mkdir(parents=True)
    rows = [("/", "ext4"), (str(far), "nfs4"), (str(far / "near"), "tmpfs")]
    table = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in rows]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: table)
    return far


def test_the_innermost_mount_decides(mounted: Path, tmp_path: Path) -> None:
    assert network_type(mounted / "vr.db") == "nfs4"
    assert network_type(mounted / "near" / "vr.db") is None
    assert network_type(tmp_path / "vr.db") is None


def test_whoever_writes_there_is_told_of_it(mounted: Path) -> None:
    with Store.open(mounted / "vr.db") as store:
        assert len(store.notices) == 1
        assert "vr.db is on a network file system (nfs4), where SQLite's locks may fail" in store.notices[0]
    with Store.open(mounted / "vr.db", mode="read") as store:
        assert store.notices == ()


def test_this_machines_own_table_can_be_read(tmp_path: Path) -> None:
    network_type(tmp_path / "vr.db")
