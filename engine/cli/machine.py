"""What this machine has: processor, CUDA driver, versions."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

# Distributions that counting, or one of its backends, uses.
PACKAGES = (
    "crowd-engine",
    "numpy",
    "pillow",
    "simplejpeg",
    "openvino",
    "torch",
    "triton",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "onnxruntime",
    "cuda-bindings",
)
# Instructions that change how fast a count is: x86, then Arm.
_FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
)


@dataclass(frozen=True)
class Cpu:
    """Processor: its name, the cores this process may use, and its useful instruction sets."""

    name: str
    cores: int
    features: tuple[str, ...]


@dataclass(frozen=True)
class Cuda:
    """CUDA driver: the newest CUDA version it serves, its GPUs by name, or why there is none."""

    driver: str | None
    devices: tuple[str, ...]
    problem: str | None


def read_cpu() -> Cpu:
    """The processor of this machine; features are known on Linux alone."""
    path = Path("/proc/cpuinfo")
    name, features = parse_cpuinfo(path.read_text(errors="replace")) if path.is_file() else ("", ())
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return Cpu(name or _system_name(), cores, features)


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Name and useful features from the text of Linux's ``/proc/cpuinfo``.

    >>> parse_cpuinfo("model name\\t: Some CPU\\nflags\\t\\t: fpu avx2 amx_bf16\\n")
    ('Some CPU', ('avx2', 'amx_bf16'))
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    present = set(fields.get("flags", fields.get("features", "")).split())
    return fields.get("model name", ""), tuple(f for f in _FEATURES if f in present)


def _system_name() -> str:
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip()
    return platform.processor() or platform.machine()


def probe_cuda(load: Callable[[str], Any] = ctypes.CDLL) -> Cuda:
    """Ask the CUDA driver library itself, so that no CUDA package is needed.

    Args:
        load: opens a shared library by name; raises OSError if it is not there.
    """
    try:
        driver = load("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return Cuda(None, (), "no CUDA driver")
    version, count = ctypes.c_int(), ctypes.c_int()
    status = driver.cuInit(0)
    if status != 0:
        return Cuda(None, (), f"the CUDA driver does not start: error {status} of cuInit")
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(count))
    names = []
    for index in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode(errors="replace"))
    # The driver encodes 13.1 as 13010.
    return Cuda(f"{version.value // 1000}.{version.value % 1000 // 10}", tuple(names), None)


def read_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Version of each distribution, None where it is not installed; imports none of them."""
    return {name: _version(name) for name in packages}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
