"""Trains one Keras classifier twice, from the bridge and from the lift of its TFLite reference, and says which came out better.

Run: python scripts/bench_lift.py MODEL.h5 TEST.npz TRAIN.npz [--recipe qat-int8 --recipe prune50-int8]

The bridge keeps the model's own batch norms; the lift has only what folding left of them. The npz files hold `inputs` as
the model eats them and `labels`. Files without quantization-aware training are quantized to int8 with 500 of the
training examples.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from bench_training import CALIBRATION, accuracy, gzip_bytes, to_int8

from edgeship import child, flatbuffer, recipe, training
from edgeship.importers import Request
from edgeship.importers import keras as importer
from edgeship.trainable import Start


def main() -> None:
    """Train and measure from both starts, recipe after recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("--recipe", action="append", dest="recipes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder), given)


def _run(folder: Path, given: argparse.Namespace) -> None:
    request = Request(given.model, folder / "reference.tflite", folder / "check.npz")
    imported = child.run(partial(importer.bring, request=request), log=folder / "log.txt")
    interface = flatbuffer.read(request.reference).interface
    names = tuple(tuple(spec.name for spec in specs) for specs in (interface.inputs, interface.outputs))
    starts = {
        "bridge": Start(given.model, given.model, request.reference, imported.input_names, imported.output_names),
        "lift": Start(given.model, None, request.reference, *names),
    }
    with np.load(given.train) as stored:
        images, labels = stored["inputs"].astype(np.float32), stored["labels"]
    name = f"input:{interface.inputs[0].name}"
    np.savez(folder / "examples.npz", **{name: images}, labels=labels)
    np.savez(folder / "calibration.npz", **{name: images[:CALIBRATION]})
    with np.load(given.test) as stored:
        test = stored["inputs"].astype(np.float32), stored["labels"]
    print(f"float {accuracy(request.reference, *test):.4f}")
    print(f"{'recipe':<18} {'start':<7} {'error':>8} {'top1':>7} {'gzip':>7} {'seconds':>8}")
    for asked in given.recipes or ["qat-int8"]:
        wanted = recipe.read(asked)
        found = {}
        for start, begun in starts.items():
            out = folder / f"{wanted.name}.{start}.tflite"
            order = training.Order(begun, wanted, folder / "examples.npz", out, given.seed)
            trained = child.run(partial(training.train, order=order), log=folder / "log.txt")
            final = out if wanted.qat else to_int8(folder, out, f"{wanted.name}.{start}.int8.tflite")
            found[start] = accuracy(final, *test)
            line = f"{wanted.name:<18} {start:<7} {trained.start_error:>8.1e} {found[start]:>7.4f}"
            print(f"{line} {gzip_bytes(final):>7} {trained.seconds:>8.1f}", flush=True)
        ahead = found["bridge"] - found["lift"]
        verdict = "neither" if ahead == 0 else "the bridge" if ahead > 0 else "the lift"
        print(f"{wanted.name}: {verdict} trained better, by {abs(ahead):.4f} (one seed)", flush=True)


if __name__ == "__main__":
    main()
