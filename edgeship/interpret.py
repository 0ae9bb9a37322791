"""Running TFLite on the host, in a child process, since the runtime ends its process on some files.

Both sides of a comparison go through here and are fed the same way: an integer input gets the real value
quantized by its own scale, an integer output is turned back into real values.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeship import child
from edgeship.artifact import TensorSpec
from edgeship.errors import BadInput, StageFailed
from edgeship.flatbuffer import Quantization, dequantized
from edgeship.progress import OnProgress, Progress, silent

Kernels = Literal["default", "without-delegates"]
MEMORY_GIB = 16.0
_TELL_EVERY_S = 0.2


@dataclass(frozen=True)
class Job:
    """One file to run, and the npz with what it is fed (`input:<name>`, the first axis counting the examples).

    `name` is what the user knows the file by, for messages.
    """

    model: Path
    feed: Path
    name: str = ""
    kernels: Kernels = "default"


@dataclass(frozen=True, eq=False)
class Ran:
    """Real-valued outputs by name, the first axis counting the examples, and the seconds that running took."""

    outputs: Mapping[str, NDArray[Any]]
    seconds: float
    runtime: str


def outputs(
    jobs: list[Job], *, log: Path, on_progress: OnProgress = silent, timeout_s: float | None = None
) -> list[Ran]:
    """Return each job's outputs, all run in one child process over all cores.

    Raises:
        StageFailed: the runtime refused or aborted on a file; the text names it and ends with the log's path.
    """
    return child.run(
        partial(_run, jobs=jobs), log=log, on_progress=on_progress, timeout_s=timeout_s, memory_gib=MEMORY_GIB
    )


def _run(on_progress: OnProgress, jobs: list[Job]) -> list[Ran]:
    return [_run_one(on_progress, job) for job in jobs]


def _run_one(on_progress: OnProgress, job: Job) -> Ran:
    feed = load_feed(job.feed)
    count = len(next(iter(feed.values())))
    workers = min(cores(), count)
    began = time.perf_counter()
    tally = _Tally(on_progress, job.name or job.model.name, count)
    shares = [slice(start, stop) for start, stop in _cuts(count, workers)]
    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(lambda share: _share(job, {n: a[share] for n, a in feed.items()}, tally), shares))
    joined = {name: np.concatenate([part[name] for part in done]) for name in done[0]}
    return Ran(joined, time.perf_counter() - began, runtime_version())


def _cuts(count: int, parts: int) -> list[tuple[int, int]]:
    edges = np.linspace(0, count, parts + 1).round().astype(int)
    return [(int(start), int(stop)) for start, stop in itertools.pairwise(edges) if stop > start]


def load_feed(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays `input:<name>` of an npz that edgeship wrote, by name."""
    with np.load(path, allow_pickle=False) as content:
        return {name.removeprefix("input:"): content[name] for name in content.files if name.startswith("input:")}


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def runtime_version() -> str:
    """Return the runtime's name and version."""
    from importlib.metadata import version

    return f"ai-edge-litert {version('ai-edge-litert')}"


def _share(job: Job, feed: dict[str, NDArray[Any]], tally: _Tally) -> dict[str, NDArray[Any]]:
    runner = Runner(job.model, name=job.name, kernels=job.kernels)
    count = len(next(iter(feed.values())))
    kept: dict[str, list[NDArray[Any]]] = {spec.name: [] for spec in runner.outputs}
    for start in range(0, count, runner.batch):
        batch = {name: array[start : start + runner.batch] for name, array in feed.items()}
        for name, array in runner.run(batch).items():
            kept[name].append(array)
        tally.add(runner.batch)
    return {name: np.concatenate(arrays) for name, arrays in kept.items()}


class _Tally:
    """Counts examples over all threads and tells of them a few times a second."""

    def __init__(self, on_progress: OnProgress, name: str, total: int) -> None:
        self.on_progress, self.name, self.total = on_progress, name, total
        self.done = 0
        self.told = 0.0
        self.lock = threading.Lock()

    def add(self, count: int) -> None:
        with self.lock:
            self.done = min(self.done + count, self.total)
            now = time.monotonic()
            if now - self.told > _TELL_EVERY_S or self.done == self.total:
                self.told = now
                self.on_progress(Progress(f"run {self.name}", self.done, self.total))


class Runner:
    """One interpreter with real values in and out. Only for use inside a child process."""

    def __init__(self, model: Path, *, name: str = "", kernels: Kernels = "default", keep_all: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = OpResolverType.AUTO if kernels == "default" else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            self.interpreter = Interpreter(
                model_path=str(model),
                num_threads=1,
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=keep_all,
            )
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise StageFailed(f"{name or model.name}: the runtime cannot load it: {_first_line(error)}") from None
        self.name = name or model.name
        self.details: dict[int, Any] | None = None
        self.input_details, self.output_details = self._ordered_details()
        self.inputs = tuple(_spec(name, entry) for name, entry in self.input_details)
        self.outputs = tuple(_spec(name, entry) for name, entry in self.output_details)
        self.batch = max(1, self.inputs[0].shape[0]) if self.inputs and self.inputs[0].shape else 1

    def _ordered_details(self) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
        """Return (name, details) of inputs and outputs, named by the signature where the file has one."""
        inputs, outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        names: dict[tuple[str, str], str] = {}
        keys = self.interpreter.get_signature_list()
        if keys:
            runner = self.interpreter.get_signature_runner(next(iter(keys)))
            names |= {("in", entry["name"]): name for name, entry in runner.get_input_details().items()}
            names |= {("out", entry["name"]): name for name, entry in runner.get_output_details().items()}
        named_in = [(names.get(("in", entry["name"]), entry["name"]), entry) for entry in inputs]
        named_out = [(names.get(("out", entry["name"]), entry["name"]), entry) for entry in outputs]
        return named_in, named_out

    def run(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return real-valued outputs for one batch of real-valued inputs; a short batch is padded and cut back."""
        count = len(next(iter(feed.values())))
        for (name, entry), array in zip(self.input_details, self._in_order(feed), strict=True):
            shape = tuple(int(size) for size in entry["shape"])
            padded = (
                np.concatenate([array, np.repeat(array[-1:], self.batch - count, axis=0)])
                if count < self.batch
                else array
            )
            if padded.shape != shape:
                raise BadInput(f"{self.name}: input '{name}' is {shape}; got examples of {padded.shape}")
            self.interpreter.set_tensor(entry["index"], stored(padded, entry))
        try:
            self.interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise StageFailed(f"{self.name}: the runtime cannot run it: {_first_line(error)}") from None
        return {name: self._output(entry, count) for name, entry in self.output_details}

    def tensor(self, index: int) -> NDArray[Any]:
        """Return any tensor's real values after a run; the runner must have been made with `keep_all`."""
        if self.details is None:
            self.details = {entry["index"]: entry for entry in self.interpreter.get_tensor_details()}
        entry = self.details[index]
        parameters = entry["quantization_parameters"]
        array = self.interpreter.get_tensor(index)
        if not len(parameters["scales"]):
            return np.array(array)
        found = Quantization(
            parameters["scales"].astype(np.float64), parameters["zero_points"], parameters["quantized_dimension"]
        )
        return dequantized(array, found)

    def _in_order(self, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the arrays in the file's order: by name, else as they come where a converter renamed the inputs."""
        names = [name for name, _ in self.input_details]
        if set(names) == set(feed):
            return [feed[name] for name in names]
        if len(names) == len(feed):
            return list(feed.values())
        raise BadInput(f"{self.name}: wants the inputs {', '.join(names)}; got {', '.join(feed)}")

    def _output(self, entry: Any, count: int) -> NDArray[Any]:
        array = real(self.interpreter.get_tensor(entry["index"]), entry)
        if array.ndim and len(array) == self.batch:
            return array[:count]
        return np.repeat(array[None], count, axis=0)  # an output without a batch axis belongs to the whole batch


def _spec(name: str, entry: Any) -> TensorSpec:
    scale, zero_point = entry["quantization"]
    quantized = bool(scale)
    return TensorSpec(
        name,
        tuple(int(size) for size in entry["shape"]),
        np.dtype(entry["dtype"]).name,
        float(scale) if quantized else None,
        int(zero_point) if quantized else None,
    )


def stored(array: NDArray[Any], entry: Any) -> NDArray[Any]:
    """Return real values as an input tensor stores them: quantized by its scale, rounded half to even, clipped."""
    scale, zero_point = entry["quantization"]
    dtype = np.dtype(entry["dtype"])
    if not scale:
        return array.astype(dtype)
    limits = np.iinfo(dtype)
    whole: NDArray[Any] = np.clip(np.rint(array / np.float32(scale)) + zero_point, limits.min, limits.max).astype(dtype)
    return whole


def real(array: NDArray[Any], entry: Any) -> NDArray[Any]:
    """Return an output tensor's real values: `scale * (q - zero_point)` where it is quantized."""
    scale, zero_point = entry["quantization"]
    if not scale:
        return np.array(array)
    value: NDArray[Any] = ((array.astype(np.float32) - zero_point) * np.float32(scale)).astype(np.float32)
    return value


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
