"""Exported programs (`.pt2`) read with distrust, by the standard library alone: what would run code is refused before torch sees it.

torch.export.load takes what is in the archive at its word: it unpickles records, loads shared libraries, evaluates the
text of symbolic sizes, and calls whatever function of torch a node names. Here all of that is read as data, and what is
left is written into an archive of our own, so that two readers of a zip cannot see two different files in it.
Format: https://docs.pytorch.org/docs/stable/export/pt2_archive.html and torch/_export/serde/schema.py of torch 2.13.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship import torch_program
from edgeship.errors import BadInput

Json = dict[str, Any]

LIMIT_BYTES = 2**31 - 1  # a TFLite file ends there
PROGRAM_BYTES = 256 * 1024**2
SMALL_BYTES = 64 * 1024**2  # of a table of weights
SCHEMA_MAJOR = 8
ARCHIVE_VERSION = "0"
AGAIN = "export it again: torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2')"
OR_FUNCTION = "or give the code: edgeship build my_module:function, which returns (model, example inputs)"
_ZIP = b"PK\x03\x04"
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_SUFFIXES = (".pt2", ".pt", ".pth", ".ckpt", ".bin")
_FAULTS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, LookupError, NotImplementedError, OSError, OverflowError,
    RecursionError, RuntimeError, TypeError, UnicodeError, ValueError, AttributeError, MemoryError,
)  # fmt: skip
_WEIGHT = re.compile(r"weight_\d+")
_CONSTANT = re.compile(r"tensor_\d+")
# Bytes of torch's ScalarType, by number.
ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2, 28: 2, 29: 1, 30: 1}


@dataclass(frozen=True)
class ExportedFile:
    """One exported program: the program as JSON without what could run, and where its tensors lie.

    Attributes:
        program: what torch calls `schema.ExportedProgram`.
        tables: of the weights and of the constants: tensor name → its record and how it lies there.
        records: our record name → the record of the source that is copied to it.
        torch_version: what wrote it.
    """

    program: Json
    tables: Mapping[str, Json]
    records: Mapping[str, str] = field(default_factory=dict)
    torch_version: str = "?"


def recognizes(source: Path) -> bool:
    """Say whether a file is an archive with an exported program.

    Raises:
        BadInput: it is another of torch's files: weights only, a pickled module, TorchScript; the hint is the next move.
    """
    with source.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(_PICKLES) and source.suffix.lower() in _SUFFIXES:
        raise _pickled(source)
    if not head.startswith(_ZIP):
        return False
    try:
        with zipfile.ZipFile(source) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
            bare = set(archive.namelist())
    except _FAULTS:
        if source.suffix.lower() in _SUFFIXES:
            raise BadInput(f"{source}: damaged: its table of contents cannot be read", hint=AGAIN) from None
        return False
    if any(name.startswith("data/aotinductor/") for name in names):
        raise BadInput(f"{source}: a package compiled for one kind of machine (AOTInductor), no model", hint=AGAIN)
    if "archive_format" in names:
        return True
    if "serialized_exported_program.json" in bare:
        raise BadInput(
            f"{source}: an exported program in the form of PyTorch 2.7 or older",
            hint="load it with the torch that wrote it, and save it with PyTorch 2.9 or newer",
        )
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        raise BadInput(f"{source}: TorchScript, which carries code of its own and is not read", hint=AGAIN)
    if "data.pkl" in names:
        raise _pickled(source)
    return False


def _pickled(source: Path) -> BadInput:
    told = "weights or a pickled module (torch.save), without the graph; loading it would run what is in it"
    return BadInput(f"{source}: {told}", hint=f"{AGAIN}; {OR_FUNCTION}")


def read(source: Path) -> ExportedFile:
    """Return an exported program, checked; nothing of it is run.

    Raises:
        BadInput: damaged, larger than TFLite can be, or made to run code; the text says what.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            return _read(source, archive)
    except _FAULTS as fault:
        text = (str(fault).splitlines() or [type(fault).__name__])[0][:200]
        raise BadInput(f"{source}: damaged exported program: {text}", hint=AGAIN) from None


def _read(source: Path, archive: zipfile.ZipFile) -> ExportedFile:
    members = _members(source, archive)
    if _text(archive, members, "archive_format") != "pt2":
        raise BadInput(f"{source}: not an exported program: its archive_format is something else", hint=AGAIN)
    version = _text(archive, members, "archive_version") if "archive_version" in members else ARCHIVE_VERSION
    if version.strip() != ARCHIVE_VERSION:
        raise BadInput(f"{source}: archive version {version.strip()[:20]!r}; edgeship reads {ARCHIVE_VERSION}")
    if "byteorder" in members and _text(archive, members, "byteorder").strip() != "little":
        raise BadInput(f"{source}: its numbers are big-endian; export it on a little-endian machine")
    models = [name for name in members if re.fullmatch(r"models/[^/]+\.json", name)]
    if len(models) != 1:
        told = ", ".join(sorted(name[7:-5] for name in models)) or "none"
        raise BadInput(f"{source}: one model is expected in it; it holds {told}", hint=AGAIN)
    name = models[0][len("models/") : -len(".json")]
    program = _table(source, archive, members[models[0]], PROGRAM_BYTES)
    _check_schema(source, program)
    clean = torch_program.cleaned(source, program)
    tables, records = {}, {}
    for kind, pattern in (("weights", _WEIGHT), ("constants", _CONSTANT)):
        if f"data/{kind}/{name}.pt" in members:
            raise BadInput(
                f"{source}: its {kind} are pickled, as PyTorch 2.8 and older wrote them; loading them could run code",
                hint="load it with the torch that wrote it, and save it with PyTorch 2.9 or newer",
            )
        place = f"data/{kind}/{name}_{kind}_config.json"
        if place not in members:
            raise BadInput(f"{source}: damaged exported program: no table of its {kind} ({place})", hint=AGAIN)
        table = _table(source, archive, members[place], SMALL_BYTES)
        for used in _payloads(source, kind, pattern, table, members):
            records[f"data/{kind}/{used}"] = members[f"data/{kind}/{used}"].filename
        tables[kind] = table
    return ExportedFile(clean, tables, records, str(program.get("torch_version", "?"))[:40])


def _members(source: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the records by their names below the archive's folder; torch stores them as they are, one beside the other."""
    found: dict[str, zipfile.ZipInfo] = {}
    roots = {entry.filename.partition("/")[0] for entry in archive.infolist()}
    total = 0
    for entry in archive.infolist():
        name = entry.filename.partition("/")[2]
        parts = entry.filename.split("/")
        if len(roots) != 1 or "" in parts[:-1] or ".." in parts or "\\" in entry.filename or entry.filename[:1] == "/":
            raise BadInput(f"{source}: a record is named {entry.filename[:80]!r}, which torch never writes")
        if name in found:
            raise BadInput(f"{source}: holds the record {name[:80]!r} twice")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise BadInput(f"{source}: its record {name[:80]!r} is compressed or encrypted, which torch never does")
        total += entry.file_size
        found[name] = entry
    if total > source.stat().st_size:
        raise BadInput(f"{source}: damaged: claims {total} bytes, more than the file has", hint=AGAIN)
    if total > LIMIT_BYTES:
        raise BadInput(f"{source}: {total / 1e9:.1f} GB; a TFLite file ends at 2.1 GB")
    return found


def _text(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> str:
    entry = members[name]
    return archive.read(entry).decode() if entry.file_size < 1000 else ""


def _table(source: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit_bytes: int) -> Json:
    if entry.file_size > limit_bytes:
        raise BadInput(f"{source}: its {entry.filename} has {entry.file_size} bytes, more than any model's")
    found = json.loads(archive.read(entry))
    if not isinstance(found, dict):
        raise TypeError(f"{entry.filename} is no table")
    return found


def _check_schema(source: Path, program: Json) -> None:
    major, minor = (int(program["schema_version"][part]) for part in ("major", "minor"))
    if major != SCHEMA_MAJOR:
        wrote = str(program.get("torch_version", "?"))[:40]
        raise BadInput(
            f"{source}: schema {major}.{minor}, written by torch {wrote}; edgeship's converter reads {SCHEMA_MAJOR}",
            hint="export it with a torch from 2.9 to 2.13",
        )


def _payloads(
    source: Path, kind: str, pattern: re.Pattern[str], table: Json, members: Mapping[str, zipfile.ZipInfo]
) -> set[str]:
    """Return the records that a table names, each held against what the archive has."""
    used = set()
    for name, entry in table["config"].items():
        record = entry["path_name"]
        if entry["use_pickle"] or not pattern.fullmatch(record):
            raise BadInput(
                f"{source}: its {kind[:-1]} '{name[:80]}' is a pickled object ({record[:40]!r}), which could run code",
                hint="export a model whose weights and constants are plain tensors",
            )
        place = members.get(f"data/{kind}/{record}")
        if place is None:
            raise BadInput(f"{source}: damaged: the record of '{name[:80]}' is not there", hint=AGAIN)
        needed = _needed_bytes(entry["tensor_meta"])
        if needed > place.file_size:
            missing = "it was exported without its weights" if not place.file_size else "the record is too short"
            raise BadInput(f"{source}: '{name[:80]}' needs {needed} bytes and has {place.file_size}: {missing}")
        used.add(record)
    return used


def _needed_bytes(meta: Json) -> int:
    sizes, strides = ([_whole(entry) for entry in meta[part]] for part in ("sizes", "strides"))
    offset = _whole(meta["storage_offset"])
    if 0 in sizes:
        return 0
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    return (last + 1) * ITEM_BYTES[int(meta["dtype"])]


def _whole(entry: Json) -> int:
    value = entry["as_int"]
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"a size of {value!r}")
    return value


def write_clean(source: Path, file: ExportedFile, out: Path) -> None:
    """Write the program and its tensors as an archive that holds nothing else; what is copied is held against its checksum.

    Raises:
        BadInput: a record is damaged.
    """
    tables = {f"data/{kind}/model_{kind}_config.json": table for kind, table in file.tables.items()}
    texts = {name: json.dumps(table) for name, table in {"models/model.json": file.program, **tables}.items()}
    texts |= {
        "archive_format": "pt2",
        "archive_version": ARCHIVE_VERSION,
        "byteorder": "little",
        ".data/version": "6\n",
    }
    texts["data/sample_inputs/model.pt"] = ""  # would be unpickled
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as made:
        for name, text in texts.items():
            made.writestr(f"model/{name}", text)
        for name, record in file.records.items():
            with made.open(f"model/{name}", "w", force_zip64=True) as given:
                for block in _blocks(source, archive, record):
                    given.write(block)


def _blocks(source: Path, archive: zipfile.ZipFile, record: str) -> Iterator[bytes]:
    """Give a record bit by bit, and hold it against its checksum at the end."""
    try:
        with archive.open(record) as stream:
            while block := stream.read(1 << 20):
                yield block
    except _FAULTS as fault:
        raise BadInput(f"{source}: damaged: the record {record[:80]!r}: {str(fault)[:200]}", hint=AGAIN) from None
