"""What `compare` brings back: two artifacts that took turns on one device, and the verdict on each metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeship.gate import Verdict

TrialDecision = Literal["worse", "better", "mixed", "same", "cannot-tell"]


@dataclass(frozen=True)
class TrialRun:
    """One run: of A or B, its figures, and why it may not be believed; `counts` says whether the verdicts are made of it.

    `latency_ms` is at the pace that the device had in the middle of the trial, `own_ms` what the run took, `ratio` to A beside it.
    """

    side: Literal["a", "b"]
    ordinal: int
    at: str
    latency_ms: float | None
    ci95: tuple[float, float] | None
    memory_mib: float | None
    load: float | None
    valid: bool
    counts: bool
    reasons: tuple[str, ...] = ()
    own_ms: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Contestant:
    """One artifact and the medians of its runs that count; a figure that the device does not tell is None."""

    artifact: str
    sha256: str
    size_bytes: int
    runs: int
    latency_ms: float | None
    memory_mib: float | None
    quality: float | None


@dataclass(frozen=True)
class TrialRecord:
    """A trial of B against A.

    Attributes:
        decision: of B, by the metrics in `gates`; mixed: worse by one and better by another.
        verdicts: on every metric that was asked, whether or not it is in `gates`.
        reference_ms: the fixed reference workload before and after; empty where it was left out.
        whole: all the runs that the verdicts wanted could be had.
    """

    device: str
    target: str
    transport: str
    simulated: bool
    decision: TrialDecision
    passed: bool
    a: Contestant
    b: Contestant
    verdicts: tuple[Verdict, ...]
    gates: tuple[str, ...]
    runs: tuple[TrialRun, ...]
    reference_ms: tuple[float, ...]
    whole: bool
    seconds: float
    doubts: tuple[str, ...] = ()


def decide(verdicts: Sequence[Verdict], gates: Sequence[str]) -> TrialDecision:
    """Return what the verdicts on the gated metrics say of B together."""
    told = {verdict.decision for verdict in verdicts if verdict.metric in gates}
    if {"slower", "faster"} <= told:
        return "mixed"
    if "slower" in told:
        return "worse"
    if "faster" in told:
        return "better"
    return "same" if told == {"same"} else "cannot-tell"
