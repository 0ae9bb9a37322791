"""Stand-ins for programs that cannot be shipped: they do the real work with what is at hand, and talk like the original."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, get_args

from edgeship import resources

Dialect = Literal["tflite-2019", "tflite-2021", "tflite-2025", "litert-2025"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
CompilerMode = Literal[
    "works", "refused", "failed", "timeout", "hang", "crash", "silence", "no-file", "plain-file", "garbage", "unmapped"
]
COMPILER_MODES: tuple[CompilerMode, ...] = get_args(CompilerMode)
COMPILER_VERSIONS = ("16.0.384591198", "15.0.340273435", "2.0.267685300")  # each prints another dialect


def benchmark_model(folder: Path, *, dialect: Dialect = "tflite-2025", python: str = "/usr/bin/env python3") -> Path:
    """Write a benchmark_model that runs models with the Python runtime of the machine it stands on; return its path.

    Args:
        dialect: the build whose flags it knows and whose output it prints.
        python: what starts it there: a path, or `env` with a name; it has numpy and ai_edge_litert or tflite_runtime.
    """
    source = (resources.folder("standin") / "benchmark_model.py").read_text(encoding="utf-8")
    _, _, rest = source.partition("\n")
    marked = rest.replace('DIALECT = "tflite-2025"', f'DIALECT = "{dialect}"')
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"benchmark_model-{dialect}"
    made.write_text(f"#!{python}\n{marked}", encoding="utf-8")
    made.chmod(0o755)
    return made


def edgetpu_compiler(folder: Path, *, mode: CompilerMode = "works", version: str = COMPILER_VERSIONS[0]) -> Path:
    """Write an edgetpu_compiler that makes files of the original's form, and no chip's code; return its path.

    Args:
        mode: how it breaks, if it does: each as the original was seen to.
        version: the one that it says it is, and whose output it prints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "edgetpu_compiler"
    lines = (
        f"#!{sys.executable}", "import sys", f"sys.path.insert(0, {str(resources.PACKAGE.parent)!r})",
        "from edgeship.standin.edgetpu_compiler import main", f"main({version!r}, {mode!r})",
    )  # fmt: skip
    made.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made.chmod(0o755)
    return made
