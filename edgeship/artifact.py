"""What goes in and out of a TFLite file: named tensors with shapes, dtypes and quantization."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. `name` is the signature's name where the file has one, else the tensor's.

    A quantized tensor holds q and means `scale * (q - zero_point)`; both are None for a float one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Interface:
    """All inputs and outputs of a model, in the order of its signature."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
