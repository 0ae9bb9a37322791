"""What machine a program file is for: the head of an ELF file, or the first line of a script."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MACHINES = {0x03: "i386", 0x28: "arm", 0x3E: "x86_64", 0xB7: "aarch64", 0xF3: "riscv"}
_INTERPRETER = 3  # program header type PT_INTERP
HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Program:
    """A program file. A script has no machine; `interpreter` is what starts it: a loader's or a script's path."""

    machine: str | None
    bits: int | None
    interpreter: str | None


def read(head: bytes) -> Program | None:
    """Return what the first bytes of a file (`HEAD_BYTES` of them) say, or None when it is no program."""
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].decode(errors="replace").split()
        return Program(None, None, words[0] if words else None)
    if not head.startswith(b"\x7fELF") or len(head) < 52 or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    bits, order = 32 * head[4], "<" if head[5] == 1 else ">"
    (code,) = struct.unpack_from(order + "H", head, 18)
    return Program(MACHINES.get(code, f"ELF machine {code}"), bits, _loader(head, bits, order))


def _loader(head: bytes, bits: int, order: str) -> str | None:
    """Return the path of the loader that the program asks for (Elf32_Phdr, Elf64_Phdr); None for a static one."""
    table, entry_at, offset_at, size_at = ("I", 28, 4, 16) if bits == 32 else ("Q", 32, 8, 32)
    try:
        (start,) = struct.unpack_from(order + table, head, entry_at)
        step, count = struct.unpack_from(order + "HH", head, 42 if bits == 32 else 54)
        for at in range(start, start + step * count, step or 1):
            (kind,) = struct.unpack_from(order + "I", head, at)
            if kind == _INTERPRETER:
                (offset,) = struct.unpack_from(order + table, head, at + offset_at)
                (size,) = struct.unpack_from(order + table, head, at + size_at)
                return head[offset : offset + size].rstrip(b"\0").decode(errors="replace") or None
    except struct.error:
        return None
    return None
