"""A model on disk: a folder with a manifest, graphs and weights, checked before anything runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.config import CountingRule, ModelConfig
from engine.errors import BundleError

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "weights.safetensors"
PROGRAMS = ("encoder", "decoder")
KERNELS = ("criss_cross_attention",)
_DEFAULT = Path(__file__).parent / "bundles" / "default"
# No separators, no leading dot: such a name cannot leave the folder on any system.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class SegmentStage:
    """Run the graph in file ``graph``: named tensors in, named tensors out.

    ``typed`` names files of the same segment in other types, by type: for runtimes that take types from the graph.
    """

    graph: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    typed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitStage:
    """Views of ``input``, cut along its last axis into ``sizes``; nothing is copied."""

    input: str
    sizes: tuple[int, ...]
    outputs: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one input, as the other stages name theirs."""
        return (self.input,)


@dataclass(frozen=True)
class KernelStage:
    """Run the kernel called ``kernel``; inputs in the order of its arguments."""

    kernel: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Stage = SegmentStage | SplitStage | KernelStage


@dataclass(frozen=True)
class ProgramSpec:
    """One half of the network: as one ``graph`` for other runtimes, and as ``stages`` for ours."""

    graph: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stages: tuple[Stage, ...]


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
        accuracy: scores measured when the model was calibrated, as written; may be empty.
        versions: of the packages that exported it.
        digest: sha256 of the manifest, and so of every file; a key for caches.
    """

    path: Path
    name: str
    model: ModelConfig
    default_steps: int
    counting: dict[int, CountingRule]
    programs: dict[str, ProgramSpec]
    accuracy: dict[str, Any]
    versions: dict[str, str]
    digest: str

    def rule(self, steps: int) -> CountingRule:
        """The rule of the calibrated number of steps nearest to ``steps``; of two, the smaller."""
        return self.counting[min(self.counting, key=lambda known: (abs(known - steps), known))]


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check every file of it.

    Args:
        path: a bundle folder, or ``"default"`` for the model that ships with the package.

    Errors: BundleError when a file is missing, altered, or of another version.
    """
    folder = _DEFAULT if path == "default" else Path(path)
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise BundleError(f"{folder}: no {MANIFEST_FILE} there; expected a folder written by crowd export")
    raw = file.read_bytes()
    try:
        manifest = json.loads(raw)
        _check_version(folder, manifest)
        _check_files(folder, manifest["files"])
        bundle = _parse(folder, manifest, hashlib.sha256(raw).hexdigest())
        _check_programs(bundle, manifest["files"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder, f"{MANIFEST_FILE} cannot be understood ({type(error).__name__}: {error})") from error
    return bundle


def write_manifest(
    path: str | Path,
    *,
    name: str,
    model: ModelConfig,
    default_steps: int,
    counting: Mapping[int, CountingRule],
    programs: Mapping[str, ProgramSpec],
    accuracy: Mapping[str, Any] | None = None,
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
        "accuracy": dict(accuracy or {}),
        "versions": dict(versions or {}),
        "files": {x.name: {"size": x.stat().st_size, "sha256": _sha256(x)} for x in files},
    }
    _replace(folder / MANIFEST_FILE, _encoded(manifest))
    return load_bundle(folder)


def add_files(path: str | Path, contents: Mapping[str, bytes], versions: Mapping[str, str]) -> Bundle:
    """Put files into a bundle, such as kernels compiled for GPUs, or replace them, and load the result.

    Args:
        path: the bundle's folder.
        contents: of the files, by name.
        versions: of the packages that made them.

    Each file is replaced whole, the manifest last: a bundle whose writing was cut short is refused, not misread.
    """
    folder = load_bundle(path).path
    manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
    for name, content in contents.items():
        _replace(folder / name, content)
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"] = dict(sorted(manifest["files"].items()))
    manifest["versions"].update(versions)
    _replace(folder / MANIFEST_FILE, _encoded(manifest))
    return load_bundle(folder)


def _replace(file: Path, content: bytes) -> None:
    part = file.with_name(file.name + ".part")
    part.write_bytes(content)
    os.replace(part, file)


def _encoded(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _damaged(folder: Path, problem: str) -> BundleError:
    return BundleError(f"{folder}: {problem}; the bundle is damaged or altered: export or install it again")


def _check_version(folder: Path, manifest: dict[str, Any]) -> None:
    version = manifest["format"]
    if version != FORMAT_VERSION:
        advice = "update the engine" if isinstance(version, int) and version > FORMAT_VERSION else "export it again"
        raise BundleError(f"{folder}: bundle format {version!r}, expected {FORMAT_VERSION}; {advice}")


def _check_files(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    for name, record in files.items():
        if not _PLAIN_NAME.fullmatch(name):
            raise _damaged(folder, f"the manifest lists {name!r}, which is not a plain file name")
        file = folder / name
        if file.is_symlink() or not file.is_file():
            raise _damaged(folder, f"{name} is missing")
        size = file.stat().st_size
        if size != record["size"]:
            raise _damaged(folder, f"{name} has {size} bytes, expected {record['size']}")
        if _sha256(file) != record["sha256"]:
            raise _damaged(folder, f"{name} is not the file that was exported (its sha256 differs)")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _parse(folder: Path, manifest: dict[str, Any], digest: str) -> Bundle:
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    settings: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in manifest["model"].items()}
    if set(settings) != known:
        wrong = ", ".join(sorted(set(settings) ^ known))
        raise BundleError(f"{folder}: the model's settings do not match this engine ({wrong}); export it again")
    counting = {int(steps): _rule(folder, rule) for steps, rule in manifest["counting"].items()}
    steps = manifest["default_steps"]
    if not counting or min(counting) < 1 or type(steps) is not int or steps < 1:
        raise _damaged(folder, "its counting rules or default steps are missing")
    return Bundle(
        path=folder,
        name=str(manifest["name"]),
        model=ModelConfig(**settings),
        default_steps=steps,
        counting=counting,
        programs={name: _program(manifest["programs"][name]) for name in PROGRAMS},
        accuracy=dict(manifest["accuracy"]),
        versions=dict(manifest["versions"]),
        digest=digest,
    )


def _rule(folder: Path, rule: dict[str, float]) -> CountingRule:
    low, high = float(rule["low"]), float(rule["high"])
    if not 0 < low <= high <= 1:
        raise _damaged(folder, f"counting thresholds {low} to {high} are not within 0 < low <= high <= 1")
    least, most = float(rule.get("least", 1.0)), float(rule.get("most", 1.0))
    if not 0 < least <= 1 <= most < float("inf"):
        raise _damaged(folder, f"interval ratios {least} and {most} are not within 0 < least <= 1 <= most")
    return CountingRule(low, high, least, most)


def _program(entry: dict[str, Any]) -> ProgramSpec:
    stages = tuple(_stage(stage) for stage in entry["stages"])
    return ProgramSpec(str(entry["graph"]), tuple(entry["inputs"]), tuple(entry["outputs"]), stages)


def _stage(entry: dict[str, Any]) -> Stage:
    if "sizes" in entry:
        return SplitStage(entry["input"], tuple(entry["sizes"]), tuple(entry["outputs"]))
    inputs, outputs = tuple(entry["inputs"]), tuple(entry["outputs"])
    if "graph" in entry:
        return SegmentStage(entry["graph"], inputs, outputs, dict(entry.get("typed", {})))
    return KernelStage(entry["kernel"], inputs, outputs)


def _check_programs(bundle: Bundle, files: dict[str, Any]) -> None:
    """Every graph is a listed file, every kernel is known, and every tensor is made before it is used."""
    for name, program in bundle.programs.items():
        segments = [stage for stage in program.stages if isinstance(stage, SegmentStage)]
        for graph in (program.graph, *(file for stage in segments for file in (stage.graph, *stage.typed.values()))):
            if graph not in files:
                raise _damaged(bundle.path, f"program {name} uses {graph!r}, which the manifest does not list")
        known = set(program.inputs)
        for stage in program.stages:
            if isinstance(stage, KernelStage) and stage.kernel not in KERNELS:
                raise BundleError(f"{bundle.path}: kernel {stage.kernel!r} is not in this engine; update the engine")
            if not known.issuperset(stage.inputs):
                missing = ", ".join(sorted(set(stage.inputs) - known))
                raise _damaged(bundle.path, f"program {name} uses {missing} before it is made")
            known.update(stage.outputs)
        if not known.issuperset(program.outputs):
            raise _damaged(bundle.path, f"program {name} does not make all of its outputs")
