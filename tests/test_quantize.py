"""What the quantizing pass leaves as it is, and that the runtime runs the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeship import check_inputs, flatbuffer, interpret
from edgeship.passes import quantize
from edgeship.recipe import Quantization
from tests.tiny_tflite import TinyModel


def normalized(*, constant: bool) -> TinyModel:
    """Return dense, then a division of it by a constant or by what the other input holds."""
    model = TinyModel()
    source, other = model.input("in", (1, 4)), model.input("other", (1, 4))
    dense = model.dense(source, "dense", np.eye(4, dtype=np.float32))
    divisor = model.constant("six", np.full((1, 4), 6, np.float32)) if constant else model.operator(
        "ABS", [other], model.tensor("length", (1, 4))
    )  # fmt: skip
    model.outputs.append(model.operator("DIV", [dense, divisor], model.tensor("ratio", (1, 4))))
    return model


def quantized(folder: Path, *, constant: bool) -> tuple[Path, Path]:
    """Return the file in int8, and what it was calibrated with: divisors of 0.001 among those of 1."""
    feed, out = folder / "feed.npz", folder / "int8.tflite"
    generator = np.random.default_rng(0)
    given = {name: generator.uniform(-1, 1, (8, 4)).astype(np.float32) for name in ("in", "other")}
    given["other"][0] = 0.001
    check_inputs.write(feed, given, {})
    source = normalized(constant=constant).write(folder / "float.tflite")
    quantize.quantize(lambda _step: None, source, "a", feed, Quantization(scheme="int8"), out)
    return out, feed


def test_what_rounds_to_zero_is_not_divided_by(tmp_path: Path) -> None:
    """A divisor that is computed may be quantized to its zero point, and the runtime refuses to divide by that."""
    out, feed = quantized(tmp_path, constant=False)
    main = flatbuffer.read(out).main
    division = next(operator for operator in main.operators if operator.name == "DIV")
    assert {main.tensors[index].dtype for index in division.inputs} == {"float32"}
    first = {name: array[:1] for name, array in interpret.load_feed(feed).items()}
    assert np.isfinite(next(iter(interpret.Runner(out).run(first).values()))).all()


def test_a_division_by_a_constant_is_quantized(tmp_path: Path) -> None:
    """It cannot become zero."""
    out, _ = quantized(tmp_path, constant=True)
    main = flatbuffer.read(out).main
    division = next(operator for operator in main.operators if operator.name == "DIV")
    assert {main.tensors[index].dtype for index in division.inputs} == {"int8"}
