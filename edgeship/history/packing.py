"""A run as the database holds it: raw samples to the last bit in little space, the rest of its record as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import numbers
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from edgeship.measurement import BenchRecord, Conditions
from edgeship.run import Quality

_WHOLE, _REAL = b"n", b"r"  # how numbers are packed: differences of whole nanoseconds · doubles as they are


@dataclass(frozen=True)
class Packed:
    """The blobs of one bench."""

    body: bytes
    conditions: bytes
    samples: bytes | None
    starts: bytes | None
    warmup: bytes | None


class Unreadable(Exception):
    """What is kept cannot be read: the words say which thing it is."""


@contextlib.contextmanager
def read(what: str) -> Iterator[None]:
    """Turn what a parser says of damaged bytes, or of a form that another edgeship wrote, into words.

    Raises:
        Unreadable: the block could not read it.
    """
    try:
        yield
    except (zlib.error, ValueError, TypeError, KeyError) as error:
        raise Unreadable(f"{what} cannot be read: {' '.join(str(error).split())[:200]}") from None


def pack(bench: BenchRecord) -> Packed:
    """Return a bench as blobs."""
    rest = dataclasses.replace(bench, samples_ms=None, starts_ms=None, warmup_ms=())
    table = {field.name: getattr(rest, field.name) for field in dataclasses.fields(rest) if field.name != "conditions"}
    return Packed(
        body=as_blob({key: plain(value) for key, value in table.items()}),
        conditions=as_blob(plain(bench.conditions)),
        samples=pack_ms(bench.samples_ms),
        starts=pack_ms(bench.starts_ms),
        warmup=pack_ms(bench.warmup_ms or None),
    )


def unpack(packed: Packed) -> BenchRecord:
    """Return the bench that was packed, equal to what it was."""
    table = from_blob(packed.body)
    quality = table["quality"]
    if isinstance(quality, dict):
        table["quality"] = TypeAdapter(Quality).validate_python(quality)
    # Samples are put in afterwards: thousands of numbers need no check one by one.
    table["conditions"] = _adapters()[1].validate_python(from_blob(packed.conditions))
    made: BenchRecord = _adapters()[0].validate_python(table)
    return dataclasses.replace(
        made,
        samples_ms=unpack_ms(packed.samples),
        starts_ms=unpack_ms(packed.starts),
        warmup_ms=unpack_ms(packed.warmup) or (),
    )


@cache
def _adapters() -> tuple[TypeAdapter[BenchRecord], TypeAdapter[Conditions]]:
    return TypeAdapter(BenchRecord), TypeAdapter(Conditions)


def pack_ms(values: tuple[float, ...] | None) -> bytes | None:
    """Return milliseconds in little space: most are whole nanoseconds, whose differences have few digits."""
    if values is None:
        return None
    ms = np.asarray(values, np.float64)
    with np.errstate(all="ignore"):
        whole = np.rint(ms * 1e6)
        exact = bool(np.all(np.abs(whole) < 2**53)) and np.array_equal(whole / 1e6, ms)
    if exact and not np.any(np.signbit(ms) & (ms == 0)):
        kind, raw = _WHOLE, np.diff(whole.astype("<i8"), prepend=np.int64(0)).astype("<i8")
    else:
        kind, raw = _REAL, ms.astype("<f8")
    planes = np.ascontiguousarray(raw.view(np.uint8).reshape(-1, 8).T)  # like bytes side by side: zlib halves the size
    return kind + zlib.compress(planes.tobytes(), 6)


def unpack_ms(blob: bytes | None) -> tuple[float, ...] | None:
    """Return the milliseconds that were packed."""
    if blob is None:
        return None
    planes = np.frombuffer(zlib.decompress(blob[1:]), np.uint8).reshape(8, -1)
    raw = np.ascontiguousarray(planes.T).reshape(-1)
    if blob[:1] == _REAL:
        return tuple(raw.view("<f8").tolist())
    return tuple((np.cumsum(raw.view("<i8")) / 1e6).tolist())


def as_blob(table: Any) -> bytes:
    """Return a JSON value compressed; NaN and infinities stay what they are."""
    return zlib.compress(json.dumps(table, separators=(",", ":")).encode(), 6)


def from_blob(blob: bytes) -> Any:
    """Return the JSON value of a blob."""
    return json.loads(zlib.decompress(blob))


def plain(value: object) -> Any:
    """Return a value as JSON has it: records as objects, numbers of any library as Python's own, the rest as text."""
    match value:
        case None | bool() | str() | int() | float():
            return value
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value)
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value)


def hottest_c(conditions: Conditions) -> float | None:
    """Return the greatest temperature of any sensor around a run, degrees Celsius."""
    moments = (conditions.before, *conditions.during, conditions.after)
    return max(_finite(each for one in moments if one for each in one.temperature_c.values()), default=None)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
