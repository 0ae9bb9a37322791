"""Pruning: TF-MOT's magnitude pruning of convolution and dense kernels (Zhu and Gupta 2017, arXiv:1710.01878)."""

from __future__ import annotations

from typing import Any

from edgeship.finetune import Trainee
from edgeship.keras_layers import cloned, is_chosen, kernel_name
from edgeship.lesson import Array
from edgeship.recipe import Pruning, Recipe

SUMMARY = "magnitude pruning while training"
PACKAGES: tuple[str, ...] = ("tensorflow", "tf-keras", "tensorflow-model-optimization")


def wrap(model: Any, recipe: Recipe, *, steps: int, calibration: tuple[Array, ...]) -> Trainee:
    """Return a copy of the model whose chosen kernels lose their smallest weights by the recipe's schedule."""
    import tensorflow_model_optimization as tfmot

    assert recipe.prune is not None
    options = recipe.prune
    last, frequency = timetable(options, steps)
    schedule = _schedule(options, last, frequency)
    blocks = {"sparsity_m_by_n": options.zeros_of} if options.zeros_of else {}
    wrappers: dict[str, Any] = {}
    left: dict[str, str] = {}

    def wrapped(layer: Any) -> Any:
        kernel = kernel_name(layer, depthwise=False)
        if kernel is None or not is_chosen(layer.name, options.layers, options.skip):
            return layer
        shape = getattr(layer, kernel).shape
        if options.zeros_of and (shape.rank not in (2, 4) or shape[-2] % options.zeros_of[1]):
            left[layer.name] = f"its input depth {shape[-2]} does not divide into groups of {options.zeros_of[1]}"
            return layer
        wrappers[layer.name] = tfmot.sparsity.keras.prune_low_magnitude(layer, pruning_schedule=schedule, **blocks)
        return wrappers[layer.name]

    pruned = cloned(model, wrapped)
    for wrapper in wrappers.values():
        wrapper.pruning_step.assign(0)  # TF-MOT refuses to train before its callback has set it

    def jump_to_end() -> None:
        for wrapper in wrappers.values():
            wrapper.pruning_step.assign(last)
            wrapper.pruning_obj.conditional_mask_update()
            wrapper.pruning_obj.weight_mask_op()

    return Trainee(pruned, tuple(wrappers), left, jump_to_end=jump_to_end, may_win=lambda done: done >= last)


def strip(model: Any) -> Any:
    """Return the pruned model without its wrappers, with the masks applied for the last time."""
    import tensorflow_model_optimization as tfmot

    for layer in model.layers:
        if hasattr(layer, "pruning_obj"):
            layer.pruning_obj.weight_mask_op()
    return tfmot.sparsity.keras.strip_pruning(model)


def timetable(options: Pruning, steps: int) -> tuple[int, int]:
    """Return the step of the last update of the masks, and the steps between updates: ten or more, however few steps."""
    if options.zeros_of:
        return 1, 1  # TF-MOT chooses the zeros of a group once
    span = max(0, int(options.end_share * steps) - 1)
    frequency = max(1, min(options.frequency_steps, span // 10))
    return 1 + frequency * (span // frequency), frequency


def _schedule(options: Pruning, last: int, frequency: int) -> Any:
    import tensorflow_model_optimization as tfmot

    if options.schedule == "constant" or last == 1:
        return tfmot.sparsity.keras.ConstantSparsity(options.sparsity, 1, last, frequency)
    return tfmot.sparsity.keras.PolynomialDecay(options.initial_sparsity, options.sparsity, 1, last, 3, frequency)
