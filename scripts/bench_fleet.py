"""Twenty boards in one call against one alone: time, and the memory of the workstation's process.

    uv run python scripts/bench_fleet.py MODEL.tflite [--boards 20] [--seconds 5]

Real sshd's in network namespaces of their own (root). They share this machine's cores, so what they measure is worth
nothing, and `valid` is false; what is shown is that one call holds them all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.lab.drawer import drawer


def main() -> None:
    """Print both times, their ratio, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a .tflite file or the out folder of a build")
    parser.add_argument("--boards", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    with drawer(given.boards, networks=True) as lab:
        names = [f"board-{number + 1}" for number in range(given.boards)]
        bench(given.model, names, 0.1, lab.environment)  # the runtime and the model are there from now on
        alone, _, _ = bench(given.model, names[:1], given.seconds, lab.environment)
        connecting = connections(names, lab.environment)
        together, memory_mib, valid = bench(given.model, names, given.seconds, lab.environment)
        print(
            f"one board alone: {alone:.1f} s; {given.boards} at once: {together:.1f} s; connections alone: {connecting:.1f} s"
        )
        print(f"ratio {together / alone:.2f}, less the connections {(together - connecting) / alone:.2f}")
        print(
            f"the workstation's process and its children at most {memory_mib:.0f} MiB; {valid} of {given.boards} runs valid"
        )


def bench(model: str, names: list[str], seconds: float, environment: Mapping[str, str]) -> tuple[float, float, int]:
    """Return the whole command's seconds, its peak memory in MiB, and how many runs were valid."""
    devices = [word for name in names for word in ("--device", name)]
    times = ["--runs", "8", "--min-seconds", str(seconds), "--warmup-seconds", "0.1"]
    command = [sys.executable, "-m", "edgeship", "bench", model, *devices, *times, "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    took = time.perf_counter() - began
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    table = json.loads(done.stdout)
    valid = sum(one["valid"] for one in table.get("benches", [table]))
    return took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, valid


def connections(names: list[str], environment: Mapping[str, str]) -> float:
    """Return the seconds that connecting to all of them takes, as `devices check` does."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "edgeship", "devices", "check", *names, "--json"]
    subprocess.run(command, env={**os.environ, **environment}, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
