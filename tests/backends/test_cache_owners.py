"""The cache of engines on disk: nothing that somebody else could have put there is loaded or removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from backends.cached_engine import ENGINE, FACTS, load

from engine.backends import compiled_cache as cache_module
from engine.backends.compiled_cache import CompiledCache

POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")
SOMEBODY_ELSE = 54321


def _give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it belong to somebody else, or, where only root may do that, this process be somebody else's."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY_ELSE, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY_ELSE)


@POSIX
@pytest.mark.parametrize(
    ("mode", "reason"),
    [(0o777, "everybody"), (0o1777, "everybody"), (0o702, "everybody"), (0o775, "its group"),
     (0o2770, "its group"), (0o720, "its group")],
)  # fmt: skip
def test_folders_that_others_may_write_to(
    folder: Path, stored: Path, mode: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder.chmod(mode)
    assert load(folder) is None
    assert f"{reason} may write to" in caplog.text
    before = stored.read_bytes()
    CompiledCache(folder).store("encoder.0.float16", FACTS, b"other")
    assert [x.name for x in folder.iterdir()] == [stored.name]
    assert stored.read_bytes() == before


@POSIX
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o500])
def test_folders_that_others_may_read(folder: Path, stored: Path, mode: int) -> None:
    folder.chmod(mode)
    assert load(folder) == ENGINE


@POSIX
def test_a_folder_of_somebody_else(
    folder: Path, stored: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _give_away(folder, monkeypatch)
    assert load(folder) is None
    assert "belongs to user" in caplog.text
    CompiledCache(folder).store("y", FACTS, ENGINE)
    assert [x.name for x in folder.iterdir()] == [stored.name]


@POSIX
def test_files_of_somebody_else(
    folder: Path, stored: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Put there before the folder was closed: the digest is right, as anybody can compute it."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file somebody else's; the rule is that of folders")
    _give_away(stored, monkeypatch)
    assert load(folder) is None
    assert "belongs to user 54321" in caplog.text
    # It is built again, and the new one takes its place.
    CompiledCache(folder).store("encoder.0.float16", FACTS, ENGINE)
    assert load(folder) == ENGINE


@POSIX
@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_files_that_others_may_write_to(folder: Path, stored: Path, mode: int) -> None:
    stored.chmod(mode)
    assert load(folder) is None
    CompiledCache(folder).store("encoder.0.float16", FACTS, ENGINE)
    assert load(folder) == ENGINE
    assert stored.stat().st_mode & 0o777 == 0o600


@POSIX
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_what_was_planted_under_the_name_of_an_engine(folder: Path, stored: Path, tmp_path: Path, kind: str) -> None:
    """A link to a file with a right digest; and what would be waited for."""
    outside = tmp_path / "outside.engine"
    stored.rename(outside)
    if kind == "pipe":
        os.mkfifo(stored)
    elif kind == "folder":
        stored.mkdir()
    else:
        stored.symlink_to(outside if kind == "link" else tmp_path / "nothing")
    assert load(folder) is None
    CompiledCache(folder).store("encoder.0.float16", FACTS, b"other")
    assert outside.read_bytes().endswith(ENGINE)
    assert not (tmp_path / "nothing").exists()


def test_only_our_own_files_are_cleaned_up(folder: Path, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user keeps there, and however old it is."""
    monkeypatch.setattr(cache_module, "_MOST_FILES", 1)
    names = [
        "holiday.mp4.part", ".part", "x.part", f".{stored.name}.part", f"{stored.name}.0123abcd.part",
        f".{stored.name}.0123abcz.part", ".x.engine.0123abcd.part", "my.engine", "my-engine.engine", ".engine",
        f"x-{'0' * 31}.engine", f"x-{'0' * 33}.engine.bak", f"a b-{'0' * 32}.engine", "notes.txt",
    ]  # fmt: skip
    kept = [folder / name for name in names]
    for file in kept:
        file.write_bytes(b"mine")
    (folder / f"folder-{'0' * 32}.engine").mkdir()
    (folder / f"link-{'0' * 32}.engine").symlink_to(stored)
    ours = [folder / f".{stored.name}.0123abcd.part", folder / f"old-{'0' * 32}.engine"]
    for file in ours:
        file.write_bytes(b"ours")
    for file in (*kept, *ours, stored):
        os.utime(file, (0, 0))
    CompiledCache(folder).store("y", FACTS, ENGINE)
    assert all(file.read_bytes() == b"mine" for file in kept)
    assert not any(file.exists() for file in (*ours, stored))
    assert len(list(folder.iterdir())) == len(kept) + 3


@POSIX
def test_no_name_of_a_part_can_be_planted(folder: Path, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are drawn anew each time; one that is there, even if it was guessed, is not written through."""
    from engine.system import files

    victim = folder.parent / "victim"
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0123abcd")
    (folder / f".{stored.name}.0123abcd.part").symlink_to(victim)
    CompiledCache(folder).store("encoder.0.float16", FACTS, b"other")
    assert not victim.exists()
    assert load(folder) == ENGINE
