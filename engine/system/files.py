"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Suffix of a file that is being written.
PART = ".part"


def is_replaceable(path: Path) -> bool:
    """Whether a new file may take this name; a device such as /dev/null is written to, never replaced."""
    return path.is_file() or not path.exists()


class WholeFile:
    """A file that gets its name when it is complete; until then an older file of that name stays as it is.

    Args:
        path: the name. Its folder must exist.

    Attributes:
        part: where the contents are written, in the same folder. The caller makes it.
    """

    def __init__(self, path: Path):
        self.path = path
        self.part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")

    def commit(self, sync: bool = True) -> None:
        """Give the file its name; with ``sync``, only after the disk has all of it, so that a power cut loses nothing.

        Raises:
            OSError: the disk is full, or the folder is gone.
        """
        if sync:
            # Windows flushes only what is open for writing.
            with open(self.part, "r+b") as file:
                os.fsync(file.fileno())
        os.replace(self.part, self.path)

    def discard(self) -> None:
        """Remove what was written. Discarding twice is harmless."""
        self.part.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, sync: bool = True) -> Iterator[Path]:
    """The path to write to instead of ``path``. It becomes ``path`` at the end of the block, or is removed by an error.

    Args:
        path: name of the complete file. Its folder must exist.
        sync: as of :meth:`WholeFile.commit`.
    """
    file = WholeFile(path)
    try:
        yield file.part
        file.commit(sync)
    except BaseException:
        file.discard()
        raise


def write_whole(path: Path, *contents: bytes, sync: bool = True, private: bool = False) -> None:
    """Write ``contents``, one after the other, to a file that appears whole or not at all.

    Args:
        path: of the file. Its folder must exist.
        sync: as of :meth:`WholeFile.commit`.
        private: whether only this user may read and write the file, whatever the process's umask.

    Raises:
        OSError: the file cannot be written; an older one stays.
    """
    with whole_file(path, sync) as part:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(part, flags, 0o600 if private else 0o666), "wb") as stream:
            stream.writelines(contents)
