"""Cut models into segments for 2, 3 and 4 Edge TPUs and print the table: loads, crossings, estimate, and the check.

    python scripts/bench_segments.py MODEL.tflite … [--target coral-usb] [--link usb3|usb2|pcie] [--counts 2,3,4]

Everything but the check is an estimate from the file and from latencies that the vendor published; no Edge TPU is used.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from edgeship import segments
from edgeship.errors import EdgeshipError
from edgeship.segments import SegmentOrder, SegmentsRecord


def main() -> None:
    """Print one line a model and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--target", default="coral-usb")
    parser.add_argument("--link")
    parser.add_argument("--counts", default="2,3,4")
    given = parser.parse_args()
    print(
        "| model | N | chained on the host | operations | weights KiB | MACs M | in and out KiB | slowest ms | one chip ms | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for model in given.models:
        for count in (int(text) for text in given.counts.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                order = SegmentOrder(
                    str(model), count, given.target, link=segments.link(given.link), out=Path(folder) / "out"
                )
                began = time.perf_counter()
                try:
                    made = segments.split(order)
                except EdgeshipError as refusal:
                    print(f"| {model} | {count} | {refusal.message} | | | | | | | |")
                    continue
                print(_row(str(model), made, time.perf_counter() - began))


def _row(model: str, made: SegmentsRecord, seconds: float) -> str:
    parts, pace = made.segments, made.schedule
    cells = [
        model,
        str(len(parts)),
        f"bit-identical, {made.check.examples} inputs, {' and '.join(made.check.kernels)}",
        " ".join(str(part.operators) for part in parts),
        " ".join(f"{part.weight_bytes / 1024:.0f}" for part in parts),
        " ".join(f"{part.macs / 1e6:.1f}" for part in parts),
        " ".join(f"{part.crossing_bytes / 1024:.0f}" for part in parts),
        f"{pace.slowest_ms:.2f}",
        f"{pace.single_ms:.2f}",
        f"{seconds:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
