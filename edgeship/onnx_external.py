"""Which files beside an ONNX file belong to it: found in its bytes, without the onnx library."""

from __future__ import annotations

import re
from pathlib import Path

# An entry of `external_data` as protobuf writes it: key "location", then a value of one or two bytes of length.
_ENTRY = re.compile(rb"\x0a\x08location\x12(?:([\x01-\x7f])|([\x80-\xff][\x01-\x1f]))")


def locations(content: bytes) -> tuple[str, ...]:
    """Return the names that an ONNX file gives for the files of its weights, as they stand there, each once."""
    found = dict.fromkeys(
        content[match.end() : match.end() + _length(match)].decode(errors="surrogateescape")
        for match in _ENTRY.finditer(content)
    )
    return tuple(found)


def companions(source: Path) -> tuple[Path, ...]:
    """Return the files in the folder of an ONNX file that hold its weights, those that are there."""
    folder = source.resolve().parent
    paths = (inside(folder, name) for name in locations(source.read_bytes()))
    return tuple(path for path in paths if path is not None and path.is_file())


def inside(folder: Path, location: str) -> Path | None:
    """Return the file that a name stands for, all links followed, or None when that is not in the folder."""
    if not location or "\0" in location or Path(location).is_absolute():
        return None
    try:
        path = (folder / location).resolve()
        path.is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, a loop of links
        return None
    return path if path.is_relative_to(folder.resolve()) else None


def _length(match: re.Match[bytes]) -> int:
    short, long = match.groups()
    return int(short[0]) if short else (long[0] & 0x7F) | long[1] << 7
