"""What a Linux board said of itself (`board/facts.sh`), read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgeship.measurement import Board, EdgeTpu

_MIB_KIB = 1024


def read(lines: Iterable[str]) -> Board:
    """Return the board from the script's `key=value` lines; what they lack is None or empty, what is unknown is skipped."""
    found: dict[str, str] = {}
    packages: dict[str, str] = {}
    chips: list[EdgeTpu] = []
    for line in lines:
        key, separator, value = line.partition("=")
        if not separator or not value.strip():
            continue
        if key == "edgetpu":
            chips += _chip(value.split())
        elif key == "libedgetpu":
            found[key] = "" if value.strip() == "unknown" else value.strip()
        elif key == "package":
            name, _, version = value.partition(" ")
            packages.setdefault(name, version)  # the first on Python's path is the one that is imported
        else:
            found[key] = value.strip()
    clock_khz = _whole(found, "clock_khz")
    return Board(
        machine_id=found.get("machine_id"),
        boot_id=found.get("boot_id"),
        model=found.get("model"),
        system=found.get("system"),
        kernel=found.get("kernel"),
        architecture=found.get("architecture"),
        abi=found.get("abi"),
        word_bits=_whole(found, "word_bits"),
        cores=_whole(found, "cores"),
        core_names=tuple(name.strip() for name in found.get("core_names", "").split(";") if name.strip()),
        features=tuple(found.get("features", "").split()),
        memory_mib=_in_mib(found, "memory_kib"),
        free_mib=_in_mib(found, "free_kib"),
        page_bytes=_whole(found, "page_bytes"),
        libc=found.get("libc"),
        python=found.get("python"),
        runtimes=packages,
        governor=found.get("governor"),
        clock_mhz=None if clock_khz is None else clock_khz / 1000,
        serial=found.get("serial"),
        edgetpus=tuple(chips),
        libedgetpu=found.get("libedgetpu"),
    )


def _chip(words: list[str]) -> list[EdgeTpu]:
    """Return the Edge TPU in `usb 18d1:9302 yes`: where it sits, what it is called, whether we may write to it."""
    match words:
        case ["usb" | "pcie" as attachment, name, "yes" | "no" as may]:
            return [EdgeTpu(attachment, name, may == "yes")]
    return []


def _whole(found: Mapping[str, str], key: str) -> int | None:
    text = found.get(key, "")
    return int(text) if text.isdecimal() else None


def _in_mib(found: Mapping[str, str], key: str) -> int | None:
    kib = _whole(found, key)
    return None if kib is None else kib // _MIB_KIB
