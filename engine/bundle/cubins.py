"""The GPU kernels of a bundle, compiled ahead of time, in one uncompressed archive."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import BundleError

CUBINS_FILE = "cubins.zip"
_INDEX = "index.json"
_FORMAT = 2
# What a damaged archive or index makes its reader raise.
_BROKEN = (zipfile.BadZipFile, KeyError, TypeError, ValueError, RecursionError, EOFError, OSError, NotImplementedError)
# The earliest time that the format knows: the same kernels always give the same bytes.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Cubins:
    """An archive of compiled kernels.

    Attributes:
        path: of the archive.
        entries: one mapping for each kernel, variant and architecture: ``kernel``, ``variant``, ``arch``; ``target``
            of the assembler; ``file`` in the archive, its symbol ``entry``; ``arguments`` as [name, Triton type] in
            the order of the launch (the addresses of two scratch buffers follow, of ``global_scratch`` and
            ``profile_scratch`` bytes); ``aligned``, the arguments that must be multiples of 16, addresses in
            bytes; ``blocks``, sizes by name, of which a launch computes its grid; ``num_warps``; and ``shared``, bytes
            of dynamic shared memory.
        compiler: versions of what compiled them.
    """

    path: Path
    entries: Sequence[Mapping[str, Any]]
    compiler: Mapping[str, Any]

    def read(self, file: str) -> bytes:
        """Contents of a ``file`` of the entries, as the driver loads it.

        Raises:
            BundleError: the archive has no such file.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                return _member(self.path, archive, file)
        except _BROKEN as error:
            raise BundleError(f"{self.path} cannot be read ({error}); {_renew(self.path)}") from error


def load_cubins(folder: Path) -> Cubins:
    """The kernels of a bundle, whose files :func:`engine.bundle.bundle.load_bundle` has checked.

    Raises:
        BundleError: it has none, or they are damaged or of another version.
    """
    path = folder / CUBINS_FILE
    if not path.is_file():
        raise BundleError(f"{folder}: no {CUBINS_FILE} there, so nothing to run on a GPU; {_renew(path)}")
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(_member(path, archive, _INDEX))
        if index["format"] == _FORMAT:
            return Cubins(path, tuple(dict(entry) for entry in index["kernels"]), dict(index["compiler"]))
    except _BROKEN as error:
        raise BundleError(f"{path} cannot be understood ({error}); {_renew(path)}") from error
    raise BundleError(f"{path}: format {index['format']!r}, this version reads {_FORMAT}; {_renew(path)}")


def pack_cubins(kernels: Sequence[Mapping[str, Any]], files: Mapping[str, bytes], compiler: Mapping[str, Any]) -> bytes:
    """An archive of ``files`` and of an index that lists ``kernels``; the same bytes for the same arguments."""
    index = {"format": _FORMAT, "compiler": compiler, "kernels": list(kernels)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {_INDEX: json.dumps(index).encode(), **files}.items():
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), content)
    return packed.getvalue()


def _renew(path: Path) -> str:
    """What to do about an archive that cannot be used."""
    return f"compile its kernels with: crowd export cubins {path.parent}"


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise BundleError(f"{path} lacks {name!r}; {_renew(path)}")
    entry = archive.getinfo(name)
    # Packed contents could be of any size, and encrypted ones are none of ours.
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size > path.stat().st_size:
        raise BundleError(f"{path}: {name!r} is not plainly stored; {_renew(path)}")
    return archive.read(name)
