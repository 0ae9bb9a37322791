"""Build ONNX models from nothing but the converter's environment, and print what came of each.

For each: the source's runtime and the error against it, sizes, seconds on the clock and of all processors, by stage; whether
the file was left as it was, and whether any process that took part had TensorFlow in it (Linux: read from /proc).
Run: python scripts/bench_onnx.py model.onnx --data examples.npz --scale 0.0078125 --offset -0.9921875 [--shape x:1,3,48,192]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from edgeship import environment, store
from edgeship.digest import of_file

LOOK_EVERY_S = 0.05


def build(model: Path, home: Path, out: Path, options: list[str]) -> tuple[dict[str, Any], float, float, set[int]]:
    """Run one build on an empty store; return what it said, its seconds, those of all processors, and who had TensorFlow."""
    line = [sys.executable, "-m", "edgeship", "build", str(model), "--out", str(out), "--json", "--quiet", *options]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.PIPE, env={**os.environ, "EDGESHIP_HOME": str(home)}, text=True)
    guilty: set[int] = set()
    watch = threading.Thread(target=watched, args=(process, guilty))
    watch.start()
    told, _ = process.communicate()
    seconds = time.perf_counter() - began
    watch.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    answer: dict[str, Any] = json.loads(told)
    return answer, seconds, busy, guilty


def watched(process: subprocess.Popen[str], guilty: set[int]) -> None:
    """Look at the process and all below it until it ends; note those that have TensorFlow's library mapped."""
    while process.poll() is None:
        for pid in family(process.pid):
            try:
                maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
            except OSError:
                continue
            if "libtensorflow" in maps or "_pywrap_tensorflow" in maps:
                guilty.add(pid)
        time.sleep(LOOK_EVERY_S)


def family(pid: int) -> set[int]:
    """Return a process and those that it started, and they."""
    found, waiting = {pid}, [pid]
    while waiting:
        for children in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            try:
                below = {int(word) for word in children.read_text().split()}
            except OSError:
                continue
            waiting += below - found
            found |= below
    return found


def show(model: Path, options: list[str]) -> bool:
    """Build one model, print its figures, and say whether it was done."""
    before = of_file(model)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        home.mkdir()
        (home / "environments").symlink_to(store.home().absolute() / "environments")
        answer, seconds, busy, guilty = build(model, home, Path(scratch) / "out", options)
    print(f"{model.name}: {seconds:.1f} s, {busy:.1f} s of processor time")
    unchanged = of_file(model) == before
    print(f"  file {'unchanged' if unchanged else 'CHANGED'}; processes with TensorFlow: {len(guilty)}")
    if "error" in answer:
        print(f"  {answer['error']['message']}")
        return False
    check, quality = answer["import"], answer["quality"]
    print(
        f"  same as {check['checked_against']} on {check['examples']} inputs: error {check['relative_error']:.1e} of the range"
    )
    print(
        f"  {answer['reference_size_bytes'] / 1e6:.2f} MB to {answer['size_bytes'] / 1e6:.2f} MB; {quality['metric']} {quality['got']:.4g} on {quality['examples']} examples"
    )
    print("  " + ", ".join(f"{stage['stage']} {stage['seconds']:.1f} s" for stage in answer["stages"]), flush=True)
    return unchanged and not guilty


def main() -> int:
    """Print the figures of every model; exit 1 when one was not built, changed its file or used TensorFlow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--target", default="rpi4")
    parser.add_argument("--recipe", default="int8")
    parser.add_argument("--runs", type=int, default=1)
    known, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        environment.ready("onnx2tf", log=Path(scratch) / "log.txt")
    options = ["--target", known.target, "--recipe", known.recipe, *others]
    done = [show(model, options) for model in known.models for _ in range(known.runs)]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
