"""Techniques: a training pass wraps a tf_keras model, a flatbuffer pass turns one TFLite file into another."""

from __future__ import annotations

from typing import Any, Protocol

from edgeship.finetune import Trainee
from edgeship.lesson import Array
from edgeship.passes import cluster, prune, qat
from edgeship.recipe import Recipe


class TrainingPass(Protocol):
    """A technique that needs training, satisfied by a module.

    To add one: 1. give `recipe.Recipe` an optional record of its options, named as the technique; 2. write
    `passes/<technique>.py` with the four names below; 3. add its line to `TRAINING_PASSES`, and its name to
    `TRAINING_ORDER` where it belongs; 4. add a recipe with it to `tests/end_to_end/test_training.py`.
    """

    SUMMARY: str
    PACKAGES: tuple[str, ...]  # distributions whose versions decide the result, and that must be installed

    def wrap(self, model: Any, recipe: Recipe, *, steps: int, calibration: tuple[Array, ...]) -> Trainee:
        """Return a copy of the model that is ready to train.

        Args:
            model: a flat functional tf_keras model, left as it is.
            recipe: its record of this technique is there; the others say what must be preserved.
            steps: how many steps the training may take.
            calibration: some real inputs, one float32 array per model input, batch axis first.
        """

    def strip(self, model: Any) -> Any:
        """Return the trained model without the wrappers, ready for the next technique or the converter."""


TRAINING_PASSES: dict[str, TrainingPass] = {
    "cluster": cluster,
    "prune": prune,
    "qat": qat,
}
TRAINING_ORDER = ("prune", "cluster", "qat")
