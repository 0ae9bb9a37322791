"""Kill builds at random moments, and check each time that the store is readable and the next build succeeds.

    uv run python scripts/bench_kill.py [--kills 100] [--seed 0]

Every build is a real one of the sample model `digits`, of a recipe drawn by the seed; the moment is drawn from the
whole length of such a build. SIGKILL goes to edgeship itself; its children must notice and end. Linux only: /proc
tells which processes are left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPES = ("int8", "int8-weights", "float16", "dynamic-int8", "int8-float-io")
SECONDS_TO_END = 5.0
EDGESHIP = (sys.executable, "-m", "edgeship.cli")


def main() -> None:
    """Kill, check, count; exit 1 at the first build or listing that fails, and where anything is left of a killed one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "EDGESHIP_HOME": str(folder / "home")}
        began = time.monotonic()
        run(command("int8", folder), environment)
        full = time.monotonic() - began
        print(f"a whole build takes {full:.1f} s", flush=True)
        killed = 0
        while killed < options.kills:
            recipe = rng.choice(RECIPES)
            cold = rng.random() < 0.2
            extra = ["--fresh"] if cold else ["--seed", str(rng.randrange(10**6))]
            process = subprocess.Popen(
                [*command(recipe, folder), *extra],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(rng.uniform(0, full if cold else full / 2))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
            process.wait()
            check_processes(environment["EDGESHIP_HOME"])
            check(folder, recipe, environment)
        print(f"{killed} kills: the store was readable, nothing was left and the next build succeeded every time")


def command(recipe: str, folder: Path) -> list[str]:
    """Return the command line of one build."""
    return [
        *EDGESHIP,
        "build",
        "digits",
        "--target",
        "rpi4",
        "--recipe",
        recipe,
        "--json",
        "--out",
        str(folder / "out" / recipe),
    ]


def check(folder: Path, recipe: str, environment: dict[str, str]) -> None:
    """Look at everything a kill may have hurt, then build."""
    out = folder / "out" / recipe
    if (out / "manifest.json").exists():
        told = json.loads((out / "manifest.json").read_text())
        assert (out / "model.tflite").stat().st_size == told["size_bytes"], "the out folder is half of one build"
    run([*EDGESHIP, "store", "list", "--json"], environment)
    run(command(recipe, folder), environment)
    left = sorted(path.name for path in out.parent.glob(".edgeship-*"))
    if left:
        sys.exit(f"left beside {out} after a build: {', '.join(left)}")


def check_processes(home: str) -> None:
    """Wait for the children of a killed build to end: those whose environment names this run's store."""
    deadline = time.monotonic() + SECONDS_TO_END
    while left := processes(home):
        if time.monotonic() > deadline:
            sys.exit(f"still running {SECONDS_TO_END:g} s after the kill: {', '.join(left)}")
        time.sleep(0.05)


def processes(home: str) -> list[str]:
    """Return the ids of the processes whose environment names a store."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            if f"EDGESHIP_HOME={home}".encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
    return found


def run(words: list[str], environment: dict[str, str]) -> None:
    """Run a command that must succeed and print JSON."""
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    json.loads(done.stdout)


if __name__ == "__main__":
    main()
