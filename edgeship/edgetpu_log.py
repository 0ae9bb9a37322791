"""What edgetpu_compiler prints and logs, as typed figures; and the same text printed again from them.

Every dialect from version 2 to 16 is read: `available` and `remaining`, `Model` and `Models compiled`, tables with and
without `-s`, co-compiled blocks, segments, delegate search. A text that was cut gives what stood before the cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

Outcome = Literal["succeeded", "failed", "timeout", "unfinished"]
MAPPED = "Mapped to Edge TPU"
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s?([KMG]iB|B)")
_VERSION = re.compile(r"Edge TPU Compiler version (\d+(?:\.\d+)*)")
_TIMER = re.compile(r"Started a compilation timeout timer of (\d+) seconds?\.")
_SEARCH = re.compile(r"Try to compile segment with (\d+) ops?")
_TENSORS = re.compile(r"Intermediate tensors: (.+)")
_DONE = re.compile(r"(Models?) compiled successfully in (\d+) ms\.")
_ROW = re.compile(r"(\S+)\s+(\d+)\s+(\S.*)")
_HEADER = re.compile(r"Operator\s+Count\s+Status")
_ENDINGS: dict[str, Outcome] = {
    "Compilation succeeded!": "succeeded",
    "Compilation failed!": "failed",
    "Compilation timeout. This is usually caused by large activations.": "timeout",
    "Internal compiler error. Aborting!": "failed",
    "Model not quantized": "failed",
}
_STANDING = (  # said whenever things are so, and told by a figure beside it
    "Model successfully compiled but not all operations are supported by the Edge TPU.",
    "See the operation log file for individual operation details.",
    "Compilation child process completed within timeout period.",
    "Searching for valid delegate with step ",
)
# Label → field of Compiled, in the order in which they are printed.
_FIGURES = {
    "Input model": "input",
    "Input size": "input_bytes",
    "Output model": "output",
    "Output size": "output_bytes",
    "On-chip memory available for caching model parameters": "available_bytes",
    "On-chip memory used for caching model parameters": "cached_bytes",
    "On-chip memory remaining for caching model parameters": "remaining_bytes",
    "Off-chip memory used for streaming uncached model parameters": "streamed_bytes",
    "Number of Edge TPU subgraphs": "subgraphs",
    "Total number of operations": "operations",
    "Operation log": "log",
    "Number of operations that will run on Edge TPU": "on_edgetpu",
    "Number of operations that will run on CPU": "on_cpu",
}
_PARTLY = (
    "Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will "
    "instead run on the CPU, which is slower. If possible, consider updating your model to use only operations "
    "supported by the Edge TPU. For details, visit g.co/coral/model-reqs."
)


@dataclass(frozen=True)
class Row:
    """One line of the operator table; an operation may stand on several, with another status each time."""

    name: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        """Say whether the Edge TPU runs it."""
        return self.status == MAPPED


@dataclass(frozen=True)
class Compiled:
    """One model's block. What the text does not say is None; sizes are rounded by the compiler to 1/100 of their unit.

    `available_bytes` is what older versions print: the cache before anything lies in it; newer ones print what remains.
    """

    input: str
    input_bytes: int | None = None
    output: str | None = None
    output_bytes: int | None = None
    available_bytes: int | None = None
    cached_bytes: int | None = None
    remaining_bytes: int | None = None
    streamed_bytes: int | None = None
    subgraphs: int | None = None
    operations: int | None = None
    log: str | None = None
    on_edgetpu: int | None = None
    on_cpu: int | None = None
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """One compilation: a segment, or a step of a delegate search, is an attempt of its own; most output has just one.

    `remarks` are the lines that are no figures: errors, warnings, and what the shell says of a crash.
    """

    outcome: Outcome
    timeout_s: int | None = None
    tried_operations: int | None = None
    intermediate_tensors: tuple[str, ...] = ()
    compile_ms: int | None = None
    several: bool = False
    models: tuple[Compiled, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Printed:
    """Everything that one call printed."""

    version: str | None
    attempts: tuple[Attempt, ...] = ()

    @property
    def succeeded(self) -> tuple[Attempt, ...]:
        """Return the attempts that gave files."""
        return tuple(attempt for attempt in self.attempts if attempt.outcome == "succeeded")

    @property
    def models(self) -> tuple[Compiled, ...]:
        """Return the blocks of all attempts that gave files, in the order printed."""
        return tuple(model for attempt in self.succeeded for model in attempt.models)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return the remarks of all attempts, each once."""
        return tuple(dict.fromkeys(line for attempt in self.attempts for line in attempt.remarks))


@dataclass(frozen=True)
class OperationLog:
    """A `.log` file: which file became which, and the operator table. `remarks` are lines that fit nowhere."""

    version: str | None
    input: str | None
    output: str | None
    rows: tuple[Row, ...] = ()
    remarks: tuple[str, ...] = ()


def size_bytes(text: str) -> int | None:
    """Return the bytes in `604.50KiB` (rounded to whole ones), None for a text that is no size."""
    found = _SIZE.fullmatch(text.strip())
    return None if found is None else round(Decimal(found[1]) * _UNITS[found[2]])


def size_text(count: int) -> str:
    """Return bytes as the compiler prints them: the largest unit that leaves at least 1, two digits."""
    unit = next((name for name in ("GiB", "MiB", "KiB") if count >= _UNITS[name]), "B")
    return f"{Decimal(count) / _UNITS[unit]:.2f}{unit}"


def version_in(text: str) -> str | None:
    """Return the compiler's version in a text, None where there is none."""
    found = _VERSION.search(text)
    return found[1] if found else None


def read(text: str) -> Printed:
    """Return what the compiler printed on stdout and stderr; a text that was cut gives what stood before the cut."""
    version, attempts = version_in(text), []
    draft = _Draft()
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if _VERSION.fullmatch(line):
            continue
        if draft.begun_anew_by(line):
            attempts.append(draft.attempt())
            draft = _Draft()
        draft.take(line)
    last = draft.attempt()
    return Printed(version, tuple(attempts if last == Attempt("unfinished") else [*attempts, last]))


def read_log(text: str) -> OperationLog:
    """Return what stands in a `.log` file; a row that was cut is a remark."""
    named: dict[str, str] = {}
    rows: list[Row] = []
    remarks: list[str] = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        label, separator, value = line.partition(": ")
        if separator and label in ("Input", "Output") and label not in named and not rows:
            named[label] = value.strip()
        elif found := _row(line):
            rows.append(found)
        elif not _HEADER.fullmatch(line) and not _VERSION.fullmatch(line):
            remarks.append(line)
    return OperationLog(version_in(text), named.get("Input"), named.get("Output"), tuple(rows), tuple(remarks))


def _row(line: str) -> Row | None:
    found = _ROW.fullmatch(line)
    if found is None or (found[3] != MAPPED and MAPPED.startswith(found[3])):  # torn: it would read as not mapped
        return None
    return Row(found[1], int(found[2]), found[3])


@dataclass
class _Draft:
    """An attempt that is being read."""

    facts: dict[str, Any] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    in_table: bool = False

    def begun_anew_by(self, line: str) -> bool:
        """Say whether a line belongs to the next attempt: what begins one, after this one has ended or had its own."""
        if _SEARCH.fullmatch(line):
            return bool(self.facts or self.blocks or self.outcome)
        if _TIMER.fullmatch(line):
            return "timeout_s" in self.facts or self.outcome is not None
        return bool(_DONE.fullmatch(line)) and "compile_ms" in self.facts

    def take(self, line: str) -> None:
        """Take in one line."""
        if self.in_table and (found := _row(line)):
            self.blocks[-1].setdefault("rows", []).append(found)
            return
        if self.blocks and _HEADER.fullmatch(line):
            self.in_table = True
            return
        self.in_table = False
        if line in _ENDINGS:
            self._end(line)
        elif found_timer := _TIMER.fullmatch(line):
            self.facts["timeout_s"] = int(found_timer[1])
        elif found_search := _SEARCH.fullmatch(line):
            self.facts["tried_operations"] = int(found_search[1])
        elif found_done := _DONE.fullmatch(line):
            self.facts |= {"several": found_done[1] == "Models", "compile_ms": int(found_done[2])}
        elif found_tensors := _TENSORS.fullmatch(line):
            self.facts["intermediate_tensors"] = tuple(found_tensors[1].split(","))
        elif not self._figure(line) and not line.startswith(_STANDING):
            self.remarks.append(line)

    def _end(self, line: str) -> None:
        worse = self.outcome in ("failed", "timeout")
        self.outcome = self.outcome if worse else _ENDINGS[line]
        if line not in ("Compilation succeeded!", "Compilation failed!"):
            self.remarks.append(line)

    def _figure(self, line: str) -> bool:
        """Take a `label: value` line of a model's block; say whether it was one."""
        label, separator, value = line.partition(": ")
        name = _FIGURES.get(label)
        if not separator or name is None:
            return False
        if name == "input":
            self.blocks.append({})
        if not self.blocks:
            return False
        known: Any = value if name in ("input", "output", "log") else size_bytes(value)
        if not name.endswith("_bytes") and name not in ("input", "output", "log"):
            known = int(value) if value.isdecimal() else None
        if known is None:
            return False  # cut in the middle of the number
        self.blocks[-1][name] = known
        return True

    def attempt(self) -> Attempt:
        """Return what was read. Versions before 16 print no ending: there a whole last block is the success."""
        models = tuple(Compiled(**{**block, "rows": tuple(block.get("rows", ()))}) for block in self.blocks)
        outcome = self.outcome
        if outcome is None:
            whole = bool(models) and models[-1].log is not None and "compile_ms" in self.facts
            outcome = "succeeded" if whole and "timeout_s" not in self.facts else "unfinished"
        return Attempt(outcome, models=models, remarks=tuple(self.remarks), **self.facts)


def printed(what: Printed) -> str:
    """Return the text that the compiler would print, so that reading it gives the same again."""
    return "\n".join(_lines(what)) + "\n"


def printed_log(log: OperationLog) -> str:
    """Return the text of a `.log` file."""
    lines = [f"Edge TPU Compiler version {log.version}"] if log.version else []
    lines += [f"{label}: {value}" for label, value in (("Input", log.input), ("Output", log.output)) if value]
    return "\n".join([*lines, *_table(log.rows), *log.remarks]) + "\n"


def _lines(what: Printed) -> Iterator[str]:
    if what.version:
        yield f"Edge TPU Compiler version {what.version}"
    for attempt in what.attempts:
        if attempt.tried_operations is not None:
            yield f"Try to compile segment with {attempt.tried_operations} ops"
        if attempt.intermediate_tensors:
            yield f"Intermediate tensors: {','.join(attempt.intermediate_tensors)}"
        if attempt.timeout_s is not None:
            yield f"Started a compilation timeout timer of {attempt.timeout_s} seconds."
        yield from (line for line in attempt.remarks if line not in _ENDINGS)
        if attempt.compile_ms is not None:
            yield from ("", f"Model{'s' * attempt.several} compiled successfully in {attempt.compile_ms} ms.")
        for model in attempt.models:
            yield from _block(model)
        yield from _ending(attempt)


def _block(model: Compiled) -> Iterator[str]:
    yield ""
    for label, name in _FIGURES.items():
        value = getattr(model, name)
        if name == "on_edgetpu" and value is not None and model.on_cpu:
            yield from ("", _PARTLY)
        if value is not None:
            yield f"{label}: {size_text(value) if name.endswith('_bytes') else value}"
    yield from _table(model.rows) if model.rows else ("See the operation log file for individual operation details.",)


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield from ("", f"{'Operator':<30} {'Count':<10} Status", "")
    for row in rows:
        yield f"{row.name:<30} {row.count:<10} {row.status}"


def _ending(attempt: Attempt) -> Iterator[str]:
    yield from (line for line in attempt.remarks if line in _ENDINGS)
    if attempt.timeout_s is None or attempt.outcome == "unfinished":
        return
    if attempt.outcome != "timeout":
        yield "Compilation child process completed within timeout period."
    yield "Compilation succeeded!" if attempt.outcome == "succeeded" else "Compilation failed!"
