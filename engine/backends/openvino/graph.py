"""A bundle's segment as OpenVINO likes it: its borders in the type and, on wish, the layout of the convolutions."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

# The number of the form that this file gives a segment. Models that were compiled of another form are compiled again.
FORM = 2
# End of the name of an output that has its channels first, where the segment's has them last.
CHANNELS_FIRST = "/channels_first"
_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
# What works on each pixel alone, whatever the order of the axes.
_ELEMENTWISE = frozenset({"Add", "Multiply", "Subtract", "Relu", "Convert", "Clamp", "Sigmoid"})


def read_segment(core: ov.Core, file: Path, public: Collection[str], element_type: ov.Type) -> ov.Model:
    """The graph in ``file`` for a batch of one, of any height and width.

    Args:
        public: inputs and outputs of the programs, which stay as they are; maps that pass from segment to segment
            get ``element_type``.
    """
    model = core.read_model(file)
    shapes = {}
    for port in model.inputs:
        shape = port.partial_shape
        shape[0] = ov.Dimension(1)
        shapes[port.any_name] = shape
    model.reshape(shapes)
    for parameter in model.get_parameters():
        if not parameter.output(0).get_names() & set(public) and _is_map(parameter.get_partial_shape()):
            _retype_input(parameter, element_type)
    for result in model.get_results():
        if not result.input_value(0).get_names() & set(public) and _is_map(result.get_output_partial_shape(0)):
            _insert_before(result, ops.convert(result.input_value(0), element_type))
    model.validate_nodes_and_infer_types()
    return model


def put_channels_first(model: ov.Model, public: Collection[str]) -> None:
    """Leave out the Transpose by which an output for a kernel gets its channels last, in place.

    Where sizes are not known OpenVINO carries it out, and slowly: our kernel takes an eighth of the time. Names of
    such outputs end in :data:`CHANNELS_FIRST`.
    """
    for result in model.get_results():
        value = result.input_value(0)
        convert = value.get_node()
        if value.get_names() & set(public) or convert.get_type_name() != "Convert":
            continue
        turned = convert.input_value(0).get_node()
        if turned.get_type_name() == "Transpose" and _order(turned) == _TO_CHANNELS_LAST:
            convert.input(0).replace_source_output(turned.input_value(0))
            for named in (value, result.output(0)):
                named.set_names({name + CHANNELS_FIRST for name in named.get_names()})
    model.validate_nodes_and_infer_types()


def keep_layout_at_scales(model: ov.Model) -> None:
    """Let a map keep its layout where each of its channels is scaled or shifted by a computed number, in place.

    OpenVINO lays an element-wise operator out as most of its inputs are laid out, and [1, C, 1, 1] counts like a map
    with its channels first: what a convolution made is turned for it, and turned back behind it. What a convolution
    makes has its channels last, of numbers too: so they go through one that leaves them as they are. Where all sizes
    are known, :func:`lay_channels_last` does as well without.
    """
    computed: set[str] = set()
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        inputs = [x.get_node().get_name() for x in node.input_values()]
        if kind == "Parameter" or (kind != "ShapeOf" and not computed.isdisjoint(inputs)):
            computed.add(node.get_name())
        if kind not in {"Multiply", "Add"} or not any(_is_map(x.get_partial_shape()) for x in node.input_values()):
            continue
        for port, (name, value) in enumerate(zip(inputs, node.input_values(), strict=True)):
            shape = value.get_partial_shape()
            if name in computed and shape.rank == 4 and shape[1].is_static and shape[2] == shape[3] == 1:
                one = ops.constant(np.ones((shape[1].get_length(), 1, 1, 1, 1), np.float32))
                same = ops.group_convolution(value, one, [1, 1], [0, 0], [0, 0], [1, 1])
                node.input(port).replace_source_output(same.output(0))
    model.validate_nodes_and_infer_types()


def lay_channels_last(model: ov.Model, public: Collection[str]) -> None:
    """Give the maps between segments the layout [1, h, w, C], and keep it up to the convolutions, in place.

    OpenVINO's convolutions have their channels last in memory whatever the graph says, so a Transpose next to one
    costs nothing, where sizes are known. One that meets element-wise operators first is carried out: each is moved
    behind them.
    """
    for parameter in model.get_parameters():
        if not parameter.output(0).get_names() & set(public) and _is_channels_first(parameter.get_partial_shape()):
            targets = parameter.output(0).get_target_inputs()
            shape = parameter.get_partial_shape()
            parameter.set_partial_shape(ov.PartialShape([shape[i] for i in _TO_CHANNELS_LAST]))
            turned = ops.transpose(parameter, _TO_CHANNELS_FIRST)
            for target in targets:
                target.replace_source_output(turned.output(0))
    for result in model.get_results():
        if not result.input_value(0).get_names() & set(public) and _is_channels_first(
            result.get_output_partial_shape(0)
        ):
            _insert_before(result, ops.transpose(result.input_value(0), _TO_CHANNELS_LAST))
    model.validate_nodes_and_infer_types()
    for node in model.get_ordered_ops():
        _sink_transposes(node)
    model.validate_nodes_and_infer_types()


def _sink_transposes(node: ov.Node) -> None:
    kind = node.get_type_name()
    if kind == "Transpose":
        source = _turned(node.input_value(0))
        if source is not None and _order(node) == _TO_CHANNELS_LAST:
            _replace(node.output(0), source)
    elif kind == "Concat" and node.get_attributes()["axis"] == 1:
        sources = [_turned(x) for x in node.input_values()]
        if any(x is not None for x in sources):
            inputs = [
                ops.transpose(x, _TO_CHANNELS_LAST) if source is None else source
                for x, source in zip(node.input_values(), sources, strict=True)
            ]
            _replace(node.output(0), ops.transpose(ops.concat(inputs, 3), _TO_CHANNELS_FIRST).output(0))
    elif kind in _ELEMENTWISE:
        _sink_below(node)


def _sink_below(node: ov.Node) -> None:
    """Move the Transposes of all maps that an element-wise ``node`` reads behind it."""
    inputs = node.input_values()
    sources = [_turned(x) for x in inputs]
    maps = [x for x in inputs if _is_map(x.get_partial_shape())]
    if all(x is None for x in sources):
        return
    for i, value in enumerate(inputs):
        if sources[i] is None and _is_scaled(value):
            sources[i] = ops.transpose(value, _TO_CHANNELS_LAST).output(0)
    if len(maps) != sum(x is not None for x in sources):
        return
    for i, (value, source) in enumerate(zip(inputs, sources, strict=True)):
        if source is not None:
            node.input(i).replace_source_output(source)
        elif value.get_partial_shape().rank.get_length() > 0:
            # A value of each channel, [1, C, 1, 1] or [C, 1, 1].
            node.input(i).replace_source_output(ops.reshape(value, [1, 1, 1, -1], special_zero=False).output(0))
    targets = node.output(0).get_target_inputs()
    turned = ops.transpose(node, _TO_CHANNELS_FIRST)
    for target in targets:
        target.replace_source_output(turned.output(0))


def _is_scaled(value: ov.Output) -> bool:
    """Whether a map was just scaled by numbers from outside, one for each channel.

    OpenVINO lays a group of operators out as most of their inputs are laid out. Such numbers count like maps with their
    channels first, and with them a map that was turned has the majority over one that a convolution made.
    """
    node = value.get_node()
    return node.get_type_name() == "Multiply" and any(
        not _is_map(x.get_partial_shape()) and x.get_node().get_type_name() != "Constant" for x in node.input_values()
    )


def _turned(value: ov.Output) -> ov.Output | None:
    """What a Transpose to [1, C, h, w] reads, if ``value`` is made by one."""
    node = value.get_node()
    if node.get_type_name() == "Transpose" and _order(node) == _TO_CHANNELS_FIRST:
        return node.input_value(0)
    return None


def _order(transpose: ov.Node) -> list[int]:
    order = transpose.input_value(1).get_node()
    return list(order.get_data()) if order.get_type_name() == "Constant" else []


def _replace(old: ov.Output, new: ov.Output) -> None:
    names = old.get_names()
    for target in old.get_target_inputs():
        target.replace_source_output(new)
    old.set_names(set())
    new.set_names(new.get_names() | names)


def _insert_before(result: ov.Node, node: ov.Node) -> None:
    old = result.input_value(0)
    names = old.get_names()
    result.input(0).replace_source_output(node.output(0))
    old.set_names(set())
    node.output(0).set_names(names)


def _retype_input(parameter: ov.Node, element_type: ov.Type) -> None:
    targets = parameter.output(0).get_target_inputs()
    former = parameter.get_element_type()
    parameter.set_element_type(element_type)
    wide = ops.convert(parameter, former)
    for target in targets:
        target.replace_source_output(wide.output(0))


def _is_map(shape: ov.PartialShape) -> bool:
    """Whether a tensor has a value at each place, not one for all of them."""
    return shape.rank.get_length() == 4 and sum(x.is_dynamic for x in shape) == 2


def _is_channels_first(shape: ov.PartialShape) -> bool:
    return _is_map(shape) and shape[1].is_static
