"""What the gate looks at: a night's runs, the metric they measure, and what is believed of the noise beforehand."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Night:
    """The runs of one model on one device in one night: of each run one figure (its p50, or better), in any order.

    Attributes:
        new: runs of that night's artifact.
        old: runs of the baseline artifact, alternated with `new` (A B B A).
        reference: runs of the fixed reference workload, before each model or each run; the same metric of it.
        era: nights of one era are on one level; a new one begins where a change was accepted. Noise is learned from all.
        baseline: which artifact `old` was. Only nights that share it are held together by it; None: not known.
        paces: where its times are at one pace (`at_one_pace`), what each run took of the artifact that it was in turns with.
    """

    new: tuple[float, ...] = ()
    old: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()
    era: str = ""
    baseline: str | None = None
    paces: tuple[float, ...] = ()

    @property
    def paced(self) -> bool:
        """Say whether its times are at one pace: runs vary much less within such a night than within another."""
        return bool(self.paces)


def at_one_pace(
    times: Sequence[float], beside: Sequence[tuple[str, float, float] | None]
) -> tuple[tuple[float, ...], tuple[float, ...]]:  # fmt: skip
    """Return the times of a night's runs as they would be at one pace of the machine, and what their paces were.

    Of runs that were made in turns with the same other artifact (see `measurement.Beside`), what the machine did falls on both:
    each time is its ratio to the other's, at the other's middle time of the night. Times as they are, and no paces, where not all were.

    Args:
        beside: of each run which artifact that was, the ratio to it, and its time; None for one that was made alone.
    """
    told = [each for each in beside if each is not None]
    if len(told) < max(len(times), 1) or len({which for which, _, _ in told}) > 1:
        return tuple(times), ()
    paces = tuple(ms for _, _, ms in told)
    pace = statistics.median(paces)
    return tuple(ratio * pace for _, ratio, _ in told), paces


@dataclass(frozen=True)
class Metric:
    """A figure and what counts as a change of it. Of a relative metric all limits are shares, else in its own unit.

    Attributes:
        smallest: a change below it is not worth telling, however sure.
        tolerance: `same` means that a change of this size is excluded; where it is not, the verdict is `cannot-tell`.
        floor: standard deviation between runs that is never undercut, whatever the history says.
        worse: the word for a change to the bad, `better` for one to the good.
        runs_first: runs of each artifact before anything is said.
        runs_most: runs of each artifact in a night at the most.
    """

    name: str
    higher_is_better: bool = False
    relative: bool = True
    smallest: float = 0.005
    tolerance: float = 0.05
    floor: float = 0.0005
    worse: str = "slower"
    better: str = "faster"
    runs_first: int = 2
    runs_most: int = 4

    def scaled(self, figure: float) -> float:
        """Return a figure on the scale on which noise adds up: its logarithm if relative; greater is worse.

        Raises:
            ValueError: it is not a finite number, or a relative metric is not above zero.
        """
        if not math.isfinite(figure) or (self.relative and figure <= 0):
            raise ValueError(
                f"{self.name} is {figure}: a {'positive' if self.relative else 'finite'} number is expected"
            )
        value = math.log(figure) if self.relative else figure
        return -value if self.higher_is_better else value

    def change(self, difference: float) -> float:
        """Return a difference of scaled figures as a change: +0.05 is 5 % worse (or 0.05 of its unit)."""
        if not self.relative:
            return difference
        return -math.expm1(-difference) if self.higher_is_better else math.expm1(difference)

    def difference(self, change: float) -> float:
        """Return a change that is worse as a difference of scaled figures."""
        if not self.relative:
            return change
        return -math.log1p(-change) if self.higher_is_better else math.log1p(change)


@dataclass(frozen=True)
class Prior:
    """What runs of such a device do as a rule (the noise of its family: `noise.family`), worth `nights` nights of history: it fades as the device's own grows.

    Attributes:
        spread: standard deviation of a run, relative or in the metric's unit.
        shared: part of the variance that all runs of a night share.
        nights: how many nights of history it is worth.
    """

    spread: float = 0.05
    shared: float = 0.3
    nights: float = 1.0


LATENCY = Metric("latency")
# A counted virtual board repeats to a few hundredths of a percent: one run says it all.
COUNTED_LATENCY = Metric("latency", tolerance=0.01, runs_first=1, runs_most=1)
MEMORY = Metric("memory", smallest=0.01, floor=0.001, worse="larger", better="smaller")
SIZE = Metric(
    "size", smallest=0.001, tolerance=0.01, floor=1e-5, worse="larger", better="smaller", runs_first=1, runs_most=1
)
QUALITY = Metric(
    "quality", higher_is_better=True, relative=False, smallest=0.002, tolerance=0.01, floor=2e-4,
    worse="worse", better="better", runs_first=1, runs_most=1,
)  # fmt: skip
# What is repeated exactly needs no wide belief.
EXACT = Prior(spread=1e-4, nights=10)
