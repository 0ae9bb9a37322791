"""The page about benches: what each device brought back, made from the records and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from markupsafe import Markup

from edgeship import __version__
from edgeship.measurement import BenchRecord, Golden, Memory, Operator
from edgeship.report import bench_charts, conditions, figures
from edgeship.report.page import environment
from edgeship.run import Quality
from edgeship.run_devices import Failed

_MOST_OPERATORS, _NBSP = 15, "\N{NO-BREAK SPACE}"
_OVER = {"local": "on this machine", "ssh": "over ssh", "adb": "over adb", "virtual": "as a virtual board"}


@dataclass(frozen=True)
class Mark:
    """A word that stands beside a name; its kind is its colour."""

    kind: str
    text: str


def render(*records: BenchRecord, failed: Sequence[Failed] = (), compiled: Path | None = None) -> str:
    """Return the page of one bench, or of several side by side, as HTML text. It loads nothing.

    Args:
        records: of the devices that brought something back.
        failed: the other devices.
        compiled: a folder that keeps the compiled templates for the next process.
    """
    template = environment(compiled).get_template("bench.html.j2")
    return template.render(
        devices=devices(records),
        verdict=verdict(records, failed),
        troubles=list(troubles((), failed)),  # a record tells its own below
        artifacts={record.artifact_sha256: record.artifact for record in records},
        names=[*(record.device for record in records), *(one.device for one in failed)],
        edgeship=__version__,
        made=max((record.made for record in records), default=""),
    )


def devices(records: Sequence[BenchRecord]) -> list[dict[str, Any]]:
    """Return what the templates need of each bench; the drawings in it are marked as safe."""
    slowest = max((figures.middle(record.latency_ms)[1] or 0.0 for record in records), default=0.0)
    return [_device(record, f"device-{place}", slowest) for place, record in enumerate(records, start=1)]


def verdict(records: Sequence[BenchRecord], failed: Sequence[Failed] = ()) -> dict[str, str]:
    """Return the verdict over all benches: kind, title and sentence."""
    wrong = [record for record in records if record.golden.failed]
    doubtful = [record for record in records if not record.valid]
    kind = "missed" if wrong or not records else "doubtful" if doubtful or failed else "passed"
    if len(records) != 1 or failed:
        counts = {"brought nothing back": failed, "golden check failed": wrong, "not valid": doubtful}
        told = ", ".join(f"{len(those)} {what}" for what, those in counts.items() if those)
        count = len(records) + len(failed)
        title = f"{count} device{'s' * (count != 1)}"
        return {"kind": kind, "title": title, "sentence": f"{told or 'All golden checks passed, all valid'}."}
    (record,) = records
    title = {"missed": "Golden check failed", "doubtful": "Not valid", "passed": "Measured"}[kind]
    interval, (name, value) = figures.interval_ms(record.latency_ms), figures.middle(record.latency_ms)
    sentence = (
        f"{name} {figures.latency_ms(value, record.latency_ms)}{' (simulated)' if record.simulated else ''}"
        f"{f', 95 % interval {interval}' if interval else ''}, {figures.count(record.latency_ms.runs)} runs. "
        f"{'Its outputs are wrong' if record.golden.failed else f'Golden check {record.golden.word}'}; "
        f"{'valid' if record.valid else 'not valid: ' + '; '.join(record.reasons)}."
    )
    return {"kind": kind, "title": title, "sentence": sentence}


def troubles(records: Sequence[BenchRecord], failed: Sequence[Failed]) -> Iterator[tuple[str, str]]:
    """Yield what may not be missed on any page that shows these benches: on which device, and what."""
    for one in failed:
        yield one.device, f"brought nothing back: {one.error.message.removeprefix(f'{one.device}: ')}"
    for record in records:
        if record.golden.failed:
            yield record.device, f"the golden check failed: {_golden(record.golden)}"
        if not record.valid:
            yield record.device, f"not valid: {'; '.join(record.reasons)}"


def marks(record: BenchRecord) -> list[Mark]:
    """Return the verdicts on one bench in a word each."""
    kind = "good" if record.golden.passed else "bad" if record.golden.failed else "doubt"
    golden = Mark(kind, f"golden check {record.golden.word}")
    valid = Mark("good", "valid") if record.valid else Mark("bad", "not valid")
    return [*([Mark("simulated", "simulated")] if record.simulated else []), golden, valid]


def _device(record: BenchRecord, anchor: str, slowest_ms: float) -> dict[str, Any]:
    surroundings = record.conditions
    shown = {name: draw(record) for name, draw in bench_charts.CHARTS.items()}
    silent = conditions.untold(surroundings)
    return {
        "record": record,
        "anchor": anchor,
        "marks": marks(record),
        "intro": _intro(record),
        "simulated": _simulated(record),
        "figures": list(_figures(record)),
        "charts": {name: Markup(drawn) for name, drawn in shown.items() if drawn},  # no text of a user's is in them
        "spread": _spread(record),
        "held_back": bench_charts.was_held_back(surroundings),
        "silent": f"This board does not tell its {_listed(silent)}." if silent else "",
        "memory": _memory(record.memory) if record.memory else [],
        "operators": _operators(record.operators or ()),
        "golden": _golden(record.golden),
        "quality": _quality(record.quality),
        "conditions": conditions.rows(surroundings),
        "board": conditions.board_facts(surroundings.board),
        "relative": figures.share(figures.middle(record.latency_ms)[1] or 0.0, slowest_ms),
    }


def _intro(record: BenchRecord) -> str:
    """Say in one sentence what ran where."""
    run, around = record.runtime, record.conditions
    version = f" {run.version}" if run.version else ""
    how = f" ({run.delegate})" if run.delegate else ""
    threads = f"{around.threads} thread{'s' * (around.threads != 1)}"
    cores = (
        f" on core{'s' * (len(around.cpus) != 1)} {_listed([str(cpu) for cpu in around.cpus])}" if around.cpus else ""
    )
    batch = f", batches of {around.batch}" if around.batch != 1 else ""
    return f"{record.target} {_OVER.get(record.transport, record.transport)}, {run.name}{version}{how}, {threads}{cores}{batch}"


def _simulated(record: BenchRecord) -> str:
    if not record.simulated:
        return ""
    how = "Times are counted from the instructions that ran." if record.conditions.counted else "The board is emulated."
    missing = record.conditions.unmodelled
    return f"{how} Not modelled: {_listed(missing)}." if missing else how


def _figures(record: BenchRecord) -> Iterator[dict[str, str]]:
    """Yield the figures of the run: label, value, what is said under it; `absent` for a value that is none."""
    latency, batch = record.latency_ms, record.conditions.batch
    interval, (name, value) = figures.interval_ms(latency), figures.middle(latency)
    yield _figure(
        name + (f" of {batch} examples" if batch != 1 else ""),
        figures.latency_ms(value, latency),
        f"95 % interval {interval}" if interval else "no interval: the tool keeps no samples",
    )
    for name in ("p90", "p99"):
        absent = getattr(latency, name) is None
        yield _figure(name, figures.percentile_ms(name, latency), "", absent=absent)
    yield _figure("Shortest", figures.latency_ms(latency.min, latency))
    yield _figure("Longest", figures.latency_ms(latency.max, latency))
    yield _figure("Variation", figures.variation(latency.cv), f"standard deviation by mean, {figures.latency_ms(latency.mean, latency)}")  # fmt: skip
    yield _figure("Runs", figures.count(latency.runs), _before_them(record))
    yield _figure("Initialization", *_told_ms(record.init_ms))
    yield _figure("First inference", *_told_ms(record.first_inference_ms))
    if batch != 1:
        rate = f"{figures.number(1e3 * batch / value)} a second" if value else "not told"
        yield _figure("Throughput", rate, f"examples, at the {'median' if name == 'p50' else name}")
    elif record.memory:
        yield _figure("Peak memory", figures.mib(record.memory.peak_rss_mib), "in a run of its own")
    else:
        yield _figure("Peak memory", "not told", absent=True)


def _figure(label: str, value: str, under: str = "", *, absent: bool = False) -> dict[str, str]:
    return {"label": label, "value": value, "under": under, "absent": "absent" if absent or value == "not told" else ""}


def _told_ms(value: float | None) -> tuple[str]:
    return ("not told" if value is None else figures.ms(value),)


def _before_them(record: BenchRecord) -> str:
    if not record.warmup_ms:
        return "the warm-up is not told"
    seconds = sum(record.warmup_ms) / 1e3
    return f"after {figures.count(len(record.warmup_ms))} to warm up, {figures.number(round(seconds, 1))}{_NBSP}s"


def _spread(record: BenchRecord) -> str:
    """Say what stands in the place of a histogram, or under it."""
    samples = record.samples_ms
    if samples is None:
        return f"No histogram: {record.runtime.name} keeps aggregates, no samples."
    if len(samples) < 2:
        return "No histogram: there is one sample."
    if not max(samples) - min(samples) > 1e-6:
        return f"All {figures.count(len(samples))} samples took the same time to the nanosecond."
    return ""


def _memory(memory: Memory) -> list[dict[str, Any]]:
    """Return a bar for each figure of memory that is known, against the largest."""
    parts = [
        ("peak", memory.peak_rss_mib, ""),
        ("anonymous", memory.anonymous_mib, ""),
        ("proportional", memory.proportional_mib, ""),
        ("runtime alone", memory.bare_mib, "before"),
        ("the model's share", memory.model_mib, ""),
    ]
    known = [(name, value, kind) for name, value, kind in parts if value is not None]
    largest = max((value for _, value, _ in known), default=0.0)
    return [
        {"label": name, "share": figures.share(value, largest), "text": figures.mib(value), "kind": kind}
        for name, value, kind in known
    ]


def _operators(operators: Sequence[Operator]) -> dict[str, Any]:
    """Return the costliest operators, what the rest costs together, and the largest share for the bars."""
    ordered = sorted(operators, key=lambda operator: -operator.ms)
    rest = ordered[_MOST_OPERATORS:]
    together = Operator(f"{len(rest)} more", sum(each.ms for each in rest), sum(each.share for each in rest))
    return {
        "top": ordered[:_MOST_OPERATORS],
        "rest": rest,
        "together": together,
        "largest": max((operator.share for operator in ordered), default=0.0),
        "decimals": 3 - math.floor(math.log10(ordered[0].ms)) if ordered and ordered[0].ms > 0 else 3,
    }


def _golden(golden: Golden) -> str:
    """Say how the device's outputs were held against the host's."""
    inputs = f"{figures.count(golden.checked)} input{'s' * (golden.checked != 1)}"
    steps = ""
    if golden.max_steps is not None:
        steps = f", {golden.max_steps} quantization step{'s' * (golden.max_steps != 1)}"
    told = f"{inputs}, largest error {figures.number(golden.max_abs_error)}{steps}."
    return f"{told} {golden.why}" if golden.why else told


def _quality(found: object) -> dict[str, str] | None:
    """Return the quality on the device in words, from a record of it or its JSON form."""
    if isinstance(found, Mapping):
        table: dict[str, Any] = {field.name: found.get(field.name) for field in fields(Quality)}
        found = Quality(**table)
    if not isinstance(found, Quality):
        return None
    over = "seeded random inputs" if found.synthetic else "examples"
    budget = "" if found.budget is None else f"; a drop of {figures.number(found.budget)} was allowed"
    return {
        "kind": "" if found.passed else "bad",
        "sentence": f"{found.metric} {figures.quality(found.reference, found.metric)} → {figures.quality(found.got, found.metric)} "
        f"on {figures.count(found.examples)} {over}{budget}. {'' if found.passed else 'Missed.'}",
    }


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
