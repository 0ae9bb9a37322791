"""What a bench over ssh costs beyond the measuring, and what a second one sends.

    uv run python scripts/bench_overhead.py [MODEL.tflite] [--rounds N]

A real sshd on 127.0.0.1. Runs whole `edgeship bench` commands once the runtime and the model are there; "beyond" is the
command's time less the time that its samples and its warm-up took on the board.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from edgeship import attempt, inventory, target
from edgeship.devices import connect
from tests.lab.drawer import drawer


def main() -> None:
    """Print each round and the median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a .tflite file or the out folder of a build")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with drawer(home=Path(os.environ["EDGESHIP_HOME"]) if "EDGESHIP_HOME" in os.environ else None) as lab:
        model = given.model or built(lab.environment)
        command = [
            sys.executable,
            "-m",
            "edgeship",
            "bench",
            model,
            "--device",
            "board-1",
            "--json",
            "--min-seconds",
            "1",
        ]
        seconds = []
        for number in range(given.rounds + 1):
            began = time.perf_counter()
            done = subprocess.run(command, env={**os.environ, **lab.environment}, capture_output=True, text=True)
            whole = time.perf_counter() - began
            assert done.returncode == 0, done.stderr
            record = json.loads(done.stdout)
            measuring = record["starts_ms"][-1] / 1000 + sum(record["warmup_ms"]) / 1000
            print(
                f"{'first, nothing there yet' if not number else f'round {number}'}: whole {whole:.2f} s, measuring {measuring:.2f} s, beyond {whole - measuring:.2f} s"
            )
            seconds += [whole - measuring] if number else []
        print(f"median beyond the measuring: {statistics.median(seconds):.2f} s")
        print(f"a second push of the same artifact sends {second_push(lab.inventory, Path(model))} bytes of content")


def built(environment: Mapping[str, str]) -> str:
    """Build the sample model, and return its out folder."""
    out = Path(environment["HOME"]) / "out"
    words = [sys.executable, "-m", "edgeship", "build", "--target", "linux-x86_64", "--out", str(out)]
    subprocess.run(words, env={**os.environ, **environment}, check=True)
    return str(out)


def second_push(file: Path, model: Path) -> int:
    """Return how many bytes go over when what is to be sent is there."""
    entry = inventory.find("board-1", file)
    content = model / "model.tflite" if model.is_dir() else model
    connection = connect(entry)
    try:
        with attempt.open_board(connection, entry, target.read(entry.target)) as board:
            board.deliver(content, what="the model")
            return int(board.sent_bytes)
    finally:
        connection.close()


if __name__ == "__main__":
    main()
