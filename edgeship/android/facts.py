"""What an Android board said of itself and of its conditions (`board/android_*.sh`), read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeship.measurement import Board, Snapshot

_KIB_A_MIB = 1024
# A sensor that is not fitted answers with 0, or with a figure such as -99.9 or -274.
_COLDEST_C, _HOTTEST_C = -40.0, 150.0
# https://developer.android.com/reference/android/os/BatteryManager (BATTERY_STATUS_*)
_BATTERY_STATUS = {"1": "unknown", "2": "charging", "3": "discharging", "4": "not charging", "5": "full"}
# "implementer part" as in /proc/cpuinfo, from Arm's technical reference manuals (MIDR_EL1), and util-linux's lscpu-arm.c.
CORE_NAMES: Mapping[str, str] = {
    "0x41 0xd03": "Cortex-A53", "0x41 0xd04": "Cortex-A35", "0x41 0xd05": "Cortex-A55", "0x41 0xd07": "Cortex-A57",
    "0x41 0xd08": "Cortex-A72", "0x41 0xd09": "Cortex-A73", "0x41 0xd0a": "Cortex-A75", "0x41 0xd0b": "Cortex-A76",
    "0x41 0xd0d": "Cortex-A77", "0x41 0xd41": "Cortex-A78", "0x41 0xd44": "Cortex-X1", "0x41 0xd46": "Cortex-A510",
    "0x41 0xd47": "Cortex-A710", "0x41 0xd48": "Cortex-X2", "0x41 0xd4b": "Cortex-A78C", "0x41 0xd4c": "Cortex-X1C",
    "0x41 0xd4d": "Cortex-A715", "0x41 0xd4e": "Cortex-X3", "0x41 0xd80": "Cortex-A520", "0x41 0xd81": "Cortex-A720",
    "0x41 0xd82": "Cortex-X4", "0x41 0xd85": "Cortex-X925", "0x41 0xd87": "Cortex-A725",
    "0x51 0x800": "Kryo 2xx Gold", "0x51 0x801": "Kryo 2xx Silver", "0x51 0x802": "Kryo 3xx Gold",
    "0x51 0x803": "Kryo 3xx Silver", "0x51 0x804": "Kryo 4xx Gold", "0x51 0x805": "Kryo 4xx Silver",
}  # fmt: skip


@dataclass(frozen=True)
class CoreGroup:
    """Cores that are alike; `mask` is what toybox's `taskset` takes (hexadecimal, without 0x)."""

    cpus: tuple[int, ...]
    max_mhz: float | None
    capacity: int | None

    @property
    def mask(self) -> str:
        """Return the cores as bits."""
        return f"{sum(1 << cpu for cpu in self.cpus):x}"


def read_facts(lines: Iterable[str]) -> Board:
    """Return the board from the script's lines; what they lack is None or empty, what is unknown is skipped."""
    given = _gathered(lines)
    first = {key: values[0] for key, values in given.items()}
    release, sdk = first.get("release"), first.get("sdk")
    system = f"Android {release}" if release else None
    if system and sdk:
        system += f" (API level {sdk})"
    if system and "fingerprint" in first:
        system += f", {first['fingerprint']}"
    abi = first.get("abi")
    clock_khz = _whole(first.get("clock_khz"))
    memory_kib = _whole(_word(first.get("meminfo"), 1))
    free_kib = _whole(_word(first.get("df"), 3))
    return Board(
        machine_id=first.get("machine_id"),
        boot_id=first.get("boot_id"),
        model=_model(first),
        system=system,
        kernel=first.get("kernel"),
        architecture=first.get("architecture"),
        abi=abi,
        word_bits=None if abi is None else 64 if "64" in abi else 32,
        cores=len(given.get("core", ())) or sum(_is_processor(line) for line in given.get("cpuinfo", ())) or None,
        core_names=_core_names(given.get("cpuinfo", ())),
        features=tuple(first.get("features", "").split()),
        memory_mib=None if memory_kib is None else memory_kib // _KIB_A_MIB,
        free_mib=None if free_kib is None else free_kib // _KIB_A_MIB,
        page_bytes=_whole(first.get("page_bytes")),
        libc=first.get("libc"),
        python=None,
        runtimes={},
        governor=first.get("governor"),
        clock_mhz=None if clock_khz is None else clock_khz / 1000,
        serial=first.get("serial"),
    )


def core_groups(lines: Iterable[str]) -> tuple[CoreGroup, ...]:
    """Return the kinds of cores in the same lines, the fastest first; empty when the board does not tell them apart."""
    alike: dict[tuple[int | None, int | None], list[int]] = {}
    for value in _gathered(lines).get("core", ()):
        words = value.split()
        cpu = _whole(words[0]) if words else None
        if len(words) == 3 and cpu is not None:
            alike.setdefault((_whole(words[1]), _whole(words[2])), []).append(cpu)
    groups = [
        CoreGroup(tuple(sorted(cpus)), None if khz is None else khz / 1000, capacity)
        for (khz, capacity), cpus in alike.items()
        if khz is not None or capacity is not None
    ]
    return tuple(sorted(groups, key=lambda group: (group.capacity or 0, group.max_mhz or 0.0), reverse=True))


def read_conditions(lines: Iterable[str]) -> Snapshot | None:
    """Return the conditions from the script's lines, or None when not even a clock was told."""
    given = _gathered(lines)
    first = {key: values[0] for key, values in given.items()}
    wall = re.match(r"\d+(\.\d+)?", first.get("wall", ""))  # where `date` knows no nanoseconds, a letter N follows
    at_s, wall_s = _figure(_word(first.get("uptime"), 0)), _figure(wall[0] if wall else None)
    if at_s is None or wall_s is None:
        return None
    cores = sorted(words for value in given.get("core", ()) if len(words := value.split()) == 3)
    cores.sort(key=lambda words: _whole(words[0]) or 0)
    clocks = [khz for words in cores if (khz := _whole(words[1])) is not None]
    governors = [words[2] for words in cores if words[2] != "-"]
    memory = _table(given.get("meminfo", ()))
    swaps = _table(given.get("vmstat", ()))
    service = given.get("thermalservice", ())
    swap = (memory.get("SwapTotal"), memory.get("SwapFree"))
    return Snapshot(
        at_s=at_s,
        wall_s=wall_s,
        clock_mhz=tuple(khz / 1000 for khz in clocks),
        governor=tuple(governors[:1] if len(set(governors)) == 1 else governors),
        temperature_c={**_zones(given.get("zone", ())), **_sensors(service)},
        thermal_status=_thermal_status(service),
        load=_figure(_word(first.get("loadavg"), 0)),
        swapped_pages=sum(swaps.values()) if swaps else None,
        swap_used_kib=None if swap[0] is None or swap[1] is None else swap[0] - swap[1],
        available_kib=memory.get("MemAvailable"),
        battery=_battery(given.get("battery", ())),
    )


def _gathered(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return key → its values in their order; lines of other kinds are skipped."""
    found: dict[str, list[str]] = {}
    for line in lines:
        key, separator, value = line.rstrip("\r\n").partition("=")
        if separator and value.strip() and re.fullmatch("[a-z_]+", key):
            found.setdefault(key, []).append(value.strip())
    return found


def _model(first: Mapping[str, str]) -> str | None:
    maker, model, chip = first.get("manufacturer"), first.get("model"), first.get("soc") or first.get("platform")
    if model is None:
        return None
    named = model if maker is None or model.lower().startswith(maker.lower()) else f"{maker} {model}"
    return f"{named} ({chip})" if chip else named


def _is_processor(line: str) -> bool:
    return re.match(r"processor\s*:", line) is not None


def _core_names(cpuinfo: Sequence[str]) -> tuple[str, ...]:
    """Return one name a core, in the board's order."""
    parts, names, maker = [], [], ""
    for line in cpuinfo:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "CPU implementer":
            maker = value
        elif key == "CPU part":
            code = f"{maker} {value}"
            parts.append(CORE_NAMES.get(code, code))
        elif key == "model name":  # x86; 32-bit Arm has both, and says less here
            names.append(value)
    return tuple(parts or names)


def _zones(values: Sequence[str]) -> dict[str, float]:
    """Return sensor → degrees of the kernel's zones, which tell millidegrees, some of them degrees."""
    found: dict[str, float] = {}
    for value in values:
        told, _, name = value.partition(" ")
        figure = _figure(told)
        if figure is None or 200 < abs(figure) < 1000:  # tenths, or a few tenths of a degree: nobody can say
            continue
        celsius = figure / 1000 if abs(figure) >= 1000 else figure
        if _plausible(celsius):
            name = name.strip() or "zone"
            found[name if name not in found else f"{name} {len(found)}"] = celsius
    return found


def _sensors(service: Sequence[str]) -> dict[str, float]:
    """Return sensor → degrees of `dumpsys thermalservice`: what it reads now; only without that, what it remembers."""
    parts: dict[str, dict[str, float]] = {}
    part = ""
    for line in service:
        told = re.match(r"Temperature\{mValue=([-0-9.eE]+), mType=-?\d+, mName=([^,}]*)", line)
        if told is None:
            part = line if line.endswith(":") else part
        elif (celsius := _figure(told[1])) is not None and _plausible(celsius):
            parts.setdefault(part, {})[told[2].strip()] = celsius
    current = parts.get("Current temperatures from HAL:")
    return current if current is not None else parts.get("Cached temperatures:", {})


def _plausible(celsius: float) -> bool:
    return celsius != 0 and _COLDEST_C <= celsius <= _HOTTEST_C


def _thermal_status(service: Sequence[str]) -> int | None:
    told = (re.fullmatch(r"Thermal Status: (\d)", line) for line in service)
    return next((int(found[1]) for found in told if found), None)


def _battery(dump: Sequence[str]) -> dict[str, float | str] | None:
    """Return level (percent), temperature_c and status in words; the first of each counts, a log of old ones may follow."""
    told: dict[str, str] = {}
    for line in dump:
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    if told.get("present") == "false":
        return None
    found: dict[str, float | str] = {}
    level, scale, tenths = _figure(told.get("level")), _figure(told.get("scale")), _figure(told.get("temperature"))
    if level is not None:
        found["level"] = level * 100 / scale if scale else level
    if tenths is not None:
        found["temperature_c"] = tenths / 10
    if "status" in told:
        found["status"] = _BATTERY_STATUS.get(told["status"], told["status"])
    return found or None


def _table(values: Sequence[str]) -> dict[str, int]:
    found = {}
    for value in values:
        words = value.replace(":", " ").split()
        if len(words) > 1 and (figure := _whole(words[1])) is not None:
            found[words[0]] = figure
    return found


def _word(text: str | None, index: int) -> str | None:
    words = (text or "").split()
    return words[index] if index < len(words) else None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _figure(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
