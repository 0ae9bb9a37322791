"""Why a run brought no figure, by class: what is tried again, what counts against the device, and what it costs."""

from __future__ import annotations

from edgeship.errors import BadInput, DeviceFault, EdgeshipError, MissingTool, NothingToDo
from edgeship.errors import Fault as Kind
from edgeship.nightly_record import Cause, Fault

# What only a person can mend: another try would end in the same words.
_LASTING: frozenset[Kind] = frozenset({"auth", "host-key", "mismatch", "missing", "full"})
# The device is there and well: somebody else has it, or the model is too large for it.
_NOT_ITS_FAULT: frozenset[Kind] = frozenset({"busy", "killed"})
DEVICE_EXIT = DeviceFault.exit_code


class TimeUp(DeviceFault):
    """The night's time was up before a case was measured."""

    def __init__(self, message: str) -> None:
        super().__init__(message, fault="timeout", hint="time_limit in the suite")


class Stopped(DeviceFault):
    """The user ended the night: nothing is kept of what was under way."""

    def __init__(self, message: str) -> None:
        super().__init__(message, fault="lost")


def cause(error: EdgeshipError) -> Cause:
    """Return the class of a refusal."""
    if isinstance(error, DeviceFault):
        return "timeout" if error.fault == "timeout" else "device"
    return "mistake" if isinstance(error, BadInput | MissingTool | NothingToDo) else "stage"


def fault(error: EdgeshipError, tries: int = 1) -> Fault:
    """Return a refusal as a night keeps it, in its own words: the hint and the log's place stand in the message."""
    more = {"hint": error.hint, "log": error.log}
    said = [f"{key}: {each}" for key, each in more.items() if each and str(each) not in error.message]
    return Fault(cause(error), "; ".join([error.message, *said]), error.exit_code, tries)


def again(error: EdgeshipError) -> bool:
    """Say whether another try on the same device may succeed."""
    return isinstance(error, DeviceFault) and not isinstance(error, TimeUp) and error.fault not in _LASTING


def elsewhere(error: EdgeshipError) -> bool:
    """Say whether another device may do what this one could not."""
    return isinstance(error, DeviceFault) and not isinstance(error, TimeUp)


def busy(error: EdgeshipError) -> bool:
    """Say whether somebody else has the device: that is waited for, and no try."""
    return isinstance(error, DeviceFault) and error.fault == "busy"


def infrastructure(error: EdgeshipError) -> bool:
    """Say whether it counts against the device: three of these in a row, and it is quarantined."""
    return isinstance(error, DeviceFault) and not isinstance(error, TimeUp) and error.fault not in _NOT_ITS_FAULT


def backoff_s(first_s: float, tries: int, longest_s: float = 600.0) -> float:
    """Return how long to wait before the next try: twice as long after each."""
    return float(min(first_s * 2 ** min(tries - 1, 30), longest_s))
