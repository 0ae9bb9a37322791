"""Quality of a model's outputs: each metric a function of outputs, labels and the reference's outputs."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import BadInput, unknown

Outputs = Mapping[str, NDArray[Any]]
# 20 log10(2^24): what rounding to float32 alone leaves. A reference's own value, since its error to itself is none.
FLOAT32_SQNR_DB = 20 * math.log10(2**24)


@dataclass(frozen=True)
class Metric:
    """A way to judge: `score(outputs, labels, reference outputs)`, and whether more is better."""

    name: str
    score: Callable[[Outputs, NDArray[Any] | None, Outputs], float]
    higher_is_better: bool
    needs_labels: bool

    def drop(self, reference: float, got: float) -> float:
        """Return by how much the candidate is worse; below zero it is better."""
        return reference - got if self.higher_is_better else got - reference


def find(name: str) -> Metric:
    """Return a metric by its name, or the user's own as `package.module:function`.

    The user's function is called with the outputs (an array, or a dict by name when there are several) and the labels
    (None without) and, if it takes a third argument, the reference's outputs. It returns one number;
    more is better unless the function has an attribute `lower_is_better = True`.

    Raises:
        BadInput: no such metric, or the function cannot be imported.
    """
    if ":" in name:
        return _own(name)
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def check(metric: Metric, labels: NDArray[Any] | None, classes: int | None, where: str) -> None:
    """Refuse a metric that means nothing for a model, and labels that the metric cannot use.

    Raises:
        BadInput: the model does not classify; labels are missing, not integers, or name classes that it does not have.
    """
    if metric.name in CLASSIFYING and classes is None:
        raise BadInput(
            f"--metric {metric.name}: the model's first output is not one score a class, so a top class means nothing",
            hint="use --metric sqnr, mse or your own package.module:function",
        )
    if not metric.needs_labels:
        return
    if labels is None:
        raise BadInput(
            f"{where}: the metric {metric.name} needs 'labels'", hint="use --metric agreement, which needs none"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise BadInput(
            f"{where}: 'labels' must be one integer an example for {metric.name}; got {labels.dtype} of shape {labels.shape}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes is not None and high >= classes):
        raise BadInput(
            f"{where}: 'labels' run from {low} to {high}, but the model has {classes} classes (0 to {(classes or 0) - 1})"
        )


def scores(outputs: Outputs) -> NDArray[Any]:
    """Return the first output as (examples, classes): what top-1 is taken from."""
    first = next(iter(outputs.values()))
    return first.reshape(len(first), -1) if first.ndim != 2 else first


def sqnr_db(reference: Outputs, got: Outputs) -> float:
    """Return 10 log10(signal power / error power) over all outputs, capped at what float32 itself can tell."""
    signal = sum(float(np.sum(np.square(array, dtype=np.float64))) for array in reference.values())
    error = sum(float(np.sum(np.square(a - b.astype(np.float64)))) for a, b in _pairs(reference, got))
    if not error:
        return FLOAT32_SQNR_DB
    return min(FLOAT32_SQNR_DB, 10 * math.log10(signal / error)) if signal else -FLOAT32_SQNR_DB


def agreement(reference: Outputs, got: Outputs) -> float:
    """Return the share of examples whose top-1 class is the reference's."""
    return float(np.mean(scores(reference).argmax(-1) == scores(got).argmax(-1)))


def _pairs(reference: Outputs, got: Outputs) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Pair outputs by name, else in order; a shape that differs is a different model."""
    same = set(reference) == set(got)
    pairs = [(a, got[name] if same else b) for (name, a), b in zip(reference.items(), got.values(), strict=False)]
    if len(reference) != len(got) or any(a.shape != b.shape for a, b in pairs):
        told = [", ".join(f"{name} {array.shape[1:]}" for name, array in side.items()) for side in (reference, got)]
        raise BadInput(f"the two models have different outputs: {told[0]} against {told[1]}")
    return [(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)) for a, b in pairs]


def _top1(outputs: Outputs, labels: NDArray[Any] | None, reference: Outputs) -> float:
    assert labels is not None
    return float(np.mean(scores(outputs).argmax(-1) == labels))


def _mse(outputs: Outputs, labels: NDArray[Any] | None, reference: Outputs) -> float:
    """Against float targets where the data has them, else against the reference's outputs."""
    if labels is not None and labels.dtype.kind == "f":
        first = next(iter(outputs.values()))
        if first.size != labels.size:
            raise BadInput(f"'labels' have shape {labels.shape}; the model's output is {first.shape}")
        return float(np.mean(np.square(first.reshape(labels.shape).astype(np.float64) - labels)))
    pairs = _pairs(reference, outputs)
    return float(sum(np.sum(np.square(a - b)) for a, b in pairs) / sum(a.size for a, _ in pairs))


def _auc(outputs: Outputs, labels: NDArray[Any] | None, reference: Outputs) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney, ties halved): the last class's score against labels 0 and 1,
    the mean over one-against-rest with more classes."""
    assert labels is not None
    table = scores(outputs)
    classes = [1] if table.shape[1] <= 2 else range(table.shape[1])
    areas = [_area(table[:, min(kind, table.shape[1] - 1)], labels == kind) for kind in classes]
    known = [area for area in areas if area is not None]
    if not known:
        raise BadInput("auc needs examples of at least two classes among 'labels'")
    return float(np.mean(known))


def _area(score: NDArray[Any], positive: NDArray[np.bool_]) -> float | None:
    hits, misses = int(positive.sum()), int((~positive).sum())
    if not hits or not misses:
        return None
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


SHARES = frozenset({"agreement", "auc", "top1"})
CLASSIFYING = frozenset({"agreement", "top1"})
METRICS: dict[str, Metric] = {
    "agreement": Metric("agreement", lambda out, labels, ref: agreement(ref, out), True, False),
    "auc": Metric("auc", _auc, True, True),
    "mse": Metric("mse", _mse, False, False),
    "sqnr": Metric("sqnr", lambda out, labels, ref: sqnr_db(ref, out), True, False),
    "top1": Metric("top1", _top1, True, True),
}


def _own(name: str) -> Metric:
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # the user named the module: it may stand where they work
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        parameters = inspect.signature(function).parameters
    except Exception as error:  # the user's own code: whatever it raises is theirs to see
        hint = "write package.module:function, importable from here"
        raise BadInput(f"--metric {name}: {type(error).__name__}: {error}", hint=hint) from error
    takes_reference = len(parameters) > 2

    def score(outputs: Outputs, labels: NDArray[Any] | None, reference: Outputs) -> float:
        arguments = (_bare(outputs), labels, _bare(reference)) if takes_reference else (_bare(outputs), labels)
        try:
            value = function(*arguments)
        except Exception as error:  # as above
            raise BadInput(f"--metric {name}: raised {type(error).__name__}: {error}") from error
        if not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
            raise BadInput(f"--metric {name}: returned {value!r}; expected one finite number")
        return float(value)

    return Metric(name, score, not getattr(function, "lower_is_better", False), needs_labels=False)


def _bare(outputs: Outputs) -> Any:
    return next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)
