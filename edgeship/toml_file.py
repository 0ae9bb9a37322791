"""Strict reading of TOML data: every key known, every value of its type, a near miss for what is neither."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edgeship.errors import BadInput, near_miss


class Record(BaseModel):
    """The parent of everything read from TOML: frozen, and refusing keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


R = TypeVar("R", bound=Record)


def read_table(path: Path) -> dict[str, Any]:
    """Return a TOML file's content.

    Raises:
        BadInput: the file is missing, unreadable, or not TOML; the text starts with the file.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:  # of the parser, of UTF-8, of a number of 5,000 digits
        raise BadInput(f"{path}: not a TOML file: {error}") from None


def read(path: Path, kind: type[R]) -> R:
    """Return a TOML file as a record of the given kind.

    Raises:
        BadInput: the file cannot be read or does not fit; the text starts with the file.
    """
    return parse(read_table(path), kind, where=str(path))


def parse(table: dict[str, Any], kind: type[R], *, where: str) -> R:
    """Return a table as a record of the given kind.

    Raises:
        BadInput: a key is unknown (the near miss is offered), missing, or of the wrong type; the text starts with `where`.
    """
    try:
        # Through JSON, since a strict reading there takes an array for a tuple and nothing else for anything else.
        return kind.model_validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        raise BadInput(f"{where}: {_first_complaint(error, kind)}") from None


def _first_complaint(error: ValidationError, kind: type[BaseModel]) -> str:
    """Say the most telling fault in words: an unknown key first, since it is usually why another one is missing."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    place = [str(part) for part in fault["loc"]]
    dotted = ".".join(place)
    if fault["type"] == "extra_forbidden":
        guess = near_miss(place[-1], _keys_at(kind, place[:-1]))
        return f"no such key '{dotted}'" + (f"; did you mean '{guess}'?" if guess else "")
    if fault["type"] == "missing":
        return f"the key '{dotted}' is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"'{dotted}': {message}; got {fault['input']!r}" if dotted else message


def _keys_at(kind: type[BaseModel], place: list[str]) -> list[str]:
    """Return the keys that the record knows at a dotted place."""
    current: type[BaseModel] = kind
    for part in place:
        field = current.model_fields.get(part)
        inner = _record_within(field.annotation) if field else None
        if inner is None:
            continue  # an index of a list or a key of a mapping: the record is the same one
        current = inner
    return [field.alias or name for name, field in current.model_fields.items()]


def _record_within(annotation: Any) -> type[BaseModel] | None:
    """Return the record type inside an annotation such as `Training | None` or `dict[str, Input]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _record_within(inner)
        if found is not None:
            return found
    return None
