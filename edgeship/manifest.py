"""From a build's record to the JSON that users and scripts read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeship import compilation
from edgeship.out_folder import MANIFEST
from edgeship.run import BuildRecord

# The keys of `edgeship build --json`, in the contract's order; the manifest holds the rest too.
CONTRACT = (
    "artifact", "sha256", "target", "recipe", "size_bytes", "gzip_bytes", "reference_size_bytes", "quality", "import",
    "stages", "quantized", "sparsity", "warnings", "manifest", "report", "passed", "gates", "compiler", "uncompiled",
)  # fmt: skip


def repeated(made: BuildRecord) -> BuildRecord:
    """Return the record of a build of which nothing had to run again."""
    runs = tuple(replace(run, outcome="cached", why="unchanged") for run in made.stages)
    return replace(made, stages=runs, made=datetime.now(UTC).isoformat(timespec="seconds"))


def manifest(record: BuildRecord) -> dict[str, Any]:
    """Return the whole record as JSON values, the contract's keys first."""
    table = asdict(record)
    table["import"] = table.pop("import_check")
    table["passed"] = record.passed
    table["compiler"] = None if record.compiler is None else compilation.contract(record.compiler)
    return {key: table[key] for key in (*CONTRACT, *(key for key in table if key not in CONTRACT))}


def contract(record: BuildRecord) -> dict[str, Any]:
    """Return what `--json` prints."""
    table = manifest(record)
    return {key: table[key] for key in CONTRACT}


def compiled_before(out: Path) -> bool:
    """Say whether the build that stands in a folder left a compiled file there."""
    try:
        table = json.loads((out / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(table, dict) and bool(table.get("uncompiled"))


def as_bytes(table: Mapping[str, Any]) -> bytes:
    """Return JSON text a person can read; a number that is not finite would be no JSON and raises ValueError."""
    text = json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")  # a path that is no UTF-8: JSON escapes its bytes in the same way
