"""A drawer of real boards behind sshd, with the user's files that reach them: what fleets and faults are tried on."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from edgeship import store
from tests.lab.real_sshd import Desk, Network, Sshd

PYTHON = "/usr/bin/python3"  # the system's own: an account of a board's own may not look into another user's


_CHANGING = threading.Lock()


@dataclass(frozen=True)
class Drawer:
    """Boards, the desk they stand on, and the inventory that names them `board-1`, `board-2` …"""

    boards: list[Sshd]
    desk: Desk
    inventory: Path
    environment: Mapping[str, str]

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment of a user whose drawer this is and whose store is another."""
        return {name: value for name, value in self.environment.items() if name != "EDGESHIP_HOME"}

    def name(self, board: Sshd) -> str:
        """Return what the inventory calls a board."""
        return f"board-{self.boards.index(board) + 1}"

    def change(self, board: Sshd, **fields: Any) -> None:
        """Change fields of a board's entry; None takes one away."""
        with _CHANGING:
            table = tomlkit.parse(self.inventory.read_text())
            entry: Any = table[self.name(board)]
            for key, value in fields.items():
                if value is None:
                    entry.pop(key, None)
                else:
                    entry[key] = value
            store.write_whole(self.inventory, tomlkit.dumps(table).encode())


@contextlib.contextmanager
def drawer(count: int = 1, *, networks: bool = False, home: Path | None = None) -> Iterator[Drawer]:
    """Give real boards, each with a lease of its own since they share this machine's id; all are gone afterwards.

    Args:
        networks: each board gets a network of its own, whose cable can be pulled.
        home: edgeship's store; else one that goes with the drawer.
    """
    with tempfile.TemporaryDirectory(prefix="edgeship-desk-") as folder, pytest.MonkeyPatch.context() as patch:
        desk = Desk(Path(folder) / "user", patch)
        with contextlib.ExitStack() as stack:
            boards = [
                stack.enter_context(Sshd(network=Network(number) if networks else None))
                for number in range(1, count + 1)
            ]
            inventory = Path(folder) / "devices.toml"
            tables = {}
            for number, board in enumerate(boards, 1):
                entry = desk.meet(board).model_dump(exclude_none=True, exclude_defaults=True, mode="json")
                entry |= {"python": PYTHON, "lease": f"lab-{os.getpid()}-{number}"}
                tables[f"board-{number}"] = {key: value for key, value in entry.items() if key != "name"}
            inventory.write_text(tomlkit.dumps(tables))
            patch.setenv("EDGESHIP_DEVICES", str(inventory))
            patch.setenv("EDGESHIP_HOME", str(home or Path(folder) / "edgeship"))
            names = ("HOME", "EDGESHIP_DEVICES", "EDGESHIP_HOME")
            yield Drawer(boards, desk, inventory, {name: os.environ[name] for name in names})
