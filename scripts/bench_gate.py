"""Hold the gate against simulated nights: how often it raises a false alarm, and how soon it finds what is there.

A night is up to four runs of each artifact, alternated; the p50 of a run varies with a coefficient of variation (CV), a part
of whose variance all runs of a night share; before each pair the reference workload runs, as noisy. Twenty nights are
the history. Shapes: normal; t3 (Student, 3 degrees of freedom); bimodal (three runs in ten 2.1 standard deviations above the
rest). Traces: runs recorded by `record_traces.py`, a night is a stretch of consecutive runs. On the same runs: a flat rule
(new 5 % above old, or above the history without old) and FAI-PEP's (tonight's p50 above the p90 of the earlier nights' p90s).

`unchanged`: each night judged by all before it, the last three as the trial. `step`: caught in the night of the change, or
within three. `drift`: the device slows, the reference with it. `creep`: the model alone slows, 0.3 % a night.
Exit code 1 where a requirement (column `want`) is missed by more than chance allows (a 99.9 % binomial bound).
Run: python scripts/bench_gate.py [--quick] [--nights 2000] [--seed 1] [--only WORD]
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from edgeship.gate import judge
from edgeship.night import Night

TRACES = Path(__file__).parent.parent / "tests" / "data" / "traces"
HISTORY, ROLLING, MOST, FLAT = 20, 10, 4, 0.05
CREEP, LOST = 0.003, 0.06
Array = NDArray[np.float64]


def normal(source: np.random.Generator, count: int) -> Array:
    """Return noise with standard deviation 1."""
    return source.standard_normal(count)


def heavy(source: np.random.Generator, count: int) -> Array:
    """Return noise with heavy tails and standard deviation 1."""
    return source.standard_t(3, count) / math.sqrt(3)


def bimodal(source: np.random.Generator, count: int) -> Array:
    """Return noise of two modes, standard deviation 1."""
    upper = (source.random(count) < 0.3) - 0.3
    return np.asarray((upper + 0.15 * source.standard_normal(count)) / math.sqrt(0.21 + 0.15**2))


SHAPES: dict[str, Callable[[np.random.Generator, int], Array]] = {"normal": normal, "t3": heavy, "bimodal": bimodal}


class Synthetic:
    """A device whose noise is known."""

    def __init__(self, shape: str, cv: float, shared: float, seed: int) -> None:
        self.source, self.shape = np.random.default_rng(seed), SHAPES[shape]
        self.own, self.common = cv * math.sqrt(1 - shared), cv * math.sqrt(shared)
        self.tonight = 0.0

    def begin(self) -> None:
        """Begin a night."""
        self.tonight = self.common * float(self.shape(self.source, 1)[0])

    def pairs(self, count: int) -> Array:
        """Return the logarithms of `count` runs of new, old and reference, a row each."""
        return self.tonight + self.own * self.shape(self.source, 3 * count).reshape(3, count)


class Trace:
    """A recorded machine: a night is a stretch of its runs."""

    def __init__(self, path: Path, seed: int) -> None:
        table = np.log(np.loadtxt(path, delimiter=",", skiprows=2)[:, 1:])
        self.table, self.source, self.at = table, np.random.default_rng(seed), 0

    def begin(self) -> None:
        """Begin a night somewhere."""
        self.at = int(self.source.integers(0, len(self.table) - 2 * MOST))

    def pairs(self, count: int) -> Array:
        """Return the logarithms of the next runs: new, old and reference; A B B A B A A B …"""
        rows = self.table[self.at : self.at + 2 * count]
        self.at += 2 * count
        first = rows[0::2, 0], rows[1::2, 0]
        swapped = np.arange(count) % 2 == 1
        new, old = np.where(swapped, first[1], first[0]), np.where(swapped, first[0], first[1])
        return np.stack([new, old, rows[0::2, 1]])


Device = Synthetic | Trace


@dataclass(frozen=True)
class Truth:
    """What happens in a night, as changes: to the new artifact, to the old one, to the device."""

    new: float = 0.0
    old: float | None = 0.0
    device: float = 0.0


@dataclass
class Count:
    """What came out: alarms of the three rules, nights, and what the gate needed."""

    nights: int = 0
    gate: int = 0
    flat: int = 0
    pep: int = 0
    cannot: int = 0
    runs: int = 0


def night(device: Device, truth: Truth, count: int, before: Night | None = None) -> Night:
    """Return a night with `count` further runs of each."""
    new, old, reference = 10 * np.exp(device.pairs(count) + math.log1p(truth.device))
    done = before or Night(baseline="pinned")
    return Night(
        done.new + tuple((new * (1 + truth.new)).tolist()),
        done.old + (() if truth.old is None else tuple((old * (1 + truth.old)).tolist())),
        done.reference + tuple(reference.tolist()),
        baseline=None if truth.old else "pinned",
    )


def past(device: Device, truth: Truth = Truth()) -> list[Night]:
    """Return a history."""
    nights = []
    for _ in range(HISTORY):
        device.begin()
        nights.append(night(device, truth, MOST))
    return nights


def tonight(
    history: Sequence[Night], trial: Sequence[Night], device: Device, truth: Truth, count: Count
) -> tuple[Night, str]:
    """Run a night as the gate asks for it, and count what the rules say."""
    device.begin()
    done, wanted = None, 2
    while wanted:
        done = night(device, truth, wanted, done)
        verdict = judge(history, [*trial, done])
        wanted = verdict.runs_wanted
    assert done is not None
    count.nights += 1
    count.runs += len(done.new)
    count.cannot += verdict.decision == "cannot-tell"
    return done, verdict.decision


def flat(history: Sequence[Night], done: Night) -> bool:
    """Say whether a flat rule raises an alarm."""
    old = done.old or [figure for earlier in history for figure in earlier.new]
    return statistics.median(done.new) > (1 + FLAT) * statistics.median(old)


def p90(figures: Sequence[float]) -> float:
    """Return the 90th percentile, interpolated."""
    ordered, place = sorted(figures), 0.9 * (len(figures) - 1)
    below = int(place)
    return ordered[below] + (place - below) * (ordered[min(below + 1, len(ordered) - 1)] - ordered[below])


def pep(history: Sequence[Night], done: Night) -> bool:
    """Say whether FAI-PEP's rule raises an alarm."""
    return statistics.median(done.new) > p90([p90(earlier.new) for earlier in history])


def unchanged(device: Device, nights: int, truths: Callable[[int], Truth]) -> Count:
    """Count alarms in nights where the model does not change; `truths` may move the device."""
    count = Count()
    while count.nights < nights:
        known = past(device, Truth(old=truths(0).old))
        for number in range(ROLLING):
            done, decision = tonight(known[:-2], known[-2:], device, truths(number), count)
            count.gate += decision in ("slower", "faster")
            count.flat += flat(known, done)
            count.pep += pep(known, done)
            known.append(done)
    return count


def step(device: Device, nights: int, effect: float, within: int) -> Count:
    """Count how often a slower artifact is caught within so many nights."""
    count = Count()
    trials = 0
    while trials < nights:
        history, trial = past(device), list[Night]()
        caught = [False, False, False]
        for _ in range(within):
            done, decision = tonight(history, trial, device, Truth(effect), count)
            found = decision == "slower", flat(history, done), pep(history, done)
            caught = [was or now for was, now in zip(caught, found, strict=True)]
            trial.append(done)
            if decision == "slower":
                break
        trials += 1
        count.gate, count.flat, count.pep = (
            total + now for total, now in zip((count.gate, count.flat, count.pep), caught, strict=True)
        )
    count.nights = trials
    return count


def creep(device: Device, nights: int, baseline: str) -> Count:
    """Count how often a model that slows a little every night is found before it has lost `LOST`.

    `baseline`: `pinned`, the artifact of the first day; `yesterday's`; or `none`.
    """
    count, last = Count(), int(math.log1p(LOST) / math.log1p(CREEP))
    trials = 0
    while trials * last < nights:
        known, caught = past(device, Truth(old=None if baseline == "none" else 0.0)), [False, False, False]
        for number in range(1, last + 1):
            lost, before = (1 + CREEP) ** number - 1, (1 + CREEP) ** (number - 1) - 1
            old = {"pinned": 0.0, "yesterday's": before, "none": None}[baseline]
            kept = HISTORY if baseline == "pinned" else len(known) - 2
            done, decision = tonight(known[:kept], known[kept:], device, Truth(lost, old), count)
            found = decision == "slower", flat(known[:HISTORY], done), pep(known, done)
            caught = [was or now for was, now in zip(caught, found, strict=True)]
            known.append(done)
        trials += 1
        count.gate, count.flat, count.pep = (
            total + now for total, now in zip((count.gate, count.flat, count.pep), caught, strict=True)
        )
    count.runs, count.cannot = count.runs // count.nights * trials, 0
    count.nights = trials
    return count


@dataclass(frozen=True)
class Family:
    """One line of the table; `want` is the share of alarms: at most if `alarms_are_false`, else at least."""

    name: str
    run: Callable[[int], Count]
    want: float | None
    alarms_are_false: bool


def families(seed: int, *, quick: bool) -> Iterator[Family]:
    """Return the lines of the table."""
    for shape in SHAPES:
        for cv in (2,) if quick else (0.5, 1, 2, 5, 10):
            for shared in (0.0, 0.5):
                of = f"{shape}, CV {cv:g} %, {shared:.0%} shared"
                device = partial(Synthetic, shape, cv / 100, shared, seed)
                yield Family(f"unchanged {of}", partial(_unchanged, device, still), 0.01, True)
                if cv == 2:
                    yield Family(f"step 5 %, one night, {of}", partial(_step, device, 0.05, 1), 0.95, False)
                    yield Family(f"step 3 %, three nights, {of}", partial(_step, device, 0.03, 3), 0.9, False)
                if cv == 2 and not quick:
                    yield from _slow(of, device)
    for path in sorted(TRACES.glob("*.csv")):
        recorded = partial(Trace, path, seed)
        yield Family(f"unchanged {path.stem}", partial(_unchanged, recorded, still), 0.01, True)
        yield Family(f"step 10 %, three nights, {path.stem}", partial(_step, recorded, 0.1, 3), None, False)


def _slow(of: str, device: Callable[[], Device]) -> Iterator[Family]:
    """Return the families in which something slows night by night."""
    yield Family(f"drift 0.5 % a night, alternated, {of}", partial(_unchanged, device, drifting), 0.01, True)
    yield Family(f"drift 0.5 % a night, no old, {of}", partial(_unchanged, device, drifting_alone), 0.01, True)
    yield Family(f"device steps 5 %, alternated, {of}", partial(_unchanged, device, stepping), 0.01, True)
    for baseline in ("pinned", "yesterday's", "none"):
        yield Family(f"creep 0.3 % a night, old {baseline}, {of}", partial(_creep, device, baseline), 0.95, False)


def still(_: int) -> Truth:
    """Nothing happens."""
    return Truth()


def drifting(number: int) -> Truth:
    """The device slows by half a percent a night."""
    return Truth(device=1.005 ** (number + 1) - 1)


def drifting_alone(number: int) -> Truth:
    """The same, and there is no baseline."""
    return Truth(old=None, device=1.005 ** (number + 1) - 1)


def stepping(number: int) -> Truth:
    """The device slows at once."""
    return Truth(device=0.05 if number >= ROLLING // 2 else 0.0)


def _unchanged(device: Callable[[], Device], truths: Callable[[int], Truth], nights: int) -> Count:
    return unchanged(device(), nights, truths)


def _step(device: Callable[[], Device], effect: float, within: int, nights: int) -> Count:
    return step(device(), nights, effect, within)


def _creep(device: Callable[[], Device], baseline: str, nights: int) -> Count:
    return creep(device(), nights, baseline)


def holds(family: Family, count: Count) -> bool:
    """Say whether a requirement is met as far as so many nights can tell."""
    if family.want is None:
        return True
    if family.alarms_are_false:
        return bool(binom.sf(count.gate - 1, count.nights, family.want) > 0.001)
    return bool(binom.cdf(count.gate, count.nights, family.want) > 0.001)


def main() -> None:
    """Print the table; the exit code says whether all requirements hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="CV 2 % alone, 200 nights")
    parser.add_argument("--only", default="", help="families whose name has this word")
    chosen = parser.parse_args()
    nights = min(chosen.nights, 200) if chosen.quick else chosen.nights
    failed, began = 0, time.monotonic()
    print(f"{'alarms of the rules, %':64} {'n':>5}  {'gate':>6} {'want':>7} {'flat':>6} {'PEP':>6}  cannot runs")
    for family in families(chosen.seed, quick=chosen.quick):
        if chosen.only not in family.name:
            continue
        count = family.run(nights)
        met = holds(family, count)
        failed += not met
        want = "" if family.want is None else f"{'≤' if family.alarms_are_false else '≥'} {100 * family.want:g}"
        shares = (100 * alarms / count.nights for alarms in (count.gate, count.flat, count.pep))
        gate, by_flat, by_pep = (f"{share:6.2f}" for share in shares)
        line = f"{family.name:64} {count.nights:5}  {gate} {want:>7} {by_flat} {by_pep}  {100 * count.cannot / count.nights:5.1f}% {count.runs / count.nights:4.1f}"
        print(line + ("" if met else "  MISSED"), flush=True)
    print(f"{failed} requirements missed; {time.monotonic() - began:.0f} s, seed {chosen.seed}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
