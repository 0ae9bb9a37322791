"""Each fault once, on a real board; `scripts/bench_faults.py` does each twenty times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.drawer import Drawer, drawer
from tests.lab.faults import FAULTS, artifact, bench
from tests.lab.real_sshd import need_root


@pytest.fixture(scope="module")
def lab() -> Iterator[Drawer]:
    """Return a board with a network of its own, which has its runtime already."""
    need_root()
    with drawer(networks=True) as made:
        yield made


@pytest.fixture
def ready(lab: Drawer, tmp_path: Path) -> Drawer:
    """Return the drawer once a first bench has gone well there, which brings the runtime."""
    outcome = bench(lab, lab.boards[0], artifact(tmp_path))
    assert (outcome.word, outcome.clean) == ("measured", True), outcome
    return lab


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_for_what_it_is(name: str, ready: Drawer, tmp_path: Path) -> None:
    """The right word, tried again only where that helps, and a clean board."""
    fault, word, repeated = FAULTS[name]
    outcome = fault(ready, ready.boards[0], tmp_path)
    assert (outcome.word, outcome.repeated, outcome.clean) == (word, repeated, True), outcome
