"""Calls a function of the user's and exports the PyTorch model that it returns. It imports nothing of edgeship.

It runs in whatever Python has torch. One order comes as a JSON line on stdin, and is answered with one line on stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

GIB = 1024**3


def main() -> None:
    """Carry out the orders."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _limit_memory(float(sys.argv[1]))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"done": export(**json.loads(line))}
        except MemoryError:
            answer = {"refused": "it ran out of memory"}
        except (Exception, SystemExit) as fault:  # noqa: BLE001  # the user's code may raise anything
            traceback.print_exc()
            answer = {"refused": _told(fault, json.loads(line)["file"])}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def export(module: str, function: str, file: str, root: str, out: str) -> dict[str, Any]:
    """Write what a function returns, a model and its example inputs, as an exported program."""
    sys.path.insert(0, root)
    import torch

    found = importlib.import_module(module)
    if Path(found.__file__ or "").resolve() != Path(file).resolve():
        raise ImportError(f"the name {module} stands for another module here: {found.__file__}")
    make = getattr(found, function, None)
    if not callable(make):
        names = sorted(name for name, value in vars(found).items() if callable(value) and not name.startswith("_"))
        raise AttributeError(f"{module} has no function '{function}'; it has {', '.join(names) or 'none'}")
    returned = make()
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], torch.nn.Module)):
        raise TypeError(f"it returned {_kind(returned)}, not (model, example inputs)")
    model, given = returned
    positional, named = _arguments(given, torch)
    with torch.no_grad():
        program = torch.export.export(model.eval().cpu(), positional, named)
    torch.export.save(program, out)
    return {"torch": torch.__version__}


def _arguments(given: Any, torch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(given, torch.Tensor):
        return (given.cpu(),), {}
    if isinstance(given, dict):
        return (), given
    if isinstance(given, list | tuple):
        return tuple(given), {}
    raise TypeError(f"its example inputs are {_kind(given)}; a tensor, a tuple or a dictionary by name is expected")


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(_kind(entry) for entry in value[:4]) + ")"
    return type(value).__qualname__


def _told(fault: BaseException, file: str) -> str:
    """Return what went wrong in one line, with the last line of the user's own file that it went through."""
    frames = [
        frame
        for frame in traceback.extract_tb(fault.__traceback__)
        if Path(frame.filename).resolve() == Path(file).resolve()
    ]
    where = f" (line {frames[-1].lineno})" if frames else ""
    text = (str(fault).strip().splitlines() or [""])[0]
    return f"{type(fault).__name__}{where}: {text}"[:1000]


def _end_with_parent(parent: int) -> None:
    """End when whoever started us is gone, even in the middle of an order."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(0.5)
    os._exit(1)


def _limit_memory(memory_gib: float) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limit = int(memory_gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main()
