"""One step of teaching a tf_keras model: the loss against a teacher's outputs, the optimizer, the measure of success."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeship import augmentation
from edgeship.errors import BadInput
from edgeship.recipe import Training

Array = NDArray[Any]
Kind = Literal["probabilities", "logits", "values"]
EVALUATION_BATCH = 128
_SMALLEST_SIZE = 1e-3  # of a variable, so that one that starts at zero can move
_LARGEST_GRADIENT = 1e3  # of all variables together


@dataclass(frozen=True)
class Material:
    """Real inputs, one array per model input with the batch axis first, and what is known of them."""

    inputs: tuple[Array, ...]
    labels: Array | None = None
    groups: Array | None = None

    @property
    def count(self) -> int:
        """Return the number of examples."""
        return len(self.inputs[0])

    @property
    def has_classes(self) -> bool:
        """Say whether the labels are classes."""
        return self.labels is not None and bool(np.issubdtype(self.labels.dtype, np.integer))

    def at(self, index: Array) -> Material:
        """Return the examples at some positions."""
        labels = None if self.labels is None else self.labels[index]
        groups = None if self.groups is None else self.groups[index]
        return Material(tuple(array[index] for array in self.inputs), labels, groups)


def kind_of(output: Array, material: Material) -> Kind:
    """Say what an output means, from the teacher's values (batch axis first) and the labels, when there are any."""
    if output.ndim < 2 or output.shape[-1] < 2:
        return "values"
    if output.min() >= -1e-3 and np.allclose(output.sum(axis=-1), 1, atol=2e-2):
        return "probabilities"
    fits = material.labels is not None and material.labels.shape == output.shape[:-1]
    return "logits" if material.has_classes and fits else "values"


def metric_of(kind: Kind, classes_given: bool) -> str:
    """Return the name of the metric that picks the best epoch."""
    if kind == "values":
        return "mse"
    return "top1" if classes_given else "agreement"


def check_labels(material: Material, output: Array) -> None:
    """Refuse labels that do not fit the model's first output (batch axis first).

    Raises:
        BadInput: a class out of range, or targets of another shape.
    """
    labels = material.labels
    if labels is None:
        return
    classes = output.shape[-1]
    if not material.has_classes:
        if labels.shape != output.shape:
            raise BadInput(f"labels: targets of shape {labels.shape[1:]}, but the model's output is {output.shape[1:]}")
    elif classes > 1:
        if labels.shape != output.shape[:-1]:
            raise BadInput(f"labels: classes of shape {labels.shape[1:]}, but the model's output is {output.shape[1:]}")
        if labels.min() < 0 or labels.max() >= classes:
            raise BadInput(f"labels: classes {labels.min()} to {labels.max()}, but the model knows 0 to {classes - 1}")


def predict(model: Any, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return a tf_keras model's outputs in inference mode, batch axis first, for all examples."""
    import tensorflow as tf

    def call(batch: list[Any]) -> list[Any]:
        return _flat(model(batch if len(batch) > 1 else batch[0], training=False))

    forward = tf.function(call, autograph=False, reduce_retracing=True)
    parts = []
    for start in range(0, len(inputs[0]), EVALUATION_BATCH):
        batch = [tf.constant(array[start : start + EVALUATION_BATCH]) for array in inputs]
        parts.append([output.numpy() for output in forward(batch)])
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


class Lesson:
    """The loss, the optimizer and the evaluation of one model; holds TensorFlow variables and compiled functions.

    Args:
        model: what trains.
        material: every example, and `teacher` the outputs wanted for them.
        original: the model that teaches, where the options change examples: it answers on what they give.
        rounds_outputs: whether the model rounds to 8 bits, so that a probability may be exactly zero.
    """

    def __init__(
        self,
        model: Any,
        material: Material,
        teacher: tuple[Array, ...],
        options: Training,
        *,
        rounds_outputs: bool,
        original: Any = None,
    ) -> None:
        import tensorflow as tf

        self.tf = tf
        self.model = model
        self.material = material
        self.teacher = teacher
        self.options = options
        self.spreads_of_inputs = augmentation.spreads(material.inputs) if options.augment else ()
        self._teach = tf.function(partial(self._answers, original), autograph=False, reduce_retracing=True)
        self.kinds = tuple(kind_of(output, material) for output in teacher)
        self.spreads = tuple(max(float(output.var()), 1e-12) for output in teacher)
        self.metric = metric_of(self.kinds[0], material.has_classes)
        self.least_probability = 2e-3 if rounds_outputs else 1e-5
        self.variables = _trained_variables(model)
        self.first = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in self.variables]
        self.second = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in self.variables]
        self.taken = tf.Variable(0.0, trainable=False)
        self.state = _unique([*model.variables, *self.variables, *self.first, *self.second, self.taken])
        self._step = tf.function(self._compute_step, autograph=False, reduce_retracing=True)
        self._measure = tf.function(self._compute_measure, autograph=False, reduce_retracing=True)

    def step(self, index: Array, rate: float, random: np.random.Generator) -> float:
        """Take one step on the examples at some positions and return the loss before it; `random` decides their changes."""
        inputs, targets, labels = self._batch(index)
        if self.options.augment:
            given = self.material.at(index).inputs
            changed = augmentation.augmented(given, self.options, self.spreads_of_inputs, random)
            inputs = [self.tf.constant(array) for array in changed]
            targets = self._teach(inputs)
        return float(self._step(inputs, targets, labels, self.tf.constant(rate, self.tf.float32)))

    def measure(self, index: Array) -> tuple[float, float]:
        """Return the loss and the metric on the examples at some positions, in inference mode."""
        sums = np.zeros(2)
        for start in range(0, len(index), EVALUATION_BATCH):
            part = index[start : start + EVALUATION_BATCH]
            loss, metric = self._measure(*self._batch(part))
            sums += np.array([float(loss), float(metric)]) * len(part)
        loss, metric = sums / len(index)
        return float(loss), float(metric)

    def remember(self) -> list[Array]:
        """Return the value of every variable, the optimizer's too."""
        return [variable.numpy() for variable in self.state]

    def restore(self, values: list[Array]) -> None:
        """Put every variable back."""
        for variable, value in zip(self.state, values, strict=True):
            variable.assign(value)

    def _batch(self, index: Array) -> tuple[list[Any], list[Any], Any]:
        batch = self.material.at(index)
        labels = None if batch.labels is None else self.tf.constant(batch.labels)
        inputs = [self.tf.constant(array) for array in batch.inputs]
        return inputs, [self.tf.constant(output[index]) for output in self.teacher], labels

    def _call(self, inputs: list[Any], training: bool) -> list[Any]:
        outputs = self.model(inputs if len(inputs) > 1 else inputs[0], training=training)
        return [self.tf.cast(output, self.tf.float32) for output in _flat(outputs)]

    def _answers(self, original: Any, inputs: list[Any]) -> list[Any]:
        return _flat(original(inputs if len(inputs) > 1 else inputs[0], training=False))

    def _loss(self, outputs: list[Any], targets: list[Any], labels: Any) -> Any:
        imitation = sum(
            self._distance(number, output, target)
            for number, (output, target) in enumerate(zip(outputs, targets, strict=True))
        )
        weight = self.options.label_weight if labels is not None else 0
        return (1 - weight) * imitation + weight * self._task_loss(outputs[0], labels) if weight else imitation

    def _distance(self, number: int, output: Any, target: Any) -> Any:
        """Return the divergence of the classes' probabilities, else the squared error over the target's variance."""
        tf, kind = self.tf, self.kinds[number]
        if kind == "values":
            return tf.reduce_mean(tf.square(output - target)) / self.spreads[number]
        temperature = self.options.temperature
        student = tf.nn.log_softmax(self._logits(kind, output) / temperature)
        teacher = tf.nn.log_softmax(self._logits(kind, target) / temperature)
        divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
        return temperature**2 * tf.reduce_mean(divergence)

    def _logits(self, kind: Kind, output: Any) -> Any:
        if kind != "probabilities":
            return output
        return self.tf.math.log(self.tf.maximum(output, 0.0) + self.least_probability)

    def _task_loss(self, output: Any, labels: Any) -> Any:
        tf = self.tf
        if not labels.dtype.is_integer:
            return tf.reduce_mean(tf.square(output - tf.cast(labels, tf.float32))) / self.spreads[0]
        if output.shape[-1] == 1:  # integer targets of a single value
            truth = tf.reshape(tf.cast(labels, tf.float32), tf.shape(output))
            return tf.reduce_mean(tf.square(output - truth)) / self.spreads[0]
        logits = self._logits(self.kinds[0], output)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))

    def _compute_measure(self, inputs: list[Any], targets: list[Any], labels: Any) -> tuple[Any, Any]:
        tf = self.tf
        outputs = self._call(inputs, training=False)
        loss = self._loss(outputs, targets, labels)
        if self.metric == "mse":
            return loss, loss
        right = tf.cast(labels, tf.int64) if self.metric == "top1" else tf.argmax(targets[0], axis=-1)
        return loss, tf.reduce_mean(tf.cast(tf.equal(tf.argmax(outputs[0], axis=-1), right), tf.float32))

    def _compute_step(self, inputs: list[Any], targets: list[Any], labels: Any, rate: Any) -> Any:
        tf = self.tf
        with tf.GradientTape() as tape:
            loss = self._loss(self._call(inputs, training=True), targets, labels)
        gradients = tape.gradient(loss, self.variables, unconnected_gradients="zero")
        # Shared values have gradients by index; as tensors they can be clipped and averaged like all others.
        gradients, _ = tf.clip_by_global_norm([tf.convert_to_tensor(one) for one in gradients], _LARGEST_GRADIENT)
        self._move(gradients, rate)
        return loss

    def _move(self, gradients: list[Any], rate: Any) -> None:
        """Take Adam's step (arXiv:1412.6980) times the RMS of each variable, as Adafactor does (arXiv:1804.04235).

        Kernels with a folded batch norm differ in size by hundreds of times: one absolute step cannot fit them all.
        """
        tf = self.tf
        self.taken.assign_add(1.0)
        first_bias, second_bias = 1 - tf.pow(0.9, self.taken), 1 - tf.pow(0.99, self.taken)
        for variable, gradient, first, second in zip(self.variables, gradients, self.first, self.second, strict=True):
            first.assign(0.9 * first + 0.1 * gradient)
            second.assign(0.99 * second + 0.01 * tf.square(gradient))
            direction = (first / first_bias) / (tf.sqrt(second / second_bias) + 1e-12)
            size = tf.maximum(tf.sqrt(tf.reduce_mean(tf.square(variable))), _SMALLEST_SIZE)
            variable.assign_sub(rate * size * direction)


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


def _unique(variables: list[Any]) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())


def _flat(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
