"""The artifact run on this machine by the very program that boards run: what a board's answer is held against."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import resources
from edgeship.command import call
from edgeship.errors import StageFailed
from edgeship.interpret import cores
from edgeship.measurement import Feed

TIMEOUT_S = 3600.0


def outputs(model: Path, feed: Feed, *, log: Path) -> tuple[NDArray[Any], ...]:
    """Return the raw outputs, each of shape (examples, *output shape).

    Raises:
        StageFailed: the runtime here cannot run the file; the text ends with the log's path.
    """
    with tempfile.TemporaryDirectory(prefix="edgeship-") as scratch:
        given, made = Path(scratch, "feed.npz"), Path(scratch, "outputs.npz")
        arrays: dict[str, NDArray[Any]] = {f"input:{index}": array for index, array in enumerate(feed.arrays)}
        np.savez(given, **arrays)  # type: ignore[arg-type]  # its stub takes `allow_pickle` for one of ours
        order = {
            "action": "outputs", "model": str(model.resolve()), "threads": cores(), "cpus": [], "batch": 1,
            "feed": str(given), "outputs": str(made), "sys": "/sys", "proc": "/proc",
        }  # fmt: skip
        program = resources.board("runner.py")
        done = call(
            sys.executable, program, stdin=json.dumps(order).encode(), timeout_s=TIMEOUT_S, log=log, check=False
        )
        if done.exit_code != 0 or not made.is_file():
            said = [json.loads(line) for line in done.output.splitlines() if line.startswith('{"event": "error"')]
            why = said[-1]["message"] if said else done.complaint
            raise StageFailed(f"{model}: the runtime on this machine cannot run it: {why}; full log: {log}", log=log)
        with np.load(made, allow_pickle=False) as content:
            return tuple(content[f"output:{index}"] for index in range(len(content.files)))
