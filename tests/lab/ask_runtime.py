"""Ask a TFLite runtime, of any release and Python from 3.8 on: which of these files does it load, and what does it compute?

`python ask_runtime.py run|load FOLDER [--plain]`: every `<name>.tflite` there is loaded, with `run` also run on seeded inputs; `<name>.npz`
gets the outputs, and stdout one JSON object from each name to null or what was wrong.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
except ImportError:
    from tflite_runtime.interpreter import Interpreter, OpResolverType

EXAMPLES = 4
PLAIN = "--plain" in sys.argv  # no XNNPACK


def main() -> None:
    """Answer for every file; each is tried in a process of its own, since some end it."""
    action, folder = sys.argv[1], Path(sys.argv[2])
    answers = {}
    for path in sorted(folder.glob("*.tflite")):
        answers[path.stem] = _load(path) if action == "load" else _apart(path)
    sys.stdout.write(json.dumps(answers))


def _load(path: Path) -> str | None:
    try:
        Interpreter(model_content=path.read_bytes())
    except Exception as error:  # noqa: BLE001
        return str(error)
    return None


def _apart(path: Path) -> str | None:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _run(path)
            told = "null"
        except Exception as error:  # noqa: BLE001
            told = json.dumps(f"{type(error).__name__}: {error}"[:1000])
        os.write(theirs, told.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as answers:
        said = answers.read()
    _, status = os.waitpid(child, 0)
    answer: str | None = json.loads(said) if said else f"died with status {status}"
    return answer


def _run(path: Path) -> None:
    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if PLAIN else OpResolverType.AUTO
    runner = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=kind)
    runner.allocate_tensors()
    found = []
    for number in range(EXAMPLES):
        random = np.random.RandomState(number)
        for place in runner.get_input_details():
            runner.set_tensor(place["index"], _input(random, place))
        runner.invoke()
        found.append([_output(runner.get_tensor(place["index"]), place) for place in runner.get_output_details()])
    np.savez(str(path.with_suffix(".npz")), *[np.concatenate(parts) for parts in zip(*found)])  # noqa: B905


def _output(stored: Any, place: dict[str, Any]) -> Any:
    """Return real values, flat."""
    scale, zero_point = place["quantization"]
    return (stored.astype(np.float64).ravel() - zero_point) * (scale or 1.0)


def _input(random: np.random.RandomState, place: dict[str, Any]) -> Any:
    """Return real values between 0.05 and 1.5, as the input stores them."""
    kind, shape = place["dtype"], place["shape"]
    scale, zero_point = place["quantization"]
    if kind == np.bool_:
        return random.randint(0, 2, shape).astype(kind)
    if scale:
        stored = np.round(random.uniform(0.05, 1.5, shape) / scale + zero_point)
        return np.clip(stored, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
    if kind == np.float32:
        return random.uniform(0.05, 1.5, shape).astype(kind)
    return random.randint(0, 8, shape).astype(kind)


main()
