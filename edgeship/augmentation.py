"""Changes to examples that keep their shape: flips, shifts and noise, for a teacher that answers on what they give.

Flips and random crops with padding as in Krizhevsky et al. 2012; the padding mirrors the edge, so that no value is made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.artifact import TensorSpec
from edgeship.errors import BadInput
from edgeship.recipe import Recipe, Training

Array = NDArray[Any]
_COLOURS = (1, 3, 4)


@dataclass(frozen=True)
class Spread:
    """What one input's values are over all examples: from low to high, with a standard deviation."""

    low: float
    high: float
    deviation: float


def check(recipe: Recipe, inputs: Sequence[TensorSpec], labels: Array | None) -> None:
    """Refuse changes that the model's inputs, or the labels, cannot take.

    Raises:
        BadInput: no input is an image with its channels last, none is of real values, or labels would have to move too.
    """
    wanted = recipe.train.augment
    told = ", ".join(f"'{spec.name}' {spec.shape} {spec.dtype}" for spec in inputs)
    moving = [name for name in ("flip", "crop") if name in wanted]
    where = f"recipe '{recipe.name}': [train] augment"
    if moving and not any(_is_image(spec.shape) and spec.dtype == "float32" for spec in inputs):
        raise BadInput(
            f'{where} "{moving[0]}" needs an image (batch, height, width, channels); the model has {told}',
            hint='use augment = ["noise"], or none',
        )
    if moving and labels is not None and (labels.ndim > 1 or labels.dtype.kind not in "iub"):
        raise BadInput(
            f'{where} "{moving[0]}" moves the image and not its labels, which are no single class (shape {labels.shape[1:]})',
            hint='leave the labels out: the original model teaches; or use augment = ["noise"]',
        )
    if "noise" in wanted and not any(spec.dtype == "float32" for spec in inputs):
        raise BadInput(f'{where} "noise" needs an input of real values; the model has {told}')


def _is_image(shape: Sequence[int]) -> bool:
    """Say whether a shape is a batch of images with their channels last."""
    return len(shape) == 4 and not (shape[1] in _COLOURS and shape[3] not in _COLOURS)


def spreads(inputs: Sequence[Array]) -> tuple[Spread, ...]:
    """Return what each input's values are."""
    return tuple(Spread(float(array.min()), float(array.max()), float(array.std())) for array in inputs)


def augmented(
    inputs: Sequence[Array], options: Training, known: Sequence[Spread], random: np.random.Generator
) -> tuple[Array, ...]:
    """Return a batch changed at random: all images of one example alike, within the range of all examples.

    Args:
        inputs: one array an input, batch axis first; integer ones stay as they are.
        known: what each input's values are over all examples.
    """
    count = len(inputs[0])
    reach = options.crop_pixels
    flips = random.random(count) < 0.5
    offsets = random.integers(0, 2 * reach, (count, 2), endpoint=True)
    changed = []
    for array, spread in zip(inputs, known, strict=True):
        if array.dtype.kind == "f" and _is_image(array.shape):
            if "flip" in options.augment:
                array = np.where(flips[:, None, None, None], array[:, :, ::-1], array)
            if "crop" in options.augment:
                array = _cropped(array, reach, offsets)
        if array.dtype.kind == "f" and "noise" in options.augment:
            noise = random.standard_normal(array.shape, dtype=np.float32) * (options.noise_share * spread.deviation)
            array = np.clip(array + noise, spread.low, spread.high).astype(array.dtype)
        changed.append(array)
    return tuple(changed)


def _cropped(images: Array, reach: int, offsets: Array) -> Array:
    """Return each image moved by its own offset, from -reach to reach pixels down and to the right."""
    height, width = images.shape[1:3]
    wide = np.pad(images, [(0, 0), (reach, reach), (reach, reach), (0, 0)], mode="reflect")
    return np.stack(
        [image[y : y + height, x : x + width] for image, (y, x) in zip(wide, offsets.tolist(), strict=True)]
    )
