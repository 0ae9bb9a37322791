"""Which operations of a file will run on the Edge TPU, and why not the others: foretold without the compiler.

The compiler is a TFLite delegate: it takes the operations that it maps in the order of the file, as far as they need nothing that is
computed behind an operation that it does not map; by default it makes one custom operation of the first such part and leaves the rest.
See google-coral/edgetpu issue 461 and TensorFlow Lite's graph_info.cc, PartitionGraphIntoIndependentNodeSubsets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeship import complexity as counting
from edgeship import edgetpu_cures, edgetpu_rules
from edgeship.edgetpu_conditions import EIGHT_BITS, Case
from edgeship.edgetpu_rules import Finding
from edgeship.errors import BadInput
from edgeship.flatbuffer import Graph, Subgraph
from edgeship.run_edgetpu import Forecast, Placement, weakest
from edgeship.target import Accelerator, Target

_MIB = 2**20
_PADDED = 1.35
_CROWDED = (
    "https://github.com/ultralytics/ultralytics/issues/4719: compiler 16.0 stops after 13 operations of YOLOv8s at 640x640, and maps "
    "the smaller YOLOv8n whole (4754); https://github.com/google-coral/edgetpu/issues/512: large activation tensors in model (2023-09-28)"
)
_STATIC_ONLY = "https://github.com/google-coral/edgetpu/issues/586 and 829: a delegate that only supports static-sized tensors (2022-05-06)"
# Where an operation's own shape hangs on an input's value: computed there, it is dynamic for the compiler.
_SHAPING = {
    "RESHAPE": (1,), "RESIZE_BILINEAR": (1,), "RESIZE_NEAREST_NEIGHBOR": (1,), "PAD": (1,), "PADV2": (1,), "TILE": (1,),
    "SLICE": (1, 2), "STRIDED_SLICE": (1, 2, 3), "FILL": (0,), "BROADCAST_TO": (1,), "TRANSPOSE_CONV": (0,), "RANGE": (0, 1, 2),
    "MEAN": (1,), "SUM": (1,), "REDUCE_MAX": (1,), "REDUCE_MIN": (1,), "TRANSPOSE": (1,), "EXPAND_DIMS": (1,),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Part:
    """Operations that the compiler would make one custom operation of (`mapped`), or leave side by side."""

    mapped: bool
    operators: tuple[int, ...]


def check(graph: Graph, path: Path | str) -> None:
    """Refuse a file that no Edge TPU could have a part in.

    Raises:
        BadInput: nothing in it computes in 8 bits, or an input's size is open; the text starts with the file.
    """
    build = "edgeship build MODEL --target coral-usb makes an 8-bit file of it"
    cases = [Case(operator, graph.main) for operator in graph.main.operators]
    if not cases:
        raise BadInput(f"{path}: holds no operations")
    if not any(tensor.dtype in EIGHT_BITS for case in cases for tensor in (*case.activations, *case.outputs)):
        kinds = sorted({tensor.dtype for case in cases for tensor in case.activations})
        what = " and ".join(kinds) or "constants"
        raise BadInput(f"{path}: computes in {what}, and the Edge TPU takes only fully 8-bit models", hint=build)
    for spec in graph.interface.inputs:
        if any(size < 0 for size in spec.shape[1:]):
            shape = ",".join("?" if size < 0 else str(size) for size in spec.shape)
            raise BadInput(
                f"{path}: the input '{spec.name}' has open sizes ({shape}), and the Edge TPU takes only fixed ones",
                hint=f"build it with them set, as --shape {spec.name}:1,…",
            )


def forecast(
    graph: Graph, *, chip: Accelerator | None = None, runtime: int | None = None, several_subgraphs: bool = False
) -> Forecast:
    """Return where each operation is expected to run.

    Args:
        graph: of the 8-bit file before the compiler; its main subgraph is meant.
        chip: whose memory the parameters have to fit; without one nothing is said of that.
        runtime: that the file is compiled for, the newest by default.
        several_subgraphs: the compiler may make several custom operations (its option -a).

    Raises:
        BadInput: nothing is known of the runtime.
    """
    runtime = edgetpu_rules.runtime(runtime)
    main = graph.main
    refused = _unreadable(main)
    found = [_judged(Case(operator, main), runtime) for operator in main.operators]
    if refused is not None:
        found = [refused if finding.maps else finding for finding in found]
    cut = parts(main, [finding.maps for finding in found])
    possible = [part for part in cut if part.mapped]
    chosen = possible if several_subgraphs else possible[:1]
    placed = _placed(main, found, {index for part in chosen for index in part.operators})
    alive_bytes = counting.alive_bytes(main, counting.constant_origins(main))
    if chip is not None:
        placed = _crowded(placed, alive_bytes, chip)
    mapped = [entry.index for entry in placed if entry.on == "edgetpu"]
    cost = counting.complexity(graph)
    parameter_bytes = _parameter_bytes(main, mapped)
    fits = _fits(parameter_bytes, max((alive_bytes[index] for index in mapped), default=0), chip)
    room = edgetpu_cures.Room(parameter_bytes, fits, chip)
    told = edgetpu_cures.suggestions(main, placed, room, len(possible) - len(chosen))
    if refused is not None:
        told = (edgetpu_cures.of_file(refused.cure or "", refused.reason),)
    return Forecast(
        operators=placed,
        edgetpu_share=len(mapped) / len(placed) if placed else 0.0,
        subgraphs=len(chosen),
        cpu_operators=dict(Counter(entry.name for entry in placed if entry.on == "cpu").most_common()),
        parameter_bytes=parameter_bytes,
        fits_on_chip=fits,
        suggestions=told,
        compiler=None,
        mac_share=sum(cost.operators[index].macs for index in mapped) / cost.macs if cost.macs else 0.0,
        possible_subgraphs=len(possible),
        runtime=runtime,
        refused=refused.reason if refused else None,
    )


def of_target(graph: Graph, target: Target) -> Forecast | None:
    """Return the forecast for a target's Edge TPU and its runtime, None where it has none."""
    chip = target.accelerator
    if chip is None or chip.kind != "edgetpu":
        return None
    return forecast(graph, chip=chip, runtime=runtime_of(target))


def runtime_of(target: Target) -> int | None:
    """Return the number of the Edge TPU runtime that a target has, None where its file does not say."""
    return next((one.delegate_runtime for one in target.runtimes if one.delegate), None)


def _judged(case: Case, runtime: int) -> Finding:
    """Return the finding that decides: the first that keeps it on the CPU, else that it maps, as sure as its doubts leave it."""
    findings = list(edgetpu_rules.findings(case, runtime))
    if not findings[0].maps:
        return findings[0]
    sure = weakest(*(finding.confidence for finding in findings))
    return next(finding for finding in findings if finding.confidence == sure)


def _unreadable(main: Subgraph) -> Finding | None:
    """Return why the compiler would not read the file at all, or None."""
    release = edgetpu_rules.compiler()
    highest = release.highest()
    for operator in main.operators:
        rule, source = "unreadable", f"{release.source} ({release.date})"
        cure = "build it again from its source with recipe int8, whose quantizer writes old versions of operations"
        computed = _computed_shape(Case(operator, main))
        if operator.custom and operator.name not in release.custom:
            why = f"compiler {release.name} does not know the custom operation {operator.name}"
            cure = "leave the custom operation out of the file and compute it in the app"
        elif not operator.custom and operator.name not in highest:
            why = f"compiler {release.name} is older than {operator.name}"
        elif not operator.custom and operator.version > highest[operator.name]:
            why = f"compiler {release.name} reads {operator.name} up to version {highest[operator.name]}, and this is version {operator.version}"
        elif computed is not None:
            why = f"{operator.name} takes its shape from '{computed}', which is computed"
            cure = "fix the batch and all sizes before converting, so that no shape is computed"
            rule, source = "dynamic", _STATIC_ONLY
        else:
            continue
        return Finding(False, rule, f"{why}: it refuses the whole file", release.confidence, source, cure)
    return None


def _computed_shape(case: Case) -> str | None:
    """Return the name of a computed input that an operation's shape hangs on, or None."""
    for place in _SHAPING.get(case.operator.name, ()):
        tensor = case.input(place)
        if tensor is not None and not tensor.constant:
            return tensor.name
    return None


def parts(main: Subgraph, maps: Sequence[bool]) -> list[Part]:
    """Return the parts in the order in which they run, as TensorFlow Lite cuts a graph for a delegate.

    A part takes, in file order, every operation of its kind all of whose inputs are there, until none is left; the next part
    is of the kind of the first operation that is ready then.
    """
    made = {index for operator in main.operators for index in operator.outputs}
    ready = set(range(len(main.tensors))) - made
    waiting, found = list(range(len(main.operators))), list[Part]()
    while waiting:
        kind: bool | None = None
        taken: list[int] = []
        left: list[int] = []
        for position in waiting:
            operator = main.operators[position]
            able = all(index < 0 or index in ready for index in operator.inputs)
            if able and kind in (None, maps[position]):
                kind = maps[position]
                taken.append(position)
                ready.update(operator.outputs)
            else:
                left.append(position)
        if not taken:  # a file whose operations wait for one another: what is left runs nowhere
            found.append(Part(False, tuple(left)))
            break
        found.append(Part(bool(kind), tuple(taken)))
        waiting = left
    return found


def _placed(main: Subgraph, found: Sequence[Finding], mapped: set[int]) -> tuple[Placement, ...]:
    """Return every operation's place; what maps but is left out is told which operation stands before it."""
    blocked: dict[
        int, int
    ] = {}  # tensor → the operation on the CPU that its value comes from, once the Edge TPU has had its part
    after: set[int] = set()  # tensors that come from the Edge TPU
    placed: list[Placement] = []
    for operator, finding in zip(main.operators, found, strict=True):
        behind = next((blocked[index] for index in operator.inputs if index in blocked), None)
        on_chip = operator.index in mapped
        entry = Placement(
            operator.index, operator.name, "edgetpu" if on_chip else "cpu", finding.reason, finding.confidence,
            finding.rule, finding.source, cure=finding.cure if finding.rule else None,
        )  # fmt: skip
        if finding.maps and not on_chip:
            entry = _left_out(entry, placed[behind] if behind is not None else None)
        placed.append(entry)
        if on_chip or any(index in after for index in operator.inputs):
            after.update(operator.outputs)
            cause = behind if finding.maps else operator.index
            if not on_chip and cause is not None:
                blocked.update(dict.fromkeys(operator.outputs, cause))
    return tuple(placed)


def _crowded(placed: Sequence[Placement], alive_bytes: Sequence[int], chip: Accelerator) -> tuple[Placement, ...]:
    """Return the places with less confidence from the first operation on at which more is alive than the chip has memory for."""
    room = chip.on_chip_mib * _MIB
    over = [entry.index for entry in placed if entry.on == "edgetpu" and alive_bytes[entry.index] > room]
    if not over:
        return tuple(placed)
    reason = f"tensors of {alive_bytes[over[0]] / _MIB:.1f} MiB are alive at operation {over[0]}, more than the chip has memory for"
    return tuple(
        replace(entry, confidence="unknown", rule="crowded", reason=reason, source=_CROWDED)
        if entry.on == "edgetpu" and entry.index >= over[0]
        else entry
        for entry in placed
    )


def _left_out(entry: Placement, before: Placement | None) -> Placement:
    if before is None:
        reason = "the compiler closes its one part of the graph before it comes to this operation"
        return replace(entry, reason=reason, confidence="likely", rule="other_part")
    reason = f"comes after operation {before.index} ({before.name}), which stays on the CPU"
    confidence = weakest(entry.confidence, before.confidence)
    return replace(
        entry, reason=reason, confidence=confidence, rule="behind", behind=before.index, source=before.source
    )


def _parameter_bytes(main: Subgraph, mapped: Iterable[int]) -> int:
    """Return the bytes of the constants that the mapped operations compute with, each once."""
    found = {}
    for position in mapped:
        for tensor in Case(main.operators[position], main).inputs:
            if tensor.constant and tensor.quantization is not None:
                found[tensor.index] = tensor.size_bytes
    return sum(found.values())


def _fits(parameter_bytes: int, activation_bytes: int, chip: Accelerator | None) -> bool | None:
    """Say whether the parameters are cached on the chip.

    Activations take their share of the same memory, and how much, only the compiler knows (one 4 MB model cached 604 KiB:
    https://github.com/google-coral/edgetpu/issues/572): what fits beside all of them fits. The compiler pads parameters: in the
    vendor's test files, those past 100 KB took 1.12 to 1.33 times their size.
    """
    if chip is None:
        return None
    room = chip.on_chip_mib * _MIB
    if parameter_bytes > room:
        return False
    return True if _PADDED * parameter_bytes + activation_bytes <= room else None
