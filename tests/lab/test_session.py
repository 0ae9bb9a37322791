"""A session's promises, on this machine as the board: one holder, nothing left behind, content sent once and whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeship import session
from edgeship.command import ProgramPipe
from edgeship.device import Device
from edgeship.errors import DeviceFault
from edgeship.remote import Pipe, Simulation

pytestmark = pytest.mark.processes
SHELLS = {"dash": ["/bin/sh", "-c"], "busybox": ["busybox", "sh", "-c"], "mksh": ["mksh", "-c"]}
HOLDER = """
import sys, time
from edgeship import session
from edgeship.device import Device
from edgeship.devices import local
entry = Device(name="board", target="linux-x86_64", transport="local", folder=sys.argv[1], lease=sys.argv[2])
with session.opened(local.connect(entry), entry, governor="performance", system=sys.argv[3]) as board:
    board.run("setsid sleep 987 > /dev/null 2>&1 < /dev/null & echo", timeout_s=5)
    print("held", flush=True)
    time.sleep(60)
"""


class Shell:
    """This machine through one of the shells that boards have."""

    def __init__(self, words: list[str]) -> None:
        self.name, self.words = "board", words
        self.simulation: Simulation | None = None
        self.pids: list[int] = []

    def start(self, script: str) -> Pipe:
        """Run a script with the shell."""
        pipe = ProgramPipe([*self.words, script])
        self.pids.append(pipe.process.pid)
        return pipe

    def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture(params=SHELLS)
def board(request: pytest.FixtureRequest) -> Shell:
    """Return this machine through each shell; one that can be installed must be there in CI."""
    words = SHELLS[request.param]
    if shutil.which(words[0]) is None:
        if os.environ.get("EDGESHIP_REQUIRE_LAB"):
            pytest.fail(f"apt-get install -y {request.param}")
        pytest.skip(f"needs {request.param}")
    return Shell(words)


@pytest.fixture
def entry(tmp_path: Path) -> Device:
    """Return a device with a folder and a lease of its own."""
    return Device(
        name="board", target="linux-x86_64", transport="local", folder=str(tmp_path / "there"), lease=tmp_path.name
    )


@pytest.fixture
def sysfs(tmp_path: Path) -> Iterator[Path]:
    """Return a /sys with one governor file: no container lets a test change the real one."""
    file = tmp_path / "sys" / "devices" / "system" / "cpu" / "cpu0" / "cpufreq" / "scaling_governor"
    file.parent.mkdir(parents=True)
    file.write_text("ondemand\n")
    yield file


def processes(words: str) -> list[str]:
    """Return the processes whose command line holds some words."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if words in line]


def wait_until(true: Callable[[], bool], seconds: float = 10) -> bool:
    """Say whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def test_a_board_tells_what_it_is_and_nothing_is_left(board: Shell, entry: Device) -> None:
    """The facts are the machine's own, the run's folder is gone afterwards, and so is what it started."""
    with session.opened(board, entry) as ours:
        assert ours.board.cores == os.cpu_count() or ours.board.cores == len(os.sched_getaffinity(0))
        assert ours.board.architecture == os.uname().machine
        assert ours.board.python is not None
        assert ours.checked("pwd").text.strip() == ours.folder
        ours.run("setsid sleep 986 > /dev/null 2>&1 < /dev/null & echo started", timeout_s=5)
        assert wait_until(lambda: bool(processes("sleep 986")))
    assert not processes("sleep 986")
    assert list(Path(entry.folder or "", "runs").iterdir()) == []


def test_one_board_is_held_once(board: Shell, entry: Device) -> None:
    """A second session is refused with the holder's name, and taken when the first has ended."""
    with (
        session.opened(board, entry),
        pytest.raises(DeviceFault, match=r"busy: held by .*@") as refused,
        session.opened(board, entry),
    ):
        pass
    assert refused.value.fault == "busy"
    with session.opened(board, entry):
        pass


def test_a_lease_waits_its_turn(board: Shell, entry: Device) -> None:
    """With a wait, a session gets the board as soon as it is free."""
    first = session.opened(board, entry)
    first.__enter__()
    timer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"])
    import threading

    threading.Thread(target=lambda: (timer.wait(), first.__exit__(None, None, None))).start()
    began = time.monotonic()
    with session.opened(board, entry, wait_s=20):
        assert 0.5 < time.monotonic() - began < 15


def test_content_is_sent_once_by_its_hash(board: Shell, entry: Device) -> None:
    """The same content is not sent again; a damaged copy of the same size is."""
    content = os.urandom(300_000)
    with session.opened(board, entry) as ours:
        path = ours.deliver(content, what="the model")
        assert Path(path).read_bytes() == content
        assert ours.sent_bytes == len(content)
        ours.deliver(content, what="the model")
        assert ours.sent_bytes == len(content)
        Path(path).write_bytes(b"x" * len(content))
        assert Path(ours.deliver(content, what="the model")).read_bytes() == content
        assert ours.sent_bytes == 2 * len(content)


def test_a_command_that_hangs_is_ended_there(board: Shell, entry: Device) -> None:
    """A timeout ends the program on the board and its children."""
    with session.opened(board, entry) as ours, pytest.raises(DeviceFault, match=r"longer than 0\.5 s") as refused:
        ours.run("sleep 985 | cat", timeout_s=0.5)
    assert refused.value.fault == "timeout"
    assert not processes("sleep 985")


def test_a_killed_program_is_told_as_killed(board: Shell, entry: Device) -> None:
    """What the kernel does when memory runs out reads as such."""
    with session.opened(board, entry) as ours, pytest.raises(DeviceFault, match="memory") as refused:
        ours.run("sh -c 'kill -9 $$'", timeout_s=10)
    assert refused.value.fault == "killed"


def test_the_governor_is_put_back(board: Shell, entry: Device, sysfs: Path) -> None:
    """The governor is set for the run, and restored at its end."""
    root = str(sysfs.parents[5])
    with session.opened(board, entry, governor="performance", system=root) as ours:
        assert sysfs.read_text().strip() == "performance"
        assert ours.governor == "no"
    assert sysfs.read_text().strip() == "ondemand"


def test_a_killed_workstation_leaves_a_clean_board(entry: Device, sysfs: Path, tmp_path: Path) -> None:
    """SIGKILL of edgeship: the warden restores the governor, ends what ran, removes the folder, frees the lease."""
    arguments = [entry.folder or "", entry.lease or "", str(sysfs.parents[5])]
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"
    assert sysfs.read_text().strip() == "performance"
    assert processes("sleep 987")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert wait_until(lambda: not processes("sleep 987") and sysfs.read_text().strip() == "ondemand")
    runs = Path(entry.folder or "", "runs")
    assert wait_until(lambda: not list(runs.iterdir()))
    with session.opened(Shell(SHELLS["dash"]), entry):
        pass


def test_what_a_killed_warden_left_is_swept(board: Shell, entry: Device, sysfs: Path) -> None:
    """When even the warden is killed, the next session restores the governor and removes what ran."""
    root = str(sysfs.parents[5])
    first = session.opened(board, entry, governor="performance", system=root)
    ours = first.__enter__()
    ours.run("setsid sleep 984 > /dev/null 2>&1 < /dev/null & echo", timeout_s=5)
    os.kill(board.pids[0], signal.SIGKILL)  # the first thing that a session starts is its warden
    with pytest.raises(DeviceFault) as refused:
        wait_until(lambda: bool(ours.run("true", timeout_s=5)) and False, 5)
    assert refused.value.fault == "lost"
    first.__exit__(None, None, None)
    with session.opened(board, entry):
        assert sysfs.read_text().strip() == "ondemand"
        assert not processes("sleep 984")
        assert len(list(Path(entry.folder or "", "runs").iterdir())) == 1


def test_a_full_disk_is_named(board: Shell, entry: Device) -> None:
    """No space: told as full before anything is sent, and again when others fill the disk meanwhile; nothing is left."""
    place = Path(entry.folder or "")
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(place)], check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        with session.opened(board, entry) as ours:
            with pytest.raises(DeviceFault, match=r"disk is full.* needs 16\.0 MiB") as refused:
                ours.deliver(bytes(16 * 2**20), what="the model")
            assert refused.value.fault == "full"
            assert ours.sent_bytes == 0
            assert not list(place.glob("blobs/*"))
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_the_cache_keeps_below_its_cap(board: Shell, entry: Device) -> None:
    """The oldest goes first."""
    with session.opened(board, entry) as ours:
        paths = [Path(ours.deliver(bytes([number]) * 2**20, what="m")) for number in range(4)]
        for age, path in enumerate(paths):
            os.utime(path, (time.time() - 7200 + age * 60,) * 2)
        ours.trim(cap_mib=2)
        assert [path.exists() for path in paths] == [False, False, True, True]
        ours.trim(cap_mib=0, spare_minutes=0)
        assert not any(path.exists() for path in paths)


@pytest.mark.parametrize("inner", ["my edge", "it's", "$(touch owned)", "a;b"])
def test_a_folder_s_name_is_only_a_name(board: Shell, entry: Device, inner: str, tmp_path: Path) -> None:
    """Spaces, quotes and what a shell would run are part of the name, below the board's home and elsewhere."""
    for place in (f"{tmp_path}/{inner}", f"$HOME/.cache/edgeship-test-{tmp_path.name}/{inner}"):
        with session.opened(board, entry.model_copy(update={"folder": place})) as ours:
            assert ours.root == place.replace("$HOME", os.environ["HOME"])
            assert Path(ours.deliver(b"content", what="m")).read_bytes() == b"content"
    shutil.rmtree(Path(os.environ["HOME"], ".cache", f"edgeship-test-{tmp_path.name}"))


def test_a_planted_link_is_not_followed(board: Shell, entry: Device, tmp_path: Path) -> None:
    """A link where the lease should be is refused, and what it leads to is not made."""
    lease = Path("/tmp") / f"edgeship-{entry.lease}.lease"
    lease.symlink_to(tmp_path / "victim")
    try:
        with pytest.raises(DeviceFault, match="somebody put there"), session.opened(board, entry):
            pass
        assert not (tmp_path / "victim").exists()
    finally:
        lease.unlink()


def test_a_folder_that_cannot_be_made_is_no_full_disk(board: Shell, entry: Device) -> None:
    """The system's own word is told, and the fault is not 'full'."""
    with (
        pytest.raises(DeviceFault, match="cannot be written") as refused,
        session.opened(board, entry.model_copy(update={"folder": "/proc/nowhere"})),
    ):
        pass
    assert refused.value.fault == "failed"
