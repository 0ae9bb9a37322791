"""What goes wrong with boards, each really done to a real one: what edgeship made of it, and what it left there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgeship import benchmarking
from edgeship.benchmarking import BenchOrder
from edgeship.errors import DeviceFault, EdgeshipError
from edgeship.progress import Listener, Progress
from edgeship.run_devices import Failed
from edgeship.session import SILENCE_S
from tests.lab.drawer import Drawer
from tests.lab.real_sshd import Sshd, keygen
from tests.tiny_tflite import separable

CUT_S = SILENCE_S + 8  # longer than either side waits for a sign of life
CLEAN_WITHIN_S = SILENCE_S + 15
HEAVY_BYTES = 24 * 2**20


@dataclass(frozen=True)
class Outcome:
    """How it ended: "measured", or the fault's word; whether it was tried again, and whether the board is clean."""

    word: str
    repeated: bool
    clean: bool
    seconds: float
    told: str


def artifact(folder: Path, *, padding: int = 0) -> Path:
    """Write a small model; padding behind it is carried along, and makes it other content each time."""
    path = separable().write(folder / "model.tflite")
    with path.open("ab") as stream:
        stream.write(os.urandom(padding))
    return path


def bench(lab: Drawer, board: Sshd, model: Path, on_progress: Callable[[Progress], None] = lambda _: None) -> Outcome:
    """Bench on a board and say how it ended."""
    order = BenchOrder(
        artifact=str(model), devices=(lab.name(board),), runs=8, min_seconds=1.0, warmup_seconds=0.1
    )  # fmt: skip
    began = time.monotonic()
    try:
        (made,) = benchmarking.bench(order, Listener(on_progress=on_progress))
        if isinstance(made, Failed):
            raise made.error
        assert made.golden.passed
        word, told = "measured", "; ".join(made.doubts)
    except DeviceFault as fault:
        word, told = fault.fault, f"{fault.message} ({fault.hint})"
    except EdgeshipError as error:
        word, told = type(error).__name__, error.message
    seconds = time.monotonic() - began
    return Outcome(word, "repeated after" in told, is_clean(board), seconds, told)


def is_clean(board: Sshd) -> bool:
    """Say whether the board gets clean in time: no process, no run folder, no partial file."""
    deadline = time.monotonic() + CLEAN_WITHIN_S
    while time.monotonic() < deadline:
        there = board.home / ".edgeship"
        left = [*there.glob("runs/*"), *there.glob("runs/.new*"), *there.glob("**/*.part")]
        if not left and not board.processes():
            return True
        time.sleep(0.2)
    return False


class Trigger:
    """Does something once, at the first progress whose stage begins with a word; the work goes on beside it."""

    def __init__(self, word: str, act: Callable[[], None]) -> None:
        self.word, self.act = word, act
        self.thread: threading.Thread | None = None

    def __call__(self, told: Progress) -> None:
        """Hear of progress."""
        if self.thread is None and told.stage.startswith(self.word) and (told.done or not told.total):
            self.thread = threading.Thread(target=self.act, daemon=True)
            self.thread.start()

    def join(self) -> None:
        """Wait until it is done; it has to have happened."""
        assert self.thread is not None, f"nothing was told of '{self.word}'"
        self.thread.join(120)


def cut_in_the_push(lab: Drawer, board: Sshd, folder: Path) -> Outcome:
    """The cable is pulled while the model goes over, and put back later."""
    return _interrupted(lab, board, artifact(folder, padding=HEAVY_BYTES), "send to", lambda: _unplugged(board))


def cut_in_the_run(lab: Drawer, board: Sshd, folder: Path) -> Outcome:
    """The cable is pulled while the model runs, and put back later."""
    return _interrupted(lab, board, artifact(folder), "measure", lambda: _unplugged(board))


def sshd_killed(lab: Drawer, board: Sshd, folder: Path) -> Outcome:
    """The process of sshd that holds the connection is killed while the model runs."""

    def kill() -> None:
        for pid in board.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    return _interrupted(lab, board, artifact(folder), "measure", kill)


def power_cut(lab: Drawer, board: Sshd, folder: Path) -> Outcome:
    """Every process of the board goes at once, and it is back two seconds later."""

    def cycle() -> None:
        board.stop()
        time.sleep(2)
        _STARTING.submit(board.start).result()

    return _interrupted(lab, board, artifact(folder), "measure", cycle)


def disk_full(lab: Drawer, board: Sshd, folder: Path) -> Outcome:
    """The model is larger than what is free."""
    place = board.home / "small"
    with _small_disk(board, place):
        lab.change(board, folder=f"{place}/edgeship", python=None)
        try:
            return bench(lab, board, artifact(folder, padding=HEAVY_BYTES))
        finally:
            lab.change(board, folder=None, python="/usr/bin/python3")


def memory_exhausted(lab: Drawer, board: Sshd, folder: Path) -> Outcome:
    """The kernel ends the runner, since the board has less memory than it takes."""
    with _little_memory(board):
        return bench(lab, board, artifact(folder))


def wrong_key(lab: Drawer, board: Sshd, folder: Path) -> Outcome:
    """The entry names a key that the board does not know."""
    key = folder / "other-key"
    if not key.exists():
        keygen(key)
    lab.change(board, identity=str(key))
    try:
        return bench(lab, board, artifact(folder))
    finally:
        lab.change(board, identity=None)


def changed_host_key(lab: Drawer, board: Sshd, folder: Path) -> Outcome:
    """Who answers is not who is in known_hosts."""
    stranger = folder / "stranger"
    if not stranger.exists():
        keygen(stranger)
    with _WRITING:
        known = lab.desk.known_hosts.read_text()
        ours = board.known_line().split()[2]
        theirs = stranger.with_name("stranger.pub").read_text().split()[1]
        lab.desk.known_hosts.write_text(known.replace(ours, theirs))
    try:
        return bench(lab, board, artifact(folder))
    finally:
        with _WRITING:
            text = lab.desk.known_hosts.read_text()
            lab.desk.known_hosts.write_text(text.replace(theirs, ours))


def python_missing(lab: Drawer, board: Sshd, folder: Path) -> Outcome:
    """The board has no such Python."""
    lab.change(board, python="/usr/bin/no-python")
    try:
        return bench(lab, board, artifact(folder))
    finally:
        lab.change(board, python="/usr/bin/python3")


def runtime_missing(lab: Drawer, board: Sshd, folder: Path) -> Outcome:
    """The board has no runtime, edgeship has not fetched one yet, and this machine has no network."""
    place = board.home / "bare"
    lab.change(board, folder=str(place))
    with _WRITING, _no_network(folder / "fresh-home"):
        try:
            return bench(lab, board, artifact(folder))
        finally:
            lab.change(board, folder=None)


# A board dies with the thread that started it, so that thread has to last.
_STARTING = ThreadPoolExecutor(1)
_WRITING = threading.Lock()  # of what all boards of a drawer share
# Fault → how it has to end, and whether it has to have been tried again.
FAULTS: dict[str, tuple[Callable[[Drawer, Sshd, Path], Outcome], str, bool]] = {
    "connection cut in the push": (cut_in_the_push, "measured", True),
    "connection cut in the run": (cut_in_the_run, "measured", True),
    "sshd killed": (sshd_killed, "measured", True),
    "power cut": (power_cut, "measured", True),
    "disk full": (disk_full, "full", False),
    "killed for memory": (memory_exhausted, "killed", False),
    "wrong key": (wrong_key, "auth", False),
    "changed host key": (changed_host_key, "host-key", False),
    "Python missing": (python_missing, "missing", False),
    "runtime missing, no network": (runtime_missing, "missing", False),
}

ALONE = frozenset({"runtime missing, no network"})  # those that change what all boards of a drawer share


def _interrupted(lab: Drawer, board: Sshd, model: Path, stage: str, act: Callable[[], None]) -> Outcome:
    trigger = Trigger(stage, act)
    outcome = bench(lab, board, model, trigger)
    trigger.join()
    return outcome


def _unplugged(board: Sshd) -> None:
    board.cut()
    time.sleep(CUT_S)
    assert board.network
    subprocess.run(["ip", "link", "set", board.network.link, "up"], check=True, timeout=20)


def _inside(board: Sshd, *words: str) -> None:
    assert board.process is not None
    (first,) = Path(f"/proc/{board.process.pid}/task/{board.process.pid}/children").read_text().split()[:1]
    subprocess.run(["nsenter", "--mount", "--pid", "--target", first, *words], check=True, timeout=20)


@contextlib.contextmanager
def _small_disk(board: Sshd, place: Path) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    _inside(board, "mount", "-t", "tmpfs", "-o", "size=20m,mode=777", "none", str(place))
    try:
        yield
    finally:
        _inside(board, "umount", "-l", str(place))


@contextlib.contextmanager
def _little_memory(board: Sshd) -> Iterator[None]:
    """Hold all that the board starts from now on to a memory in which sshd lives, and a runtime does not."""
    old = Path("/sys/fs/cgroup/memory")
    root, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
    group = root / f"edgeship-{os.getpid()}-{board.port}-{id(board)}"
    group.mkdir()
    assert board.process is not None
    listeners = _tree(board.process.pid)
    try:
        (group / limit).write_text(str(14 * 2**20))
        for pid in listeners:
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid in _tree(board.process.pid):
            with contextlib.suppress(OSError):
                (root / "cgroup.procs").write_text(str(pid))
        with contextlib.suppress(OSError):
            group.rmdir()


def _tree(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += _tree(int(child))
    return found


@contextlib.contextmanager
def _no_network(home: Path) -> Iterator[None]:
    """Give edgeship an empty home, and installers an index where nobody answers."""
    closed = "http://127.0.0.1:9/simple"
    values = {
        "EDGESHIP_HOME": str(home), "UV_DEFAULT_INDEX": closed, "UV_INDEX_URL": closed, "PIP_INDEX_URL": closed,
        "UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0", "UV_CACHE_DIR": str(home / "uv"), "PIP_NO_CACHE_DIR": "1",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
