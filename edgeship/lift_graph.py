"""The way through a TFLite graph while its Keras model grows: shapes, constants, the tensors made so far, names.

One example is one run of the file. A tensor whose own first axis is 1 loses it to the batch; before any other the batch
is put as a new axis, so that no operation can mix examples, whatever it does to its axes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import StageFailed
from edgeship.flatbuffer import Operator, Subgraph
from edgeship.lift_operations import operation

Array = NDArray[Any]
Shape = tuple[int, ...]
ACTIVATIONS = {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}


@dataclass(frozen=True, eq=False)
class Step:
    """A tensor of the file and what stands for it: the Keras tensor, for all examples of a batch."""

    index: int
    name: str
    tensor: Any


@dataclass(frozen=True, eq=False)
class Norm:
    """A batch norm that multiplies by `scale` and adds `offset`, one number a channel, and a Keras tensor it works on."""

    layer: Any
    scale: Array
    offset: Array
    source: Any = None


@dataclass(eq=False)
class Walk:
    """What is known on the way.

    Attributes:
        source: the file, for messages.
        shapes: every tensor's shape for one example, as the runtime has it.
        constants: the value of every tensor that does not depend on an input.
        channel_scales: whether each convolution is followed by a batch norm that holds its channels' scale and offset.
        shown: layer name → the name of the file's tensor that it computes.
        custom: how many layers there are of each operation without a Keras layer.
        absorbed: operations that became part of the layer before them.
        weights: layers and the values of their weights; they are set when the model is whole.
        norms: the batch norms among the layers, once for each use.
        linear: layers with a kernel and the batch norms behind them, by what they are: a kernel used twice is one layer.
    """

    source: str
    graph: Subgraph
    shapes: Mapping[int, Shape]
    constants: Mapping[int, Array]
    channel_scales: bool
    tensors: dict[int, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
    custom: dict[str, int] = field(default_factory=dict)
    absorbed: set[int] = field(default_factory=set)
    weights: list[tuple[Any, list[Array]]] = field(default_factory=list)
    norms: list[Norm] = field(default_factory=list)
    linear: dict[tuple[object, ...], tuple[Any, Norm | None]] = field(default_factory=dict)

    def refuse(self, operator: Operator, why: str) -> StageFailed:
        """Return the refusal of an operation, which names it and the tensor that it computes."""
        return StageFailed(f"{self.source}: cannot be made trainable: {operator.name} '{self.named(operator)}' {why}")

    def named(self, operator: Operator) -> str:
        """Return the name of an operation: that of its first output."""
        return self.graph.tensors[operator.outputs[0]].name if operator.outputs else f"#{operator.index}"

    def given(self, operator: Operator) -> list[int]:
        """Return the tensors that an operation reads, without absent ones."""
        return [index for index in operator.inputs if index >= 0]

    def constant(self, operator: Operator, position: int) -> Array:
        """Return the constant at some input of an operation.

        Raises:
            StageFailed: it is computed.
        """
        index = operator.inputs[position] if position < len(operator.inputs) else -1
        if index not in self.constants:
            raise self.refuse(operator, f"computes its operand {position} from the model's inputs")
        return self.constants[index]

    def optional(self, operator: Operator, position: int) -> Array | None:
        """Return the constant at some input that may be absent."""
        if position >= len(operator.inputs) or operator.inputs[position] < 0:
            return None
        return self.constant(operator, position)

    def in_shape(self, index: int, shape: Shape, lead: int, name: str) -> Any:
        """Return a tensor as a batch of some shape: without the shape's first axis for lead 0, which must be 1."""
        return self.reshaped(self.tensors[index], shape if lead else shape[1:], name)

    def reshaped(self, tensor: Any, shape: Shape, name: str) -> Any:
        """Return a tensor with other axes behind its batch."""
        import tf_keras

        if tuple(tensor.shape[1:]) == tuple(shape):
            return tensor
        return tf_keras.layers.Reshape(shape, name=self.layer_name(name))(tensor)

    def layer_name(self, name: str, shown: str | None = None) -> str:
        """Return a name for a layer: letters that TensorFlow takes, no two alike; remember what is shown for it."""
        plain = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name)
        plain = plain if re.match(r"[A-Za-z0-9.]", plain) else f"t{plain}"
        number, made = 0, plain
        while made in self.shown:
            number += 1
            made = f"{plain}_{number}"
        self.shown[made] = shown or name
        return made

    def put(self, operator: Operator, tensor: Any, *, output: int = 0, lead: int | None = None) -> None:
        """Take a tensor as an output of an operation."""
        index = operator.outputs[output]
        shape = self.shapes[index]
        name = self.graph.tensors[index].name
        wanted = shape[1:] if shape[:1] == (1,) else shape
        self.tensors[index] = self.reshaped(tensor, wanted, f"{name}/reshape")
        self.steps.append(Step(index, name, self.tensors[index]))

    def images(self, operator: Operator, position: int) -> Any:
        """Return an operand of four axes as a batch of images, several of one example side by side."""
        index = operator.inputs[position]
        if self.shapes[index][:1] == (1,):
            return self.tensors[index]
        return self.do("MERGE", [self.tensors[index]], {}, lead=1, name=f"{self.named(operator)}/merge")

    def put_images(self, operator: Operator, tensor: Any, count: int) -> None:
        """Take images, `count` of each example, as the output of an operation."""
        if count != 1:
            tensor = self.do("UNMERGE", [tensor], {"count": count}, lead=1, name=f"{self.named(operator)}/unmerge")
        self.put(operator, tensor)

    def do(
        self,
        kind: str,
        operands: Sequence[Any],
        options: Mapping[str, Any],
        *,
        lead: int,
        name: str,
        trainable: Sequence[int] = (),
    ) -> Any:
        """Return what an operation without a Keras layer gives: operands are Keras tensors, and arrays for constants.

        `trainable` are the positions of constants that fine-tuning may change.
        """
        told: list[dict[str, Any] | None] = []
        inputs, constants = [], []
        for number, operand in enumerate(operands):
            if isinstance(operand, np.ndarray):
                trains = number in trainable and operand.dtype.kind == "f"
                told.append({"shape": list(operand.shape), "dtype": operand.dtype.name, "trainable": trains})
                constants.append((trains, operand))
            else:
                told.append(None)
                inputs.append(operand)
        made = operation(kind, options, lead, told, name=self.layer_name(name))
        tensor = made(inputs if len(inputs) > 1 else inputs[0])
        if constants:  # Keras keeps what trains before what does not
            self.weights.append((made, [array for _, array in sorted(constants, key=lambda entry: not entry[0])]))
        self.custom[kind] = self.custom.get(kind, 0) + 1
        return tensor

    def activated(self, operator: Operator, tensor: Any, number: int, name: str) -> Any:
        """Return a tensor after the activation that TFLite fused into an operation."""
        import tf_keras

        kind = ACTIVATIONS.get(number, str(number))
        if kind == "NONE":
            return tensor
        if kind in ("RELU", "RELU6"):
            limit = 6.0 if kind == "RELU6" else None
            return tf_keras.layers.ReLU(limit, name=self.layer_name(f"{name}/relu", name))(tensor)
        if kind == "TANH":
            return tf_keras.layers.Activation("tanh", name=self.layer_name(f"{name}/tanh", name))(tensor)
        if kind == "RELU_N1_TO_1":
            return self.do("CLIP", [tensor], {"low": -1.0, "high": 1.0}, lead=0, name=f"{name}/clip")
        raise self.refuse(operator, f"has the fused activation {kind}")
