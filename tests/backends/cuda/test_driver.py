"""What the engine finds on a machine, and whether cuda-bindings have what it calls."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from backends.cuda import libcuda

from engine.backends.cuda.driver import load_driver, probe_library
from engine.errors import BackendError


class _Library:
    def __init__(self, init: int, devices: int):
        self._init, self._devices = init, devices

    def cuInit(self, flags):  # noqa: N802
        return self._init

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self._devices
        return 0

    def cuGetErrorName(self, code, text):  # noqa: N802
        text._obj.value = b"CUDA_ERROR_NO_DEVICE"
        return 0


def _absent(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


def test_what_the_probe_says() -> None:
    probe_library(lambda name: _Library(0, 1))
    with pytest.raises(BackendError, match=r"no NVIDIA driver: libcuda\.so\.1 cannot be loaded.*device='cpu'"):
        probe_library(_absent)
    with pytest.raises(BackendError, match=r"CUDA_ERROR_NO_DEVICE \(code 100\).*nvidia-smi"):
        probe_library(lambda name: _Library(100, 0))
    with pytest.raises(BackendError, match="reports no device"):
        probe_library(lambda name: _Library(0, 0))


def test_missing_cuda_bindings_names_the_extra(monkeypatch) -> None:
    monkeypatch.setattr("engine.backends.cuda.driver.probe_library", lambda: None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(BackendError, match=r"pip install 'crowd-engine\[cuda\]'"):
        load_driver()


# What the CUDA layer calls, read from its sources.


def _nodes(kind: type[ast.AST]) -> list[Any]:
    folder = Path(__file__).parents[3] / "engine" / "backends" / "cuda"
    return [
        x for path in sorted(folder.glob("*.py")) for x in ast.walk(ast.parse(path.read_text())) if isinstance(x, kind)
    ]


def _calls() -> set[tuple[str, int]]:
    """Each driver function with its number of arguments, also of the tuples and calls that say how to free things."""
    found = set()
    for elements in (*(x.args for x in _nodes(ast.Call)), *(x.elts for x in _nodes(ast.Tuple))):
        for place, element in enumerate(elements):
            if isinstance(element, ast.Constant) and re.match("cu[A-Z]", str(element.value)):
                # grid and block have three numbers each.
                found.add((element.value, sum(3 if isinstance(x, ast.Starred) else 1 for x in elements[place + 1 :])))
    return found


def test_every_function_that_is_called_takes_as_many_arguments() -> None:
    real = pytest.importorskip("cuda.bindings.driver", reason="compares with cuda-bindings (the cuda extra)")
    calls = _calls()
    # The functions of the fake driver, which are called under these names.
    assert {name for name, _ in calls} == {name.removesuffix("WithFlags") for name in libcuda.FUNCTIONS}
    for name, count in calls:
        signature = getattr(real, name).__doc__.strip().split("\n")[0]
        inside = signature[signature.index("(") + 1 : signature.rindex(")")]
        assert len(inside.split(",") if inside else []) == count, signature


def test_every_constant_that_is_used_is_there() -> None:
    real = pytest.importorskip("cuda.bindings.driver", reason="compares with cuda-bindings (the cuda extra)")
    used = {x.attr for x in _nodes(ast.Attribute) if re.match("CU[a-z_]", x.attr)}
    enumerations = [getattr(real, name) for name in used if not name.startswith("CU_")]
    assert len(enumerations) >= 9
    members = {x for kind in enumerations for x in dir(kind)}
    assert {name for name in used if name.startswith("CU_")} <= members
    attributes = {x.args[0].value for x in _nodes(ast.Call) if getattr(x.func, "id", None) == "attribute"}
    assert len(attributes) == 4
    assert {f"CU_DEVICE_ATTRIBUTE_{name}" for name in attributes} <= set(dir(real.CUdevice_attribute))
