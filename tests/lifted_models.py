"""Small TensorFlow functions as TFLite files, lifted and held against the runtime; runs in a child process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship import flatbuffer, tf_convert
from edgeship.errors import EdgeshipError
from edgeship.lift import lift
from edgeship.progress import OnProgress
from tests.tiny_tflite import TinyModel, separable

Shapes = tuple[tuple[int, ...], ...]
EXAMPLES = 3


@dataclass(frozen=True)
class Answer:
    """What a lift gave: the error relative to the outputs' range, the kinds of layers, the notes; or the refusal."""

    error: float = 0.0
    layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: str = ""


def lift_all(on_progress: OnProgress, folder: Path) -> dict[str, Answer]:
    """Lift every function of `functions` and every file of `files`."""
    answers = {}
    for name, (shapes, function) in functions().items():
        path = folder / f"{name}.tflite"
        kinds = ["int32" if name.startswith("tokens") else "float32"] * len(shapes)
        path.write_bytes(converted(path, shapes, kinds, function))
        answers[name] = lifted(path, shapes, kinds)
    for name, (shapes, model) in files().items():
        path = folder / f"{name}.tflite"
        answers[name] = lifted(model.write(path), shapes, ["float32"] * len(shapes))
    return answers


def converted(path: Path, shapes: Shapes, kinds: list[str], function: Callable[..., Any]) -> bytes:
    """Return a function of tensors, with a batch of 1, as a TFLite file."""
    import tensorflow as tf

    names = [f"in_{number}" for number in range(len(shapes))]

    def forward(**tensors: Any) -> Mapping[str, Any]:
        found = tf.nest.flatten(function(*(tensors[name] for name in names)))
        return {f"out_{number}": tensor for number, tensor in enumerate(found)}

    inputs = {name: ((1, *shape), kind) for name, shape, kind in zip(names, shapes, kinds, strict=True)}
    return tf_convert.convert(path, forward, inputs, [])


def lifted(path: Path, shapes: Shapes, kinds: list[str]) -> Answer:
    """Lift a file, checked on a few examples at once, with and without batch norms for the channels' scale."""
    random = np.random.default_rng(0)
    names = [spec.name for spec in flatbuffer.read(path).interface.inputs]
    if len(names) > 1:  # the converter may order them anew
        shapes = tuple(shapes[int(name.removeprefix("in_"))] for name in names)
    inputs = [
        random.standard_normal((EXAMPLES, *shape)).astype(np.float32)
        if kind == "float32"
        else random.integers(0, 5, (EXAMPLES, *shape)).astype(kind)
        for shape, kind in zip(shapes, kinds, strict=True)
    ]
    try:
        bare = lift(path, inputs, aside=path.with_suffix(".float"), channel_scales=False)
        made = lift(path, inputs, aside=path.with_suffix(".float"))
    except EdgeshipError as refusal:
        return Answer(refusal=refusal.message)
    import tf_keras

    copy = tf_keras.models.clone_model(made.model)
    copy.set_weights(made.model.get_weights())
    given = inputs if len(inputs) > 1 else inputs[0]
    pairs = zip(*(tf_outputs(model(given)) for model in (made.model, copy)), strict=True)
    assert all(np.array_equal(ours, theirs) for ours, theirs in pairs), f"{path}: a copy gives other answers"
    layers = tuple(type(layer).__name__ for layer in bare.model.layers)
    return Answer(max(bare.relative_error, made.relative_error), layers, made.notes)


def tf_outputs(outputs: Any) -> list[Any]:
    """Return a model's outputs as arrays."""
    return [np.asarray(output) for output in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def functions() -> dict[str, tuple[Shapes, Callable[..., Any]]]:
    """Return functions with one trait each: the shapes of their inputs without the batch, and what they compute."""
    import tensorflow as tf

    random = np.random.default_rng(1)

    def weights(*shape: int) -> Any:
        return tf.constant(random.normal(0, 0.5, shape).astype(np.float32))

    image, row = ((8, 10, 4),), ((6, 5),)
    kernel, wide, deep = weights(3, 3, 4, 6), weights(3, 3, 2, 6), weights(3, 3, 4, 2)
    channels, table, square = weights(4), weights(5, 3), weights(5, 5)
    return {
        "conv": (image, lambda x: tf.nn.relu6(tf.nn.conv2d(x, kernel, 2, "SAME") * weights(6) + weights(6))),
        "conv_valid_dilated": (image, lambda x: tf.nn.conv2d(x, kernel, 1, "VALID", dilations=2)),
        "conv_uneven_strides": (image, lambda x: tf.nn.relu(tf.nn.conv2d(x, kernel, [1, 2, 1, 1], "SAME"))),
        "conv_grouped": (image, lambda x: tf.nn.conv2d(x, wide, 1, "SAME")),
        "conv_padded": (image, lambda x: tf.nn.conv2d(tf.pad(x, [[0, 0], [0, 1], [1, 0], [0, 0]]), kernel, 2, "VALID")),
        "conv_transposed": (
            image,
            lambda x: tf.nn.conv2d_transpose(x, weights(3, 3, 5, 4), [1, 16, 20, 5], 2, "SAME") + weights(5),
        ),
        "conv_transposed_valid": (
            image,
            lambda x: tf.nn.conv2d_transpose(x, weights(2, 2, 5, 4), [1, 17, 20, 5], 2, "VALID"),
        ),
        "conv_3d": (((4, 6, 6, 2),), lambda x: tf.nn.conv3d(x, weights(2, 3, 3, 2, 3), [1, 1, 2, 2, 1], "SAME")),
        "conv_of_rows": (((12, 4),), lambda x: tf.nn.conv1d(x, weights(3, 4, 5), 1, "SAME")),
        "depthwise": (image, lambda x: tf.nn.depthwise_conv2d(x, deep, [1, 2, 2, 1], "SAME")),
        "depthwise_dilated": (image, lambda x: tf.nn.depthwise_conv2d(x, deep, [1, 1, 1, 1], "SAME", dilations=[2, 2])),
        "channel_constants": (image, lambda x: tf.nn.relu(tf.nn.relu(x) * channels + 2.0 * channels)),
        "single_numbers": (image, lambda x: [3.0 - x, x / 4.0, tf.abs(x) * 0.5 + 1.0, tf.nn.relu6(x + 3.0) / 6.0]),
        "flatten_dense": (image, lambda x: tf.nn.softmax(tf.matmul(tf.reshape(x, [1, -1]), weights(320, 7)))),
        "dense_rows": (row, lambda x: tf.nn.relu(tf.einsum("bij,jk->bik", x, square) + weights(5))),
        "merged_rows": (row, lambda x: tf.reshape(tf.matmul(tf.reshape(x, [6, 5]), square), [1, 5, 6])),
        "batch_moved": (row, lambda x: tf.transpose(tf.nn.softmax(tf.transpose(x, [1, 0, 2]), axis=0), [1, 2, 0])),
        "heads": (row, _attention(weights)),
        "activations": (
            row,
            lambda x: [tf.nn.gelu(x, approximate=True), tf.nn.leaky_relu(x, 0.3), tf.nn.elu(x),
                       x * tf.nn.relu6(x + 3) / 6, tf.sigmoid(x), tf.tanh(x), tf.nn.log_softmax(x), tf.nn.softmax(2 * x)],
        ),
        "gelu": (row, tf.nn.gelu),
        "prelu": (image, lambda x: tf.nn.relu(x) - channels * tf.nn.relu(-x)),
        "values": (
            row,
            lambda x: [tf.exp(x), tf.sqrt(tf.abs(x)), tf.math.rsqrt(tf.abs(x) + 1), tf.square(x), tf.floor(x),
                       tf.sin(x), tf.sign(x), tf.maximum(x, 0.1), tf.minimum(x, x[:, :1]), tf.math.squared_difference(x, 1.0)],
        ),
        "broadcast": (((6, 5), (5,)), lambda x, y: [x + y, x * y[:, None], y - x[:, :1], tf.math.divide(x, tf.exp(y))]),
        "reduced": (
            image,
            lambda x: [tf.reduce_mean(x, [1, 2]), tf.reduce_mean(x, 3), tf.reduce_sum(x, [0, 1]), tf.reduce_max(x, 2),
                       tf.reduce_mean(x, [1, 2], keepdims=True), tf.argmax(x, -1, tf.int32)],
        ),
        "norm": (row, lambda x: _layer_norm(x, weights)),
        "cut": (
            row,
            lambda x: [x[:, 1:5:2, ::-1], x[:, 2], x[0, :, 1:3], tf.split(x, [2, 4], axis=1)[1], *tf.unstack(x, axis=2)[:2]],
        ),
        "joined": (
            row,
            lambda x: [tf.concat([x, 2 * x], 1), tf.stack([x, -x], 1), tf.concat([x, weights(1, 6, 2)], 2),
                       tf.concat([x, -x], 0), tf.tile(x, [1, 2, 1]), tf.broadcast_to(x[:, :, None], [1, 6, 3, 5])],
        ),
        "padded": (
            row,
            lambda x: [tf.pad(x, [[0, 0], [1, 2], [0, 0]]), tf.pad(x, [[0, 0], [1, 0], [0, 1]], constant_values=3.0),
                       tf.pad(x, [[0, 0], [2, 2], [0, 0]], "REFLECT"), tf.reverse(x, [1]), tf.cumsum(x, axis=1)],
        ),
        "looked_up": (row, lambda x: [tf.gather(x, [4, 0, 2], axis=1), tf.gather_nd(x, [[[0, 1, 2], [0, 5, 4]]]),
                                      tf.math.top_k(x, 2).values, tf.linalg.l2_normalize(x, -1)]),
        "tokens": (((6,),), lambda x: [tf.gather(table, x), tf.one_hot(x, 5), tf.cast(x, tf.float32) + 1.0,
                                       tf.where(x > 2, 1.0, -1.0)]),
        "pooled": (image, lambda x: [tf.nn.avg_pool2d(x, 3, 2, "SAME"), tf.nn.max_pool2d(x, 2, 2, "VALID")]),
        "resized": (
            image,
            lambda x: [tf.image.resize(x, [16, 20]), tf.image.resize(x, [12, 9], "nearest"),
                       tf.compat.v1.image.resize_bilinear(x, [15, 19], align_corners=True)],
        ),
        "blocks": (image, lambda x: tf.nn.space_to_depth(tf.nn.depth_to_space(x, 2), 4)),
        "blocks_in_the_batch": (
            image,
            lambda x: tf.batch_to_space(
                tf.nn.conv2d(tf.space_to_batch(x, [2, 2], [[2, 2], [2, 2]]), kernel, 1, "VALID"), [2, 2], [[0, 0], [0, 0]]
            ),
        ),
        "unrolled": (row, _unrolled(weights)),
        "two_of_each": (((6, 5), (5, 3)), lambda x, y: [tf.matmul(x, y), tf.matmul(y, x, True, True)]),
    }  # fmt: skip


def _attention(weights: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    query, key, value = weights(5, 8), weights(5, 8), weights(5, 8)

    def attention(x: Any) -> Any:
        heads = [tf.transpose(tf.reshape(x @ kernel, [1, 6, 2, 4]), [0, 2, 1, 3]) for kernel in (query, key, value)]
        odds = tf.nn.softmax(tf.matmul(heads[0], heads[1], transpose_b=True) / 2.0)
        return tf.reshape(tf.transpose(tf.matmul(odds, heads[2]), [0, 2, 1, 3]), [1, 6, 8])

    return attention


def _unrolled(weights: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    kernel, recurrent, bias = weights(5, 4), weights(4, 4), weights(4)

    def recurrence(x: Any) -> Any:
        state = tf.zeros((1, 4))
        for step in range(4):
            state = tf.tanh(tf.matmul(x[:, step], kernel) + tf.matmul(state, recurrent) + bias)
        return state

    return recurrence


def _layer_norm(x: Any, weights: Callable[..., Any]) -> Any:
    import tensorflow as tf

    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * weights(5) + weights(5)


def files() -> dict[str, tuple[Shapes, TinyModel]]:
    """Return files built tensor by tensor, which no converter writes."""
    four = TinyModel()
    four.outputs.append(four.operator("RELU", [four.input("image", (4, 3))], four.tensor("out", (4, 3))))
    constant = TinyModel()
    constant.operator("RELU", [constant.input("x", (1, 3))], constant.tensor("unused", (1, 3)))
    constant.outputs.append(constant.constant("answer", np.ones((1, 2), np.float32)))
    integer = TinyModel()
    given = integer.input("x", (1, 3), "int8", scale=0.5)
    integer.outputs.append(integer.operator("RELU", [given], integer.tensor("out", (1, 3), "int8", scale=0.5)))
    return {
        "separable": (((16, 16, 3),), separable()),
        "batch_of_four": (((3,),), four),
        "constant_answer": (((3,),), constant),
        "integers": (((3,),), integer),
    }
