"""A branch or a loop's body put where its node stood, under names that nothing else has; what its steps made, stacked."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import numpy_helper

from edgeship.onnx_rewrite.draft import Draft, replace_names


def inline(draft: Draft, graph: onnx.GraphProto, inputs: Sequence[str] = ()) -> list[str]:
    """Add a graph's nodes, its inputs being these values; return the names of its outputs."""
    graph = bare(draft, graph)
    names = {value.name: given for value, given in zip(graph.input, inputs, strict=True)}
    for node in graph.node:
        for name in node.output:
            if name:
                names[name] = draft.name(name)
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        replace_names(copied, names, outputs=True)
        draft.add_node(copied)
    return [names.get(value.name, value.name) for value in graph.output]


def bare(draft: Draft, graph: onnx.GraphProto) -> onnx.GraphProto:
    """Return a graph whose constants stand outside, once, however often it is inlined."""
    if not graph.initializer:
        return graph
    names = {tensor.name: draft.const(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    made = onnx.GraphProto(name=graph.name, input=graph.input)
    made.output.extend(
        onnx.ValueInfoProto(name=names.get(value.name, value.name), type=value.type) for value in graph.output
    )
    for node in graph.node:
        copied = made.node.add()
        copied.CopyFrom(node)
        replace_names(copied, names, outputs=False)
    return made


def stack(draft: Draft, parts: Sequence[str], axis: int, output: str) -> None:
    """Add the parts side by side along a new axis."""
    if draft.opset < 13:
        rows = [draft.add("Unsqueeze", part, axes=[axis]) for part in parts]
    else:
        rows = [draft.add("Unsqueeze", part, draft.const([axis])) for part in parts]
    draft.add("Concat", *rows, output=output, axis=axis)
