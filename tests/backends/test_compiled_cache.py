"""The cache of engines on disk: whatever happens to its files, an engine comes back whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from backends.cached_engine import ENGINE, FACTS, load

from engine.backends import compiled_cache as cache_module
from engine.backends.compiled_cache import CompiledCache, cache_key


def test_what_is_stored_comes_back(folder: Path, stored: Path) -> None:
    assert load(folder) == ENGINE
    assert stored.name.startswith("encoder.0.float16-")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_nothing_is_kept_without_a_folder() -> None:
    cache = CompiledCache(None)
    cache.store("x", FACTS, ENGINE)
    assert cache.load("x", FACTS) is None


def test_a_missing_engine_is_no_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(folder) is None
    assert not folder.exists()
    assert caplog.records == []


@pytest.mark.parametrize(
    "other",
    [
        {"gpu": {"name": "A100", "capability": "9.0", "driver": 13000}},
        {"gpu": {"name": "H200", "capability": "9.0", "driver": 13010}},
        {"library": "tensorrt 10.10"},
        {"library": "tensorrt_rtx 10.9"},
        {"graph": "ab13"},
        {"shapes": [1, 32, 32]},
    ],
)
def test_other_facts_are_another_engine(folder: Path, stored: Path, other: dict) -> None:
    cache = CompiledCache(folder)
    facts = {**FACTS, **other}
    assert cache.load("encoder.0.float16", facts) is None
    # Nor is it taken under a name that it was not stored under.
    stored.rename(folder / stored.name.replace(cache_key(FACTS)[:32], cache_key(facts)[:32]))
    assert cache.load("encoder.0.float16", facts) is None


@pytest.mark.parametrize("bit", [0, 7, 8 * 15, 8 * 20 + 3, 8 * 47, 8 * 5000 + 1, -1])
def test_a_flipped_bit_is_seen(folder: Path, stored: Path, bit: int, caplog: pytest.LogCaptureFixture) -> None:
    raw = bytearray(stored.read_bytes())
    raw[bit // 8] ^= 1 << bit % 8
    stored.write_bytes(raw)
    assert load(folder) is None
    assert [x.levelname for x in caplog.records] == ["WARNING"]
    assert "damaged" in caplog.text
    CompiledCache(folder).store("encoder.0.float16", FACTS, ENGINE)
    assert load(folder) == ENGINE


@pytest.mark.parametrize("length", [0, 1, 14, 46, 47, 48, 10286])
def test_a_truncated_file_is_seen(folder: Path, stored: Path, length: int) -> None:
    assert length < stored.stat().st_size
    os.truncate(stored, length)
    assert load(folder) is None


def test_a_longer_file_is_seen(folder: Path, stored: Path) -> None:
    stored.write_bytes(stored.read_bytes() + b"\0")
    assert load(folder) is None


def test_discarded_engines_are_gone(folder: Path, stored: Path) -> None:
    cache = CompiledCache(folder)
    cache.discard("encoder.0.float16", FACTS)
    cache.discard("encoder.0.float16", FACTS)
    assert list(folder.iterdir()) == []


def _fail(code: int):
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


# Permissions do not bind root, which tests may run as; so the calls that would fail are made to.
@pytest.mark.parametrize(
    ("call", "code"),
    [("os.open", errno.EROFS), ("os.open", errno.EACCES), ("os.fdopen", errno.ENOSPC),
     ("os.replace", errno.ENOSPC), ("Path.mkdir", errno.EROFS)],
)  # fmt: skip
def test_a_disk_that_takes_nothing(
    folder: Path, call: str, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    owner, name = call.split(".")
    monkeypatch.setattr(getattr(cache_module, owner), name, _fail(code))
    cache = CompiledCache(folder)
    for _ in range(3):
        cache.store("x", FACTS, ENGINE)
        assert cache.load("x", FACTS) is None
    assert [x.levelname for x in caplog.records] == ["WARNING"]
    assert os.strerror(code) in caplog.text
    monkeypatch.undo()
    assert list(folder.iterdir()) == []


def test_a_disk_that_fills_up_half_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has a device that is always full")
    real = os.open

    def open_full(part: Path, *_: int) -> int:
        part.write_bytes(b"")
        return real("/dev/full", os.O_WRONLY)

    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "open", open_full)
    CompiledCache(folder).store("x", FACTS, ENGINE)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_read(
    folder: Path, stored: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "open", _fail(errno.EIO))
    assert load(folder) is None
    assert "cannot be read" in caplog.text


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("mine")
    cache = CompiledCache(tmp_path / "cache")
    cache.store("x", FACTS, ENGINE)
    assert cache.load("x", FACTS) is None
    assert (tmp_path / "cache").read_text() == "mine"
    assert len(caplog.records) == 1


WRITER = """
import sys
from engine.backends.compiled_cache import CompiledCache
cache = CompiledCache(sys.argv[1])
print("ready", flush=True)
while True:
    for number in range(4):
        cache.store("x", {"number": number}, bytes([number]) * 3_000_000)
"""


@pytest.mark.skipif(os.name != "posix", reason="the process is forked, to be killed often")
def test_killed_writers_leave_no_partial_engine(folder: Path) -> None:
    """Writers are stopped by SIGKILL at random moments; forked ones, as 200 starts of Python take a minute."""
    cache = CompiledCache(folder)
    program = f"""
import os, random, signal, sys, time
sys.argv[1:] = [{str(folder)!r}]
random.seed(0)
source = {WRITER!r}.replace('print("ready", flush=True)', "")
import engine.backends.compiled_cache
for _ in range(200):
    writer = os.fork()
    if writer == 0:
        exec(source)
    time.sleep(random.uniform(0, 0.02))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
    engines = list(folder.glob("*.engine"))
    for number in range(4):
        found = cache.load("x", {"number": number})
        assert found in (None, bytes([number]) * 3_000_000)
    assert len(engines) <= 4
    assert sum(cache.load("x", {"number": number}) is not None for number in range(4)) == len(engines) > 0
    # What they were writing when they died goes once it is old.
    parts = list(folder.glob("*.part"))
    assert parts
    for part in parts:
        os.utime(part, (0, 0))
    cache.store("y", FACTS, ENGINE)
    assert list(folder.glob("*.part")) == []
    assert len(list(folder.glob("*.engine"))) == len(engines) + 1


def test_parts_of_living_writers_stay(folder: Path, stored: Path) -> None:
    part = folder / f".{stored.name}.0123abcd.part"
    part.write_bytes(b"half")
    CompiledCache(folder).store("y", FACTS, ENGINE)
    assert part.exists()


def test_writers_at_once(folder: Path) -> None:
    """Threads and a process store and load the same two engines; every load is one of them, whole."""
    engines = {x: bytes([x]) * 200_000 for x in range(2)}
    process = subprocess.Popen([sys.executable, "-P", "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    wrong: list[int] = []

    def work() -> None:
        cache = CompiledCache(folder)
        for _ in range(30):
            for number, engine in engines.items():
                facts = {"thread": number}
                cache.store("x", facts, engine)
                if cache.load("x", facts) != engine:
                    wrong.append(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.send_signal(signal.SIGTERM)
    process.wait()
    process.stdout.close()
    assert wrong == []


def test_engines_not_used_for_longest_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_MOST_FILES", 3)
    cache = CompiledCache(folder)
    for number in range(3):
        cache.store("x", {"number": number}, ENGINE)
        past = time.time() - 1000 + number
        (file,) = folder.glob(f"*{cache_key({'number': number})[:32]}*")
        os.utime(file, (past, past))
    # The oldest is used, so the next one goes.
    assert cache.load("x", {"number": 0}) == ENGINE
    cache.store("x", {"number": 3}, ENGINE)
    assert [cache.load("x", {"number": x}) is not None for x in range(4)] == [True, False, True, True]


def test_messages_come_from_the_engine(folder: Path, stored: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored.write_bytes(b"")
    with caplog.at_level(logging.WARNING, "engine"):
        load(folder)
    assert {x.name for x in caplog.records} == {"engine"}
