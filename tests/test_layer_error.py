"""Error by layer: which operations are compared, and sums that no infinity can spoil."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from edgeship.flatbuffer import Graph
from edgeship.layer_error import Pair, _Sums, matched
from tests.tiny_tflite import TinyModel

PAIR = Pair("log", "LOG", 0, 0)
LOWEST, NONE = -math.inf, math.nan


def summed(ours: list[float], theirs: list[float]) -> _Sums:
    sums = _Sums()
    with np.errstate(all="raise"):
        sums.add(np.array(ours, np.float32), np.array(theirs, np.float32))
    return sums


def test_values_that_are_not_finite_are_left_out() -> None:
    plain = summed([3.0, 4.0], [3.0, 4.5]).error_for(PAIR)
    masked = summed([3.0, LOWEST, 7.0, NONE, 4.0], [3.0, LOWEST, NONE, 1.0, 4.5]).error_for(PAIR)
    assert masked == plain
    assert plain.sqnr_db == pytest.approx(20.0)
    assert (plain.max_abs_error, plain.range) == (0.5, 1.0)


@pytest.mark.parametrize("theirs", [[LOWEST, NONE], [1.0, 2.0]])
def test_a_layer_with_nothing_finite_can_still_be_written_down(theirs: list[float]) -> None:
    found = summed([LOWEST, math.inf], theirs).error_for(PAIR)
    assert (found.sqnr_db, found.max_abs_error, found.range) == (None, 0.0, 0.0)
    json.dumps(asdict(found), allow_nan=False)


def chain(folder: Path, *names: str, units: int = 3) -> Graph:
    model = TinyModel()
    last = model.input("in", (1, units))
    for name in names:
        last = model.dense(last, name, np.eye(units))
    model.outputs.append(last)
    return model.graph(folder)


def test_operations_are_matched_by_name_else_by_kind_and_shape_in_order(tmp_path: Path) -> None:
    reference = chain(tmp_path, "a", "b", "c")
    swapped = chain(tmp_path, "b", "x", "c")
    renamed = chain(tmp_path, "x", "y", "z")
    wider = chain(tmp_path, "a", "b", "c", units=4)

    def named(graph: Graph, pairs: list[Pair]) -> list[tuple[str, str]]:
        return [(pair.name, graph.main.tensors[pair.candidate].name) for pair in pairs]

    assert named(swapped, matched(reference, swapped)) == [("b", "b"), ("c", "c")]
    assert named(renamed, matched(reference, renamed)) == [("a", "x"), ("b", "y"), ("c", "z")]
    assert matched(reference, wider) == []
