"""Charts for the build page, as SVG that takes its colours and its typeface from the page's own style.

Written out by hand: three kinds of plain charts do not earn matplotlib, whose import alone takes a second of every cold build.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

from edgeship.artifact import Roofline, WeightHistogram
from edgeship.report.drawing import Axis, frame, line, svg, text
from edgeship.run import TrainingSummary


def charts(
    *,
    roofline: Roofline | None,
    reference_roofline: Roofline | None,
    histograms: Iterable[WeightHistogram],
    training: TrainingSummary | None,
) -> dict[str, str]:
    """Return the page's charts as SVG by name: `roofline`, `loss`, `held_out`, and `weights:<index>` for a histogram.

    A chart without figures to draw is left out. No text in them comes from a user's file.
    """
    drawn: dict[str, str] = {}
    if roofline or reference_roofline:
        drawn["roofline"] = _roofline(roofline, reference_roofline)
    if training is not None:
        for key in ("loss", "held_out"):
            if chart := _training(training, key):
                drawn[key] = chart
    return drawn | {f"weights:{index}": _weights(entry) for index, entry in enumerate(histograms)}


def _roofline(artifact: Roofline | None, reference: Roofline | None) -> str:
    """Draw the roofs and where the two models meet them, both axes logarithmic (doi:10.1145/1498765.1498785)."""
    found = [roof for roof in (reference, artifact) if roof is not None]
    low = 0.3 * min(min(max(roof.intensity, 0.01), roof.ridge) for roof in found)
    high = 4 * max(max(roof.intensity, roof.ridge) for roof in found)
    x = Axis(low, high, 52, 508, log=True)
    top = 2 * max(roof.peak_gops for roof in found)
    y = Axis(0.7 * low * min(roof.memory_gb_per_s for roof in found), top, 272, 22, log=True)
    parts = frame(x, y, "operations a byte moved", "Gop/s")
    for roof, colour, label in ((reference, "before", "float32 reference"), (artifact, "after", "artifact")):
        if roof is None:
            continue
        slope, peak = roof.memory_gb_per_s, roof.peak_gops
        parts.append(line([(x.at(v), y.at(min(peak, v * slope))) for v in (low, roof.ridge, high)], colour, 2))
        across, up = x.at(roof.intensity), y.at(min(peak, roof.intensity * slope))
        parts.append(line([(across, y.start), (across, up)], colour, 1, dashed=True))
        parts.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="6" style="fill: var(--{colour})"/>')
        parts.append(text(x.end, y.at(peak) - 6, f"{peak:g} Gop/s", "end"))
        side, anchor = (-11, "end") if across > 0.6 * x.end else (11, "start")
        parts.append(text(across + side, up + 20, label, anchor, colour="ink"))
    return svg(520, 316, parts)


def _training(training: TrainingSummary, key: str) -> str | None:
    """Draw a figure of every epoch; a dashed line stands where the next technique starts."""
    rows = [(row.get("technique"), row.get(key)) for row in training.history]
    values = [float(value) for _, value in rows if isinstance(value, int | float) and math.isfinite(value)]
    if len(values) < 2 or len(values) != len(rows):
        return None
    margin = 0.08 * (max(values) - min(values)) or 0.01 * abs(values[0]) or 1.0
    x = Axis(1, len(values), 50, 440)
    y = Axis(min(values) - margin, max(values) + margin, 150, 10)
    parts = frame(x, y, "epoch", "", whole=True)
    points = [(x.at(step), y.at(value)) for step, value in enumerate(values, start=1)]
    borders = [step for step in range(1, len(rows)) if rows[step][0] != rows[step - 1][0]]
    for border in borders:
        parts.append(line([(x.at(border + 0.5), y.start), (x.at(border + 0.5), y.end)], "muted", 1, dashed=True))
    for start, stop in itertools.pairwise([0, *borders, len(rows)]):
        parts.append(line(points[start:stop], "after", 1.8))
    parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6" style="fill: var(--after)"/>' for a, b in points]
    return svg(452, 194, parts)


def _weights(histogram: WeightHistogram) -> str:
    """Draw the values before as a surface and after as a line; heights are square roots, so that the rare ones show."""
    width, height = 10 * len(histogram.before), 100
    top = max(*histogram.before, *histogram.after, 1) ** 0.5
    before, after = (
        "".join(f"V{height - 0.95 * height * count**0.5 / top:.1f}h10" for count in counts)
        for counts in (histogram.before, histogram.after)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M0 {height}{before}V{height}Z" style="fill: var(--wash)"/>'
        f'<path d="M0 {height}{after}V{height}" style="fill: none; stroke: var(--after); stroke-width: 1.5px" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )
