"""What an ONNX model is fed and gives: as the file declares it, in shapes made definite, and as the TFLite reference has it.

The reference's inputs begin with a batch axis, and images end with their channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import check_inputs
from edgeship.check_inputs import InputSpec
from edgeship.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from edgeship.examples import Examples

    Array = np.ndarray[Any, np.dtype[Any]]

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
# Reading an image through these says nothing of where its channels stand; through those, they stand second.
_THROUGH = {
    "Abs", "Add", "Cast", "Clip", "Div", "Dropout", "Identity", "Mul", "Neg", "Pad", "Relu", "Sigmoid", "Sub", "Tanh",
    "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
_THROUGH_TO_OUTPUT = {
    "Concat", "Elu", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "LogSoftmax", "Max", "Min", "Mish", "Pow",
    "PRelu", "Reciprocal", "Selu", "Softmax", "Softplus", "Sqrt", "ThresholdedRelu", "Where",
}  # fmt: skip
_SPATIAL = {
    "AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace", "GlobalAveragePool",
    "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "MaxPool", "QLinearConv", "Resize",
    "SpaceToDepth", "Upsample",
}  # fmt: skip
_INDEX_THROUGH = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


@dataclass(frozen=True)
class Declared:
    """One input as the file declares it: an axis is a size, the name of an open one, or None; `limit` is of indices."""

    name: str
    axes: tuple[int | str | None, ...]
    dtype: str
    image: bool
    limit: int

    @property
    def spec(self) -> InputSpec:
        """Return it as the check's inputs are declared."""
        return InputSpec(
            self.name, tuple(axis if isinstance(axis, int) else None for axis in self.axes), self.dtype, self.limit
        )


@dataclass(frozen=True)
class Port:
    """One input: its shape in the source, whether the reference eats it channels last, and with a batch axis added."""

    declared: Declared
    shape: tuple[int, ...]
    channels_last: bool = False
    batched: bool = False

    @property
    def eaten(self) -> tuple[int, ...]:
        """Return the shape that the reference eats."""
        shape = tuple(self.shape[axis] for axis in CHANNELS_LAST) if self.channels_last else self.shape
        return (1, *shape) if self.batched else shape

    def spec(self) -> InputSpec:
        """Return what the reference eats, as the check's inputs are declared."""
        return InputSpec(self.declared.name, self.eaten, self.declared.dtype, self.declared.limit)

    def to_source(self, array: Array) -> Array:
        """Return one batch of what the reference eats as the source eats it."""
        import numpy as np

        array = array.reshape(array.shape[1:]) if self.batched else array
        return np.ascontiguousarray(array.transpose(CHANNELS_FIRST)) if self.channels_last else array


@dataclass(frozen=True)
class OutputPort:
    """One output: its shape in the source, and whether the reference gives it channels last."""

    name: str
    shape: tuple[int, ...]
    channels_last: bool = False

    @property
    def given(self) -> tuple[int, ...]:
        """Return the shape that the reference gives."""
        return tuple(self.shape[axis] for axis in CHANNELS_LAST) if self.channels_last else self.shape

    def from_source(self, array: Array) -> Array:
        """Return outputs of the source, the first axis counting the examples, as the reference gives them."""
        return array.transpose(CHANNELS_LAST) if self.channels_last else array


def declared(source: Path, model: onnx.ModelProto) -> list[Declared]:
    """Return a model's inputs, in order.

    Raises:
        BadInput: there is none, or one is no tensor of numbers that TFLite has.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    readers = _readers(model.graph)
    found = []
    for value in model.graph.input:
        if value.name in weights:
            continue
        dtype = _dtype(source, value)
        axes = tuple(_axis(entry) for entry in value.type.tensor_type.shape.dim)
        if not value.type.tensor_type.HasField("shape"):
            raise BadInput(
                f"{source}: input '{value.name}' says nothing of its shape", hint="export it with a declared shape"
            )
        image = len(axes) == 4 and _is_image(value.name, readers)
        limit = _limit(value.name, readers, model.graph) if dtype.startswith(("int", "uint")) else 2
        found.append(Declared(value.name, axes, dtype, image, limit))
    if not found:
        raise BadInput(f"{source}: the model takes no inputs")
    return found


def _axis(entry: Any) -> int | str | None:
    if entry.HasField("dim_value"):
        return int(entry.dim_value) if entry.dim_value > 0 else None
    return str(entry.dim_param) if entry.dim_param.isidentifier() or "." in entry.dim_param else None  # not "?"


def _dtype(source: Path, value: onnx.ValueInfoProto) -> str:
    import onnx

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise BadInput(
            f"{source}: '{value.name}' is a {(kind or 'value of no type').removesuffix('_type')}; tensors are what can be converted"
        )
    number = value.type.tensor_type.elem_type
    told = (
        onnx.TensorProto.DataType.Name(number).lower() if number in onnx.TensorProto.DataType.values() else str(number)
    )
    names = {"float": "float32", "double": "float64"}
    name = names.get(told, told)
    if name not in ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool"):
        hint = "export it in float32; edgeship's recipe float16 makes it small again" if "float" in name else None
        raise BadInput(f"{source}: '{value.name}' is {name}, which cannot be converted", hint=hint)
    return name


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _is_image(name: str, readers: Mapping[str, list[onnx.NodeProto]]) -> bool:
    """Say whether what reads an input takes its second axis for channels."""
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop()
        for node in readers.get(current, ()):
            if node.op_type in _SPATIAL:
                return bool(node.input[0] == current)
            if node.op_type in _THROUGH and node.output[0] not in seen:
                seen.add(node.output[0])
                waiting.append(node.output[0])
    return False


def output_ports(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], *, keep_layout: bool
) -> list[OutputPort]:
    """Return the outputs, with the shapes that the source's runtime gave them."""
    makers = {name: node for node in model.graph.node for name in node.output}
    return [
        OutputPort(name, shape, not keep_layout and len(shape) == 4 and _gives_image(name, makers))
        for name, shape in shapes.items()
    ]


def _gives_image(name: str, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Say whether a value comes, through operations on single values, from one that puts channels second."""
    waiting, seen = [name], {name}
    while waiting:
        node = makers.get(waiting.pop())
        if node is None:
            continue
        if node.op_type in _SPATIAL:
            return True
        if node.op_type in _THROUGH or node.op_type in _THROUGH_TO_OUTPUT:
            waiting += [read for read in node.input if read not in seen]
            seen.update(node.input)
    return False


def _limit(name: str, readers: Mapping[str, list[onnx.NodeProto]], graph: onnx.GraphProto) -> int:
    """Return below which number made-up values of an integer input stay: the rows of the table that it looks up in."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    waiting, seen = [name], set[str]()
    rows: list[int] = []
    while waiting:
        current = waiting.pop()
        for node in readers.get(current, ()):
            if node.op_type == "Gather" and node.input[1] == current and node.input[0] in shapes:
                axis = next((int(entry.i) for entry in node.attribute if entry.name == "axis"), 0)
                rows += shapes[node.input[0]][axis:][:1]
            elif node.op_type in _INDEX_THROUGH and node.output[0] not in seen:
                seen.add(node.output[0])
                waiting.append(node.output[0])
    return min(rows, default=2)


def ports(
    source: Path,
    inputs: Sequence[Declared],
    given: Mapping[str, tuple[int, ...]],
    examples: Examples | None,
    *,
    keep_layout: bool,
) -> list[Port]:
    """Return the inputs with their shapes in full: as given, else as the examples are, with a batch of 1.

    Raises:
        BadInput: a shape is open and cannot be told, or a given one does not fit; the hint is what to type.
    """
    typed = {name: _as_declared(inputs, name, shape) for name, shape in given.items()}
    told = {**_from_examples(inputs, examples), **typed}
    open_batch = {entry.name for entry in inputs if entry.axes and not isinstance(entry.axes[0], int)}
    unbatched = {name for name in open_batch & set(typed) if len(typed[name]) == 3 and typed[name][0] != 1}
    names = _named_sizes(inputs, told)
    specs = [
        _with_sizes(entry, names, typed_first=told[entry.name][0] if entry.name in unbatched else None)
        for entry in inputs
    ]
    shapes = check_inputs.full_shapes(source, specs, told)
    firsts = {shape[:1] for shape in shapes.values()}
    found = []
    for entry in inputs:
        shape = shapes[entry.name]
        batched = shape != (1,) and (len(shape) < 2 or entry.name in unbatched or (shape[0] != 1 and len(firsts) > 1))
        found.append(Port(entry, shape, entry.image and not keep_layout and not batched, batched))
    return found


def _as_declared(inputs: Sequence[Declared], name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a typed shape; one of an image that fits only channels last is turned."""
    entry = next((entry for entry in inputs if entry.name == name), None)
    if entry is None or not entry.image or len(shape) != 4 or _fits(shape, entry.axes):
        return shape
    turned = tuple(shape[axis] for axis in CHANNELS_FIRST)
    return turned if _fits(turned, entry.axes) else shape


def _fits(shape: Sequence[int], axes: Sequence[int | str | None]) -> bool:
    return len(shape) == len(axes) and all(
        not isinstance(axis, int) or axis == size for size, axis in zip(shape, axes, strict=True)
    )


def _from_examples(inputs: Sequence[Declared], examples: Examples | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes that examples tell of inputs with open axes, where they fit in one way only."""
    arrays = dict(examples.inputs) if examples is not None else {}
    if len(inputs) == 1 and set(arrays) == {"inputs"}:
        arrays = {inputs[0].name: arrays["inputs"]}
    found = {}
    for entry in inputs:
        if entry.name not in arrays or not any(not isinstance(axis, int) for axis in entry.axes[1:]):
            continue
        batch = entry.axes[0] if isinstance(entry.axes[0], int) else 1
        shape = (batch, *arrays[entry.name].shape[1:])
        ways = [shape] if _fits(shape, entry.axes) else []
        if entry.image and len(shape) == 4:
            turned = tuple(shape[axis] for axis in CHANNELS_FIRST)
            ways += [turned] if _fits(turned, entry.axes) else []
        if len(ways) == 1:
            found[entry.name] = ways[0]
    return found


def _named_sizes(inputs: Sequence[Declared], told: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the sizes of named axes that the told shapes settle: `sequence` of one input is that of the others."""
    found: dict[str, int] = {}
    for entry in inputs:
        shape = told.get(entry.name, ())
        for axis, size in zip(entry.axes[1:], shape[1:], strict=False):
            if isinstance(axis, str) and len(shape) == len(entry.axes):
                found.setdefault(axis, size)
    return found


def _with_sizes(entry: Declared, names: Mapping[str, int], *, typed_first: int | None) -> InputSpec:
    first = (typed_first,) if typed_first is not None else entry.spec.shape[:1]
    rest = tuple(names.get(axis) if isinstance(axis, str) else axis for axis in entry.axes[1:])
    return InputSpec(entry.name, (*first, *rest), entry.dtype, entry.limit)
