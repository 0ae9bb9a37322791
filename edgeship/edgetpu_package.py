"""The package inside an edgetpu-custom-op: its programs and their sizes, read as the open driver reads them.

The operation's options are a FlexBuffer map whose entries "4" and "7" hold packages; a package and the executables in it are
flatbuffers: tflite/custom_op_data.cc and executable/executable.fbs of google-coral/libedgetpu.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from edgeship.run_edgetpu import Executable, Package

_DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, KeyError)
_MAIN, _REST = "4", "7"
# Places of the fields that are read, in the tables' own order.
_PACKAGE = {"min_runtime": 0, "executables": 1, "compiler": 4}
_EXECUTABLE = {"scratch": 4, "instructions": 5, "parameters": 6, "chip": 10, "type": 13}
_KINDS: Mapping[int, Literal["stand-alone", "caching", "execution"]] = {0: "stand-alone", 1: "caching", 2: "execution"}


def read(operator: int, options: memoryview | None) -> Package:
    """Return what a custom operation's options hold; of what cannot be read, only its size."""
    content = bytes(options or b"")
    try:
        return _read(operator, content)
    except _DAMAGE:
        return Package(operator, len(content), None, None, (), None, None)


def _read(operator: int, content: bytes) -> Package:
    heads = [_Table(package) for package in _packages(content)]
    executables = tuple(_executable(program) for head in heads for program in _executables(head))
    if not executables:
        raise ValueError("a package without a program")
    return Package(
        operator=operator,
        size_bytes=len(content),
        min_runtime=max(head.number(_PACKAGE["min_runtime"], "i") for head in heads),
        compiler=heads[0].text(_PACKAGE["compiler"]) or None,
        executables=executables,
        cached_bytes=sum(one.parameter_bytes for one in executables if one.kind == "caching"),
        streamed_bytes=sum(one.parameter_bytes for one in executables if one.kind != "caching"),
    )


def _packages(options: bytes) -> Iterator[bytes]:
    from flatbuffers import flexbuffers  # type: ignore[import-untyped]

    entries = flexbuffers.GetRoot(options).AsMap
    found = {key.AsKey: value for key, value in zip(entries.Keys, entries.Values, strict=True)}
    yield bytes(found[_MAIN].AsStringBytes)
    if _REST in found and found[_REST].IsVector:
        yield from (bytes(one.AsStringBytes) for one in found[_REST].AsVector)


def _executables(package: _Table) -> list[bytes]:
    inner = package.content_at(_PACKAGE["executables"])
    return _Table(inner).contents(0) if inner else []


def _executable(content: bytes) -> Executable:
    table = _Table(content)
    return Executable(
        kind=_KINDS[table.number(_EXECUTABLE["type"], "h")],
        chip=table.text(_EXECUTABLE["chip"]),
        instruction_bytes=sum(chunk.length(0) for chunk in table.tables(_EXECUTABLE["instructions"])),
        parameter_bytes=table.length(_EXECUTABLE["parameters"]),
        scratch_bytes=table.number(_EXECUTABLE["scratch"], "i"),
        size_bytes=len(content),
    )


class _Table:
    """One table of a flatbuffer without its schema: fields by their place; every offset is checked against the content."""

    def __init__(self, content: bytes, position: int | None = None) -> None:
        self.content = content
        self.position = self._unsigned(0) if position is None else position
        self.fields = self.position - self._at("i", self.position)

    def number(self, place: int, form: str) -> int:
        """Return a scalar, 0 where it is left out."""
        where = self._where(place)
        return self._at(form, where) if where else 0

    def length(self, place: int) -> int:
        """Return the number of elements of a vector or string, 0 where it is left out."""
        where = self._where(place)
        return self._bounded(where) if where else 0

    def text(self, place: int) -> str:
        """Return a string, empty where it is left out."""
        return self.content_at(place).decode("utf-8", errors="replace")

    def content_at(self, place: int) -> bytes:
        """Return a string's or byte vector's content."""
        where = self._where(place)
        if not where:
            return b""
        start = where + self._unsigned(where)
        return self.content[start + 4 : start + 4 + self._bounded(where)]

    def contents(self, place: int) -> list[bytes]:
        """Return the content of each string of a vector."""
        found = []
        for where in self._elements(place):
            start = where + self._unsigned(where)
            size = self._unsigned(start)
            if start + 4 + size > len(self.content):
                raise ValueError("a string lies outside of its package")
            found.append(self.content[start + 4 : start + 4 + size])
        return found

    def tables(self, place: int) -> list[_Table]:
        """Return the tables of a vector."""
        return [_Table(self.content, where + self._unsigned(where)) for where in self._elements(place)]

    def _elements(self, place: int) -> range:
        where = self._where(place)
        if not where:
            return range(0)
        start = where + self._unsigned(where) + 4
        return range(start, start + 4 * self._bounded(where), 4)

    def _where(self, place: int) -> int:
        entry = 4 + 2 * place
        if entry >= self._at("H", self.fields):
            return 0
        offset = self._at("H", self.fields + entry)
        return self.position + offset if offset else 0

    def _bounded(self, where: int) -> int:
        start = where + self._unsigned(where)
        size = self._unsigned(start)
        if start + 4 + size > len(self.content):
            raise ValueError("a vector lies outside of its package")
        return size

    def _unsigned(self, where: int) -> int:
        return self._at("I", where)

    def _at(self, form: str, where: int) -> int:
        if where < 0:
            raise ValueError("an offset lies before its package")
        found: Any = struct.unpack_from(f"<{form}", self.content, where)[0]
        return int(found)
