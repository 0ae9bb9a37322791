"""Time the nightly site of a large history: a hundred thousand records have to be written within 20 s.

    python scripts/bench_history.py --records 100000 --keep FILE
    python scripts/bench_site.py FILE [--into DIR]

Written twice: into an empty folder, and again, when the manifests' pages are there already. Printed beside the wall's seconds are
those of the processor that this process took, which other work on the machine leaves alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from edgeship import history
from edgeship.report import site

LIMIT_S = 20.0


def main() -> None:
    """Write the site twice, print how long each took; exit 1 where the first took longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("history", type=Path)
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.into or Path(name) / "site"
        first_s = _written(options.history, folder)
        _written(options.history, folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        pages = sorted(path.stat().st_size for path in folder.glob("*.html"))
        print(
            f"{len(files)} files, {sum(path.stat().st_size for path in files) / 2**20:.1f} MiB; "
            f"{len(pages)} pages, the largest {pages[-1] / 2**10:.0f} KiB"
        )
    sys.exit(0 if first_s <= LIMIT_S else f"too slow: {first_s:.1f} s, {LIMIT_S:g} are allowed")


def _written(file: Path, folder: Path) -> float:
    """Return the seconds that the site took, with all that it reads."""
    began, spent = time.monotonic(), time.process_time()
    with history.open(str(file)) as kept:
        newest = max((one.nights[-1] for one in kept.histories(limit=1)), key=lambda night: night.began)
        night = kept.night(newest.night)
        runs = sum(night.runs for one in kept.histories() for night in one.nights)
        began_site, spent_site = time.monotonic(), time.process_time()
        site.write(kept, folder, night=night)
    ended, used = time.monotonic(), time.process_time()
    print(
        f"site of {runs} records: {ended - began_site:.1f} s, {used - spent_site:.1f} s of processor "
        f"(and {began_site - began:.1f} s, {spent_site - spent:.1f} s of processor, to read the night in front)",
        flush=True,
    )
    return ended - began_site


if __name__ == "__main__":
    main()
