"""Do the segments, run one after the other, give what the whole model gives? Bit for bit, with both sets of kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import interpret
from edgeship.errors import StageFailed
from edgeship.interpret import Kernels
from edgeship.progress import OnProgress, Progress

KERNELS: Mapping[Kernels, str] = {"default": "XNNPACK", "without-delegates": "plain"}
SEEDED_EXAMPLES = 8
Array = NDArray[Any]


@dataclass(frozen=True)
class Chained:
    """How many examples were compared, all of them identical in every bit, and with which kernels of which runtime."""

    examples: int
    synthetic: bool
    kernels: tuple[str, ...]
    runtime: str


def check(on_progress: OnProgress, name: str, model: Path, parts: list[Path], feed: Path | None, seed: int) -> Chained:
    """Run the whole model and the chain on the same inputs and compare. Runs in a child process.

    Args:
        name: what the user knows the model by, for messages.
        model: the whole.
        parts: the segments' files, in order.
        feed: npz of real inputs (`input:<name>`), or None: seeded ones.
        seed: of the seeded inputs.

    Raises:
        StageFailed: a file does not run, or an output differs in one bit.
    """
    count = 0
    for done, (kernels, called) in enumerate(KERNELS.items()):
        on_progress(Progress("check the chain", done, len(KERNELS), f"{called} kernels"))
        single = _Stage(model, kernels, name)
        chain = [_Stage(path, kernels, path.name) for path in parts]
        count = 0
        for inputs in _inputs(single, feed, seed):
            expected = single.run(inputs)
            flow = dict(zip((entry["name"] for entry in chain[0].entries), inputs, strict=True))
            for stage in chain:
                flow |= zip(stage.outputs, stage.run([flow[entry["name"]] for entry in stage.entries]), strict=True)
            _compare(name, called, single.outputs, expected, [flow[tensor] for tensor in chain[-1].outputs])
            count += 1
    return Chained(count, feed is None, tuple(KERNELS.values()), interpret.runtime_version())


class _Stage:
    """One file's interpreter; takes and gives tensors in the file's order, as they are stored."""

    def __init__(self, path: Path, kernels: Kernels, name: str) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = OpResolverType.AUTO if kernels == "default" else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.name = name
        try:
            self.interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=resolver)
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise StageFailed(f"{name}: the runtime cannot load it: {_first_line(error)}") from None
        self.entries = self.interpreter.get_input_details()
        self.results = self.interpreter.get_output_details()
        self.outputs = [str(entry["name"]) for entry in self.results]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs for one set of inputs."""
        for entry, array in zip(self.entries, inputs, strict=True):
            self.interpreter.set_tensor(entry["index"], array)
        try:
            self.interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise StageFailed(f"{self.name}: the runtime cannot run it: {_first_line(error)}") from None
        return [self.interpreter.get_tensor(entry["index"]) for entry in self.results]


def _inputs(single: _Stage, feed: Path | None, seed: int) -> Iterator[list[Array]]:
    """Give set after set of inputs as they are stored: the user's, else seeded ones over all that a type holds."""
    if feed is None:
        random = np.random.default_rng(seed)
        for _ in range(SEEDED_EXAMPLES):
            yield [_seeded(entry, random) for entry in single.entries]
        return
    arrays = list(interpret.load_feed(feed).values())  # in the order of the model's inputs
    shapes = [tuple(int(size) for size in entry["shape"]) for entry in single.entries]
    batch = max(1, shapes[0][0]) if shapes and shapes[0] else 1
    for start in range(0, len(arrays[0]) - batch + 1, batch):
        taken = [array[start : start + batch] for array in arrays]
        yield [interpret.stored(array, entry) for array, entry in zip(taken, single.entries, strict=True)]


def _seeded(entry: Any, random: np.random.Generator) -> Array:
    """Return one input; whole numbers without a scale are indices more often than not and stay small."""
    shape, dtype = tuple(int(size) for size in entry["shape"]), np.dtype(entry["dtype"])
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if dtype.kind in "iu" and entry["quantization"][0]:
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return random.integers(0, 2, shape).astype(dtype)


def _compare(model: str, kernels: str, names: Sequence[str], expected: Sequence[Array], got: Sequence[Array]) -> None:
    for name, ours, theirs in zip(names, expected, got, strict=True):
        if ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes():
            continue
        where = f"with the {kernels} kernels the segments do not give the whole model's output '{name}'"
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise StageFailed(
                f"{model}: {where}: {theirs.dtype} of {theirs.shape} in place of {ours.dtype} of {ours.shape}"
            )
        differ = int(np.count_nonzero(ours != theirs))
        raise StageFailed(f"{model}: {where}: {differ} of {ours.size} values differ; nothing was written")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
