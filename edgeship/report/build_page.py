"""The page about one build: a self-contained HTML file, made from the build's record and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from edgeship.artifact import Complexity, OperatorCost, Roofline
from edgeship.measurement import BenchRecord
from edgeship.report import bench_page, charts, edgetpu_figures, figures
from edgeship.report.app_program import program
from edgeship.report.page import environment
from edgeship.run import BuildRecord, Quality, TrainingSummary
from edgeship.run_devices import Failed
from edgeship.run_edgetpu import Forecast

_COSTLIEST = 10
_NOTHING = "-"
_EDGETPU_LIBRARY = "libedgetpu.so.1"


def render(
    record: BuildRecord,
    *,
    benches: Sequence[BenchRecord] = (),
    failed: Sequence[Failed] = (),
    compiled: Path | None = None,
) -> str:
    """Return the page as HTML text. It loads nothing: no network, no script, no font.

    Args:
        record: of the build.
        benches: of its artifact, one a device.
        failed: the devices that brought nothing back.
        compiled: a folder of the user's own that keeps the compiled template for the next process; most of the time
            that a page takes goes into compiling it.
    """
    drawn = charts.charts(
        roofline=record.roofline,
        reference_roofline=record.reference_roofline,
        histograms=record.histograms,
        training=record.training,
    )
    marked = {name: Markup(svg) for name, svg in drawn.items()}  # ours: no text of a user's is in them
    weights = [
        {"histogram": histogram, "chart": marked[f"weights:{index}"]}
        for index, histogram in enumerate(record.histograms)
    ]
    notes = [advice.text for advice in record.advice if advice.level == "note"]
    notes += [note for note in record.notes if note not in notes]
    if record.forecast is not None:  # has a section of its own
        notes = [note for note in notes if note not in record.forecast.suggestions]
    return environment(compiled).get_template("build.html.j2").render(
        record=record,
        charts=marked,
        weights=sorted(weights, key=_values, reverse=True),
        verdict=_verdict(record, benches),
        devices=bench_page.devices(benches),
        measured=_measured(benches),
        troubles=list(bench_page.troubles(benches, failed)),
        sections=list(_sections(record, notes, benches)),
        notes=notes,
        complexity=list(_complexity(record.reference_complexity, record.complexity)),
        costliest=_costliest(record.complexity),
        roofline=_roofline([roof for roof in (record.reference_roofline, record.roofline) if roof]),
        training=_training(record.training),
        edgetpu=_edgetpu(record.forecast),
        options=json.dumps(record.options, indent=2, ensure_ascii=False, default=str),
        artifact_name=Path(record.artifact).name,
        labelled=any(label != str(index) for index, label in enumerate(record.labels)),
        program=program(
            Path(record.artifact).name, record.inputs, record.outputs, record.labels,
            library=_EDGETPU_LIBRARY if record.compiler else None,
        ),
    )  # fmt: skip


def _verdict(record: BuildRecord, benches: Sequence[BenchRecord]) -> dict[str, Any]:
    """Return the verdict in words, and whether bars make sense for its metric; a device that computes wrongly is first."""
    quality = record.quality
    what = f"{quality.metric} {figures.quality(quality.reference, quality.metric)} → {figures.quality(quality.got, quality.metric)}"
    over = f"on {figures.count(quality.examples)} {'seeded random inputs' if quality.synthetic else 'examples'}"
    if quality.budget is None:
        kind, title, judged = "built", "Built", "No budget was set, so nothing could fail."
    elif quality.passed:
        kind, title = "passed", "Passed"
        judged = f"Within the budget: a drop of {figures.number(quality.budget)} was allowed."
    else:
        kind, title = "missed", "Missed the budget"
        judged = f"Over the budget: a drop of {figures.number(quality.budget)} was allowed."
    broken = [gate.gate.replace("_", " ") for gate in record.gates if gate.seen_by == "compiler" and not gate.passed]
    if broken and quality.passed:
        kind, title = "missed", "Missed a gate"
        judged += f" But the target's limit on {' and on '.join(broken)} is not kept."
    wrong = [bench.device for bench in benches if bench.golden.failed]
    if wrong and quality.passed:
        kind, title = "missed", "Golden check failed"
        judged += f" But the outputs on {', '.join(wrong)} are not this machine's."
    inside = all(0 <= value <= 1 for value in (quality.reference, quality.got))
    return {
        "kind": kind,
        "title": title,
        "sentence": f"{what} {over}: {_drop(quality)}. {judged}",
        "drop": _drop(quality),
        "bars": quality.metric in figures.SHARES and inside,
    }


def _drop(quality: Quality) -> str:
    if not quality.drop:
        return "unchanged"
    unit = " dB" if quality.metric in figures.DECIBELS else ""
    return f"{figures.number(abs(quality.drop))}{unit} {'worse' if quality.drop > 0 else 'better'}"


def _measured(benches: Sequence[BenchRecord]) -> dict[str, str] | None:
    """Return the latency on the devices as one of the page's first figures."""
    if not benches:
        return None
    simulated = sum(bench.simulated for bench in benches)
    if len(benches) == 1:
        (bench,) = benches
        name, value = figures.middle(bench.latency_ms)
        under = f"{name} on {bench.device}{', simulated' if simulated else ''}"
        return {"label": "Latency, measured", "shown": figures.latency_ms(value, bench.latency_ms), "under": under}
    found = [value for bench in benches if (value := figures.middle(bench.latency_ms)[1]) is not None]
    shown = f"{figures.ms(min(found))} to {figures.ms(max(found))}" if found else "not told"
    under = f"p50 on {len(benches)} devices{f', {simulated} simulated' if simulated else ''}"
    return {"label": "Latency, measured", "shown": shown, "under": under}


def _sections(record: BuildRecord, notes: Sequence[str], benches: Sequence[BenchRecord]) -> Iterator[tuple[str, str]]:
    """Yield the sections that this page has: id and title."""
    yield "quality", "Size and quality"
    if benches:
        yield ("devices", "On the devices") if len(benches) > 1 else ("device-1", f"On {benches[0].device}")
    if notes:
        yield "advice", "Advice and notes"
    yield "complexity", "Complexity"
    yield "roofline", "Roofline"
    yield "quantized", "Quantized"
    if record.forecast:
        yield "edgetpu", "On the Edge TPU"
    if record.layers:
        yield "layers", "Error by layer"
    if record.histograms:
        yield "weights", "Weights"
    if record.training:
        yield "training", "Fine-tuning"
    yield "operators", "Operators"
    yield "use", "Use it"
    yield "provenance", "How it was made"


def _complexity(before: Complexity, after: Complexity) -> Iterator[dict[str, str]]:
    def row(label: str, first: float, second: float, *, shown: Any) -> dict[str, str]:
        return {"label": label, "before": shown(first), "after": shown(second), "change": figures.change(second, first)}

    yield row("Parameters", before.parameters, after.parameters, shown=figures.short_count)
    yield row("Multiply-accumulates (MACs)", before.macs, after.macs, shown=figures.short_count)
    yield row("Weights", before.weight_bytes, after.weight_bytes, shown=figures.size)
    yield row("Bytes moved", before.bytes_moved, after.bytes_moved, shown=figures.size)
    yield row("Peak activation memory", before.peak_activation_bytes, after.peak_activation_bytes, shown=figures.size)
    zeros = {"before": figures.percent(before.sparsity), "after": figures.percent(after.sparsity), "change": ""}
    yield {"label": "Weights that are exactly zero", **zeros}


def _roofline(roofs: Sequence[Roofline]) -> list[dict[str, Any]]:
    rows: list[tuple[str, Callable[[Roofline], str]]] = [
        ("Time for arithmetic, at best", lambda roof: figures.ms(roof.compute_ms)),
        ("Time for memory, at best", lambda roof: figures.ms(roof.memory_ms)),
        ("Bound by", lambda roof: roof.bound_by),
        ("Operations a byte", lambda roof: f"{roof.intensity:.1f}"),
        ("… where the roofs meet", lambda roof: f"{roof.ridge:.1f}"),
        ("Peak arithmetic", lambda roof: f"{figures.number(roof.peak_gops)} Gop/s"),
        ("Peak memory", lambda roof: f"{figures.number(roof.memory_gb_per_s)} GB/s"),
    ]
    return [{"label": label, "shown": [shown(roof) for roof in roofs]} for label, shown in rows]


def _costliest(complexity: Complexity) -> list[OperatorCost]:
    ordered = sorted(complexity.operators, key=lambda cost: (-cost.macs, -cost.activation_bytes, cost.index))
    return ordered[:_COSTLIEST]


def _values(entry: Mapping[str, Any]) -> int:
    return sum(entry["histogram"].before)


def _training(training: TrainingSummary | None) -> dict[str, Any] | None:
    """Return a sentence on the training, and its tables."""
    if training is None:
        return None
    techniques = list(dict.fromkeys(str(row.get("technique", "training")) for row in training.history))
    rate = f" Learning rate {figures.number(training.learning_rate)}." if training.learning_rate is not None else ""
    summary = f"{figures.count(len(training.history))} epochs of {' and '.join(techniques) or 'nothing'}.{rate}"
    tables = [_table("Every epoch", training.history), _table("Every layer", training.layers)]
    return {"summary": summary, "tables": [table for table in tables if table]}


def _edgetpu(found: Forecast | None) -> dict[str, Any] | None:
    """Return what is forecast for the Edge TPU: the bars, the table and the words."""
    if found is None:
        return None
    count = sum(entry.on == "edgetpu" for entry in found.operators)
    return {
        "share": found.edgetpu_share,
        "mac_share": found.mac_share,
        "count": f"{count} of {len(found.operators)}",
        "parts": edgetpu_figures.parts(found),
        "parameters": f"{figures.size(found.parameter_bytes)}, {edgetpu_figures.memory(found)}",
        "rows": edgetpu_figures.rows(found.operators),
    }


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not rows:
        return None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(key, row.get(key)) for key in keys] for row in rows]
    return {"title": title, "heads": [key.replace("_", " ") for key in keys], "rows": cells}


def _cell(key: str, value: object) -> str:
    match value:
        case None:
            return _NOTHING
        case bool():
            return "yes" if value else "no"
        case int():
            return figures.count(value)
        case float():
            return figures.percent(value) if key == "sparsity" else figures.number(value)
        case list() | tuple():
            return ", ".join(str(part) for part in value) or _NOTHING
        case _:
            return str(value)
