"""The bare script that bench_build compares with: import, check, quantize, evaluate; no cache, no report, no safety.

uv run python scripts/bare_int8.py MODEL.h5 TEST.npz TRAIN.npz
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def run(model: Path, images: NDArray[Any], threads: int = 2) -> NDArray[Any]:
    """Return a TFLite file's outputs, one image at a time on each thread."""
    from ai_edge_litert.interpreter import Interpreter

    def share(part: NDArray[Any]) -> NDArray[Any]:
        interpreter = Interpreter(model_path=str(model), num_threads=1)
        interpreter.allocate_tensors()
        entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        found = []
        for image in part:
            fed = image[None]
            if entry["dtype"] is np.int8:
                scale, zero = entry["quantization"]
                fed = np.clip(np.rint(fed / scale) + zero, -128, 127).astype(np.int8)
            interpreter.set_tensor(entry["index"], fed)
            interpreter.invoke()
            found.append(interpreter.get_tensor(exit_["index"])[0])
        return np.stack(found)

    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(share, np.array_split(images, threads))))


def main() -> None:
    """Do it once and print the two accuracies."""
    import tensorflow as tf
    import tf_keras
    from litert_quantizer import quantizer, recipe

    source, test, train = map(Path, sys.argv[1:4])
    model = tf_keras.models.load_model(source, compile=False)
    shape = (1, *model.inputs[0].shape[1:])
    asked = tf.function(lambda x: {"output": model(x, training=False)})
    concrete = asked.get_concrete_function(tf.TensorSpec(shape, tf.float32, name="x"))
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model).convert()
    data, calibration = np.load(test), np.load(train)
    images = data["inputs"].astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        reference, artifact = Path(name) / "float.tflite", Path(name) / "int8.tflite"
        reference.write_bytes(content)
        error = float(np.abs(run(reference, images[:8]) - model(images[:8]).numpy()).max())
        tool = quantizer.Quantizer(str(reference), recipe.static_wi8_ai8())
        fed = [{"x": image[None].astype(np.float32)} for image in calibration["inputs"]]
        found = tool.calibrate({"serving_default": fed}, num_threads=2)
        tool.quantize(found, enable_progress_report=False).export_model(str(artifact), overwrite=True)
        scores = [float(np.mean(run(path, images).argmax(-1) == data["labels"])) for path in (reference, artifact)]
    print(f"error {error:.1e}, float {scores[0]:.4f}, int8 {scores[1]:.4f}")


if __name__ == "__main__":
    main()
