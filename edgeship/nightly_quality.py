"""Which metric an artifact's quality is of, and which way is worse: figures of two metrics are never held together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeship import metrics
from edgeship.errors import BadInput
from edgeship.history import CaseNight, History
from edgeship.nightly_record import Case


@dataclass(frozen=True)
class Judged:
    """What a build was judged by; `metric` is None where its manifest does not tell."""

    metric: str | None = None
    higher_is_better: bool = True


def name(manifest: Mapping[str, Any] | None) -> str | None:
    """Return the metric that a manifest names; nothing is imported for it."""
    said = (manifest or {}).get("quality")
    told = said.get("metric") if isinstance(said, Mapping) else None
    return told if isinstance(told, str) else None


def judged(manifest: Mapping[str, Any] | None) -> Judged:
    """Return what tonight's build was judged by. Of a metric that cannot be imported its figures tell which way is worse."""
    metric = name(manifest)
    if manifest is None or metric is None:
        return Judged()
    try:
        return Judged(metric, metrics.find(metric).higher_is_better)
    except BadInput:
        said = manifest["quality"]
        drop, more = said.get("drop") or 0.0, (said.get("got") or 0.0) - (said.get("reference") or 0.0)
        return Judged(metric, drop * more <= 0)


def on_device(manifest: Mapping[str, Any] | None) -> str | None:
    """Return by what a device is judged: as the build was. By labels only where the data for the device have them: None."""
    metric = name(manifest)
    try:
        return None if metric is None or metrics.find(metric).needs_labels else metric
    except BadInput:
        return None


def of_metric(kept: History, case: Case, nights: Iterable[CaseNight], metric: str | None) -> list[CaseNight]:
    """Return the nights whose quality is of a metric; where only the old artifact was judged by another, it is left out."""
    points = kept.points(case, "quality")
    manifests = kept.manifests(point.manifest_sha256 for point in points)
    names = {sha: name(manifest) for sha, manifest in manifests.items()}
    foreign = {
        (point.night, point.role) for point in points
        if point.manifest_sha256 is not None and names.get(point.manifest_sha256) not in (None, metric)
    }  # fmt: skip
    return [
        replace(each, figures=replace(each.figures, old=(), baseline=None)) if (each.night, "old") in foreign else each
        for each in nights
        if (each.night, "new") not in foreign
    ]
