"""Ways to refuse: one tree of errors, one exit code a class."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal


class EdgeshipError(Exception):
    """A refusal in words: `message` says what and which, `hint` the next move, `log` where the full output lies."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, log: Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.log))


def _rebuild(kind: type[EdgeshipError], message: str, hint: str | None, log: Path | None) -> EdgeshipError:
    """Make the error again on the other side of a process boundary."""
    return kind(message, hint=hint, log=log)


class BadInput(EdgeshipError):
    """Something the user gave cannot be used; the text starts with the file or the name."""

    exit_code = 2


class NothingToDo(EdgeshipError):
    """The request is already so, or leaves nothing to work on."""

    exit_code = 3


class MissingTool(EdgeshipError):
    """A package or program is absent; the hint is the command that installs it."""

    exit_code = 4


class StageFailed(EdgeshipError):
    """A stage broke or its result is not the same model; the text ends with the path of its log where one exists."""

    exit_code = 5


Fault = Literal[
    "unreachable",  # nothing answers at its address
    "lost",  # it answered, and then the connection broke
    "rebooted",  # it came back with another boot id
    "auth",  # our key or authorization is not taken
    "host-key",  # who answers is not known, or not who it was
    "busy",  # somebody else measures on it
    "full",  # no space for what has to go there
    "killed",  # its kernel ended our process, mostly for memory
    "timeout",  # a command there took longer than it may
    "missing",  # it lacks something: Python, a runtime, a program
    "mismatch",  # it is not what its entry says
    "failed",  # a command there failed for another reason
]
PASSING: frozenset[Fault] = frozenset({"unreachable", "lost", "rebooted"})  # a second try may succeed


class DeviceFault(EdgeshipError):
    """A device is unreachable, busy, full, or not what its entry says; `fault` says which, in one word."""

    exit_code = 6

    def __init__(self, message: str, *, fault: Fault, hint: str | None = None, log: Path | None = None) -> None:
        super().__init__(message, hint=hint, log=log)
        self.fault: Fault = fault

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_fault, (self.message, self.fault, self.hint, self.log))


def _rebuild_fault(message: str, fault: Fault, hint: str | None, log: Path | None) -> DeviceFault:
    return DeviceFault(message, fault=fault, hint=hint, log=log)


class VerdictNegative(EdgeshipError):
    """All work was done and the answer is no: a budget missed, a regression, a golden check failed."""

    exit_code = 7


def near_miss(word: str, known: Iterable[str]) -> str | None:
    """Return the known word closest to a misspelt one, or None when nothing is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return found[0] if found else None


def unknown(kind: str, word: str, known: Iterable[str], *, where: str | None = None) -> BadInput:
    """Make the refusal of an unknown name: what it is, the near miss, and what there is to choose from."""
    names = sorted(known)
    guess = near_miss(word, names)
    start = f"{where}: " if where else ""
    question = f"; did you mean '{guess}'?" if guess else ""
    return BadInput(f"{start}no such {kind} '{word}'{question}", hint=f"known: {', '.join(names)}")
