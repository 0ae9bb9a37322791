"""Reading a TFLite flatbuffer: tensors, operators, signatures. Every length is checked against the file before it is believed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.artifact import Interface, TensorSpec
from edgeship.errors import BadInput

IDENTIFIER = b"TFL3"
_DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, KeyError)
_SMALL_BITS = {"int4": 4, "uint4": 4, "int2": 2}
_NUMPY = {
    "float32": np.float32, "float16": np.float16, "float64": np.float64, "int8": np.int8, "uint8": np.uint8,
    "int16": np.int16, "uint16": np.uint16, "int32": np.int32, "uint32": np.uint32, "int64": np.int64,
    "uint64": np.uint64, "bool": np.bool_,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Quantization:
    """A tensor's scales and zero points, one or one per slice of `axis`."""

    scales: NDArray[np.float64]
    zero_points: NDArray[np.int64]
    axis: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor. `content` is a constant's raw bytes (a view of the file), None for what is computed."""

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    quantization: Quantization | None
    content: memoryview | None
    sparse: bool
    variable: bool

    @property
    def constant(self) -> bool:
        """Say whether the tensor's value stands in the file."""
        return self.content is not None

    @property
    def elements(self) -> int:
        """Return the number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def size_bytes(self) -> int:
        """Return the bytes it takes in memory, or in the file for a constant."""
        if self.content is not None:
            return len(self.content)
        bits = _SMALL_BITS.get(self.dtype) or np.dtype(_NUMPY.get(self.dtype, np.int8)).itemsize * 8
        return (self.elements * bits + 7) // 8


@dataclass(frozen=True, eq=False)
class Operator:
    """One operation: its TFLite builtin name (or custom code), version, tensor indices (-1: absent) and options."""

    index: int
    name: str
    custom: bool
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    custom_options: memoryview | None = None


@dataclass(frozen=True, eq=False)
class Subgraph:
    """A graph of operators in the order in which they run."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """A TFLite file: its subgraphs (the first is the model), the interface by signature, and the names of its metadata."""

    subgraphs: tuple[Subgraph, ...]
    interface: Interface
    signature: str | None
    metadata: tuple[str, ...]
    size_bytes: int

    @property
    def main(self) -> Subgraph:
        """Return the model's own subgraph."""
        return self.subgraphs[0]


def recognizes(path: Path) -> bool:
    """Say whether a file begins as a TFLite flatbuffer does."""
    with path.open("rb") as stream:
        return stream.read(8)[4:8] == IDENTIFIER


def read(path: Path) -> Graph:
    """Return the graph in a TFLite file.

    Raises:
        BadInput: the file is missing, is no TFLite file, or is damaged; the text starts with the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    if content[4:8] != IDENTIFIER:
        raise BadInput(f"{path}: not a TFLite file (no '{IDENTIFIER.decode()}' at byte 4)")
    try:
        return _Reader(content).graph()
    except _DAMAGE as error:
        raise BadInput(f"{path}: damaged TFLite file: {error}", hint="export or copy the file again") from None


def raw(tensor: Tensor) -> NDArray[Any] | None:
    """Return a constant's stored values in its shape (small integers unpacked), None for strings, sparse and computed ones."""
    if tensor.content is None or tensor.sparse:
        return None
    if tensor.dtype in _SMALL_BITS:
        return _unpacked(tensor, _SMALL_BITS[tensor.dtype])
    if tensor.dtype not in _NUMPY:
        return None
    dtype = np.dtype(_NUMPY[tensor.dtype])
    if len(tensor.content) != tensor.elements * dtype.itemsize:  # a damaged file: the value is not known
        return None
    return np.frombuffer(tensor.content, dtype=dtype).reshape(tensor.shape)


def values(tensor: Tensor) -> NDArray[np.float32] | None:
    """Return a constant's real values as float32 in its shape: dequantized where it is quantized."""
    stored = raw(tensor)
    if stored is None:
        return None
    return dequantized(stored, tensor.quantization)


def dequantized(stored: NDArray[Any], quantization: Quantization | None) -> NDArray[np.float32]:
    """Return `scale * (stored - zero_point)`, per channel along the quantized axis where there are several scales."""
    if quantization is None:
        return stored.astype(np.float32)
    scales, zeros = quantization.scales, quantization.zero_points
    if scales.size > 1 and stored.shape[quantization.axis : quantization.axis + 1] == (scales.size,):
        along = [1] * stored.ndim
        along[quantization.axis] = scales.size
        scales, zeros = scales.reshape(along), zeros.reshape(along)
    elif scales.size > 1:  # blockwise scales are no single axis' own
        return stored.astype(np.float32)
    return np.asarray(scales * (stored.astype(np.float64) - zeros), dtype=np.float32)


def _unpacked(tensor: Tensor, bits: int) -> NDArray[np.int8] | None:
    """Return packed small integers, the first in the low bits, as int8."""
    assert tensor.content is not None
    packed = np.frombuffer(tensor.content, dtype=np.uint8)
    mask = (1 << bits) - 1
    parts = np.stack([(packed >> shift) & mask for shift in range(0, 8, bits)], axis=1).ravel()[: tensor.elements]
    if parts.size != tensor.elements:
        return None
    signed = parts.astype(np.int8)
    if tensor.dtype.startswith("int"):
        signed = np.where(parts >= 1 << (bits - 1), signed - (1 << bits), signed).astype(np.int8)
    return signed.reshape(tensor.shape)


class _Reader:
    """Walks one file's tables; owns the buffer and its bounds."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated

        self.schema = schema_py_generated
        self.content = content
        self.model = schema_py_generated.Model.GetRootAs(content, 0)
        self.buffers = [self._buffer(entry) for entry in self._each(self.model.Buffers, self.model.BuffersLength)]
        self.codes = [
            self._code(entry) for entry in self._each(self.model.OperatorCodes, self.model.OperatorCodesLength)
        ]

    def graph(self) -> Graph:
        subgraphs = tuple(
            self._subgraph(entry) for entry in self._each(self.model.Subgraphs, self.model.SubgraphsLength)
        )
        if not subgraphs:
            raise ValueError("it holds no graph")
        signature, interface = self._interface(subgraphs[0])
        metadata = (_text(entry.Name()) for entry in self._each(self.model.Metadata, self.model.MetadataLength))
        return Graph(subgraphs, interface, signature, tuple(metadata), len(self.content))

    def _each(self, entry: Callable[[int], Any], length: Callable[[], int]) -> Iterator[Any]:
        for position in range(self._bounded(length())):
            yield entry(position)

    def _bounded(self, count: int) -> int:
        if not 0 <= count <= len(self.content):
            raise ValueError(f"a list of {count} entries does not fit into {len(self.content)} bytes")
        return count

    def _numbers(self, table: Any, field: str) -> tuple[int, ...]:
        self._bounded(getattr(table, f"{field}Length")())
        found = getattr(table, f"{field}AsNumpy")()
        return tuple(int(number) for number in found) if isinstance(found, np.ndarray) else ()

    def _buffer(self, buffer: Any) -> memoryview | None:
        if buffer.Offset() > 1:  # content behind the flatbuffer, for files past 2 GB
            start, size = buffer.Offset(), buffer.Size()
            if start + size > len(self.content):
                raise ValueError("a buffer lies outside of the file")
            return memoryview(self.content)[start : start + size]
        if not self._bounded(buffer.DataLength()):
            return None
        return memoryview(buffer.DataAsNumpy())

    def _code(self, code: Any) -> tuple[str, bool, int]:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _enum_names(self.schema.BuiltinOperator).get(number, f"BUILTIN_{number}")
        if name == "CUSTOM":
            return _text(code.CustomCode()), True, code.Version()
        return name, False, code.Version()

    def _subgraph(self, subgraph: Any) -> Subgraph:
        tensors = tuple(
            self._tensor(index, entry)
            for index, entry in enumerate(self._each(subgraph.Tensors, subgraph.TensorsLength))
        )
        operators = tuple(
            self._operator(index, entry, len(tensors))
            for index, entry in enumerate(self._each(subgraph.Operators, subgraph.OperatorsLength))
        )
        inputs, outputs = self._numbers(subgraph, "Inputs"), self._numbers(subgraph, "Outputs")
        _within((*inputs, *outputs), len(tensors))
        return Subgraph(tensors, operators, inputs, outputs)

    def _tensor(self, index: int, tensor: Any) -> Tensor:
        shape = self._numbers(tensor, "Shape")
        if any(size < 0 for size in shape):
            raise ValueError(f"tensor {index} has the shape {shape}")
        return Tensor(
            index=index,
            name=_text(tensor.Name()),
            shape=shape,
            shape_signature=self._numbers(tensor, "ShapeSignature") or shape,
            dtype=_enum_names(self.schema.TensorType).get(tensor.Type(), f"type{tensor.Type()}").lower(),
            quantization=self._quantization(tensor.Quantization(), index, shape),
            content=self.buffers[tensor.Buffer()],
            sparse=tensor.Sparsity() is not None,
            variable=bool(tensor.IsVariable()),
        )

    def _quantization(self, table: Any, index: int, shape: tuple[int, ...]) -> Quantization | None:
        if table is None or not self._bounded(table.ScaleLength()):
            return None
        self._bounded(table.ZeroPointLength())
        scales = np.asarray(table.ScaleAsNumpy(), dtype=np.float64)
        zeros = (
            np.asarray(table.ZeroPointAsNumpy(), dtype=np.int64) if table.ZeroPointLength() else np.zeros(1, np.int64)
        )
        axis = int(table.QuantizedDimension())
        if scales.size > 1 and not 0 <= axis < max(len(shape), 1):
            raise ValueError(f"tensor {index} is quantized along axis {axis} of {len(shape)}")
        if not np.isfinite(scales).all():
            raise ValueError(f"tensor {index} has a scale that is no number")
        if zeros.size not in (1, scales.size):
            raise ValueError(f"tensor {index} has {scales.size} scales and {zeros.size} zero points")
        return Quantization(scales, np.broadcast_to(zeros, scales.shape) if zeros.size == 1 else zeros, axis)

    def _operator(self, index: int, operator: Any, tensor_count: int) -> Operator:
        name, custom, version = self.codes[operator.OpcodeIndex()]
        inputs, outputs = self._numbers(operator, "Inputs"), self._numbers(operator, "Outputs")
        _within((*inputs, *outputs), tensor_count)
        given = memoryview(operator.CustomOptionsAsNumpy()) if self._bounded(operator.CustomOptionsLength()) else None
        return Operator(index, name, custom, version, inputs, outputs, self._options(operator), given)

    def _options(self, operator: Any) -> dict[str, Any]:
        kind = _enum_names(self.schema.BuiltinOptions).get(operator.BuiltinOptionsType(), "NONE")
        table = operator.BuiltinOptions()
        if table is None or not hasattr(self.schema, kind):
            return {}
        options = getattr(self.schema, kind)()
        options.Init(table.Bytes, table.Pos)
        return {field: getattr(options, field)() for field in _scalar_fields(getattr(self.schema, kind))}

    def _interface(self, main: Subgraph) -> tuple[str | None, Interface]:
        names: dict[int, str] = {}
        key: str | None = None
        for entry in self._each(self.model.SignatureDefs, self.model.SignatureDefsLength):
            if entry.SubgraphIndex() == 0:
                key = _text(entry.SignatureKey())
                maps = [*self._each(entry.Inputs, entry.InputsLength), *self._each(entry.Outputs, entry.OutputsLength)]
                names = {item.TensorIndex(): _text(item.Name()) for item in maps}
                break
        inputs = tuple(_spec(main.tensors[index], names) for index in main.inputs)
        outputs = tuple(_spec(main.tensors[index], names) for index in main.outputs)
        return key, Interface(inputs, outputs)


def _spec(tensor: Tensor, names: dict[int, str]) -> TensorSpec:
    found = tensor.quantization
    scale = float(found.scales[0]) if found is not None and found.scales.size == 1 else None
    zero_point = int(found.zero_points[0]) if found is not None and scale is not None else None
    return TensorSpec(names.get(tensor.index, tensor.name), tensor.shape_signature, tensor.dtype, scale, zero_point)


def _within(indices: tuple[int, ...], count: int) -> None:
    for index in indices:
        if not -1 <= index < count:
            raise ValueError(f"tensor {index} of {count} is named")


def _text(raw_name: bytes | None) -> str:
    return (raw_name or b"").decode("utf-8", errors="replace")


@cache
def _enum_names(kind: type) -> dict[int, str]:
    return {number: name for name, number in vars(kind).items() if isinstance(number, int)}


@cache
def _scalar_fields(kind: type) -> tuple[str, ...]:
    """Return an options table's fields that are single values: its methods that take nothing."""
    methods = [name for name, member in vars(kind).items() if callable(member) and name[0].isupper() and name != "Init"]
    vectors = {name.removesuffix("Length") for name in methods if name.endswith("Length")}
    return tuple(name for name in methods if not name.endswith(("Length", "IsNone", "AsNumpy")) and name not in vectors)
