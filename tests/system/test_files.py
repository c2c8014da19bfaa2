"""Files appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.system.files import WholeFile, whole_file, write_whole


def test_contents_one_after_the_other(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"one", b"", b"two")
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert os.listdir(tmp_path) == ["a"]


def test_an_older_file_stays_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with whole_file(path) as part:
        part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert part.parent == path.parent
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [False, True])
def test_an_error_leaves_the_older_file_alone(tmp_path: Path, error: type[BaseException], written: bool) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write() -> None:
        with whole_file(path) as part:
            if written:
                part.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_disk_that_refuses(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "a", b"new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "gone" / "a", b"new")


def test_the_disk_is_waited_for_only_where_that_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_whole(tmp_path / "a", b"x", sync=False)
    assert not synced
    write_whole(tmp_path / "a", b"x")
    assert len(synced) == 1


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
@pytest.mark.parametrize(("private", "rights"), [(False, 0o666), (True, 0o600)])
def test_rights(tmp_path: Path, private: bool, rights: int) -> None:
    program = (
        "import os, sys; from pathlib import Path; from engine.system.files import write_whole; os.umask(0); "
        f"write_whole(Path(sys.argv[1]), b'x', private={private})"
    )
    subprocess.run([sys.executable, "-P", "-c", program, tmp_path / "a"], check=True)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == rights


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    one, other = WholeFile(tmp_path / "a"), WholeFile(tmp_path / "a")
    one.part.write_bytes(b"one")
    other.part.write_bytes(b"other")
    other.commit()
    one.commit()
    assert (tmp_path / "a").read_bytes() == b"one"
    one.discard()
    assert os.listdir(tmp_path) == ["a"]
