"""``crowd doctor``: what runs on this machine, and how to add what does not."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from engine.backends.registry import create_backend
from engine.bundle.bundle import load_bundle
from engine.cli.extras import Extra, check_extras
from engine.cli.gpu import Gpu, check_gpu
from engine.cli.machine import PACKAGES, Cpu, Cuda, probe_cuda, read_cpu, read_versions
from engine.config import CounterConfig
from engine.counting.heads import candidate_threshold, choose_rule
from engine.diffusion.sampler import Request
from engine.errors import EngineError
from engine.system.addresses import hide_passwords
from engine.system.stopwatch import Stopwatch

BACKENDS = ("openvino", "torch", "tensorrt")
# Distributions that a backend runs on, and the command that adds them. TensorRT has two, and needs a GPU first: its
# own message says what is missing.
_RUNTIMES = {"openvino": ("openvino",), "torch": ("torch", "safetensors")}
_INSTALL = {"openvino": "pip install openvino", "torch": "pip install 'crowd-engine[train]'"}
# What a backend raises, and what a damaged install of its runtime raises when it is imported.
_BROKEN = (EngineError, ImportError, OSError, RuntimeError)


@dataclass(frozen=True)
class Model:
    """The shipped model: its name and digest, or what is wrong with it."""

    name: str | None
    digest: str | None
    problem: str | None


@dataclass(frozen=True)
class BackendState:
    """Whether a backend counts: what it runs on, or why not and the command that adds it."""

    name: str
    works: bool
    detail: str
    install: str | None


@dataclass(frozen=True)
class Report:
    """Everything ``crowd doctor`` shows; ``auto`` is what ``backend="auto"`` runs on, None if it cannot."""

    python: str
    system: str
    versions: dict[str, str | None]
    cpu: Cpu
    cuda: Cuda
    gpu: Gpu
    model: Model
    backends: tuple[BackendState, ...]
    extras: tuple[Extra, ...]
    auto: str | None

    @property
    def healthy(self) -> bool:
        """True if counting works on this machine without further arguments."""
        return self.auto is not None


def run(as_json: bool = False) -> int:
    """Examine this machine and print what was found; 0 if counting works, else 1."""
    report = examine()
    text = json.dumps(asdict(report) | {"healthy": report.healthy}, indent=1) if as_json else render(report)
    # What other libraries say of what went wrong, it says too.
    print(hide_passwords(text))
    return 0 if report.healthy else 1


def examine(try_count: Callable[[str], str] | None = None) -> Report:
    """Collect the report.

    Args:
        try_count: runs the model on the named backend and says what it ran on; raises EngineError if it
            cannot. None tries the real ones.
    """
    try_count = try_count or _try_count
    # What PyTorch's backend needs beside it.
    versions = read_versions((*PACKAGES, "safetensors"))
    return Report(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions=versions,
        cpu=read_cpu(),
        cuda=probe_cuda(),
        gpu=check_gpu(),
        model=check_model(),
        backends=tuple(check_backend(name, versions, try_count) for name in BACKENDS),
        extras=check_extras(),
        auto=_pick_auto(try_count),
    )


def check_model(path: str = "default") -> Model:
    """Read the model and compare every file's hash."""
    try:
        bundle = load_bundle(path)
    except EngineError as error:
        return Model(None, None, str(error))
    return Model(bundle.name, bundle.digest, None)


def check_backend(name: str, versions: dict[str, str | None], try_count: Callable[[str], str]) -> BackendState:
    """Run the model on the backend; that it can be imported says too little."""
    try:
        return BackendState(name, True, try_count(name), None)
    except _BROKEN as error:
        missing = any(versions.get(runtime) is None for runtime in _RUNTIMES.get(name, ()))
        return BackendState(name, False, _describe(error), _INSTALL[name] if missing else None)


def _describe(error: Exception) -> str:
    # Our own messages say everything; those of others need their kind.
    return str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"


def _pick_auto(try_count: Callable[[str], str]) -> str | None:
    try:
        return try_count("auto")
    except _BROKEN:
        return None


def _try_count(backend: str) -> str:
    # All of an inference, with its peaks: each kernel is loaded at its first use, and a graph may fail to be recorded.
    bundle = load_bundle("default")
    steps = bundle.default_steps
    request = Request(steps, 1, 0, candidate_threshold(choose_rule(bundle.counting, steps)))
    runner = create_backend(bundle, CounterConfig(backend=backend))
    try:
        runner.infer(np.zeros((64, 64, 3), np.uint8), request, Stopwatch())
        return f"{runner.name} on {runner.device}, {runner.compute_type}"
    finally:
        runner.close()


def render(report: Report) -> str:
    """The report as text."""
    cuda, model = report.cuda, report.model
    driver = f"driver for CUDA {cuda.driver}, {', '.join(cuda.devices) or 'no GPU'}" if cuda.driver else cuda.problem
    rows = [
        ("python", report.python),
        ("system", report.system),
        ("cpu", f"{report.cpu.name}, {report.cpu.cores} cores"),
        ("", " ".join(report.cpu.features) or "instruction sets unknown"),
        ("cuda", str(driver)),
        *((name, version or "-") for name, version in report.versions.items()),
        ("model", model.problem or f"{model.name}, every file matches its hash ({str(model.digest)[:12]})"),
    ]
    parts = [(x.name, x.detail if x.found else f"missing: {x.detail}") for x in report.gpu.parts]
    lines = [*_columns(rows), "", "for backend 'tensorrt' on a GPU:", *_columns(parts)]
    lines += ["", "backends:", *_columns([_backend_row(state) for state in report.backends]), ""]
    if report.extras:
        lines += ["extras:", *_columns([(x.name, str(x)) for x in report.extras]), ""]
    if report.auto is None:
        return "\n".join([*lines, "Counting does NOT work on this machine; mend what is listed above."])
    return "\n".join([*lines, f"Counting works; backend 'auto' gives {report.auto}."])


def _backend_row(state: BackendState) -> tuple[str, str]:
    if state.works:
        return state.name, f"works: {state.detail}"
    return state.name, f"missing: {state.install}" if state.install else f"fails: {state.detail}"


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name.ljust(width)}  {value}".rstrip() for name, value in rows]
