"""Two workstations fight for one device through one database, their holders killed at random moments: who ever held it together?

    python scripts/bench_leases.py [--attempts 500] [--url postgresql://USER@HOST/DATABASE] [--seed 0]

Every attempt is a process of its own. Holding the device it writes, by the database's clock and only with its token in
force, when it began and when it was last sure to hold; most are killed by SIGKILL somewhere between their start and their
end. Two intervals that overlap are two holders at once. A lock of the kernel's, which ends with its process, is the second
witness. Without --url the database is an SQLite file. Exit 1 where any two overlapped.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import itertools
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from edgeship import history
from edgeship.errors import DeviceFault
from edgeship.history import lease as leasing
from edgeship.history.database import Database
from edgeship.history.lease import Lease

WORKSTATIONS = 2
LEASE_S = 1.0  # long enough not to be lost by a busy machine
HOLD_S = 0.3
KILLED = 0.8  # of all attempts
LONGEST_S = 1.5  # until a kill, from the start of a process
_NOW = {True: "(julianday('now') - 2440587.5) * 86400.0", False: "extract(epoch FROM clock_timestamp())"}
_FORK = multiprocessing.get_context("fork")


@dataclass
class Slot:
    """One workstation: the process it runs, and when that one is killed (None: it may end by itself)."""

    process: multiprocessing.process.BaseProcess
    kill_at: float | None


def main() -> None:
    """Attempt, kill, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=500)
    parser.add_argument("--url")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        url = options.url or str(Path(name) / "history.sqlite")
        witness = Path(name) / "witness"
        with history.open(url):
            pass
        _make_log(url)
        began = time.monotonic()
        killed = _fight(url, witness, options.attempts, random.Random(options.seed))
        told = _judged(url, witness)
        print(f"{options.attempts} attempts, {killed} killed, {told} ({time.monotonic() - began:.0f} s)")
        sys.exit(0 if told.endswith("0 overlaps, 0 seen by the kernel") else 1)


def _fight(url: str, witness: Path, attempts: int, rng: random.Random) -> int:
    """Keep both workstations at it until all attempts are made; return how many were killed."""
    slots: list[Slot] = []
    started = killed = 0
    while started < attempts or slots:
        now = time.monotonic()
        for slot in slots:
            if slot.kill_at is not None and now >= slot.kill_at and slot.process.is_alive():
                slot.process.kill()
                slot.kill_at = None
                killed += 1
        slots = [slot for slot in slots if slot.process.exitcode is None]
        while len(slots) < WORKSTATIONS and started < attempts:
            hold = rng.uniform(0, HOLD_S)
            process = _FORK.Process(target=_attempt, args=(url, witness, started, hold))
            process.start()
            kill_at = now + rng.uniform(0, LONGEST_S) if rng.random() < KILLED else None
            slots.append(Slot(process, kill_at))
            started += 1
        time.sleep(0.005)
    return killed


def _attempt(url: str, witness: Path, number: int, hold_s: float) -> None:
    """Take the device, hold it for some time, telling that it is held, and give it back."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(DeviceFault))  # still busy, or lost: what is wrong stands in the log
        kept = stack.enter_context(history.open(url))
        holder = f"attempt {number}"
        lease = stack.enter_context(kept.lease("board", holder=holder, seconds=LEASE_S, wait_s=10.0))
        stack.enter_context(_told(witness, number))
        log = Database(url)
        now, until = _NOW[log.lite], time.monotonic() + hold_s
        _write(log, lease, number, f"INSERT INTO lease_log VALUES (:number, :token, {now}, {now})")
        while time.monotonic() < until:
            _write(log, lease, number, f"UPDATE lease_log SET seen_s = {now} WHERE number = :number")
            time.sleep(0.01)
        log.close()


def _write(log: Database, lease: Lease, number: int, statement: str) -> None:
    with log.writing() as connection:
        leasing.require(connection, lease)
        connection.execute(text(statement), {"number": number, "token": lease.token})


@contextlib.contextmanager
def _told(witness: Path, number: int) -> Iterator[None]:
    """Hold a lock of the kernel's, which nobody else may have; note it where somebody has."""
    descriptor = os.open(witness, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with witness.with_suffix(".seen").open("a") as seen:
            seen.write(f"{number}\n")
    try:
        yield
    finally:
        os.close(descriptor)


def _make_log(url: str) -> None:
    log = Database(url)
    with log.writing() as connection:
        connection.execute(text("DROP TABLE IF EXISTS lease_log"))
        columns = "number INTEGER PRIMARY KEY, token BIGINT, began_s DOUBLE PRECISION, seen_s DOUBLE PRECISION"
        connection.execute(text(f"CREATE TABLE lease_log ({columns})"))
    log.close()


def _judged(url: str, witness: Path) -> str:
    """Say how many grants there were, and how many of them overlapped the one before."""
    log = Database(url)
    with log.reading() as connection:
        rows = _rows(connection)
    with log.writing() as connection:
        connection.execute(text("DROP TABLE lease_log"))
    log.close()
    tokens = [token for token, _, _ in rows]
    overlaps = sum(after[1] < before[2] for before, after in itertools.pairwise(rows))
    overlaps += len(tokens) - len(set(tokens))
    seen = witness.with_suffix(".seen")
    told = len(seen.read_text().splitlines()) if seen.exists() else 0
    return f"{len(rows)} held the device, {overlaps} overlaps, {told} seen by the kernel"


def _rows(connection: Connection) -> list[tuple[int, float, float]]:
    found = connection.execute(text("SELECT token, began_s, seen_s FROM lease_log ORDER BY token, began_s"))
    return [(row.token, row.began_s, row.seen_s) for row in found]


if __name__ == "__main__":
    main()
