"""Compiled segments ("engines") on disk, each under a key of all that it depends on; nothing of a runtime in here.

An engine is machine code for one GPU or CPU. A file therefore begins with a digest over its key and its contents,
which is checked before anyone loads it: a damaged file, a half-written one or one renamed from another machine is
built again. The digest shows damage, not who wrote the file: folder and file must belong to this user, or to root, and
nobody else may write to them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from engine.system.files import PART, write_whole

_log = logging.getLogger("engine")

_SUFFIX = ".engine"
# Names of engines, and of what a killed writer leaves of one. No other file of the folder is ever removed.
_OURS = re.compile(r"[A-Za-z0-9._-]+-[0-9a-f]{32}\.engine")
_OUR_PARTS = re.compile(rf"\.{_OURS.pattern}\.[0-9a-f]{{8}}{re.escape(PART)}")
_MAGIC = b"crowd engine 1\n"
_DIGEST_BYTES = 32
# Room for several models and drivers; of more, those not used for longest go.
_MOST_FILES = 128
# What a killed process left behind; a living one writes for seconds.
_PART_LIFETIME_S = 3600


# Environment variable that names the folder of compiled models, where no cache_dir does.
CACHE_VARIABLE = "CROWD_CACHE_DIR"


def compiled_folder(cache_dir: str | Path | None) -> Path | None:
    """Folder for what is compiled for this machine.

    ``cache_dir`` if it is given and not empty, else CROWD_CACHE_DIR of the environment, else the user's own cache
    folder (XDG_CACHE_HOME is honoured); None where this user has no home.
    """
    if cache_dir is not None and os.fspath(cache_dir):
        return Path(cache_dir)
    if named := os.environ.get(CACHE_VARIABLE, "").strip():
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME", "").strip():
        return Path(base) / "crowd-engine"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return (home / "AppData" / "Local" if os.name == "nt" else home / ".cache") / "crowd-engine"


def cache_key(facts: Mapping[str, object]) -> str:
    """Hexadecimal sha256 of facts that JSON can hold, whatever their order.

    >>> cache_key({"gpu": "A", "driver": 13000}) == cache_key({"driver": 13000, "gpu": "A"})
    True
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class CompiledCache:
    """Engines in a folder. It may be shared by threads and processes: a file appears whole or not at all.

    What goes wrong on disk is logged once and costs only time: the engine is then built again, or not kept. So it is
    where others may write to the folder, or to a file in it.

    Args:
        folder: made on first use, for this user alone; None keeps nothing.
    """

    def __init__(self, folder: str | Path | None):
        self._folder = None if folder is None else Path(folder)
        self._warned = False

    def load(self, name: str, facts: Mapping[str, object]) -> bytes | None:
        """The engine stored under these facts; None when there is none, or when it is damaged.

        Args:
            name: of the segment, for people who look into the folder.
            facts: all that the engine depends on.
        """
        if self._folder is None:
            return None
        key = cache_key(facts)
        file = self._file(name, key)
        try:
            self._check_folder()
            raw = _read(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"cannot be read ({error})")
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        if raw[:start] != _head(key, raw[start:]):
            _log.warning("%s is damaged or not of this machine; the engine is built again", file)
            return None
        _touch(file)
        return raw[start:]

    def store(self, name: str, facts: Mapping[str, object], engine: bytes) -> None:
        """Keep an engine for the next time."""
        if self._folder is None:
            return
        key = cache_key(facts)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_folder()
            # Not synchronised to the disk: after a power cut the digest tells.
            write_whole(self._file(name, key), _head(key, engine), engine, sync=False, private=True)
            self._tidy()
        except OSError as error:
            self._warn(f"cannot be written ({error})")

    def discard(self, name: str, facts: Mapping[str, object]) -> None:
        """Forget an engine that its runtime refused."""
        if self._folder is not None:
            try:
                self._file(name, cache_key(facts)).unlink(missing_ok=True)
            except OSError as error:
                self._warn(f"cannot be written ({error})")

    def _file(self, name: str, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{name}-{key[:32]}{_SUFFIX}"

    def _check_folder(self) -> None:
        assert self._folder is not None
        _check_owner(self._folder.stat(), f"the folder {self._folder}")

    def _tidy(self) -> None:
        """Remove what killed writers left, and the engines not used for longest."""
        assert self._folder is not None
        now = time.time()
        files = [x for x in self._folder.iterdir() if x.is_file() and not x.is_symlink()]
        parts = [x for x in files if _OUR_PARTS.fullmatch(x.name) and now - _last_use(x) > _PART_LIFETIME_S]
        engines = sorted((x for x in files if _OURS.fullmatch(x.name)), key=_last_use, reverse=True)
        for file in (*parts, *engines[_MOST_FILES:]):
            file.unlink(missing_ok=True)

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("the cache of engines in %s %s; engines are built at every start", self._folder, problem)


def _head(key: str, engine: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(key.encode() + engine).digest()


def _read(file: Path) -> bytes:
    """The contents of a file that nobody else can have written."""
    # What is checked is what is read: not the target of a link, and nothing that would be waited for.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(file, flags), "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise PermissionError(f"{file} is no file")
        _check_owner(found, str(file))
        return stream.read()


def _check_owner(found: os.stat_result, name: str) -> None:
    """Refuse what somebody else than this user and root may write to.

    Raises:
        PermissionError: they may.
    """
    if os.name != "posix":
        return
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(f"{name} belongs to user {found.st_uid}, and engines are code; use a folder of your own")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "everybody" if found.st_mode & stat.S_IWOTH else "its group"
        raise PermissionError(f"{who} may write to {name}, and engines are code; use a private folder (chmod go-w)")


def _last_use(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        # Another process removed it since it was listed.
        return 0.0


def _touch(file: Path) -> None:
    # So that what is used stays. A folder that cannot be written is never tidied, so there it does not matter.
    with suppress(OSError):
        os.utime(file)
