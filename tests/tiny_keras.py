"""Makes small Keras files for tests: by hand (any configuration, no TensorFlow), or real ones in a child process."""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from edgeship.errors import EdgeshipError
from edgeship.importers import IMPORTERS, Imported, Request, recognize
from edgeship.progress import OnProgress

Layer = dict[str, Any]


def layer(
    class_name: str, module: str | None = "keras.layers", registered: str | None = None, /, **config: Any
) -> Layer:
    """Return one layer as Keras 3 and tf_keras write it in a .keras file."""
    name = config.setdefault("name", class_name.lower())
    return {
        "module": module, "class_name": class_name, "config": config, "registered_name": registered, "name": name,
        "inbound_nodes": [],
    }  # fmt: skip


def model(*layers: Layer) -> dict[str, Any]:
    """Return a model's configuration around some layers."""
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {"name": "model", "layers": list(layers)},
        "registered_name": "Functional",
    }


def archive(path: Path, config: Any, *, version: str = "3.15.1", members: Mapping[str, bytes] | None = None) -> Path:
    """Write a .keras file with an empty weights file."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layer/0"] = np.zeros(3, np.float32)
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("metadata.json", json.dumps({"keras_version": version}))
        made.writestr("config.json", json.dumps(config))
        made.writestr("model.weights.h5", weights.getvalue())
        for name, content in (members or {}).items():
            made.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def hdf5(path: Path, config: Any, *, version: str | None = "2.4.0") -> Path:
    """Write an .h5 file with a little weight in it."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        if version:
            file.attrs["keras_version"] = version
        file["model_weights/layer/0"] = np.zeros(3, np.float32)
    return path


def make_all(on_progress: OnProgress, folder: Path) -> None:
    """Write the same small network by both generations: `keras.keras keras.h5 tf_keras.keras tf_keras.h5`, exported
    as `saved_model` and converted as `float.tflite`; in a child process."""
    import tensorflow as tf

    for package in ("keras", "tf_keras"):
        keras = importlib.import_module(package)
        keras.utils.set_random_seed(3)
        made = network(keras)
        for suffix in (".keras", ".h5"):
            made.save(folder / f"{package}{suffix}")
        open_sizes(keras).save(folder / f"{package}-open.h5")
    export = tf.Module()
    export.model = made
    export.serve = tf.function(
        lambda image, extra: dict(zip(("scores", "angle"), made([image, extra], training=False), strict=True)),
        input_signature=[tf.TensorSpec((None, 8, 8, 3), name="image"), tf.TensorSpec((None, 4), name="extra")],
    )
    tf.saved_model.save(export, str(folder / "saved_model"), signatures=export.serve)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved_model"))
    (folder / "float.tflite").write_bytes(converter.convert())


def bring_all(on_progress: OnProgress, requests: list[Request]) -> list[Imported | EdgeshipError]:
    """Bring several models in one process, since TensorFlow takes its time to start; refusals are answers too."""
    answers: list[Imported | EdgeshipError] = []
    for request in requests:
        try:
            answers.append(IMPORTERS[recognize(request.source)].bring(on_progress, request))
        except EdgeshipError as refusal:
            answers.append(refusal)
    return answers


def network(keras: Any) -> Any:
    """Return two inputs, two outputs, and the layers that most networks are made of."""
    image = keras.Input((8, 8, 3), name="image")
    extra = keras.Input((4,), name="extra")
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    norm = keras.layers.BatchNormalization()
    x = keras.layers.ReLU(6.0)(norm(x))
    x = keras.layers.DepthwiseConv2D(3, strides=2)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Concatenate()([x, extra])
    scores = keras.layers.Dense(5, activation="softmax", name="scores")(x)
    angle = keras.layers.Dense(1, activation="tanh", name="angle")(x)
    made = keras.Model([image, extra], [scores, angle])
    random = np.random.default_rng(3)
    norm.set_weights([random.uniform(0.5, 1.5, 8).astype(np.float32) for _ in range(4)])
    return made


def open_sizes(keras: Any) -> Any:
    """Return a network that takes images of any size."""
    image = keras.Input((None, None, 1), name="photo")
    x = keras.layers.Conv2D(4, 3)(image)
    return keras.Model(image, keras.layers.Dense(2, name="out")(keras.layers.GlobalAveragePooling2D()(x)))
