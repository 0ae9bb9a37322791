"""Fine-tuning: teach a wrapped tf_keras model to give the answers of the model it was made from.

The teacher's outputs are the target (distillation, Hinton et al. 2015, arXiv:1503.02531), so labels are not needed; where
they are given, the task loss is added. A part of the examples is held out, by group, and the best epoch on it is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeship.errors import StageFailed
from edgeship.lesson import Array, Lesson, Material, check_labels
from edgeship.progress import OnProgress, Progress
from edgeship.recipe import Training

HELD_OUT_SHARE = 0.2
# Relative steps: each is multiplied by the size (RMS) of the variable that it moves.
PROBED_RATES = (0.0002, 0.0006, 0.002, 0.006)
PROBE_STEPS = 30
PROBE_EXAMPLES = 512
_WARM_UP_SHARE = 0.05
_SECONDS_BETWEEN_REPORTS = 0.5


def _nothing() -> None:
    """Change nothing."""


def _always(steps: int) -> bool:
    """Let every epoch win."""
    return True


@dataclass(frozen=True)
class Trainee:
    """A model that is ready to train, and what its pass says of it.

    Attributes:
        model: a tf_keras model, already wrapped.
        worked_on: names of the layers whose weights the pass changes.
        left: layers that the recipe means but the pass cannot work on: name → why.
        jump_to_end: puts the model at once where its schedule ends, such as the final sparsity.
        may_win: whether the model after this many steps is what was asked for, such as sparse enough.
        rounds_outputs: whether outputs are rounded to 8 bits, so that a probability may be exactly zero.
    """

    model: Any
    worked_on: tuple[str, ...]
    left: dict[str, str] = field(default_factory=dict)
    jump_to_end: Callable[[], None] = _nothing
    may_win: Callable[[int], bool] = _always
    rounds_outputs: bool = False


@dataclass(frozen=True)
class Epoch:
    """One pass: the mean training loss, the metric on the held-out part, and the seconds since training began."""

    epoch: int
    loss: float
    held_out: float
    may_win: bool
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """What fine-tuning did. The metric is `top1`, `agreement` (higher is better) or `mse` (the loss; lower is better).

    `before` is the metric of the wrapped model at the end of its schedule with no step taken. Best epoch 0: none was
    better than the start. `probed` is the held-out loss after a short trial of each learning rate, None
    where it grew beyond all bounds. `diverged` is the epoch whose loss or metric was not finite: training ended there,
    and the epoch is not in the history.
    """

    metric: str
    before: float
    history: tuple[Epoch, ...]
    best_epoch: int
    best: float
    steps: int
    learning_rate: float
    probed: dict[str, float | None] = field(default_factory=dict)
    examples: int = 0
    held_out: int = 0
    diverged: int | None = None


def split(count: int, groups: Array | None, *, seed: int, share: float = HELD_OUT_SHARE) -> tuple[Array, Array]:
    """Return the positions to train on and those held out: whole groups, chosen by the seed, about `share` of all.

    With a single example or a single group nothing can be held out: both parts are then all examples.
    """
    everything = np.arange(count)
    members = everything if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(members)
    if len(sizes) < 2:
        return everything, everything
    order = np.random.default_rng(seed).permutation(len(sizes))
    taken = int(np.searchsorted(np.cumsum(sizes[order]), share * count, side="left")) + 1
    held_out = np.isin(members, order[: min(taken, len(order) - 1)])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def plan(count: int, options: Training) -> tuple[int, int]:
    """Return the steps of an epoch and the number of epochs, for `count` training examples.

    Few examples are seen several times in one epoch, so that a few hundred of them still make a training.
    """
    per_epoch = max(math.ceil(count / options.batch_size), options.min_epoch_steps)
    if options.max_steps is None:
        return per_epoch, options.epochs
    per_epoch = min(per_epoch, options.max_steps)
    return per_epoch, min(options.epochs, options.max_steps // per_epoch)


def finetune(
    on_progress: OnProgress,
    trainee: Trainee,
    material: Material,
    teacher: tuple[Array, ...],
    *,
    options: Training,
    seed: int,
    stage: str,
    original: Any = None,
) -> Tuned:
    """Train a wrapped model in place and leave it at its best epoch.

    Args:
        material: float32 inputs as the model eats them.
        teacher: the original model's outputs for all examples, batch axis first.
        stage: the name that the progress carries.
        original: the model that taught, needed where the options change examples.

    Raises:
        BadInput: the labels do not fit the model's output.
        StageFailed: the outputs are not finite before any training.
    """
    check_labels(material, teacher[0])
    lesson = Lesson(trainee.model, material, teacher, options, rounds_outputs=trainee.rounds_outputs, original=original)
    training, held_out = split(material.count, material.groups, seed=seed)
    return _Course(on_progress, trainee, lesson, training, held_out, options, seed, stage).run()


@dataclass(frozen=True, eq=False)
class _Kept:
    """The epoch whose model is kept so far: its metric and loss on the held-out part, and every variable's value."""

    epoch: int
    value: float
    loss: float
    state: list[Array]


@dataclass
class _Course:
    """One run of training: the plan, the steps, and the best state so far."""

    on_progress: OnProgress
    trainee: Trainee
    lesson: Lesson
    training: Array
    held_out: Array
    options: Training
    seed: int
    stage: str
    history: list[Epoch] = field(default_factory=list)
    began: float = 0.0
    told: float = 0.0

    def run(self) -> Tuned:
        """Probe the learning rate if the recipe has none, train, and go back to the best epoch."""
        per_epoch, epochs = plan(len(self.training), self.options)
        start = self.lesson.remember()
        self.trainee.jump_to_end()
        loss, before = self.lesson.measure(self.held_out)
        if not (math.isfinite(loss) and math.isfinite(before)):
            raise StageFailed(f"{self.stage}: the loss on the held-out examples is not finite before any training")
        probed = {} if self.options.learning_rate else self.probe(per_epoch * epochs)
        rate = self.options.learning_rate or _best_rate(probed)
        self.lesson.restore(start)
        kept = _Kept(0, before, loss, start) if self.trainee.may_win(0) else None
        top, first_to_win, diverged = before if kept else None, 1, None
        self.began = time.monotonic()
        for epoch in range(1, epochs + 1):
            trained_loss = self.one_pass(epoch, epochs, per_epoch, rate)
            loss, value = self.lesson.measure(self.held_out)
            if not all(map(math.isfinite, (trained_loss, loss, value))):
                diverged = epoch
                break
            may_win = self.trainee.may_win(epoch * per_epoch) or epoch == epochs
            self.history.append(Epoch(epoch, trained_loss, value, may_win, round(time.monotonic() - self.began, 3)))
            if not may_win:
                first_to_win = epoch + 1
            elif kept is None or top is None or self.wins(value, loss, kept, top):
                kept = _Kept(epoch, value, loss, self.lesson.remember())
                top = value if top is None or self.is_better(value, top) else top
            if epoch - max(kept.epoch if kept else 0, first_to_win - 1) >= self.options.patience_epochs:
                break
        self.lesson.restore(kept.state if kept else start)
        if kept is None:  # it diverged before any epoch could win
            self.trainee.jump_to_end()
        return Tuned(
            metric=self.lesson.metric,
            before=before,
            history=tuple(self.history),
            best_epoch=kept.epoch if kept else 0,
            best=kept.value if kept else before,
            steps=len(self.history) * per_epoch,
            learning_rate=rate,
            probed=probed,
            examples=len(self.training),
            held_out=len(self.held_out),
            diverged=diverged,
        )

    def is_better(self, value: float, best: float) -> bool:
        """Say whether a metric beats another; what is not a number beats nothing."""
        return value < best if self.lesson.metric == "mse" else value > best

    def wins(self, value: float, loss: float, kept: _Kept, top: float) -> bool:
        """Say whether an epoch takes the place of the one kept.

        Among trained ones whose shares of right answers are within one standard error of the best (Breiman et al. 1984,
        the 1-SE rule), which the held-out examples cannot tell apart, the smaller loss wins: early epochs of a high
        learning rate are otherwise kept by chance.
        """
        if self.is_better(value, top):
            return True
        if self.lesson.metric == "mse" or not kept.epoch:
            return False
        deviation = math.sqrt(max(top * (1 - top), 0.0) / len(self.held_out))
        return value >= top - deviation and loss < kept.loss

    def probe(self, total: int) -> dict[str, float | None]:
        """Return the held-out loss after a short trial of each learning rate, all from the end of the schedule."""
        start = self.lesson.remember()
        judged = self.held_out[:PROBE_EXAMPLES]
        steps = max(1, min(PROBE_STEPS, total // 10))
        losses: dict[str, float | None] = {}
        for number, rate in enumerate(PROBED_RATES):
            text = f"trying learning rate {rate} ({number + 1} of {len(PROBED_RATES)})"
            self.on_progress(Progress(self.stage, 0, total, text))
            batches, random = self.batches(0), self.changes(0)
            for step in range(steps):
                self.lesson.step(next(batches), rate * (1 - step / steps), random)
            loss = self.lesson.measure(judged)[0]
            losses[str(rate)] = round(loss, 6) if math.isfinite(loss) else None
            self.lesson.restore(start)
        return losses

    def one_pass(self, epoch: int, epochs: int, per_epoch: int, rate: float) -> float:
        """Train for one epoch and return its mean loss; end at the first loss that is not finite and return that."""
        batches, random = self.batches(epoch), self.changes(epoch)
        total = per_epoch * epochs
        losses = []
        for done in range((epoch - 1) * per_epoch, epoch * per_epoch):
            losses.append(self.lesson.step(next(batches), rate * share_of_rate(done, total), random))
            if not math.isfinite(losses[-1]):
                return losses[-1]
            self.tell(f"epoch {epoch}/{epochs} loss {np.mean(losses[-50:]):.4f}", done + 1, total)
        return float(np.mean(losses))

    def batches(self, epoch: int) -> Iterator[Array]:
        """Yield positions of full batches for ever, each example once before any stands twice."""
        random = np.random.default_rng((self.seed, epoch))
        size = min(self.options.batch_size, len(self.training))
        left = np.array([], dtype=np.int64)
        while True:
            while len(left) < size:
                left = np.concatenate([left, random.permutation(self.training)])
            yield left[:size]
            left = left[size:]

    def changes(self, epoch: int) -> np.random.Generator:
        """Return what decides how the examples of an epoch are changed."""
        return np.random.default_rng((self.seed, epoch, 1))

    def tell(self, text: str, done: int, total: int) -> None:
        """Report the loss and the time left, not more than twice a second."""
        now = time.monotonic()
        if now - self.told < _SECONDS_BETWEEN_REPORTS and done < total:
            return
        self.told = now
        left_s = int((now - self.began) / done * (total - done))
        held_out = f" held-out {self.history[-1].held_out:.3f}" if self.history else ""
        clock = f"{left_s // 60:02d}:{left_s % 60:02d}"
        self.on_progress(Progress(self.stage, done, total, f"{text}{held_out}, {clock} left"))


def _best_rate(probed: dict[str, float | None]) -> float:
    """Return the rate with the smallest loss; the smallest rate when none kept the loss finite."""
    losses = {float(rate): loss for rate, loss in probed.items() if loss is not None}
    return min(losses, key=lambda rate: losses[rate]) if losses else PROBED_RATES[0]


def share_of_rate(done: int, total: int) -> float:
    """Return the share of the learning rate at a step: a short rise, then half a cosine (arXiv:1608.03983)."""
    rise = max(1, int(_WARM_UP_SHARE * total))
    if done < rise:
        return (done + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / max(1, total - rise)))
