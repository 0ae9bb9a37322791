"""What a board is fed: as the tensors store it."""

from __future__ import annotations

import numpy as np

from edgeship import deliverable
from edgeship.artifact import TensorSpec


def test_a_quantized_input_holds_the_quantized_values_of_real_ones() -> None:
    spec = TensorSpec("x", (1, 2), "uint8", 0.5, 10)
    values = np.array([[-9.0, 0.76], [2.25, 1000.0]], np.float32)
    assert deliverable.stored(values, spec).tolist() == [[0, 12], [14, 255]]
