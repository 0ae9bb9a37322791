"""From a bench's record to the JSON that users and scripts read."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

from edgeship.measurement import BenchRecord
from edgeship.run_devices import Failed

# The keys of `edgeship bench --json`, in the contract's order; what else a record holds follows them.
CONTRACT = (
    "device", "target", "transport", "simulated", "artifact_sha256", "runtime", "latency_ms", "samples_ms", "init_ms",
    "first_inference_ms", "memory", "operators", "golden", "quality", "conditions", "valid", "doubts",
)  # fmt: skip


def contract(record: BenchRecord) -> dict[str, Any]:
    """Return the record as JSON values, the contract's keys first; a number that is not finite becomes null."""
    table = {field.name: plain(getattr(record, field.name)) for field in fields(record)}
    return {key: table[key] for key in (*CONTRACT, *(key for key in table if key not in CONTRACT))}


def of_several(results: Sequence[BenchRecord | Failed]) -> dict[str, Any] | list[dict[str, Any]]:
    """Return what `--json` prints of a bench: an object for one device, a list for several, a failure as its `error`."""
    tables = [contract(one) if isinstance(one, BenchRecord) else _failure(one) for one in results]
    return tables[0] if len(tables) == 1 else tables


def _failure(one: Failed) -> dict[str, Any]:
    error = one.error
    told = {"exit": error.exit_code, "message": error.message, "hint": error.hint, "log": plain(error.log)}
    return {"device": one.device, "error": {**told, "fault": getattr(error, "fault", None)}}


def plain(value: object) -> Any:
    """Return a value as JSON has it: records as objects, tuples as lists, numbers of any library as Python's own.

    Raises:
        TypeError: the value is of a kind that JSON has no form for.
    """
    match value:
        case None | bool() | str():
            return value
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case PurePath():
            return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "item"):  # numpy's bool is no bool and no number
        return plain(value.item())
    raise TypeError(f"{type(value).__name__} has no form in JSON")
