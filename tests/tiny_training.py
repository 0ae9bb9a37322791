"""Small models and examples to train on, and what their TFLite files hold; the heavy parts run in a child process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeship import recipe, tf_convert, training
from edgeship.errors import EdgeshipError
from edgeship.progress import OnProgress
from edgeship.recipe import Recipe
from edgeship.trainable import Start
from edgeship.training import Order, Trained

Array = NDArray[Any]
CLASSES = 4


@dataclass(frozen=True)
class Kernel:
    """One int8 or float32 weight of a TFLite file, output channels first."""

    name: str
    values: Array


def blobs(count: int, seed: int) -> tuple[Array, Array]:
    """Return noisy 0..255 images of four patterns and their classes."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).uniform(0, 255, (CLASSES, 12, 12, 1))
    labels = random.integers(0, CLASSES, count)
    return (patterns[labels] + random.normal(0, 90, (count, 12, 12, 1))).clip(0, 255).astype(np.float32), labels


def write_examples(path: Path, *, labelled: bool = True, count: int = 240) -> Path:
    """Write an npz of examples as training eats them."""
    images, labels = blobs(count, 1)
    arrays: dict[str, Any] = {"input:image": images} | ({"labels": labels} if labelled else {})
    np.savez(path, **arrays)
    return path


def make_models(on_progress: OnProgress, folder: Path) -> None:
    """Write the same small classifier, trained for a moment, as `keras.keras` and `tf_keras.h5`, one that the bridge cannot take, and TFLite files of all."""
    import keras
    import tf_keras

    images, labels = blobs(400, 0)
    for package, name in ((keras, "keras.keras"), (tf_keras, "tf_keras.h5")):
        package.utils.set_random_seed(0)
        layers = package.layers
        image = package.Input((12, 12, 1), name="image")
        hidden = layers.Conv2D(8, 3, use_bias=False, name="first")(image)
        hidden = layers.ReLU()(layers.BatchNormalization()(hidden))
        hidden = layers.Conv2D(16, 3, strides=2, name="second")(hidden)
        hidden = layers.Activation("relu")(layers.BatchNormalization()(hidden))
        hidden = layers.Flatten()(layers.AveragePooling2D(2)(hidden))
        odds = layers.Dense(CLASSES, activation="softmax", name="odds")(hidden)
        model = package.Model(image, odds)
        model.compile(package.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
        model.fit(images, labels, epochs=6, verbose=0)
        _save(model, folder / name)
    image = keras.Input((12, 12, 1), name="image")
    hidden = keras.ops.absolute(keras.layers.Conv2D(4, 3, strides=4, name="first")(image))  # the bridge has no absolute
    hidden = keras.layers.Dense(CLASSES, name="odds")(keras.layers.Flatten()(hidden))
    _save(keras.Model(image, hidden), folder / "odd.keras")


def _save(model: Any, path: Path) -> None:
    """Write a model, and its TFLite reference beside it."""
    model.save(path)
    reference = tf_convert.convert(
        path,
        lambda image: {"odds": model(image, training=False)},
        {"image": ((1, 12, 12, 1), "float32")},
        [getattr(variable, "value", variable) for variable in model.variables]
        if path.suffix == ".keras"
        else model.variables,
    )
    path.with_name(f"{path.name}.tflite").write_bytes(reference)


def quick(name: str, **train: Any) -> Recipe:
    """Return a recipe by name that trains for a moment only."""
    found = recipe.read(name)
    options = {"epochs": 2, "max_steps": 40, "min_epoch_steps": 20, "learning_rate": 0.002, **train}
    return found.model_copy(update={"train": found.train.model_copy(update=options)})


def order(folder: Path, source: str, wanted: Recipe, *, out: str, examples: str = "examples.npz") -> Order:
    """Return an order for one of the small models."""
    keras = None if source.endswith(".tflite") else folder / source
    start = Start(folder / source, keras, folder / (f"{source}.tflite" if keras else source), ("image",), ("odds",))
    return Order(start, wanted, folder / examples, folder / out, seed=3)


def train_all(on_progress: OnProgress, orders: list[Order]) -> list[Trained | EdgeshipError]:
    """Train each and return what it gives, or its refusal."""
    answers: list[Trained | EdgeshipError] = []
    for one in orders:
        try:
            answers.append(training.train(on_progress, one))
        except EdgeshipError as refusal:
            answers.append(refusal)
    return answers


def with_options(wanted: Recipe, technique: Literal["prune", "cluster", "qat"], **options: Any) -> Recipe:
    """Return the recipe with some options of one technique set."""
    return wanted.model_copy(update={technique: getattr(wanted, technique).model_copy(update=options)})


def with_examples(one: Order, examples: Path) -> Order:
    """Return the order with other examples."""
    return replace(one, examples=examples)


def kernels(path: Path) -> list[Kernel]:
    """Return the weights of a TFLite file's convolutions and dense layers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    shapes = {(8, 3, 3, 1), (16, 3, 3, 8), (CLASSES, 64)}
    return [
        Kernel(detail["name"], interpreter.get_tensor(detail["index"]).copy())
        for detail in interpreter.get_tensor_details()
        if tuple(detail["shape"]) in shapes
    ]


def dtypes(path: Path) -> set[str]:
    """Return the dtypes of all tensors of a TFLite file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    return {np.dtype(detail["dtype"]).name for detail in interpreter.get_tensor_details()}


def accuracy(path: Path) -> float:
    """Return the share of fresh examples that a TFLite file gets right."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    images, labels = blobs(200, 5)
    if given["dtype"] == np.int8:
        scale, zero = given["quantization"]
        images = np.clip(np.round(images / scale) + zero, -128, 127).astype(np.int8)
    right = 0
    for image, label in zip(images, labels, strict=True):
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        right += int(interpreter.get_tensor(got["index"])[0].argmax() == label)
    return right / len(labels)


def even_out(on_progress: OnProgress, source: Path) -> tuple[float, list[float], list[float]]:
    """Return how far a model's answers move when its channels are evened out, the largest weights and the BN scales."""
    from edgeship import keras_file
    from edgeship.bridge import bridge
    from edgeship.channel_scale import even_out_channels
    from edgeship.lesson import predict

    model = bridge(keras_file.load(source, ()).model, seed=0).model
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    norms[0].gamma.assign(norms[0].gamma.numpy() * np.array([-1, 1] * 4, np.float32))
    images = (blobs(20, 2)[0],)
    before = predict(model, images)[0]
    even_out_channels(model)
    largest = np.concatenate(
        [np.abs(model.get_layer(name).kernel.numpy()).max((0, 1, 2)) for name in ("first", "second")]
    )
    scales = np.concatenate([norm.gamma.numpy() for norm in norms])
    return float(np.abs(predict(model, images)[0] - before).max()), largest.tolist(), scales.tolist()
