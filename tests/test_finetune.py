"""The arithmetic of fine-tuning: who is held out, how many steps, what an output means, when pruning is done."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import recipe
from edgeship.errors import BadInput, StageFailed
from edgeship.finetune import Trainee, Tuned, _Course, plan, share_of_rate, split
from edgeship.keras_layers import is_chosen
from edgeship.lesson import Array, Lesson, Material, check_labels, kind_of, metric_of
from edgeship.passes import TRAINING_ORDER, TRAINING_PASSES
from edgeship.passes.cluster import with_even_extremes
from edgeship.passes.prune import timetable
from edgeship.progress import silent
from edgeship.recipe import Pruning, Recipe, Training
from edgeship.trainable import Start, Trainable
from edgeship.training import Order, _doubts


def material(labels: Array | None = None, count: int = 6) -> Material:
    return Material((np.zeros((count, 2), np.float32),), labels)


@given(st.integers(2, 200), st.integers(0, 5), st.integers(1, 40))
def test_groups_are_never_split(count: int, seed: int, kinds: int) -> None:
    groups = np.random.default_rng(seed).integers(0, kinds, count)
    training, held_out = split(count, groups, seed=seed)
    assert len(training) and len(held_out)
    if len(np.unique(groups)) > 1:
        assert not set(groups[training]) & set(groups[held_out])
        assert sorted([*training, *held_out]) == list(range(count))


@given(st.integers(2, 3000), st.integers(0, 9))
def test_a_fifth_is_held_out_and_the_seed_decides_which(count: int, seed: int) -> None:
    training, held_out = split(count, None, seed=seed)
    assert len(held_out) == max(1, min(-(-count // 5), count - 1)) or abs(len(held_out) - count / 5) <= 1
    assert np.array_equal(split(count, None, seed=seed)[1], held_out)
    assert not set(training) & set(held_out)


def test_one_example_is_both_trained_on_and_held_out() -> None:
    assert [part.tolist() for part in split(1, None, seed=0)] == [[0], [0]]


def test_few_examples_still_make_a_training() -> None:
    options = Training(epochs=6, batch_size=32, min_epoch_steps=60)
    assert plan(240, options) == (60, 6)
    assert plan(8000, options) == (250, 6)


@given(st.integers(1, 20000), st.integers(1, 3000))
def test_the_limit_on_steps_is_kept(count: int, limit: int) -> None:
    per_epoch, epochs = plan(count, Training(max_steps=limit))
    assert 1 <= per_epoch * epochs <= limit


def test_the_learning_rate_rises_and_falls() -> None:
    shares = [share_of_rate(done, 100) for done in range(100)]
    assert shares[0] == 0.2 and max(shares) == 1.0 and shares[-1] < 0.01


@given(st.integers(1, 4000), st.floats(0.01, 1), st.integers(1, 100))
def test_pruning_ends_in_time_and_on_an_update(steps: int, end_share: float, frequency: int) -> None:
    last, every = timetable(Pruning(end_share=end_share, frequency_steps=frequency), steps)
    assert 1 <= last <= max(1, steps)
    assert 1 <= every <= frequency and (last - 1) % every == 0


def test_what_an_output_means() -> None:
    classes = np.arange(6) % 3
    raw = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    odds = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    assert kind_of(odds, material()) == "probabilities"
    assert kind_of(raw, material(classes)) == "logits"
    assert kind_of(raw, material()) == "values"
    assert kind_of(raw[:, :1], material(classes)) == "values"
    assert [metric_of("values", True), metric_of("logits", True), metric_of("probabilities", False)] == [
        "mse", "top1", "agreement",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.array([0, 1, 2, 3, 0, 1]), "classes 0 to 3, but the model knows 0 to 2"),
        (np.array([-1, 1, 2, 1, 0, 1]), "classes -1 to 2"),
        (np.zeros((6, 2), np.float32), "targets of shape"),
        (np.zeros((6, 2), np.int64), "classes of shape"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Array, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        check_labels(material(labels), np.zeros((6, 3), np.float32))


class Told(Lesson):
    """A lesson whose numbers are written down: for each epoch its loss and the held-out loss and metric."""

    def __init__(self, metric: str, start: tuple[float, float], *epochs: tuple[float, float, float]) -> None:
        self.metric = metric
        self.numbers = [(0.0, *start), *epochs]
        self.epoch = 0

    def step(self, index: Array, rate: float, random: object) -> float:
        self.epoch += 1
        return self.numbers[self.epoch][0]

    def measure(self, index: Array) -> tuple[float, float]:
        return self.numbers[self.epoch][1:]

    def remember(self) -> list[Array]:
        return [np.array(self.epoch)]

    def restore(self, values: list[Array]) -> None:
        self.epoch = int(values[0])


def course(lesson: Told, trainee: Trainee | None = None) -> Tuned:
    """Train by a told lesson, one step an epoch."""
    options = Training(epochs=len(lesson.numbers) - 1, batch_size=4, min_epoch_steps=1, learning_rate=0.5)
    part = np.arange(4)
    return _Course(silent, trainee or Trainee(None, ("a",)), lesson, part, part, options, 0, "qat").run()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("metric", ["mse", "top1"])
def test_training_ends_where_numbers_are_not_finite_and_the_best_epoch_stays(
    bad: float, place: int, metric: str
) -> None:
    good = 0.1 if metric == "mse" else 0.9
    spoilt = [0.0, 0.0, 0.0]
    spoilt[place] = bad
    lesson = Told(
        metric, (0.5, 0.5), (0.4, 0.4, good), cast(tuple[float, float, float], tuple(spoilt)), (0.0, 0.0, 0.0)
    )
    tuned = course(lesson)
    assert (tuned.best_epoch, tuned.best, tuned.diverged, len(tuned.history)) == (1, good, 2, 1)
    assert lesson.epoch == 1
    json.dumps(asdict(tuned), allow_nan=False)


def test_training_that_diverges_at_once_leaves_the_start_or_the_end_of_the_schedule() -> None:
    spoilt = (math.nan, math.nan, math.nan)
    jumps: list[str] = []
    sparse = Trainee(None, ("a",), jump_to_end=lambda: jumps.append("jump"), may_win=lambda steps: steps >= 2)
    for trainee in (Trainee(None, ("a",)), sparse):
        lesson = Told("mse", (0.5, 0.5), spoilt, spoilt)
        tuned = course(lesson, trainee)
        assert (tuned.best_epoch, tuned.best, tuned.diverged, tuned.history, lesson.epoch) == (0, 0.5, 1, (), 0)
    assert len(jumps) == 2, "once to measure, once to stay"


def test_of_epochs_that_the_held_out_part_cannot_tell_apart_the_smaller_loss_wins() -> None:
    """Four held-out examples: one standard error of 0.75 is 0.22."""
    chance = Told("top1", (0.9, 0.5), (0.6, 0.6, 0.75), (0.5, 0.5, 0.6), (0.4, 0.55, 0.7), (0.3, 0.4, 0.5))
    tuned = course(chance)
    assert (tuned.best_epoch, tuned.best) == (
        2,
        0.6,
    )  # the third has a larger loss, the fourth is too far below the best
    untouched = course(Told("top1", (0.9, 0.75), (0.6, 0.6, 0.74), (0.1, 0.1, 0.75)))
    assert untouched.best_epoch == 0  # what no training gave is left only for something better
    assert course(Told("mse", (0.5, 0.5), (0.4, 0.4, 0.2), (0.1, 0.1, 0.21))).best_epoch == 1


@pytest.mark.parametrize("start", [(math.nan, 0.5), (0.5, math.inf)])
def test_a_start_that_is_not_finite_is_refused(start: tuple[float, float]) -> None:
    with pytest.raises(StageFailed, match="qat: the loss on the held-out examples is not finite before any training"):
        course(Told("mse", start, (0.1, 0.1, 0.1)))


def test_the_user_is_told_of_training_that_diverged() -> None:
    tuned = Tuned("mse", 0.5, (), 2, 0.1, steps=1, learning_rate=0.5, diverged=3)
    start = Start(Path("m.h5"), Path("m.h5"), Path("m.tflite"), ("in",), ("out",))
    order = Order(start, Recipe(name="r"), Path("e.npz"), Path("o.tflite"))
    begun = Trainable(SimpleNamespace(layers=[]), 0.0, ("in",), ("out",), {})
    said = [*_doubts("qat", Trainee(None, ("a",)), tuned, begun, order)]
    (text,) = (text for text in said if "epoch 3" in text)
    assert "learning rate 0.5" in text and text.endswith("set [train] learning_rate lower")


def test_patterns_choose_layers() -> None:
    assert is_chosen("block_1/conv", ("block_*",), ())
    assert not is_chosen("block_1/conv", ("*",), ("*/conv",))
    assert not is_chosen("Block", ("block",), ())


def test_extremes_of_a_clustered_kernel_are_evened_out() -> None:
    kernel = np.array([[-1.0, 0.2], [0.8, 0.0]], np.float32)
    assert with_even_extremes(kernel).tolist() == np.array([[-0.9, 0.2], [0.9, 0.0]], np.float32).tolist()
    positive = np.array([0.1, 0.5], np.float32)
    assert with_even_extremes(positive) is positive


def test_every_training_pass_is_an_option_of_the_recipe_and_introduces_itself() -> None:
    assert list(TRAINING_PASSES) == sorted(TRAINING_ORDER) == sorted(TRAINING_PASSES)
    for name, technique in TRAINING_PASSES.items():
        assert name in Recipe.model_fields and technique.SUMMARY and technique.PACKAGES


def test_names_of_recipes_reach_their_passes() -> None:
    found = recipe.read("pcqat50-16-int8")
    assert [name for name in TRAINING_ORDER if getattr(found, name)] == ["prune", "cluster", "qat"]


@pytest.mark.processes
def test_importing_the_passes_loads_no_heavy_library() -> None:
    code = "import sys, edgeship.training; print([n for n in ('tensorflow', 'tf_keras', 'keras') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
