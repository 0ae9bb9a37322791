"""Small 8-bit graphs, and small files such as the Edge TPU compiler writes, for tests of the forecast and of reading the latter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from edgeship import flatbuffer
from tests.tiny_tflite import TinyModel

STAND_ALONE, CACHING, EXECUTION = 0, 1, 2


class EightBit(TinyModel):
    """A graph of 8-bit operations; what `chain` adds works on the last tensor added."""

    last: int = -1

    def source(self, name: str = "x", shape: Sequence[int] = (1, 8, 8, 4), dtype: str = "int8") -> EightBit:
        """Add an input of the model."""
        scale = None if dtype in ("float32", "int32") else 0.1
        self.last = self.input(name, shape, dtype, scale=scale)
        return self

    def made(self, shape: Sequence[int], dtype: str = "int8", name: str | None = None) -> int:
        """Add a computed tensor."""
        scale = 0.1 if dtype in ("int8", "uint8", "int16") else None
        return self.tensor(name or f"t{len(self.tensors)}", shape, dtype, scale=scale)

    def numbers(self, *values: int) -> int:
        """Add a constant of whole numbers: axes, a shape, strides."""
        return self.constant(f"c{len(self.tensors)}", np.array(values, np.int32))

    def weights(self, *shape: int, scales: int = 1, axis: int = 0) -> int:
        """Add constant int8 weights with as many scales along an axis."""
        scale = [0.01] * scales
        return self.constant(f"w{len(self.tensors)}", np.ones(shape, np.int8), scale=scale, axis=axis)

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        dtype: str = "int8",
        version: int = 1,
        **options: Any,
    ) -> int:
        """Add an operation and its output; return the output."""
        self.last = self.operator(kind, inputs, self.made(shape, dtype), **options)
        self.codes[-1].version = version
        return self.last

    def chain(self, kind: str, *more: int, shape: Sequence[int] | None = None, **options: Any) -> EightBit:
        """Add an operation on the last tensor, of the same shape unless another is given."""
        same = [int(size) for size in self.tensors[self.last].shape]
        self.add(kind, [self.last, *more], same if shape is None else shape, **options)
        return self

    def conv(self, kernel: int = 1, channels: int | None = None, **options: Any) -> EightBit:  # type: ignore[override]
        """Add a CONV_2D on the last tensor that keeps height and width."""
        *lead, depth = (int(size) for size in self.tensors[self.last].shape)
        out = channels or depth
        defaults = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        bias = self.constant(f"b{len(self.tensors)}", np.zeros(out, np.int32), scale=0.001)
        return self.chain(
            "CONV_2D", self.weights(out, kernel, kernel, depth), bias, shape=(*lead, out), **{**defaults, **options}
        )

    def custom(
        self, code: str, inputs: Sequence[int], shape: Sequence[int], dtype: str = "int8", given: bytes = b""
    ) -> int:
        """Add a custom operation with its options' bytes; return its output."""
        entry = schema.OperatorCodeT()
        entry.builtinCode = schema.BuiltinOperator.CUSTOM
        entry.deprecatedBuiltinCode, entry.customCode, entry.version = schema.BuiltinOperator.CUSTOM, code, 1
        self.codes.append(entry)
        operator = schema.OperatorT()
        self.last = self.made(shape, dtype)
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.codes) - 1, list(inputs), [self.last]
        operator.customOptions = np.frombuffer(given, np.uint8) if given else None
        self.operators.append(operator)
        return self.last

    def ends(self, *outputs: int) -> EightBit:
        """Name the outputs: the last tensor unless others are given."""
        self.outputs = list(outputs) or [self.last]
        return self

    def read(self, folder: Path, name: str = "tiny.tflite") -> flatbuffer.Graph:
        """Write the file into a folder and read it back."""
        if not self.outputs:
            self.ends()
        return flatbuffer.read(self.write(folder / name))


class _Raw(bytes):
    """Bytes that a FlexBuffer takes for a string, as the compiler's own are."""

    def encode(self, _encoding: str) -> bytes:
        return bytes(self)


def executable(kind: int, *, parameters: int, instructions: Sequence[int] = (16,), scratch: int = 0) -> bytes:
    """Return one program of a package: so many bytes of parameters, and chunks of instructions."""
    builder = flatbuffers.Builder(1024)
    chunks = []
    for size in instructions:
        content = builder.CreateByteVector(bytes(size))
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, content, 0)
        chunks.append(builder.EndObject())
    builder.StartVector(4, len(chunks), 4)
    for chunk in reversed(chunks):
        builder.PrependUOffsetTRelative(chunk)
    all_chunks = builder.EndVector()
    weights = builder.CreateByteVector(bytes(parameters))
    chip = builder.CreateString("beagle")
    builder.StartObject(17)
    builder.PrependInt32Slot(4, scratch, 0)
    builder.PrependUOffsetTRelativeSlot(5, all_chunks, 0)
    builder.PrependUOffsetTRelativeSlot(6, weights, 0)
    builder.PrependUOffsetTRelativeSlot(10, chip, 0)
    builder.PrependInt16Slot(13, kind, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def options(*executables: bytes, runtime: int = 13) -> bytes:
    """Return a custom operation's options: a map with a package, and in it the programs."""
    inner = flatbuffers.Builder(1024)
    programs = [inner.CreateString(content) for content in executables]
    inner.StartVector(4, len(programs), 4)
    for program in reversed(programs):
        inner.PrependUOffsetTRelative(program)
    vector = inner.EndVector()
    inner.StartObject(1)
    inner.PrependUOffsetTRelativeSlot(0, vector, 0)
    inner.Finish(inner.EndObject())
    outer = flatbuffers.Builder(1024)
    multi = outer.CreateByteVector(bytes(inner.Output()))
    compiler = outer.CreateString("cl/1")
    outer.StartObject(8)
    outer.PrependInt32Slot(0, runtime, 0)
    outer.PrependUOffsetTRelativeSlot(1, multi, 0)
    outer.PrependUOffsetTRelativeSlot(4, compiler, 0)
    outer.Finish(outer.EndObject(), file_identifier=b"DWN1")
    made = flexbuffers.Builder()
    with made.Map():
        made.Int("1", 1)
        made.Key("4")
        made.String(_Raw(outer.Output()))
    return bytes(made.Finish())


def compiled(folder: Path, name: str = "tiny_edgetpu.tflite", given: bytes = b"", *left: str) -> Path:
    """Write a compiled file: one custom operation, and after it operations of the named kinds that stayed on the CPU."""
    model = EightBit().source()
    model.custom("edgetpu-custom-op", [model.last], (1, 8, 8, 4), given=given)
    for kind in left:
        model.chain(kind)
    return model.ends().write(folder / name)
