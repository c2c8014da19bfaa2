"""Bundles that a stranger wrote, with right hashes: nothing in them reaches outside, runs, or fills the memory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from reliability.graph_makers import GRAPH, within
from reliability.hostile_graphs import HOSTILE_GRAPHS
from reliability.small_bundle import sound_graphs, write_small_bundle

from engine import CrowdCounter
from engine.bundle import bundle as bundle_module
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
    ["counting", "1"], ["counting", "1", "low"], ["counting", "1", "most"],
    ["counting", "1", "beyond_peaks"], ["programs"], ["programs", "encoder"],
    ["programs", "decoder", "graph"], ["programs", "decoder", "inputs"], ["programs", "decoder", "inputs", 0],
    ["programs", "decoder", "stages"], ["programs", "decoder", "stages", 0],
    ["programs", "decoder", "stages", 0, "graph"],
    ["programs", "decoder", "stages", 1, "sizes"], ["programs", "decoder", "stages", 1, "sizes", 0],
    ["programs", "decoder", "stages", 2, "kernel"], ["programs", "decoder", "stages", 2, "inputs"],
    ["programs", "decoder", "stages", 3, "typed"], ["programs", "decoder", "stages", 3, "typed", "float16"],
    ["files"], ["files", "encoder.onnx"], ["files", "encoder.onnx", "size"], ["files", "encoder.onnx", "sha256"],
    ["versions"],
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, HUGE, -HUGE, 1e308, float("nan"), float("inf"), "", "../../etc/passwd",
    "/etc/passwd", "a\0b", "\x1b[2J", "x" * 100_000, [], [[]], {}, {"": {}}, DEEP,
]  # fmt: skip
# Where the value is what belongs there, or is not looked at.
HARMLESS = {("versions", "{}"), ("versions", "[]"), ("counting 1 beyond_peaks", "True"),
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


@pytest.mark.parametrize("name", ["manifest.json", "encoder.onnx", "weights.safetensors"])
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


@pytest.mark.parametrize("name", HOSTILE_GRAPHS)
def test_hostile_graphs(tmp_path: Path, name: str) -> None:
    graph, reason = HOSTILE_GRAPHS[name]
    with pytest.raises(BundleError, match=f"{GRAPH} is refused: .*{re.escape(reason)}"):
        write_small_bundle(tmp_path / "bundle", {GRAPH: graph})


@pytest.mark.parametrize("file", sorted(sound_graphs()))
def test_every_graph_is_looked_at(tmp_path: Path, file: str) -> None:
    """The whole ones, which other runtimes run, and the segments in every type."""
    graph = onnx.load_from_string(sound_graphs()[file])
    graph.graph.node.append(onnx.helper.make_node("Acosh", [graph.graph.input[0].name], ["junk"]))
    with pytest.raises(BundleError, match=f"{file} is refused: operator 'Acosh'"):
        write_small_bundle(tmp_path / "bundle", {file: graph.SerializeToString()})


def test_graphs_of_many_fields(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="more than 250000 fields"):
        write_small_bundle(tmp_path / "bundle", {GRAPH: within("graph initializer.0", b"\x08\x01" * 300_000)})


def test_large_graphs(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="more than 67108864"):
        write_small_bundle(tmp_path / "bundle", {GRAPH: bytes((64 << 20) + 1)})


# By name: a place in the manifest, what is put there, and a part of the reason that the refusal gives.
HOSTILE_STAGES: dict[str, tuple[list[Any], Any, str]] = {
    "cuts of more than there is": (["decoder", 1, "sizes"], [8, 8, 17], "it cuts 32 channels into [8, 8, 17]"),
    "cuts of less than there is": (["decoder", 1, "sizes"], [8, 8, 15], "it cuts 32 channels"),
    "q and k of other depths": (["decoder", 1, "sizes"], [4, 12, 16], "q, k and v are of different sizes"),
    "v in the place of k": (["decoder", 2, "inputs"], ["q", "v", "k"], "q, k and v are of different sizes"),
    "another program's map as q": (["decoder", 2, "inputs"], ["features", "k", "v"], "of different sizes"),
    "the time as q": (["decoder", 2, "inputs"], ["t", "k", "v"], "q, k and v are no maps"),
    "the time as q, k and v": (["decoder", 2, "inputs"], ["t", "t", "t"], "q, k and v are no maps"),
    "a map with its channels first as q, k and v": (["decoder", 2, "inputs"], ["x_t", "x_t", "x_t"], "no fixed size"),
    "a cut of rows": (["decoder", 1, "input"], "features", "no fixed size"),
    "a cut of the time": (["decoder", 1, "input"], "t", "no fixed size"),
    "a segment fed with another map": (["decoder", 3, "inputs"], ["features", "x"], "has inputs"),
    "a segment fed twice with one map": (["decoder", 3, "inputs"], ["attended", "attended"], "has inputs"),
    "an output that the graph does not have": (["decoder", 0, "outputs"], ["packed", "x", "y"], "has outputs"),
    "an output twice": (["decoder", 0, "outputs"], ["packed", "x", "x"], "has outputs"),
    "a segment of the encoder": (["decoder", 0, "graph"], "encoder.onnx", "has inputs"),
    "a float16 segment as float32": (["decoder", 0, "graph"], "first.float16.onnx", "it says of 'features'"),
    "a float32 segment as float16": (["decoder", 0, "typed", "float16"], "first.onnx", "it says of 'features'"),
    "a type of one segment alone": (["decoder", 3, "typed"], {}, "no float16 variant of second.onnx"),
    "an unknown type": (
        ["decoder", 3, "typed"],
        {"float16": "second.float16.onnx", "float8": "second.onnx"},
        "not know",
    ),
    "more features": (["model", "features"], 3, "another type or shape"),
    "a latent of more channels": (["model", "map_stride"], 4, "is refused"),
    "the decoder as the encoder": (["encoder", 0, "graph"], "decoder.onnx", "has inputs"),
}


@pytest.mark.parametrize("name", HOSTILE_STAGES)
def test_stages_that_do_not_fit(tmp_path: Path, name: str) -> None:
    """From a manifest alone: every graph is sound."""
    place, value, reason = HOSTILE_STAGES[name]
    folder = write_small_bundle(tmp_path / "bundle").path
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    entry: Any = manifest["model"] if place[0] == "model" else manifest["programs"][place[0]]["stages"]
    for key in place[1:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=re.escape(reason)):
        load_bundle(folder)


@pytest.mark.parametrize("performance", ["balanced", "latency"])
@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (["decoder", 1, "sizes"], [8, 8, 17], r"^q and k and v is refused while it runs"),
        (["decoder", 1, "sizes"], [4, 12, 16], r"^criss_cross_attention is refused while it runs"),
        (["decoder", 2, "inputs"], ["q", "v", "k"], r"^criss_cross_attention is refused while it runs"),
        (["decoder", 2, "inputs"], ["t", "t", "t"], r"^criss_cross_attention is refused while it runs"),
        (["decoder", 3, "graph"], "wide.onnx", r"^decoder is refused while it runs: it makes x_0"),
        (["encoder", 0, "graph"], "dense.onnx", r"^encoder is refused while it runs: it makes rate"),
    ],
    ids=str,
)
def test_while_it_runs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: list[Any], value: Any, reason: str, performance: str
) -> None:
    """Were a bundle let through by the check of its graphs, the one of arrays would refuse it at the first picture."""
    monkeypatch.setattr(bundle_module, "check_shapes", lambda *_: None)
    # Both ends larger by a border.
    graphs = {"wide.onnx": _padded("second.onnx", "estimate", 2), "dense.onnx": _padded("encoder.onnx", "rate", 1)}
    folder = write_small_bundle(tmp_path / "bundle", graphs).path
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    entry = manifest["programs"][place[0]]["stages"]
    for key in place[1:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    options = {"backend": "openvino", "compute_type": "float32", "cpu_threads": 1, "cache_dir": tmp_path / "cache"}
    with CrowdCounter(folder, performance=performance, steps=1, **options) as counter:
        with pytest.raises(BundleError, match=reason):
            counter.count(np.zeros((64, 96, 3), np.uint8))
        # It did not break: what it is asked next, it refuses in the same way.
        with pytest.raises(BundleError, match=reason):
            counter.count(np.zeros((96, 64, 3), np.uint8))


def _padded(file: str, made: str, border: int) -> bytes:
    """A graph that makes a map larger by a border."""
    model = onnx.load_from_string(sound_graphs()[file])
    for node in model.graph.node:
        if node.op_type == "Conv" and node.output[0] == made:
            (pads,) = (x for x in node.attribute if x.name == "pads")
            pads.ints[:] = [border] * 4
        # What else is added is as large as before.
        if node.op_type == "Add":
            node.op_type, node.input[1] = "Max", node.input[0]
    return model.SerializeToString()


def test_a_part_of_a_tensor_as_the_input_of_a_segment(tmp_path: Path) -> None:
    """Its rows lie apart from each other, which OpenVINO does not look at where NumPy has no name for the type."""
    folder = write_small_bundle(tmp_path / "bundle").path
    text = (folder / MANIFEST_FILE).read_text()
    renamed = text.replace('"v"', '"made"').replace('"attended"', '"v"').replace('"made"', '"attended"')
    # The kernel makes v of q, k and attended, which is cut from packed; the segment reads attended.
    (folder / MANIFEST_FILE).write_text(renamed)
    manifest = json.loads(renamed)
    stages = manifest["programs"]["decoder"]["stages"]
    assert stages[2]["outputs"] == ["v"]
    stages[3]["inputs"] = ["attended", "x"]
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="a segment reads attended, which are parts of another tensor"):
        load_bundle(folder)


def test_other_formats_of_a_runtime(tmp_path: Path) -> None:
    """OpenVINO would read an .xml or a .pdmodel as well, and those are not checked."""
    folder = write_small_bundle(tmp_path / "bundle").path
    file = folder / MANIFEST_FILE
    (folder / "first.onnx").rename(folder / "first.xml")
    file.write_text(file.read_text().replace("first.onnx", "first.xml"))
    with pytest.raises(BundleError, match=r"expected a file that ends in \.onnx"):
        load_bundle(folder)
