"""Where to cut a graph into segments: every contiguous split of the file's own order is weighed, and the best one taken.

A tensor that is computed in one segment and read in a later one travels through the host, whatever lies between: that
is how the vendor's pipeline runner (libcoral, coral/pipeline) passes skip connections on. What is computed from
constants alone travels nowhere: every segment that needs it computes it again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeship import complexity
from edgeship.errors import NothingToDo
from edgeship.flatbuffer import Graph, Operator, Tensor
from edgeship.segment_schedule import Chip

SLACK = 0.05  # of a segment's time: the estimate is no better than that, and an even load is the safer bet


@dataclass(frozen=True)
class Segment:
    """One piece: its operations (indices in the file's order), and the tensors that enter and leave it.

    `latency_ms` is an estimate; `streamed_bytes` are weights beyond the memory of one chip.
    """

    operators: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    weight_bytes: int
    streamed_bytes: int
    macs: int
    crossing_bytes: int
    latency_ms: float


def cut(graph: Graph, count: int, chip: Chip, *, name: str) -> tuple[Segment, ...]:
    """Return the best split into `count` segments: fewest streamed bytes, then the fastest slowest segment, and among
    those within what the estimate can tell apart, the most even.

    Raises:
        NothingToDo: the graph has fewer places to cut; the text starts with `name`.
    """
    line = _Line(graph)
    places = line.places()
    if count > len(places) - 1:
        most = len(places) - 1
        raise NothingToDo(
            f"{name}: cannot be cut into {count} segments: it has {len(line.order)} operations in {most} pieces that "
            "can stand alone",
            hint=f"--segments {most} is the most" if most > 1 else "a model of one operation has no pipeline",
        )
    costs = _Costs(line, places, chip)
    bounds = _best(costs, count)
    return tuple(costs.segment(start, stop) for start, stop in itertools.pairwise(bounds))


def whole(graph: Graph, chip: Chip) -> Segment:
    """Return the uncut graph as one segment."""
    line = _Line(graph)
    return _Costs(line, [0, len(line.order)], chip).segment(0, 1)


class _Line:
    """The operations in the order in which they run, without those that only unpack constants."""

    def __init__(self, graph: Graph) -> None:
        main = graph.main
        self.main = main
        self.macs = [cost.macs for cost in complexity.complexity(graph).operators]
        fixed = {tensor.index for tensor in main.tensors if tensor.constant}
        self.folded: dict[int, Operator] = {}
        self.order: list[Operator] = []
        for operator in main.operators:
            if operator.inputs and all(index < 0 or index in fixed for index in operator.inputs):
                fixed |= set(operator.outputs)
                self.folded |= dict.fromkeys(operator.outputs, operator)
            else:
                self.order.append(operator)
        self.fixed = fixed
        self.last_read: dict[int, int] = {}
        for step, operator in enumerate(self.order):
            for index in self.moving(operator.inputs):
                self.last_read[index] = step
        self.final = {index for index in main.outputs if index not in fixed}

    def moving(self, indices: Iterable[int]) -> list[int]:
        """Return the tensors among some that are not known before the model runs, each once."""
        return [index for index in dict.fromkeys(indices) if index >= 0 and index not in self.fixed]

    def places(self) -> list[int]:
        """Return where a segment may begin or end: not between two operations that share a state."""
        span: dict[int, tuple[int, int]] = {}
        for step, operator in enumerate(self.order):
            for index in (*operator.inputs, *operator.outputs):
                if index >= 0 and self.main.tensors[index].variable:
                    span[index] = (span.get(index, (step, step))[0], step)
        closed = {place for first, last in span.values() for place in range(first + 1, last + 1)}
        return [place for place in range(len(self.order) + 1) if place not in closed]

    def constants(self, operator: Operator) -> dict[int, Tensor]:
        """Return the constants that an operation needs, through what unpacks them, by the identity of their content."""
        found: dict[int, Tensor] = {}
        for index in operator.inputs:
            if index in self.folded:
                found |= self.constants(self.folded[index])
            elif index >= 0 and self.main.tensors[index].constant:
                found[id(self.main.tensors[index].content)] = self.main.tensors[index]
        return found

    def unpacking(self, tensors: Iterable[int]) -> set[int]:
        """Return the operations that compute some tensors from constants alone, and what those read."""
        found: set[int] = set()
        queue = list(tensors)
        while queue:
            operator = self.folded.get(queue.pop())
            if operator is not None and operator.index not in found:
                found.add(operator.index)
                queue += operator.inputs
        return found


class _Costs:
    """What every segment between two places would cost, as matrices [start, stop] over the places."""

    def __init__(self, line: _Line, places: list[int], chip: Chip) -> None:
        self.line, self.places, self.chip = line, places, chip
        self.constants = [line.constants(operator) for operator in line.order]
        grid = np.ix_(places, places)
        weights = self._weights().sums()[grid]
        crossing = self._crossing().sums()[grid]
        macs = np.concatenate([[0], np.cumsum([line.macs[operator.index] for operator in line.order])])[places]
        backwards = np.tril(np.ones(weights.shape, dtype=bool))
        self.crossing = crossing
        self.streamed = np.where(backwards, np.inf, chip.streamed_bytes(weights))
        self.work = chip.work_ms(macs[None, :] - macs[:, None], weights)
        self.latency = np.where(backwards, np.inf, chip.fixed_ms + self.work + chip.travel_ms(crossing))

    def _weights(self) -> _Rectangles:
        """Count each constant once in every segment that holds one of its readers."""
        readers: dict[int, list[int]] = {}
        sizes: dict[int, int] = {}
        for step, constants in enumerate(self.constants):
            for identity, tensor in constants.items():
                readers.setdefault(identity, []).append(step)
                sizes[identity] = tensor.size_bytes
        found = _Rectangles(len(self.line.order))
        for identity, steps in readers.items():
            found.add_first_readers(-1, steps, sizes[identity])
        return found

    def _crossing(self) -> _Rectangles:
        """Count each tensor where it enters a segment that reads it and where it leaves the one that makes it.

        The last segment gives all outputs of the model: one that it did not make enters it and leaves it.
        """
        line, end = self.line, len(self.line.order)
        made = {index: step for step, operator in enumerate(line.order) for index in line.moving(operator.outputs)}
        readers: dict[int, list[int]] = {}
        for step, operator in enumerate(line.order):
            for index in line.moving(operator.inputs):
                readers.setdefault(index, []).append(step)
        found = _Rectangles(end)
        for index in sorted({*made, *readers, *line.final}):
            tensor = line.main.tensors[index]
            if tensor.variable:
                continue
            born, steps, size = made.get(index, -1), readers.get(index, []), tensor.size_bytes
            found.add_first_readers(born, steps, size)
            last = max(steps, default=-1)
            if born >= 0:
                found.add((0, born), (born + 1, end if index in line.final else last), size)
            if index in line.final:
                found.add((born + 1, end), (end, end), size)
                found.add((max(born, last) + 1, end), (end, end), size)
        return found

    def segment(self, start: int, stop: int) -> Segment:
        """Return the segment between two places."""
        line, main = self.line, self.line.main
        steps = range(self.places[start], self.places[stop])
        inside = [line.order[step] for step in steps]
        made = line.moving(index for operator in inside for index in operator.outputs)
        read = line.moving(index for operator in inside for index in operator.inputs)
        entering = [index for index in read if index not in made and not main.tensors[index].variable]
        leaving = [index for index in made if line.last_read.get(index, -1) >= self.places[stop] or index in line.final]
        needed = [index for operator in inside for index in operator.inputs]
        if start == 0:  # the first one takes all that the user gives: the vendor's runner hands it on from there
            entering = list(dict.fromkeys((*main.inputs, *entering)))
        if stop == len(self.places) - 1:
            needed += main.outputs
            leaving = list(main.outputs)
            entering += [index for index in dict.fromkeys(main.outputs) if index in line.final - {*made, *entering}]
        constants = {identity: tensor for step in steps for identity, tensor in self.constants[step].items()}
        return Segment(
            operators=tuple(sorted({operator.index for operator in inside} | line.unpacking(needed))),
            inputs=tuple(entering),
            outputs=tuple(leaving),
            weight_bytes=sum(tensor.size_bytes for tensor in constants.values()),
            streamed_bytes=int(self.streamed[start, stop]),
            macs=sum(line.macs[operator.index] for operator in inside),
            crossing_bytes=int(self.crossing[start, stop]),
            latency_ms=float(self.latency[start, stop]),
        )


class _Rectangles:
    """Sums over rectangles of (start, stop), by the corners: each is added in four places and spread out once."""

    def __init__(self, steps: int) -> None:
        self.corners: NDArray[np.int64] = np.zeros((steps + 2, steps + 2), dtype=np.int64)

    def add(self, starts: tuple[int, int], stops: tuple[int, int], value: int) -> None:
        """Add a value for every start and stop in two ranges, both ends included."""
        (top, bottom), (left, right) = starts, stops
        if top > bottom or left > right:
            return
        self.corners[top, left] += value
        self.corners[top, right + 1] -= value
        self.corners[bottom + 1, left] -= value
        self.corners[bottom + 1, right + 1] += value

    def add_first_readers(self, born: int, steps: list[int], value: int) -> None:
        """Add a value, once, for every segment behind `born` that holds one of some steps."""
        end = len(self.corners) - 2
        before = born
        for step in steps:
            self.add((before + 1, step), (step + 1, end), value)
            before = max(before, step)

    def sums(self) -> NDArray[np.int64]:
        """Return the sum for each start and stop."""
        summed: NDArray[np.int64] = self.corners.cumsum(0).cumsum(1)[:-1, :-1]
        return summed


def _best(costs: _Costs, count: int) -> list[int]:
    """Return the places of the best split, by dynamic programming over (segments so far, place).

    Two rounds: the first finds the fewest streamed bytes and, among those, the fastest slowest segment; the second, among
    the splits that are as good within `SLACK`, the least sum of squares of what the chips do, which is what even loads
    have. One round over all three would not be exact: a smaller sum behind a slower segment may still be the best.
    """
    streamed, slowest = _round(costs, count, costs.latency, maximum=True)[0]
    allowed = np.where(costs.latency <= slowest * (1 + SLACK), np.square(costs.work), np.inf)
    (least, _), places = _round(costs, count, allowed, maximum=False)
    assert least == streamed, (least, streamed)
    return places


def _round(
    costs: _Costs, count: int, second: NDArray[np.float64], *, maximum: bool
) -> tuple[tuple[float, float], list[int]]:
    """Return the least (sum of streamed bytes, maximum or sum of `second`) over all splits, and its places."""
    size = len(costs.places)
    first: NDArray[np.float64] = np.where(np.isfinite(second), costs.streamed, np.inf)
    totals = np.full((count + 1, size), np.inf)
    others = np.full((count + 1, size), np.inf)
    origin = np.zeros((count + 1, size), dtype=int)
    totals[0, 0] = others[0, 0] = 0.0
    for segments in range(1, count + 1):
        for stop in range(1, size):
            total = totals[segments - 1] + first[:, stop]
            before = others[segments - 1]
            other = np.maximum(before, second[:, stop]) if maximum else before + second[:, stop]
            tied = np.flatnonzero(total == total.min())
            best = int(tied[np.argmin(other[tied])])
            totals[segments, stop], others[segments, stop], origin[segments, stop] = total[best], other[best], best
    places = [size - 1]
    for segments in range(count, 0, -1):
        places.append(int(origin[segments, places[-1]]))
    return (float(totals[count, -1]), float(others[count, -1])), places[::-1]
