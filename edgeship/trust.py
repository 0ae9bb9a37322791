"""May a run be believed? Reasons why it may not, and doubts for a person to weigh.

A reason is a condition that broke while it was measured: the number is of something else than the board as it is meant
to run. A doubt is odd, or not known, and may well be how this board is. Each text says what was seen, with its number,
and the next move where there is one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import latency
from edgeship.measurement import Conditions, Runtime, Samples, Snapshot, Wanted

# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled; the same bits 16 higher stay until a reboot.
THROTTLE_BITS = ("under-voltage", "clock capped", "throttled", "soft temperature limit")
STICKY_SHIFT = 16
SEVERE = 3  # Android's thermal status from which the platform cuts deep: PowerManager.THERMAL_STATUS_SEVERE
THROTTLE_C = 80.0  # where a Raspberry Pi begins to lower its clock; other boards are near it
NEAR_C = 5.0
WALL_JUMP_S = 0.5  # time servers slew a right clock by less; what is more was set, or the board slept
SWAPPED_PAGES = 256  # 1 MiB of 4 KiB pages: a stray page of another process comes and goes on any board
OVERLOAD = 1.25  # runnable a core: from here a thread of ours waited for its core a fifth of the time
OTHER_LOAD = 0.5  # half a core's work by others, well above what an idle system averages
MIN_SECONDS_SHARE = 0.95  # the tool's clock stops a moment after the last sample does
CV = 0.05  # twice what private phones show in long runs (2.4 %); the usual threshold of others' benchmarks
DRIFT = 0.02  # of the median over the run; a smaller one would not change a decision
DRIFT_BLOCKS = 32
DRIFT_Z = 2.576  # two-sided 1 % of the Mann-Kendall test
CLOCK_MOVED = 0.02  # a crystal holds far closer: more is a governor or a throttle
GROUPS_FROM = 100  # with fewer, one skewed hump splits by chance
GROUP_SHARE = 0.1
GROUP_GAP = 0.02
GROUP_CLEAR = 0.5
LOW_BATTERY = 20  # percent: battery savers begin at 15 to 20
FEW_INDEPENDENT = 20  # below, an interval made for autocorrelated samples covers too little
FOLLOWING = frozenset({"ondemand", "conservative", "powersave", "schedutil", "interactive"})
_NS_PER_S = 1e9
_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Trust:
    """The verdict on a run: valid without reasons against it, whatever the doubts."""

    valid: bool
    reasons: tuple[str, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class Groups:
    """Two separate humps of times: their medians in milliseconds, and the share of the slower one."""

    fast_ms: float
    slow_ms: float
    slow_share: float


def judge(
    samples: Samples,
    conditions: Conditions,
    *,
    wanted: Wanted | None = None,
    runtime: Runtime | None = None,
    delegate: str | None = None,
) -> Trust:
    """Return whether a run may be believed, and why not.

    Args:
        wanted: what was asked for; without it nothing is missed.
        delegate: one that the target requires, held against what `runtime` says of itself.
    """
    seen = tuple(one for one in (conditions.before, *conditions.during, conditions.after) if one is not None)
    reasons = (
        *_unfinished(samples, wanted),
        *_fallback(runtime, delegate),
        *_throttled(seen),
        *_interrupted(seen),
        *_changed(seen),
        *(() if conditions.counted else _overloaded(conditions)),
    )
    doubts = (
        *_simulated(conditions),
        *_of_samples(samples, counted=conditions.counted),
        *_of_clock(conditions),
        *_of_warmth(seen),
        *_of_surroundings(conditions, seen),
    )
    return Trust(not reasons, reasons, doubts)


def _unfinished(samples: Samples, wanted: Wanted | None) -> Iterator[str]:
    if not samples.steady:
        spent_s = sum(samples.warmup_ns) / _NS_PER_S
        after = f" after {spent_s:.1f} s" if spent_s else ""
        yield f"the times were not steady{after} of warm-up: a longer --warmup-seconds, or a quieter board"
    if wanted is None:
        return
    count = _count(samples)
    if count < wanted.runs:
        yield f"only {count} of {wanted.runs} runs came within {wanted.max_seconds:g} s: fewer --runs"
    if samples.samples_ns and samples.starts_ns:
        spent_s = (samples.starts_ns[-1] + samples.samples_ns[-1]) / _NS_PER_S
        if spent_s < MIN_SECONDS_SHARE * wanted.min_seconds:
            yield f"only {spent_s:.2f} of {wanted.min_seconds:g} s were measured"


def _count(samples: Samples) -> int:
    if samples.samples_ns is not None:
        return len(samples.samples_ns) * samples.every
    return int((samples.aggregate_ms or {}).get("runs", 0))


def _fallback(runtime: Runtime | None, delegate: str | None) -> Iterator[str]:
    if runtime is not None and delegate is not None and delegate.lower() not in (runtime.delegate or "").lower():
        got = f"it ran with {runtime.delegate}" if runtime.delegate else "all of it ran on the CPU"
        yield f"the target's delegate {delegate} was not applied: {got}"


def _throttled(seen: Sequence[Snapshot]) -> Iterator[str]:
    told = [one.throttled for one in seen if one.throttled is not None]
    live = _bits(told, 0)
    if live:
        yield f"{', '.join(live)} while it was measured ({_hexadecimal(told)}): {_remedy(live)}"
    begun = _bits([now & ~told[0] for now in told[1:]], STICKY_SHIFT)
    between = [name for name in begun if name not in live]
    if between:
        yield f"{', '.join(between)} between two looks at the board ({_hexadecimal(told)}): {_remedy(between)}"
    hottest = max((one.thermal_status for one in seen if one.thermal_status is not None), default=0)
    if hottest >= SEVERE:
        yield f"thermal status {hottest} (from {SEVERE}, severe, the system throttles): let the device cool down"


def _bits(told: Sequence[int], shift: int) -> list[str]:
    return [name for bit, name in enumerate(THROTTLE_BITS) if any(now >> (shift + bit) & 1 for now in told)]


def _hexadecimal(told: Sequence[int]) -> str:
    return "throttled=" + hex(int(np.bitwise_or.reduce(told)))


def _remedy(bits: Sequence[str]) -> str:
    supply = "a stronger power supply and a shorter cable" if "under-voltage" in bits else ""
    return supply or "cool the board, or let it rest before the next run"


def _interrupted(seen: Sequence[Snapshot]) -> Iterator[str]:
    """Tell of what stopped the board's time: a reboot, sleep, a clock that was set, swapping."""
    pairs = list(itertools.pairwise(seen))
    if any(later.at_s < earlier.at_s for earlier, later in pairs):
        yield "the board rebooted in the run: its steady clock began again"
    else:
        jumps = [(later.wall_s - later.at_s) - (earlier.wall_s - earlier.at_s) for earlier, later in pairs]
        worst = max(jumps, key=abs, default=0.0)
        if abs(worst) > WALL_JUMP_S:
            yield f"the wall clock jumped by {worst:+.1f} s in the run: it was set, or the board slept"
    pages = [one.swapped_pages for one in seen if one.swapped_pages is not None]
    if pages and max(pages) - pages[0] >= SWAPPED_PAGES:
        yield f"{max(pages) - pages[0]} pages were swapped in the run: free some memory, or use a smaller model"


def _changed(seen: Sequence[Snapshot]) -> Iterator[str]:
    governors = [tuple(sorted(set(one.governor))) for one in seen if one.governor]
    if len(set(governors)) > 1:
        first = next(later for later in governors if later != governors[0])
        yield f"the governor changed in the run, from {'/'.join(governors[0])} to {'/'.join(first)}"
    power = [_draining(one.battery) for one in seen if one.battery and one.battery.get("status") is not None]
    if len(set(power)) > 1:
        yield f"the charger was {'pulled' if power[-1] else 'plugged in or switched'} in the run"


def _draining(battery: Mapping[str, Any]) -> bool:
    # Linux has words, Android's `dumpsys battery` BatteryManager's numbers.
    return str(battery["status"]).strip().lower() in ("discharging", "3")


def _others(conditions: Conditions) -> float | None:
    """Return the load beside our own threads: its largest value in the run, over the minute before each look."""
    looks = (*conditions.during, conditions.after)
    loads = [one.load for one in looks if one is not None and one.load is not None]
    return max(loads) - conditions.threads if loads else None


def _overloaded(conditions: Conditions) -> Iterator[str]:
    others, cores = _others(conditions), conditions.board.cores
    if others is None or not cores or others <= OTHER_LOAD:
        return
    load = others + conditions.threads
    if others + min(conditions.threads, cores) > OVERLOAD * cores:
        threads = f"{conditions.threads} thread{'s' * (conditions.threads != 1)}"
        yield f"the load was {load:.1f} on {cores} cores, {threads} of it ours: others used the same cores"


def _simulated(conditions: Conditions) -> Iterator[str]:
    if conditions.counted or conditions.unmodelled:
        what = "instructions were counted, not timed" if conditions.counted else "the board is simulated"
        lacks = f"; not modelled: {', '.join(conditions.unmodelled)}" if conditions.unmodelled else ""
        yield f"{what}: a figure to compare with others of its kind, not a real board's latency{lacks}"


def _of_samples(samples: Samples, *, counted: bool) -> Iterator[str]:
    if samples.samples_ns is None:
        yield "the tool gives aggregates only: no samples, and so no interval, drift or grouping to be seen"
    if counted:
        return  # equal by construction: few samples tell as much as many
    yield from _of_count(samples)
    times_ns = np.asarray(samples.samples_ns or (), dtype=np.float64)
    if times_ns.size < 2:
        return
    spread = float(times_ns.std(ddof=1) / times_ns.mean()) if times_ns.mean() else 0.0
    if spread > CV:
        yield f"the times vary by {spread:.1%} (CV, above {CV:.0%}): longer runs, a fixed clock, a quieter board"
    change = drift(times_ns, None if samples.starts_ns is None else np.asarray(samples.starts_ns, dtype=np.float64))
    if change is not None:
        way, why = ("rose", "warming up or throttling") if change > 0 else ("fell", "a warm-up that was too short")
        yield f"the times {way} by {abs(change):.1%} over the run: {why}"
    groups = two_groups(times_ns)
    if groups is not None:
        apart = groups.slow_ms / groups.fast_ms - 1
        told = f"{1 - groups.slow_share:.0%} around {groups.fast_ms:.4g} ms, {groups.slow_share:.0%} around {groups.slow_ms:.4g} ms"
        yield f"the times fall in two groups {apart:.1%} apart ({told}): other cores or another clock; pin them with `cpus`"


def _of_count(samples: Samples) -> Iterator[str]:
    count = _count(samples)
    floors = {"p90": latency.P90_FLOOR, "p99": latency.P99_FLOOR}
    stated = floors if samples.samples_ns is not None else samples.aggregate_ms or {}
    missed = [name for name, floor in floors.items() if name in stated and count < floor]
    if missed:
        needs = " and ".join(str(floors[name]) for name in missed)
        yield f"too few runs ({count}) to state {' and '.join(missed)}, which take {needs}: --runs {floors[missed[-1]]}"
    if samples.samples_ns:
        worth = latency.independent(np.asarray(samples.samples_ns))
        if worth < FEW_INDEPENDENT:
            yield f"{count} runs tell as much as {worth:.0f} independent ones: the interval may be too narrow; measure longer"


def drift(times_ns: NDArray[np.float64], starts_ns: NDArray[np.float64] | None = None) -> float | None:
    """Return the change of latency over the run as a share of its median, or None where there is no telling trend.

    Theil and Sen's slope through the medians of up to 32 blocks in time, when it is beyond 2 % and Mann and Kendall's
    test (normal approximation, 1 %) sees a trend in them: robust against single outliers, blind to what is not monotone.
    """
    blocks = min(DRIFT_BLOCKS, times_ns.size // 4)
    if blocks < 6:  # a perfect trend of five is no rarer than 1 in 60
        return None
    at = np.arange(times_ns.size, dtype=np.float64) if starts_ns is None else starts_ns
    heights = np.array([np.median(part) for part in np.array_split(times_ns, blocks)])
    places = np.array([np.median(part) for part in np.array_split(at, blocks)])
    first, second = np.triu_indices(blocks, 1)
    rises, runs = heights[second] - heights[first], places[second] - places[first]
    rank = float(np.sign(rises).sum())
    deviation = float(np.sqrt(blocks * (blocks - 1) * (2 * blocks + 5) / 18))
    apart = runs > 0
    if (abs(rank) - 1) / deviation < DRIFT_Z or not apart.any():
        return None
    slope = float(np.median(rises[apart] / runs[apart]))
    change = slope * float(at[-1] - at[0]) / float(np.median(times_ns))
    return change if abs(change) > DRIFT else None


def two_groups(times_ns: NDArray[np.float64]) -> Groups | None:
    """Return the two groups that the times fall into, or None for one hump, however skewed.

    Otsu's split (1979, doi:10.1109/TSMC.1979.4310076: the largest variance between the parts) with at least a tenth on
    either side, the outermost hundredths left out. They are groups when the empty stretch between their inner deciles
    is half as wide as the wider one's middle 80 %, and their medians lie 2 % apart. Two normal humps are told apart
    from about four of their standard deviations.
    """
    if times_ns.size < GROUPS_FROM:
        return None
    ordered = np.sort(times_ns)
    ordered = ordered[times_ns.size // 100 : times_ns.size - times_ns.size // 100]
    below = np.arange(1, ordered.size)
    sums = np.cumsum(ordered - ordered[0])
    gap = (sums[-1] - sums[:-1]) / (ordered.size - below) - sums[:-1] / below
    between = below * (ordered.size - below) * gap**2
    fewest = int(np.ceil(GROUP_SHARE * ordered.size))
    cut = fewest + int(np.argmax(between[fewest - 1 : ordered.size - fewest]))
    fast, slow = ordered[:cut], ordered[cut:]
    (fast_low, fast_high), (slow_low, slow_high) = np.quantile(fast, (0.1, 0.9)), np.quantile(slow, (0.1, 0.9))
    clear = slow_low - fast_high > GROUP_CLEAR * max(fast_high - fast_low, slow_high - slow_low)
    fast_ns, slow_ns = float(np.median(fast)), float(np.median(slow))
    if not clear or slow_ns - fast_ns <= GROUP_GAP * fast_ns:
        return None
    return Groups(fast_ns / _NS_PER_MS, slow_ns / _NS_PER_MS, slow.size / ordered.size)


def _of_clock(conditions: Conditions) -> Iterator[str]:
    """Tell of a clock that moved or may move; before the run the cores idle, and their clock then says nothing."""
    looks = [one for one in (*conditions.during, conditions.after) if one is not None]
    clocks = [one.clock_mhz for one in looks if one.clock_mhz]
    if clocks and not conditions.counted:
        # Of cores that are not all ours some idle: the fastest is then the one at work.
        pinned = bool(conditions.cpus) and len({len(one) for one in clocks}) == 1
        series = list(zip(*clocks, strict=True)) if pinned else [tuple(max(one) for one in clocks)]
        low, high = max(((min(one), max(one)) for one in series), key=lambda ends: ends[1] - ends[0])
        if high - low > CLOCK_MOVED * high:
            yield f"the core clock moved between {low:.0f} and {high:.0f} MHz: --governor performance (root), or cooling"
    governors = sorted({name for one in looks for name in one.governor} & FOLLOWING)
    if governors:
        yield f"governor {'/'.join(governors)}: the clock follows the load; --governor performance (root) holds it"


def _of_warmth(seen: Sequence[Snapshot]) -> Iterator[str]:
    warm = [(degrees, sensor) for one in seen for sensor, degrees in one.temperature_c.items()]
    if warm and max(warm)[0] >= THROTTLE_C - NEAR_C:
        degrees, sensor = max(warm)
        yield f"{sensor} reached {degrees:.1f} °C, near the {THROTTLE_C:.0f} °C where boards throttle: cool it"
    status = max((one.thermal_status for one in seen if one.thermal_status is not None), default=0)
    if 0 < status < SEVERE:
        yield f"thermal status {status} of 6: the device is warm; let it rest before the next run"


def _of_surroundings(conditions: Conditions, seen: Sequence[Snapshot]) -> Iterator[str]:
    if not seen:
        yield "the board's conditions in the run are not known: no clock, temperature or load came back"
        return
    others = _others(conditions)
    if others is not None and others > OTHER_LOAD and not conditions.counted and not list(_overloaded(conditions)):
        yield f"about {others:.1f} other processes ran in the minute of the run: end them for quieter times"
    levels = [one.battery["level"] for one in seen if one.battery and one.battery.get("level") is not None]
    if levels and min(levels) < LOW_BATTERY:
        yield f"the battery is at {min(levels):g} %: below {LOW_BATTERY} % a device may save power; charge it"
    if (conditions.board.model or "").startswith("Raspberry Pi") and all(one.throttled is None for one in seen):
        yield "throttling cannot be seen: neither the firmware's get_throttled nor vcgencmd could be read"
