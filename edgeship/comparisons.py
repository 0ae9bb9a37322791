"""The verdicts of one suite held together: the more is compared, the more chance finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeship.gate import Verdict

FALSE_SHARE = 0.1


def correct(verdicts: Sequence[Verdict], *, false_share: float = FALSE_SHARE) -> tuple[Verdict, ...]:
    """Return the verdicts of a suite in their order; those that so many comparisons do not bear become `cannot-tell`.

    Each verdict alone already keeps false alarms at its `alpha`. Benjamini and Hochberg 1995
    (doi:10.1111/j.2517-6161.1995.tb02031.x) keeps the expected share of false ones among all that are told below
    `false_share`, however large the suite; it holds for comparisons that go together, as those of one device do
    (Benjamini and Yekutieli 2001, doi:10.1214/aos/1013699998: positive dependence).
    """
    from scipy.stats import false_discovery_control

    tested = [number for number, verdict in enumerate(verdicts) if verdict.p is not None]
    adjusted = false_discovery_control(np.array([verdicts[number].p for number in tested])) if tested else ()
    kept = list(verdicts)
    for number, p in zip(tested, adjusted, strict=True):
        verdict = verdicts[number]
        if verdict.decision in ("slower", "faster") and p > false_share:
            reason = f"{verdict.reason}; among {len(tested)} comparisons that is not enough: measured again next time"
            kept[number] = replace(verdict, decision="cannot-tell", reason=reason)
    return tuple(kept)
