"""Patterns that users write for a file's tensors reach the layers that stand for them."""

from __future__ import annotations

from fnmatch import fnmatchcase

from edgeship import recipe
from edgeship.keras_layers import is_chosen
from edgeship.recipe import Recipe
from edgeship.trainable import by_layer

SHOWN = {"conv_a_b": "conv;a[b]", "conv_a_b/scale": "conv;a[b]", "conv_a_b/relu": "conv;a[b]", "dense": "dense"}


def with_skip(*patterns: str) -> Recipe:
    found = recipe.read("prune50")
    assert found.prune is not None
    return found.model_copy(update={"prune": found.prune.model_copy(update={"skip": patterns})})


def skipped(wanted: Recipe) -> set[str]:
    assert wanted.prune is not None
    return {layer for layer in SHOWN if not is_chosen(layer, wanted.prune.layers, wanted.prune.skip)}


def test_a_pattern_of_tensor_names_chooses_all_layers_of_the_tensor() -> None:
    assert skipped(by_layer(with_skip("conv;*"), SHOWN)) == {"conv_a_b", "conv_a_b/scale", "conv_a_b/relu"}
    assert skipped(by_layer(with_skip("dense"), SHOWN)) == {"dense"}


def test_a_pattern_that_fits_nothing_stays_and_can_be_refused() -> None:
    translated = by_layer(with_skip("dens", "*relu"), SHOWN)
    assert translated.prune is not None and translated.prune.skip == ("dens", "*relu")
    assert not any(fnmatchcase(layer, "dens") for layer in SHOWN)


def test_names_of_the_models_own_layers_stay_as_they_are() -> None:
    wanted = with_skip("dense*")
    assert by_layer(wanted, {}) == wanted


def test_everything_is_still_everything() -> None:
    translated = by_layer(with_skip(), SHOWN)
    assert translated.prune is not None and translated.prune.layers == ("*",)
