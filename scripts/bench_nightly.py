"""Real nights through `edgeship nightly`: does an unchanged artifact stay quiet, and is one that is known to be slower caught?

Each round is one unchanged night, kept in one history, and then (from `--from-night` on) one night with a slower artifact on a
copy of that history, so that every such night is a trial of its own with the history that there is by then. The slower
artifact is the same one with RELUs behind a layer, which change nothing but the time; how much slower it really is, is
measured beside it and printed.

    python scripts/bench_nightly.py --device virtual:rpi4 --rounds 20 --into FOLDER
    python scripts/bench_nightly.py --device local --rounds 30 --slower 0.10 --trials 10 --into FOLDER

`--into` keeps everything; the same command goes on where it was ended. Times are of whatever else the machine did: the load
is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeship import inventory
from edgeship.graph_editor import GraphEditor

CALIBRATION = 41  # turns of each artifact, on this machine


def main() -> int:
    """Run the rounds that are not done, and print what came of all."""
    options = _options()
    into: Path = options.into
    into.mkdir(parents=True, exist_ok=True)
    steady = _built(options, into)
    slower = into / "slower.tflite"
    if not slower.is_file():
        _write_slower(steady, slower, options)
    done = _done(into)
    trials = sum(one["kind"] == "slower" for one in done)
    for number in range(sum(one["kind"] == "unchanged" for one in done), options.rounds):
        _night(options, into, "unchanged", steady, into / "history.sqlite", number)
        if number + 1 >= options.from_night and trials < options.trials:
            database = into / "copy.sqlite"
            _copied(into / "history.sqlite", database)
            _night(options, into, "slower", slower, database, number)
            trials += 1
    return _tell(_done(into), options)


def _copied(one: Path, other: Path) -> None:
    other.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(one)) as source, contextlib.closing(sqlite3.connect(other)) as copied:
        source.backup(copied)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="virtual:rpi4")
    parser.add_argument("--model", default="digits", help="what is built by int8 and measured")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=10**6, help="slower nights at the most")
    parser.add_argument("--from-night", type=int, default=1, help="unchanged nights before the first slower one")
    parser.add_argument("--slower", type=float, default=0.01)
    parser.add_argument(
        "--place", type=int, help="the operation behind which RELUs stand; else found by measuring here"
    )
    parser.add_argument("--times", type=int, default=1, help="how many RELUs, with --place")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--warmup-seconds", type=float)
    parser.add_argument("--min-seconds", type=float)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--into", type=Path, required=True)
    return parser.parse_args()


def _edgeship(into: Path, *words: str) -> tuple[int, dict[str, Any]]:
    environment = {**os.environ}
    environment.setdefault("EDGESHIP_HOME", str(into / "home"))
    done = subprocess.run(
        [sys.executable, "-m", "edgeship", "--json", *words], capture_output=True, text=True, env=environment, cwd=into
    )
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"edgeship {' '.join(words)}: exit {done.returncode}\n{done.stderr[-3000:]}") from None


def _built(options: argparse.Namespace, into: Path) -> Path:
    steady = into / "steady.tflite"
    if not steady.is_file():
        target = inventory.find(options.device, inventory.place(None)).target
        code, made = _edgeship(into, "build", options.model, "--target", target, "--recipe", "int8", "--out", "built")
        if code:
            raise SystemExit(json.dumps(made))
        shutil.copyfile(into / made["artifact"], steady)
    return steady


def _write_slower(steady: Path, slower: Path, options: argparse.Namespace) -> None:
    """Write the slower artifact: as told, or the one that comes nearest to what is wanted on this machine."""
    place, times = options.place, options.times
    if place is None:
        off = {}
        for place, times in itertools.product((3, 4, 6, 8, 9, 10), (1, 2, 3, 4)):
            slower.write_bytes(delayed(steady, place, times))
            off[place, times] = abs(ratio(steady, slower, 9) - 1 - options.slower)
        place, times = min(off, key=lambda each: off[each])
    slower.write_bytes(delayed(steady, place, times))
    if not options.device.startswith("virtual"):
        told = 100 * (ratio(steady, slower, CALIBRATION) - 1)
        print(f"slower artifact: {times} RELUs behind operation {place}: {told:+.2f} % on this machine", flush=True)


def delayed(path: Path, place: int, times: int) -> bytes:
    """Return a file with so many RELUs behind an operation whose outputs are none below zero."""
    editor = GraphEditor(path)
    for _ in range(times):
        after = editor.operators[place]
        old = int(after.outputs[0])
        new = editor.computed("again", editor.shape(old), editor.dtype(old))
        editor.tensors[new].quantization = copy.deepcopy(editor.tensors[old].quantization)
        editor.redirect(old, new)
        editor.replace(after, [after, editor.operator("RELU", [old], [new])])
    return editor.content()


def ratio(one: Path, other: Path, turns: int) -> float:
    """Return how many times as long the other takes here: median over turns that alternate, in one process."""
    from ai_edge_litert.interpreter import Interpreter

    runners = []
    for path in (one, other):
        runner = Interpreter(model_path=str(path), num_threads=1)
        runner.allocate_tensors()
        place = runner.get_input_details()[0]
        runner.set_tensor(place["index"], np.zeros(place["shape"], place["dtype"]))
        runners.append(runner)
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns):
        for side in (0, 1) if turn % 2 else (1, 0):
            times = []
            for _ in range(200):
                began = time.perf_counter_ns()
                runners[side].invoke()
                times.append(time.perf_counter_ns() - began)
            taken[side].append(statistics.median(times))
    return statistics.median(b / a for a, b in zip(*taken, strict=True))


def _night(
    options: argparse.Namespace, into: Path, kind: str, source: Path, database: Path, number: int
) -> None:  # fmt: skip
    """Run one night over one case and write down what the command answered."""
    bench = "".join(
        f"{name} = {value}\n"
        for name in ("runs", "threads", "min_seconds", "warmup_seconds")
        if (value := getattr(options, name)) is not None
    )
    suite = into / "suite.toml"
    suite.write_text(
        f'name = "trial"\nmodels = ["steady"]\ndevices = ["{options.device}"]\nrecipes = ["float32"]\n\n'
        f'[model.steady]\nsource = "{source}"\n\n[bench]\nshared_machine = true\n{bench}\n'
        f"[gates]\nsize = {'true' if kind == 'unchanged' else 'false'}\n"
    )
    began = time.monotonic()
    code, told = _edgeship(into, "nightly", str(suite), "--history", str(database))
    if "error" in told:
        raise SystemExit(json.dumps(told))
    verdicts = {one["metric"]: one for one in told["verdicts"]}
    latency = verdicts.get("latency", {})
    row = {
        "kind": kind, "number": number, "exit": code, "night": told["night"], "runs": told["runs"],
        "faults": [fault["message"] for fault in told["faults"]],
        "decisions": {name: one["decision"] for name, one in verdicts.items()},
        "effect": latency.get("effect"), "p": latency.get("p"), "spread": latency.get("spread"),
        "load": os.getloadavg()[0], "seconds": time.monotonic() - began,
    }  # fmt: skip
    with (into / "nights.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
    effect = "-" if row["effect"] is None else f"{100 * row['effect']:+.2f} %"
    print(
        f"{number + 1:>3} {kind:<9} exit {code} {row['decisions']} latency {effect}, {row['runs']} runs, "
        f"{row['seconds']:.0f} s, load {row['load']:.1f} {'; '.join(row['faults'])}",
        flush=True,
    )


def _done(into: Path) -> list[dict[str, Any]]:
    log = into / "nights.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def _tell(done: list[dict[str, Any]], options: argparse.Namespace) -> int:
    """Print the figures; return 1 when a promise is broken."""
    unchanged = [one for one in done if one["kind"] == "unchanged"]
    slower = [one for one in done if one["kind"] == "slower"]
    alarms = [one for one in unchanged if "slower" in one["decisions"].values()]
    caught = [one for one in slower if one["decisions"].get("latency") == "slower"]
    better = [one for one in unchanged if "faster" in one["decisions"].values()]
    effects = [one["effect"] for one in slower if one["effect"] is not None]
    loads, spent = [one["load"] for one in done], sum(one["seconds"] for one in done)
    print(f"{options.device}: {len(done)} nights in {spent / 60:.0f} min, load {min(loads):.1f} to {max(loads):.1f}")
    print(f"unchanged: {len(alarms)} alarms in {len(unchanged)} nights ({len(better)} told as better)")
    spreads = list(_numbers(unchanged, "spread"))
    if spreads:
        print(f"runs spread {100 * spreads[-1]:.3g} % as the gate saw it in the last night")
    if slower:
        seen = f"{100 * statistics.median(effects):+.2f} % seen" if effects else "no effect seen"
        print(f"slower: caught {len(caught)} of {len(slower)} within the night ({seen}, median)")
    allowed = 0 if options.device.startswith("virtual") else 1
    needed = len(slower) if options.device.startswith("virtual") else 0.9 * len(slower)
    return int(len(alarms) > allowed or len(caught) < needed)


def _numbers(rows: list[dict[str, Any]], name: str) -> Iterator[float]:
    return (one[name] for one in rows if one[name] is not None)


if __name__ == "__main__":
    sys.exit(main())
