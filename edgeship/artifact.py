"""What goes in and out of a TFLite file: named tensors with shapes, dtypes and quantization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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


@dataclass(frozen=True)
class OperatorCost:
    """One operation's work: multiply-accumulates and the bytes it reads and writes (weights, activations)."""

    index: int
    name: str
    output: str
    macs: int
    weight_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class Complexity:
    """What a model costs by its graph alone, for one inference at the shapes in the file.

    `bytes_moved` counts each weight once and each activation once written and once read by every reader;
    `peak_activation_bytes` is the largest sum of activations alive at once in the file's own order.
    """

    parameters: int
    macs: int
    bytes_moved: int
    peak_activation_bytes: int
    weight_bytes: int
    sparsity: float
    operators: tuple[OperatorCost, ...]


@dataclass(frozen=True)
class Roofline:
    """A bound on latency from the target's published peaks; not a prediction, and never a measurement.

    `bound_by` is "memory" or "compute"; intensity and ridge are multiply-accumulate operations (2 per MAC) a byte.
    """

    bound_by: str
    best_latency_ms: float
    compute_ms: float
    memory_ms: float
    intensity: float
    ridge: float
    peak_gops: float
    memory_gb_per_s: float
    source: str


@dataclass(frozen=True)
class LayerError:
    """How far one operation's output in the candidate is from the reference's, over the examples compared.

    `sqnr_db` is 10 log10(signal power / error power), None when the error is exactly zero or the signal is.
    """

    name: str
    operator: str
    sqnr_db: float | None
    max_abs_error: float
    range: float


@dataclass(frozen=True)
class WeightHistogram:
    """One weight tensor before and after: counts over the same equal bins from `low` to `high`, and its zeros."""

    name: str
    operator: str
    low: float
    high: float
    before: tuple[int, ...]
    after: tuple[int, ...]
    sparsity: float
    distinct_values: int


@dataclass(frozen=True)
class Advice:
    """Something the user should know before or after the work; a `warning` cannot be missed, a `note` is for reading."""

    level: Literal["warning", "note"]
    text: str
