"""Hold the forecast against what the real compiler did: `bench_coral.py DIR`, a folder of X.tflite and X_edgetpu.tflite pairs.

For each pair it prints how many operations, by name, are forecast for the CPU and how many the compiler left there. The exit code is
0 when no model differs by more than one operation, else 1; 2 when the folder holds no pairs.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from edgeship import compiled, flatbuffer, forecast, target

ALLOWED = 1
SUFFIX = "_edgetpu"
TARGET = "coral-usb"


def main() -> int:
    """Print a block a pair; return the exit code."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    pairs = sorted(path for path in Path(sys.argv[1]).glob(f"*{SUFFIX}.tflite") if source(path).is_file())
    if not pairs:
        print(f"{sys.argv[1]}: holds no pairs of X.tflite and X{SUFFIX}.tflite")
        return 2
    worst = max(compared(path) for path in pairs)
    print(f"{len(pairs)} pairs, at most {worst} operation{'' if worst == 1 else 's'} of difference in a model")
    return 0 if worst <= ALLOWED else 1


def source(path: Path) -> Path:
    """Return the file that a compiled one was made from."""
    return path.with_name(path.name.replace(f"{SUFFIX}.tflite", ".tflite"))


def compared(path: Path) -> int:
    """Print one pair's counts; return by how many operations they differ."""
    foretold = forecast.of_target(flatbuffer.read(source(path)), target.read(TARGET))
    assert foretold is not None
    real = compiled.read(path)
    ours, theirs = Counter(foretold.cpu_operators), Counter(real.cpu_operators)
    differ = sum(((ours - theirs) + (theirs - ours)).values())
    whole = len(foretold.operators)
    print(f"{source(path).name}: {whole} operations, differ {differ}")
    print(
        f"  forecast CPU {dict(ours) or 'none'}; {foretold.subgraphs} subgraph, {foretold.parameter_bytes:,} B of parameters, "
        f"fit: {foretold.fits_on_chip}"
    )
    print(
        f"  compiled CPU {dict(theirs) or 'none'}; {len(real.packages)} subgraph, {real.cached_bytes:,} B cached, "
        f"{real.streamed_bytes:,} B streamed, runtime {real.min_runtime}"
    )
    sure = Counter(entry.confidence for entry in foretold.operators)
    print(f"  confidence {dict(sure)}")
    return differ


if __name__ == "__main__":
    raise SystemExit(main())
