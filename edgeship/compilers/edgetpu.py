"""edgetpu_compiler, the vendor's closed program: found, asked, timed out, and its word checked against what it wrote.

https://coral.ai/docs/edgetpu/compiler/; the last version is 16.0.384591198, for x86-64 Debian.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

from edgeship import compiled, digest, edgetpu_log, edgetpu_reasons, flatbuffer
from edgeship.artifact import TensorSpec
from edgeship.command import Called, call
from edgeship.compilation import Compilation, CompiledPart, CompileOrder, OperatorStatus, Program, Source
from edgeship.compiled import CUSTOM_OPERATION
from edgeship.edgetpu_log import Compiled, Printed, Row
from edgeship.errors import BadInput, EdgeshipError, MissingTool, StageFailed
from edgeship.flatbuffer import Graph

NAME = "edgetpu_compiler"
SETTING, TIMEOUT_SETTING = "EDGESHIP_EDGETPU_COMPILER", "EDGESHIP_EDGETPU_TIMEOUT_S"
INSTALL = f"https://coral.ai/docs/edgetpu/compiler/#download (x86-64 Debian: apt-get install edgetpu-compiler), or {SETTING}=PATH"
KNOWN_MAJOR = "16"  # whose --min_runtime_version reaches 14, the runtime of libedgetpu 16
USUAL_TIMEOUT_S = 180.0  # the program's own
VERSION_TIMEOUT_S = 20.0
STAND_IN = "edgeship's stand-in"  # what ours says of itself on stderr
_CRASHES = {132: "SIGILL", 134: "SIGABRT", 136: "SIGFPE", 137: "SIGKILL", 139: "SIGSEGV"}


def find() -> Program | None:
    """Return the program that the setting names, or the one on PATH; None where there is none.

    Raises:
        MissingTool: the setting names one that is not there, or what was found does not tell its version.
    """
    named = os.environ.get(SETTING)
    path = shutil.which(named or NAME)
    if path is None:
        if named:
            raise MissingTool(f"{SETTING}={named}: no such program", hint=INSTALL)
        return None
    status = Path(path).stat()
    return _asked(str(Path(path).absolute()), status.st_mtime_ns, status.st_size)


@cache
def _asked(path: str, modified_ns: int, size_bytes: int) -> Program:
    """Return the program, asked for its version once as long as its file is the same."""
    try:
        said = call(path, "--version", timeout_s=VERSION_TIMEOUT_S, check=False)
    except (OSError, EdgeshipError) as fault:  # for another processor, or not for us to run
        raise MissingTool(f"{path}: does not run here: {fault}", hint=INSTALL) from None
    version = edgetpu_log.version_in(said.output + said.errors)
    if version is None:
        told = said.complaint or "nothing"
        raise MissingTool(f"{path}: is no {NAME}: asked for its version, it said {told!r}", hint=INSTALL)
    return Program(NAME, path, version, digest.of_file(Path(path)), STAND_IN in said.errors)


def timeout_s() -> float:
    """Return the seconds that one compilation may take.

    Raises:
        BadInput: the setting is no number of seconds.
    """
    said = os.environ.get(TIMEOUT_SETTING)
    if not said:
        return USUAL_TIMEOUT_S
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < 1e6:
        raise BadInput(f"{TIMEOUT_SETTING}={said}: expected seconds, such as {USUAL_TIMEOUT_S:.0f}")
    return seconds


def compile_models(order: CompileOrder, program: Program, *, folder: Path, log: Path) -> Compilation:
    """Compile models together, in their order, in a scratch folder; the results' files are left there.

    Args:
        folder: an empty folder on a local disk; what else the program leaves there is the caller's to remove.
        log: gets the command line and everything printed.

    Raises:
        StageFailed: the compiler refused a model, hung, crashed, said nothing, or wrote no file with its operation in it.
    """
    stems = _stems(order.sources)
    for source, stem in zip(order.sources, stems, strict=True):
        shutil.copyfile(source.path, folder / f"{stem}.tflite")
    done = _called(order, program, stems, folder, log)
    said = edgetpu_log.read(done.output)
    wanted = [(source, stem, segment) for source, stem in zip(order.sources, stems, strict=True) for segment in range(order.segments)]  # fmt: skip
    files = [_compiled_name(stem, segment, order.segments) for _, stem, segment in wanted]
    lacking = next((n for n, file in enumerate(files) if not (folder / file).is_file()), None)
    if done.exit_code != 0 or lacking is not None:
        raise _failure(wanted[lacking or 0][0].name, program, done, said, log)
    parts = tuple(
        _part(source.name, segment, order.segments, folder / file, said, log)
        for (source, _, segment), file in zip(wanted, files, strict=True)
    )
    _check_interfaces(order, parts, folder, log)
    return Compilation(
        program.name, program.version, program.stand_in, _min_runtime(order, program), parts, said.remarks
    )


def _called(order: CompileOrder, program: Program, stems: list[str], folder: Path, log: Path) -> Called:
    """Run the program, and end it with all that it started when it takes longer than it said it would."""
    words = [
        program.path,
        "--show_operations",
        "--out_dir",
        str(folder),
        "--timeout_sec",
        str(math.ceil(order.timeout_s)),
    ]
    runtime = _min_runtime(order, program)
    words += ["--min_runtime_version", str(runtime)] if runtime is not None else []
    words += ["--num_segments", str(order.segments)] if order.segments > 1 else []
    words += ["--enable_multiple_subgraphs"] if order.several_subgraphs else []
    patience_s = order.timeout_s * order.segments + max(2.0, order.timeout_s / 6)
    bound = shutil.which("timeout")  # ends it, and its children, also where we were killed and end nothing any more
    words = [bound, "--signal=KILL", f"{2 * patience_s:.0f}", *words] if bound else words
    names = ", ".join(source.name for source in order.sources)
    try:
        return call(
            *words, *(f"{stem}.tflite" for stem in stems), timeout_s=patience_s, log=log, check=False, folder=folder
        )
    except MissingTool:
        raise
    except StageFailed as slow:
        hint = (
            f"more time: {TIMEOUT_SETTING}={max(600, 4 * math.ceil(order.timeout_s))}; a smaller input size helps most"
        )
        text = f"{names}: {program.name} took longer than {patience_s:.0f} s and was ended; full log: {log}"
        raise StageFailed(text, hint=hint, log=log) from slow
    except OSError as fault:
        raise MissingTool(f"{program.path}: does not run here: {fault.strerror}", hint=INSTALL) from None


def _min_runtime(order: CompileOrder, program: Program) -> int | None:
    """Return the runtime to ask for; older compilers know only runtimes that newer ones are compatible with."""
    return order.min_runtime if program.version.split(".")[0] == KNOWN_MAJOR else None


def _stems(sources: tuple[Source, ...]) -> list[str]:
    """Return a file name for each model that the program, a shell script around a binary, takes without surprises."""
    found: list[str] = []
    for source in sources:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(source.name).stem).lstrip("-.") or "model"
        found.append(plain if plain not in found else f"{plain}-{len(found)}")
    return found


def _compiled_name(stem: str, segment: int, of: int) -> str:
    return f"{stem}_edgetpu.tflite" if of == 1 else f"{stem}_segment_{segment}_of_{of}_edgetpu.tflite"


def _failure(name: str, program: Program, done: Called, said: Printed, log: Path) -> StageFailed:
    """Say why there is no compiled file: in the compiler's own line with its meaning, else by how it ended."""
    start, end = f"{name}: {program.name} {program.version}", f"; full log: {log}"
    lines = (*said.remarks, *(line.strip() for line in done.errors.splitlines() if STAND_IN not in line))
    known = edgetpu_reasons.of_lines(lines)
    if known is not None:
        return StageFailed(f"{start} says '{known.line}': {known.meaning}{end}", hint=known.suggestion, log=log)
    hint = "edgeship edgetpu MODEL forecasts what maps without the compiler"
    crash = _CRASHES.get(done.exit_code) or _CRASHES.get(128 - done.exit_code)
    if crash:
        return StageFailed(f"{start} crashed ({crash}){end}", hint=hint, log=log)
    words = next((line for line in reversed(lines) if line), None)
    if words is not None:
        return StageFailed(f"{start} failed (exit {done.exit_code}): {words[:300]}{end}", hint=hint, log=log)
    if said.attempts and said.attempts[-1].outcome == "succeeded":
        return StageFailed(f"{start} says that it succeeded, and wrote no file{end}", hint=hint, log=log)
    if said.attempts and said.attempts[-1].outcome == "failed":
        return StageFailed(f"{start} refused it without a reason{end}", hint=hint, log=log)
    return StageFailed(
        f"{start} ended (exit {done.exit_code}) without a word and without a file{end}", hint=hint, log=log
    )


def _part(name: str, segment: int, of: int, file: Path, said: Printed, log: Path) -> CompiledPart:
    """Return what one file holds and what was said of it, the two held against each other."""
    try:
        graph = flatbuffer.read(file)
    except BadInput:
        text = f"{name}: {NAME} wrote a file that is no TFLite file, or damaged; full log: {log}"
        raise StageFailed(text, hint="compile again; a full disk leaves such files", log=log) from None
    attempt, block = _told(file.name, said)
    rows = block.rows if block and block.rows else _logged(file.with_suffix(".log"))
    chip = block.on_edgetpu if block and block.on_edgetpu is not None else _mapped(rows)
    if chip is None and block is not None:
        chip = block.operations  # where all of it maps, nothing is said of what does not
    if chip != 0 and not compiled.is_compiled(graph):
        raise StageFailed(
            f"{name}: {NAME} wrote a file without {CUSTOM_OPERATION}, which no Edge TPU takes; full log: {log}", log=log
        )
    cpu = Counter(operator.name for operator in graph.main.operators if operator.name != CUSTOM_OPERATION)
    return CompiledPart(
        model=name, segment=segment, of=of, file=file.name, size_bytes=file.stat().st_size, chip_operators=chip,
        cpu_operators=dict(sorted(cpu.items())),
        cached_bytes=block.cached_bytes if block else None, remaining_bytes=block.remaining_bytes if block else None,
        streamed_bytes=block.streamed_bytes if block else None, subgraphs=block.subgraphs if block else None,
        compile_ms=attempt, statuses=tuple(_status(row) for row in rows),
    )  # fmt: skip


def _told(file: str, said: Printed) -> tuple[int | None, Compiled | None]:
    """Return how long the file's compilation took and its block: the last one that names it as output."""
    for attempt in reversed(said.attempts):
        for block in attempt.models:
            if block.output is not None and Path(block.output).name == file:
                return attempt.compile_ms, block
    return None, None


def _logged(path: Path) -> tuple[Row, ...]:
    return edgetpu_log.read_log(path.read_text(errors="replace")).rows if path.is_file() else ()


def _mapped(rows: tuple[Row, ...]) -> int | None:
    return sum(row.count for row in rows if row.mapped) if rows else None


def _status(row: Row) -> OperatorStatus:
    known = edgetpu_reasons.of_status(row.status)
    meaning, suggestion = (known.meaning, known.suggestion) if known else (None, None)
    return OperatorStatus(row.name, row.count, row.status, row.mapped, meaning, suggestion)


def _check_interfaces(order: CompileOrder, parts: tuple[CompiledPart, ...], folder: Path, log: Path) -> None:
    """Refuse a result that does not take what its model takes, or does not give what it gives."""
    for number, source in enumerate(order.sources):
        mine = parts[number * order.segments : (number + 1) * order.segments]
        before = flatbuffer.read(source.path)
        first, last = (flatbuffer.read(folder / part.file) for part in (mine[0], mine[-1]))
        if _forms(before, "inputs") != _forms(first, "inputs") or _forms(before, "outputs") != _forms(last, "outputs"):
            raise StageFailed(f"{source.name}: {NAME} changed the model's inputs or outputs; full log: {log}", log=log)


def _forms(graph: Graph, side: str) -> list[TensorSpec]:
    """Return the tensors of one side in the file's order, without their names: signatures are lost in compiling."""
    specs: tuple[TensorSpec, ...] = getattr(graph.interface, side)
    return [replace(spec, name="") for spec in specs]
