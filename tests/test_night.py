"""Times of runs that were made in turns with the same other artifact, at one pace of the machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.night import at_one_pace


def test_what_the_machine_did_falls_away() -> None:
    """Two runs of each, one of each while the machine was half as quick: 10 % remain, at the pace of the middle."""
    times, paces = [10.0, 20.0, 22.0, 11.0], [10.0, 20.0, 20.0, 10.0]
    told, paced = at_one_pace(times, [("a", time / pace, pace) for time, pace in zip(times, paces, strict=True)])
    assert told == pytest.approx((15.0, 15.0, 16.5, 16.5)) and paced == tuple(paces)


def test_a_run_alone_leaves_all_as_they_are() -> None:
    """Runs that are told in two ways, or in turns with two artifacts, are not held against one another."""
    assert at_one_pace([10.0, 20.0], [("a", 1.1, 10.0), None]) == ((10.0, 20.0), ())
    assert at_one_pace([10.0, 20.0], [("a", 1.1, 10.0), ("b", 1.1, 10.0)]) == ((10.0, 20.0), ())
    assert at_one_pace([], []) == ((), ())


@given(st.lists(st.tuples(st.floats(0.5, 2), st.floats(0.01, 1e4)), min_size=1, max_size=8))
def test_ratios_stay(runs: list[tuple[float, float]]) -> None:
    """Between any two runs of a night the change is that of their ratios, whatever the pace was."""
    ratios, paces = [ratio for ratio, _ in runs], [pace for _, pace in runs]
    told, _ = at_one_pace([ratio * pace for ratio, pace in runs], [("a", *each) for each in runs])
    assert [one / told[0] for one in told] == pytest.approx([ratio / ratios[0] for ratio in ratios])
    assert min(paces) * 0.999 <= told[0] / ratios[0] <= max(paces) * 1.001
