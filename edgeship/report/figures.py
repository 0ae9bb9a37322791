"""How numbers, names and shapes are written on a page: units, and no more digits than are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from edgeship.measurement import Latency
from edgeship.run import Port

SHARES = frozenset({"top1", "agreement", "auc"})  # metrics between 0 and 1, where more is better
DECIBELS = frozenset({"sqnr"})
FLOORS = {"p90": 64, "p99": 662}  # samples below which a percentile is not stated (MLPerf's early stopping)
_TIMES = "\N{MULTIPLICATION SIGN}"
_GOOD_DB, _POOR_DB, _FULL_DB = 20.0, 10.0, 50.0
_FINEST, _MOST_DIGITS = 6, 5  # a nanosecond in milliseconds; no board repeats better than to five digits


def count(value: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,.0f}"


def short_count(value: float) -> str:
    """Return a count in thousands, millions or billions."""
    for unit, size_of_one in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size_of_one:
            return f"{value / size_of_one:.1f} {unit}"
    return f"{value:.0f}"


def number(value: float) -> str:
    """Return about four significant digits, without an exponent where none is needed."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def percent(share_of_all: float) -> str:
    """Return a share as a percentage; what is not quite all or nothing is not rounded to it."""
    if 0 < share_of_all < 0.001:
        return "under 0.1 %"
    if 0.999 < share_of_all < 1:
        return "over 99.9 %"
    return f"{100 * share_of_all:.1f} %".replace(".0 %", " %")


def variation(cv: float | None) -> str:
    """Return a coefficient of variation as a percentage of two significant digits."""
    if cv is None or not math.isfinite(cv):
        return "not told"
    return f"{100 * cv:.{max(0, 1 - math.floor(math.log10(100 * cv)))}f} %" if 1e-6 <= cv < 1 else f"{100 * cv:.0f} %"


def quality(value: float, metric: str) -> str:
    """Return a metric's value as it is usually told."""
    if metric in SHARES:
        return f"{value:.4f}"
    return f"{value:.1f} dB" if metric in DECIBELS else number(value)


def size(size_bytes: float) -> str:
    """Return bytes in the unit that reads well (powers of 1024)."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size_bytes >= 2**power:
            value = size_bytes / 2**power
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
    return f"{size_bytes:,.0f} B"


def mib(memory_mib: float | None) -> str:
    """Return mebibytes with about three digits."""
    if memory_mib is None:
        return "not told"
    return f"{memory_mib:,.0f} MiB" if memory_mib >= 100 else f"{memory_mib:.1f} MiB"


def ms(value: float) -> str:
    """Return milliseconds with three digits, as microseconds where they are few."""
    if value >= 1:
        return f"{value:,.3g} ms" if value < 1000 else f"{value:,.0f} ms"
    return f"{1000 * value:.3g} µs"


def middle(latency: Latency) -> tuple[str, float | None]:
    """Return the figure that stands for a run, and its name: the median, or the mean where a tool prints no median."""
    for name in ("p50", "mean"):
        value: float | None = getattr(latency, name)
        if value is not None and math.isfinite(value):
            return name, value
    return "p50", None


def middle_ms(latency: Latency) -> str:
    """Return the median; a mean that stands in its place says so."""
    name, value = middle(latency)
    return f"{'mean ' if name == 'mean' else ''}{latency_ms(value, latency)}"


def latency_decimals(latency: Latency) -> int:
    """Return how many decimals of a millisecond are known: two digits of the interval's half width, else four of the median."""
    _, value = middle(latency)
    if value is None or value <= 0:
        return 3
    leading = math.floor(math.log10(value))
    half = (latency.ci95[1] - latency.ci95[0]) / 2 if latency.ci95 else 0.0
    known = 1 - math.floor(math.log10(half)) if half > 0 and math.isfinite(half) else 3 - leading
    return max(0, min(max(known, 1 - leading), _MOST_DIGITS - 1 - leading, _FINEST))


def latency_ms(value: float | None, latency: Latency, *, unit: bool = True) -> str:
    """Return a time of a run, with the decimals that its interval allows."""
    if value is None or not math.isfinite(value):
        return "not told"
    return f"{value:,.{latency_decimals(latency)}f}{' ms' if unit else ''}"


def interval_ms(latency: Latency) -> str | None:
    """Return the 95 % interval of the median, or None where there is none."""
    if latency.ci95 is None:
        return None
    return f"{latency_ms(latency.ci95[0], latency, unit=False)} to {latency_ms(latency.ci95[1], latency)}"


def percentile_ms(name: str, latency: Latency) -> str:
    """Return a percentile, or what is missing for it."""
    value: float | None = getattr(latency, name)
    if value is None and latency.runs < FLOORS[name]:
        return f"needs {FLOORS[name]} samples"
    return latency_ms(value, latency)


def change(after: float, before: float) -> str:
    """Return the change in words: a factor where it is large, else a percentage."""
    if not before or before == after:
        return "unchanged" if before == after else ""
    word = "smaller" if after < before else "larger"
    factor = max(before, after) / min(before, after) if after else 1
    if factor >= 1.1:
        return f"{factor:.1f}{_TIMES} {word}"
    return f"{100 * abs(after - before) / before:.1f} % {word}"


def share(part: float, whole: float) -> float:
    """Return a part of a whole as a length between 0 and 1."""
    return min(max(part / whole, 0.0), 1.0) if whole and math.isfinite(part / whole) else 0.0


def db_share(sqnr_db: float) -> float:
    """Return decibels as a length between 0 and 1."""
    return min(max(sqnr_db / _FULL_DB, 0.0), 1.0) if math.isfinite(sqnr_db) else 0.0


def db_kind(sqnr_db: float) -> str:
    """Return the colour of decibels: poor, middling or none."""
    if sqnr_db < _POOR_DB:
        return "low"
    return "middling" if sqnr_db < _GOOD_DB else ""


def breakable(name: str) -> Markup:
    """Return a name that may break into lines after its slashes."""
    return Markup(str(escape(name)).replace("/", "/<wbr>"))


def layer_name(name: str) -> Markup:
    """Return the first of the names that a converter joined by semicolons when it fused layers; the rest as a hint."""
    first, *others = name.split(";")
    if not others:
        return breakable(name)
    return Markup('{} <span class="muted nowrap" title="{}">+{} fused</span>').format(
        breakable(first), name, len(others)
    )


def shape(sizes: Sequence[int]) -> str:
    """Return a shape with its signs of multiplication."""
    return f" {_TIMES} ".join("any" if each < 0 else str(each) for each in sizes) or "single value"


def preprocessing(how: Mapping[str, Any] | None) -> str:
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
    return f"{told}, which gives {number(reach[0])} to {number(reach[1])}" if reach else told


def real_value(port: Port) -> str:
    """Return the formula that gives what a stored value means."""
    if port.scale is None:
        return "q itself"
    zero_point = port.zero_point or 0
    inner = f"(q {'-' if zero_point > 0 else '+'} {abs(zero_point)})" if zero_point else "q"
    return f"{number(port.scale)} {_TIMES} {inner}"


def _numbers(found: object, absent: float) -> list[float]:
    if isinstance(found, list | tuple):
        return [float(each) for each in found] or [absent]
    return [float(found)] if isinstance(found, int | float) else [absent]


def _listed(numbers: Iterable[float]) -> str:
    shown = [number(each) for each in numbers]
    return f"({', '.join(shown)})" if len(shown) > 1 else shown[0]


_WRITERS: tuple[Callable[..., object], ...] = (
    breakable, change, count, db_kind, db_share, interval_ms, latency_ms, layer_name, mib, middle_ms, ms, number, percent,
    percentile_ms, preprocessing, quality, real_value, shape, share, size, variation,
)  # fmt: skip
FILTERS: Mapping[str, Callable[..., object]] = {writer.__name__: writer for writer in _WRITERS}
