"""Per-layer error: every operation's output in the candidate against the same operation's in the reference."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import child, flatbuffer, interpret
from edgeship.artifact import LayerError
from edgeship.flatbuffer import Graph, Operator, Tensor
from edgeship.progress import OnProgress, Progress, silent
from edgeship.quantized import CONVERSIONS

EXAMPLES = 16
_FLOATS = ("float32", "float16")


@dataclass(frozen=True)
class Pair:
    """The same value in two files: indices of the tensors, and the name shown."""

    name: str
    operator: str
    reference: int
    candidate: int


def measure(
    reference: Path, candidate: Path, feed: Path, *, log: Path, on_progress: OnProgress = silent
) -> tuple[LayerError, ...]:
    """Return the error of each operation's output over a few examples, worst first. Runs both files in a child process."""
    pairs = matched(flatbuffer.read(reference), flatbuffer.read(candidate))
    if not pairs:
        return ()
    work = partial(_measure, reference=reference, candidate=candidate, feed=feed, pairs=pairs)
    return child.run(work, log=log, on_progress=on_progress, memory_gib=interpret.MEMORY_GIB)


def matched(reference: Graph, candidate: Graph) -> list[Pair]:
    """Pair the operations of two graphs: by the name of what they compute, else by kind and shape in order."""
    ours, theirs = _computing(reference), _computing(candidate)
    by_name = {tensor.name: tensor for _, tensor in theirs}
    pairs = [
        Pair(tensor.name, operator.name, tensor.index, by_name[tensor.name].index)
        for operator, tensor in ours
        if tensor.name in by_name and by_name[tensor.name].shape == tensor.shape
    ]
    if 2 * len(pairs) >= len(ours):
        return pairs
    keys = [[(operator.name, tensor.shape) for operator, tensor in side] for side in (ours, theirs)]
    blocks = difflib.SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_matching_blocks()
    return [
        Pair(
            ours[block.a + step][1].name,
            ours[block.a + step][0].name,
            ours[block.a + step][1].index,
            theirs[block.b + step][1].index,
        )
        for block in blocks
        for step in range(block.size)
    ]


def _computing(graph: Graph) -> list[tuple[Operator, Tensor]]:
    """Return the operations that compute real values, each with its first output."""
    found = []
    for operator in graph.main.operators:
        if operator.name in CONVERSIONS or not operator.outputs:
            continue
        tensor = graph.main.tensors[operator.outputs[0]]
        if tensor.dtype in _FLOATS or tensor.quantization is not None:
            found.append((operator, tensor))
    return found


def _measure(
    on_progress: OnProgress, reference: Path, candidate: Path, feed: Path, pairs: list[Pair]
) -> tuple[LayerError, ...]:
    runners = [interpret.Runner(path, kernels="without-delegates", keep_all=True) for path in (reference, candidate)]
    inputs = {name: array[:EXAMPLES] for name, array in interpret.load_feed(feed).items()}
    count = len(next(iter(inputs.values())))
    sums = [_Sums() for _ in pairs]
    step = runners[0].batch
    for start in range(0, count, step):
        for runner in runners:
            runner.run({name: array[start : start + step] for name, array in inputs.items()})
        for pair, total in zip(pairs, sums, strict=True):
            total.add(runners[0].tensor(pair.reference), runners[1].tensor(pair.candidate))
        on_progress(Progress("compare layers", min(start + step, count), count))
    return tuple(worst_first(total.error_for(pair) for pair, total in zip(pairs, sums, strict=True)))


def worst_first(errors: Iterable[LayerError]) -> list[LayerError]:
    """Sort by SQNR, the lowest first, exact ones last."""
    return sorted(errors, key=lambda error: math.inf if error.sqnr_db is None else error.sqnr_db)


class _Sums:
    """Running sums of one operation's signal and error over the examples.

    Values that are infinite or no number on either side are left out: the log of a mask's zero is minus infinity.
    """

    def __init__(self) -> None:
        self.signal = self.error = self.largest = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, ours: NDArray[Any], theirs: NDArray[Any]) -> None:
        finite = np.isfinite(ours) & np.isfinite(theirs)
        ours = ours[finite].astype(np.float64)
        difference = ours - theirs[finite]
        self.signal += float(np.square(ours).sum())
        self.error += float(np.square(difference).sum())
        self.largest = max(self.largest, float(np.abs(difference).max(initial=0)))
        self.low, self.high = (
            min(self.low, float(ours.min(initial=math.inf))),
            max(self.high, float(ours.max(initial=-math.inf))),
        )

    def error_db(self) -> float | None:
        return 10 * math.log10(self.signal / self.error) if self.signal and self.error else None

    def error_for(self, pair: Pair) -> LayerError:
        spread = self.high - self.low
        return LayerError(
            pair.name, pair.operator, self.error_db(), self.largest, spread if math.isfinite(spread) else 0.0
        )
