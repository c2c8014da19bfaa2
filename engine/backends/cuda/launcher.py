"""Kernels that were compiled ahead of time: finds the one for this device, loads it at its first use, launches it."""

from __future__ import annotations

import ast
import ctypes
import operator
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.backends.cuda.context import Context
from engine.backends.cuda.kernel import Kernel, Module
from engine.backends.cuda.streams import Stream
from engine.errors import BackendError, BundleError

# Triton's names of kernel parameter types -> what the driver reads. Pointers start with "*".
_SCALARS: dict[str, Any] = {
    "i8": ctypes.c_int8,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "fp32": ctypes.c_float,
    "fp64": ctypes.c_double,
}
_FLOATS = ("fp32", "fp64")
# Triton's global and profile scratch pointers, which end every parameter list.
_SCRATCH_POINTERS = 2
# What Triton takes an argument for that it was told is divisible.
_ALIGNMENT = 16
# From here on Triton compiles for one architecture with its special instructions (sm_90a), which no other one runs.
_FIRST_EXACT_ARCH = 90
# Jetson boards run only what was compiled for them.
_BOARDS = (72, 87, 88)
_SCRATCH = ("global_scratch", "profile_scratch")
_FIELDS = {
    "kernel", "variant", "arch", "file", "entry", "arguments", "aligned", "grid", "num_warps", "shared", *_SCRATCH,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_FUNCTIONS: dict[str, Callable[..., int]] = {"cdiv": lambda a, b: -(-a // b), "min": min, "max": max}

Variant = Mapping[str, Any]
_Key = tuple[str, frozenset[tuple[str, Any]]]


@dataclass(frozen=True)
class CompiledKernel:
    """One cubin, as the manifest describes it.

    Attributes:
        arch: compute capability it was compiled for, 10 * major + minor.
        file: that holds it, in the bundle.
        entry: its symbol.
        arguments: names and Triton types of its parameters, in order, without the two scratch pointers.
        aligned: arguments that the code takes for multiples of 16.
        grid: rule for the blocks along x, y and z, each an expression of integer arguments and grid arguments.
        warps: of 32 threads per block.
        shared: bytes of dynamic shared memory per block.
    """

    arch: int
    file: str
    entry: str
    arguments: tuple[tuple[str, str], ...]
    aligned: tuple[str, ...]
    grid: tuple[str, ...]
    warps: int
    shared: int

    def pack(self, values: Mapping[str, Any]) -> list[Any]:
        """The parameters as ctypes scalars, from their values by name; pointers as integers or device buffers.

        Raises:
            BackendError: a value is missing, unknown, or does not fit its type.
        """
        names = [name for name, _ in self.arguments]
        if set(values) != set(names):
            raise BackendError(f"kernel {self.entry!r} takes {', '.join(names)}, got {', '.join(values)}")
        for name in self.aligned:
            number = operator.index(values[name])
            if number % _ALIGNMENT:
                # The device would read elsewhere, or stop this process from using it at all.
                raise BackendError(f"kernel {self.entry!r} takes {name} as a multiple of {_ALIGNMENT}, got {number}")
        packed = [_scalar(self.entry, name, kind, values[name]) for name, kind in self.arguments]
        return packed + [ctypes.c_uint64(0)] * _SCRATCH_POINTERS

    def blocks(self, names: Mapping[str, Any]) -> tuple[int, int, int]:
        """The grid for arguments by name."""
        x, y, z = (evaluate(rule, names) for rule in (*self.grid, "1", "1")[:3])
        return x, y, z


class Launcher:
    """Launches a bundle's kernels on one device; may be used by several threads.

    Args:
        context: of the device.
        manifest: the entries of the bundle's list of compiled kernels, for all architectures.
        read: contents of a file of the bundle.

    Raises:
        BundleError: an entry is not understood.
        BackendError: there are no kernels for this device.
    """

    def __init__(self, context: Context, manifest: Sequence[Mapping[str, Any]], read: Callable[[str], bytes]):
        self._context = context
        self._read = read
        self._lock = threading.Lock()
        self._modules: dict[str, Module] = {}
        self._kernels: dict[_Key, Kernel] = {}
        entries = [(_key(entry["kernel"], entry["variant"]), _parse(entry)) for entry in check_entries(manifest)]
        self.arch = choose_arch({kernel.arch for _, kernel in entries}, context.device.capability)
        self._compiled = {key: kernel for key, kernel in entries if kernel.arch == self.arch}

    def launch(
        self,
        name: str,
        variant: Variant,
        arguments: Mapping[str, Any],
        stream: Stream,
        grid_arguments: Mapping[str, int] | None = None,
    ) -> None:
        """Queue one launch; the first of each kernel also loads it, which a recording does not allow.

        Args:
            name: of the kernel, such as "criss_cross_attention.rows".
            variant: it was compiled for, such as {"dtype": "fp16", "D": 32, "C": 64}.
            arguments: values by name: device buffers or integers for pointers, integers, floats.
            stream: to queue it in.
            grid_arguments: further integers, by name, that only the grid's rule needs.

        Raises:
            BackendError: no such kernel or variant, or the arguments are not its own.
            CudaError: the driver refused it.
        """
        key = _key(name, variant)
        compiled = self._find(key)
        packed = compiled.pack(arguments)
        grid = compiled.blocks({**arguments, **(grid_arguments or {})})
        self._load(key, compiled).launch(grid, stream, packed)

    def _find(self, key: _Key) -> CompiledKernel:
        compiled = self._compiled.get(key)
        if compiled is None:
            have = sorted(f"{name} {dict(sorted(variant))}" for name, variant in self._compiled)
            raise BackendError(
                f"no kernel {key[0]} {dict(sorted(key[1]))} was compiled for architecture {self.arch}, only "
                f"{'; '.join(have)}; export the bundle anew"
            )
        return compiled

    def _load(self, key: _Key, compiled: CompiledKernel) -> Kernel:
        with self._lock:
            kernel = self._kernels.get(key)
            if kernel is None:
                module = self._modules.get(compiled.file)
                if module is None:
                    module = self._modules[compiled.file] = Module(self._context, self._read(compiled.file))
                kernel = self._kernels[key] = Kernel(module, compiled.entry, compiled.warps, compiled.shared)
            return kernel

    def close(self) -> None:
        """Unload everything. Closing twice is harmless."""
        with self._lock:
            self._kernels.clear()
            while self._modules:
                self._modules.popitem()[1].close()


def choose_arch(compiled: set[int], capability: tuple[int, int]) -> int:
    """The architecture, of those compiled for, whose cubins a device of ``capability`` runs best.

    Its own; else, before 9.0, the newest older one of the same major version (CUDA's binary compatibility).

    Raises:
        BackendError: there is none.

    >>> choose_arch({80, 86, 90}, (8, 9))
    86
    """
    major, minor = capability
    arch = 10 * major + minor
    if arch in compiled:
        return arch
    fits = [c for c in compiled if c // 10 == major and c < arch] if arch not in _BOARDS else []
    if arch >= _FIRST_EXACT_ARCH or not fits:
        have = ", ".join(f"{c // 10}.{c % 10}" for c in sorted(compiled)) or "none"
        raise BackendError(
            f"this GPU has compute capability {major}.{minor}, the model's kernels were compiled for {have}; "
            "export the bundle for it, or use backend='torch'"
        )
    return max(fits)


def evaluate(rule: str, names: Mapping[str, Any]) -> int:
    """Value of a grid rule: integers, names, + - * //, cdiv(a, b), min and max; nothing else is run.

    Raises:
        BundleError: the rule has anything else.
        BackendError: a name has no value.

    >>> evaluate("cdiv(n, 64) * lines", {"n": 65, "lines": 3})
    6
    """
    try:
        return _value(ast.parse(rule, mode="eval").body, names)
    except (SyntaxError, ValueError, TypeError, ZeroDivisionError) as error:
        raise BundleError(f"grid rule {rule!r} is not understood ({error}); export the bundle anew") from error


def _value(node: ast.expr, names: Mapping[str, Any]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise BackendError(f"the grid needs {node.id!r}, got {', '.join(names) or 'nothing'}; pass it")
        return operator.index(names[node.id])
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, names), _value(node.right, names))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        return _FUNCTIONS[node.func.id](*[_value(argument, names) for argument in node.args])
    raise ValueError(f"{ast.unparse(node)} is not allowed")


def _scalar(entry: str, name: str, kind: str, value: Any) -> Any:
    """One parameter, refused where ctypes would wrap it around silently."""
    try:
        if kind in _FLOATS:
            return _SCALARS[kind](float(value))
        number = operator.index(value)
    except TypeError as error:
        raise BackendError(f"kernel {entry!r} takes {name} as {kind}, got {type(value).__name__}") from error
    scalar = (ctypes.c_uint64 if kind.startswith("*") else _SCALARS[kind])(number)
    if scalar.value != number:
        raise BackendError(f"kernel {entry!r} takes {name} as {kind}, which {number} does not fit")
    return scalar


def check_entries(manifest: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The entries of a bundle's list of compiled kernels, if each has every field.

    Raises:
        BundleError: one lacks some.
    """
    for entry in manifest:
        if missing := _FIELDS - set(entry):
            raise BundleError(
                f"a compiled kernel lacks {', '.join(sorted(missing))}: {dict(entry)}; export the bundle anew"
            )
    return manifest


def _parse(entry: Mapping[str, Any]) -> CompiledKernel:
    arguments = tuple((str(name), str(kind)) for name, kind in entry["arguments"])
    for name, kind in arguments:
        if not kind.startswith("*") and kind not in _SCALARS:
            raise BundleError(f"kernel {entry['entry']!r} has {name} of unknown type {kind!r}; export the bundle anew")
    for scratch in _SCRATCH:
        if entry[scratch]:
            raise BundleError(f"kernel {entry['entry']!r} needs {scratch} memory, which this version does not provide")
    if not 1 <= len(entry["grid"]) <= 3:
        raise BundleError(f"kernel {entry['entry']!r} has a grid of {entry['grid']}; expected 1 to 3 rules")
    return CompiledKernel(
        arch=entry["arch"],
        file=entry["file"],
        entry=entry["entry"],
        arguments=arguments,
        aligned=tuple(entry["aligned"]),
        grid=tuple(str(rule) for rule in entry["grid"]),
        warps=entry["num_warps"],
        shared=entry["shared"],
    )


def _key(name: str, variant: Variant) -> _Key:
    return name, frozenset(variant.items())
