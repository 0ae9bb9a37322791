"""The artifact run on this machine by the very program that boards run: what a board's answer is held against."""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import child, feed_file, resources
from edgeship.command import call
from edgeship.errors import StageFailed
from edgeship.interpret import Runner, cores
from edgeship.measurement import Feed
from edgeship.progress import OnProgress

TIMEOUT_S = 3600.0


def plain_outputs(model: Path, feed: Feed, *, log: Path) -> tuple[NDArray[Any], ...]:
    """Return the raw outputs of TFLite's plain kernels, without XNNPACK: what old runtimes compute, to the bit.

    Raises:
        StageFailed: the runtime here cannot run the file; the text ends with the log's path.
    """
    return child.run(partial(_run_plain, model=model, arrays=feed.arrays), log=log, timeout_s=TIMEOUT_S)


def _run_plain(on_progress: OnProgress, model: Path, arrays: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
    interpreter = Runner(model, kernels="without-delegates").interpreter
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    found: list[list[NDArray[Any]]] = [[] for _ in outputs]
    for example in zip(*arrays, strict=True):
        for entry, array in zip(inputs, example, strict=True):
            interpreter.set_tensor(entry["index"], array)
        interpreter.invoke()
        for kept, entry in zip(found, outputs, strict=True):
            kept.append(interpreter.get_tensor(entry["index"]))
    return tuple(np.stack(kept) for kept in found)


def outputs(model: Path, feed: Feed, *, log: Path) -> tuple[NDArray[Any], ...]:
    """Return the raw outputs, each of shape (examples, *output shape).

    Raises:
        StageFailed: the runtime here cannot run the file; the text ends with the log's path.
    """
    with tempfile.TemporaryDirectory(prefix="edgeship-") as scratch:
        given, made = Path(scratch, "feed.npz"), Path(scratch, "outputs.npz")
        given.write_bytes(feed_file.as_bytes(feed))
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
        return feed_file.outputs(made)
