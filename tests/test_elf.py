"""What a program file is for, from its first bytes; no bytes make the reader fail."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.benchmark_tool import elf


def program(machine: int, bits: int, loader: bytes | None) -> bytes:
    """Return the head of an ELF file with one program header."""
    wide = bits == 64
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    size = 64 if wide else 52
    head = ident + struct.pack("<HHI", 3, machine, 1)
    head += struct.pack("<QQQ", 0, size, 0) if wide else struct.pack("<III", 0, size, 0)
    head += struct.pack("<IHHHHHH", 0, size, 56 if wide else 32, 1, 0, 0, 0)
    at = size + (56 if wide else 32)
    length = len(loader or b"")
    kind = 3 if loader else 1
    entry = (
        struct.pack("<IIQQQQQQ", kind, 4, at, 0, 0, length, length, 1)
        if wide
        else struct.pack("<8I", kind, at, 0, 0, length, length, 4, 1)
    )
    return head + entry + (loader or b"")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (program(0xB7, 64, b"/system/bin/linker64\0"), elf.Program("aarch64", 64, "/system/bin/linker64")),
        (program(0x28, 32, b"/lib/ld-linux-armhf.so.3\0"), elf.Program("arm", 32, "/lib/ld-linux-armhf.so.3")),
        (program(0x3E, 64, None), elf.Program("x86_64", 64, None)),
        (program(0xF7, 64, None), elf.Program("ELF machine 247", 64, None)),
        (b"#!/usr/bin/env python3\nimport os\n", elf.Program(None, None, "/usr/bin/env")),
        (b"<html>", None),
        (b"\x7fELF", None),
        (b"", None),
    ],
)
def test_what_a_program_is_for(content: bytes, expected: elf.Program | None) -> None:
    assert elf.read(content) == expected


@given(st.binary(max_size=200))
def test_any_head_of_a_file_is_read(rest: bytes) -> None:
    elf.read(b"\x7fELF" + rest)
