"""A board's conditions around a run, in words: before it, in it and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.measurement import Board, Conditions, Snapshot
from edgeship.report import figures

# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled: bits 0-3 now, 16-19 since boot
_THROTTLE_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_SINCE_BOOT = 16
# https://developer.android.com/reference/android/os/PowerManager#THERMAL_STATUS_NONE and on
_THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_MOST_SENSORS = 8
_UNTOLD = "-"


@dataclass(frozen=True)
class Row:
    """One condition at three times."""

    label: str
    before: str
    during: str
    after: str


def throttle_words(bits: int) -> str:
    """Return what the bits of `vcgencmd get_throttled` mean."""
    now = [word for place, word in enumerate(_THROTTLE_BITS) if bits >> place & 1]
    since = [word for place, word in enumerate(_THROTTLE_BITS) if bits >> (place + _SINCE_BOOT) & 1]
    parts = [f"now {', '.join(now)}" if now else "", f"since boot {', '.join(since)}" if since else ""]
    return "; ".join(part for part in parts if part) or "none"


def thermal_words(status: int) -> str:
    """Return the word of Android's thermal status."""
    return _THERMAL_STATUS[status] if 0 <= status < len(_THERMAL_STATUS) else f"status {status}"


def rows(conditions: Conditions) -> list[Row]:
    """Return each condition that the board told at least once."""
    sensors = _sensors(conditions)
    tellers = {**{f"temperature, {name}": _of_sensor(name) for name in sensors[:_MOST_SENSORS]}, **_TELLERS}
    made = [_row(label, tell, conditions) for label, tell in tellers.items()]
    if len(sensors) > _MOST_SENSORS:
        made.insert(_MOST_SENSORS, _row(f"hottest of all {len(sensors)} sensors", _hottest, conditions))
    return [row for row in made if row is not None]


def untold(conditions: Conditions) -> list[str]:
    """Return the conditions that bear on the time and that this board did not tell, as words."""
    told = _told(conditions)
    asked: dict[str, Callable[[Snapshot], Any]] = {
        "temperature": lambda each: each.temperature_c,
        "clock": lambda each: each.clock_mhz,
        "governor": lambda each: each.governor,
        "throttling": lambda each: each.throttled is not None or each.thermal_status is not None,
        "load": lambda each: each.load is not None,
        "swapping": lambda each: each.swapped_pages is not None,
    }
    return [word for word, tells in asked.items() if not any(tells(each) for each in told)]


def board_facts(board: Board) -> list[tuple[str, str]]:
    """Return what the board said of itself: what and how much."""
    bits = f", {board.word_bits}-bit programs" if board.word_bits else ""
    facts: list[tuple[str, str | None]] = [
        ("model", board.model),
        ("system", board.system),
        ("kernel", board.kernel),
        ("architecture", f"{board.architecture}{bits}" if board.architecture else None),
        ("ABI", board.abi),
        ("cores", _cores(board)),
        ("features", " ".join(board.features)),
        ("memory", figures.size(board.memory_mib * 2**20) if board.memory_mib else None),
        ("free space", figures.size(board.free_mib * 2**20) if board.free_mib is not None else None),
        ("page size", figures.size(board.page_bytes) if board.page_bytes else None),
        ("C library", board.libc),
        ("Python", board.python),
        ("runtimes", ", ".join(f"{name} {version}" for name, version in board.runtimes.items())),
        ("governor", board.governor),
        ("clock", f"{board.clock_mhz:,.0f} MHz" if board.clock_mhz else None),
        ("Edge TPU", ", ".join(f"{one.attachment} {one.name}" for one in board.edgetpus)),
        ("libedgetpu", "of no package" if board.libedgetpu == "" else board.libedgetpu),
        ("serial", board.serial),
        ("machine id", board.machine_id),
        ("boot id", board.boot_id),
    ]
    return [(name, text) for name, text in facts if text]


def _cores(board: Board) -> str | None:
    kinds = [f"{board.core_names.count(name)} x {name}" for name in dict.fromkeys(board.core_names)]
    return ", ".join(kinds) or (str(board.cores) if board.cores else None)


def _told(conditions: Conditions) -> list[Snapshot]:
    every = (conditions.before, *conditions.during, conditions.after)
    return [snapshot for snapshot in every if snapshot is not None]


def _sensors(conditions: Conditions) -> list[str]:
    """Return the sensors, the hottest first."""
    hottest: dict[str, float] = {}
    for snapshot in _told(conditions):
        for name, value in snapshot.temperature_c.items():
            hottest[name] = max(value, hottest.get(name, value))
    return sorted(hottest, key=lambda name: -hottest[name])


_Tell = Callable[[Sequence[Snapshot]], str | None]


def _row(label: str, tell: _Tell, conditions: Conditions) -> Row | None:
    before, after = ((each,) if each is not None else () for each in (conditions.before, conditions.after))
    cells = [tell(part) if part else None for part in (before, conditions.during, after)]
    if all(cell is None for cell in cells):
        return None
    return Row(label, *(cell if cell is not None else _UNTOLD for cell in cells))


def _span(values: Sequence[float], pattern: str, unit: str) -> str | None:
    """Return the values' range, as one number where they are the same to the digits shown."""
    if not values:
        return None
    ends = list(dict.fromkeys(format(value, pattern) for value in (min(values), max(values))))
    return f"{' to '.join(ends)}{unit}"


def _of_sensor(name: str) -> _Tell:
    return lambda part: _span([each.temperature_c[name] for each in part if name in each.temperature_c], ".1f", " °C")


def _hottest(part: Sequence[Snapshot]) -> str | None:
    return _span([max(each.temperature_c.values()) for each in part if each.temperature_c], ".1f", " °C")


def _clock(part: Sequence[Snapshot]) -> str | None:
    return _span([mhz for each in part for mhz in each.clock_mhz], ",.0f", " MHz")


def _governor(part: Sequence[Snapshot]) -> str | None:
    return ", ".join(dict.fromkeys(word for each in part for word in each.governor)) or None


def _throttle(part: Sequence[Snapshot]) -> str | None:
    told = [each.throttled for each in part if each.throttled is not None]
    seen = 0
    for bits in told:
        seen |= bits
    return throttle_words(seen) if told else None


def _thermal(part: Sequence[Snapshot]) -> str | None:
    told = [each.thermal_status for each in part if each.thermal_status is not None]
    return " to ".join(dict.fromkeys(thermal_words(status) for status in (min(told), max(told)))) if told else None


def _battery(part: Sequence[Snapshot]) -> str | None:
    told = [each.battery for each in part if each.battery]
    return _battery_words(told[-1]) if told else None


def _battery_words(battery: Mapping[str, Any]) -> str:
    def parts() -> Iterator[str]:
        if (level := battery.get("level")) is not None:
            yield f"{level} %"
        if (warm := battery.get("temperature_c")) is not None:
            yield f"{warm} °C"
        if status := battery.get("status"):
            yield str(status)

    return ", ".join(parts()) or _UNTOLD


_TELLERS: Mapping[str, _Tell] = {
    "clock of the cores in use": _clock,
    "governor": _governor,
    "held back by its firmware": _throttle,
    "thermal status": _thermal,
    "load": lambda part: _span([each.load for each in part if each.load is not None], ".2f", ""),
    "pages swapped since boot": lambda part: _span(
        [each.swapped_pages for each in part if each.swapped_pages is not None], ",.0f", ""
    ),
    "swap in use": lambda part: _span(
        [each.swap_used_kib / 1024 for each in part if each.swap_used_kib is not None], ",.0f", " MiB"
    ),
    "memory to be had": lambda part: _span(
        [each.available_kib / 1024 for each in part if each.available_kib is not None], ",.0f", " MiB"
    ),
    "battery": _battery,
}
