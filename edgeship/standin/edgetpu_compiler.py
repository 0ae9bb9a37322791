"""A stand-in for the closed edgetpu_compiler: it takes the same options, writes files of the same form, prints the same dialects.

What it writes holds an `edgetpu-custom-op` around the operations that are forecast to map, and no code of the chip's: no
Edge TPU runs it, and it says so on stderr. Its modes break as the original was seen to break.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

from edgeship import edgetpu_log, flatbuffer, forecast
from edgeship.edgetpu_log import MAPPED, Attempt, Compiled, OperationLog, Printed, Row
from edgeship.run_edgetpu import Forecast
from edgeship.standin import CompilerMode

CUSTOM_OP = "edgetpu-custom-op"
CACHE_BYTES = 8 << 20
SAID = "edgeship's stand-in: what it writes holds no code for an Edge TPU"
LATER = "More than one subgraph is not supported"
LIMITED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
# Rule of the forecast's → what the original says of an operation that it decides; of the others, the limitation.
STATUSES = {
    "eight_bit": "Operation is working on an unsupported data type",
    "custom": "Operation is working on an unsupported data type",
    "refused": "Operation not supported",
    "not_listed": "Operation not supported",
    "behind": LATER,
    "other_part": LATER,
}


@dataclass(frozen=True)
class Job:
    """One call: its options, and the dialect and the mode that were asked for."""

    models: tuple[Path, ...]
    out: Path
    show: bool
    segments: int
    timeout_s: int
    runtime: int | None
    version: str
    mode: CompilerMode

    @property
    def major(self) -> int:
        """Return the version that decides the dialect."""
        return int(self.version.split(".")[0])


def main(version: str, mode: CompilerMode) -> NoReturn:
    """Do what the command line says, as the original would; exit."""
    job = _parsed(sys.argv[1:], version, mode)
    sys.stderr.write(f"{SAID}\n")
    _break_early(job)
    said = []
    cache = CACHE_BYTES
    for path in job.models:
        if _is_float(path):
            _refuse(job, (f"Invalid model: {path}", "Model not quantized"))
        blocks, cache = _compile(job, path, cache)
        said.append(blocks)
    if mode == "no-file":
        for file in job.out.glob("*_edgetpu.*"):
            file.unlink()
    _tell(job, said)
    sys.exit(0)


def _parsed(words: Sequence[str], version: str, mode: CompilerMode) -> Job:
    parser = argparse.ArgumentParser(prog="edgetpu_compiler", allow_abbrev=False)
    parser.add_argument("-o", "--out_dir", default=".")
    parser.add_argument("-s", "--show_operations", action="store_true")
    parser.add_argument("-m", "--min_runtime_version", type=int)
    parser.add_argument("-n", "--num_segments", type=int, default=1)
    parser.add_argument("-t", "--timeout_sec", type=int, default=180)
    parser.add_argument("-a", "--enable_multiple_subgraphs", action="store_true")
    parser.add_argument("-i", "--intermediate_tensors")
    parser.add_argument("-d", "--search_delegate", action="store_true")
    parser.add_argument("-k", "--delegate_search_step", type=int, default=1)
    parser.add_argument("-v", "--version", action="store_true")
    parser.add_argument("models", nargs="*", type=Path)
    known = parser.parse_args(words)
    if known.version:
        sys.stderr.write(f"{SAID}\n")
        print(f"Edge TPU Compiler version {version}")  # noqa: T201  # it is a program
        sys.exit(0)
    if not known.models:
        parser.error("no model")
    return Job(
        tuple(known.models),
        Path(known.out_dir),
        known.show_operations,
        known.num_segments,
        known.timeout_sec,
        known.min_runtime_version,
        version,
        mode,
    )


def _break_early(job: Job) -> None:
    """Do what the original does where it gives no file, if the mode says so."""
    if job.mode == "silence":
        sys.exit(0)
    begun = Attempt("unfinished", timeout_s=job.timeout_s if job.major >= 16 else None)
    sys.stdout.write(edgetpu_log.printed(Printed(job.version, (begun,))))
    sys.stdout.flush()
    if job.mode == "hang":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        (job.out / "half_edgetpu.tflite").write_bytes(b"TFL3")
        subprocess.run([sys.executable, "-c", "import time; time.sleep(3600)"], check=False)
        time.sleep(3600)
    if job.mode == "crash":
        words = f"/usr/bin/edgetpu_compiler: line 3: {os.getpid()} Segmentation fault      (core dumped)"
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    if job.mode == "refused":
        _refuse(job, ("Compilation failed: Compilation failed due to large activation tensors in model.",))
    if job.mode == "timeout":
        _refuse(job, ("Compilation timeout. This is usually caused by large activations.",))
    if job.mode == "failed":
        _refuse(job, ())


def _refuse(job: Job, lines: tuple[str, ...]) -> NoReturn:
    ending = (
        []
        if any("timeout" in line for line in lines)
        else ["Compilation child process completed within timeout period."]
    )
    sys.stdout.write("\n".join([*lines, *(ending if job.major >= 16 else []), "Compilation failed! "]) + "\n")
    sys.exit(1)


def _compile(job: Job, path: Path, cache: int) -> tuple[list[Compiled], int]:
    """Write a model's files and return what is printed of each, and what is left of the cache."""
    model = _read(path)
    count = len(model.subgraphs[0].operators)
    ends = [round(count * number / job.segments) for number in range(1, job.segments + 1)]
    blocks, start = [], 0
    for segment, end in enumerate(ends):
        piece, stem = _read(path), path.stem
        if job.segments > 1:
            _cut(piece, start, end)
            stem = f"{path.stem}_segment_{segment}_of_{job.segments}"
        block, used = _write(job, piece, stem, path, cache)
        cache = max(0, cache - used) if job.segments == 1 else cache
        blocks.append(block)
        start = end
    return blocks, cache


def _write(job: Job, model: Any, stem: str, path: Path, cache: int) -> tuple[Compiled, int]:
    """Write one file and its log; return its block and the bytes that it takes of the cache."""
    graph = model.subgraphs[0]
    source = _packed(model)
    found = _foretold(source, job)
    mapped = _mapped(job, found)
    weights = _weights(model, [graph.operators[index] for index in sorted(mapped)])
    rows = _rows(found, mapped)
    source_bytes = len(source) if job.segments > 1 else path.stat().st_size
    if mapped and job.mode != "plain-file":
        _replace(model, mapped, weights)
    content = b"TFL3 and then nothing" if job.mode == "garbage" else _packed(model)
    out = job.out / f"{stem}_edgetpu.tflite"
    out.write_bytes(content)
    cached = min(weights, cache)
    text = edgetpu_log.printed_log(OperationLog(job.version, f"{stem}.tflite", out.name, rows))
    out.with_suffix(".log").write_text(text)
    block = Compiled(
        f"{stem}.tflite", source_bytes, str(out), len(content), cached_bytes=cached, streamed_bytes=weights - cached,
        subgraphs=int(bool(mapped)), operations=len(found.operators), log=str(out.with_suffix(".log")), available_bytes=cache if job.major < 3 else None,
        remaining_bytes=None if job.major < 3 else cache - cached,
    )  # fmt: skip
    left = len(found.operators) - len(mapped)
    if left:
        block = replace(block, on_edgetpu=len(mapped), on_cpu=left)
    return replace(block, rows=rows if job.show else ()), cached


def _tell(job: Job, said: list[list[Compiled]]) -> None:
    """Print the rest: one attempt for co-compiled models, one a segment."""
    timer = job.timeout_s if job.major >= 16 else None
    blocks = [block for each in said for block in each]
    groups = [tuple(blocks)] if job.segments == 1 else [(block,) for block in blocks]
    attempts = [
        Attempt("succeeded", timeout_s=timer, compile_ms=len(group), several=len(job.models) > 1, models=group)
        for group in groups
    ]
    text = edgetpu_log.printed(Printed(None, tuple(attempts)))
    begun = edgetpu_log.printed(Printed(None, (Attempt("unfinished", timeout_s=timer),)))
    sys.stdout.write(text.removeprefix(begun) if timer else text)  # the first timer's line stands there already
    sys.stdout.flush()


def _mapped(job: Job, found: Forecast) -> set[int]:
    """Return the operations that become the chip's."""
    if job.mode == "unmapped":
        return set()
    return {entry.index for entry in found.operators if entry.on == "edgetpu"}


def _rows(found: Forecast, mapped: set[int]) -> tuple[Row, ...]:
    """Return the table: the operations counted by name and status."""
    counted: dict[tuple[str, str], int] = {}
    for entry in found.operators:
        status = STATUSES.get(entry.rule, LIMITED)
        name = "CUSTOM" if entry.name not in vars(BuiltinOperator) else entry.name
        key = name, MAPPED if entry.index in mapped else status
        counted[key] = counted.get(key, 0) + 1
    return tuple(Row(name, count, status) for (name, status), count in counted.items())


def _is_float(path: Path) -> bool:
    graph = _read(path).subgraphs[0]
    computed = [graph.tensors[index].type for operator in graph.operators for index in operator.outputs]
    return TensorType.INT8 not in computed and TensorType.UINT8 not in computed


def _foretold(content: bytes, job: Job) -> Forecast:
    with tempfile.TemporaryDirectory(prefix="edgeship-") as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(content)
        return forecast.forecast(flatbuffer.read(path), runtime=job.runtime)


def _weights(model: Any, operators: list[Any]) -> int:
    """Return the bytes of the constants that operations read."""
    graph = model.subgraphs[0]
    buffers = {graph.tensors[index].buffer for operator in operators for index in operator.inputs if index >= 0}
    return sum(len(model.buffers[number].data) for number in buffers if model.buffers[number].data is not None)


def _replace(model: Any, mapped: set[int], weights: int) -> None:
    """Put one operation of the chip's in the place of those that map; their constants go with them."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    inside = [operator for index, operator in enumerate(graph.operators) if index in mapped]
    others = [operator for index, operator in enumerate(graph.operators) if index not in mapped]
    made = {int(index) for operator in inside for index in operator.outputs}
    wanted = {int(index) for operator in others for index in operator.inputs} | {int(index) for index in graph.outputs}
    read = dict.fromkeys(int(index) for operator in inside for index in operator.inputs if index >= 0)
    constant = {index for index in read if _is_constant(model, graph.tensors[index])}
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = CUSTOM_OP, 1
    model.operatorCodes.append(code)
    chip = schema.OperatorT()
    chip.opcodeIndex = len(model.operatorCodes) - 1
    chip.inputs = [index for index in read if index not in made and index not in constant]
    chip.outputs = sorted(made & wanted)
    chip.customOptions = np.frombuffer(f"{SAID}\n".encode().ljust(weights, b"\0"), np.uint8)
    for index in constant - {int(index) for operator in others for index in operator.inputs}:
        model.buffers[graph.tensors[index].buffer].data = None
    graph.operators = [chip, *others]


def _is_constant(model: Any, tensor: Any) -> bool:
    return model.buffers[tensor.buffer].data is not None


def _cut(model: Any, start: int, end: int) -> None:
    """Keep the operations of one segment: its inputs are what it reads of earlier ones, its outputs what later ones read."""
    graph = model.subgraphs[0]
    kept, later = graph.operators[start:end], graph.operators[end:]
    made = {int(index) for operator in kept for index in operator.outputs}
    read = dict.fromkeys(int(index) for operator in kept for index in operator.inputs if index >= 0)
    wanted = {int(index) for operator in later for index in operator.inputs}
    if start:
        graph.inputs = [index for index in read if index not in made and not _is_constant(model, graph.tensors[index])]
    if later:
        graph.outputs = sorted(made & wanted)
    graph.operators, model.signatureDefs = kept, None
    used = {graph.tensors[index].buffer for index in read}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None


def _read(path: Path) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)


def _packed(model: Any) -> bytes:
    import flatbuffers  # type: ignore[import-untyped]

    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
