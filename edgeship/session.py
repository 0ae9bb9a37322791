"""One run on a board: its lease, its folder, what was delivered there, and the end of it all, however it comes.

On the board a warden (`board/warden.sh`) holds the lease and cleans up by itself when heartbeats stop, so a workstation
that is killed or unplugged leaves no process, no run folder and no changed governor behind.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edgeship import board_facts, remote, resources
from edgeship.device import Device
from edgeship.errors import DeviceFault
from edgeship.measurement import Board
from edgeship.progress import OnProgress, Progress, silent
from edgeship.remote import Connection, Finished, Pipe, quote

HEARTBEAT_S = 5.0
SILENCE_S = 30
OPEN_TIMEOUT_S = 60.0
CLEAN_TIMEOUT_S = 30.0
RESERVE_KIB = 8 * 1024  # left free on a board's disk, for what else lives there
_STEP_TIMEOUT_S = 60.0
_SLOWEST_BYTES_PER_S = 100_000
_KILLED = 137
Content = Path | bytes
ReadFacts = Callable[[Iterable[str]], Board]


class Session:
    """A board that is ours for now. Made by `opened`, used with `with`."""

    def __init__(self, connection: Connection, device: Device, folder: str, run: str, warden: _Warden) -> None:
        self.connection, self.device, self.name = connection, device, device.name
        self.root, self.folder = folder, f"{folder}/runs/{run}"
        self.board, self.python = warden.board, device.python or "python3"
        self.governor = warden.governor
        self._run, self._warden = run, warden
        self.sent_bytes = 0

    def run(
        self,
        script: str,
        *,
        timeout_s: float,
        stdin: Iterable[bytes] = (),
        on_line: Callable[[str], None] | None = None,
    ) -> Finished:
        """Run a script in this run's folder; what it starts ends with the session at the latest.

        Raises:
            DeviceFault: `timeout`, `lost`, or `killed`: the board's kernel ended it.
        """
        self._warden.check()
        marked = f"cd {quote(self.folder)} || exit 66; export EDGESHIP_RUN={self._run}; exec sh -c {quote(script)}"
        done = remote.run(self.connection, marked, timeout_s=timeout_s, stdin=stdin, on_line=on_line)
        if done.exit_code == _KILLED:
            raise DeviceFault(
                f"{self.name}: the program there was killed (SIGKILL), as a board's kernel does when memory runs out",
                fault="killed",
                hint="close other programs on the board, or choose a smaller model or batch; `dmesg` there says more",
            )
        return done

    def checked(self, script: str, *, timeout_s: float = _STEP_TIMEOUT_S, stdin: Iterable[bytes] = ()) -> Finished:
        """Run a script that has to succeed.

        Raises:
            DeviceFault: as `run`; also `full`, or `failed` with what it complained of.
        """
        done = self.run(script, timeout_s=timeout_s, stdin=stdin)
        if done.exit_code != 0:
            raise fault_of(self.name, done)
        return done

    def deliver(self, source: Content, *, what: str, on_progress: OnProgress = silent) -> str:
        """Return the path of this content in the board's cache, having sent it if it was not there."""
        return self.deliver_all({what: source}, on_progress=on_progress)[what]

    def deliver_all(self, sources: dict[str, Content], *, on_progress: OnProgress = silent) -> dict[str, str]:
        """Return what → path in the board's cache; content that stands there already (by its hash) is not sent.

        Raises:
            DeviceFault: `full`, `lost`, or `failed`: it arrived damaged.
        """
        sums = {what: _sha256(content) for what, content in sources.items()}
        there = self._there(sums.values())
        for what, content in sources.items():
            if sums[what] not in there:
                self._push(content, sums[what], what, on_progress)
        return {what: f"{self.root}/blobs/{sha}" for what, sha in sums.items()}

    def _there(self, sums: Iterable[str]) -> set[str]:
        """Return which contents the board has whole; a damaged one is removed."""
        script = f"""cd {quote(self.root)}/blobs || exit 66
for sum in {" ".join(sums)}; do
    [ -f $sum ] || continue
    case $(sha256sum < $sum) in
        $sum*) touch $sum; echo "have $sum";;
        *) rm -f $sum;;
    esac
done"""
        return {
            line.removeprefix("have ") for line in self.checked(script).text.split("\n") if line.startswith("have ")
        }

    def _push(self, content: Content, sha: str, what: str, on_progress: OnProgress) -> None:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        need_kib = size // 1024 + RESERVE_KIB
        part, blob = f"{self.folder}/{sha}.part", f"{self.root}/blobs/{sha}"
        script = f"""{_space_for(self.root, need_kib)}
cat > {quote(part)} || {{ rm -f {quote(part)}; echo "edgeship full"; exit 28; }}
case $(sha256sum < {quote(part)}) in
    {sha}*) mv -f {quote(part)} {quote(blob)};;
    *) rm -f {quote(part)}; echo "arrived damaged" >&2; exit 74;;
esac"""
        pieces = _pieces(content, what, size, on_progress, f"send to {self.name}")
        done = self.run(script, timeout_s=_STEP_TIMEOUT_S + size / _SLOWEST_BYTES_PER_S, stdin=pieces)
        if done.exit_code != 0:
            raise fault_of(self.name, done, what=what, need_mib=size / 2**20)
        self.sent_bytes += size

    def unpack(self, archive: Path, *, what: str, on_progress: OnProgress = silent) -> str:
        """Return the folder in the board's cache that holds the content of a .tar.gz, having sent it if need be."""
        sha = _sha256(archive)
        tree = f"{self.root}/trees/{sha}"
        script = f"[ -f {quote(tree)}/.complete ] && touch {quote(tree)} && echo complete"
        if "complete" in self.run(script, timeout_s=_STEP_TIMEOUT_S).text:
            return tree
        blob = self.deliver(archive, what=what, on_progress=on_progress)
        made = f"{self.folder}/{sha}.tree"
        unpacked = f"""{_space_for(self.root, 4 * archive.stat().st_size // 1024)}
mkdir {quote(made)} && tar -xzf {quote(blob)} -C {quote(made)} || {{ rm -rf {quote(made)}; echo "cannot unpack" >&2; exit 74; }}
sync
: > {quote(made)}/.complete
rm -rf {quote(tree)}; mv {quote(made)} {quote(tree)} && sync && rm -f {quote(blob)}"""
        self.checked(unpacked, timeout_s=_STEP_TIMEOUT_S * 5)
        return tree

    def fetch(self, path: str, *, timeout_s: float = 600.0) -> bytes:
        """Return the content of a file on the board."""
        return self.checked(f"cat {quote(path)}", timeout_s=timeout_s).output

    def trim(self, *, cap_mib: int, spare_minutes: int = 15) -> None:
        """Remove the oldest of the board's cache until it is below the cap; what was touched just now stays."""
        self.checked(_trim(self.root, cap_mib, spare_minutes))


def _space_for(folder: str, need_kib: int) -> str:
    return f"""set -- $(df -Pk {quote(folder)} | tail -n 1)
[ "$4" -ge {need_kib} ] || {{ echo "edgeship full $4"; exit 28; }}"""


def _trim(folder: str, cap_mib: int, spare_minutes: int) -> str:
    """Return the script: newest first, what goes beyond the cap is removed."""
    return f"""cd {quote(folder)} || exit 66
total=0
ls -1td blobs/* trees/* 2>/dev/null | while read -r entry; do
    set -- $(du -sk "$entry"); total=$((total + $1))
    [ $total -le $(({cap_mib} * 1024)) ] && continue
    [ -n "$(find "$entry" -maxdepth 0 -mmin +{spare_minutes})" ] || [ {spare_minutes} -eq 0 ] || continue
    rm -rf "$entry"
done"""


def fault_of(name: str, done: Finished, *, what: str = "", need_mib: float | None = None) -> DeviceFault:
    """Return the error that a failed script on a board means."""
    said, complaint = done.text, done.complaint
    if "edgeship full" in said or b"No space left" in done.errors or b"Disk quota" in done.errors:
        need = "" if need_mib is None else f": {what} needs {need_mib:.1f} MiB and {RESERVE_KIB // 1024} MiB to spare"
        return DeviceFault(
            f"{name}: its disk is full{need}",
            fault="full",
            hint=f"edgeship devices clean {name} empties edgeship's own cache there",
        )
    if "arrived damaged" in complaint:
        return DeviceFault(f"{name}: {what or 'a file'} arrived damaged", fault="lost")
    return DeviceFault(
        f"{name}: a step there failed (exit {done.exit_code}): {complaint or said[-200:]}", fault="failed"
    )


@contextlib.contextmanager
def opened(
    connection: Connection,
    device: Device,
    *,
    folder: str = "$HOME/.edgeship",
    facts: str = "facts.sh",
    read_facts: ReadFacts = board_facts.read,
    governor: str | None = None,
    wait_s: int = 0,
    system: str = "/sys",
) -> Iterator[Session]:
    """Give the board, leased; afterwards nothing of the run is left there, also after a failure.

    Args:
        folder: where things are kept, if the device's entry does not say; `$HOME` is the board's.
        facts, read_facts: the script by which the board says what it is, and its reader.
        governor: set for the run and put back.
        wait_s: how long to wait for a lease that somebody holds.
        system: the board's /sys.

    Raises:
        DeviceFault: `busy` with the holder's name, `full`, `missing` with the tool, or `lost`.
    """
    run = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    place = device.folder or folder
    settings = {
        "run": run, "lease": device.lease or "", "who": _who(), "silence": SILENCE_S, "governor": governor or "",
        "sys": system, "wait": wait_s,
    }  # fmt: skip
    lines = [f"{key}={quote(value)}" for key, value in settings.items()]
    # $HOME is for the board to fill in; everything else in the folder's name is literal.
    lines.append(f'folder="$HOME"/{quote(place[6:])}' if place.startswith("$HOME/") else f"folder={quote(place)}")
    lines.append(f"python={quote(device.python or 'python3')}")
    lines.append('echo "edgeship folder $folder"')
    script = "\n".join([*lines, _part("warden.sh"), _part(facts), _part("watch.sh")])
    warden = _Warden(connection, connection.start(script), device.name)
    try:
        warden.hear(read_facts, OPEN_TIMEOUT_S + wait_s)
        yield Session(connection, device, warden.folder, run, warden)
    finally:
        warden.dismiss()


def _part(name: str) -> str:
    return resources.board(name).read_text(encoding="utf-8")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{platform.node()} since {time.strftime('%H:%M:%S')}"


class _Warden:
    """The workstation's end of the warden: sends heartbeats, notices when it is gone."""

    def __init__(self, connection: Connection, pipe: Pipe, name: str) -> None:
        self.connection, self.pipe, self.name = connection, pipe, name
        self._heard_s = time.monotonic()
        self.folder, self.governor = "", ""
        self.board: Board
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._dismissed = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._drain_errors, daemon=True).start()

    def hear(self, read_facts: ReadFacts, timeout_s: float) -> None:
        """Take what it says until it is ready; refuse with its reason when it is not."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while "edgeship ready" not in self._lines and not self._ended:
                if not self._news.wait(max(0.0, deadline - time.monotonic())):
                    raise DeviceFault(
                        f"{self.name}: connected, but the board did not answer within {timeout_s:.0f} s",
                        fault="timeout",
                        hint="is it overloaded? try again, or look at it with `top`",
                    )
            lines = list(self._lines)
        said = {line.split(" ", 2)[1]: line.split(" ", 2)[-1] for line in lines if line.startswith("edgeship ")}
        if "ready" not in said:
            raise self._refusal(said) if said else self._silence()
        self.folder, self.governor = said["folder"], said.get("governor", "")
        self.board = read_facts(lines)
        threading.Thread(target=self._beat, daemon=True).start()

    def _refusal(self, said: dict[str, str]) -> DeviceFault:
        if "busy" in said:
            holder = said["busy"] if said["busy"] != "edgeship busy" else ""
            return DeviceFault(
                f"{self.name}: busy: held by {holder.strip() or 'somebody else'}",
                fault="busy",
                hint="wait for it with --wait SECONDS; the lease frees itself when its holder ends",
            )
        if "lacks" in said:
            return DeviceFault(
                f"{self.name}: the board has no `{said['lacks']}`, which every run needs", fault="missing"
            )
        if "full" in said:
            return fault_of(self.name, Finished(28, b"edgeship full", b""))
        if "unwritable" in said:
            return DeviceFault(
                f"{self.name}: edgeship's folder cannot be written there: {said['unwritable']}",
                fault="failed",
                hint="`folder` in the device's entry names another place",
            )
        return DeviceFault(f"{self.name}: the connection broke before the board was ready", fault="lost")

    def _silence(self) -> DeviceFault:
        """Return why the board said nothing at all: its shell refuses, or the connection broke."""
        try:
            code = self.pipe.wait()
        except DeviceFault as fault:
            return fault
        return DeviceFault(f"{self.name}: its shell ended at once (exit {code}) and ran nothing", fault="failed")

    def check(self) -> None:
        """Refuse when the warden is gone: then the lease is gone too."""
        if self._ended:
            raise DeviceFault(f"{self.name}: the connection broke in the run", fault="lost")

    def _read(self) -> None:
        left = b""
        piece = b"first"
        while piece:
            try:
                piece = self.pipe.read()
            except (OSError, DeviceFault):
                piece = b""
            *whole, left = (left + piece).split(b"\n")
            self._heard_s = time.monotonic()
            with self._news:
                self._lines += [line.decode(errors="replace").rstrip("\r") for line in whole]
                self._ended = not piece
                self._news.notify_all()

    def _drain_errors(self) -> None:
        with contextlib.suppress(OSError, DeviceFault):
            while self.pipe.read_error():
                pass

    def _beat(self) -> None:
        """Send heartbeats; when no answer comes for too long, end the connection: whoever waits on it is told."""
        while not self._dismissed.wait(HEARTBEAT_S) and not self._ended:
            if time.monotonic() - self._heard_s > SILENCE_S:
                self.connection.close()
                return
            try:
                self.pipe.write(b".")
            except (OSError, DeviceFault):
                return

    def dismiss(self) -> None:
        """Have it clean up, and wait until it has."""
        self._dismissed.set()
        self.pipe.end_input()
        self._reader.join(CLEAN_TIMEOUT_S)
        self.pipe.close()


def _sha256(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pieces(content: Content, what: str, size: int, on_progress: OnProgress, stage: str) -> Iterator[bytes]:
    done = 0
    for piece in _chunks(content):
        yield piece
        done += len(piece)
        on_progress(Progress(stage, done, size, what))


def _chunks(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        for start in range(0, len(content), remote.PIECE_BYTES):
            yield content[start : start + remote.PIECE_BYTES]
        return
    with content.open("rb") as stream:
        while piece := stream.read(remote.PIECE_BYTES):
            yield piece
