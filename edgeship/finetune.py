"""Fine-tuning: teach a wrapped tf_keras model to give the answers of the model it was made from.

The teacher's outputs are the target (distillation, Hinton et al. 2015, arXiv:1503.02531), so labels are not needed; where
they are given, the task loss is added. A part of the examples is held out, by group, and the best epoch on it is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import BadInput
from edgeship.progress import OnProgress, Progress
from edgeship.recipe import Training

Array = NDArray[Any]
Kind = Literal["probabilities", "logits", "values"]
HELD_OUT_SHARE = 0.2
EVALUATION_BATCH = 128
# Relative steps: each is multiplied by the size (RMS) of the variable that it moves.
PROBED_RATES = (0.0005, 0.0015, 0.005, 0.015)
PROBE_STEPS = 30
PROBE_EXAMPLES = 512
_SMALLEST_SIZE = 1e-3  # of a variable, so that one that starts at zero can move
_WARM_UP_SHARE = 0.05
_SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class Examples:
    """Real inputs, one array per model input with the batch axis first, and what is known of them."""

    inputs: tuple[Array, ...]
    labels: Array | None = None
    groups: Array | None = None

    @property
    def count(self) -> int:
        """Return the number of examples."""
        return len(self.inputs[0])

    def at(self, index: Array) -> Examples:
        """Return the examples at some positions."""
        labels = None if self.labels is None else self.labels[index]
        groups = None if self.groups is None else self.groups[index]
        return Examples(tuple(array[index] for array in self.inputs), labels, groups)


def _nothing() -> None:
    """Change nothing."""


def _always(step: int) -> bool:
    """Let every epoch win."""
    return True


@dataclass(frozen=True)
class Trainee:
    """A model that is ready to train, and what its pass does meanwhile.

    Attributes:
        model: a tf_keras model, already wrapped.
        jump_to_end: puts the model at once where its schedule ends, such as the final sparsity.
        may_win: whether the model after this many steps is what was asked for, such as sparse enough.
        quantized: whether outputs are rounded to 8 bits, so that a probability may be exactly zero.
    """

    model: Any
    jump_to_end: Callable[[], None] = _nothing
    may_win: Callable[[int], bool] = _always
    quantized: bool = False


@dataclass(frozen=True)
class Epoch:
    """One pass: the mean training loss, and the metric on the held-out part."""

    epoch: int
    loss: float
    held_out: float
    may_win: bool
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """What fine-tuning did. The metric is `top1`, `agreement` (higher is better) or `mse` (lower is better).

    `before` is the metric of the wrapped model with no step taken; best_epoch 0 means that no epoch was better.
    """

    metric: str
    before: float
    history: tuple[Epoch, ...]
    best_epoch: int
    best: float
    steps: int
    learning_rate: float
    learning_rate_from: str
    probed: dict[str, float] = field(default_factory=dict)
    examples: int = 0
    held_out: int = 0


def split(count: int, groups: Array | None, *, seed: int, share: float = HELD_OUT_SHARE) -> tuple[Array, Array]:
    """Return the positions to train on and those held out: whole groups, chosen by the seed, about `share` of all."""
    if count < 2:
        return np.arange(count), np.arange(count)
    members = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    order = np.random.default_rng(seed).permutation(members.max() + 1)
    sizes = np.bincount(members)[order]
    taken = int(np.searchsorted(np.cumsum(sizes), share * count, side="left")) + 1
    taken = min(taken, len(order) - 1)
    if taken < 1:  # all is one group: there is nothing to hold out
        return np.arange(count), np.arange(count)
    held_out = np.isin(members, order[:taken])
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


def kind_of(output: Array, labels: Array | None) -> Kind:
    """Say what an output means, from the teacher's values (batch axis first) and the labels, when there are any."""
    if output.ndim == 2 and output.shape[1] > 1:
        if output.min() >= -1e-3 and np.allclose(output.sum(axis=1), 1, atol=2e-2):
            return "probabilities"
        if labels is not None and np.issubdtype(labels.dtype, np.integer) and labels.ndim == 1:
            return "logits"
    return "values"


def check_labels(labels: Array | None, outputs: tuple[Array, ...]) -> None:
    """Refuse labels that do not fit the model's output.

    Raises:
        BadInput: a class out of range, or float targets of another shape.
    """
    if labels is None:
        return
    if np.issubdtype(labels.dtype, np.integer):
        classes = outputs[0].shape[-1]
        if classes > 1 and (labels.min() < 0 or labels.max() >= classes):
            raise BadInput(
                f"labels: from {labels.min()} to {labels.max()}, but the model knows classes 0 to {classes - 1}"
            )
    elif labels.shape != outputs[0].shape:
        raise BadInput(
            f"labels: float targets of shape {labels.shape[1:]}, the model's output is {outputs[0].shape[1:]}"
        )


def predict(model: Any, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return a tf_keras model's outputs in inference mode, batch axis first, for all examples."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def forward(batch: list[Any]) -> list[Any]:
        return tf.nest.flatten(model(batch if len(batch) > 1 else batch[0], training=False))

    parts = []
    for start in range(0, len(inputs[0]), EVALUATION_BATCH):
        batch = [tf.constant(array[start : start + EVALUATION_BATCH]) for array in inputs]
        parts.append([output.numpy() for output in forward(batch)])
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


class _Lesson:
    """The loss, the optimizer and the evaluation of one trainee; holds TensorFlow variables and compiled functions."""

    def __init__(
        self, trainee: Trainee, kinds: tuple[Kind, ...], spreads: tuple[float, ...], options: Training
    ) -> None:
        import tensorflow as tf

        self.tf = tf
        self.model = trainee.model
        self.kinds = kinds
        self.spreads = spreads
        self.options = options
        self.floor = 2e-3 if trainee.quantized else 1e-5
        self.variables = _trained_variables(self.model)
        zeros = [tf.zeros_like(variable) for variable in self.variables]
        self.first = [tf.Variable(zero, trainable=False) for zero in zeros]
        self.second = [tf.Variable(zero, trainable=False) for zero in zeros]
        self.taken = tf.Variable(0.0, trainable=False)
        self.state = _unique([*self.model.variables, *self.variables, *self.first, *self.second, self.taken])
        self._step = tf.function(self._compute_step, reduce_retracing=True)
        self._measure = tf.function(self._compute_measure, reduce_retracing=True)

    def step(self, batch: Examples, targets: list[Array], rate: float) -> float:
        """Take one step and return the loss before it."""
        tensors = [self.tf.constant(array) for array in batch.inputs]
        labels = None if batch.labels is None else self.tf.constant(batch.labels)
        return float(
            self._step(tensors, [self.tf.constant(t) for t in targets], labels, self.tf.constant(rate, "float32"))
        )

    def measure(self, part: Examples, targets: tuple[Array, ...]) -> tuple[float, float]:
        """Return the loss and the metric on some examples, in inference mode."""
        sums = np.zeros(2)
        for start in range(0, part.count, EVALUATION_BATCH):
            index = np.arange(start, min(start + EVALUATION_BATCH, part.count))
            batch = part.at(index)
            labels = None if batch.labels is None else self.tf.constant(batch.labels)
            inputs = [self.tf.constant(array) for array in batch.inputs]
            loss, metric = self._measure(inputs, [self.tf.constant(t[index]) for t in targets], labels)
            sums += np.array([float(loss), float(metric)]) * len(index)
        loss, metric = sums / part.count
        return float(loss), float(metric)

    def remember(self) -> list[Array]:
        """Return the value of every variable, the optimizer's too."""
        return [variable.numpy() for variable in self.state]

    def restore(self, values: list[Array]) -> None:
        """Put every variable back."""
        for variable, value in zip(self.state, values, strict=True):
            variable.assign(value)

    def _call(self, inputs: list[Any], training: bool) -> list[Any]:
        flat = self.tf.nest.flatten(self.model(inputs if len(inputs) > 1 else inputs[0], training=training))
        return [self.tf.cast(output, self.tf.float32) for output in flat]

    def _loss(self, outputs: list[Any], targets: list[Any], labels: Any) -> Any:
        imitation = sum(
            self._distance(kind, spread, output, target)
            for kind, spread, output, target in zip(self.kinds, self.spreads, outputs, targets, strict=True)
        )
        if labels is None or not self.options.label_weight:
            return imitation
        weight = self.options.label_weight
        return (1 - weight) * imitation + weight * self._task_loss(outputs[0], labels)

    def _distance(self, kind: Kind, spread: float, output: Any, target: Any) -> Any:
        tf = self.tf
        if kind == "values":
            return tf.reduce_mean(tf.square(output - target)) / spread
        temperature = self.options.temperature
        student = tf.nn.log_softmax(self._logits(kind, output) / temperature)
        teacher = tf.nn.log_softmax(self._logits(kind, target) / temperature)
        divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
        return temperature**2 * tf.reduce_mean(divergence)

    def _logits(self, kind: Kind, output: Any) -> Any:
        return self.tf.math.log(self.tf.maximum(output, 0.0) + self.floor) if kind == "probabilities" else output

    def _task_loss(self, output: Any, labels: Any) -> Any:
        tf = self.tf
        if not labels.dtype.is_integer:
            return tf.reduce_mean(tf.square(output - tf.cast(labels, tf.float32))) / self.spreads[0]
        if output.shape[-1] == 1:  # one probability: the answer is yes or no
            truth = tf.reshape(tf.cast(labels, tf.float32), tf.shape(output))
            sure = tf.clip_by_value(output, 1e-3, 1 - 1e-3)
            return -tf.reduce_mean(truth * tf.math.log(sure) + (1 - truth) * tf.math.log(1 - sure))
        logits = self._logits(self.kinds[0], output)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))

    def _compute_measure(self, inputs: list[Any], targets: list[Any], labels: Any) -> tuple[Any, Any]:
        tf = self.tf
        outputs = self._call(inputs, training=False)
        loss = self._loss(outputs, targets, labels)
        name = metric_of(self.kinds, labels is not None and labels.dtype.is_integer)
        if name == "mse":
            return loss, loss
        chosen = tf.argmax(outputs[0], axis=-1)
        right = tf.cast(labels, tf.int64) if name == "top1" else tf.argmax(targets[0], axis=-1)
        return loss, tf.reduce_mean(tf.cast(tf.equal(chosen, right), tf.float32))

    def _compute_step(self, inputs: list[Any], targets: list[Any], labels: Any, rate: Any) -> Any:
        tf = self.tf
        with tf.GradientTape() as tape:
            loss = self._loss(self._call(inputs, training=True), targets, labels)
        gradients = tape.gradient(loss, self.variables, unconnected_gradients="zero")
        gradients, _ = tf.clip_by_global_norm([tf.convert_to_tensor(gradient) for gradient in gradients], 1e3)
        self._move(gradients, rate)
        return loss

    def _move(self, gradients: list[Any], rate: Any) -> None:
        """Take Adam's step (arXiv:1412.6980) times the RMS of each variable, as Adafactor does (arXiv:1804.04235).

        Kernels with a folded batch norm differ in size by hundreds of times: one absolute step cannot fit them all.
        """
        tf = self.tf
        self.taken.assign_add(1.0)
        first_bias = 1 - tf.pow(0.9, self.taken)
        second_bias = 1 - tf.pow(0.99, self.taken)
        for variable, gradient, first, second in zip(self.variables, gradients, self.first, self.second, strict=True):
            first.assign(0.9 * first + 0.1 * gradient)
            second.assign(0.99 * second + 0.01 * tf.square(gradient))
            direction = (first / first_bias) / (tf.sqrt(second / second_bias) + 1e-12)
            size = tf.maximum(tf.sqrt(tf.reduce_mean(tf.square(variable))), _SMALLEST_SIZE)
            variable.assign_sub(rate * size * direction)


def metric_of(kinds: tuple[Kind, ...], classes_given: bool) -> str:
    """Return the name of the metric that picks the best epoch."""
    if kinds[0] == "values":
        return "mse"
    return "top1" if classes_given else "agreement"


def _unique(variables: list[Any]) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())


def _trained_variables(model: Any) -> list[Any]:
    """Return what is trained: the model's trainable variables, and the scale and offset of frozen batch norms."""
    import tf_keras

    extra = [
        variable
        for layer in model.submodules
        if isinstance(layer, tf_keras.layers.BatchNormalization)
        for variable in (layer.gamma, layer.beta)
        if variable is not None
    ]
    return _unique([*model.trainable_variables, *extra])


def finetune(
    on_progress: OnProgress,
    trainee: Trainee,
    examples: Examples,
    teacher: tuple[Array, ...],
    *,
    options: Training,
    seed: int,
    stage: str,
) -> Tuned:
    """Train a wrapped model in place and leave it at its best epoch.

    Args:
        examples: float32 inputs as the model eats them.
        teacher: the original model's outputs for all examples, batch axis first.
        stage: the name that the progress carries.

    Raises:
        BadInput: the labels do not fit the model's output.
    """
    check_labels(examples.labels, teacher)
    training, held_out = split(examples.count, examples.groups, seed=seed)
    kinds = tuple(kind_of(output, examples.labels) for output in teacher)
    spreads = tuple(max(float(output.var()), 1e-12) for output in teacher)
    lesson = _Lesson(trainee, kinds, spreads, options)
    course = _Course(on_progress, trainee, lesson, examples, teacher, training, held_out, options, seed, stage)
    return course.run()


@dataclass
class _Course:
    """One run of training: the plan, the steps, and the best state so far."""

    on_progress: OnProgress
    trainee: Trainee
    lesson: _Lesson
    examples: Examples
    teacher: tuple[Array, ...]
    training: Array
    held_out: Array
    options: Training
    seed: int
    stage: str
    told: float = 0.0

    def run(self) -> Tuned:
        """Probe the learning rate if the recipe has none, train, and go back to the best epoch."""
        metric = metric_of(self.lesson.kinds, _has_classes(self.examples.labels))
        judged = self.examples.at(self.held_out)
        targets = tuple(output[self.held_out] for output in self.teacher)
        per_epoch, epochs = plan(len(self.training), self.options)
        total = per_epoch * epochs
        start = self.lesson.remember()
        probed = {} if self.options.learning_rate else self.probe(start, judged, targets, total)
        rate = self.options.learning_rate or float(min(probed, key=lambda key: probed[key]))
        self.trainee.jump_to_end()
        _, before = self.lesson.measure(judged, targets)
        self.lesson.restore(start)
        best, best_epoch, best_state = before if self.trainee.may_win(0) else None, 0, start
        history: list[Epoch] = []
        began = time.monotonic()
        for epoch in range(1, epochs + 1):
            loss = self.one_pass(epoch, epochs, per_epoch, rate, began, history)
            value = self.lesson.measure(judged, targets)[1]
            may_win = self.trainee.may_win(epoch * per_epoch)
            history.append(Epoch(epoch, loss, value, may_win, round(time.monotonic() - began, 3)))
            if may_win and (best is None or _better(metric, value, best)):
                best, best_epoch, best_state = value, epoch, self.lesson.remember()
            waited = epoch - max(best_epoch, next((e.epoch for e in history if e.may_win), epoch))
            if may_win and waited >= self.options.patience_epochs:
                break
        self.lesson.restore(best_state)
        assert best is not None
        return Tuned(
            metric=metric, before=before, history=tuple(history), best_epoch=best_epoch, best=best,
            steps=len(history) * per_epoch, learning_rate=rate,
            learning_rate_from="probed" if probed else "recipe", probed=probed,
            examples=len(self.training), held_out=len(self.held_out),
        )  # fmt: skip

    def probe(self, start: list[Array], judged: Examples, targets: tuple[Array, ...], total: int) -> dict[str, float]:
        """Return the held-out loss after a short trial of each learning rate, all from the same start."""
        few = np.arange(min(PROBE_EXAMPLES, judged.count))
        losses = {}
        for number, rate in enumerate(PROBED_RATES):
            self.on_progress(
                Progress(self.stage, 0, total, f"trying learning rate {rate} ({number + 1} of {len(PROBED_RATES)})")
            )
            batches = self.batches(0)
            self.trainee.jump_to_end()
            for step in range(min(PROBE_STEPS, total)):
                index = next(batches)
                self.lesson.step(
                    self.examples.at(index), [t[index] for t in self.teacher], rate * (1 - step / PROBE_STEPS)
                )
            loss = self.lesson.measure(judged.at(few), tuple(target[few] for target in targets))[0]
            losses[str(rate)] = loss if math.isfinite(loss) else float("inf")
            self.lesson.restore(start)
        return losses

    def one_pass(
        self, epoch: int, epochs: int, per_epoch: int, rate: float, began: float, history: list[Epoch]
    ) -> float:
        """Train for one epoch and return its mean loss."""
        batches = self.batches(epoch)
        total = per_epoch * epochs
        losses = []
        for step in range(per_epoch):
            done = (epoch - 1) * per_epoch + step
            index = next(batches)
            now = rate * _share_of_rate(done, total)
            losses.append(self.lesson.step(self.examples.at(index), [t[index] for t in self.teacher], now))
            self.tell(epoch, epochs, done + 1, total, float(np.mean(losses[-50:])), began, history)
        return float(np.mean(losses))

    def batches(self, epoch: int) -> Any:
        """Yield positions of full batches for ever, each example once before any stands twice."""
        random = np.random.default_rng((self.seed, epoch))
        size = min(self.options.batch_size, len(self.training))
        left = np.array([], dtype=np.int64)
        while True:
            while len(left) < size:
                left = np.concatenate([left, random.permutation(self.training)])
            yield left[:size]
            left = left[size:]

    def tell(
        self, epoch: int, epochs: int, done: int, total: int, loss: float, began: float, history: list[Epoch]
    ) -> None:
        """Report the loss and the time left, not more than twice a second."""
        now = time.monotonic()
        if now - self.told < _SECONDS_BETWEEN_REPORTS and done < total:
            return
        self.told = now
        left_s = (now - began) / done * (total - done)
        held_out = f" held-out {history[-1].held_out:.3f}" if history else ""
        clock = f"{int(left_s) // 60:02d}:{int(left_s) % 60:02d}"
        self.on_progress(
            Progress(self.stage, done, total, f"epoch {epoch}/{epochs} loss {loss:.4f}{held_out}, {clock} left")
        )


def _has_classes(labels: Array | None) -> bool:
    return labels is not None and bool(np.issubdtype(labels.dtype, np.integer))


def _better(metric: str, value: float, best: float) -> bool:
    return value < best if metric == "mse" else value > best


def _share_of_rate(done: int, total: int) -> float:
    """Return the share of the learning rate at a step: a short rise, then half a cosine (arXiv:1608.03983)."""
    rise = max(1, int(_WARM_UP_SHARE * total))
    if done < rise:
        return (done + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / max(1, total - rise)))
