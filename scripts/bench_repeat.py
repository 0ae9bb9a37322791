"""How well latency repeats on a counted virtual board: separate `edgeship bench` calls, each with a boot of its own.

    uv run python scripts/bench_repeat.py MODEL.tflite [--targets rpi4 rpi5] [--rounds 5]

Simulated: one instruction is one nanosecond, no cache, no pipeline. A figure for regressions, not a board's latency.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Print each p50 and their spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a .tflite file or the out folder of a build")
    parser.add_argument("--targets", nargs="+", default=["rpi4", "rpi5"])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for target in given.targets:
        found = []
        for number in range(given.rounds):
            began = time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "edgeship",
                "bench",
                given.model,
                "--device",
                f"virtual:{target}",
                "--json",
            ]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr
            record = json.loads(done.stdout)
            assert record["golden"]["passed"] and record["simulated"]
            found.append(record["latency_ms"]["p50"])
            print(
                f"virtual:{target} {number + 1}: p50 {found[-1]:.6f} ms (simulated), whole call {time.perf_counter() - began:.1f} s",
                flush=True,
            )
        spread = (max(found) - min(found)) / min(found)
        print(f"virtual:{target}: {min(found):.6f} to {max(found):.6f} ms (simulated), spread {spread:.4%}")


if __name__ == "__main__":
    main()
