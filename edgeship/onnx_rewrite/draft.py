"""One ONNX graph while it is rewritten: what is known of its values, and the nodes that take another's place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeship.errors import BadInput

Array = npt.NDArray[Any]
STANDARD_DOMAINS = ("", "ai.onnx")
_REDUCTION_AXES_INPUT_SINCE = {"ReduceSum": 13}  # the others since 18
_OPTIONAL = ""  # how a node's list says that an input is not there


class DoesNotFit(BadInput):
    """A node cannot run with the shapes of its inputs: a branch that is never taken has some."""


class Draft:
    """A graph walked once from inputs to outputs; every node is kept, dropped, or replaced by smaller ones.

    Shapes, dtypes and constants are known for every value that the walk has passed.
    """

    def __init__(self, model: onnx.ModelProto, *, strict: bool = False) -> None:
        self._strict = strict
        self.opset = opset_of(model)
        self.kept: list[onnx.NodeProto] = []
        self._opsets = list(model.opset_import)
        self._ir_version = model.ir_version
        self._outputs = {value.name for value in model.graph.output}
        self._fresh: list[onnx.NodeProto] = []
        self._types: dict[str, onnx.TypeProto] = {}
        self._constants: dict[str, onnx.TensorProto] = {}
        self._arrays: dict[str, Array] = {}
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._aliases: dict[str, str] = {}
        self._producers: dict[str, onnx.NodeProto] = {}
        self._taken: set[str] = _all_names(model.graph)
        self._uses = Counter(name for node in model.graph.node for name in names_used(node))
        for value in (*model.graph.value_info, *model.graph.output, *model.graph.input):
            self._types[value.name] = value.type
        for tensor in model.graph.initializer:
            self.know(tensor.name, tensor)

    # What is known.

    def shape(self, value: str) -> tuple[int, ...] | None:
        """Return the value's shape, or None when not all of it is fixed."""
        if value in self._constants:
            return tuple(self._constants[value].dims)
        kind = self._types.get(value)
        return None if kind is None else dims_of(kind)

    def fixed_shape(self, node: onnx.NodeProto, value: str) -> tuple[int, ...]:
        """Return the shape of a node's input.

        Raises:
            BadInput: it is not fixed; operation and layer are named.
        """
        shape = self.shape(value)
        if shape is None:
            raise refusal(node, f"the shape of its input '{value}' is not fixed", hint="give every input's --shape")
        return shape

    def dtype(self, value: str) -> np.dtype[Any] | None:
        """Return the value's element type, or None when it is not known or not a tensor."""
        if value in self._constants:
            return helper.tensor_dtype_to_np_dtype(self._constants[value].data_type)
        kind = self._types.get(value)
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.elem_type:
            return None
        return helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)

    def constant(self, value: str) -> Array | None:
        """Return the value's content when it is the same in every run, else None."""
        if value not in self._constants:
            return None
        if value not in self._arrays:
            self._arrays[value] = numpy_helper.to_array(self._constants[value])
        return self._arrays[value]

    def is_constant(self, value: str) -> bool:
        """Say whether the value is the same in every run, without reading it."""
        return value in self._constants

    def fixed_constant(self, node: onnx.NodeProto, position: int, meaning: str) -> Array | None:
        """Return the content of an optional input, or None when it is not there.

        Raises:
            BadInput: it is there and changes from run to run; operation and layer are named.
        """
        name = optional_input(node, position)
        if not name:
            return None
        array = self.constant(name)
        if array is None:
            raise refusal(node, f"its {meaning} ('{name}') are computed anew in every run")
        return array

    def producer(self, value: str) -> onnx.NodeProto | None:
        """Return the kept node that makes a value, or None for inputs and constants."""
        return self._producers.get(value)

    def made_shape(self, node: onnx.NodeProto) -> tuple[int, ...] | None:
        """Return the shape of a node's first output before it is kept, or None when not all of it is fixed."""
        kind = self._inferred(node).get(node.output[0])
        return None if kind is None else dims_of(kind)

    def uses(self, value: str) -> int:
        """Return how often the source's graph reads a value, the graph's own outputs counted in."""
        return self._uses[value] + (value in self._outputs)

    def is_output(self, value: str) -> bool:
        """Say whether the value is one of the model's own outputs."""
        return value in self._outputs

    # What is added.

    def name(self, stem: str) -> str:
        """Return a value name that nothing else in the model has."""
        chosen, number = stem, 0
        while chosen in self._taken:
            number += 1
            chosen = f"{stem}_{number}"
        self._taken.add(chosen)
        return chosen

    def const(self, array: Array | Sequence[int]) -> str:
        """Return the name of a constant with this content; lists become int64."""
        content = np.ascontiguousarray(array if isinstance(array, np.ndarray) else np.array(array, np.int64))
        content = content.reshape(np.shape(array))  # a scalar stays one
        key = (content.dtype.str, content.shape, content.tobytes())
        if key not in self._names:
            name = self.name("constant")
            self.know(name, numpy_helper.from_array(content, name))
            self._names[key] = name
        return self._names[key]

    def scalar(self, number: float, dtype: np.dtype[Any]) -> str:
        """Return the name of a constant with one element and no axes."""
        return self.const(np.array(number, dtype))

    def add(self, operation: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output to those that take the present node's place; return the output's name."""
        made = output or self.name(f"{operation}_output")
        self._fresh.append(helper.make_node(operation, list(inputs), [made], name=made, **attributes))
        return made

    def add_node(self, node: onnx.NodeProto) -> None:
        """Append a whole node, such as one of an inlined branch."""
        self._fresh.append(node)

    def reshape(self, value: str, shape: Iterable[int], output: str | None = None) -> str:
        """Append a Reshape to a fixed shape."""
        return self.add("Reshape", value, self.const([int(length) for length in shape]), output=output)

    def transpose(self, value: str, order: Sequence[int], output: str | None = None) -> str:
        """Append a Transpose; output axis i is input axis order[i]."""
        return self.add("Transpose", value, output=output, perm=list(order))

    def slice(self, value: str, axis: int, start: int, end: int, output: str | None = None) -> str:
        """Append a Slice of one axis, from start up to but not including end."""
        if self.opset < 10:
            return self.add("Slice", value, output=output, axes=[axis], starts=[start], ends=[end])
        return self.add(
            "Slice", value, self.const([start]), self.const([end]), self.const([axis]), self.const([1]), output=output
        )

    def split(self, value: str, axis: int, lengths: Sequence[int]) -> list[str]:
        """Append what takes one axis apart into these lengths.

        Slices, not a Split: the converter writes that with an open end, which XNNPACK refuses.
        """
        if len(lengths) == 1:
            return [value]
        ends = np.cumsum(lengths).tolist()
        return [self.slice(value, axis, end - length, end) for end, length in zip(ends, lengths, strict=True)]

    def reduce(self, operation: str, value: str, axes: Sequence[int], output: str | None = None) -> str:
        """Append a reduction that keeps the axes as ones; `operation` is such as "ReduceMean"."""
        if self.opset < _REDUCTION_AXES_INPUT_SINCE.get(operation, 18):
            return self.add(operation, value, output=output, axes=list(axes), keepdims=1)
        return self.add(operation, value, self.const(list(axes)), output=output, keepdims=1)

    def clip(self, value: str, low: float, high: float, dtype: np.dtype[Any], output: str | None = None) -> str:
        """Append a Clip to fixed bounds."""
        if self.opset < 11:
            return self.add("Clip", value, output=output, min=low, max=high)
        return self.add("Clip", value, self.scalar(low, dtype), self.scalar(high, dtype), output=output)

    # What the walk does.

    def know(self, value: str, tensor: onnx.TensorProto) -> None:
        """Note that a value is this tensor in every run."""
        self._constants[value] = tensor
        self._arrays.pop(value, None)
        self._types[value] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))

    def rename(self, value: str, known: str) -> None:
        """Let every later use of `value` mean `known`."""
        self._aliases[value] = self._aliases.get(known, known)
        self._uses[self._aliases[value]] += self._uses[value]

    def current(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """Return a copy of a node with the inputs' present names, also inside its branches and bodies."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        replace_names(copy, self._aliases, outputs=False)
        return copy

    def take(self) -> list[onnx.NodeProto]:
        """Return what was added since the last call."""
        taken, self._fresh = self._fresh, []
        return taken

    def keep(self, node: onnx.NodeProto) -> None:
        """Append a node to the finished graph and learn its outputs' shapes."""
        self.kept.append(node)
        for name in node.output:
            self._producers[name] = node
        for name, kind in self._inferred(node).items():
            self._types[name] = kind

    def _inferred(self, node: onnx.NodeProto) -> Mapping[str, onnx.TypeProto]:
        """Return what ONNX's own shape inference says of a node's outputs; nothing for operations it does not know."""
        if node.domain not in STANDARD_DOMAINS:
            return {}
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
        except onnx.defs.SchemaError:
            return {}
        names = [name for name in node.input if name]
        data = {name: self._constants[name] for name in names if name in self._constants}
        small = {name: tensor for name, tensor in data.items() if np.prod(tensor.dims, dtype=np.int64) <= 4096}
        try:
            found: Mapping[str, onnx.TypeProto] = onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                {name: self._types[name] for name in names if name in self._types},
                small,
                opset_imports=self._opsets,
                ir_version=self._ir_version,
            )
        except onnx.shape_inference.InferenceError as fault:
            if self._strict:
                raise DoesNotFit(refusal(node, f"it does not fit its inputs: {fault}").message) from fault
            return {}
        except (onnx.checker.ValidationError, RuntimeError, ValueError, TypeError):  # an input's type is not known
            return {}
        return found

    def alone(self, branch: onnx.GraphProto) -> onnx.ModelProto:
        """Return a branch as a model of its own; what it captures becomes its inputs and constants."""
        shell = onnx.NodeProto(op_type="If")
        shell.attribute.append(onnx.AttributeProto(name="branch", type=onnx.AttributeProto.GRAPH, g=branch))
        captured = sorted(names_used(shell))
        model = onnx.ModelProto(ir_version=self._ir_version)
        model.opset_import.extend(self._opsets)
        model.graph.CopyFrom(branch)
        model.graph.initializer.extend(self._constants[name] for name in captured if name in self._constants)
        model.graph.input.extend(
            onnx.ValueInfoProto(name=name, type=self._types[name])
            for name in captured
            if name not in self._constants and name in self._types
        )
        return model

    def finished(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model with the graph as it is now: only what its outputs need, with all shapes that are known."""
        needed = {value.name for value in model.graph.output}
        nodes: list[onnx.NodeProto] = []
        for node in reversed(self.kept):
            if any(name in needed for name in node.output):
                nodes.append(node)
                needed.update(names_used(node))
        result = onnx.ModelProto()
        result.CopyFrom(_without_graph(model))
        result.graph.name = model.graph.name
        result.graph.input.extend(model.graph.input)
        result.graph.output.extend(
            onnx.ValueInfoProto(name=value.name, type=self._types.get(value.name, value.type))
            for value in model.graph.output
        )
        result.graph.node.extend(reversed(nodes))
        result.graph.initializer.extend(tensor for name, tensor in self._constants.items() if name in needed)
        inside = {name for node in nodes for name in node.output} - {value.name for value in model.graph.output}
        for name in sorted(inside & self._types.keys()):
            result.graph.value_info.append(onnx.ValueInfoProto(name=name, type=self._types[name]))
        return result


def dims_of(kind: onnx.TypeProto) -> tuple[int, ...] | None:
    """Return a tensor type's shape, or None when not all of it is fixed."""
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
        return None
    return tuple(dim.dim_value for dim in dims)


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operations that a model asks for."""
    return max((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), default=1)


def refusal(node: onnx.NodeProto, why: str, *, hint: str | None = None) -> BadInput:
    """Make the refusal of a node: operation and layer, and what of it cannot be converted."""
    layer = node.name or (node.output[0] if node.output else "")
    return BadInput(f"operation {node.op_type}, layer '{layer}': {why}", hint=hint)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return a node's attribute, text decoded, or the default."""
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            if isinstance(value, bytes):
                return value.decode()
            if isinstance(value, list):
                return [one.decode() if isinstance(one, bytes) else one for one in value]
            return value
    return default


def optional_input(node: onnx.NodeProto, position: int) -> str:
    """Return the name of a node's input, or "" when it is not there."""
    return node.input[position] if position < len(node.input) else _OPTIONAL


def optional_output(node: onnx.NodeProto, position: int) -> str:
    """Return the name of a node's output, or "" when nobody asked for it."""
    return node.output[position] if position < len(node.output) else _OPTIONAL


def graphs_of(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the branches or the body of a node."""
    found = [entry.g for entry in node.attribute if entry.type == onnx.AttributeProto.GRAPH]
    return found + [graph for entry in node.attribute for graph in entry.graphs]


def names_used(node: onnx.NodeProto) -> set[str]:
    """Return all value names that a node reads, also those its branches capture."""
    used = {name for name in node.input if name}
    for graph in graphs_of(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        for inner in graph.node:
            used |= names_used(inner) - own
            own.update(inner.output)
        used |= {value.name for value in graph.output} - own
    return used


def replace_names(node: onnx.NodeProto, names: Mapping[str, str], *, outputs: bool) -> None:
    """Give values in a node other names, also where its branches capture them; a name that a branch defines itself stays."""
    for position, name in enumerate(node.input):
        node.input[position] = names.get(name, name)
    if outputs:
        for position, name in enumerate(node.output):
            node.output[position] = names.get(name, name)
    for graph in graphs_of(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        free = {name: other for name, other in names.items() if name not in own}
        for inner in graph.node:
            replace_names(inner, free, outputs=False)
        for value in graph.output:
            value.name = free.get(value.name, value.name)


def _all_names(graph: onnx.GraphProto) -> set[str]:
    names = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    names |= {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        names.update((node.name, *node.input, *node.output))
        for inner in graphs_of(node):
            names |= _all_names(inner)
    return names


def _without_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return everything but the graph, without copying the weights once more."""
    shell = onnx.ModelProto(
        ir_version=model.ir_version, producer_name=model.producer_name, producer_version=model.producer_version
    )
    shell.opset_import.extend(model.opset_import)
    shell.metadata_props.extend(model.metadata_props)
    shell.functions.extend(model.functions)
    return shell
