"""Changing a TFLite file: its tables as objects, operations put in the place of others, and what is used written again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import flatbuffer
from edgeship.errors import BadInput

SIGNATURE = "serving_default"
# The options table of each operation that is made here: tensorflow/compiler/mlir/lite/schema/schema.fbs
_OPTIONS = {
    "ADD": "AddOptions", "AVERAGE_POOL_2D": "Pool2DOptions", "CAST": "CastOptions", "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions", "FULLY_CONNECTED": "FullyConnectedOptions", "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions", "MEAN": "ReducerOptions", "MUL": "MulOptions", "PAD": "PadOptions",
    "RESHAPE": "ReshapeOptions", "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions", "SLICE": "SliceOptions", "SPLIT": "SplitOptions",
    "STRIDED_SLICE": "StridedSliceOptions", "SUB": "SubOptions", "SUM": "ReducerOptions",
    "TRANSPOSE": "TransposeOptions", "TRANSPOSE_CONV": "TransposeConvOptions",
}  # fmt: skip
_BARE = frozenset({"EMBEDDING_LOOKUP", "LOGISTIC", "RELU", "RELU6", "TANH"})


@dataclass(frozen=True)
class Port:
    """One input or output of a file: its tensor's index, and its name in the signature."""

    name: str
    tensor: int


class GraphEditor:
    """One file's only graph, open for change. Operations and tensors are the schema's own objects.

    Tensors keep their index while the file is open; what nothing uses is left out when it is written.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            BadInput: it is damaged, or holds more than one graph.
        """
        from ai_edge_litert import schema_py_generated as schema

        read = flatbuffer.read(path)
        if len(read.subgraphs) > 1:
            raise BadInput(f"{path}: holds {len(read.subgraphs)} graphs (loops, branches or several entries)")
        content = path.read_bytes()
        self.schema = schema
        self._kinds: dict[int, str] = {
            number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)
        }
        self.signature = read.signature
        self.model = schema.ModelT.InitFromPackedBuf(content)
        for buffer in self.model.buffers:
            if buffer.offset > 1:  # content behind the flatbuffer
                buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        self.graph = self.model.subgraphs[0]
        self.operators: list[Any] = list(self.graph.operators or ())
        self.tensors: list[Any] = self.graph.tensors
        specs = read.interface
        self.inputs = [Port(spec.name, index) for spec, index in zip(specs.inputs, read.main.inputs, strict=True)]
        self.outputs = [Port(spec.name, index) for spec, index in zip(specs.outputs, read.main.outputs, strict=True)]

    def kind(self, operator: Any) -> str:
        """Return an operation's TFLite builtin name; "CUSTOM" for any custom one."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return self._kinds.get(number, "")

    def each(self, *kinds: str) -> list[Any]:
        """Return the operations of some kinds, in the order of the file."""
        return [operator for operator in self.operators if self.kind(operator) in kinds]

    def name(self, index: int) -> str:
        """Return a tensor's name."""
        name = self.tensors[index].name
        return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")

    def shape(self, index: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def dtype(self, index: int) -> str:
        """Return a tensor's type by the schema's name in small letters."""
        number = self.tensors[index].type
        kinds = vars(self.schema.TensorType).items()
        return next(str(name).lower() for name, value in kinds if value == number and name.isupper())

    def is_constant(self, index: int) -> bool:
        """Say whether a tensor's value stands in the file."""
        data = self.model.buffers[self.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def values(self, index: int) -> NDArray[Any] | None:
        """Return a constant's values in its shape, None for what is computed, sparse, or no plain number."""
        dtypes = {"float32": np.float32, "int32": np.int32, "int64": np.int64, "int8": np.int8, "bool": np.bool_}
        dtype = dtypes.get(self.dtype(index)) if index >= 0 else None
        if dtype is None or not self.is_constant(index) or self.tensors[index].sparsity is not None:
            return None
        data = np.asarray(self.model.buffers[self.tensors[index].buffer].data, dtype=np.uint8)
        array: NDArray[Any] = np.frombuffer(data.tobytes(), dtype=dtype)
        return array.reshape(self.shape(index)) if array.size == np.prod(self.shape(index), dtype=int) else None

    def is_float(self, *indices: int) -> bool:
        """Say whether all of some tensors are float32."""
        return all(index >= 0 and self.tensors[index].type == self.schema.TensorType.FLOAT32 for index in indices)

    def activation(self, operator: Any) -> str:
        """Return the name of an operation's fused activation, "NONE" where it has none."""
        number = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
        names = vars(self.schema.ActivationFunctionType).items()
        return next(str(name) for name, value in names if value == number)

    def producer(self, index: int) -> Any | None:
        """Return the operation that computes a tensor, None for inputs and constants."""
        return next((operator for operator in self.operators if index in _indices(operator.outputs)), None)

    def readers(self, index: int) -> list[Any]:
        """Return the operations that read a tensor; an output of the file has one more reader, the user."""
        return [operator for operator in self.operators if index in _indices(operator.inputs)]

    def is_output(self, index: int) -> bool:
        """Say whether a tensor leaves the file."""
        return any(port.tensor == index for port in self.outputs)

    def constant(self, name: str, values: NDArray[Any]) -> int:
        """Add a constant and return its index."""
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), dtype=np.uint8)
        self.model.buffers.append(buffer)
        index = self.computed(name, values.shape, values.dtype.name)
        self.tensors[index].buffer = len(self.model.buffers) - 1
        return index

    def computed(self, name: str, shape: Sequence[int], dtype: str = "float32") -> int:
        """Add a tensor that an operation will compute, and return its index; its name is made unique."""
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape = self.unique(name), [int(size) for size in shape]
        tensor.type, tensor.buffer, tensor.hasRank = getattr(self.schema.TensorType, dtype.upper()), 0, True
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def unique(self, name: str) -> str:
        """Return a name that no tensor has: this one, or with a number behind it."""
        taken = {self.name(index) for index in range(len(self.tensors))}
        numbered = (f"{name}_{number}" for number in range(2, len(taken) + 3))
        return name if name and name not in taken else next(new for new in numbered if new not in taken)

    def operator(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> Any:
        """Make an operation of version 1 with options by the schema's names; it is not yet in the graph."""
        made = self.schema.OperatorT()
        made.opcodeIndex = self._code(kind)
        made.inputs, made.outputs = list(inputs), list(outputs)
        if kind not in _BARE:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, _OPTIONS[kind])
            made.builtinOptions = getattr(self.schema, f"{_OPTIONS[kind]}T")()
        for name, value in options.items():
            if not hasattr(made.builtinOptions, name):
                raise AttributeError(f"{kind} has no option '{name}'")
            setattr(made.builtinOptions, name, value)
        return made

    def _code(self, kind: str) -> int:
        number = getattr(self.schema.BuiltinOperator, kind)
        for place, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number and code.version == 1:
                return place
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def replace(self, operator: Any, made: Sequence[Any]) -> None:
        """Put operations in the place of one; the last of them must compute what it computed."""
        place = next(index for index, known in enumerate(self.operators) if known is operator)
        self.operators[place : place + 1] = made

    def redirect(self, old: int, new: int) -> None:
        """Let everything that reads one tensor read another; it must not be an output of the file."""
        for operator in self.readers(old):
            operator.inputs = [new if index == old else index for index in _indices(operator.inputs)]

    def fuse(self, operator: Any, activation: str) -> None:
        """Set an operation's fused activation."""
        operator.builtinOptions.fusedActivationFunction = getattr(self.schema.ActivationFunctionType, activation)

    def content(self) -> bytes:
        """Return the changed file, without tensors, constants and operation codes that nothing uses."""
        return self.part(self.operators, self.inputs, self.outputs)

    def whole(self) -> bytes:
        """Return the changed file with every tensor, used or not, so that all keep their index."""
        import flatbuffers  # type: ignore[import-untyped]

        self.graph.operators = self.operators
        self.graph.inputs = [port.tensor for port in self.inputs]
        self.graph.outputs = [port.tensor for port in self.outputs]
        builder = flatbuffers.Builder(1 << 20)
        model = _changed(self.model, signatureDefs=None)  # its inputs may be others by now
        builder.Finish(model.Pack(builder), file_identifier=flatbuffer.IDENTIFIER)
        return bytes(builder.Output())

    def part(
        self,
        operators: Sequence[Any],
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        *,
        without_metadata: Iterable[str] = (),
    ) -> bytes:
        """Return a file of some of the operations, with their tensors' names and quantization as they are here."""
        import flatbuffers

        model = self.schema.ModelT()
        model.version, model.description = self.model.version, self.model.description
        model.externalBufferGroups, model.externalBuffers = self.model.externalBufferGroups, self.model.externalBuffers
        used = [port.tensor for port in (*inputs, *outputs)]
        for operator in operators:
            for indices in (operator.inputs, operator.outputs, operator.intermediates):
                used += [index for index in _indices(indices) if index >= 0]
        tensors = _Renumbered(sorted(set(used)))
        codes = _Renumbered(sorted({operator.opcodeIndex for operator in operators}))
        model.operatorCodes = [self.model.operatorCodes[index] for index in codes.old]
        dropped = set(without_metadata)
        entries = [entry for entry in self.model.metadata or () if _text(entry.name) not in dropped]
        buffers = _Renumbered(
            sorted({0, *(self.tensors[index].buffer for index in tensors.old), *(entry.buffer for entry in entries)})
        )
        model.buffers = [self.model.buffers[index] for index in buffers.old]
        model.metadata = [_changed(entry, buffer=buffers.new[entry.buffer]) for entry in entries] or None
        graph = self.schema.SubGraphT()
        graph.name = self.graph.name
        graph.tensors = [
            _changed(self.tensors[index], buffer=buffers.new[self.tensors[index].buffer]) for index in tensors.old
        ]
        graph.operators = [_moved(operator, codes, tensors) for operator in operators]
        graph.inputs = [tensors.new[port.tensor] for port in inputs]
        graph.outputs = [tensors.new[port.tensor] for port in outputs]
        model.subgraphs = [graph]
        if self.signature is not None:
            model.signatureDefs = [self._signature(inputs, outputs, tensors)]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=flatbuffer.IDENTIFIER)
        return bytes(builder.Output())

    def _signature(self, inputs: Sequence[Port], outputs: Sequence[Port], tensors: _Renumbered) -> Any:
        made = self.schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = self.signature, 0
        made.inputs, made.outputs = [], []
        for ports, entries in ((inputs, made.inputs), (outputs, made.outputs)):
            for port in ports:
                entry = self.schema.TensorMapT()
                entry.name, entry.tensorIndex = port.name, tensors.new[port.tensor]
                entries.append(entry)
        return made


class _Renumbered:
    """Old indices in their new order, and the new index of each; -1, an input that is absent, stays."""

    def __init__(self, old: list[int]) -> None:
        self.old = old
        self.new = {index: place for place, index in enumerate(old)} | {-1: -1}


def _indices(listed: Any) -> list[int]:
    return [] if listed is None else [int(index) for index in listed]


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")


def _changed(table: Any, **fields: Any) -> Any:
    made = copy.copy(table)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _moved(operator: Any, codes: _Renumbered, tensors: _Renumbered) -> Any:
    """Return an operation with its own and its tensors' indices in the new file."""
    made = _changed(operator, opcodeIndex=codes.new[operator.opcodeIndex])
    for field in ("inputs", "outputs", "intermediates"):
        listed = getattr(operator, field)
        if listed is not None:
            setattr(made, field, [tensors.new[index] for index in _indices(listed)])
    return made
