"""Augmentations keep shape, dtype and range, repeat by seed, and are refused where they mean nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import recipe
from edgeship.artifact import TensorSpec
from edgeship.augmentation import Array, augmented, check, spreads
from edgeship.errors import BadInput
from edgeship.recipe import Recipe, Training

KINDS = ("flip", "crop", "noise")
IMAGE = TensorSpec("image", (1, 8, 8, 3), "float32")
ROW = TensorSpec("row", (1, 16), "float32")
TOKENS = TensorSpec("tokens", (1, 16), "int32")


def with_changes(*kinds: str) -> Recipe:
    found = recipe.read("prune50")
    return found.model_copy(update={"train": Training(augment=kinds)})  # type: ignore[arg-type]  # any words


def images(count: int, height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0, 255, (count, height, width, 3)).astype(np.float32)


@given(
    st.sets(st.sampled_from(KINDS), min_size=1), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9),
    st.integers(1, 12), st.integers(0, 99),
)  # fmt: skip
def test_shape_dtype_and_range_are_kept(
    kinds: set[str], count: int, height: int, width: int, reach: int, seed: int
) -> None:
    given_ones = (images(count, height, width), np.arange(count, dtype=np.int64)[:, None])
    options = Training(augment=tuple(sorted(kinds)), crop_pixels=reach)  # type: ignore[arg-type]
    known = spreads(given_ones)
    before = given_ones[0].copy()
    changed, tokens = augmented(given_ones, options, known, np.random.default_rng(seed))
    assert changed.shape == given_ones[0].shape and changed.dtype == np.dtype(np.float32)
    assert changed.min() >= known[0].low and changed.max() <= known[0].high
    assert np.array_equal(tokens, given_ones[1]) and np.array_equal(given_ones[0], before)
    again, _ = augmented(given_ones, options, known, np.random.default_rng(seed))
    assert np.array_equal(changed, again)
    if "noise" not in kinds:
        assert set(np.unique(changed)) <= set(np.unique(before))


def test_flips_and_crops_are_of_the_example_itself() -> None:
    batch = images(64, 6, 6)
    flipped, *_ = augmented([batch], Training(augment=("flip",)), spreads([batch]), np.random.default_rng(3))
    mirrored = [np.array_equal(ours, theirs[:, ::-1]) for ours, theirs in zip(flipped, batch, strict=True)]
    kept = [np.array_equal(ours, theirs) for ours, theirs in zip(flipped, batch, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True)) and 16 < sum(mirrored) < 48
    moved, *_ = augmented(
        [batch], Training(augment=("crop",), crop_pixels=2), spreads([batch]), np.random.default_rng(3)
    )
    wide = np.pad(batch, [(0, 0), (2, 2), (2, 2), (0, 0)], mode="reflect")
    for ours, theirs in zip(moved, wide, strict=True):
        windows = [theirs[y : y + 6, x : x + 6] for y in range(5) for x in range(5)]
        assert any(np.array_equal(ours, window) for window in windows)


def test_all_images_of_an_example_are_changed_alike() -> None:
    left = images(32, 6, 6)
    both = augmented(
        [left, left * 2], Training(augment=("flip", "crop")), spreads([left, left]), np.random.default_rng(0)
    )
    assert np.array_equal(both[0] * 2, both[1])


def test_noise_is_a_share_of_the_inputs_own_deviation() -> None:
    batch = images(200, 8, 8)
    options = Training(augment=("noise",), noise_share=0.1)
    (noisy,) = augmented([batch], options, spreads([batch]), np.random.default_rng(0))
    inside = (noisy > 0.5) & (noisy < 254.5)
    assert 0.08 < (noisy - batch)[inside].std() / batch.std() < 0.105


@pytest.mark.parametrize(
    ("kinds", "inputs", "labels", "said"),
    [
        (("flip",), (ROW,), None, '"flip" needs an image'),
        (("crop",), (TOKENS, ROW), None, '"crop" needs an image'),
        (("flip",), (TensorSpec("x", (1, 3, 8, 8), "float32"),), None, '"flip" needs an image'),
        (("noise",), (TOKENS,), None, '"noise" needs an input of real values'),
        (("flip", "crop"), (IMAGE,), np.zeros((5, 8, 8), np.int64), "moves the image and not its labels"),
        (("crop",), (IMAGE,), np.zeros(5, np.float32), "moves the image and not its labels"),
    ],
)
def test_what_it_cannot_change_is_refused(
    kinds: tuple[str, ...], inputs: tuple[TensorSpec, ...], labels: Array | None, said: str
) -> None:
    with pytest.raises(BadInput, match="recipe 'prune50'") as refusal:
        check(with_changes(*kinds), inputs, labels)
    assert said in refusal.value.message


def test_what_it_can_change_is_taken() -> None:
    check(with_changes(*KINDS), (IMAGE, TOKENS), np.zeros(5, np.int64))
    check(with_changes("noise"), (ROW,), np.zeros((5, 2), np.float32))
    check(with_changes(), (TOKENS,), np.zeros((5, 2), np.float32))


def test_they_are_chosen_in_a_recipe_file(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('base = "prune50"\n[train]\naugment = ["flip", "noise"]\nnoise_share = 0.1\n')
    assert recipe.read(str(file)).train.augment == ("flip", "noise")
    file.write_text('base = "prune50"\n[train]\naugment = ["flop"]\n')
    with pytest.raises(BadInput, match="flip"):
        recipe.read(str(file))
