"""A night as Markdown and at a terminal: the verdict first, everything that has to be known, nothing that a text could do."""

from __future__ import annotations

import dataclasses
import io
import re
import statistics

import pytest
from rich.console import Console

from edgeship.measurement import Beside
from edgeship.nightly_record import Case, Fault, Finding, HealthEvent, NightRecord
from edgeship.report import markdown, night_summary
from edgeship.report.night_terminal import NightTerminal
from tests import sample_nights
from tests.sample_nights import verdict

MINUS = "\N{MINUS SIGN}"
HOSTILE = "<script>alert(1)</script> `x` | @all #1 http://x.example [a](b) *b* \x1b[31m\n# no heading"


def shown(night: NightRecord, width: int = 100) -> str:
    """Return what the terminal prints of a night."""
    written = io.StringIO()
    terminal = NightTerminal(Console(file=written, highlight=False, soft_wrap=True, width=width))
    terminal.plan(night, artifacts=3, notes=["attic is left out"])
    terminal.night(night)
    return written.getvalue()


def with_one(given: object, **changes: object) -> NightRecord:
    """Return the night with one case and one verdict."""
    night = sample_nights.last()
    case = night.cases[0]
    runs = tuple(run for run in night.runs if run.case == case)
    found = (Finding(night.id, case, given, None, None),)  # type: ignore[arg-type]
    return dataclasses.replace(night, cases=(case,), runs=runs, findings=found, health=(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("night", "kind", "title"),
    [
        pytest.param(lambda: with_one(verdict("slower")), "missed", "1 regression", id="slower"),
        pytest.param(lambda: with_one(verdict("slower", metric="size budget")), "missed", "1 budget missed", id="budget"),
        pytest.param(
            lambda: with_one(verdict("slower", metric="golden", effect=None, ci95=None)), "missed",
            "1 model with wrong outputs", id="golden",
        ),
        pytest.param(lambda: with_one(verdict("same")), "passed", "No regression", id="same"),
        pytest.param(
            lambda: with_one(verdict("cannot-tell", effect=None, ci95=None)), "passed", "Nothing to compare with yet", id="first"
        ),
        pytest.param(lambda: with_one(verdict("same"), ended=None), "doubtful", "Not finished", id="unfinished"),
        pytest.param(
            lambda: dataclasses.replace(with_one(verdict("same")), runs=(), findings=()), "doubtful", "1 case not measured",
            id="nothing",
        ),
    ],
)  # fmt: skip
def test_the_verdict_is_the_first_thing(night: object, kind: str, title: str) -> None:
    made = night()  # type: ignore[operator]
    assert (night_summary.summarize(made).kind, night_summary.summarize(made).title) == (kind, title)
    heading = markdown.render(made).splitlines()[1]
    assert heading.startswith("## ") and title in heading
    assert title.upper() in shown(made)


@pytest.mark.parametrize(
    ("metric", "effect", "words"),
    [
        ("latency", 0.0123, "+1.2 %"), ("latency", -0.0049, f"{MINUS}0.49 %"), ("size", 0.0, "0 %"), ("quality", 0.013, f"{MINUS}0.0130"),
        ("memory", 3.2, "+320.0 %"),
    ],
)  # fmt: skip
def test_changes_in_words(metric: str, effect: float, words: str) -> None:
    assert night_summary.change(metric, effect) == words


def test_figures_are_at_the_pace_that_the_verdict_saw() -> None:
    """Raw medians of a machine that was twice as slow for the old runs would contradict the change beside them; a limit is on raw ones."""
    night = with_one(verdict("slower"))
    ratio, pace_ms = {"new": 1.1, "old": 1.0}, {"new": 10.0, "old": 20.0}
    runs = tuple(
        dataclasses.replace(run, bench=dataclasses.replace(run.bench, beside=Beside("b" * 64, ratio[run.role], pace_ms[run.role], 9)))
        for run in night.runs
        if run.role != "reference" and run.bench is not None
    )  # fmt: skip
    (told,) = night_summary.summarize(dataclasses.replace(night, runs=runs)).comparisons
    assert told.new is not None and told.old is not None
    assert told.new / told.old == pytest.approx(1.1) and 10 <= told.old <= 20
    (limit,) = night_summary.summarize(
        dataclasses.replace(with_one(verdict("slower", metric="latency budget")), runs=runs)
    ).comparisons
    raw = [run.bench.typical_ms for run in runs if run.role == "new" and run.bench]
    assert limit.new == statistics.median(raw)  # type: ignore[type-var]


def test_an_interval_has_its_lower_end_first() -> None:
    assert night_summary.change_interval("latency", (-0.01, 0.02)) == f"{MINUS}1.0 to +2.0 %"
    assert night_summary.change_interval("quality", (-0.01, 0.02)) == f"{MINUS}0.0200 to +0.0100"


def test_all_that_has_to_be_known_is_told() -> None:
    night = sample_nights.last()
    for text in (markdown.render(night), shown(night)):
        for word in (
            "resnet8",
            "kitchen",
            "slower",
            "larger",
            "cellar",
            "nothing answers on port 22",
            "quarantined",
            "simulated",
        ):
            assert word in text, word
    assert shown(night).index("REGRESSION") < shown(night).index("slower")
    assert "attic is left out" in shown(night)
    narrow = [line for line in shown(night, 60).splitlines() if "│" in line]
    assert narrow == []


def test_a_summary_folds_what_is_quiet() -> None:
    text = markdown.render(sample_nights.last())
    assert text.startswith(markdown.MARKER)
    assert text.count("<details>") == text.count("</details>") == 3
    folded = text.index("<details>")
    assert text.index("❌ slower") < folded < text.index("✅ same")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {8}


def test_nothing_in_a_text_acts() -> None:
    case = Case(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    fault = Fault("device", HOSTILE, 6)
    night = with_one(verdict("slower", reason=HOSTILE))
    run = dataclasses.replace(night.runs[0], id="x", case=case, role="new", bench=None, fault=fault)
    finding = Finding(night.id, case, verdict("slower", reason=HOSTILE), None, None)
    event = HealthEvent(night.id, HOSTILE, night.began, "quarantined", HOSTILE)
    made = dataclasses.replace(
        night, suite=HOSTILE, cases=(case, *night.cases), runs=(*night.runs, run), findings=(*night.findings, finding),
        health=(event,),
    )  # fmt: skip
    text = markdown.render(made)
    bare = re.sub(r"(`+).*?\1", "", text)
    for acting in ("<script", "@all", "://", "[a]", "\n# no", "#1"):
        assert acting not in bare, acting
    assert "\x1b" not in text + shown(made)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")} == {8}


def test_a_large_suite_still_fits_into_a_comment() -> None:
    night = with_one(verdict("slower"))
    cases = tuple(dataclasses.replace(night.cases[0], model=f"model-{number}") for number in range(3_000))
    words = "because of this and that, " * 8
    findings = tuple(Finding(night.id, case, verdict("slower", reason=words), None, None) for case in cases)
    text = markdown.render(dataclasses.replace(night, cases=cases, findings=findings))
    assert len(text.encode()) < markdown.MOST_BYTES
    assert "3000 regressions" in text and "lines left out" in text
