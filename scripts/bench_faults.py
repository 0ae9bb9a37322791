"""Each fault many times on real boards: is it told for what it is, tried again only where that helps, the board clean?

    uv run python scripts/bench_faults.py [--rounds 20] [--boards 4] [--only WORD]

Real sshd's in namespaces of their own, a real adbd, and a virtual board for reboots and clocks. Root; takes a while.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.lab.drawer import Drawer, drawer
from tests.lab.faults import ALONE, FAULTS, Outcome, artifact, bench
from tests.lab.more_faults import MORE
from tests.lab.real_sshd import Sshd


def main() -> None:
    """Print a line for each fault: how many rounds went as they should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--boards", type=int, default=4)
    parser.add_argument("--only", nargs="+", default=[""], help="only faults whose name holds one of these words")
    given = parser.parse_args()
    chosen = {name: fault for name, fault in FAULTS.items() if any(word in name for word in given.only)}
    home = Path(os.environ["EDGESHIP_HOME"]) if "EDGESHIP_HOME" in os.environ else None
    if chosen:
        with drawer(given.boards, networks=True, home=home) as lab, tempfile.TemporaryDirectory() as folder:
            for board in lab.boards:  # the runtime is there from now on
                assert bench(lab, board, artifact(made(folder, "first"))).word == "measured"
            for name, (fault, word, repeated) in chosen.items():
                tell(name, rounds(lab, fault, Path(folder), given.rounds, alone=name in ALONE), word, repeated)
    for name, (source, word, repeated) in MORE.items():
        if any(each in name for each in given.only):
            tell(name, list(source(given.rounds)), word, repeated)


def rounds(
    lab: Drawer, fault: Callable[[Drawer, Sshd, Path], Outcome], folder: Path, count: int, *, alone: bool
) -> list[Outcome]:
    """Do the fault this often, on all boards at the same time unless it has to be alone."""
    free = list(lab.boards[:1] if alone else lab.boards)
    lock = threading.Lock()

    def once(number: int) -> Outcome:
        with lock:
            board = free.pop()
        try:
            return fault(lab, board, made(str(folder), f"{fault.__name__}-{number}"))
        finally:
            with lock:
                free.append(board)

    with ThreadPoolExecutor(len(free)) as pool:
        return list(pool.map(once, range(count)))


def made(folder: str, name: str) -> Path:
    """Return a new folder."""
    path = Path(folder, name)
    path.mkdir(exist_ok=True)
    return path


def tell(name: str, outcomes: list[Outcome], word: str, repeated: bool) -> None:
    """Print how many rounds ended as they should, how long they took, and what the others said."""
    good = [one for one in outcomes if (one.word, one.repeated, one.clean) == (word, repeated, True)]
    seconds = sorted(one.seconds for one in outcomes)
    again = ", after another try" if repeated else ", not tried again"
    print(
        f"{time.strftime('%H:%M:%S')} {name}: {len(good)} of {len(outcomes)} told as '{word}'{again}, board clean; "
        f"{seconds[0]:.1f} to {seconds[-1]:.1f} s",
        flush=True,
    )
    for one in outcomes:
        if one not in good:
            print(f"    {one}", flush=True)


if __name__ == "__main__":
    main()
