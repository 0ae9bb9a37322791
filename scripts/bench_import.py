"""Import big Keras models of both generations and print how far each reference is from the model itself.

Weights are seeded, and the batch norms' statistics are those of seeded inputs, so that signals reach the logits.
Run: python scripts/bench_import.py [--only mobilenet]
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from edgeship import child, interpret
from edgeship.errors import EdgeshipError
from edgeship.importers import IMPORTERS, Request, recognize
from edgeship.progress import OnProgress

MODELS = ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50")
# Not Keras 3 with .h5: it cannot load its own MobileNetV3 from there.
FILES = (("tf_keras", ".h5"), ("tf_keras", ".keras"), ("keras", ".keras"))
SEED = 7
LIMIT, FLOOR = 1e-4, 1e-6


def make(on_progress: OnProgress, package: str, name: str, path: Path) -> int:
    """Build one model with seeded weights and statistics, save it, and return its number of parameters."""
    keras = importlib.import_module(package)
    keras.utils.set_random_seed(SEED)
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None, input_shape=(224, 224, 3))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    usual = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    images = np.random.default_rng(SEED).standard_normal((16, 224, 224, 3)).astype(np.float32)
    model(images, training=True)
    for layer, momentum in zip(norms, usual, strict=True):
        layer.momentum = momentum
    model.save(path)
    return int(model.count_params())


def measure(package: str, suffix: str, name: str, folder: Path) -> bool:
    """Print one line of the table and say whether the error is within the limit."""
    path = folder / f"{name}-{package}{suffix}"
    request = Request(path, folder / "reference.tflite", folder / "check.npz", seed=SEED)
    log = folder / "log.txt"
    label = f"{package:9}{suffix:7}{name:17}"
    try:
        parameters = child.run(partial(make, package=package, name=name, path=path), log=log, timeout_s=900)
        start = time.perf_counter()
        bring = IMPORTERS[recognize(path)].bring
        imported = child.run(partial(bring, request=request), log=log, timeout_s=900)
        seconds = time.perf_counter() - start
        (ran,) = interpret.outputs([interpret.Job(request.reference, request.check)], log=log)
    except EdgeshipError as refusal:
        print(f"{label} {refusal.message}")
        return False
    with np.load(request.check) as check:
        expected = check[f"output:{imported.output_names[0]}"]
    span = float(np.ptp(expected))
    error = float(np.abs(ran.outputs[imported.output_names[0]] - expected).max())
    passed = error <= max(LIMIT * span, FLOOR)
    verdict = "" if passed else "  OVER THE LIMIT"
    print(
        f"{label}{parameters / 1e6:7.1f} M  range {span:9.3g}  error {error:8.1e}  of range {error / span:8.1e}"
        f"  {seconds:5.1f} s{verdict}",
        flush=True,
    )
    return passed


def main() -> int:
    """Print the table; exit 1 when an error is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of a model's name")
    only = parser.parse_args().only.lower()
    with tempfile.TemporaryDirectory() as folder:
        passed = [
            measure(package, suffix, name, Path(folder))
            for name in MODELS
            for package, suffix in FILES
            if only in name.lower()
        ]
    print(f"{sum(passed)} of {len(passed)} within {LIMIT:g} of the range (floor {FLOOR:g})")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    # A child process finds functions by the name of an importable module, which __main__ is not.

    sys.exit(importlib.import_module("scripts.bench_import").main())
