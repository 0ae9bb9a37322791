"""Figures drawn with characters: nothing falls off, more is never lower, noise is not blown up."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from edgeship.report import sparkline

figures = st.lists(st.none() | st.floats(1e-6, 1e9), max_size=40)


@given(figures)
def test_a_character_a_figure(values: list[float | None]) -> None:
    """Bars are as many as figures, and higher for more."""
    drawn = sparkline.bars(values)
    assert len(drawn) == len(values)
    told = [(value, sparkline.BARS.index(bar)) for value, bar in zip(values, drawn, strict=True) if value is not None]
    assert all((a <= b) or (one >= two) for (one, a), (two, b) in itertools.pairwise(sorted(told)))
    assert {bar for value, bar in zip(values, drawn, strict=True) if value is None} <= {" "}


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=40), st.integers(1, 80))
def test_dots_and_rows_hold_all(values: list[float], width: int) -> None:
    """A dot at the least, none beyond the axis, and every point on exactly one row."""
    shown = sparkline.scale(values)
    assert shown is not None
    drawn = sparkline.dots(values, shown, width)
    assert len(drawn) == width
    assert drawn.strip()
    grid = sparkline.rows(values, shown, 5)
    assert [sum(column) for column in zip(*grid, strict=True)] == [1] * len(values)


def test_noise_is_flat() -> None:
    """Half a percent of noise is no drama; a tenth is seen; what is nothing is nothing."""
    assert set(sparkline.bars([100.0, 100.2, 99.9, 100.3])) <= {"▄", "▅"}
    assert sparkline.bars([100.0, 110.0]) == "▁█"
    assert sparkline.bars([None, math.nan]) == "  "
    assert sparkline.scale([]) is None
    assert sparkline.scale([0.0, 0.0]) == sparkline.Scale(-0.5, 0.5)
    assert sparkline.dots([1.0, 1.0, 1.0, 2.0], sparkline.Scale(1.0, 2.0), 4) == "●  ·"
