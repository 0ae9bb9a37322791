"""Runs one virtual board for one process, and ends it with that process, however that ends. Standard library only.

Started as `python -IS keeper.py FOLDER PROGRAM…` with a pipe on its standard input that the process holds open. The board
dies when the pipe closes; the kernel ends it when this program is killed. FOLDER, the board's own, is then removed.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Keep the board until the pipe closes or the board ends by itself; return the board's exit code."""
    folder, *line = sys.argv[1:]
    libc = ctypes.CDLL(None)
    log = os.open(os.path.join(folder, "qemu.log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)  # noqa: PTH118
    board = subprocess.Popen(
        line, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
    )  # fmt: skip
    ended = os.pidfd_open(board.pid)
    readable, _, _ = select.select([sys.stdin.fileno(), ended], [], [])
    if ended not in readable:
        board.kill()
        board.wait()
        shutil.rmtree(folder, ignore_errors=True)
    return board.wait()


if __name__ == "__main__":
    sys.exit(main())
