"""Is it the same model? Quality of a candidate against its reference, on the same examples, run the same way."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import interpret, layer_error, metrics
from edgeship.artifact import LayerError
from edgeship.errors import BadInput, StageFailed
from edgeship.interpret import Job
from edgeship.metrics import Metric, Outputs
from edgeship.progress import OnProgress, silent
from edgeship.run import Quality


@dataclass(frozen=True)
class Judged:
    """What was measured, before any budget: the metric on both, and how near the outputs are to each other.

    `classes_seen` counts the top classes that the reference gave at all; None where it does not classify.
    """

    metric: str
    reference: float
    got: float
    drop: float
    examples: int
    sqnr_db: float
    agreement: float | None
    classes_seen: int | None
    layers: tuple[LayerError, ...]
    runtime: str


def judge(
    reference: Path,
    candidate: Path,
    feed: Path,
    *,
    metric: Metric,
    labels: NDArray[Any] | None,
    where: str,
    names: tuple[str, str],
    log: Path,
    on_progress: OnProgress = silent,
) -> Judged:
    """Return the quality of both files over the same examples, and the error layer by layer.

    Args:
        reference, candidate: TFLite files.
        feed: npz of what the model eats (`input:<name>`).
        labels: one an example, or None.
        where: the file that the labels came from, for messages.
        names: what the user knows the two files by, for messages.
        log: takes what the runtime prints.

    Raises:
        BadInput: the labels do not fit the metric or the model.
        StageFailed: the runtime refused a file.
    """
    with ThreadPoolExecutor(1) as pool:
        layers = pool.submit(layer_error.measure, reference, candidate, feed, log=log.with_suffix(".layers.log"))
        jobs = [Job(path, feed, name) for path, name in zip((reference, candidate), names, strict=True)]
        ours, theirs = interpret.outputs(jobs, log=log, on_progress=on_progress)
        errors = layers.result()
    for name, ran in zip(names, (ours, theirs), strict=True):
        _check_finite(name, ran.outputs)
    scored = classes([array.shape for array in ours.outputs.values()])
    metrics.check(metric, labels, scored, where)
    try:
        before = metric.score(ours.outputs, labels, ours.outputs)
        after = metric.score(theirs.outputs, labels, ours.outputs)
    except BadInput as refusal:
        raise BadInput(f"{where}: {refusal.message}", hint=refusal.hint) from refusal
    return Judged(
        metric=metric.name,
        reference=before,
        got=after,
        drop=metric.drop(before, after),
        examples=len(next(iter(ours.outputs.values()))),
        sqnr_db=metrics.sqnr_db(ours.outputs, theirs.outputs),
        agreement=metrics.agreement(ours.outputs, theirs.outputs) if scored else None,
        classes_seen=len(np.unique(metrics.scores(ours.outputs).argmax(-1))) if scored else None,
        layers=errors,
        runtime=ours.runtime,
    )


def verdict(judged: Judged, *, budget: float | None, synthetic: bool) -> Quality:
    """Return the quality with its verdict: passed unless the drop is beyond the budget."""
    return Quality(
        metric=judged.metric,
        reference=judged.reference,
        got=judged.got,
        drop=judged.drop,
        budget=budget,
        examples=judged.examples,
        synthetic=synthetic,
        # Metrics are sums of floats: a drop of exactly the budget must not fail by its last bit.
        passed=budget is None or judged.drop <= budget + 1e-12,
        sqnr_db=judged.sqnr_db,
        agreement=judged.agreement,
    )


def _check_finite(model: str, outputs: Outputs) -> None:
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise StageFailed(
                f"{model}: its output '{name}' holds NaN or infinity",
                hint="another recipe may keep the model whole",
            )


def classes(shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Return the number of classes when the first output, of this shape, looks like one score a class."""
    if not shapes:
        raise BadInput("the model has no outputs")
    inner = shapes[0][1:]
    flat = int(np.prod(inner))
    return flat if flat > 1 and max(inner) == flat else None
