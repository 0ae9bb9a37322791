"""A board's conditions while a program that tells none of them runs there: one script, again and again beside it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from edgeship import resources
from edgeship.errors import DeviceFault
from edgeship.measurement import Measured, Snapshot
from edgeship.session import Session

EVERY_S = 2
_END = "edgeship snapshot"
_LONGEST_S = 24 * 3600.0
ReadSnapshot = Callable[[Iterable[str]], Snapshot | None]


class Watch:
    """The snapshots of one run, oldest first."""

    def __init__(self, read: ReadSnapshot) -> None:
        self.read = read
        self.snapshots: list[Snapshot] = []
        self._lines: list[str] = []

    def hear(self, line: str) -> None:
        """Take a line of the script; the last of each round makes a snapshot."""
        if line != _END:
            self._lines.append(line)
            return
        found = self.read(self._lines)
        self._lines = []
        if found is not None:
            self.snapshots.append(found)

    def around(self, measured: Measured) -> Measured:
        """Return what was measured with the conditions before, during and after it."""
        if not self.snapshots:
            return measured
        first, *others = self.snapshots
        return replace(measured, before=first, during=tuple(others[:-1]), after=others[-1] if others else None)


@contextlib.contextmanager
def watched(board: Session, script: str, read: ReadSnapshot) -> Iterator[Watch]:
    """Give the watch; the script (by its name in `board/`) runs there until the block ends, and once more."""
    text = resources.board(script).read_text(encoding="utf-8")
    loop = f"""snapshot() {{
{text}
echo "{_END}"
}}
snapshot
while [ ! -e stop-watching ]; do sleep {EVERY_S}; snapshot; done
rm -f stop-watching"""
    watch = Watch(read)
    first = threading.Event()

    def hear(line: str) -> None:
        watch.hear(line)
        if watch.snapshots:
            first.set()

    def work() -> None:
        with contextlib.suppress(DeviceFault):  # a lost connection is told by what is being measured
            board.run(loop, timeout_s=_LONGEST_S, on_line=hear)
        first.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    first.wait(30)
    try:
        yield watch
    finally:
        with contextlib.suppress(DeviceFault):
            board.run(": > stop-watching", timeout_s=30)
        thread.join(30)
