"""For charts of a history: where each night was to be expected had nothing changed, and where the level changed."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeship import chance, creep
from edgeship.history.figures import CaseNight
from edgeship.night import COUNTED_LATENCY, EXACT, LATENCY, Night, Prior
from edgeship.noise import Noise, centre, estimate, reference

_LOOKED_BACK = 120  # nights that noise is learned from
_CLEAR = 1.5  # standard deviations of a night


@dataclass(frozen=True)
class Change:
    """A night from which on a history lies on another level; medians of the nights before and after it."""

    place: int
    before: float
    after: float

    @property
    def effect(self) -> float:
        """Return the change as a share."""
        return self.after / self.before - 1


@dataclass(frozen=True)
class Course:
    """What is to be said of a latency's history: one entry a night in `bands` (low and high in ms, or None)."""

    bands: tuple[tuple[float, float] | None, ...]
    changes: tuple[Change, ...]


def course(nights: Sequence[CaseNight], *, counted: bool) -> Course:
    """Return the bands in which the gate expects unchanged nights 95 % of the time, and the change points.

    The noise is the gate's own (`noise.estimate`), learned from the nights in which no change was told; each accepted level has
    a band of its own, which goes with the reference workload as far as the level does.

    Args:
        counted: on a virtual board that counts instructions.
    """
    metric, prior = (COUNTED_LATENCY, EXACT) if counted else (LATENCY, Prior())
    usable = [night.figures for night in nights if night.figures.new and night.decision not in ("slower", "faster")]
    learned: dict[str, Noise] = {}
    for era in dict.fromkeys(night.figures.era for night in nights):
        mine = [figures for figures in usable[-_LOOKED_BACK:] if figures.era == era] or [
            figures for figures in usable if figures.era == era
        ][-_LOOKED_BACK:]
        if len(mine) > 2:
            learned[era] = estimate(mine, [mine[-1]], metric, prior)
    bands = tuple(_band(learned.get(night.figures.era), night.figures) for night in nights)
    return Course(bands, _changes(nights, learned))


def _band(noise: Noise | None, night: Night) -> tuple[float, float] | None:
    if noise is None or noise.level is None or not night.new:
        return None
    at = reference(night)
    shift, _, _ = chance.expected(noise, at)
    half = noise.usual * math.sqrt(chance.design(noise, len(night.new), 0, at).variance)
    middle = noise.level + shift
    return math.exp(middle - half), math.exp(middle + half)


def _changes(nights: Sequence[CaseNight], learned: dict[str, Noise]) -> tuple[Change, ...]:
    told = [(place, night.figures) for place, night in enumerate(nights) if night.figures.new]
    if not learned or not told:
        return ()
    noise = list(learned.values())[-1]
    series = np.array([centre(LATENCY, figures.new, noise.clip) for _, figures in told])
    runs = statistics.median(len(figures.new) for _, figures in told)
    spread = math.sqrt(noise.between_sd**2 + noise.location_variance / runs)
    ends = [0, *creep.change_points(series, spread), len(told)]
    levels = [float(np.exp(np.median(series[first:last]))) for first, last in itertools.pairwise(ends)]
    found = (
        Change(told[first][0], before, after)
        for first, before, after in zip(ends[1:-1], levels, levels[1:], strict=False)
    )
    return tuple(
        each for each in found if abs(math.log(each.after / each.before)) > _CLEAR * spread
    )  # else one far night
