"""Kernels compiled ahead of time: on any machine, always the same, and launched as the manifest says."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from reliability.small_bundle import sound_graphs, write_small_bundle

from engine.bundle.bundle import WEIGHTS_FILE, Bundle, add_files, load_bundle
from engine.bundle.cubins import CUBINS_FILE, Cubins, load_cubins, pack_cubins
from engine.config import ModelConfig
from engine.errors import BundleError, ConfigError
from engine.export.cubins import _check, ptx_parameters
from engine.export.gpu_kernels import KernelBuild

ROOT = Path(__file__).parent.parent.parent
# What Triton's two assemblers make; CI compiles for all architectures.
ARCHITECTURES = (89, 90)
_BYTES = {"i32": 4, "fp32": 4}
# A process of its own: this one may be set to interpret kernels.
_COMPILE = """
import sys
from engine.export.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def _write_bundle(folder: Path, depth: int = 32) -> Bundle:
    return write_small_bundle(folder, config=ModelConfig(features=2), sizes=(depth, depth, 64))


def _export(folder: Path, *architectures: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _COMPILE, "cubins", str(folder), "--arch", *map(str, architectures)]
    # Away from the source tree, whose engine/ lacks the compiled part.
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    before = _write_bundle(folder)
    run = _export(folder, *ARCHITECTURES)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{folder / CUBINS_FILE}: 22 cubins, ")
    after = load_bundle(folder)
    assert after.digest != before.digest
    assert set(after.versions) == {"triton"}
    return after


@pytest.fixture(scope="module")
def cubins(bundle: Bundle) -> Cubins:
    return load_cubins(bundle.path)


def _signatures() -> dict[str, list[str]]:
    """The arguments of every kernel in the sources that are not fixed when compiling, by its symbol."""
    found = {}
    for path in (ROOT / "kernels").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any("triton.jit" in ast.unparse(x) for x in node.decorator_list):
                found[node.name] = [x.arg for x in node.args.args if not x.annotation]
    return found


def test_every_kernel_in_every_type_for_every_architecture(cubins: Cubins) -> None:
    expected = {
        (name, half)
        for name in ("criss_cross_attention.rows", "criss_cross_attention.columns", "ddim_update", "preprocess")
        for half in ("fp16", "bf16")
    } | {("head_maps", None), ("find_peaks.count", None), ("find_peaks.write", None)}
    for arch in ARCHITECTURES:
        entries = [x for x in cubins.entries if x["arch"] == arch]
        assert len(entries) == len(expected)
        assert {(x["kernel"], x["variant"].get("dtype")) for x in entries} == expected
    assert len({x["file"] for x in cubins.entries}) == len(cubins.entries)


def test_arguments_are_those_of_the_sources(cubins: Cubins) -> None:
    signatures = _signatures()
    for entry in cubins.entries:
        assert [name for name, _ in entry["arguments"]] == signatures[entry["entry"]]
        assert set(entry["aligned"]) <= set(signatures[entry["entry"]])


def test_cubins_take_their_arguments_and_two_addresses(cubins: Cubins, tmp_path: Path) -> None:
    for entry in cubins.entries:
        assert entry["global_scratch"] == entry["profile_scratch"] == 0
        expected = [_BYTES.get(kind, 8) for _, kind in entry["arguments"]] + [8, 8]
        (tmp_path / "x.cubin").write_bytes(cubins.read(entry["file"]))
        assert _parameter_sizes(tmp_path / "x.cubin", entry) == expected


def _parameter_sizes(cubin: Path, entry: Mapping[str, Any]) -> list[int]:
    """Bytes of each parameter as NVIDIA's own tool reads them; also that the cubin has its symbol and architecture."""
    found = importlib.util.find_spec("triton")
    assert found is not None
    assert found.origin is not None
    tool = Path(found.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    text = subprocess.run([tool, "-elf", cubin], capture_output=True, text=True, check=True).stdout
    assert re.search(rf"\b{entry['target'].replace('_', '=')}\b", text)
    assert f".text.{entry['entry']}" in text
    parameters = re.findall(r"Ordinal\s*:\s*(0x[0-9a-f]+).*?Size\s*:\s*(0x[0-9a-f]+)", text, re.DOTALL)
    return [int(size, 16) for _, size in sorted(parameters, key=lambda x: int(x[0], 16))]


def test_the_same_sources_give_the_same_bytes(cubins: Cubins, tmp_path: Path) -> None:
    _write_bundle(tmp_path)
    assert _export(tmp_path, 90).returncode == 0
    again = load_cubins(tmp_path)
    before = {x["file"]: (x, cubins.read(x["file"])) for x in cubins.entries if x["arch"] == 90}
    assert before == {x["file"]: (x, again.read(x["file"])) for x in again.entries}


def test_nothing_of_this_machine_is_inside(cubins: Cubins) -> None:
    for entry in cubins.entries:
        code = cubins.read(entry["file"])
        assert str(ROOT).encode() not in code
        assert b".py" not in code


def test_shapes_that_no_kernel_takes_are_refused(tmp_path: Path) -> None:
    before = _write_bundle(tmp_path, depth=8)
    run = _export(tmp_path, 90)
    assert run.returncode == 2
    assert "attention has 8 channels of queries and 64 of values; GPU kernels take 16, 32, 64, 128" in run.stderr
    assert load_bundle(tmp_path).digest == before.digest


def test_files_are_added_and_replaced(tmp_path: Path) -> None:
    before = _write_bundle(tmp_path)
    for content in (b"one", b"another"):
        after = add_files(tmp_path, {"new.bin": content}, versions={"maker": "1"})
        assert (tmp_path / "new.bin").read_bytes() == content
    assert dataclasses.replace(after, digest=before.digest, versions={}) == before
    assert after.versions == {"maker": "1"}
    assert {x.name for x in tmp_path.iterdir()} == {"manifest.json", WEIGHTS_FILE, *sound_graphs(), "new.bin"}


def test_altered_archives_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    for file in bundle.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with open(tmp_path / CUBINS_FILE, "r+b") as archive:
        archive.seek(5000)
        archive.write(b"?")
    with pytest.raises(BundleError, match=f"{CUBINS_FILE} is not the file that was exported"):
        load_bundle(tmp_path)


def test_archives(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"no {CUBINS_FILE} there"):
        load_cubins(tmp_path)
    packed = pack_cubins([{"file": "a"}], {"a": b"code"}, {"triton": "3"})
    assert packed == pack_cubins([{"file": "a"}], {"a": b"code"}, {"triton": "3"})
    (tmp_path / CUBINS_FILE).write_bytes(packed)
    cubins = load_cubins(tmp_path)
    assert (cubins.entries, cubins.compiler) == (({"file": "a"},), {"triton": "3"})
    assert cubins.read("a") == b"code"
    with pytest.raises(BundleError, match="lacks 'b'"):
        cubins.read("b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "cannot be understood"),
        (pack_cubins([], {}, {}).replace(json.dumps("format").encode(), b'"formal"'), "cannot be understood"),
    ],
)
def test_damaged_archives(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / CUBINS_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=message):
        load_cubins(tmp_path)


def test_other_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("engine.bundle.cubins._FORMAT", 1)
        (tmp_path / CUBINS_FILE).write_bytes(pack_cubins([], {}, {}))
    with pytest.raises(
        BundleError, match=f"format 1, this version reads 2; compile its kernels with: crowd export cubins {tmp_path}"
    ):
        load_cubins(tmp_path)


@pytest.mark.parametrize(("scratch", "is_known"), [(1, False), (2, True), (3, False)])
def test_kernels_with_another_number_of_scratch_buffers_are_refused(scratch: int, is_known: bool) -> None:
    """Triton 3.4 has one: every launch would hand over an argument too many."""
    build = KernelBuild("k", {}, None, {"x": "*fp16", "n": "i32"}, {}, (), {})
    types = ["u64", "u32", *["u64"] * scratch]
    ptx = f".visible .entry k({', '.join(f'.param .{x} k_{number}' for number, x in enumerate(types))})"
    cubin = b"\x7fELF" + bytes(14) + (190).to_bytes(2, "little") + b".text.k\0"
    with nullcontext() if is_known else pytest.raises(ConfigError, match=r"expected u64, u32, u64, u64: pip install"):
        _check(build, "k", ptx, cubin)


def test_ptx_parameters() -> None:
    ptx = ".visible .entry f(\n\t.param .u64 .ptr .global .align 1 f_param_0,\n\t.param .f32 f_param_1\n)\n.reqntid 128"
    assert ptx_parameters(ptx, "f") == ["u64", "f32"]
    assert ptx_parameters(ptx, "g") == []
