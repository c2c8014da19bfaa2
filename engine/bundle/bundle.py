"""A model on disk: a folder with a manifest, graphs and weights, checked before anything runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bundle.cubins import CUBINS_FILE
from engine.bundle.manifest import (
    LATER_SETTINGS,
    MANIFEST_FILE,
    MOST_STEPS,
    as_model,
    as_rules,
    as_text,
    as_whole,
    read_manifest,
)
from engine.bundle.onnx_file import read_onnx
from engine.bundle.onnx_parts import OnnxFile
from engine.bundle.program_check import check_program as check_shapes
from engine.bundle.stages import (
    KERNELS,
    PROGRAMS,
    KernelStage,
    ProgramSpec,
    SegmentStage,
    SplitStage,
    Stage,
    as_program,
    check_program,
)
from engine.config import CountingRule, ModelConfig
from engine.errors import BundleError
from engine.system.files import write_whole

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_FILE",
    "WEIGHTS_FILE",
    "Bundle",
    "KernelStage",
    "ProgramSpec",
    "SegmentStage",
    "SplitStage",
    "Stage",
    "add_files",
    "load_bundle",
    "write_manifest",
]

FORMAT_VERSION = 2
WEIGHTS_FILE = "weights.safetensors"
_DEFAULT = Path(__file__).parent / "default"
# No separators, no leading dot: such a name cannot leave the folder on any system.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_MOST_BYTES, _MOST_FILES = 1 << 31, 1000


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        path: its folder.
        name: of the model.
        model: shape of the network.
        default_steps: denoising steps when the caller names none.
        counting: calibrated rules by number of steps; see :meth:`rule`.
        programs: ``"encoder"`` and ``"decoder"``.
        versions: of the packages that exported it.
        digest: sha256 of the manifest, and so of every file; a key for caches.
    """

    path: Path
    name: str
    model: ModelConfig
    default_steps: int
    counting: dict[int, CountingRule]
    programs: dict[str, ProgramSpec]
    versions: dict[str, str]
    digest: str


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check every file of it.

    Args:
        path: a bundle folder, or ``"default"`` for the model that ships with the package.

    Errors: BundleError when a file is missing, altered, or of another version.
    """
    folder = _DEFAULT if path == "default" else Path(path)
    file = folder / MANIFEST_FILE
    try:
        if not _is_file(file):
            raise BundleError(f"{folder}: no {MANIFEST_FILE} there; expected a folder written by crowd export")
        raw, manifest = read_manifest(file)
        _check_version(folder, manifest)
        _check_files(folder, manifest["files"])
        bundle = _parse(folder, manifest, hashlib.sha256(raw).hexdigest())
        _check_programs(bundle)
        _check_graphs(bundle, manifest["files"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder, f"{MANIFEST_FILE} cannot be understood ({type(error).__name__}: {error})") from error
    except OSError as error:
        raise BundleError(f"{folder} cannot be read ({error}); check its permissions and its disk") from error
    return bundle


def write_manifest(
    path: str | Path,
    *,
    name: str,
    model: ModelConfig,
    default_steps: int,
    counting: Mapping[int, CountingRule],
    programs: Mapping[str, ProgramSpec],
    versions: Mapping[str, str] | None = None,
) -> Bundle:
    """Hash every file in folder ``path``, write its manifest whole or not at all, and load the result."""
    folder = Path(path)
    files = sorted(x for x in folder.iterdir() if x.name != MANIFEST_FILE)
    manifest = {
        "format": FORMAT_VERSION,
        "name": name,
        "model": dataclasses.asdict(model),
        "default_steps": default_steps,
        "counting": {str(steps): dataclasses.asdict(rule) for steps, rule in sorted(counting.items())},
        # Each kind of stage has a field of its own (graph, sizes or kernel), which tells them apart.
        "programs": {key: dataclasses.asdict(program) for key, program in programs.items()},
        "versions": dict(versions or {}),
        "files": {x.name: {"size": x.stat().st_size, "sha256": _sha256(x)} for x in files},
    }
    write_whole(folder / MANIFEST_FILE, _encoded(manifest))
    return load_bundle(folder)


def add_files(
    path: str | Path,
    contents: Mapping[str, bytes],
    versions: Mapping[str, str],
    programs: Mapping[str, ProgramSpec] | None = None,
) -> Bundle:
    """Put files into a bundle, such as kernels compiled for GPUs, or replace them, and load the result.

    Args:
        path: the bundle's folder.
        contents: of the files, by name.
        versions: of the packages that made them.
        programs: that use them; None leaves the bundle's own.

    Each file is replaced whole, the manifest last: a bundle whose writing was cut short is refused, not misread.
    """
    folder = load_bundle(path).path
    manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
    for name, content in contents.items():
        write_whole(folder / name, content)
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"] = dict(sorted(manifest["files"].items()))
    manifest["versions"].update(versions)
    if programs is not None:
        manifest["programs"] = {key: dataclasses.asdict(program) for key, program in programs.items()}
    write_whole(folder / MANIFEST_FILE, _encoded(manifest))
    return load_bundle(folder)


def _encoded(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _damaged(folder: Path, problem: str) -> BundleError:
    return BundleError(f"{folder}: {problem}; the bundle is damaged or altered: export or install it again")


def _check_version(folder: Path, manifest: dict[str, Any]) -> None:
    version = manifest["format"]
    # True is 1 in Python.
    if type(version) is not int or version != FORMAT_VERSION:
        again = "make it anew from its checkpoint: crowd export CHECKPOINT BUNDLE"
        advice = "update the engine" if isinstance(version, int) and version > FORMAT_VERSION else again
        raise BundleError(f"{folder}: bundle format {version!r}, expected {FORMAT_VERSION}; {advice}")


def _check_files(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    if len(files) > _MOST_FILES:
        raise _damaged(folder, f"the manifest lists {len(files)} files")
    for name, record in files.items():
        if not _PLAIN_NAME.fullmatch(name):
            raise _damaged(folder, f"the manifest lists {name!r}, which is not a plain file name")
        expected = as_whole(record["size"], 0, _MOST_BYTES)
        file = folder / name
        if file.is_symlink():
            raise BundleError(f"{folder}: {name} is a link; copy the bundle with what its links lead to (cp -rL)")
        if not _is_file(file):
            raise _damaged(folder, f"{name} is missing")
        size = file.stat().st_size
        if size != expected:
            raise _damaged(folder, f"{name} has {size} bytes, expected {expected}")
        if _sha256(file) != record["sha256"]:
            raise _damaged(folder, f"{name} is not the file that was exported (its sha256 differs)")
    # Those that are found by their name, and not through the manifest.
    for name in (WEIGHTS_FILE, CUBINS_FILE):
        if name not in files and (folder / name).exists():
            raise _damaged(folder, f"{name} is there, but the manifest does not list it")


def _is_file(path: Path) -> bool:
    """As ``Path.is_file()`` until Python 3.13; later it says False, too, where a folder cannot be looked into."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _parse(folder: Path, manifest: dict[str, Any], digest: str) -> Bundle:
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    settings = LATER_SETTINGS | manifest["model"]
    if settings.keys() != known:
        wrong = ", ".join(sorted(map(repr, settings.keys() ^ known)))
        raise BundleError(f"{folder}: the model's settings do not match this engine ({wrong}); export it again")
    counting, steps = as_rules(manifest["counting"]), manifest["default_steps"]
    if not counting or type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        raise _damaged(folder, "its counting rules or default steps are missing")
    return Bundle(
        path=folder,
        name=as_text(manifest["name"]),
        model=as_model(settings),
        default_steps=steps,
        counting=counting,
        programs={name: as_program(name, manifest["programs"][name]) for name in PROGRAMS},
        versions={as_text(name): as_text(version) for name, version in manifest["versions"].items()},
        digest=digest,
    )


def _check_programs(bundle: Bundle) -> None:
    for name, program in bundle.programs.items():
        for stage in program.stages:
            if isinstance(stage, KernelStage) and stage.kernel not in KERNELS:
                raise BundleError(f"{bundle.path}: kernel {stage.kernel!r} is not in this engine; update the engine")
        check_program(name, program)


def _check_graphs(bundle: Bundle, files: dict[str, Any]) -> None:
    """Every graph is a listed file, and nothing but a graph of this engine that fits the others."""
    weights = {name: record["size"] for name, record in files.items() if name.endswith(".safetensors")}
    known: dict[str, OnnxFile] = {}

    def read(graph: str) -> OnnxFile:
        if graph not in known:
            known[graph] = read_onnx((bundle.path / graph).read_bytes(), weights)
        return known[graph]

    for name, program in bundle.programs.items():
        segments = [stage for stage in program.stages if isinstance(stage, SegmentStage)]
        for graph in (program.graph, *(file for stage in segments for file in (stage.graph, *stage.typed.values()))):
            if graph not in files:
                raise _damaged(bundle.path, f"program {name} uses {graph!r}, which the manifest does not list")
            # OpenVINO tells formats apart by their names, and has some that are not checked here.
            if not graph.endswith(".onnx"):
                raise _damaged(bundle.path, f"program {name} uses {graph!r}, expected a file that ends in .onnx")
        try:
            check_shapes(name, program, bundle.model, read)
        except ValueError as error:
            raise BundleError(f"{bundle.path}: {error}; export it again") from error
