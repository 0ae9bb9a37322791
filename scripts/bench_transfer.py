"""What an ssh board costs: 20 MiB over a pipe, over SFTP and over the ssh program, in turns; connecting; twenty boards.

    uv run python -m scripts.bench_transfer [--rounds 7] [--mib 20]

The far end is a real sshd on this machine, so the figures are the programs' own speed and not a network's.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from edgeship import remote
from edgeship.ssh.shell import SecureShell, connect
from tests.lab.real_sshd import Desk, Sshd

MIB = 1 << 20
PIECE_BYTES = 1 << 18


def pieces(content: bytes) -> Iterator[bytes]:
    """Return content as a push hands it over."""
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


def ways(connection: SecureShell, program: list[str], content: bytes) -> dict[str, Callable[[], object]]:
    """Return each way to move the content, by name."""
    sftp = paramiko.SFTPClient.from_transport(connection._transport)
    assert sftp is not None

    def pull_pipe() -> None:
        assert remote.run(connection, "cat piped", timeout_s=300).output == content

    def pull_sftp() -> None:
        into = io.BytesIO()
        sftp.getfo("piped", into)
        assert into.getvalue() == content

    return {
        "push, pipe": lambda: remote.run(connection, "cat > piped", timeout_s=300, stdin=pieces(content)),
        "push, SFTP": lambda: sftp.putfo(io.BytesIO(content), "sent"),
        "push, ssh": lambda: subprocess.run([*program, "cat > sent"], input=content, check=True, timeout=300),
        "pull, pipe": pull_pipe,
        "pull, SFTP": pull_sftp,
        "pull, ssh": lambda: subprocess.run([*program, "cat piped"], capture_output=True, check=True, timeout=300),
    }


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that some work takes: on the clock, and of this process's CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def resident_mib() -> float:
    """Return what this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=20)
    options = parser.parse_args()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name, Sshd() as board:
        desk = Desk(Path(name) / "user", patch)
        device = desk.meet(board)
        bare = resident_mib()
        program = ["ssh", "-i", str(desk.key), "-o", f"UserKnownHostsFile={desk.known_hosts}",
                   "-p", str(board.port), f"{board.user}@{board.address}"]  # fmt: skip
        transfers(connect(device), program, options.mib, options.rounds)
        grown = resident_mib()
        opened = [connect(device) for _ in range(20)]
        run_all(opened, os.urandom(5 * MIB))
        print(f"memory: {bare:.0f} MiB before the first connection, {grown:.0f} after the above, "
              f"{resident_mib():.0f} with 20 connections that each moved 5 MiB at once")  # fmt: skip
        for connection in opened:
            connection.close()


def transfers(connection: SecureShell, program: list[str], mib: int, rounds: int) -> None:
    """Move a file in every way, round after round, and print medians; then small commands."""
    asked = ways(connection, program, os.urandom(mib * MIB))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
    for number in range(rounds + 1):
        for name in reversed(asked) if number % 2 else asked:
            once = seconds(asked[name])
            if number:  # the first round warms up
                found[name].append(once)
    print(f"{mib} MiB, median of {rounds} rounds in turns")
    print(f"{'way':<12} {'s':>7} {'MiB/s':>7} {'own CPU s':>10}")
    for name, taken in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"{name:<12} {wall:>7.3f} {mib / wall:>7.0f} {cpu:>10.3f}")
    commands = [seconds(lambda: remote.run(connection, ":", timeout_s=30))[0] for _ in range(50)]
    print(f"a command on an open connection: {1000 * statistics.median(commands):.1f} ms")
    connection.close()


def run_all(connections: list[SecureShell], content: bytes) -> None:
    """Move some content there and back on all connections at once."""

    def work(connection: SecureShell) -> None:
        assert remote.run(connection, "cat", timeout_s=300, stdin=pieces(content)).output == content

    threads = [threading.Thread(target=work, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
