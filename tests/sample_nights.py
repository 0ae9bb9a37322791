"""Nights such as a suite leaves, of every kind there is, judged by the gate, for tests of what is made from them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from statistics import median
from typing import Any

from edgeship import gate, history
from edgeship.gate import Verdict
from edgeship.measurement import BenchRecord
from edgeship.night import COUNTED_LATENCY, EXACT, LATENCY, Night, Prior
from edgeship.nightly_record import Case, Fault, Finding, HealthEvent, NightRecord, Role, Run
from tests import sample_bench

SUITE = "drawer"
FIRST = datetime(2026, 10, 14, 1, 30, tzinfo=UTC)
ALTERNATED: tuple[Role, ...] = ("reference", "new", "old", "old", "new", "new", "old", "old", "new")


@dataclass(frozen=True)
class Family:
    """A case with what its nights do: level and noise, and on which night what happens to it."""

    case: Case
    level_ms: float
    spread: float
    kind: str = "steady"

    def factor(self, night: int, last: int) -> float:
        """Return how much slower than at the start the model is in a night."""
        match self.kind:
            case "slower":
                return 1.06 if night == last else 1.0
            case "creeping":
                return 1.003 ** max(night - last // 2, 0)
            case "accepted":
                return 0.88 if night >= last // 2 else 1.0
            case _:
                return 1.0


FAMILIES = (
    Family(Case("resnet8", "rpi4", "int8", "kitchen"), 31.2, 0.008, "slower"),
    Family(Case("resnet8", "rpi4", "float32", "kitchen"), 74.8, 0.008),
    Family(Case("mobilenetv2", "rpi4", "int8", "kitchen"), 84.0, 0.01, "accepted"),
    Family(Case("mobilenetv2", "android-arm64", "int8", "phone"), 12.4, 0.03, "creeping"),
    Family(Case("keywords", "rpi4", "int8", "attic"), 1.9, 0.02, "drifting"),
    Family(Case("resnet8", "rpi4", "int8", "virtual:rpi4"), 4.33, 0.0001),
    Family(Case("keywords", "rpi4", "int8", "cellar"), 2.1, 0.02, "lost"),
)


@cache
def last(count: int = 8) -> NightRecord:
    """Return the last of some nights."""
    return list(nights(count))[-1]


def sha(word: str) -> str:
    """Return something that looks like a digest."""
    return f"{random.Random(word.encode(errors='backslashreplace')).getrandbits(256):064x}"


@cache
def _bench(counted: bool) -> BenchRecord:
    return sample_bench.counted() if counted else sample_bench.record()


def bench(family: Family, p50: float, source: random.Random, **changes: Any) -> BenchRecord:
    """Return a bench of 64 samples around a median."""
    samples = tuple(sorted(round(p50 * (1 + 0.002 * source.gauss(0, 1)), 6) for _ in range(64)))
    made = _bench("virtual" in family.case.device)
    warm = 55.0 + round(8 * source.random(), 1)
    around = dataclasses.replace(
        made.conditions,
        during=(sample_bench.snapshot(100.0, temperature_c={"cpu-thermal": warm}),) * (not made.simulated),
        after=None,
    )
    told = dataclasses.replace(
        made, device=family.case.device, target=family.case.target, samples_ms=samples, starts_ms=None,
        latency_ms=sample_bench.latency(samples), warmup_ms=(p50,) * 4, conditions=around,
    )  # fmt: skip
    return dataclasses.replace(told, **changes)


def manifest(family: Family, artifact: str, *, grown: bool) -> dict[str, Any]:
    """Return the part of a build's manifest that reports read."""
    return {
        "artifact": "model.tflite", "sha256": artifact, "target": family.case.target, "recipe": family.case.recipe,
        "size_bytes": 99_480 if grown else 96_120, "gzip_bytes": 78_000, "model": family.case.model,
        "quality": {"metric": "top1", "reference": 0.8611, "got": 0.8602, "drop": 0.0009, "budget": 0.01, "examples": 2_000},
        "edgeship": "0.1.0", "made": "2026-11-22T01:02:03+00:00", "layers": [{"name": "conv/a", "sqnr_db": 31.5}],
    }  # fmt: skip


def nights(count: int = 12, families: tuple[Family, ...] = FAMILIES, *, judged: int = 1) -> Iterator[NightRecord]:
    """Yield nights with their runs, oldest first; the last ones (`judged`) with the gate's own verdicts."""
    source = random.Random(11)
    seen: dict[Case, list[Night]] = {family.case: [] for family in families}
    for number in range(count):
        began = FIRST + timedelta(days=number)
        name = f"{began:%Y-%m-%d}-{SUITE}"
        runs: list[Run] = []
        findings: list[Finding] = []
        for place, family in enumerate(families):
            made = list(_runs(family, name, began + timedelta(minutes=9 * place), number, count - 1, source))
            runs += made
            findings += _judged(family, made, seen[family.case], name, real=number >= count - judged)
        yield NightRecord(
            name, SUITE, began.isoformat(), (began + timedelta(hours=2)).isoformat(), tuple(one.case for one in families),
            tuple(runs), tuple(findings), tuple(_health(name, began, number, count - 1, families)), {"repeats": 2},
        )  # fmt: skip


def write(
    kept: history.History, count: int = 12, families: tuple[Family, ...] = FAMILIES, *, judged: int = 1
) -> NightRecord:
    """Keep nights in a history; return the last one as it comes back."""
    night: NightRecord | None = None
    for number, night in enumerate(nights(count, families, judged=judged)):
        kept.begin(dataclasses.replace(night, ended=None))
        kept.keep(*night.runs)
        kept.keep_findings(*night.findings)
        kept.keep_health(*night.health)
        assert night.ended is not None
        kept.end(night.id, night.ended)
        for family in families:
            if family.kind == "accepted" and number == (count - 1) // 2 - 1:
                kept.accept(family.case, sha(f"{family.case.name} 0.88"), at=night.ended)
    assert night is not None
    return kept.night(night.id)


def verdict(decision: Any, **changes: Any) -> Verdict:
    """Return a verdict with some fields replaced."""
    made = Verdict(
        "latency", decision, 0.061, (0.048, 0.074), 0.0004, 0.01, "slower than the baseline: +6.1 % (95 % interval +4.8 % … +7.4 %)",
        0, 1, None, None, 0.01, 0.3,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def _runs(family: Family, night: str, began: datetime, number: int, last: int, source: random.Random) -> Iterator[Run]:
    factor, old = family.factor(number, last), 0.88 if family.kind == "accepted" and number >= last // 2 else 1.0
    device = 1.08 if family.kind == "drifting" and number > last - 3 else 1.0
    shared = device * (1 + 0.4 * family.spread * source.gauss(0, 1))
    for ordinal, role in enumerate(ALTERNATED):
        at = began + timedelta(seconds=50 * ordinal)
        level = {"new": family.level_ms * factor, "old": family.level_ms * old, "reference": 5.0}[role]
        artifact = sha(
            "reference" if role == "reference" else f"{family.case.name} {factor if role == 'new' else old:.3g}"
        )
        made = Run(
            f"{night}/{family.case.name}/{role}/{ordinal}", night, SUITE, family.case, role, ordinal, at.isoformat(), artifact,
            manifest=None if role == "reference" else manifest(family, artifact, grown=role == "new" and factor > 1.05),
        )  # fmt: skip
        if family.kind == "lost" and number in (last, last - 4):
            fault = Fault("device", f"{family.case.device}: nothing answers on port 22 of 192.168.1.24", 6, 3)
            yield dataclasses.replace(
                made, id=f"{made.id}/lost", role="new", artifact_sha256=None, manifest=None, fault=fault
            )
            return
        if family.case.device == "attic" and number == last and ordinal == 3:
            yield dataclasses.replace(
                made, id=f"{made.id}/hot", fault=Fault("conditions", "attic: throttled in the run", 6, 1)
            )
        p50 = level * shared * (1 + 0.9 * family.spread * source.gauss(0, 1))
        yield dataclasses.replace(made, bench=bench(family, p50, source))


def _judged(family: Family, runs: list[Run], seen: list[Night], night: str, *, real: bool) -> Iterator[Finding]:
    """Yield the gate's verdict, or where that would take too long one that is told from the figures."""
    by_role: dict[str, tuple[float, ...]] = {
        role: tuple(run.bench.latency_ms.p50 or 1.0 for run in runs if run.bench and run.role == role)
        for role in ALTERNATED
    }
    new = next((run for run in runs if run.role == "new" and run.bench), None)
    if new is None:
        return
    old = next(run.artifact_sha256 for run in runs if run.role == "old")
    tonight = Night(by_role["new"], by_role["old"], by_role["reference"], f"{old}", old)
    if real:
        metric, prior = (COUNTED_LATENCY, EXACT) if "virtual" in family.case.device else (LATENCY, Prior())
        found = gate.judge(seen, [tonight], metric, prior=prior, final=True)
    else:
        effect, wide = median(tonight.new) / median(tonight.old) - 1, 2 * family.spread
        found = verdict(
            "same",
            effect=effect,
            ci95=(effect - wide, effect + wide),
            p=0.4,
            spread=family.spread,
            reason="no change of 5 %",
        )
    if not found.alarm:
        seen.append(tonight)
    yield Finding(night, family.case, found, old, new.artifact_sha256)
    grown = family.kind == "slower" and found.alarm
    told = {"metric": "size", "decision": "slower" if grown else "same", "effect": 0.035 * grown, "spread": 1e-4}
    reason = "larger than the baseline: +3.5 %" if grown else "no change of 1 %"
    yield Finding(
        night,
        family.case,
        verdict(**told, ci95=(0.0349 * grown, 0.0351 * grown), reason=reason),
        old,
        new.artifact_sha256,
    )


def _health(night: str, began: datetime, number: int, last: int, families: tuple[Family, ...]) -> Iterator[HealthEvent]:
    if number == last and any(family.kind == "lost" for family in families):
        at = began + timedelta(hours=1)
        yield HealthEvent(night, "cellar", at.isoformat(), "power-cycled", "the hook ended with 0")
        yield HealthEvent(
            night,
            "cellar",
            (at + timedelta(minutes=2)).isoformat(),
            "quarantined",
            "three faults in a row: unreachable",
        )
