"""An ONNX graph fitted to the reference's interface: a Transpose or Reshape at its ends, which converters mostly dissolve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeship.onnx_file import graphs
from edgeship.onnx_interface import CHANNELS_FIRST, CHANNELS_LAST, OutputPort, Port

if TYPE_CHECKING:
    import onnx

_HELD_AXES = (3, 4, 5)  # of outputs that a converter may give with their axes in another order


def fitted(model: onnx.ModelProto, ports: Sequence[Port], outputs: Sequence[OutputPort]) -> onnx.ModelProto:
    """Return a copy of a model that eats what the reference eats, and gives what it gives, in shapes without open axes."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    if any(not isinstance(axis, int) for port in ports for axis in port.declared.axes):
        del made.graph.value_info[:]  # what was told of open shapes
    front, back = [], []
    by_name = {port.declared.name: port for port in ports}
    for value in made.graph.input:
        port = by_name.get(value.name)
        if port is None:
            continue
        _set_shape(value, port.eaten)
        if port.channels_last or port.batched:
            inner = _inner(made, value, port.shape)
            _rename(made.graph, value.name, inner, written=False)
            front.append(_turned(made, port, inner))
    for value, output in zip(made.graph.output, outputs, strict=True):
        _set_shape(value, output.given)
        if output.channels_last:
            inner = _inner(made, value, output.shape)
            _rename(made.graph, value.name, inner, written=True)
            back.append(
                onnx.helper.make_node(
                    "Transpose", [inner], [value.name], name=f"{value.name}/channels_last", perm=CHANNELS_LAST
                )
            )
    _set_nodes(made.graph, [*front, *made.graph.node, *back])
    return made


def held(model: onnx.ModelProto, outputs: Sequence[OutputPort]) -> onnx.ModelProto:
    """Return a copy of a model whose outputs pass a Reshape to the shape that they have: then their axes stay in order."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    back = []
    for value, output in zip(made.graph.output, outputs, strict=True):
        if not output.channels_last and len(output.shape) in _HELD_AXES:
            inner = _inner(made, value, output.shape)
            _rename(made.graph, value.name, inner, written=True)
            shape = onnx.helper.make_tensor(f"{inner}/shape", onnx.TensorProto.INT64, [len(output.shape)], output.shape)
            made.graph.initializer.append(shape)
            back.append(onnx.helper.make_node("Reshape", [inner, shape.name], [value.name], name=f"{value.name}/held"))
    _set_nodes(made.graph, [*made.graph.node, *back])
    return made


def _turned(model: onnx.ModelProto, port: Port, inner: str) -> onnx.NodeProto:
    """Return the node that makes the source's input of the reference's."""
    import onnx

    name = port.declared.name
    if port.channels_last:
        return onnx.helper.make_node("Transpose", [name], [inner], name=f"{name}/channels_first", perm=CHANNELS_FIRST)
    if not port.shape:  # a Reshape to no axes has an empty constant, over which litert-quantizer 0.11 stumbles
        first = onnx.helper.make_tensor(f"{inner}/first", onnx.TensorProto.INT64, [], [0])
        model.graph.initializer.append(first)
        return onnx.helper.make_node("Gather", [name, first.name], [inner], name=f"{name}/without_batch", axis=0)
    shape = onnx.helper.make_tensor(f"{inner}/shape", onnx.TensorProto.INT64, [len(port.shape)], port.shape)
    model.graph.initializer.append(shape)
    return onnx.helper.make_node("Reshape", [name, shape.name], [inner], name=f"{name}/without_batch")


def _inner(model: onnx.ModelProto, value: onnx.ValueInfoProto, shape: Sequence[int]) -> str:
    """Declare a value inside the graph like one of its ends, but for the shape, and return its name."""
    import onnx

    taken = {output for graph in graphs(model.graph) for node in graph.node for output in node.output}
    name = f"{value.name}/inner"
    while name in taken:
        name += "_"
    model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, shape))
    return name


def _rename(graph: onnx.GraphProto, name: str, now: str, *, written: bool) -> None:
    """Let every node that reads a value, however deep, read another; with `written`, make it another too."""
    for inner in graphs(graph):
        for node in inner.node:
            for fields in (node.input, node.output) if written else (node.input,):
                for index, used in enumerate(fields):
                    if used == name:
                        fields[index] = now


def _set_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    import onnx

    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _set_shape(value: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    tensor.shape.SetInParent()  # of a scalar: a shape without axes
    for size in shape:
        tensor.shape.dim.add().dim_value = size
