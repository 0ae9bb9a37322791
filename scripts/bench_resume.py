"""Kill nights at random moments, resume each, and count what was kept: no run may be lost, none may be kept twice.

    uv run python scripts/bench_resume.py [--kills 30] [--seed 0] [--cases 3] [--repeats 2] [--history URL]

Every night measures small cases on this machine (`local`): the reference workload, then each case's runs. SIGKILL goes to
edgeship at a moment drawn from the whole length of such a night; then `--resume` goes on, and may be killed again. After every
kill what is kept is read; at the end of the night all of it has to be there still, and the runs of each case have to be those
of a night that nobody killed. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from edgeship import history

EDGESHIP = (sys.executable, "-m", "edgeship.cli")
# This machine, by a lease of its own: whatever else measures on it is not waited for.
DEVICE = """
[here]
target = "linux-x86_64"
transport = "local"
lease = "resume-{process}"
"""
RECIPES = ("dynamic-int8", "float16", "float32")
MODEL = Path(history.__file__).parent.parent / "data/reference/model.tflite"
SUITE = """
name = "resume"
models = ["{model}"]
recipes = {recipes}
devices = ["here"]
repeats = {repeats}
lease = "3s"
[gates]
latency = false
memory = false
[bench]
runs = 16
min_seconds = 0.1
warmup_seconds = 0.05
shared_machine = true
"""


def main() -> None:
    """Kill, resume, count; exit 1 where a run was lost or kept twice, or a night did not come to its end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--history", help="a database for all nights; default: a new SQLite file")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="edgeship-resume-") as name:
        folder = Path(name)
        recipes = json.dumps(RECIPES[: options.cases])
        suite = SUITE.format(model=MODEL, recipes=recipes, repeats=options.repeats)
        (folder / "suite.toml").write_text(suite)
        (folder / "devices.toml").write_text(DEVICE.format(process=os.getpid()))
        url = options.history or str(folder / "history.sqlite")
        trial = Trial(folder, url, options.cases, options.repeats)
        trial.finish()  # builds everything
        began = time.monotonic()
        trial.finish()
        length = time.monotonic() - began
        trial.examine(frozenset())
        print(f"a whole night takes {length:.1f} s", flush=True)
        killed, nights, moments = 0, 0, Counter[str]()
        while killed < options.kills:
            before: frozenset[str] = frozenset()
            while killed < options.kills and trial.killed_after(rng.uniform(0, length)):
                killed += 1
                now, ended = trial.kept()
                moments["after its end" if ended else "with runs kept" if now else "before its first run"] += 1
                check(before <= now, f"after kill {killed} {len(before - now)} runs were gone")
                before = now
                if ended:
                    break
            if not trial.kept()[1]:
                trial.finish()
            nights += 1
            trial.examine(before)
            print(
                f"{killed} kills in {nights} nights: {trial.runs} runs, {trial.resumed} of them before a kill",
                flush=True,
            )
        print(f"{killed} kills in {nights} nights: {dict(moments)}")
        print(
            f"{trial.runs} runs kept, {trial.resumed} of them before a kill; 0 lost, 0 twice; every night came to its end"
        )


class Trial:
    """A suite, a store and a history; counts what nights left there."""

    def __init__(self, folder: Path, url: str, cases: int, repeats: int) -> None:
        self.folder, self.url, self.cases = folder, url, cases
        self.expected = Counter({("reference", 0): 1, **{("new", 1 + number): 1 for number in range(repeats)}})
        self.runs = self.resumed = 0
        self.examined: set[str] = set()
        self.environment = {**os.environ, "EDGESHIP_HOME": str(folder / "home")}
        self._command = (
            *EDGESHIP,
            "nightly",
            str(folder / "suite.toml"),
            "--history",
            url,
            "--resume",
            "--json",
            "--devices",
            str(folder / "devices.toml"),
        )

    def finish(self) -> None:
        """Go on with the night, or begin one, to its end."""
        done = subprocess.run(self._command, env=self.environment, capture_output=True, text=True, check=False)
        check(done.returncode in (0, 7), f"exit {done.returncode}: {done.stdout[-500:]}{done.stderr[-2000:]}")
        self.night = json.loads(done.stdout)["night"]

    def killed_after(self, seconds: float) -> bool:
        """Kill a night after so many seconds; return False where its process had come to its end."""
        process = subprocess.Popen(
            self._command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(seconds)
            return False
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        return True

    def kept(self) -> tuple[frozenset[str], bool]:
        """Return the ids of the runs of the night that is under way, and whether it has ended: killed behind its end."""
        with history.open(self.url) as opened:
            night, ended = opened.unfinished("resume"), opened.latest("resume")
        if night is None and ended is not None and ended.id not in self.examined:
            return frozenset(run.id for run in ended.runs), True
        return frozenset() if night is None else frozenset(run.id for run in night.runs), False

    def examine(self, before: frozenset[str]) -> None:
        """Hold the night that has ended against one that nobody killed."""
        with history.open(self.url) as opened:
            night = opened.latest("resume")
        assert night is not None
        self.examined.add(night.id)
        ids = [run.id for run in night.runs]
        check(len(ids) == len(set(ids)), f"{night.id}: a run was kept twice")
        lost = {one for one in before if one.startswith(night.id)} - set(ids)
        check(not lost, f"{night.id}: lost: {lost}")
        check(len(night.cases) == self.cases, f"{night.id}: {len(night.cases)} cases")
        for case in night.cases:
            mine: Any = Counter((run.role, run.ordinal) for run in night.runs if run.case == case)
            most = max((number for _, number in mine), default=-1)
            check(sum(mine.values()) == most + 1, f"{case.name}: a place is empty or taken twice: {dict(mine)}")
            check(mine == self.expected, f"{case.name}: {dict(mine)}")
            check(any(finding.case == case for finding in night.findings), f"{case.name}: no verdict")
        self.runs += len(ids)
        self.resumed += len(before)


def check(holds: bool, text: str) -> None:
    """End with exit code 1 where something does not hold."""
    if not holds:
        print(f"FAILED: {text}", flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
