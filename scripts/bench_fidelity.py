"""Hold the board's runner against `litert-benchmark` on this machine: the same file, the same number of threads.

A round is A B B A, a few times over: each letter a process of its own with a few runs, so that a machine that drifts
favours neither and one process's luck with its memory weighs little. A round gives one ratio: the geometric mean of the
runner's medians over that of litert-benchmark's. The bootstrap interval of the rounds' median ratio has to contain 1 and
to lie within 2 %. Shared machines wander by a tenth and more from second to second: more repeats a round narrow it. litert-benchmark rounds to
0.01 ms: take a model slower than 5 ms. It times `CompiledModel.run_by_name` on buffers filled once with random numbers,
the runner times `Interpreter.invoke` on tensors filled once with seeded numbers; both run XNNPACK, neither makes inputs in
the timed part. What `run_by_name` does besides (it registers the buffers with each run) is some 0.05 ms, so the slower the
model, the less of it is in the ratio.
Run: python scripts/bench_fidelity.py MODEL [--threads N] [--rounds 21] [--repeats 6] [--runs 10]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgeship import resources
from edgeship.command import call

Tool = Callable[[Path, int, int], float]
LIMIT, RESAMPLES, SEED = 0.02, 10_000, 7
SLOW_ENOUGH_MS = 5.0
QUIET = 0.3
TIMEOUT_S = 900.0


def ours_ms(model: Path, threads: int, runs: int) -> float:
    """Return the median latency that the runner measures."""
    order = {
        "action": "measure", "model": str(model), "threads": threads, "cpus": [], "batch": 1, "runs": runs,
        "min_seconds": 0, "max_seconds": TIMEOUT_S, "warmup_seconds": 0.3, "warmup_max_seconds": 5, "feed": None,
        "outputs": None, "snapshot_every_s": 1.0, "sys": "/sys", "proc": "/proc",
    }  # fmt: skip
    runner = resources.folder("board") / "runner.py"
    done = call(sys.executable, runner, stdin=json.dumps(order).encode(), timeout_s=TIMEOUT_S)
    samples_ns: list[int] = json.loads(done.output.splitlines()[-1])["samples_ns"]
    return statistics.median(samples_ns) / 1e6


def theirs_ms(model: Path, threads: int, runs: int) -> float:
    """Return the median latency that litert-benchmark measures."""
    with tempfile.TemporaryDirectory(prefix="edgeship-") as folder:
        report = Path(folder, "report.json")
        call(
            sys.executable, "-m", "ai_edge_litert.tools.benchmark_litert_model", f"--model={model}",
            f"--num_threads={threads}", f"--num_runs={runs}", "--warmup_runs=10", f"--result_json={report}",
            timeout_s=TIMEOUT_S,
        )  # fmt: skip
        return float(json.loads(report.read_text())["latency"]["median_ms"])


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the median."""
    draw = random.Random(SEED)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def main() -> None:
    """Print one line a round, then the verdict; the exit code says it too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=6, help="times that A B B A is done in a round")
    parser.add_argument("--runs", type=int, default=10, help="inferences of each process")
    chosen = parser.parse_args()
    ratios, ours_all, theirs_all = [], [], []
    for number in range(chosen.rounds):
        measured: dict[Tool, list[float]] = {ours_ms: [], theirs_ms: []}
        for tool in (ours_ms, theirs_ms, theirs_ms, ours_ms) * chosen.repeats:
            measured[tool].append(tool(chosen.model.resolve(), chosen.threads, chosen.runs))
        ours, theirs = statistics.geometric_mean(measured[ours_ms]), statistics.geometric_mean(measured[theirs_ms])
        ours_all.append(ours)
        theirs_all.append(theirs)
        ratios.append(ours / theirs)
        line = f"runner {ours:8.3f} ms, litert-benchmark {theirs:8.2f} ms, ratio {ours / theirs:.4f}"
        print(f"round {number + 1:2}: {line}", flush=True)
    low, high = interval(ratios)
    typical = statistics.median(theirs_all)
    passed = low <= 1 <= high and low >= 1 - LIMIT and high <= 1 + LIMIT
    print(f"medians: runner {statistics.median(ours_all):.3f} ms, litert-benchmark {typical:.2f} ms")
    print(
        f"median ratio {statistics.median(ratios):.4f}, 95 % interval {low:.4f} … {high:.4f}: {'passed' if passed else 'failed'}"
    )
    waiting = os.getloadavg()[1] - chosen.threads
    if waiting > QUIET:
        print(
            f"note: other work loaded this machine meanwhile (about {waiting:.1f} processes): such rounds scatter widely"
        )
    if typical < SLOW_ENOUGH_MS:
        print(f"note: at {typical:.2f} ms the rounding of litert-benchmark to 0.01 ms shows; take a slower model")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
