"""Android boards over adb: the adb program, always by serial; what its states and complaints mean.

adb itself starts its server when there is none, apart from our pipes and our session; a server that runs is the user's.
"""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeship import remote
from edgeship.command import Called, ProgramPipe, call
from edgeship.device import Device
from edgeship.errors import DeviceFault, Fault, StageFailed, near_miss
from edgeship.remote import Pipe, Simulation, quote

INSTALL = "apt-get install -y adb"
LONGEST_SCRIPT_BYTES = 60_000  # adb sends a command in one message of 64 KiB; a longer one ends in "closed"
_CALL_TIMEOUT_S = 30.0  # `adb connect` itself gives up after 10
_SETTLE_S = 5.0
_PROBE_TIMEOUT_S = 10.0
_OVER_TCP = re.compile(r".+:\d+")


@dataclass(frozen=True)
class Attached:
    """One line of `adb devices -l`: `state` is adb's word, "device" when it is ready; `detail` the rest of the line."""

    serial: str
    state: str
    model: str | None
    detail: str


@dataclass(frozen=True)
class Meaning:
    """What a state of adb, or a complaint of it, stands for."""

    fault: Fault
    words: str
    hint: str


_DIALOG = (
    "unlock its screen and accept the dialog 'Allow USB debugging?'; if none shows, revoke the USB debugging "
    "authorizations in its developer options and attach it again"
)
_RULES = (
    "install udev's rules with `apt-get install -y android-sdk-platform-tools-common`, join the group plugdev "
    "(`usermod -aG plugdev $USER`, then log in again), and attach it again"
)
_AGAIN = "is it awake, and is USB debugging on? `adb reconnect offline`, or attach it again"
_SERVER = "`adb start-server` shows why; perhaps another program holds its port ($ANDROID_ADB_SERVER_PORT, else 5037)"
_NORMAL = "`adb -s SERIAL reboot` brings it back to its normal system"

# States other than "device", as `adb devices` writes them.
STATES: Mapping[str, Meaning] = {
    "authorizing": Meaning("auth", "this computer is not authorized there yet", _DIALOG),
    "bootloader": Meaning("mismatch", "it is in its bootloader", _NORMAL),
    "connecting": Meaning("unreachable", "it does not finish connecting", _AGAIN),
    "no permissions": Meaning("auth", "this user may not open its USB port", _RULES),
    "offline": Meaning("unreachable", "it is offline: attached, and its adbd does not answer", _AGAIN),
    "recovery": Meaning("mismatch", "it is in its recovery system", _NORMAL),
    "rescue": Meaning("mismatch", "it is in its rescue system", _NORMAL),
    "sideload": Meaning("mismatch", "it waits for a sideloaded update", _NORMAL),
    "unauthorized": Meaning("auth", "this computer is not authorized there", _DIALOG),
}

# What adb complains of, the first that fits; adb leaves with 1 then, or with 0 and no word when its server or the device
# goes away while a command runs. Provoked with the real program; for USB ports and old devices, read in its source.
COMPLAINTS: tuple[tuple[str, Meaning], ...] = (
    (r"device unauthorized|failed to authenticate to", STATES["unauthorized"]),
    (r"device still authorizing", STATES["authorizing"]),
    (r"device still connecting", STATES["connecting"]),
    (r"insufficient permissions for device|no permissions|USB permission failure", STATES["no permissions"]),
    (r"device offline", STATES["offline"]),
    (r"device '.*' not found|no devices(/emulators)? found", Meaning("lost", "it is attached no more", _AGAIN)),
    (
        r"failed to start daemon|cannot connect to daemon|failed to check server version",
        Meaning("failed", "the adb server of this machine does not start", _SERVER),
    ),
    (
        r"doesn't support|only supports allocating a pty",
        Meaning("missing", "its adbd is too old to pass exit codes", "Android 7 or newer has shell protocol v2"),
    ),
    (
        r"failed to resolve host",
        Meaning(
            "unreachable", "its address has no such host", "`address` in its entry is wrong, or the network is down"
        ),
    ),
    (r"bad port number", Meaning("mismatch", "its address has no valid port", "`address` in its entry is host:port")),
    (
        r"failed to connect to|unable to connect to",
        Meaning(
            "unreachable",
            "nothing there takes the connection",
            "is wireless debugging on (or `adb tcpip PORT` done over USB), and is this its address and port?",
        ),
    ),
)


class AndroidBridge:
    """A connection to one Android board. It stands open in the adb server; here are the programs that use it."""

    def __init__(self, name: str, serial: str) -> None:
        self.name, self.serial = name, serial
        self.simulation: Simulation | None = None
        self._pipes: weakref.WeakSet[AndroidPipe] = weakref.WeakSet()

    def start(self, script: str) -> Pipe:
        """Run a script there with its sh.

        Raises:
            MissingTool: there is no adb program here.
        """
        pipe = AndroidPipe(self.name, self.serial, script)
        self._pipes.add(pipe)
        return pipe

    def close(self) -> None:
        """End what still runs over it, from any thread; who waits for that hears `lost`. The server is the user's."""
        for pipe in list(self._pipes):
            pipe.process.kill()


class AndroidPipe(ProgramPipe):
    """The ends of a program on an Android board.

    adb ends with 0 also when its server dies in the middle, so the board's shell says at the end that it came so far,
    as the last thing on the error output; that line is taken out here.
    """

    _END = re.compile(rb"\x1eedgeship-end (\d+)\n")

    def __init__(self, name: str, serial: str, script: str) -> None:
        whole = f'sh -c {quote(script)}; edgeship_end=$?; echo "\x1eedgeship-end $edgeship_end" >&2; exit $edgeship_end'
        if len(whole.encode()) > LONGEST_SCRIPT_BYTES:
            raise ValueError(
                f"a script for adb has at most {LONGEST_SCRIPT_BYTES} bytes, this has {len(whole.encode())}"
            )
        super().__init__(["adb", "-s", serial, "shell", "-T", "-e", "none", whole], install=INSTALL)
        self.name, self.serial = name, serial
        self._ended: int | None = None
        self._held = b""  # what may be the beginning of the last line
        self._complaints = b""

    def read_error(self) -> bytes:
        """Return some of its error output, without the line that ends it."""
        while True:
            piece = super().read_error()
            text = self._held + piece
            if found := self._END.search(text):
                self._ended, text = int(found[1]), text[: found.start()] + text[found.end() :]
            start = text.rfind(b"\x1e") if piece else -1
            cut = start if start >= 0 and b"\n" not in text[start:] else len(text)
            told, self._held = text[:cut], text[cut:]
            self._complaints = (self._complaints + told)[-4096:]
            if told or not piece:
                return told

    def wait(self) -> int:
        """Return its exit code, a signal as 128 + its number.

        Raises:
            DeviceFault: `lost`, or what adb says is wrong.
        """
        code = super().wait()
        while self.read_error():
            pass
        if self._ended is not None:
            return self._ended
        if self.process.returncode in (0, 1, 255) or self.process.returncode < 0:
            raise _broken(self.name, self.serial, self._complaints.decode(errors="replace"))
        return code  # its whole group was killed there

    def close(self) -> None:
        """End our side; the board's adbd hangs up on the program."""
        self.process.kill()  # first, for a writer may be stuck in a full pipe
        super().close()


def attached(name: str = "adb") -> tuple[Attached, ...]:
    """Return all that this machine's adb sees, ready or not; `name` is who asks, for messages.

    Raises:
        MissingTool: there is no adb program.
        DeviceFault: `failed`, its server does not start.
    """
    return read_devices(_adb(name, "devices", "-l").output)


def read_devices(text: str) -> tuple[Attached, ...]:
    """Return what `adb devices -l` printed."""
    found = []
    for line in text.splitlines():
        parts = re.fullmatch(r"(\S+)\s+(no permissions|[a-z]+)\b(.*)", line.strip())
        if parts is None or line.startswith(("*", "List of devices", "adb server")):
            continue
        serial, state, detail = parts.groups()
        model = re.search(r"\bmodel:(\S+)", detail)
        found.append(Attached(serial, state, model[1].replace("_", " ") if model else None, detail.strip()))
    return tuple(found)


def connect(device: Device) -> AndroidBridge:
    """Return a connection to the device with the entry's serial, or to the only one attached when it names none.

    A serial host:port is connected first where it is not yet.

    Raises:
        MissingTool: there is no adb program.
        DeviceFault: `unreachable`, `auth`, `mismatch`, `missing` or `failed`; the hint says what mends it.
    """
    serial = _serial(device)
    state = _settled(device.name, serial)
    if state in (None, "offline") and _OVER_TCP.fullmatch(serial):
        _reach(device.name, serial, stale=state == "offline")
        state = _settled(device.name, serial)
    if state is None:
        raise _absent(device.name, serial, [each.serial for each in attached(device.name)])
    if state != "device":
        meaning = STATES.get(state, Meaning("unreachable", f"adb calls its state '{state}'", _AGAIN))
        raise _fault(device.name, serial, meaning)
    bridge = AndroidBridge(device.name, serial)
    _probe(bridge)
    return bridge


def meaning_of(complaint: str) -> Meaning | None:
    """Return what a text of adb's stands for, or None when it is none of those known."""
    for pattern, meaning in COMPLAINTS:
        if re.search(pattern, complaint):
            return meaning
    return None


def _serial(device: Device) -> str:
    if device.address:
        over_tcp = device.port is not None and not _OVER_TCP.fullmatch(device.address)
        return f"{device.address}:{device.port}" if over_tcp else device.address
    serials = [each.serial for each in attached(device.name)]
    if len(serials) == 1:
        return serials[0]
    if serials:
        raise DeviceFault(
            f"{device.name}: {len(serials)} devices are attached and its entry names none",
            fault="mismatch",
            hint=f"set its `address` to one of: {', '.join(serials)}",
        )
    raise _absent(device.name, None, [])


def _settled(name: str, serial: str) -> str | None:
    """Return the state once it is not a passing one, None when no such device is attached."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        state = next((each.state for each in attached(name) if each.serial == serial), None)
        if state not in ("connecting", "authorizing") or time.monotonic() > deadline:
            return state
        time.sleep(0.1)


def _reach(name: str, serial: str, *, stale: bool) -> None:
    """Connect over TCP; adb leaves with 0 also when that failed."""
    if stale:
        _adb(name, "disconnect", serial)
    done = _adb(name, "connect", serial)
    said = f"{done.output}\n{done.errors}".strip()
    if "connected to" in said or "failed to authenticate" in said:  # unauthorized: it is listed then, with its state
        return
    meaning = meaning_of(said) or Meaning("unreachable", "adb cannot connect to it", _AGAIN)
    raise _fault(name, serial, meaning, said)


def _probe(bridge: AndroidBridge) -> None:
    """Ask for a sign of life: a device that went away over TCP stays listed as ready."""
    try:
        done = remote.run(bridge, "exit 23", timeout_s=_PROBE_TIMEOUT_S)
    except DeviceFault as fault:
        if fault.fault != "timeout":
            raise
        again = f"`adb disconnect {bridge.serial}`, then try again" if _OVER_TCP.fullmatch(bridge.serial) else _AGAIN
        raise DeviceFault(
            f"{bridge.name}: attached as {bridge.serial}, but nothing came back within {_PROBE_TIMEOUT_S:.0f} s",
            fault="unreachable",
            hint=again,
        ) from None
    if done.exit_code != 23:
        raise DeviceFault(
            f"{bridge.name}: its shell does not run scripts (exit {done.exit_code}): {done.complaint}", fault="failed"
        )


def _absent(name: str, serial: str | None, there: list[str]) -> DeviceFault:
    wanted = "no device is attached to adb" if serial is None else f"no device '{serial}' is attached to adb"
    guess = None if serial is None else near_miss(serial, there)
    question = f"; did you mean '{guess}'?" if guess else ""
    hint = (
        f"attached: {', '.join(sorted(there))}"
        if there
        else "turn on USB debugging in its developer options, attach it with a cable that carries data, or give "
        "`address` as host:port for wireless debugging"
    )
    return DeviceFault(f"{name}: {wanted}{question}", fault="unreachable", hint=hint)


def _broken(name: str, serial: str, complaints: str) -> DeviceFault:
    meaning = meaning_of(complaints)
    if meaning is not None:
        return _fault(name, serial, meaning, complaints)
    last = [line.strip() for line in complaints.splitlines() if line.startswith(("error: ", "adb: "))]
    why = f" ({last[-1]})" if last else ""
    return DeviceFault(
        f"{name}: the connection over adb broke while a command ran there{why}",
        fault="lost",
        hint=f"is it still attached, and does the adb server still run? `adb -s {serial} get-state`",
    )


def _fault(name: str, serial: str, meaning: Meaning, said: str = "") -> DeviceFault:
    lines = said.strip().splitlines()
    why = f" ({lines[-1].strip()[:200]})" if lines else ""
    return DeviceFault(
        f"{name}: {serial}: {meaning.words}{why}", fault=meaning.fault, hint=meaning.hint.replace("SERIAL", serial)
    )


def _adb(name: str, *words: str) -> Called:
    """Run one command of adb's own."""
    try:
        # The server that this may start keeps the folder it was started in.
        done = call("adb", *words, timeout_s=_CALL_TIMEOUT_S, check=False, install=INSTALL, folder=Path("/"))
    except StageFailed:
        raise DeviceFault(
            f"{name}: the adb server of this machine did not answer within {_CALL_TIMEOUT_S:.0f} s",
            fault="failed",
            hint="it hangs: `adb kill-server` ends it, and the next command starts another",
        ) from None
    if done.exit_code != 0 and (meaning := meaning_of(done.errors)) is not None and meaning.fault == "failed":
        raise DeviceFault(f"{name}: {meaning.words}: {done.complaint}", fault="failed", hint=meaning.hint)
    return done
