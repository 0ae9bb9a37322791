"""The form in which the board's runner is fed, and hands outputs back: npz with `input:<index>` and `output:<index>`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgeship.measurement import Feed


def as_bytes(feed: Feed) -> bytes:
    """Return a feed as the file that the runner reads."""
    content = io.BytesIO()
    arrays: dict[str, NDArray[Any]] = {f"input:{index}": array for index, array in enumerate(feed.arrays)}
    np.savez(content, **arrays)  # type: ignore[arg-type]  # its stub takes the keyword `allow_pickle` for one of ours
    return content.getvalue()


def outputs(made: Path | IO[bytes]) -> tuple[NDArray[Any], ...]:
    """Return the raw outputs, each of shape (examples, *output shape), from the file that the runner wrote."""
    with np.load(made, allow_pickle=False) as arrays:
        return tuple(arrays[f"output:{index}"] for index in range(len(arrays.files)))
