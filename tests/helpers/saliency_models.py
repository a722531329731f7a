"""Tiny networks in ONNX that take a photograph and give a map, or something else that is refused."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
Shape = Sequence[int | str]
PHOTOGRAPH: Shape = (1, 3, 32, 32)
MAP: Shape = (1, 1, 32, 32)


def model(
    nodes: Sequence[onnx.NodeProto],
    *,
    takes: Shape = PHOTOGRAPH,
    gives: Shape | None = MAP,
    of: int = FLOAT,
    constants: Sequence[onnx.TensorProto] = (),
    more_inputs: int = 0,
) -> bytes:
    """The file of a network from `x` to `y`.

    Args:
        nodes: what it computes.
        takes: shape of the input; words are sides that may be any.
        gives: shape that it declares for its output; None declares none.
        of: what kind of numbers.
        constants: its weights.
        more_inputs: that are not used.
    """
    inputs = [helper.make_tensor_value_info("x", of, takes)]
    inputs += [helper.make_tensor_value_info(f"x{number}", of, takes) for number in range(more_inputs)]
    graph = helper.make_graph(
        list(nodes), "tiny", inputs, [helper.make_tensor_value_info("y", of, gives)], list(constants)
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString())


def redness(weight: float = 1.0, sides: Shape = (32, 32)) -> bytes:
    """The first output is red, weighted; the second is blue, to be left alone."""
    kernels = [np.zeros((1, 3, 1, 1), np.float32) for _ in range(2)]
    kernels[0][0, 0], kernels[1][0, 2] = weight, 1
    names = ("red", "blue")
    constants = [helper.make_tensor(n, FLOAT, (1, 3, 1, 1), k.ravel()) for n, k in zip(names, kernels, strict=True)]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "red"], ["y"]), helper.make_node("Conv", ["x", "blue"], ["z"])],
        "redness",
        [helper.make_tensor_value_info("x", FLOAT, (1, 3, *sides))],
        [helper.make_tensor_value_info(name, FLOAT, (1, 1, *sides)) for name in ("y", "z")],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString())


def first_channel(then: str | None = None) -> list[onnx.NodeProto]:
    """Red, and what an operator without parameters makes of it; constants: `borders`."""
    end = "y" if then is None else "red"
    nodes = [helper.make_node("Slice", ["x", "from", "to", "axis"], [end])]
    return nodes if then is None else [*nodes, helper.make_node(then, ["red"], ["y"])]


BORDERS = tuple(helper.make_tensor(name, INT64, (1,), [value]) for name, value in (("from", 0), ("to", 1), ("axis", 1)))


def not_finite() -> bytes:
    """Gives logarithms of what is mostly negative."""
    return model(first_channel("Log"), constants=BORDERS)


def elsewhere(location: str) -> bytes:
    """Its weights lie in another file."""
    weight = TensorProto(name="w", data_type=FLOAT, dims=(1, 3, 1, 1), data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    return model([helper.make_node("Conv", ["x", "w"], ["y"])], constants=[weight])
