"""The page about one build: a self-contained HTML file, made from the build's record and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from edgeship.artifact import Complexity, OperatorCost, Roofline
from edgeship.report import charts
from edgeship.report.app_program import program
from edgeship.run import BuildRecord, Port, Quality, TrainingSummary

_SHARES = frozenset({"top1", "agreement", "auc"})  # metrics between 0 and 1, where more is better
_DECIBELS = frozenset({"sqnr"})
_COSTLIEST = 10
_TIMES, _NOTHING = "\N{MULTIPLICATION SIGN}", "-"
_GOOD_DB, _POOR_DB, _FULL_DB = 20.0, 10.0, 50.0


def render(record: BuildRecord, *, compiled: Path | None = None) -> str:
    """Return the page as HTML text. It loads nothing: no network, no script, no font.

    Args:
        record: of the build.
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
    return _environment(compiled).get_template("build.html.j2").render(
        record=record,
        charts=marked,
        weights=sorted(weights, key=_values, reverse=True),
        verdict=_verdict(record.quality),
        sections=list(_sections(record, notes)),
        notes=notes,
        complexity=list(_complexity(record.reference_complexity, record.complexity)),
        costliest=_costliest(record.complexity),
        roofline=_roofline([roof for roof in (record.reference_roofline, record.roofline) if roof]),
        training=_training(record.training),
        options=json.dumps(record.options, indent=2, ensure_ascii=False, default=str),
        artifact_name=Path(record.artifact).name,
        labelled=any(label != str(index) for index, label in enumerate(record.labels)),
        program=program(Path(record.artifact).name, record.inputs, record.outputs, record.labels),
    )  # fmt: skip


@cache
def _environment(compiled: Path | None) -> Environment:
    if compiled is not None:
        compiled.mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=PackageLoader("edgeship.report"),
        autoescape=True,
        undefined=StrictUndefined,
        bytecode_cache=FileSystemBytecodeCache(str(compiled)) if compiled is not None else None,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": _breakable,
        "change": _change,
        "count": _count,
        "db_kind": _db_kind,
        "db_share": _db_share,
        "layer_name": _layer_name,
        "ms": _ms,
        "number": _number,
        "percent": _percent,
        "preprocessing": _preprocessing,
        "quality": _quality,
        "real_value": _real_value,
        "shape": _shape,
        "share": _share,
        "size": _size,
    }
    return environment


def _verdict(quality: Quality) -> dict[str, Any]:
    """Return the verdict in words, and whether bars make sense for its metric."""
    what = f"{quality.metric} {_quality(quality.reference, quality.metric)} → {_quality(quality.got, quality.metric)}"
    over = f"on {_count(quality.examples)} {'seeded random inputs' if quality.synthetic else 'examples'}"
    if quality.budget is None:
        kind, title, judged = "built", "Built", "No budget was set, so nothing could fail."
    elif quality.passed:
        kind, title = "passed", "Passed"
        judged = f"Within the budget: a drop of {_number(quality.budget)} was allowed."
    else:
        kind, title = "missed", "Missed the budget"
        judged = f"Over the budget: a drop of {_number(quality.budget)} was allowed."
    inside = all(0 <= value <= 1 for value in (quality.reference, quality.got))
    return {
        "kind": kind,
        "title": title,
        "sentence": f"{what} {over}: {_drop(quality)}. {judged}",
        "drop": _drop(quality),
        "bars": quality.metric in _SHARES and inside,
    }


def _drop(quality: Quality) -> str:
    if not quality.drop:
        return "unchanged"
    unit = " dB" if quality.metric in _DECIBELS else ""
    return f"{_number(abs(quality.drop))}{unit} {'worse' if quality.drop > 0 else 'better'}"


def _sections(record: BuildRecord, notes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the sections that this page has: id and title."""
    yield "quality", "Size and quality"
    if notes:
        yield "advice", "Advice and notes"
    yield "complexity", "Complexity"
    yield "roofline", "Roofline"
    yield "quantized", "Quantized"
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
        return {"label": label, "before": shown(first), "after": shown(second), "change": _change(second, first)}

    yield row("Parameters", before.parameters, after.parameters, shown=_short_count)
    yield row("Multiply-accumulates (MACs)", before.macs, after.macs, shown=_short_count)
    yield row("Weights", before.weight_bytes, after.weight_bytes, shown=_size)
    yield row("Bytes moved", before.bytes_moved, after.bytes_moved, shown=_size)
    yield row("Peak activation memory", before.peak_activation_bytes, after.peak_activation_bytes, shown=_size)
    zeros = {"before": _percent(before.sparsity), "after": _percent(after.sparsity), "change": ""}
    yield {"label": "Weights that are exactly zero", **zeros}


def _roofline(roofs: Sequence[Roofline]) -> list[dict[str, Any]]:
    rows: list[tuple[str, Callable[[Roofline], str]]] = [
        ("Time for arithmetic, at best", lambda roof: _ms(roof.compute_ms)),
        ("Time for memory, at best", lambda roof: _ms(roof.memory_ms)),
        ("Bound by", lambda roof: roof.bound_by),
        ("Operations a byte", lambda roof: f"{roof.intensity:.1f}"),
        ("… where the roofs meet", lambda roof: f"{roof.ridge:.1f}"),
        ("Peak arithmetic", lambda roof: f"{_number(roof.peak_gops)} Gop/s"),
        ("Peak memory", lambda roof: f"{_number(roof.memory_gb_per_s)} GB/s"),
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
    rate = f" Learning rate {_number(training.learning_rate)}." if training.learning_rate is not None else ""
    summary = f"{_count(len(training.history))} epochs of {' and '.join(techniques) or 'nothing'}.{rate}"
    tables = [_table("Every epoch", training.history), _table("Every layer", training.layers)]
    return {"summary": summary, "tables": [table for table in tables if table]}


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
            return _count(value)
        case float():
            return _percent(value) if key == "sparsity" else _number(value)
        case list() | tuple():
            return ", ".join(str(part) for part in value) or _NOTHING
        case _:
            return str(value)


def _preprocessing(how: Mapping[str, Any] | None) -> str:
    """Say how stored values become what the model eats."""
    if how is None:
        return "not stated"
    scale, offset = _numbers(how.get("scale"), 1.0), _numbers(how.get("offset"), 0.0)
    told = "stored value"
    if set(scale) != {1.0}:
        told += f" {_TIMES} {_listed(scale)}"
    if set(offset) != {0.0}:
        told += f" + {_listed(offset)}"
    reach = how.get("range")
    return f"{told}, which gives {_number(reach[0])} to {_number(reach[1])}" if reach else told


def _real_value(port: Port) -> str:
    """Return the formula that gives what a stored value means."""
    if port.scale is None:
        return "q itself"
    zero_point = port.zero_point or 0
    inner = f"(q {'-' if zero_point > 0 else '+'} {abs(zero_point)})" if zero_point else "q"
    return f"{_number(port.scale)} {_TIMES} {inner}"


def _shape(shape: Sequence[int]) -> str:
    return f" {_TIMES} ".join("any" if size < 0 else str(size) for size in shape) or "single value"


def _numbers(found: object, absent: float) -> list[float]:
    if isinstance(found, list | tuple):
        return [float(number) for number in found] or [absent]
    return [float(found)] if isinstance(found, int | float) else [absent]


def _listed(numbers: Sequence[float]) -> str:
    shown = ", ".join(_number(number) for number in numbers)
    return f"({shown})" if len(numbers) > 1 else shown


def _breakable(name: str) -> Markup:
    """Return a name that may break into lines after its slashes."""
    return Markup(str(escape(name)).replace("/", "/<wbr>"))


def _layer_name(name: str) -> Markup:
    """Return the first of the names that a converter joined by semicolons when it fused layers; the rest as a hint."""
    first, *others = name.split(";")
    if not others:
        return _breakable(name)
    return Markup('{} <span class="muted nowrap" title="{}">+{} fused</span>').format(
        _breakable(first), name, len(others)
    )


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _short_count(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f}"


def _number(value: float) -> str:
    """Return about four significant digits, without an exponent where none is needed."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _percent(share: float) -> str:
    """Return a share as a percentage; what is not quite all or nothing is not rounded to it."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def _quality(value: float, metric: str) -> str:
    if metric in _SHARES:
        return f"{value:.4f}"
    return f"{value:.1f} dB" if metric in _DECIBELS else _number(value)


def _size(size_bytes: float) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size_bytes >= 2**power:
            value = size_bytes / 2**power
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
    return f"{size_bytes:,.0f} B"


def _ms(value: float) -> str:
    if value >= 1:
        return f"{value:,.3g} ms" if value < 1000 else f"{value:,.0f} ms"
    return f"{1000 * value:.3g} µs"


def _change(after: float, before: float) -> str:
    """Return the change in words: a factor where it is large, else a percentage."""
    if not before or before == after:
        return "unchanged" if before == after else ""
    word = "smaller" if after < before else "larger"
    factor = max(before, after) / min(before, after) if after else 1
    if factor >= 1.1:
        return f"{factor:.1f}{_TIMES} {word}"
    return f"{100 * abs(after - before) / before:.1f} % {word}"


def _share(part: float, whole: float) -> float:
    return min(part / whole, 1.0) if whole else 0.0


def _db_share(sqnr_db: float) -> float:
    return min(max(sqnr_db / _FULL_DB, 0.0), 1.0) if math.isfinite(sqnr_db) else 0.0


def _db_kind(sqnr_db: float) -> str:
    if sqnr_db < _POOR_DB:
        return "low"
    return "middling" if sqnr_db < _GOOD_DB else ""
