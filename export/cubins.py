"""Triton kernels -> cubins, for every GPU generation at once and on a machine without any."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine.bundle.bundle import Bundle, add_files, load_bundle
from engine.bundle.cubins import CUBINS_FILE, pack_cubins
from engine.errors import ConfigError
from engine.export.gpu_kernels import KernelBuild, kernel_builds

# A100; RTX 30; RTX 40 and L4; H100 and H200; RTX 50.
ARCHITECTURES = (80, 86, 89, 90, 120)
# PTX 8.7: the oldest that knows all of the architectures, so that older versions of Triton assemble it too.
_PTX_VERSION = 87
_WIDTHS = {"i32": "u32", "fp32": "f32"}
# Of CUDA's code in an ELF file.
_MACHINE = 190


@dataclass(frozen=True)
class CompiledKernel:
    """A cubin, and what launching it needs: an entry of :class:`engine.bundle.cubins.Cubins`."""

    entry: dict[str, Any]
    cubin: bytes


def add_cubins(path: str | Path, architectures: Sequence[int] = ARCHITECTURES) -> Bundle:
    """Compile the kernels that a bundle needs and put them into it, in place of those it had.

    Args:
        path: the bundle's folder.
        architectures: compute capabilities times 10.

    Returns:
        The bundle, loaded anew.

    Raises:
        ConfigError: Triton is missing, too old, or set to interpret kernels.
        BundleError: the bundle is missing or damaged.

    The same bundle and versions give the same bytes; no GPU and no driver is needed. About half a second a cubin.
    """
    bundle = load_bundle(path)
    with _triton() as version:
        builds = [(build, arch) for build in kernel_builds(bundle) for arch in architectures]
        compiled = [compile_kernel(*x) for x in tqdm(builds, "compiling kernels", unit="cubin", leave=False)]
        compiler = {"triton": version, "ptx": _PTX_VERSION, "ptxas": {str(x): _ptxas(x) for x in architectures}}
    files = {x.entry["file"]: x.cubin for x in compiled}
    archive = pack_cubins([x.entry for x in compiled], files, compiler)
    return add_files(path, {CUBINS_FILE: archive}, versions={"triton": version})


@contextmanager
def _triton() -> Iterator[str]:
    """Triton set up to give the same bytes everywhere; its version."""
    try:
        import triton
        from triton import knobs
    except ImportError as error:
        raise ConfigError(f"compiling GPU kernels needs Triton, on Linux: pip install triton ({error})") from error
    if knobs.runtime.interpret:
        raise ConfigError("TRITON_INTERPRET is set, so that nothing can be compiled; unset it")
    with tempfile.TemporaryDirectory() as cache, knobs.cache.scope(), knobs.compilation.scope():
        # A cache of its own, lest a user's one bring in code of other settings; and no paths of this machine.
        knobs.cache.dir = cache
        knobs.compilation.disable_line_info = True
        yield triton.__version__


def _ptxas(arch: int) -> str:
    """Version of the assembler that Triton uses for an architecture."""
    from triton.backends.nvidia.compiler import get_ptxas

    return str(get_ptxas(arch).version)


def compile_kernel(build: KernelBuild, arch: int) -> CompiledKernel:
    """One kernel for one architecture, and its entry; its PTX is checked against the entry."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = build.function.arg_names
    assert names == [x for x in names if (x in build.types) != (x in build.constants)], build.kernel
    source = ASTSource(
        fn=build.function,
        signature={name: build.types.get(name, "constexpr") for name in names},
        constexprs=build.constants,
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in build.aligned},
    )
    options = {**build.options, "ptx_version": _PTX_VERSION}
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    ptx, cubin, metadata = compiled.asm["ptx"], compiled.asm["cubin"], compiled.metadata
    _check(build, metadata.name, ptx, cubin)
    settings = "".join(f".{key}{value}" if key != "dtype" else f".{value}" for key, value in build.variant.items())
    entry = {
        "kernel": build.kernel,
        "variant": build.variant,
        "arch": arch,
        "target": re.findall(r"^\.target (\w+)", ptx, re.MULTILINE)[0],
        "file": f"{build.kernel}{settings}.sm{arch}.cubin",
        "entry": metadata.name,
        "arguments": [[name, build.types[name]] for name in names if name in build.types],
        "aligned": list(build.aligned),
        "blocks": build.blocks,
        "num_warps": metadata.num_warps,
        "shared": metadata.shared,
        "global_scratch": metadata.global_scratch_size,
        "profile_scratch": metadata.profile_scratch_size,
    }
    return CompiledKernel(entry, cubin)


def ptx_parameters(ptx: str, entry: str) -> list[str]:
    """Types of the parameters of a function in PTX.

    >>> ptx_parameters(".visible .entry f(.param .u64 .ptr .global .align 1 f_param_0, .param .u32 f_param_1)", "f")
    ['u64', 'u32']
    """
    head = re.search(rf"\.entry {entry}\(([^)]*)\)", ptx)
    return re.findall(r"\.param \.(\w+)", head.group(1)) if head else []


def _check(build: KernelBuild, entry: str, ptx: str, cubin: bytes) -> None:
    """What was compiled takes what its entry says, and the two scratch buffers.

    Raises:
        ConfigError: it takes something else, as with Triton 3.4, which knows one scratch buffer alone.
    """
    expected = ["u64" if kind.startswith("*") else _WIDTHS[kind] for kind in build.types.values()] + 2 * ["u64"]
    found = ptx_parameters(ptx, entry)
    if found != expected:
        raise ConfigError(
            f"this Triton compiles {build.kernel} with parameters {', '.join(found)}; expected "
            f"{', '.join(expected)}: pip install -U 'triton>=3.5'"
        )
    assert (cubin[:4], int.from_bytes(cubin[18:20], "little")) == (b"\x7fELF", _MACHINE), build.kernel
    assert os.fsencode(f".text.{entry}\0") in cubin, build.kernel
