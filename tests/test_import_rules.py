"""Who may import whom: rooms import downward only. And what ``import engine`` may load."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {
    "torch", "triton", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "onnx", "onnxruntime", "scipy", "safetensors",
    "av", "pyarrow", "aiohttp", "s3fs", "gcsfs", "ray", "paho",
}  # fmt: skip

# The house from the ground up: a room imports itself and rooms named before it, and of the heavy packages those
# beside it. cuda-bindings and TensorRT are imported by name, once it is known that there is a driver.
ROOMS: dict[str, set[str]] = {
    "kernels": {"torch", "triton"},
    "errors": set(),
    "config": set(),
    "_core": set(),
    "system": set(),
    "image": set(),
    "bundle": set(),
    "diffusion": set(),
    "zones": set(),
    "counting": set(),
    "drawing": set(),
    "result": set(),
    "dataset": {"scipy"},
    "evaluation": {"scipy"},
    "model": {"torch", "safetensors"},
    "backends.__init__": set(),
    "backends.compiled_cache": set(),
    "backends.cuda": set(),
    "backends.base": set(),
    "backends.openvino": {"openvino"},
    "backends.tensorrt": set(),
    "backends.torch": {"torch", "triton", "safetensors"},
    "backends.registry": set(),
    "stream": {"av"},
    "counter": set(),
    "__init__": set(),
    "outputs": {"av"},
    "watch": {"paho"},
    "serve": {"ray"},
    "jobs": {"pyarrow", "aiohttp", "s3fs", "gcsfs"},
    "ray": {"ray", "pyarrow"},
    "training": {"torch", "scipy", "openvino"},
    "export": {"torch", "triton", "onnx", "onnxruntime", "safetensors"},
    "cli": {"pyarrow", "ray"},
}
# Rooms that are private to a few of those after them.
PRIVATE: dict[str, set[str]] = {
    "kernels": {"backends.torch", "export"},
    "model": {"backends.torch", "training", "export"},
    "backends.cuda": {"backends.tensorrt", "cli"},
    "backends.openvino": set(),
    "backends.tensorrt": {"backends.registry", "export", "cli"},
    "backends.torch": set(),
    "backends.compiled_cache": {"backends.openvino", "backends.tensorrt"},
    "dataset": {"evaluation", "training", "export", "cli"},
    "evaluation": {"cli"},
    "training": {"export", "cli"},
    "watch": {"cli"},
    # Needs its extra.
    "serve": {"cli"},
}


def _room(parts: Sequence[str]) -> str:
    """The room of a file of the repository, or of an imported name that begins with "engine"."""
    if parts[0] != "engine":
        return parts[0]
    if len(parts) > 2 and parts[1] == "backends":
        return f"backends.{parts[2]}"
    if len(parts) > 1 and parts[1] in ("kernels", "export", "training"):
        return parts[1]
    return parts[1] if len(parts) > 1 else "__init__"


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


SOURCES = sorted(p for folder in ("engine", "kernels", "export", "training") for p in (ROOT / folder).rglob("*.py"))


def _room_of(path: Path) -> str:
    return _room(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_downward(path: Path) -> None:
    order = list(ROOMS)
    room = _room_of(path)
    for name in _imports(path):
        package, *rest = name.split(".")
        if package != "engine":
            assert package not in HEAVY - ROOMS[room], f"{path} imports {package}"
            continue
        target = _room([package, *rest])
        if target == room:
            continue
        assert order.index(target) < order.index(room), f"{path} imports {name}, from a room above its own"
        assert room in PRIVATE.get(target, {room}), f"{path} imports {name}, from a private room"


def test_every_room_is_named() -> None:
    assert len(SOURCES) > 30
    assert {_room_of(p) for p in SOURCES} | {"_core"} == set(ROOMS)


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "engine" else ("engine", *parts))


def test_no_modules_import_each_other() -> None:
    """Not in a circle of several either, nor where only types are meant."""
    modules = {_module(path): path for path in SOURCES}
    left = {}
    for module, path in modules.items():
        # The module that an imported name is, or lies in.
        targets = {next((x for x in (name, name.rpartition(".")[0]) if x in modules), "") for name in _imports(path)}
        left[module] = targets - {"", "engine", module}
    while free := [module for module, targets in left.items() if not targets & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"these import each other, or modules that do: {sorted(left)}"


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
