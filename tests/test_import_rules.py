"""Who may import whom, and what ``import engine`` may load."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = {
    "bundle", "canvas", "config", "counting", "cubins", "decode", "errors", "folders", "graph_check", "head_map",
    "images", "lettering", "manifest", "maps", "ordered_map", "overlay", "pixels", "preprocess", "processes", "program",
    "result", "sampler", "schedule", "stages", "stopwatch", "telemetry", "zones", "_core",
}  # fmt: skip
HEAVY = {
    "torch", "triton", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "onnx", "onnxruntime", "scipy", "safetensors",
    "av",
}  # fmt: skip


def _layer(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "engine":
        if parts[1] == "backends" and len(parts) > 2:
            return f"backends.{parts[2]}"
        return "core" if parts[1] in CORE else parts[1]
    return parts[0]


# For each layer: engine layers that it may import, and heavy packages.
RULES: dict[str, tuple[set[str], set[str]]] = {
    "__init__": ({"counter", "core"}, set()),
    "core": ({"core"}, set()),
    "model": ({"model", "core"}, {"torch", "safetensors"}),
    "backends.__init__": (set(), set()),
    # The registry names the backends as text: it loads none of them.
    "backends.base": ({"core", "backends.cuda", "backends.tensorrt"}, set()),
    # The cache of compiled models is TensorRT's; it knows of no runtime.
    "backends.compiled_cache": ({"core"}, set()),
    "backends.openvino": ({"core", "backends.base", "backends.openvino", "backends.compiled_cache"}, {"openvino"}),
    # cuda-bindings and TensorRT are imported by name, once it is known that there is a driver.
    "backends.cuda": ({"core", "backends.cuda"}, set()),
    "backends.tensorrt": (
        {"core", "backends.base", "backends.compiled_cache", "backends.cuda", "backends.tensorrt"},
        set(),
    ),
    # The only run time of Triton's kernels.
    "backends.torch": (
        {"core", "backends.base", "backends.torch", "model", "kernels"},
        {"torch", "triton", "safetensors"},
    ),
    "counter": ({"core", "backends.base", "backends.cuda", "count_job", "stream"}, set()),
    "count_job": ({"core", "backends.base", "backends.cuda"}, set()),
    "outputs": ({"core", "outputs"}, {"av"}),
    "stream": ({"core", "backends.base", "backends.cuda", "count_job", "stream"}, {"av"}),
    # Commands that need more than counting load it when they run; doctor tries each backend.
    "cli": (
        {"cli", "counter", "stream", "outputs", "core", "backends.base", "backends.cuda", "backends.tensorrt"}
        | {"training", "export"},
        set(),
    ),
    "kernels": (set(), {"torch", "triton"}),
    "training": ({"training", "model", "core"}, {"torch", "scipy"}),
    "export": ({"export", "model", "core", "training"}, {"torch", "onnx", "onnxruntime", "safetensors"}),
}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _target(name: str) -> str | None:
    """The layer that an imported name lies in, or None outside the project."""
    parts = name.split(".")
    if parts[0] != "engine":
        return None
    if len(parts) == 1:
        return "__init__"
    if parts[1] == "backends" and len(parts) > 2:
        return f"backends.{parts[2]}"
    return "core" if parts[1] in CORE else parts[1]


SOURCES = sorted(p for folder in ("engine", "kernels", "export", "training") for p in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_import_directions(path: Path) -> None:
    layers, packages = RULES[_layer(path)]
    if path.name == "verify.py":
        layers = layers | {"backends.base", "kernels"}
    if path == ROOT / "export" / "tensorrt.py":
        # Builds engines with what the backend builds them with.
        layers = layers | {"backends.tensorrt"}
    if path.parts[-2:] == ("export", "cubins.py") or path.parts[-2:] == ("export", "gpu_kernels.py"):
        layers, packages = layers | {"kernels"}, packages | {"triton"}
    for name in _imports(path):
        target = _target(name)
        if target is None:
            package = name.split(".")[0]
            assert package not in HEAVY - packages, f"{path} imports {package}"
        else:
            assert target in layers, f"{path} imports {name}"


def test_every_source_file_was_looked_at() -> None:
    assert len(SOURCES) > 30
    assert {_layer(p) for p in SOURCES} == set(RULES)


def test_importing_engine_loads_no_runtime() -> None:
    program = f"import sys, engine; print(sorted({HEAVY!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_sources_without_the_compiled_part_say_so(tmp_path: Path) -> None:
    """As found by a Python that is started in a clone; -S keeps an editable install from finding the part."""
    (tmp_path / "engine").mkdir()
    shutil.copy(ROOT / "engine" / "__init__.py", tmp_path / "engine")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    command = [sys.executable, "-S", "-c", "from engine import _core"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "start Python in another folder or with 'python -P'" in run.stderr


def test_the_gpu_run_time_is_without_torch_triton_and_onnx() -> None:
    """Everything that counting with TensorRT imports of ours; tests/backends/tensorrt counts in such a process too."""
    modules = [
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        for folder in ("cuda", "tensorrt")
        for path in (ROOT / "engine" / "backends" / folder).glob("[a-z]*.py")
    ]
    assert len(modules) > 15
    forbidden = HEAVY - {"cuda"}
    program = f"import sys, engine.counter, {', '.join(modules)}; print(sorted({forbidden!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
