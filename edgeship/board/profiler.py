"""Tells how long each operation of a TFLite model takes on a Linux board. One file, pushed as it is; Python 3.8 syntax.

LiteRT's Python interpreter shows no profile, but the C library in the same wheel does: `libLiteRt.so`, whose functions
are described in the headers under litert/c of https://github.com/google-ai-edge/LiteRT. Only opaque handles and the
text of its summary are used, no structure's layout. All of it happens in a child process, for a wrong call could
end it. Requests and answers are those of runner.py: one JSON object in, JSON lines out.
"""
# pathlib would be one more import to wait for on a slow board.
# ruff: noqa: PTH118, PTH120

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import re
import sys
import time
import zipfile
from typing import Any

OLDEST = (2, 3)  # before, the same functions took other arguments
CPU, WRITE = 1, 1  # kLiteRtHwAcceleratorCpu, kLiteRtTensorBufferLockModeWrite
TYPE_BYTES = 256  # more than a LiteRtRankedTensorType, which nobody looks into
WARMUP, RUNS, FEWEST, SECONDS, HELD_UP = 5, 30, 3, 3.0, 1.2
# node type, start, first, average ms, two percentages, memory, times called, name
ROW = re.compile(r"\s*(\S.*?)\s+[\d.]+\s+[\d.]+\s+([\d.]+)\s+[\d.]+%\s+[\d.]+%\s+\S+\s+(\d+)\s+\S")


class NoProfile(Exception):
    """Why there are no operator times."""


class Library:
    """LiteRT's C functions: `library.LiteRtSomething(…)` raises NoProfile unless it returns 0."""

    def __init__(self, path: str) -> None:
        self.functions = ctypes.CDLL(path)

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.functions, name)

        def call(*arguments: Any) -> None:
            status = function(*arguments)
            if status:
                raise NoProfile(f"{name} returned {status}")

        return call

    def made(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Return the handle that a function hands out through its last argument."""
        handle = ctypes.c_void_p()
        getattr(self, name)(*arguments, ctypes.byref(handle))
        return handle

    def number(self, name: str, handle: ctypes.c_void_p) -> int:
        """Return the number that a function hands out through its last argument."""
        number = ctypes.c_size_t()
        getattr(self, name)(handle, ctypes.byref(number))
        return number.value


class Profiled:
    """A compiled model with its profiler and buffers. It is never taken down: the process ends instead."""

    def __init__(self, library: Library, path: str, threads: int) -> None:
        self.library = library
        self.environment = library.made("LiteRtCreateEnvironment", 0, None)
        model = library.made("LiteRtCreateModelFromFile", self.environment, path.encode())
        options = library.made("LiteRtCreateOptions")
        library.LiteRtSetOptionsHardwareAccelerators(options, CPU)
        self.kept: list[Any] = []
        for name, text in (
            ("runtime_options_string", "enable_profiling = true"),
            ("xnnpack", f"num_threads = {threads}"),
        ):
            payload, free = ctypes.create_string_buffer(text.encode()), ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_leave)
            self.kept += [payload, free]
            given = library.made("LiteRtCreateOpaqueOptions", name.encode(), payload, free)
            library.LiteRtAddOpaqueOptions(options, given)
        self.compiled = library.made("LiteRtCreateCompiledModel", self.environment, model, options)
        self.profiler = library.made("LiteRtCompiledModelGetProfiler", self.compiled)
        if not self.profiler:
            raise NoProfile("the runtime made no profiler")
        signature = library.made("LiteRtGetModelSignature", model, ctypes.c_size_t(0))
        self.inputs = self._buffers(signature, "Input")
        self.outputs = self._buffers(signature, "Output")
        self.order = self._input_order(signature)

    def _buffers(self, signature: ctypes.c_void_p, kind: str) -> Any:
        library, found = self.library, []
        for index in map(ctypes.c_size_t, range(library.number(f"LiteRtGetNumSignature{kind}s", signature))):
            wants = f"LiteRtGetCompiledModel{kind}BufferRequirements"
            requirements = library.made(wants, self.compiled, ctypes.c_size_t(0), index)
            tensor = library.made(f"LiteRtGetSignature{kind}TensorByIndex", signature, index)
            shape = ctypes.create_string_buffer(TYPE_BYTES)
            library.LiteRtGetRankedTensorType(tensor, shape)
            make = "LiteRtCreateManagedTensorBufferFromRequirements"
            found.append(library.made(make, self.environment, shape, requirements))
        return (ctypes.c_void_p * len(found))(*found)

    def _input_order(self, signature: ctypes.c_void_p) -> list[int]:
        """Return for each input of the signature its place among the graph's inputs, which is the feed's order."""
        library, count = self.library, len(self.inputs)
        graph = library.made("LiteRtGetSignatureSubgraph", signature)
        places = {library.made("LiteRtGetSubgraphInput", graph, ctypes.c_size_t(at)).value: at for at in range(count)}
        by_index = "LiteRtGetSignatureInputTensorByIndex"
        return [places[library.made(by_index, signature, ctypes.c_size_t(at)).value] for at in range(count)]

    def fill(self, feed: str | None) -> None:
        """Write the feed's first example into the inputs, or zeros."""
        for place, buffer in zip(self.order, map(ctypes.c_void_p, self.inputs)):  # noqa: B905  # Python 3.8
            size = self.library.number("LiteRtGetTensorBufferPackedSize", buffer)
            content = first_example(feed, place, size) if feed else bytes(size)
            address = ctypes.c_void_p()
            self.library.LiteRtLockTensorBuffer(buffer, ctypes.byref(address), WRITE)
            ctypes.memmove(address, content, size)
            self.library.LiteRtUnlockTensorBuffer(buffer)

    def run(self) -> None:
        """Do one inference."""
        sizes = ctypes.c_size_t(len(self.inputs)), ctypes.c_size_t(len(self.outputs))
        self.library.LiteRtRunCompiledModel(
            self.compiled, ctypes.c_size_t(0), sizes[0], self.inputs, sizes[1], self.outputs
        )

    def profile(self) -> float:
        """Do one inference under the profiler; return the milliseconds that it took."""
        self.library.LiteRtResetProfiler(self.profiler)
        self.library.LiteRtStartProfiler(self.profiler)
        began = time.perf_counter()
        self.run()
        took_ms = 1000 * (time.perf_counter() - began)
        self.library.LiteRtStopProfiler(self.profiler)
        return took_ms

    def summary(self) -> str:
        """Add the last profiled inference to the profiler's summary, and return that of all added so far."""
        summary = self.library.made("LiteRtGetProfileSummary", self.profiler, self.compiled)
        text = ctypes.cast(summary, ctypes.c_char_p).value or b""
        ctypes.CDLL(None).free(summary)
        return text.decode(errors="replace")


def _leave(payload: int) -> None:
    """Let Python's garbage collection have it."""


def first_example(feed: str, place: int, size: int) -> bytes:
    """Return the first bytes of an array of the feed, without needing numpy."""
    try:
        with zipfile.ZipFile(feed) as archive, archive.open(f"input:{place}.npy") as stream:
            stream.read(8)  # the format's name and version, then how long its head is
            stream.read(int.from_bytes(stream.read(2), "little"))
            content = stream.read(size)
    except (OSError, KeyError, zipfile.BadZipFile) as fault:
        raise NoProfile(f"{feed}: {fault}") from None
    if len(content) != size:
        raise NoProfile(f"{feed}: input:{place} holds less than one example")
    return content


def parse(summary: str) -> list[tuple[str, float, int]]:
    """Return the summary's rows in the order they ran: the profiler's name, mean milliseconds, how often it ran."""
    run_order = summary.partition("Run Order")[2].partition("Top by Computation Time")[0]
    rows = filter(None, map(ROW.match, run_order.splitlines()))
    return [(row[1], float(row[2]), int(row[3])) for row in rows]


def by_kind(rows: list[tuple[str, float, int]], inferences_ms: list[float]) -> list[dict[str, Any]]:
    """Return each kind of operation with its milliseconds in one inference and how many of it there are, longest first.

    Raises:
        NoProfile: the parts do not add up to the whole, so some are missing or counted twice.
    """
    runs, kinds = len(inferences_ms), {}  # type: int, dict[str, dict[str, Any]]
    for name, ms, times in rows:
        if times < runs:
            raise NoProfile(f"the profiler saw {name} in {times} of {runs} inferences")
        kind = kinds.setdefault(name, {"name": name, "ms": 0.0, "count": 0})
        kind["ms"] = round(kind["ms"] + ms * times / runs, 6)
        kind["count"] += times // runs
    parts, whole = sum(kind["ms"] for kind in kinds.values()), sum(inferences_ms) / runs
    if not kinds:
        raise NoProfile("the profiler saw no operation")
    if whole > 1 and not 0.5 < parts / whole < 1.1:  # of shorter ones, the profiler's whole microseconds say too little
        raise NoProfile(f"the operations' times add up to {parts / whole:.0%} of an inference")
    return sorted(kinds.values(), key=lambda kind: -kind["ms"])


def operators(request: dict[str, Any], library: str) -> list[dict[str, Any]]:
    """Profile the model: some inferences to warm up, then 30 or as many as fit into 3 seconds.

    The profiler gives means only, so an inference that was held up by something else is left out.
    """
    if request.get("batch", 1) != 1:
        raise NoProfile("they are taken for a batch of 1 only")
    model = Profiled(Library(library), request["model"], request["threads"])
    model.fill(request.get("feed"))
    all_ms, kept_ms, summary = [model.profile() for _ in range(WARMUP)], [], ""  # type: list[float], list[float], str
    began = time.monotonic()
    while len(kept_ms) < FEWEST or (len(kept_ms) < RUNS and time.monotonic() - began < SECONDS):
        all_ms.append(model.profile())
        if all_ms[-1] <= HELD_UP * sorted(all_ms)[len(all_ms) // 2]:
            kept_ms.append(all_ms[-1])
            summary = model.summary()
    return by_kind(parse(summary), kept_ms)


def apart(request: dict[str, Any], library: str) -> dict[str, Any]:
    """Profile in a child process; return its answer, or why there is none."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)  # what the library prints
        try:
            table: dict[str, Any] = {"operators": operators(request, library), "why": None}
        except Exception as fault:  # noqa: BLE001  # without operator times all else of a bench still stands
            table = {"operators": None, "why": str(fault) or type(fault).__name__}
        os.write(writing, json.dumps(table).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read()
    status = os.waitpid(child, 0)[1]
    with contextlib.suppress(ValueError):
        answer: dict[str, Any] = json.loads(told)
        return answer
    return {"operators": None, "why": f"profiling ended by signal {status & 127}"}


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.buffer.read())
    for name in ("ai_edge_litert", "tflite_runtime"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            break
    else:
        say("error", kind="missing-runtime", message="neither ai_edge_litert nor tflite_runtime is installed")
        sys.exit(1)
    folder = os.path.dirname(spec.origin)
    version = installed_version(folder)
    say("runtime", name=name.replace("_", "-"), version=version)
    library, numbers = os.path.join(folder, "libLiteRt.so"), tuple(map(int, re.findall(r"\d+", version or "")[:2]))
    if request["cpus"]:
        os.sched_setaffinity(0, request["cpus"])
    if numbers < OLDEST or not os.access(library, os.R_OK):
        told: dict[str, Any] = {"operators": None, "why": f"{name.replace('_', '-')} {version} has no profiler"}
    else:
        told = apart(request, library)
    say("result", **told)


def installed_version(folder: str) -> str | None:
    """Return the version of the package in a folder, from the name of the metadata beside it."""
    parent, name = os.path.split(folder)
    found = [entry.name for entry in os.scandir(parent) if re.fullmatch(name + r"-.+\.dist-info", entry.name)]
    return found[0][len(name) + 1 : -len(".dist-info")] if len(found) == 1 else None


def say(event: str, **table: Any) -> None:
    """Write a line to the workstation."""
    sys.stdout.write(json.dumps({"event": event, **table}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
