"""Connect to virtual boards whose image and snapshot are there, and print the seconds from nothing to the first answer.

Run: python scripts/bench_starts.py [rpi4 rpi5] [--times 5]
"""

from __future__ import annotations

import argparse
import os
import time

from edgeship import devices
from edgeship.device import Device
from edgeship.remote import run


def seconds(board: Device) -> float:
    """Return how long a board took that was started for this connection."""
    began = time.perf_counter()
    connection = devices.connect(board)
    try:
        done = run(connection, "echo here", timeout_s=120)
        took = time.perf_counter() - began
    finally:
        connection.close()
    if done.text.strip() != "here":
        raise SystemExit(f"{board.name}: {done.complaint}")
    return took


def main() -> None:
    """Print a line for each kind of board; the first start, which may make the image, is not counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=["rpi4", "rpi5"])
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    for target in options.targets:
        board = Device(name=f"virtual:{target}", target=target, transport="virtual")
        seconds(board)
        took = [seconds(board) for _ in range(options.times)]
        load = f"load {os.getloadavg()[0]:.1f}"
        print(f"{board.name}: {min(took):.1f} to {max(took):.1f} s in {options.times} starts, {load}", flush=True)


if __name__ == "__main__":
    main()
