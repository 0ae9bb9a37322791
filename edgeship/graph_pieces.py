"""Operations put together to stand in the place of one: each call adds one and returns the tensor that it computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeship.graph_editor import GraphEditor


class Replacement:
    """What will stand in the place of one operation, and compute the same tensor; names begin with that tensor's."""

    def __init__(self, editor: GraphEditor, operator: Any) -> None:
        self.editor, self.replaced = editor, operator
        self.output = int(operator.outputs[0])
        self.stem = editor.name(self.output)
        self.made: list[Any] = []

    def add(self, kind: str, inputs: Sequence[int], shape: Sequence[int], **options: Any) -> int:
        """Add an operation with a result of a shape; options by the schema's names, a fused activation by its own."""
        activation = options.pop("activation", "NONE")
        dtype = self.editor.dtype(self.output)
        result = self.editor.computed(f"{self.stem}/{kind.lower()}", shape, dtype)
        self.editor.tensors[result].quantization = None
        self.made.append(self.editor.operator(kind, inputs, [result], **options))
        if activation != "NONE":
            self.editor.fuse(self.made[-1], activation)
        return result

    def arithmetic(self, kind: str, one: int, two: int | float, activation: str = "NONE") -> int:
        """Add ADD, SUB, MUL or MAXIMUM of two tensors, or of one and a number."""
        second = two if isinstance(two, int) else self.number(two)
        shape = np.broadcast_shapes(self.editor.shape(one), self.editor.shape(second))
        if activation == "NONE":
            return self.add(kind, [one, second], shape)
        return self.add(kind, [one, second], shape, activation=activation)

    def reshape(self, source: int, shape: Sequence[int]) -> int:
        """Add a RESHAPE."""
        sizes = self.editor.constant(f"{self.stem}/shape", np.array(shape, np.int32))
        return self.add("RESHAPE", [source, sizes], shape, newShape=[int(size) for size in shape])

    def convolution(self, source: int, weight: int, bias: int, *, activation: str = "NONE") -> int:
        """Add a CONV_2D of stride 1 with a 1x1 kernel; weight [out, 1, 1, in]."""
        shape = (*self.editor.shape(source)[:3], self.editor.shape(weight)[0])
        return self.add(
            "CONV_2D", [source, weight, bias], shape, activation=activation,
            strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, padding=self.editor.schema.Padding.VALID,
        )  # fmt: skip

    def number(self, value: float) -> int:
        """Return a constant of one number."""
        return self.editor.constant(f"{self.stem}/number", np.array([value], np.float32))

    def numbers(self, values: Any) -> int:
        """Return a constant of float32 numbers."""
        return self.editor.constant(f"{self.stem}/numbers", np.asarray(values, dtype=np.float32))

    def whole_numbers(self, values: Sequence[int]) -> int:
        """Return a constant of int32 numbers."""
        return self.editor.constant(f"{self.stem}/whole", np.array(values, np.int32))

    def activated(self, source: int, activation: str) -> int:
        """Add an activation as an operation of its own: RELU as it is, the others fused into an addition of nothing."""
        if activation == "RELU":
            return self.add("RELU", [source], self.editor.shape(source))
        return self.arithmetic("ADD", source, 0.0, activation)

    def finish(self) -> int:
        """Put the operations in the place of the old one; the last of them computes its tensor. Returns 1, the count."""
        self.made[-1].outputs = [self.output]
        self.editor.replace(self.replaced, self.made)
        return 1

    def finish_as(self, source: int) -> int:
        """Take the operation out: what it computed is a tensor that is there already. Returns 1, the count.

        Where that tensor has to keep its own name (it is an input or an output too), a RESHAPE to its shape hands it over.
        """
        editor = self.editor
        if editor.is_output(self.output):
            self.reshape(source, editor.shape(self.output))
            return self.finish()
        editor.redirect(self.output, source)
        editor.replace(self.replaced, self.made)
        return 1


def axes_of(editor: GraphEditor, operator: Any) -> tuple[int, ...] | None:
    """Return the axes that an operation reduces over, none of them negative; None where they are computed."""
    values = editor.values(int(operator.inputs[1]))
    if values is None:
        return None
    rank = len(editor.shape(int(operator.inputs[0])))
    return tuple(sorted({int(axis) % rank for axis in values.ravel()})) if rank else ()
