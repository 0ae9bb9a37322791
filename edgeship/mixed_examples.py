"""Examples of several files as one set, for calibration and fine-tuning on a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import digest
from edgeship.errors import BadInput
from edgeship.examples import Examples


def joined(parts: Sequence[Examples]) -> Examples | None:
    """Return the examples of several files as one set, None for none; groups of different files stay apart.

    Where only some files have labels none has: the original model teaches without.

    Raises:
        BadInput: the files hold other arrays, shapes or kinds of values; the text names the first that differs.
    """
    if len(parts) < 2:
        return parts[0] if parts else None
    first = parts[0]
    for other in parts[1:]:
        if set(other.inputs) != set(first.inputs):
            ours, theirs = (", ".join(sorted(part.inputs)) for part in (first, other))
            raise BadInput(
                f"{other.origin}: holds the arrays {theirs}; {first.origin} holds {ours}",
                hint="name them alike: after the model's inputs, or `inputs` where there is only one",
            )
        for name, array in first.inputs.items():
            found = other.inputs[name]
            if found.shape[1:] != array.shape[1:] or found.dtype.kind != array.dtype.kind:
                raise BadInput(
                    f"{other.origin}: '{name}' has {found.dtype} examples of shape {found.shape[1:]}; "
                    f"{first.origin} has {array.dtype} ones of {array.shape[1:]}",
                    hint="examples that are mixed are prepared alike: store them alike",
                )
    return Examples(
        inputs={name: np.concatenate([part.inputs[name] for part in parts]) for name in first.inputs},
        labels=_joined_labels(parts),
        groups=_joined_groups(parts),
        origin=" and ".join(part.origin for part in parts),
        sha256=digest.of_value([part.sha256 for part in parts]),
    )


def _joined_labels(parts: Sequence[Examples]) -> NDArray[Any] | None:
    labels = [part.labels for part in parts if part.labels is not None]
    if len(labels) < len(parts):
        return None
    for part, found in zip(parts, labels, strict=True):
        if found.shape[1:] != labels[0].shape[1:] or found.dtype.kind != labels[0].dtype.kind:
            raise BadInput(
                f"{part.origin}: 'labels' are {found.dtype} of shape {found.shape[1:]}; "
                f"{parts[0].origin} has {labels[0].dtype} of {labels[0].shape[1:]}"
            )
    return np.concatenate(labels)


def _joined_groups(parts: Sequence[Examples]) -> NDArray[Any] | None:
    """Return group numbers that no two files share; an example of a file without groups is one of its own."""
    if all(part.groups is None for part in parts):
        return None
    numbered, following = [], 0
    for part in parts:
        given = np.arange(part.count) if part.groups is None else part.groups
        own = np.unique(given, return_inverse=True)[1].reshape(-1)
        numbered.append(own + following)
        following += int(own.max()) + 1
    return np.concatenate(numbered)
