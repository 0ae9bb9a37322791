"""Prints what each training recipe gives: accuracy, drop, zeros, values per channel, gzip against plain int8, seconds.

Run: python -m scripts.bench_training MODEL.h5 --train TRAIN.npz --test TEST.npz [RECIPE ...]

The npz files hold `inputs` as the model eats them and `labels`. Files without quantization-aware training are quantized
to int8 with 500 of the training examples.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import child, recipe, training
from edgeship.importers import Request
from edgeship.importers import keras as importer
from edgeship.passes import quantize
from edgeship.progress import silent
from edgeship.recipe import Quantization
from edgeship.trainable import Start

Array = NDArray[Any]
RECIPES = ("qat-int8", "prune50-int8", "pqat50-int8", "cluster16-int8", "prune75-int8", "prune2x4-int8",
           "cluster32-int8", "cqat16-int8", "pcqat50-16-int8")  # fmt: skip
CALIBRATION = 500
BATCH = 100


def main() -> None:
    """Train and measure each recipe in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    given = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as name:
        _bench(Path(name), given)


def _bench(folder: Path, given: argparse.Namespace) -> None:
    request = Request(given.model, folder / "reference.tflite", folder / "check.npz")
    imported = child.run(partial(importer.bring, request=request), log=folder / "log.txt")
    (input_name,) = imported.input_names
    with np.load(given.train) as stored:
        images, labels = stored["inputs"].astype(np.float32), stored["labels"]
    np.savez(folder / "examples.npz", **{f"input:{input_name}": images}, labels=labels)
    np.savez(folder / "calibration.npz", **{f"input:{input_name}": images[:CALIBRATION]})
    with np.load(given.test) as stored:
        test = stored["inputs"].astype(np.float32), stored["labels"]
    plain = to_int8(folder, request.reference, "int8.tflite")
    reference, plain_gzip = accuracy(request.reference, *test), gzip_bytes(plain)
    print(f"float {reference:.4f}, int8 {accuracy(plain, *test):.4f}, gzip {plain_gzip} bytes")
    print(f"{'recipe':<18} {'top1':>7} {'drop':>8} {'zeros':>7} {'values':>7} {'gzip':>7} {'less':>6} {'seconds':>8}")
    for name in given.recipes:
        wanted = recipe.read(name)
        out = folder / f"{wanted.name}.tflite"
        start = Start(given.model, given.model, request.reference, imported.input_names, imported.output_names)
        order = training.Order(start, wanted, folder / "examples.npz", out, given.seed)
        trained = child.run(partial(training.train, order=order), log=folder / "log.txt")
        final = out if wanted.qat else to_int8(folder, out, f"{wanted.name}.int8.tflite")
        top1, size = accuracy(final, *test), gzip_bytes(final)
        zeros = min(layer.sparsity for layer in trained.layers)
        values = max(layer.values_per_channel for layer in trained.layers)
        line = f"{wanted.name:<18} {top1:>7.4f} {reference - top1:>8.4f} {zeros:>7.3f} {values:>7} {size:>7}"
        print(f"{line} {1 - size / plain_gzip:>6.1%} {trained.seconds:>8.1f}", flush=True)


def to_int8(folder: Path, source: Path, name: str) -> Path:
    """Quantize a float file after training."""
    options, out = Quantization(scheme="int8"), folder / name
    quantize.quantize(silent, source, name=name, calibration=folder / "calibration.npz", options=options, out=out)
    return out


def gzip_bytes(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 9, mtime=0))


def accuracy(path: Path, images: Array, labels: Array) -> float:
    """Return the share of images that a TFLite classifier with one input gets right."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=2)
    given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = given["quantization"]
    right = 0
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        if given["dtype"] == np.int8:
            batch = np.clip(np.round(batch / scale) + zero, -128, 127).astype(np.int8)
        interpreter.resize_tensor_input(given["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], batch)
        interpreter.invoke()
        right += int((interpreter.get_tensor(got["index"]).argmax(axis=-1) == labels[start : start + BATCH]).sum())
    return right / len(labels)


if __name__ == "__main__":
    main()
