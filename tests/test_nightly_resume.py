"""Which night `--resume` goes on with; where there is none that it can, a new one begins and the old one is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import history, nightly, nightly_plan
from edgeship import suite as suites
from edgeship.history import History
from edgeship.nightly_plan import NightPlan
from edgeship.nightly_record import NightRecord
from edgeship.progress import Listener, StageTold

SUITE = 'name = "here"\nmodels = ["gone.tflite"]\nrecipes = ["float32"]\ndevices = ["local"]\nlease = "1s"\n'


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[History]:
    """Give a history of the test's own."""
    with history.open(str(tmp_path / "history.sqlite")) as opened:
        yield opened


def planned(folder: Path, more: str = "", *, only: str | None = None) -> NightPlan:
    """Return the plan of a suite whose only model is not there, so that nothing is built or measured."""
    (folder / "suite.toml").write_text(SUITE + more)
    return nightly_plan.plan(suites.read(folder / "suite.toml"), only=only)


def unfinished(kept: History, plan: NightPlan) -> NightRecord:
    """Keep a night that came to no end."""
    night = NightRecord("first", "here", "2026-01-01T00:00:00+00:00", None, (), options=nightly_plan.options(plan))
    kept.begin(night)
    return night


def resumed(kept: History, plan: NightPlan) -> tuple[NightRecord, list[str], list[str]]:
    """Return the night that was done, what was told, and the nights that were begun or gone on with."""
    told: list[StageTold] = []
    begun: list[NightRecord] = []
    done = nightly.run(plan, kept, Listener(on_stage=told.append), resume=True, on_begin=begun.append)
    assert done.ended is not None
    return done, [each.text for each in told if each.stage == "resume"], [each.id for each in begun]


def test_a_night_that_came_to_no_end_is_gone_on_with(kept: History, tmp_path: Path) -> None:
    """Then there is none, and a new one begins."""
    plan = planned(tmp_path)
    unfinished(kept, plan)
    assert resumed(kept, plan)[0].id == "first"
    done, told, begun = resumed(kept, plan)
    assert done.id != "first" and not told and begun == [done.id]


@pytest.mark.parametrize(
    ("more", "only", "why"),
    [("retries = 1\n", None, "suite.toml was changed"), ("", "gone*", "began without --only")],
    ids=["suite", "only"],
)
def test_what_is_no_longer_the_same_is_a_new_night(
    kept: History, tmp_path: Path, more: str, only: str | None, why: str
) -> None:
    """The old one is ended and it is told why: a timer that always says --resume goes on for ever."""
    unfinished(kept, planned(tmp_path))
    plan = planned(tmp_path, more, only=only)
    done, (told,), begun = resumed(kept, plan)
    assert done.id != "first" and begun[-1] == done.id
    assert kept.night("first").ended is not None
    assert why in told and "a new night begins" in told
    assert resumed(kept, plan)[1] == []


def test_another_choice_of_cases_is_named(kept: History, tmp_path: Path) -> None:
    """The one that was not finished."""
    unfinished(kept, replace(planned(tmp_path), only="go*"))
    assert "--only go*" in resumed(kept, planned(tmp_path))[1][0]


def test_a_night_that_another_process_works_on_is_left_alone(kept: History, tmp_path: Path) -> None:
    """Another workstation has the same suite and the same history."""
    plan = planned(tmp_path)
    unfinished(kept, plan)
    with kept.lease("night:first", holder="another workstation", seconds=1):
        done, (told,), _ = resumed(kept, plan)
    assert done.id != "first" and kept.night("first").ended is None
    assert "another workstation" in told and "a new night begins" in told


def test_a_night_that_is_ended_while_one_waits_for_it_is_over(kept: History, tmp_path: Path) -> None:
    """It was another's."""
    import threading

    plan = planned(tmp_path)
    unfinished(kept, plan)
    with kept.lease("night:first", holder="another workstation", seconds=1):
        ending = threading.Timer(1.5, kept.end, ("first", "2026-01-02T00:00:00+00:00"))
        ending.start()
        done, (told,), _ = resumed(kept, plan)
        ending.join()
    assert done.id != "first" and "a new night begins" in told
