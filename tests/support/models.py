"""A small ONNX model."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def a_summing_model(folder: Path) -> bytes:
    """`y` is the sum of the two numbers in `x`."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    ends.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None]))
    added = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    graph = helper.make_graph([added], "g", ends[:1], ends[1:], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model")
    return (folder / "model").read_bytes()
