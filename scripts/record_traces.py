"""Record how much a run's median varies on this machine: traces for `bench_gate.py`.

Many short processes of the board's runner in turn: a fixed reference workload, then the model on one thread, then on two.
Each line of a trace is one round: seconds since the first, the median of the model's run and of the reference's before
it, in microseconds. Nothing on the machine is touched, so the traces hold what its neighbours did to it; that is the point.
Run: python scripts/record_traces.py MODEL.tflite REFERENCE.tflite [--minutes 12] [--out tests/data/traces]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

from edgeship import resources
from edgeship.command import call

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 120.0
THREADS = (1, 2)


def p50_us(model: Path, threads: int, runs: int) -> float:
    """Return the median latency of one process of the runner, in microseconds."""
    order = {
        "action": "measure", "model": str(model), "threads": threads, "cpus": [], "batch": 1, "runs": runs,
        "min_seconds": 0.1, "max_seconds": TIMEOUT_S, "warmup_seconds": 0.05, "warmup_max_seconds": 0.2, "feed": None,
        "outputs": None, "snapshot_every_s": 1.0, "sys": "/sys", "proc": "/proc",
    }  # fmt: skip
    runner = resources.folder("board") / "runner.py"
    done = call(sys.executable, runner, stdin=json.dumps(order).encode(), timeout_s=TIMEOUT_S)
    samples_ns: list[int] = json.loads(done.output.splitlines()[-1])["samples_ns"]
    return statistics.median(samples_ns) / 1e3


def write(path: Path, comment: str, rows: list[tuple[float, float, float]]) -> None:
    """Write a trace beside its name and rename it."""
    lines = [comment, "seconds,model_us,reference_us", *(f"{at:.1f},{model:.2f},{ref:.2f}" for at, model, ref in rows)]
    beside = path.with_suffix(".part")
    beside.write_text("\n".join(lines) + "\n")
    beside.replace(path)


def main() -> None:
    """Record until the time is over, then write one file for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--runs", type=int, default=100, help="inferences of each process, at least")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "data" / "traces")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows: dict[int, list[tuple[float, float, float]]] = {threads: [] for threads in THREADS}
    began, day = time.monotonic(), time.strftime("%Y-%m-%d")
    while (at := time.monotonic() - began) < chosen.minutes * 60:
        for threads in THREADS:
            reference = p50_us(chosen.reference.resolve(), 1, chosen.runs)
            rows[threads].append((at, p50_us(chosen.model.resolve(), threads, chosen.runs), reference))
        if len(rows[1]) % 50 == 0:
            print(f"{at:6.0f} s, {len(rows[1])} rounds, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    for threads, found in rows.items():
        origin = (
            f"# our own measurement, {day}, scripts/record_traces.py: {chosen.model.stem} on {threads} of {os.cpu_count()} "
            f"shared cores, {platform.machine()} {platform.system()}, a process a line; reference: {chosen.reference.stem}"
        )
        write(chosen.out / f"ci-host-{threads}-threads.csv", origin, found)


if __name__ == "__main__":
    main()
