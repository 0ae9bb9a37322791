"""A trial of two artifacts as people see it, and what its verdicts say together."""

from __future__ import annotations

import dataclasses
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from edgeship.gate import Decision
from edgeship.report.trial_terminal import TrialTerminal
from edgeship.run_trial import Contestant, TrialRecord, TrialRun, decide
from tests.sample_nights import verdict

GATES = ("latency", "memory", "size", "quality")
HOSTILE = "[bold red]x[/] \x1b[2J"


def trial(*, b_ms: float = 1.0, decision: Decision = "same", **changes: Any) -> TrialRecord:
    """Return a trial of four runs of each."""
    runs = tuple(
        TrialRun(
            "b" if side == "b" else "a", number, "2026-11-22T01:00:00+00:00", (b_ms if side == "b" else 1.0) * (1 + 0.001 * number),
            (0.9, 1.1), 20.0, 1.0, True, True,
        )
        for number, side in enumerate("abbaabba")
    )  # fmt: skip
    verdicts = (
        verdict(decision, effect=b_ms - 1, ci95=(b_ms - 1.02, b_ms - 0.98), reason="why it is so"),
        verdict("same", metric="size", effect=0.0, ci95=(-1e-5, 1e-5), reason="no change of 1 %"),
    )  # fmt: skip
    a = Contestant("old.tflite", "ab" * 32, 96_120, 4, 1.0, 20.0, None)
    made = TrialRecord(
        device="kitchen", target="rpi4", transport="ssh", simulated=False, decision=decide(verdicts, GATES), passed=True,
        a=a, b=dataclasses.replace(a, artifact="new.tflite", latency_ms=b_ms), verdicts=verdicts, gates=GATES, runs=runs,
        reference_ms=(5.0, 5.1), whole=True, seconds=61.0,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def shown(record: TrialRecord) -> str:
    written = StringIO()
    TrialTerminal(Console(file=written, width=120, highlight=False, soft_wrap=True)).trial(record)
    return written.getvalue()


@pytest.mark.parametrize(
    ("decisions", "together"),
    [
        (("same", "same"), "same"),
        (("same", "slower"), "worse"),
        (("faster", "slower"), "mixed"),
        (("faster", "cannot-tell"), "better"),
        (("cannot-tell", "same"), "cannot-tell"),
        ((), "cannot-tell"),
    ],
)
def test_verdicts_together(decisions: tuple[Decision, ...], together: str) -> None:
    """One metric that got worse is enough; nothing known is not the same as no difference."""
    names = ("latency", "size")
    verdicts = [verdict(one, metric=name) for one, name in zip(decisions, names, strict=False)]
    assert decide(verdicts, names) == together
    assert decide([*verdicts, verdict("slower", metric="memory")], names) == together


def test_a_slower_artifact() -> None:
    """The verdict first, the figures side by side, every run as a dot of its side, the reason."""
    text = shown(trial(b_ms=1.1, decision="slower"))
    lines = text.splitlines()
    assert "B IS WORSE" in lines[0] and "kitchen" in lines[0] and "simulated" not in lines[0]
    assert "old.tflite" in lines[1] and "new.tflite" in lines[2]
    latency = next(line for line in lines if line.strip().startswith("latency"))
    assert "1 ms" in latency and "1.1 ms" in latency and "+10.0 %" in latency and "slower" in latency
    a, b = (next(line for line in lines if line.strip().startswith(f"{side} ▏")) for side in "AB")
    assert a.rindex("·") < min(b.index(dot) for dot in "·•●" if dot in b)
    assert "latency: why it is so" in text
    assert "5 ms before, 5.1 ms after (+2.0 %)" in text
    assert "8 runs in turn" in text


def test_what_is_not_known_or_not_valid_is_said() -> None:
    """No time, no figure, runs that others disturbed, names that are no markup."""
    record = trial(simulated=True)
    runs = tuple(
        dataclasses.replace(run, valid=False, latency_ms=None, reasons=(f"the load was {run.ordinal}.1 on 2 cores",))
        for run in record.runs
    )
    record = dataclasses.replace(
        record, runs=runs, device=HOSTILE, whole=False, gates=("latency",), reference_ms=(),
        a=dataclasses.replace(record.a, latency_ms=None), doubts=("run varies by 5 %", "run varies by 6 %"),
        verdicts=(verdict("cannot-tell", effect=None, ci95=None, p=None, reason="nothing was measured"), *record.verdicts[1:]),
        decision="cannot-tell",
    )  # fmt: skip
    text = shown(record)
    assert "CANNOT TELL" in text and "[bold red]x[/]" in text and "\x1b" not in text and "simulated" in text
    assert "not told" in text and "(not gated)" in text and "reference" not in text
    assert "8 of 8 runs, all the same in the figures: the load was 7.1" in text
    assert "could not be had" in text and "(and 1 like it)" in text
