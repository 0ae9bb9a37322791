"""How much a build costs beside a bare script that does the same work with the same libraries, measured in one run.

    uv run python scripts/bench_build.py MODEL.h5 TEST.npz TRAIN.npz [--pairs 3]

Prints, for a cold build to int8: seconds of both, the ratio, and whether `edgeship <= 1.1 x bare + 3 s`; then the
rebuild with nothing changed, and `edgeship --help`. Commands alternate, so that a machine whose speed drifts slows both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = Path(__file__).with_name("bare_int8.py")
EDGESHIP = (sys.executable, "-m", "edgeship.cli")


def seconds(command: list[str], home: Path) -> float:
    """Return the wall-clock seconds of a command, which must succeed."""
    began = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, "EDGESHIP_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "out"
        bare = [sys.executable, str(BARE), str(options.model), str(options.data), str(options.calibration)]
        build = [
            *EDGESHIP, "build", str(options.model), "--target", "rpi4", "--recipe", "int8", "--quiet",
            "--data", str(options.data), "--calibration", str(options.calibration), "--out", str(out),
        ]  # fmt: skip
        ours: list[float] = []
        theirs: list[float] = []
        for pair in range(options.pairs):
            theirs.append(seconds(bare, folder))
            ours.append(seconds(build, folder / f"home{pair}"))
            limit = 1.1 * theirs[-1] + 3
            print(
                f"pair {pair + 1}: bare {theirs[-1]:.1f} s, edgeship {ours[-1]:.1f} s, allowed {limit:.1f} s",
                flush=True,
            )
        middle = statistics.median(ours), statistics.median(theirs)
        print(f"cold build: edgeship {middle[0]:.1f} s, bare {middle[1]:.1f} s, ratio {middle[0] / middle[1]:.2f}")
        print(f"within 1.1 x bare + 3 s: {middle[0] <= 1.1 * middle[1] + 3}")
        again = [seconds(build, folder / f"home{options.pairs - 1}") for _ in range(5)]
        print(f"rebuild, nothing changed: median {statistics.median(again):.2f} s, max {max(again):.2f} s")
        helps = [seconds([*EDGESHIP, "--help"], folder) for _ in range(7)]
        print(f"edgeship --help: median {statistics.median(helps):.2f} s, min {min(helps):.2f} s")


if __name__ == "__main__":
    main()
