"""What is found of a case: from the runs that were kept, and from what its build says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship import history
from edgeship import suite as suites
from edgeship.device import Device
from edgeship.errors import DeviceFault
from edgeship.history import History
from edgeship.measurement import BenchRecord
from edgeship.nightly_artifacts import Artifacts, Measurable
from edgeship.nightly_case import CaseNight, Tonight
from edgeship.nightly_faults import TimeUp
from edgeship.nightly_plan import Artifact
from edgeship.nightly_record import NightRecord, Role, Run
from edgeship.plan import Order
from edgeship.progress import Listener
from tests import sample_bench

SHA = "a" * 64
AT = "2026-11-20T01:00:00+00:00"
MISSED = {"metric": "top1", "got": 0.9, "drop": 0.05, "budget": 0.01}
GONE = DeviceFault("pi: nothing answers", fault="unreachable")


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[History]:
    """Give a history."""
    with history.open(str(tmp_path / "history.sqlite")) as opened:
        yield opened


def case_night(
    kept: History, folder: Path, text: str = "", *, manifest: dict[str, Any] | None = None,
    runs: tuple[tuple[Role, BenchRecord], ...] = (), until: float = math.inf,
) -> CaseNight:  # fmt: skip
    """Return a case in a night that has kept such runs."""
    path = folder / "suite.toml"
    path.write_text(f'models = ["m"]\ndevices = ["pi"]\n{text}')
    artifact, device = (
        Artifact("m", "rpi4", "int8", Order("m", "rpi4")),
        Device(name="pi", target="rpi4", transport="ssh"),
    )
    case = artifact.case(device)
    record = NightRecord("n1", "s", AT, None, (case,))
    kept.begin(record)
    kept.keep(
        *(
            Run(f"n1/{number}", "n1", "s", case, role, number, AT, SHA, bench, manifest=manifest)
            for number, (role, bench) in enumerate(runs)
        )
    )
    suite = suites.read(path)
    tonight = Tonight(record, suite, kept, Artifacts(suite, Listener()), Listener(), until)
    return CaseNight(tonight, artifact, device, Measurable(SHA, folder, manifest))


def alarms(one: CaseNight) -> list[str]:
    """Return what there is an alarm on after a case was given up."""
    return [finding.verdict.metric for finding in one.give_up(GONE, 1) if finding.verdict.alarm]


def test_a_missed_budget_of_the_build_counts_without_a_run(kept: History, tmp_path: Path) -> None:
    """The board is gone; that the build is too large or too bad is known all the same."""
    manifest = {"passed": False, "quality": MISSED, "size_bytes": 2000}
    one = case_night(kept, tmp_path, "[[budget]]\nsize_bytes = 1000\n", manifest=manifest)
    assert sorted(alarms(one)) == ["quality budget", "size budget"]
    assert {finding.verdict.metric for finding in kept.night("n1").findings} == {"quality budget", "size budget"}


def test_without_a_run_only_alarms_are_told(kept: History, tmp_path: Path) -> None:
    """A case that was not measured must not look judged because its file is small."""
    one = case_night(kept, tmp_path, "[[budget]]\nsize_bytes = 5000\n", manifest={"size_bytes": 2000})
    assert one.give_up(GONE, 1) == ()


def test_wrong_outputs_of_an_invalid_run_count(kept: History, tmp_path: Path) -> None:
    """That the board was hot does not make them right."""
    bench = sample_bench.record()
    wrong = replace(bench, valid=False, reasons=("hot",), golden=replace(bench.golden, passed=False, why="all zero"))
    assert alarms(case_night(kept, tmp_path, runs=(("new", wrong),))) == ["golden"]


def test_a_suites_quality_budget_does_not_hide_the_builds_own(kept: History, tmp_path: Path) -> None:
    """It keeps the suite's and misses its own: one verdict, the alarm."""
    manifest = {"passed": False, "quality": MISSED}
    runs: tuple[tuple[Role, BenchRecord], ...] = (("new", sample_bench.record(quality=None)),)
    one = case_night(kept, tmp_path, "[[budget]]\nquality = 0.5\n", manifest=manifest, runs=runs)
    (found,) = [each.verdict for each in one.give_up(GONE, 1) if each.verdict.metric == "quality budget"]
    assert found.alarm and found.reason.startswith("the build missed its budget: top1 0.9")
    (stored,) = [each for each in kept.night("n1").findings if each.verdict.metric == "quality budget"]
    assert stored.verdict.alarm


def test_a_reference_that_was_wrong_once_is_measured_again(kept: History, tmp_path: Path) -> None:
    """A card that was read wrongly once; kept, it would be wrong at every try, and quarantine the device."""
    right = sample_bench.record()
    wrong = replace(right, golden=replace(right.golden, passed=False, why="all zero"))
    with kept.lease("pi", holder="a test") as lease, pytest.raises(TimeUp):
        case_night(kept, tmp_path, runs=(("reference", wrong),), until=0.0).measure(lease)


def test_a_reference_that_is_right_at_last_counts(kept: History, tmp_path: Path) -> None:
    """The case is judged by the runs that were kept."""
    right = sample_bench.record()
    wrong = replace(right, golden=replace(right.golden, passed=False, why="all zero"))
    runs: tuple[tuple[Role, BenchRecord], ...] = (("reference", wrong), ("reference", right), ("new", right))
    one = case_night(kept, tmp_path, "repeats = 1\n[gates]\nlatency = false\nmemory = false\n", runs=runs, until=0.0)
    with kept.lease("pi", holder="a test") as lease:
        assert not any(finding.verdict.alarm for finding in one.measure(lease))
