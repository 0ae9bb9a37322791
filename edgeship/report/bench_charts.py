"""Charts of one bench: how its times are spread, and how they ran on beside temperature and clock."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from edgeship.measurement import BenchRecord, Conditions, Snapshot
from edgeship.report.drawing import Axis, Point, box, frame, levels, line, svg, text
from edgeship.report.figures import latency_ms

MOST_POINTS = 600
LIVE_BITS = 0xF  # of a Raspberry Pi's throttle word: what is so now; the rest tells of the time since its boot
MODERATE = 2  # of Android's thermal status: from here on the system takes clock away
_FEWEST_BINS, _MOST_BINS = 12, 48
_BODY = (0.9, 0.995)  # when some lie far out: how many at least, and at most, stand in bins of their own
_FAR = 20.0  # times the range of the middle half, from the median: far out
_APART = 8.0  # a range this many times its start is drawn on a logarithmic axis
_LEFT, _RIGHT = 58, 528


def histogram(record: BenchRecord) -> str | None:
    """Draw how the samples are spread, with the median and its interval; None without samples that differ.

    A few that lie far out are counted in the last bin, which then says from where.
    """
    samples = record.samples_ms
    if not samples or len(samples) < 2 or not max(samples) - min(samples) > 1e-6:
        return None
    ordered = sorted(samples)
    low, high, body = ordered[0], ordered[-1], _body(ordered)
    cut = high - low > 1.6 * (body - low) > 1.6e-6
    top = body if cut else high
    counts, width = _bins(ordered, low, top)
    over = len(ordered) - bisect_right(ordered, top) if cut else 0
    bars = [*counts, over] if over else counts
    end = low + width * len(bars)
    x, y = Axis(low, end, 46, 374), Axis(0, 1.08 * max(bars), 232, 22)
    parts = []
    if record.latency_ms.ci95:
        first, last = (x.at(value) for value in record.latency_ms.ci95)
        parts.append(box(first, y.end, max(last - first, 1.5), y.start - y.end, "care-wash"))
    parts += frame(x, y, "ms of one inference", "samples", whole=False)
    for place, count in enumerate(bars):
        across, up = x.at(low + place * width), y.at(count)
        last = bool(over) and place == len(bars) - 1
        wide = x.at(low + (place + 1) * width) - across
        parts.append(box(across + 0.4, up, wide - 0.8, y.start - up, "before" if last else "after"))
    assert record.latency_ms.p50 is not None  # samples tell their median
    middle = x.at(record.latency_ms.p50)
    parts.append(line([(middle, y.start), (middle, y.end - 2)], "ink", 1.5))
    side, anchor = (5, "start") if middle < 0.6 * x.end else (-5, "end")
    parts.append(text(middle + side, y.end + 2, f"p50 {latency_ms(record.latency_ms.p50, record.latency_ms)}", anchor, colour="ink"))  # fmt: skip
    if over:
        told = f"{over} over {latency_ms(top, record.latency_ms)}"
        parts.append(text(x.end, y.at(over) - 7, told, "end", colour="ink"))
    return svg(380, 276, parts, name="Histogram of the latency of single inferences")


def time_line(record: BenchRecord) -> str | None:
    """Draw the samples by when they began, and under them, on the same seconds, temperature and clock as far as known.

    Shaded is when the board said that it held itself back. None where nothing has a time.
    """
    ran, moments = _ran(record), _moments(record)
    warm = [(at, max(told.temperature_c.values())) for at, told in moments if told.temperature_c]
    clock = [(at, min(told.clock_mhz)) for at, told in moments if told.clock_mhz]
    ends = [at for points in (ran, warm, clock) for at, _ in points]
    if not ends or max(ends) <= 0:
        return None
    x = Axis(0.0, max(ends), _LEFT, _RIGHT)
    panels: list[tuple[str, list[Point], int, str, float]] = [
        ("ms of one inference", ran, 170, "after", 0.0),
        (_sensor_words(moments), warm, 70, "care", 1.0),
        ("clock in MHz of the slowest core in use", clock, 70, "ink", 50.0),
    ]
    shown = [panel for panel in panels if panel[1]]
    bottom = 6.0
    drawn: list[str] = []
    for name, points, height, colour, least in shown:
        bottom += 26 + height
        drawn += _panel(x, name, points, (bottom, bottom - height), colour, least, record if points is ran else None)
    behind = [
        box(x.at(start), 32, max(x.at(stop) - x.at(start), 1.5), bottom - 32, "bad-wash")
        for start, stop in _held_back(moments)
    ]
    for value in x.ticks(6):
        behind.append(line([(x.at(value), bottom), (x.at(value), 32)], "line", 1))
        drawn.append(text(x.at(value), bottom + 18, x.label(value), "middle"))
    drawn.append(text((x.start + x.end) / 2, bottom + 36, "seconds", "middle"))
    told = "Latency over time" if ran else "Conditions over time"
    return svg(540, int(bottom) + 42, [*behind, *drawn], name=told)


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most so many points in their order: of each stretch the lowest and the highest, so that no extreme is lost."""
    if len(points) <= most:
        return list(points)
    stretches = most // 2
    kept: list[Point] = []
    for number in range(stretches):
        first, last = number * len(points) // stretches, (number + 1) * len(points) // stretches
        part = range(first, last)
        ends = {min(part, key=lambda place: points[place][1]), max(part, key=lambda place: points[place][1])}
        kept += [points[place] for place in sorted(ends)]
    return kept


def was_held_back(conditions: Conditions) -> bool:
    """Say whether the board told at any moment of the run that it held itself back."""
    told = (*conditions.during, conditions.after)
    return any(snapshot is not None and _is_held_back(snapshot) for snapshot in told)


def _panel(
    x: Axis, name: str, points: list[Point], reach: tuple[float, float], colour: str, least: float, record: BenchRecord | None
) -> list[str]:  # fmt: skip
    """Return one row of the time line: its levels, its line, and for the samples their median; `least` is its least range."""
    found = thinned(points)
    low, high = min(value for _, value in found), max(value for _, value in found)
    log = record is not None and low > 0 and high > _APART * low
    margin = max(0.06 * (high - low), (least - (high - low)) / 2, 1e-3 * abs(high), 1e-6)
    floor, top = (
        (low / 1.1, high * 1.1) if log else (max(low - margin, 0.0) if low >= 0 else low - margin, high + margin)
    )
    y = Axis(floor, top, *reach, log=log)
    parts = levels(x, y, name, 4 if record else 2)
    parts.append(line([(x.at(at), y.at(value)) for at, value in found], colour, 1 if record else 1.8))
    if len(found) == 1:
        parts.append(line([(x.start, y.at(found[0][1])), (x.end, y.at(found[0][1]))], colour, 1.8, dashed=True))
    if record is not None:
        assert record.latency_ms.p50 is not None  # samples tell their median
        middle = y.at(record.latency_ms.p50)
        parts.append(line([(x.start, middle), (x.end, middle)], "ink", 1.2, dashed=True))
    return parts


def _ran(record: BenchRecord) -> list[Point]:
    """Return each sample by the second in which it began; one after the other where the tool does not tell."""
    samples = record.samples_ms or ()
    if record.starts_ms is not None and len(record.starts_ms) == len(samples):
        return [(start / 1e3, sample) for start, sample in zip(record.starts_ms, samples, strict=True)]
    points, at = [], 0.0
    for sample in samples:
        points.append((at / 1e3, sample))
        at += sample
    return points


def _moments(record: BenchRecord) -> list[tuple[float, Snapshot]]:
    """Return the snapshots of the run by the second of its samples: the one after is taken when the last sample ends."""
    conditions, ran = record.conditions, _ran(record)
    told = [*conditions.during, *([conditions.after] if conditions.after else [])]
    if not ran:
        told = [*([conditions.before] if conditions.before else []), *told]
        return [(snapshot.at_s - told[0].at_s, snapshot) for snapshot in told]
    if not told:
        return []
    end = ran[-1][0] + ran[-1][1] / 1e3
    shift = end - conditions.after.at_s if conditions.after else -conditions.during[0].at_s
    return [(min(max(snapshot.at_s + shift, 0.0), end), snapshot) for snapshot in told]


def _sensor_words(moments: Sequence[tuple[float, Snapshot]]) -> str:
    sensors = {name for _, told in moments for name in told.temperature_c}
    return "temperature in °C" + (f", the hottest of {len(sensors)} sensors" if len(sensors) > 1 else "")


def _is_held_back(snapshot: Snapshot) -> bool:
    return bool((snapshot.throttled or 0) & LIVE_BITS) or (snapshot.thermal_status or 0) >= MODERATE


def _held_back(moments: Sequence[tuple[float, Snapshot]]) -> list[Point]:
    """Return the stretches, in seconds, between snapshots that told of it and the next that did not."""
    stretches: list[Point] = []
    since: float | None = None
    for at, told in moments:
        if _is_held_back(told):
            since = at if since is None else since
        elif since is not None:
            stretches.append((since, at))
            since = None
    if since is not None:
        stretches.append((since, moments[-1][0]))
    return stretches


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _body(ordered: Sequence[float]) -> float:
    """Return up to where samples stand in bins of their own; where the middle half is all the same, nothing is far."""
    least, most = (_quantile(ordered, share) for share in _BODY)
    middle_half = _quantile(ordered, 0.75) - _quantile(ordered, 0.25)
    far = _quantile(ordered, 0.5) + _FAR * middle_half if middle_half > 0 else most
    return max(least, min(far, most))


def _bins(ordered: Sequence[float], low: float, high: float) -> tuple[list[int], float]:
    """Return counts of samples up to `high`, in bins of the width of Freedman and Diaconis (doi:10.1007/BF01025868)."""
    middle_half = _quantile(ordered, 0.75) - _quantile(ordered, 0.25)
    ideal = 2 * middle_half / len(ordered) ** (1 / 3)
    bins = math.ceil((high - low) / ideal) if ideal > 0 else _MOST_BINS
    bins = min(max(bins, _FEWEST_BINS), _MOST_BINS)
    width = (high - low) / bins
    edges = [bisect_right(ordered, low + width * (place + 1)) for place in range(bins)]
    edges[-1] = bisect_right(ordered, high)
    return [edge - before for edge, before in zip(edges, [0, *edges[:-1]], strict=True)], width


CHARTS: dict[str, Callable[[BenchRecord], str | None]] = {"histogram": histogram, "time_line": time_line}
