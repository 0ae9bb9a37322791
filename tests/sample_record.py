"""A build record such as a real build leaves, for tests of what is made from records."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

from edgeship.artifact import Advice, Complexity, LayerError, OperatorCost, Roofline, WeightHistogram
from edgeship.run import BuildRecord, ImportCheck, Port, Quality, QuantizedShare, StageRun, TrainingSummary

SHA = "3f1c0a55d2c14be6f59d3bd0c53a7a1eb1f80a7efcc36f9e21f83b6d6a3c9e10"
# name, operator, MACs, float weight bytes, float activation bytes of a ResNet8 for 32x32 images
_LAYERS = (
    ("resnet/stem/Relu", "CONV_2D", 442_368, 1_792, 77_824),
    ("resnet/block1/conv1/Relu", "CONV_2D", 2_359_296, 9_280, 131_072),
    ("resnet/block1/conv2/BiasAdd", "CONV_2D", 2_359_296, 9_280, 131_072),
    ("resnet/block1/add/Relu", "ADD", 0, 0, 196_608),
    ("resnet/block2/conv1/Relu", "CONV_2D", 1_179_648, 18_560, 98_304),
    ("resnet/block2/conv2/BiasAdd", "CONV_2D", 2_359_296, 36_992, 65_536),
    ("resnet/block2/shortcut/BiasAdd", "CONV_2D", 131_072, 2_176, 98_304),
    ("resnet/block2/add/Relu", "ADD", 0, 0, 98_304),
    ("resnet/block3/conv1/Relu", "CONV_2D", 1_179_648, 73_984, 49_152),
    ("resnet/block3/conv2/BiasAdd", "CONV_2D", 2_359_296, 147_712, 32_768),
    ("resnet/block3/shortcut/BiasAdd", "CONV_2D", 131_072, 8_448, 49_152),
    ("resnet/block3/add/Relu", "ADD", 0, 0, 49_152),
    ("resnet/pool/AvgPool", "AVERAGE_POOL_2D", 0, 0, 16_640),
    ("resnet/flatten/Reshape", "RESHAPE", 0, 0, 512),
    ("resnet/dense/BiasAdd", "FULLY_CONNECTED", 640, 2_600, 296),
    ("resnet/softmax/Softmax", "SOFTMAX", 0, 0, 80),
)


def record(**changes: Any) -> BuildRecord:
    """Return the record of a pruned and quantized ResNet8 for rpi4, with some fields replaced."""
    small, full = _complexity(4, sparsity=0.503), _complexity(1, sparsity=0.0)
    made = BuildRecord(
        artifact="build/resnet8/rpi4/pqat50-int8/model.tflite",
        sha256=SHA,
        target="rpi4",
        recipe="pqat50-int8",
        size_bytes=97_392,
        gzip_bytes=58_120,
        reference_size_bytes=321_184,
        quality=Quality("top1", 0.7624, 0.7531, 0.0093, 0.015, 10_000, False, True, 24.7, 0.936),
        import_check=ImportCheck("tf_keras 2.21.0 predict", 2.4e-7, 2.5e-7, 1e-4, 8),
        stages=_stages(),
        quantized=QuantizedShare(16, 16, 1.0, {}),
        sparsity=0.503,
        warnings=(),
        manifest="build/resnet8/rpi4/pqat50-int8/manifest.json",
        report="build/resnet8/rpi4/pqat50-int8/report.html",
        model="resnet8",
        source="pretrainedResnet.h5",
        source_format="keras",
        recipe_summary="magnitude pruning kept through quantization-aware training, then full-integer int8",
        target_summary="Raspberry Pi 4 Model B, 64-bit system",
        reference_gzip_bytes=287_310,
        input_hashes={"model": SHA, "data": SHA[::-1], "calibration": SHA[8:] + SHA[:8]},
        options={"seed": 0, "max_drop": 0.015, "metric": "top1", "recipe_options": {"prune": {"sparsity": 0.5}}},
        notes=("20% of the examples were set apart for calibration and left out of the evaluation",),
        inputs=(
            Port(
                "input_1", (-1, 32, 32, 3), "int8", 1.0, -128, {"scale": [1.0], "offset": [0.0], "range": [0.0, 255.0]}
            ),
        ),
        outputs=(Port("Identity", (-1, 10), "int8", 0.00390625, -128),),
        labels=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        reference_complexity=full,
        complexity=small,
        roofline=_roofline(small, peak_gops=115.2),
        reference_roofline=_roofline(full, peak_gops=57.6),
        layers=_errors(),
        histograms=_histograms(),
        advice=(
            Advice(
                "note",
                "Pruning will not make rpi4 faster with int8: sparse kernels are for float weights only, and the two speed-ups do not combine. Zeros make the compressed file smaller.",
            ),
            Advice(
                "note",
                "rpi4's Cortex-A72 is not known to have the int8 dot product (asimddp): int8 may be no faster than float there. Bench both.",
            ),
        ),
        training=_training(),
        edgeship="0.1.0",
        made="2026-11-22T09:41:07+00:00",
    )
    return dataclasses.replace(made, **changes)


def bare(**changes: Any) -> BuildRecord:
    """Return a record with nothing in it that may be absent."""
    nothing: dict[str, Any] = {
        "quality": Quality("sqnr", 120.4, 41.2, 79.2, None, 256, True, True),
        "target": "linux-x86_64",
        "target_summary": "Any x86-64 Linux machine, this one too",
        "recipe": "int8-weights",
        "warnings": (),
        "notes": (),
        "inputs": (),
        "outputs": (),
        "labels": (),
        "roofline": None,
        "reference_roofline": None,
        "layers": (),
        "histograms": (),
        "advice": (),
        "training": None,
        "stages": (),
        "input_hashes": {},
        "options": {},
    }
    return record(**{**nothing, **changes})


def _complexity(shrink: int, *, sparsity: float) -> Complexity:
    costs = tuple(
        OperatorCost(index, name, output, macs, weights // shrink, activations // shrink)
        for index, (output, name, macs, weights, activations) in enumerate(_LAYERS)
    )
    weights = sum(cost.weight_bytes for cost in costs)
    moved = weights + sum(cost.activation_bytes for cost in costs)
    macs = sum(cost.macs for cost in costs)
    return Complexity(77_706, macs, moved, 196_608 // shrink, weights, sparsity, costs)


def _roofline(cost: Complexity, *, peak_gops: float) -> Roofline:
    compute, memory = 2 * cost.macs / peak_gops / 1e6, cost.bytes_moved / 12.8 / 1e6
    bound = "compute" if compute > memory else "memory"
    source = "4 cores x 1.8 GHz x 8 flop/cycle, https://www.raspberrypi.com/documentation/computers/config_txt.html"
    ridge = peak_gops / 12.8
    intensity = 2 * cost.macs / cost.bytes_moved
    return Roofline(bound, max(compute, memory), compute, memory, intensity, ridge, peak_gops, 12.8, source)


def _stages() -> tuple[StageRun, ...]:
    tensorflow = {"tensorflow": "2.21.0", "tf-keras": "2.21.0", "tensorflow-model-optimization": "0.8.1"}
    litert = {"ai-edge-litert": "2.3.0", "numpy": "2.4.1"}
    return (
        StageRun("import", "cached", "nothing it depends on changed", 7.93, tensorflow | litert),
        StageRun("train", "ran", "the option 'epochs' changed from 4 to 6", 184.2, tensorflow),
        StageRun("verify", "ran", "the artifact changed", 3.417, litert),
    )


def _errors() -> tuple[LayerError, ...]:
    rng = random.Random(5)
    errors = []
    for place, (name, operator, *_) in enumerate(_LAYERS):
        sqnr = None if operator == "RESHAPE" else 38 - 1.4 * place + rng.uniform(-7, 5)
        errors.append(LayerError(name, operator, sqnr, 0.0 if sqnr is None else 0.21 * 10 ** (-(sqnr - 20) / 20), 6.3))
    return tuple(sorted(errors, key=lambda error: math.inf if error.sqnr_db is None else error.sqnr_db))


def _histograms() -> tuple[WeightHistogram, ...]:
    kernels = [layer for layer in _LAYERS if layer[3]]
    return tuple(_histogram(place, *layer) for place, layer in enumerate(kernels))


def _histogram(place: int, name: str, operator: str, macs: int, weight_bytes: int, _: int) -> WeightHistogram:
    rng = random.Random(place)
    reach, bins, spread = 0.3 + 0.2 * place, 41, 0.16 + 0.02 * (place % 4)
    before, after = [0] * bins, [0] * bins
    for _count in range(min(weight_bytes // 4, 1200)):
        value = max(-1.0, min(0.999, rng.gauss(0, spread) * rng.choice((1, 1, 2))))
        before[int((value + 1) / 2 * bins)] += 1
        after[bins // 2 if abs(value) < 0.75 * spread else int((value + 1) / 2 * bins)] += 1
    sparsity = after[bins // 2] / sum(after)
    return WeightHistogram(f"{name}/kernel", operator, -reach, reach, tuple(before), tuple(after), sparsity, 201)


def _training() -> TrainingSummary:
    rows: list[dict[str, Any]] = []
    for technique, start, end in (("prune", 0.31, 0.74), ("qat", 0.74, 0.753)):
        for epoch in range(1, 7):
            share = 1 - math.exp(-0.7 * epoch)
            row = {"epoch": epoch, "loss": 0.9 - 0.5 * share, "held_out": start + (end - start) * share}
            rows.append({"technique": technique, **row, "may_win": epoch > 2, "seconds": 14.8})
    layers = [
        {"layer": name, "weights": size // 4, "sparsity": 0.5, "values": 187, "passes": ("prune", "qat")}
        for name, _, _, size, _ in _LAYERS
        if size
    ]
    return TrainingSummary(tuple(rows), tuple(layers), 0.00031, ())
