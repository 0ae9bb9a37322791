"""Cutting a quantized model into segments for several Edge TPUs: weighed, written, chained on the host, and held to the whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgeship import (
    __version__,
    child,
    digest,
    edgetpu_rules,
    examples,
    flatbuffer,
    forecast,
    interpret,
    out_folder,
    quantized,
    segment_chain,
    segment_cuts,
    segment_files,
    segment_schedule,
    subject,
)
from edgeship import model as models
from edgeship import target as targets
from edgeship.errors import BadInput, unknown
from edgeship.flatbuffer import Graph
from edgeship.progress import OnProgress, silent
from edgeship.segment_chain import Chained
from edgeship.segment_cuts import Segment
from edgeship.segment_files import Content
from edgeship.segment_schedule import Link, Schedule
from edgeship.store import Store, home

RECORD = "segments.json"
TIMEOUT_S = 1800.0
_NO_FASTER = 1.2
_FLOAT = "the model is not int8 from end to end: its segments run on the host, and the Edge TPU takes none of them"
_EDGETPU = "edgetpu-custom-op"
_STATEFUL = frozenset(
    {"ASSIGN_VARIABLE", "CALL_ONCE", "HASHTABLE", "HASHTABLE_IMPORT", "READ_VARIABLE", "VAR_HANDLE"}
    | {"MULTINOMIAL", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM"}
)


@dataclass(frozen=True)
class SegmentOrder:
    """What the user asked for; what is None was not said."""

    model: str
    count: int
    target: str = "coral-usb"
    link: Link | None = None
    data: Path | None = None
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True)
class Traveller:
    """One tensor at a segment's edge. `origin` is "model" or a segment's number; `readers` are segments, or "model"."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int
    origin: str
    readers: tuple[str, ...]


@dataclass(frozen=True)
class SegmentRecord:
    """One segment's file and its load. `latency_ms` is an estimate; `weight_share` is of the whole model's weights.

    `cpu_operators` is the forecast of what of it stays on the CPU, by name.
    """

    file: str
    sha256: str
    operators: int
    weight_bytes: int
    weight_share: float
    streamed_bytes: int
    macs: int
    crossing_bytes: int
    latency_ms: float
    cpu_operators: Mapping[str, int]
    inputs: tuple[Traveller, ...]
    outputs: tuple[Traveller, ...]


@dataclass(frozen=True)
class SegmentsRecord:
    """A model in segments: what was written where, the check on the host, and the estimate of the pipeline."""

    model: str
    target: str
    folder: str
    on_chip_bytes: int
    segments: tuple[SegmentRecord, ...]
    schedule: Schedule
    check: Chained
    warnings: tuple[str, ...] = ()


def link(name: str | None) -> Link | None:
    """Return a link by its name, None for none.

    Raises:
        BadInput: there is no such link.
    """
    for known in segment_schedule.LINKS:
        if name == known:
            return known
    if name is not None:
        raise unknown("link", name, segment_schedule.LINKS, where="--link")
    return None


def folder(order: SegmentOrder) -> Path:
    """Return the folder that gets the segments."""
    if order.out is not None:
        return order.out
    return Path("build") / models.find(order.model).name / targets.read(order.target).name / f"segments-{order.count}"


def split(order: SegmentOrder, on_progress: OnProgress = silent) -> SegmentsRecord:
    """Cut a model into segments, prove that their chain is the model, and write them into a folder.

    Raises:
        BadInput: the model cannot be cut (compiled, open shapes, loops, a state that is shared), or the target has no
            Edge TPU, or the examples do not fit.
        NothingToDo: there are fewer places to cut.
        StageFailed: a segment does not run, or their chain is not the model; nothing was written.
    """
    target = targets.read(order.target)
    if target.accelerator is None:
        raise BadInput(f"{target.name}: has no Edge TPU", hint="targets that have one: coral-dev-board, coral-usb")
    model = models.find(order.model)
    graph = _checked(model.source, order.count)
    out = folder(order)
    stem = model.source.stem
    names = [f"{stem}_segment_{number}_of_{order.count}.tflite" for number in range(order.count)]
    out_folder.check_writable(out, (*names, RECORD), RECORD)
    chip = segment_schedule.chip(target.accelerator, order.link)
    name = str(model.source)
    segments = segment_cuts.cut(graph, order.count, chip, name=name)
    made = segment_files.contents(model.source, segments)
    with Store(home()) as store, store.scratch() as aside:
        parts = [aside / file for file in names]
        for path, part in zip(parts, made, strict=True):
            path.write_bytes(part.content)
        feed = _feed(order, model, graph, aside)
        log = store.log("segments")
        work = partial(segment_chain.check, name=name, model=model.source, parts=parts, feed=feed, seed=order.seed)
        check = child.run(work, log=log, on_progress=on_progress, timeout_s=TIMEOUT_S, memory_gib=interpret.MEMORY_GIB)
        single = segment_cuts.whole(graph, chip)
        pace = segment_schedule.schedule(chip, [segment.latency_ms for segment in segments], single.latency_ms)
        runtime = edgetpu_rules.runtime(forecast.runtime_of(target))
        stay = [forecast.forecast(flatbuffer.read(part), runtime=runtime).cpu_operators for part in parts]
        told = _told(graph, segments, made, names, stay, single.weight_bytes)
        doubts = _doubts(graph, order.count, single, pace)
        record = SegmentsRecord(name, target.name, str(out), chip.on_chip_bytes, told, pace, check, doubts)
        files: dict[str, Path | bytes] = {path.name: path for path in parts}
        out_folder.write(out, {**files, RECORD: _as_bytes(record)}, RECORD)
    return record


def _doubts(graph: Graph, count: int, single: Segment, pace: Schedule) -> tuple[str, ...]:
    """Return what speaks against running these segments."""
    doubts = [] if quantized.scheme(graph) == "int8" else [_FLOAT]
    gain = pace.throughput_per_s / pace.single_throughput_per_s
    if gain < _NO_FASTER:
        why = "its weights fit on one chip" if not single.streamed_bytes else "its largest piece cannot be cut"
        doubts.append(
            f"{count} chips in a row are estimated to give {gain:.2f} times the results of one, since {why}: "
            f"the whole model on each of {count} chips gives {count} times as many"
        )
    return tuple(doubts)


def contract(record: SegmentsRecord) -> dict[str, Any]:
    """Return the record as JSON values: what `segments.json` holds and `--json` prints."""
    table: dict[str, Any] = json.loads(json.dumps(asdict(record)))
    return {"edgeship": __version__, **table}


def _as_bytes(record: SegmentsRecord) -> bytes:
    return (json.dumps(contract(record), indent=1) + "\n").encode()


def _checked(source: Path, count: int) -> Graph:
    """Return the graph, having refused what cannot be cut."""
    if count < 2:
        raise BadInput(f"--segments {count}: a pipeline has two segments or more")
    if source.is_dir() or not flatbuffer.recognizes(source):
        raise BadInput(
            f"{source}: not a TFLite file; segments are cut from one",
            hint=f"make it first: edgeship build {source} --target coral-usb",
        )
    graph = flatbuffer.read(source)
    main = graph.main
    if any(operator.name == _EDGETPU for operator in main.operators):
        raise BadInput(f"{source}: is compiled for the Edge TPU already", hint="cut the file that it was compiled from")
    if len(graph.subgraphs) > 1:
        raise BadInput(
            f"{source}: holds {len(graph.subgraphs)} graphs (loops, branches or several entries); one can be cut",
            hint="export the model without control flow",
        )
    for tensor in (main.tensors[index] for operator in main.operators for index in operator.outputs if index >= 0):
        if any(size < 0 for size in tensor.shape_signature[1:]):
            raise BadInput(
                f"{source}: tensor '{tensor.name}' has open dimensions {tensor.shape_signature}; the Edge TPU takes fixed ones",
                hint=f"fix them first: edgeship build {source} --target coral-usb --shape NAME:1,…",
            )
    stateful = next((operator.name for operator in main.operators if operator.name in _STATEFUL), None)
    if stateful is not None:
        raise BadInput(f"{source}: holds a state or chance ({stateful}) that segments on several chips cannot share")
    return graph


def _feed(order: SegmentOrder, model: models.Model, graph: Graph, aside: Path) -> Path | None:
    """Write the user's examples as the model eats them, None when there are none."""
    given = subject.given(model, order.data, (), order.scale, order.offset)
    if given.data is None:
        return None
    specs = graph.interface.inputs
    matched = examples.matched(given.data, specs, given.preparation)
    ready = examples.prepared(matched, specs, given.preparation)
    return examples.write(aside / "feed.npz", {spec.name: ready[spec.name] for spec in specs}, matched)


def _told(
    graph: Graph,
    segments: tuple[Segment, ...],
    made: tuple[Content, ...],
    names: list[str],
    stay: list[Mapping[str, int]],
    weight_bytes: int,
) -> tuple[SegmentRecord, ...]:
    """Return each segment in the words of the record."""
    source = {name: number for number, part in enumerate(made) for name in part.outputs}
    told = []
    for number, (segment, part, file) in enumerate(zip(segments, made, names, strict=True)):
        entering = [
            _traveller(graph, index, name, str(source[name]) if number and name in source else "model",
                       (str(number),))
            for index, name in zip(segment.inputs, part.inputs, strict=True)
        ]  # fmt: skip
        leaving = [
            _traveller(graph, index, name, str(number), _readers(made, number, name))
            for index, name in zip(segment.outputs, part.outputs, strict=True)
        ]
        told.append(
            SegmentRecord(
                file=file,
                sha256=digest.of_bytes(part.content),
                operators=len(segment.operators),
                weight_bytes=segment.weight_bytes,
                weight_share=segment.weight_bytes / weight_bytes if weight_bytes else 0.0,
                streamed_bytes=segment.streamed_bytes,
                macs=segment.macs,
                crossing_bytes=segment.crossing_bytes,
                latency_ms=segment.latency_ms,
                cpu_operators=dict(stay[number]),
                inputs=tuple(entering),
                outputs=tuple(leaving),
            )
        )
    return tuple(told)


def _readers(made: tuple[Content, ...], number: int, name: str) -> tuple[str, ...]:
    later = tuple(str(place) for place, part in enumerate(made) if place > number and name in part.inputs)
    return later if number < len(made) - 1 else ("model",)


def _traveller(graph: Graph, index: int, name: str, origin: str, readers: tuple[str, ...]) -> Traveller:
    tensor = graph.main.tensors[index]
    return Traveller(name, tensor.shape, tensor.dtype, tensor.size_bytes, origin, readers)
