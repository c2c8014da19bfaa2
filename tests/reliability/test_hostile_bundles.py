"""Bundles that a stranger wrote, with right hashes: nothing in them reaches outside, runs, or fills the memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reliability.small_bundle import field, graph, node, tensor, write_small_bundle

from engine.bundle.bundle import MANIFEST_FILE, load_bundle
from engine.errors import BundleError

HUGE = 10**400
DEEP: Any = "x"
for _ in range(200):
    DEEP = [DEEP]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("hostile") / "bundle").path


# Where in the manifest, and what is put there.
PLACES: list[list[Any]] = [
    ["format"], ["name"], ["model"], ["model", "widths"], ["model", "widths", 0], ["model", "features"],
    ["model", "map_stride"], ["model", "map_scale"], ["model", "pixel_std"], ["default_steps"], ["counting"],
    ["counting", "1"], ["counting", "1", "low"], ["counting", "1", "most"], ["programs"], ["programs", "encoder"],
    ["programs", "decoder", "graph"], ["programs", "decoder", "inputs"], ["programs", "decoder", "inputs", 0],
    ["programs", "decoder", "stages"], ["programs", "decoder", "stages", 0],
    ["programs", "decoder", "stages", 0, "graph"],
    ["programs", "decoder", "stages", 1, "sizes"], ["programs", "decoder", "stages", 1, "sizes", 0],
    ["programs", "decoder", "stages", 2, "kernel"], ["programs", "decoder", "stages", 2, "inputs"],
    ["programs", "decoder", "stages", 3, "typed"], ["programs", "decoder", "stages", 3, "typed", "float16"],
    ["files"], ["files", "whole.onnx"], ["files", "whole.onnx", "size"], ["files", "whole.onnx", "sha256"],
    ["versions"],
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, HUGE, -HUGE, 1e308, float("nan"), float("inf"), "", "../../etc/passwd",
    "/etc/passwd", "a\0b", "\x1b[2J", "x" * 100_000, [], [[]], {}, {"": {}}, DEEP,
]  # fmt: skip
# Where the value is what belongs there, or is not looked at.
HARMLESS = {("versions", "{}"), ("versions", "[]"), ("programs decoder stages 3 typed", "{}"),
            # A name is shown and never opened.
            ("name", "'../../etc/passwd'"), ("name", "'/etc/passwd'")}  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_wrong_values_anywhere(folder: Path, place: list[Any]) -> None:
    file = folder / MANIFEST_FILE
    sound = file.read_text()
    try:
        for value in VALUES:
            manifest = json.loads(sound)
            entry = manifest
            for key in place[:-1]:
                entry = entry[key]
            entry[place[-1]] = value
            file.write_text(json.dumps(manifest))
            if (" ".join(map(str, place)), repr(value)) in HARMLESS:
                continue
            with pytest.raises(BundleError):
                load_bundle(folder)
    finally:
        file.write_text(sound)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, '{"a":' * 100_000, '{"format": 1' + "0" * 5000 + "}", '{"format": NaN}', '{"format": 1e999}',
        "null", "1", '"x"', "", " " * 5_000_000, "\ufeff{}", '{"format": 1, "files": {}}',
    ],
    ids=range(12),
)  # fmt: skip
def test_manifests_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "whole.onnx", "weights.safetensors"])
def test_links_and_devices(tmp_path: Path, name: str) -> None:
    """Files elsewhere, and those that never end; a linked manifest is read, as only the rest of the folder matters."""
    folder = write_small_bundle(tmp_path / "bundle").path
    file = folder / name
    file.rename(tmp_path / name)
    for target in ("/dev/zero", tmp_path):
        file.symlink_to(target)
        with pytest.raises(BundleError):
            load_bundle(folder)
        file.unlink()
    if name != MANIFEST_FILE:
        file.symlink_to(tmp_path / name)
        with pytest.raises(BundleError, match=name):
            load_bundle(folder)


SUBGRAPH = field(1, b"body") + field(6, field(1, node())) + field(20, 5)
HOSTILE_GRAPHS = {
    "weights of another file": graph(field(5, tensor("../../../etc/passwd"))),
    "weights of an absolute path": graph(field(5, tensor("/etc/passwd"))),
    "weights of a graph": graph(field(5, tensor("whole.onnx"))),
    "weights behind the end": graph(field(5, tensor(offset=990, length=20))),
    "a negative offset": graph(field(5, tensor(offset=-4))),
    "an endless number": graph(field(5, tensor(offset="9" * 5000))),
    "no text": graph(field(5, field(13, field(1, b"\xff") + field(2, b"\xff")))),
    "a huge tensor": graph(field(5, tensor(sides=(1 << 20, 1 << 20)))),
    "a negative side": graph(field(5, tensor(sides=(2**64 - 1,)))),
    "a huge constant": graph(field(1, node(b"Constant", attribute=field(5, tensor(sides=(1 << 40,)))))),
    "a loop": graph(field(1, node(b"Loop"))),
    "a condition": graph(field(1, node(b"If"))),
    "a graph in an operator": graph(field(1, node(b"Relu", attribute=SUBGRAPH))),
    "another domain": graph(field(1, node(b"Relu", b"com.microsoft"))),
    "an unknown kernel": graph(field(1, node(b"shell", b"crowd"))),
    "a function that calls itself": graph() + field(25, field(7, node(b"criss_cross_attention", b"crowd"))),
    "training": graph() + field(20, b""),
    "two graphs": graph() + field(7, b""),
    "no graph": field(1, 10),
    "text": b"<?xml version='1.0'?><net/>",
    "cut": graph()[:-1],
    "an endless integer": b"\x08" + b"\xff" * 100,
    "a length behind the end": b"\x3a\xff\xff\xff\xff\x0f",
    "a group": b"\x3b\x3c",
    "a number for a graph": b"\x38\x01",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE_GRAPHS)
@pytest.mark.parametrize("place", ["whole", "first", "second"])
def test_hostile_graphs(tmp_path: Path, name: str, place: str) -> None:
    with pytest.raises(BundleError, match=f"{place}.onnx is refused"):
        write_small_bundle(tmp_path / "bundle", **{place: HOSTILE_GRAPHS[name]})


def test_graphs_of_many_fields(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="more than 250000 fields"):
        write_small_bundle(tmp_path / "bundle", first=graph(field(1, b"\x08\x01" * 300_000)))


def test_sound_graphs(tmp_path: Path) -> None:
    sound = graph(
        field(1, node(b"criss_cross_attention", b"crowd")),
        field(1, node(b"Constant", attribute=field(5, tensor()))),
        field(5, tensor(offset=996, length=4)),
        field(5, field(1, b"\x02\x03") + field(9, bytes(24))),
    )
    function = field(25, field(1, b"criss_cross_attention") + field(7, node(b"Softmax")))
    write_small_bundle(tmp_path / "bundle", first=sound + function)


def test_other_formats_of_a_runtime(tmp_path: Path) -> None:
    """OpenVINO would read an .xml or a .pdmodel as well, and those are not checked."""
    folder = write_small_bundle(tmp_path / "bundle").path
    file = folder / MANIFEST_FILE
    (folder / "first.onnx").rename(folder / "first.xml")
    file.write_text(file.read_text().replace("first.onnx", "first.xml"))
    with pytest.raises(BundleError, match=r"expected a file that ends in \.onnx"):
        load_bundle(folder)
