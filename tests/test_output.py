"""One place to write to: whole or not at all, through links, into pipes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vrcli.db.location import Location
from vrcli.errors import UsageError, VrError
from vrcli.output import Folder, Target


def _write(path: Path, text: str, then: Callable[[], object] = lambda: None) -> None:
    with Target(path).part() as part:
        part.write_text(text)
        then()


def _full() -> None:
    raise OSError(28, "No space left on device")


def test_what_fails_leaves_nothing_and_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    _write(path, "first")
    with pytest.raises(ZeroDivisionError):
        _write(path, "half", lambda: 1 // 0)
    with pytest.raises(VrError, match=r"^--output .*a\.csv cannot be written: No space left"):
        _write(path, "half", _full)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.csv": "first"}


def test_what_appears_while_writing_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(UsageError, match="is there already; --force replaces it"):
        _write(path, "ours", lambda: path.write_text("another's"))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.csv": "another's"}


def test_vr_s_own_is_known_wherever_it_is_called_from_and_an_empty_file_is_nobody_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").touch()
    monkeypatch.chdir(tmp_path)
    Target(Path("a.csv")).write_text("first")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    Target(Path("../a.csv")).write_text("second")
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    with pytest.raises(UsageError, match="is there already"):
        Target(Path("../b.csv")).write_text("third")
    assert (tmp_path / "b.csv").read_text() == "second"


def test_a_link_stays_and_the_file_behind_it_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, file = tmp_path / "a.csv", tmp_path / "there" / "b.csv"
    link.symlink_to(file)
    Target(link).write_text("first")
    file.chmod(0o640)
    Target(link).write_text("second")
    assert link.is_symlink()
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("second", 0o640)


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    Target(pipe).write_text("text")
    reader.join(20)
    assert read == ["text"]
    assert pipe.is_fifo()
    with pytest.raises(UsageError, match="is a file; events is written to a folder"):
        Folder(pipe, kind="events").check()


def test_standard_output_goes_on_where_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.write(1, b"before\n")
    Target(Path("/dev/stdout")).write_text("text\n")
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "before\ntext\nafter\n"


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    Target(tmp_path / "new.html").check()
    with pytest.raises(UsageError, match=r"^--data .* is a folder; name a file$"):
        Target(tmp_path, "--data").check()
    with pytest.raises(UsageError, match="there is no folder"):
        Target(tmp_path / "missing" / "new.html").check()
    with pytest.raises(UsageError, match=r"^--output .*aaa cannot be written: File name too long$"):
        Target(tmp_path / ("a" * 300)).check()


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
@pytest.mark.parametrize("how", ["path", "link", "hard link", "url"])
def test_no_file_of_the_database_is_written_over(tmp_path: Path, ending: str, how: str) -> None:
    database = tmp_path / "vr.db"
    own = tmp_path / f"vr.db{ending}"
    own.touch()
    asked = own
    if how == "link":
        asked = tmp_path / "link.csv"
        asked.symlink_to(own)
    elif how == "hard link":
        asked = tmp_path / "hard.csv"
        asked.hardlink_to(own)
    where = f"sqlite:///{database}" if how == "url" else str(database)
    with pytest.raises(UsageError, match=r"^--data .* is the database that is read; name another file$"):
        Target(asked, "--data", Location(where), force=True).check()


def test_a_file_beside_the_database_is_fine(tmp_path: Path) -> None:
    (tmp_path / "vr.db").touch()
    Target(tmp_path / "vr.csv", database=Location(tmp_path / "vr.db")).check()
    Target(tmp_path / "vr.db", database=Location("postgresql://someone@host/vr")).check()
