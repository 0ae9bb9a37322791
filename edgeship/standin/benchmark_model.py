#!/usr/bin/env python3
"""A stand-in for TFLite's benchmark_model: it takes the same flags, really runs the model, and prints like the original.

It times with the Python runtime of the machine it stands on, so its figures hold Python's part of a call (some tens of
microseconds), and it cannot see inside an inference: its operator table has one row. One file, Python 3.8 syntax, numpy
and `ai_edge_litert` or `tflite_runtime`; nothing of edgeship.
"""
# zip(strict=) came with Python 3.10; the original opens paths as it is given them.
# ruff: noqa: PTH123, B905

from __future__ import annotations

import os
import resource
import struct
import sys
import time
from typing import Any, Dict, List, NoReturn, Tuple  # noqa: UP035

import numpy as np

try:
    from ai_edge_litert import interpreter as runtime
except ImportError:
    from tflite_runtime import interpreter as runtime

Flags = Dict[str, str]  # noqa: UP006
DIALECT = "tflite-2025"
RUNS = ["num_runs", "warmup_runs", "min_secs", "warmup_min_secs", "run_delay", "num_threads", "verbose", "graph"]
INPUTS = ["input_layer", "input_layer_shape"]
SINCE_2021 = ["max_secs", "dry_run", "require_full_delegation", "report_peak_memory_footprint"]
TFLITE_2021 = ["input_layer_value_files", "input_layer_value_range", "use_xnnpack", "external_delegate_path"]
TFLITE_2025 = ["op_profiling_output_mode", "op_profiling_output_file", "output_filepath", "gpu_precision_loss_allowed"]
KNOWN = {
    "tflite-2019": [*RUNS, *INPUTS, "use_gpu", "use_nnapi", "enable_op_profiling"],
    "tflite-2021": [*RUNS, *INPUTS, *SINCE_2021, *TFLITE_2021, "use_gpu", "use_nnapi", "enable_op_profiling"],
    "tflite-2025": [
        *RUNS, *INPUTS, *SINCE_2021, *TFLITE_2021, *TFLITE_2025, "use_gpu", "use_nnapi", "enable_op_profiling",
        "result_file_path",
    ],
    "litert-2025": [
        *RUNS, *SINCE_2021, "use_cpu", "use_gpu", "use_npu", "use_profiler", "dispatch_library_path",
        "compiler_plugin_library_path", "signature_to_run_for", "allow_fp16", "result_file_path",
    ],
}  # fmt: skip


def say(text: str, stream: Any = sys.stdout) -> None:
    """Print as the original's logging does: flushed, with the level before it in newer builds."""
    stream.write(("INFO: " if DIALECT.endswith("2025") else "") + text + "\n")
    stream.flush()


def fail(text: str) -> NoReturn:
    """End as the original does on an error."""
    say_error = "ERROR: " if DIALECT.endswith("2025") else ""
    sys.stderr.write(say_error + text + "\n")
    sys.stderr.flush()
    sys.exit(1)


def flags_of(words: List[str]) -> Flags:  # noqa: UP006
    """Return the flags that this build knows; tell of the others as the original does, and go on."""
    known, unconsumed = {}, []
    for word in words:
        name, _, value = word.lstrip("-").partition("=")
        if word.startswith("--") and name in KNOWN[DIALECT]:
            known[name] = value
        else:
            unconsumed.append(word)
    if unconsumed:
        say("Unconsumed cmdline flags: " + " ".join(unconsumed))
    return known


def true(flags: Flags, name: str) -> bool:
    """Say whether a yes-or-no flag is set."""
    return flags.get(name, "").lower() in ("1", "true")


def plain_kernels(flags: Flags) -> bool:
    """Say whether XNNPACK is turned off; it is on unless it is."""
    return flags.get("use_xnnpack", "").lower() in ("0", "false")


class Stat:
    """Durations of one series of inferences, in whole microseconds."""

    def __init__(self, durations: List[int]) -> None:  # noqa: UP006
        self.durations = durations
        self.count = len(durations)
        self.first = durations[0] if durations else 0
        self.least, self.most = min(durations, default=0), max(durations, default=0)
        self.average = sum(durations) / len(durations) if durations else float("nan")
        self.deviation = int(np.std(durations)) if durations else 0

    def percentile(self, percent: int) -> int:
        """Return one as the original takes it: no interpolation."""
        ordered = sorted(self.durations)
        return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] if ordered else 0

    def line(self) -> str:
        """Return the `count=` line."""
        if not self.durations:
            return "count=0"
        text = f"count={self.count}"
        if self.least == self.most:
            text += f" curr={self.most}" + ("(all same)" if self.count > 1 else "")
        else:
            text += f" first={self.first} curr={self.durations[-1]} min={self.least} max={self.most}"
            text += f" avg={self.average:g} std={self.deviation}"
        if DIALECT.endswith("2025"):
            text += f" p5={self.percentile(5)} median={self.percentile(50)} p95={self.percentile(95)}"
        return text


def log_parameters(flags: Flags) -> None:
    """Print the parameters that were given."""
    say("STARTING!")
    if DIALECT != "tflite-2019":
        say("Log parameter values verbosely: [0]")
    for name, label in (("num_runs", "Min num runs"), ("num_threads", "Num threads"), ("use_xnnpack", "Use xnnpack")):
        if name in flags:
            say(f"{label}: [{flags[name]}]")
    say(f"Graph: [{flags.get('graph', '')}]")
    if "num_threads" in flags and DIALECT in ("tflite-2021", "tflite-2025"):
        say(f"#threads used for CPU inference: [{flags['num_threads']}]")


def interpreter_of(flags: Flags) -> Tuple[Any, List[str]]:  # noqa: UP006
    """Return the interpreter, its inputs shaped as the flags say, and the names that the flags give them."""
    threads = int(flags.get("num_threads", 1))
    options: Dict[str, Any] = {"num_threads": threads if threads > 0 else None}  # noqa: UP006
    if plain_kernels(flags):
        options["experimental_op_resolver_type"] = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    if flags.get("external_delegate_path"):
        options["experimental_delegates"] = [runtime.load_delegate(flags["external_delegate_path"])]
    made = runtime.Interpreter(model_path=flags["graph"], **options)
    names = [name for name in flags.get("input_layer", "").split(",") if name]
    shapes = [shape for shape in flags.get("input_layer_shape", "").split(":") if shape]
    if len(names) != len(shapes):
        fail("The number of items in --input_layer_shape must match the number of items in --input_layer")
    for detail, name, shape in zip(made.get_input_details(), names, shapes):
        if name != detail["name"]:
            say(f"Tensor # {detail['index']} is named {detail['name']} but flags call it {name}")
        made.resize_tensor_input(detail["index"], [int(size) for size in shape.split(",")])
    made.allocate_tensors()
    if true(flags, "use_gpu") and DIALECT.startswith("tflite"):  # there is no GPU behind this stand-in
        say("Created TensorFlow Lite delegate for GPU.")
        say("Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.")
    if flags.get("external_delegate_path"):
        text = "Explicitly applied EXTERNAL delegate, and the model graph will be partially executed by the delegate"
        say(f"{text} w/ 1 delegate kernels.")
    return made, names


def value_files(flags: Flags) -> Flags:
    """Return input name → file: pairs between commas, a colon within a name doubled."""
    found = {}
    for pair in filter(None, flags.get("input_layer_value_files", "").split(",")):
        name, _, path = pair.replace("::", "\0").partition(":")
        found[name.replace("\0", ":")] = path.replace("\0", ":")
    return found


def inputs_of(interpreter: Any, names: List[str], flags: Flags) -> List[Any]:  # noqa: UP006
    """Return the content of each input: from its file, else random."""
    files = value_files(flags)
    for name in files:
        if name not in names:
            fail(f"Cannot find the corresponding input_layer name({name}) in --input_layer")
    random = np.random.default_rng()
    found = []
    for number, detail in enumerate(interpreter.get_input_details()):
        shape, dtype = tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"])
        path = files.get(names[number]) if names else None
        if path is None:
            top = 2 if dtype.kind == "b" else 100
            raw: Any = random.random(shape) if dtype.kind == "f" else random.integers(0, top, shape)
            found.append(raw.astype(dtype))
            continue
        try:
            with open(path, "rb") as stream:
                content = stream.read()
        except OSError:
            fail(f"Failed to read the input_layer_value_file:{path}")
        size = int(np.prod(shape)) * dtype.itemsize
        if len(content) != size:
            fail(f"The size of {path} is {len(content)} bytes. It should be {size} bytes.")
        found.append(np.frombuffer(content, dtype).reshape(shape))
    return found


def series(interpreter: Any, inputs: List[Any], runs: int, least_s: float, most_s: float) -> Stat:  # noqa: UP006
    """Run at least so many times and seconds; return how long each took."""
    text = f"Running benchmark for at least {runs} iterations and at least {least_s:g} seconds"
    say(text if DIALECT == "tflite-2019" else f"{text} but terminate if exceeding {most_s:g} seconds.")
    indices = [detail["index"] for detail in interpreter.get_input_details()]
    durations: List[int] = []  # noqa: UP006
    begun = time.monotonic()
    while (len(durations) < runs or time.monotonic() < begun + least_s) and time.monotonic() <= begun + most_s:
        for index, value in zip(indices, inputs):
            interpreter.set_tensor(index, value)
        start = time.perf_counter_ns()
        interpreter.invoke()
        durations.append((time.perf_counter_ns() - start) // 1000)
    stat = Stat(durations)
    say(stat.line() + "\n")
    return stat


def peak_kib() -> int:
    """Return the high-water mark that the original takes its memory figures from."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Result:
    """What one run measured: microseconds, and KiB above the start."""

    def __init__(
        self, init_us: int, warmup: Stat, timed: Stat, init_kib: int, overall_kib: int, size_mb: float
    ) -> None:
        self.init_us, self.warmup, self.timed = init_us, warmup, timed
        self.init_kib, self.overall_kib, self.size_mb = init_kib, overall_kib, size_mb


def summarize(found: Result) -> None:
    """Print the last lines in this build's dialect."""
    warmup, timed = found.warmup, found.timed
    if DIALECT == "tflite-2019":
        say(
            f"Average inference timings in us: Warmup: {warmup.average:g}, Init: {found.init_us}, Inference: {timed.average:g}"
        )
    elif DIALECT.startswith("tflite"):
        text = f"Inference timings in us: Init: {found.init_us}, First inference: {warmup.first}"
        say(f"{text}, Warmup (avg): {warmup.average:g}, Inference (avg): {timed.average:g}")
        text = "Memory footprint delta from the start of the tool (MB):"
        say(f"{text} init={found.init_kib / 1024:g} overall={found.overall_kib / 1024:g}")
    else:
        for line in (
            "\n========== BENCHMARK RESULTS ==========",
            f"Model initialization: {found.init_us / 1000:.2f} ms",
            f"Warmup (first):       {warmup.first / 1000:.2f} ms",
            f"Warmup (avg):         {warmup.average / 1000:.2f} ms ({warmup.count} runs)",
            f"Inference (avg):      {timed.average / 1000:.2f} ms ({timed.count} runs)",
            f"Inference (min):      {timed.least / 1000:.2f} ms",
            f"Inference (max):      {timed.most / 1000:.2f} ms",
            f"Inference (std):      {timed.deviation / 1000:.2f}",
            "\nMemory Usage:",
            f"Init footprint:       {found.init_kib / 1024:.2f} MB",
            f"Overall footprint:    {found.overall_kib / 1024:.2f} MB",
            "======================================\n",
        ):
            say(f"[./litert/tools/benchmark_litert_model.h:72] {line}", sys.stderr)


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it."""
    head = b""
    while value > 0x7F:
        head, value = head + bytes([value & 0x7F | 0x80]), value >> 7
    return head + bytes([value])


def floats(values: List[float]) -> bytes:  # noqa: UP006
    """Return the fields 1, 2, 3, … of a protobuf message, all floats."""
    return b"".join(bytes([number << 3 | 5]) + struct.pack("<f", value) for number, value in enumerate(values, 1))


def message(found: Result) -> bytes:
    """Return the result file's content: benchmark_result.proto, its fields in their order."""
    warmup, timed = found.warmup, found.timed
    us = [timed.average, timed.least, timed.most, timed.deviation, *map(timed.percentile, (50, 5, 95))]
    latency = floats([value / 1000 for value in (*us, found.init_us, warmup.first, warmup.average)])
    memory = b"\x08" + varint(found.init_kib) + b"\x10" + varint(found.overall_kib)
    misc = floats([found.size_mb]) + b"\x10" + varint(timed.count) + b"\x18" + varint(warmup.count)
    return b"".join(
        bytes([number << 3 | 2]) + varint(len(part)) + part for number, part in ((2, latency), (3, memory), (4, misc))
    )


def profile(flags: Flags, timed: Stat) -> None:
    """Print or write the operator table: the whole inference as one row, since Python sees no further."""
    kind = "BUILTIN_KERNELS" if plain_kernels(flags) else "TfLiteXNNPackDelegate"
    first_ms, mean_ms = timed.first / 1000, timed.average / 1000
    as_csv = flags.get("op_profiling_output_mode") == "csv"
    if as_csv:
        header = "node type,first,avg_ms,%,cdf%,mem KB,times called,name"
        row = f"{kind},{first_ms:g},{mean_ms:g},100%,100%,0,1,[]:0"
    else:
        start = DIALECT == "tflite-2019"
        columns = ["[node type]", *["[start]"] * start, "[first]", "[avg ms]", "[%]", "[cdf%]", "[mem KB]"]
        cells = [kind, *["0.000"] * start, f"{first_ms:.3f}", f"{mean_ms:.3f}", "100.000%", "100.000%", "0.000"]
        header = "\t" + "\t".join(f"{column:>24}" for column in columns) + "\t[times called]\t[Name]"
        row = "\t" + "\t".join(f"{cell:>24}" for cell in cells) + "\t        1\t[]:0"
    rule = "=" * 30
    text = f"{rule} Run Order {rule}\n{header}\n{row}\n\nTimings (microseconds): {timed.line()}\n1 nodes observed\n"
    if DIALECT in ("tflite-2021", "tflite-2025"):
        text = "Operator-wise Profiling Info for Regular Benchmark Runs:\n" + text
    if as_csv and flags.get("op_profiling_output_file"):
        with open(flags["op_profiling_output_file"], "w") as stream:
            stream.write(text)
    else:
        say(text)


def save_outputs(interpreter: Any, path: str) -> None:
    """Write every output's memory, one after the other."""
    with open(path, "wb") as stream:
        for detail in interpreter.get_output_details():
            stream.write(np.ascontiguousarray(interpreter.get_tensor(detail["index"])).tobytes())


def main() -> None:
    """Do what the flags say, in the original's order."""
    flags = flags_of(sys.argv[1:])
    log_parameters(flags)
    if not flags.get("graph"):
        fail("Please specify the name of your TF Lite input file with --graph")
    before_kib = peak_kib()
    try:
        with open(flags["graph"], "rb") as stream:
            size_mb = stream.seek(0, os.SEEK_END) / 1e6
    except OSError:
        fail(f"Failed to load model {flags['graph']}")
    begun = time.perf_counter_ns()
    try:
        interpreter, names = interpreter_of(flags)
    except (ValueError, RuntimeError, OSError) as fault:
        fail(f"Failed to initialize the interpreter: {(str(fault).splitlines() or ['?'])[0]}")
    init_us = (time.perf_counter_ns() - begun) // 1000
    init_kib = peak_kib() - before_kib
    say(f"The input model file size (MB): {size_mb:g}")
    say(f"Initialized session in {init_us / 1000:g}ms.")
    inputs = inputs_of(interpreter, names, flags)
    most_s = float(flags.get("max_secs", 150))
    warmup_runs, warmup_s = int(flags.get("warmup_runs", 1)), float(flags.get("warmup_min_secs", 0.5))
    warmup = series(interpreter, inputs, warmup_runs, warmup_s, most_s)
    timed = series(interpreter, inputs, int(flags.get("num_runs", 50)), float(flags.get("min_secs", 1)), most_s)
    found = Result(init_us, warmup, timed, init_kib, peak_kib() - before_kib, size_mb)
    summarize(found)
    if flags.get("result_file_path"):
        with open(flags["result_file_path"], "wb") as stream:
            stream.write(message(found))
        say(f"Saved benchmark result to: {flags['result_file_path']}")
    if flags.get("output_filepath"):
        save_outputs(interpreter, flags["output_filepath"])
    if true(flags, "enable_op_profiling") or true(flags, "use_profiler"):
        profile(flags, timed)


if __name__ == "__main__":
    main()
