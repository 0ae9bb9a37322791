"""What a night makes of a run whose conditions broke; that runs can be ended."""

from __future__ import annotations

import inspect

import pytest

from edgeship import nightly_run, trust
from edgeship.nightly_run import Endings
from tests.sample_bench import record

LOAD = "the load was 9.9 on 2 cores, 1 thread of it ours: others used the same cores"
UNSTEADY = "the times were not steady after 2.1 s of warm-up: a longer --warmup-seconds, or a quieter board"
HOT = "throttled while it was measured (0x4): let it cool, or give it a heat sink"


def test_on_a_shared_machine_others_are_a_doubt() -> None:
    """What broke besides is still a reason."""
    run = nightly_run.tolerated(record(valid=False, reasons=(LOAD, UNSTEADY), doubts=("odd",)))
    assert run.valid and run.reasons == ()
    assert run.doubts == ("odd", f"{LOAD}; the suite lets it count", f"{UNSTEADY}; the suite lets it count")
    broken = nightly_run.tolerated(record(valid=False, reasons=(LOAD, HOT)))
    assert not broken.valid and broken.reasons == (HOT,)
    well = record()
    assert nightly_run.tolerated(well) is well


def test_trust_begins_these_reasons_as_the_night_knows_them() -> None:
    """A word changed there would make runs on shared machines fail again."""
    source = inspect.getsource(trust)
    for start in nightly_run._OTHERS:
        assert f'yield f"{start}' in source


@pytest.mark.parametrize(
    ("reason", "hot"),
    [
        (HOT, True),
        ("soft temperature limit between two looks at the board (0x8): let it cool", True),
        ("thermal status 4 (from 3, severe, the system throttles): let the device cool down", True),
        (LOAD, False),
        ("the charger was pulled in the run", False),
        ("only 5 of 100 runs came within 150 s: fewer --runs", False),
    ],
    ids=range(6),
)
def test_only_heat_is_waited_for_by_the_thermometer(reason: str, hot: bool) -> None:
    """For everything else a short while is enough."""
    assert nightly_run.warm(record(valid=False, reasons=(reason,))) is hot


def test_runs_of_one_device_or_of_all_can_be_ended() -> None:
    """After all were ended none begins."""
    endings = Endings()
    with endings.one("a") as first, endings.one("b") as second:
        endings.end("a")
        assert (first.ended, second.ended, endings.ended) == (True, False, False)
        endings.end()
        assert second.ended and endings.ended
    with endings.one("a") as late:
        assert late.ended
