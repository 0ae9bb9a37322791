"""Gathers from large tables become lookups, whose tables are quantized; all other gathers stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgeship import flatbuffer
from edgeship.embedding_lookup import look_up
from edgeship.passes import quantize
from edgeship.recipe import Quantization
from tests.tiny_tflite import TinyModel

ROWS, COLUMNS = 200, 32


def gathering(kind: str = "int32", columns: int = COLUMNS, **options: Any) -> TinyModel:
    """Return a model that gathers rows from a table and multiplies them."""
    random = np.random.default_rng(0)
    model = TinyModel()
    tokens = model.input("tokens", (1, 6), kind)
    table = model.constant("table", random.standard_normal((ROWS, columns)).astype(np.float32))
    rows = model.operator("GATHER", [table, tokens], model.tensor("rows", (1, 6, columns)), **{"axis": 0, **options})
    flat = model.operator("RESHAPE", [rows], model.tensor("flat", (1, 6 * columns)), newShape=[1, 6 * columns])
    model.outputs.append(model.dense(flat, "dense", random.standard_normal((4, 6 * columns))))
    return model


def ran(path: Path, tokens: Any) -> Any:
    """Return what a file makes of some tokens."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (spec,) = interpreter.get_input_details()
    interpreter.set_tensor(spec["index"], tokens.astype(spec["dtype"]))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_a_lookup_gives_what_the_gather_gave(kind: str, tmp_path: Path) -> None:
    source, out = gathering(kind).write(tmp_path / "a.tflite"), tmp_path / "b.tflite"
    assert look_up(source, out) == 1
    kinds = [operator.name for operator in flatbuffer.read(out).main.operators]
    assert "GATHER" not in kinds
    assert kinds.count("EMBEDDING_LOOKUP") == 1
    tokens = np.array([[0, 7, 199, 7, 1, 42]])
    assert np.array_equal(ran(source, tokens), ran(out, tokens))


@pytest.mark.parametrize(
    "model", [gathering(columns=2), gathering(columns=ROWS, axis=1)], ids=["small table", "columns"]
)
def test_other_gathers_stay(model: TinyModel, tmp_path: Path) -> None:
    source, out = model.write(tmp_path / "a.tflite"), tmp_path / "b.tflite"
    assert look_up(source, out) == 0
    assert not out.exists()


@pytest.mark.parametrize("scheme", ["dynamic-int8", "int8-weights"])
def test_a_quantized_table_is_a_quarter(scheme: Any, tmp_path: Path) -> None:
    source, out = gathering().write(tmp_path / "a.tflite"), tmp_path / "b.tflite"
    quantize.quantize(lambda _progress: None, source, "a", None, Quantization(scheme=scheme), out)
    assert out.stat().st_size < 0.5 * source.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tflite", "b.tflite"]
    tokens = np.array([[0, 7, 199, 7, 1, 42]])
    expected, got = ran(source, tokens), ran(out, tokens)
    assert np.abs(expected - got).max() < 0.03 * np.ptp(expected)
