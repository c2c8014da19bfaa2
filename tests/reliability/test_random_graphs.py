"""What the check of a bundle's graphs accepts, OpenVINO runs, and makes of the size that the check foresaw."""

from __future__ import annotations

from collections import Counter

import numpy as np
import openvino
from onnx import helper
from reliability.random_graphs import OPERATORS, RandomGraph
from reliability.small_bundle import SMALL

from engine.bundle import graph_check, graph_operators
from engine.bundle.graph_shapes import Known
from engine.bundle.onnx_file import read_onnx
from engine.bundle.program_check import program_ends

GIVEN = {name: known for name, known in program_ends("decoder", SMALL).items() if name != "x_0"}
SIZES = {"batch": 1, "h8": 3, "w8": 5, "pixels": 7}


def test_every_operator_is_tried() -> None:
    assert set(OPERATORS) == set(graph_operators.OPERATORS)


def test_what_is_accepted_runs(long_run: bool) -> None:
    """400 (20,000) graphs with hostile indices, shapes and attributes; what is accepted is run on one picture."""
    rng, core = np.random.default_rng(21), openvino.Core()
    tried, accepted = Counter[str](), Counter[str]()
    for number in range(20_000 if long_run else 400):
        operator = OPERATORS[number % len(OPERATORS)]
        # A few are sound, so that each operator is run.
        graph = RandomGraph(rng, operator, hostile=0.9 if number >= 3 * len(OPERATORS) else 0.0)
        tried[operator] += 1
        made = _made_by_the_last(graph)
        if made is None:
            continue
        accepted[operator] += 1
        _run(core, graph, made)
    print(f"{sum(tried.values())} graphs, {sum(accepted.values())} accepted and run")
    assert min(accepted[operator] for operator in OPERATORS) >= 3
    assert sum(accepted.values()) < sum(tried.values()) / 2


def _made_by_the_last(graph: RandomGraph) -> dict[str, Known] | None:
    """What the check foresees of the outputs of the graph's last operator; None where it refuses the graph."""
    walk = None
    try:
        walk = graph_check._Walk(read_onnx(graph.file([]), {}), GIVEN, whole=False)
        walk.run(())
    except ValueError:
        return None
    return {name: walk._known[name] for name in graph.nodes[-1].output}


def _run(core: openvino.Core, graph: RandomGraph, made: dict[str, Known]) -> None:
    outputs = [
        helper.make_tensor_value_info(
            name, known.type, [side.size if not side.symbol else None for side in known.sides]
        )
        for name, known in made.items()
    ]
    compiled = core.compile_model(core.read_model(graph.file(outputs)), "CPU", {"INFERENCE_NUM_THREADS": 1})
    inputs = {
        name: np.ones([_size(side) for side in known.sides], np.float32)
        for name, known in GIVEN.items()
        if any(name in port.get_names() for port in compiled.inputs)
    }
    results = compiled(inputs)
    for name, known in made.items():
        expected = tuple(_size(side) for side in known.sides)
        assert results[name].shape == expected, f"{name} of {[str(x.op_type) for x in graph.nodes]}"


def _size(side: object) -> int:
    symbol, factor, offset = side  # type: ignore[misc]
    return factor * SIZES.get(symbol, 0) + offset
