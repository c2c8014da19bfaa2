"""The attention's ONNX node, its body in standard operators, and how PyTorch's ops become them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnx import parser
from onnx.defs import OpSchema
from onnxscript import opset18, values

import engine.model.attention  # noqa: F401  (registers the ops under torch.ops.crowd)

DOMAIN = "crowd"
DOMAIN_VERSION = 1
OPSET = 18
KERNEL = "criss_cross_attention"

# Column pass on [B, W, H, ...], its diagonal masked: the own pixel is left to the row pass, so that it counts once.
_BODY = f"""
<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
{KERNEL} (q, k, v) => (out)
{{
   height = Shape <start = 1, end = 2> (q)
   width = Shape <start = 2, end = 3> (q)
   zero = Constant <value_int = 0> ()
   one = Constant <value_int = 1> ()
   first_axis = Constant <value_ints = [0]> ()
   last_axis = Constant <value_ints = [1]> ()
   scalar_height = Squeeze (height)
   index = Range (zero, scalar_height, one)
   index_row = Unsqueeze (index, first_axis)
   index_column = Unsqueeze (index, last_axis)
   own = Equal (index_row, index_column)
   infinity = Constant <value = float {{-inf}}> ()
   masked = CastLike (infinity, q)
   q_columns = Transpose <perm = [0, 2, 1, 3]> (q)
   k_columns = Transpose <perm = [0, 2, 3, 1]> (k)
   v_columns = Transpose <perm = [0, 2, 1, 3]> (v)
   k_rows = Transpose <perm = [0, 1, 3, 2]> (k)
   column_all = MatMul (q_columns, k_columns)
   column = Where (own, masked, column_all)
   column_logits = Transpose <perm = [0, 2, 1, 3]> (column)
   row_logits = MatMul (q, k_rows)
   logits = Concat <axis = -1> (column_logits, row_logits)
   weights = Softmax <axis = -1> (logits)
   lengths = Concat <axis = 0> (height, width)
   column_weights, row_weights = Split <axis = -1> (weights, lengths)
   weights_columns = Transpose <perm = [0, 2, 1, 3]> (column_weights)
   out_columns = MatMul (weights_columns, v_columns)
   from_column = Transpose <perm = [0, 2, 1, 3]> (out_columns)
   from_row = MatMul (row_weights, v)
   out = Add (from_column, from_row)
}}
"""


def attention_function() -> onnx.FunctionProto:
    """``crowd::criss_cross_attention`` for any ONNX runtime: q, k [B, H, W, D], v [B, H, W, C], any H and W."""
    return parser.parse_function(_BODY)


def _schema() -> OpSchema:
    parameter = OpSchema.FormalParameter
    floats = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
    return OpSchema(
        KERNEL,
        DOMAIN,
        DOMAIN_VERSION,
        inputs=[parameter(name, "T") for name in ("q", "k", "v")],
        outputs=[parameter("out", "T")],
        type_constraints=[("T", floats, "the type of the map")],
    )


# Its type hints know no operator on the result of another.
op: Any = opset18

_ATTENTION = values.Op(values.Opset(DOMAIN, DOMAIN_VERSION), KERNEL, _schema())


def _attention_node(q: Any, k: Any, v: Any) -> Any:
    return _ATTENTION(q, k, v)


def _log_length(x: Any) -> Any:
    size = op.ReduceSum(op.Shape(x, start=2, end=4), keepdims=0)
    return op.Log(op.Cast(op.Sub(size, op.Constant(value_int=1)), to=onnx.TensorProto.FLOAT))


def translations() -> dict[Callable, Callable]:
    """The table that torch.onnx.export needs: attention stays one node, log_length becomes standard operators."""
    ops = torch.ops.crowd
    return {ops.criss_cross_attention.default: _attention_node, ops.log_length.default: _log_length}
