"""How a kind of board is asked what it is: the script for its system, and the reader of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgeship import board_facts
from edgeship.android import facts as android_facts
from edgeship.measurement import Board


@dataclass(frozen=True)
class Asking:
    """The script that asks, by its name in `board/`, and what makes a board of its lines."""

    facts: str
    read_facts: Callable[[Iterable[str]], Board]


LINUX = Asking("facts.sh", board_facts.read)
ANDROID = Asking("android_facts.sh", android_facts.read_facts)
