"""Which nights the gate is shown as history, and which as the trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeship import history
from edgeship.alternation import Outing, Question
from edgeship.history import CaseNight, History
from edgeship.night import Night
from edgeship.nightly_questions import SEEN, Baseline, baseline, budgets, questions, settled, split
from edgeship.nightly_record import Case, Finding, NightRecord, Run
from edgeship.suite import Budget, Gates
from tests import sample_bench

BASE, NEXT, THIRD = "a" * 64, "b" * 64, "c" * 64


def night(number: int, sha: str = BASE, decision: str | None = "same", era: str = "", *, runs: int = 2) -> CaseNight:
    """Return a night of a case; its figures tell which one it was."""
    figures = Night(new=(float(number),) * runs, era=era)
    return CaseNight(f"n{number}", "s", f"{number:02}", figures, sha, None, runs, 0, 0, decision, None)


CASE = Case("m", "rpi4", "int8", "pi")


def keep(kept: History, number: int, sha: str = BASE, *, ms: float | None = 10.0) -> NightRecord:
    """Keep a night with one run, or with none."""
    at = f"2026-{1 + number // 28:02}-{1 + number % 28:02}T01:00:00+00:00"
    night = NightRecord(f"n{number:03}", "s", at, None, (CASE,))
    kept.begin(night)
    if ms is not None:
        bench = sample_bench.record()
        bench = replace(bench, latency_ms=replace(bench.latency_ms, p50=ms), artifact_sha256=sha)
        kept.keep(Run(f"{night.id}/0", night.id, "s", CASE, "new", 0, at, sha, bench))
    return night


def numbers(nights: tuple[Night, ...]) -> list[int]:
    """Return which nights these are."""
    return [int(each.new[0]) for each in nights]


def test_the_first_night_has_neither() -> None:
    """Nothing is known."""
    assert split([], Baseline(None, ""), BASE) == ((), ())


def test_the_same_artifact_again_is_judged_over_three_nights() -> None:
    """The last two before tonight stand trial with it, as the simulations of the gate have it."""
    before, trial = split([night(number) for number in range(6)], Baseline(BASE, ""), BASE)
    assert numbers(before) == [0, 1, 2, 3] and numbers(trial) == [4, 5]


def test_few_nights_are_all_history() -> None:
    """A level needs some."""
    before, trial = split([night(0), night(1)], Baseline(BASE, ""), BASE)
    assert numbers(before) == [0, 1] and numbers(trial) == []


def test_a_new_artifact_stands_trial_since_it_came() -> None:
    """What was not told apart is on the level; what was undecided since is on trial."""
    nights = [night(0), night(1), night(2, NEXT, "same"), night(3, THIRD, "cannot-tell"), night(4, THIRD, "slower")]
    before, trial = split(nights, Baseline(BASE, ""), THIRD)
    assert numbers(before) == [0, 1, 2] and numbers(trial) == [3, 4]


def test_what_was_mended_is_not_held_to_what_was_wrong_before() -> None:
    """The slower artifact's nights are on no level, and in no other's trial."""
    nights = [night(0), night(1), night(2, NEXT, "slower"), night(3, NEXT, "slower")]
    before, trial = split(nights, Baseline(BASE, ""), THIRD)
    assert numbers(before) == [0, 1] and numbers(trial) == []


def test_a_level_that_got_slower_by_itself_is_not_forgotten() -> None:
    """The same bytes, slower since a system update: these nights never become the level."""
    nights = [night(0), night(1), night(2), night(3, BASE, "slower"), night(4, BASE, "slower")]
    before, trial = split(nights, Baseline(BASE, ""), BASE)
    assert numbers(before) == [0] and numbers(trial) == [1, 2, 3, 4]


def test_of_other_levels_only_the_noise_is_learned() -> None:
    """They stay in the history, with their own era."""
    nights = [night(0), night(1, decision="slower"), night(2, NEXT, "same", "1"), night(3, NEXT, "same", "1")]
    before, trial = split(nights, Baseline(NEXT, "1", accepted=True), NEXT)
    assert numbers(before) == [0, 1, 2, 3] and [each.era for each in before] == ["", "", "1", "1"] and not trial


def test_nights_without_figures_are_none() -> None:
    """Faults leave no trace in what is judged."""
    before, _ = split([night(0), night(1, runs=0), night(2)], Baseline(BASE, ""), BASE)
    assert numbers(before) == [0, 2]


def test_budgets_are_held_to_the_median_of_the_new_runs() -> None:
    """At most so slow, so large; at least so good."""
    made = [Outing("new", {"latency": value, "quality": 0.9, "size": 100.0}) for value in (1.0, 2.0, 9.0)]
    made += [Outing("old", {"latency": 100.0}), Outing("new", None)]
    limits = Budget(latency_ms=2.5, size_bytes=99, quality=0.95, memory_mib=10)
    told = {one.metric: one for one in budgets(limits, made, 0.01)}
    assert not told["latency budget"].alarm and told["size budget"].alarm and told["quality budget"].alarm
    assert "memory budget" not in told
    assert told["latency budget"].reason == "latency 2 ms keeps the budget of 2.5 ms"
    assert told["quality budget"].reason == "quality 0.9 misses the budget of 0.95"


def test_a_level_is_not_forgotten_however_long_it_is_slower() -> None:
    """Not after as many nights as are looked at, either."""
    nights = [night(number) for number in range(20)] + [night(number, BASE, "slower") for number in range(20, 120)]
    before, trial = split(nights, Baseline(BASE, ""), BASE)
    assert numbers(before) == list(range(18)) and numbers(trial)[-1] == 119 and len(trial) == SEEN


def test_of_a_long_history_the_last_nights_on_the_level_count() -> None:
    """Those of other levels only as far as there is room."""
    nights = [night(number, era="") for number in range(40)] + [
        night(number, NEXT, era="1") for number in range(40, 90)
    ]
    before, _ = split(nights, Baseline(NEXT, "1", accepted=True), THIRD)
    assert numbers(before) == list(range(30, 90)) and len(before) == SEEN


def of_latency(kept: History, tonight: NightRecord, held: Baseline) -> Question:
    """Return what is asked of the baseline's latency tonight."""
    gates = Gates(memory=False, size=False, quality=False)
    (asked,) = questions(kept, tonight, CASE, gates, held, BASE, alternated=False, counted=False)
    return asked


def test_nights_without_figures_push_no_level_out(tmp_path: Path) -> None:
    """A board that was unplugged for as many nights as are looked at is held to what it was before."""
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        for number in range(5):
            keep(kept, number)
        for number in range(5, 5 + SEEN):
            keep(kept, number, ms=None)
        tonight = keep(kept, 5 + SEEN, ms=None)
        held = baseline(kept, tonight, CASE)
        asked = of_latency(kept, tonight, held)
    assert held.sha256 == BASE and len(asked.history) == 3 and len(asked.trial) == 2


def test_what_computes_wrongly_is_no_level(tmp_path: Path) -> None:
    """Neither the baseline nor a night on its level: how fast wrong outputs come tells nothing."""
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        wrong = keep(kept, 0, NEXT)
        kept.keep_findings(Finding(wrong.id, CASE, settled("golden", "all zero", alarm=True), None, NEXT))
        keep(kept, 1, BASE)
        again = keep(kept, 2, BASE, ms=1.0)
        kept.keep_findings(Finding(again.id, CASE, settled("golden", "all zero", alarm=True), None, BASE))
        tonight = keep(kept, 3, ms=None)
        held = baseline(kept, tonight, CASE)
        asked = of_latency(kept, tonight, held)
    assert held.sha256 == BASE
    assert [each.new for each in (*asked.history, *asked.trial)] == [(10.0,)]
