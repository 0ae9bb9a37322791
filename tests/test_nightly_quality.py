"""What quality is of, and which way is worse: a night holds no figure against one of another metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship import alternation, gate, history
from edgeship.alternation import Outing, Question
from edgeship.history import History
from edgeship.nightly_quality import Judged, judged, on_device
from edgeship.nightly_questions import Baseline, budgets, questions
from edgeship.nightly_record import Case, NightRecord, Run
from edgeship.run import Quality
from edgeship.suite import Budget, Gates
from tests import sample_bench

CASE = Case("m", "rpi4", "int8", "pi")
SHA = "a" * 64
ERROR = Judged("mse", higher_is_better=False)
BENCH = replace(sample_bench.record(), quality=None)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[History]:
    """Give a history."""
    with history.open(str(tmp_path / "history.sqlite")) as opened:
        yield opened


def manifest(metric: str, got: float) -> dict[str, Any]:
    """Return what a build says of its quality."""
    return {"quality": {"metric": metric, "reference": 0.0, "got": got, "drop": got, "budget": 1.0}}


def night(kept: History, number: int, **roles: tuple[str, float]) -> NightRecord:
    """Keep a night with a run of each role, of which the metric and the quality are told."""
    at = f"2026-11-{1 + number:02}T01:00:00+00:00"
    made = NightRecord(f"n{number:02}", "s", at, None, (CASE,))
    kept.begin(made)
    for place, (role, (metric, got)) in enumerate(roles.items()):
        said = manifest(metric, got)
        kept.keep(Run(f"{made.id}/{role}", made.id, "s", CASE, role, place, at, SHA, BENCH, manifest=said))  # type: ignore[arg-type]
    return made


def asked(kept: History, tonight: NightRecord, what: Judged) -> Question:
    """Return what is asked of quality tonight."""
    gates = Gates(latency=False, memory=False, size=False)
    (found,) = questions(
        kept, tonight, CASE, gates, Baseline(SHA, ""), SHA, alternated=False, counted=False, judged=what
    )
    return found


@pytest.mark.parametrize(("got", "decision"), [(0.10, "slower"), (0.01, "faster"), (0.05, "same")], ids=range(3))
def test_of_an_error_more_is_worse(kept: History, got: float, decision: str) -> None:
    """An alarm where it grew, none where it shrank."""
    for number in range(8):
        night(kept, number, new=("mse", 0.05))
    question = asked(kept, night(kept, 9), ERROR)
    tonight = alternation.tonight(question, [Outing("new", {"quality": got})])
    verdict = gate.judge(
        question.history, (*question.trial, tonight), question.metric, prior=question.prior, final=True
    )
    assert verdict.decision == decision


def test_nights_of_another_metric_are_not_compared(kept: History) -> None:
    """Neither as history nor as what ran beside."""
    night(kept, 1, new=("top1", 0.9))
    night(kept, 2, new=("mse", 0.05), old=("top1", 0.9))
    night(kept, 3, new=("mse", 0.06), old=("mse", 0.05))
    found = asked(kept, night(kept, 4), ERROR)
    assert [(each.new, each.old) for each in (*found.history, *found.trial)] == [((0.05,), ()), ((0.06,), (0.05,))]


def test_a_budget_of_an_error_is_a_most() -> None:
    """Of an accuracy it is a least."""
    made = [Outing("new", {"quality": 0.05})]
    (kept,), (missed,) = (budgets(Budget(quality=limit), made, 0.01, ERROR) for limit in (0.1, 0.01))
    assert not kept.alarm and missed.alarm and missed.effect == pytest.approx(0.04)
    (least,) = budgets(Budget(quality=0.1), made, 0.01)
    assert least.alarm


def test_which_way_is_worse_is_known_of_every_metric() -> None:
    """Of the user's own where it cannot be imported, by its figures."""
    assert judged(manifest("mse", 0.1)) == ERROR
    assert judged(manifest("top1", 0.1)).higher_is_better
    assert not judged(manifest("gone_from_here:error", 0.1)).higher_is_better
    better = {"metric": "gone_from_here:gain", "reference": 0.9, "got": 0.8, "drop": 0.1}
    assert judged({"quality": better}).higher_is_better
    assert on_device(manifest("mse", 0.1)) == "mse" and on_device(None) is None
    assert on_device(manifest("top1", 0.1)) is None, "its labels are not those of the data for the device"
    assert on_device(manifest("gone_from_here:error", 0.1)) is None
    assert judged(None) == judged({"quality": None}) == judged({"quality": {}}) == Judged()


def test_what_the_device_was_judged_by_takes_the_builds_place_only_if_it_is_the_same(kept: History) -> None:
    """In what is judged tonight and in what is kept of it."""
    device = replace(BENCH, quality=Quality("top1", 1.0, 0.8, 0.2, None, 10, False, True))
    assert alternation.figures(device, quality=0.05, metric="mse")["quality"] == 0.05
    assert alternation.figures(device, quality=0.9, metric="top1")["quality"] == 0.8
    assert alternation.figures(device)["quality"] == 0.8
    one = night(kept, 1)
    for place, metric in enumerate(("mse", "top1")):
        said = manifest(metric, 0.05)
        kept.keep(Run(f"n01/{metric}", one.id, "s", CASE, "new", place, one.began, SHA, device, manifest=said))
    assert kept.nights(CASE, "quality")[0].figures.new == (0.05, 0.8)


def test_what_a_history_names_is_not_imported(kept: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that others write too gives names, and no code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_others.py").write_text("raise SystemExit('imported')")
    night(kept, 1, new=("of_others:metric", 0.05))
    found = asked(kept, night(kept, 2), ERROR)
    assert found.history == found.trial == ()
