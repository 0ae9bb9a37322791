"""Whose turn it is, and when enough is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship import alternation
from edgeship.alternation import Figures, Outing, Question, Side, order, settle
from edgeship.gate import Verdict
from edgeship.night import COUNTED_LATENCY, EXACT, LATENCY, MEMORY, SIZE, Night


def device(
    source: np.random.Generator, *, slower: float = 0.0, cv: float = 0.01, lost: frozenset[int] = frozenset()
) -> Callable[[Side, int], Figures | None]:
    """Return runs on a device that varies, where some runs bring nothing."""

    def run(side: Side, ordinal: int) -> Figures | None:
        if ordinal in lost:
            return None
        factor = 1 + slower if side == "new" else 1.0
        return {"latency": 10 * factor * float(np.exp(cv * source.standard_normal())), "size": 1000.0}

    return run


def history(source: np.random.Generator, nights: int = 20, cv: float = 0.01) -> tuple[Night, ...]:
    """Return unchanged nights of that device."""
    figures = 10 * np.exp(cv * source.standard_normal((nights, 2, 4)))
    return tuple(Night(tuple(new), tuple(old), baseline="a") for new, old in figures.tolist())


def sides(made: tuple[Outing, ...]) -> str:
    """Return who ran, in order: A is the old one."""
    return "".join("A" if outing.side == "old" else "B" for outing in made)


def test_order() -> None:
    """A B B A, and mirrored every other night."""
    assert list(itertools.islice(order(), 5)) == ["old", "new", "new", "old", "old"]
    assert list(itertools.islice(order(1), 5)) == ["new", "old", "old", "new", "new"]


def test_same_ends_early_and_a_suspect_does_not() -> None:
    """Two of each where nothing is to be seen, four before a regression is told."""
    source = np.random.default_rng(1)
    question = Question(LATENCY, history(source), baseline="a")
    same = settle([question], device(source))
    assert (sides(same.runs), same.verdicts[0].decision, same.whole) == ("ABBA", "same", True)
    looks: list[tuple[Verdict, ...]] = []
    slower = settle([question], device(source, slower=0.1), on_verdicts=looks.append)
    assert (sides(slower.runs), slower.verdicts[0].decision) == ("ABBAABBA", "slower")
    assert [look[0].runs_wanted for look in looks] == [2, 0]


def test_a_resumed_night_makes_the_rest() -> None:
    """What was kept is not made again; what was lost takes its turn without a figure."""
    source = np.random.default_rng(2)
    question = Question(LATENCY, history(source), baseline="a")
    kept = [Outing("old", {"latency": 10.0}), Outing("new", None), Outing("new", {"latency": 10.0})]
    ordinals: list[int] = []

    def run(side: Side, ordinal: int) -> Figures | None:
        ordinals.append(ordinal)
        return {"latency": 10.0}

    settled = settle([question], run, made=kept)
    assert sides(settled.runs) == "ABBAB"
    assert ordinals == [3, 4]
    again = settle([question], run, made=settled.runs)
    assert (again.runs, again.verdicts) == (settled.runs, settled.verdicts)


def test_a_device_that_brings_nothing() -> None:
    """Two runs lost one after the other end the night; what there is, is judged."""
    source = np.random.default_rng(3)
    question = Question(LATENCY, history(source), baseline="a")
    dead = settle([question], device(source, lost=frozenset(range(99))))
    assert (len(dead.runs), dead.whole, dead.verdicts[0].decision) == (2, False, "cannot-tell")
    assert dead.verdicts[0].runs_wanted == 0
    once = settle([question], device(source, lost=frozenset({1, 4})))
    assert once.whole
    assert sum(outing.figures is not None for outing in once.runs) >= 4


def test_a_metric_that_the_device_does_not_tell() -> None:
    """No memory figure: nothing is said of it, and nobody waits for it."""
    source = np.random.default_rng(4)
    questions = [
        Question(LATENCY, history(source), baseline="a"),
        Question(MEMORY),
        Question(SIZE, prior=EXACT, baseline="a"),
    ]
    settled = settle(questions, device(source))
    assert [verdict.decision for verdict in settled.verdicts] == ["same", "cannot-tell", "same"]
    assert sides(settled.runs) == "ABBA"


def test_a_reference_is_of_the_same_metric() -> None:
    """A time of the reference workload is nothing to hold a memory against: it once made a regression of 777 %."""
    before = tuple(Night((37.37 + 0.01 * night,), (), (37.73,)) for night in range(3))
    memory = Question(alternation.COUNTED_MEMORY, before, prior=alternation.COUNTED_MEMORY_PRIOR)
    run = {"latency": 0.8, "memory": 37.44}
    settled = settle([memory], lambda side, ordinal: run, reference=[{"latency": 0.632, "memory": 37.73}], repeats=1)
    assert settled.verdicts[0].decision == "same"
    assert alternation.tonight(memory, settled.runs, [{"latency": 0.632}]).reference == ()


def test_new_alone_and_counted() -> None:
    """The same artifact again is not alternated; a counted board says it all in one run."""
    source = np.random.default_rng(5)
    alone = settle([Question(LATENCY, history(source))], device(source), alternated=False)
    assert set(sides(alone.runs)) == {"B"}
    counted = settle([Question(COUNTED_LATENCY, prior=EXACT, baseline="a")], device(source, slower=0.01, cv=1e-5))
    assert (sides(counted.runs), counted.verdicts[0].decision) == ("AB", "slower")
    with pytest.raises(ValueError, match="nothing is asked"):
        settle([], device(source))


def wild(source: np.random.Generator, *, slower: float, beside: bool) -> Callable[[Side, int], Figures | None]:
    """Return runs on a machine that others use: half of them take 60 % longer, and so does what runs in turns with them."""

    def run(side: Side, ordinal: int) -> Figures | None:
        pace = 10 * float(source.choice([1.0, 1.6])) * float(np.exp(0.02 * source.standard_normal()))
        ratio = (1 + slower if side == "new" else 1.0) * float(np.exp(0.01 * source.standard_normal()))
        return {"latency": pace * ratio} | ({alternation.RATIO: ratio, alternation.PACE: pace} if beside else {})

    return run


def test_in_turns_with_another_a_wild_machine_tells_10_percent() -> None:
    """The same machine, runs and noise: alone they can tell nothing; in turns with the baseline all ten nights are told."""
    told: dict[bool, list[str]] = {True: [], False: []}
    for beside, seed in itertools.product(told, range(10)):
        source = np.random.default_rng(seed)
        before = []
        for _ in range(8):
            night = settle([Question(LATENCY)], wild(source, slower=0, beside=beside), alternated=False, repeats=4)
            before.append(alternation.tonight(Question(LATENCY), night.runs))
        asked = Question(LATENCY, tuple(before), baseline="a")
        told[beside].append(settle([asked], wild(source, slower=0.1, beside=beside)).verdicts[0].decision)
    assert told[True] == ["slower"] * 10
    assert told[False].count("slower") <= 2


@given(
    st.integers(0, 1000), st.floats(0.001, 0.1), st.floats(0, 0.2), st.sets(st.integers(0, 20)), st.integers(0, 4),
    st.booleans(), st.integers(0, 3),
)  # fmt: skip
@settings(max_examples=8, deadline=None)
def test_it_always_ends(
    seed: int, cv: float, slower: float, lost: set[int], repeats: int, alternated: bool, first: int
) -> None:
    """Whatever the device does: a final verdict, never more than the most runs of each, and none without its pair."""
    source = np.random.default_rng(seed)
    asked = [Question(LATENCY, history(source, 5, cv), baseline="a"), Question(MEMORY), Question(SIZE, prior=EXACT)]
    run = device(source, cv=cv, slower=slower, lost=frozenset(lost))
    settled = settle(asked, run, repeats=repeats, alternated=alternated, first=first)
    assert all(verdict.runs_wanted == 0 for verdict in settled.verdicts)
    told = [outing.side for outing in settled.runs if outing.figures is not None]
    assert max(told.count("new"), told.count("old")) <= max(LATENCY.runs_most, repeats)
    if settled.whole and alternated:
        assert told.count("new") == told.count("old")
    stopped = settled.runs[: seed % (len(settled.runs) + 1)]
    assert len(settle(asked, run, repeats=repeats, alternated=alternated, first=first, made=stopped).runs) >= len(
        stopped
    )


def test_limits() -> None:
    """A smallest change above the tolerance widens it: what is not worth telling need not be excluded."""
    assert alternation.with_limits(LATENCY, smallest=0.1).tolerance == 0.1
    assert alternation.with_limits(LATENCY, runs_most=1).runs_first == 1
    assert alternation.metric("latency", counted=True) == (COUNTED_LATENCY, EXACT)
