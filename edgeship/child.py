"""Work in a Python process of its own: what may abort, leak, print noise or hold gigabytes does it there.

TFLite's runtime ends the process on some damaged files, and TensorFlow prints on stdout and costs 600 MB: neither
may happen to the process that holds the user's build. A child ends by itself when its parent is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, TypeVar

from edgeship.errors import EdgeshipError, StageFailed
from edgeship.progress import OnProgress, Progress, silent

R = TypeVar("R")
GIB = 1024**3
_ENTRY = "from edgeship.child import main; main()"
# Less noise, and the same numbers on every machine that runs the same wheels.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}


class ChildCrashed(StageFailed):
    """The process ended without an answer: a signal, an abort, a limit on memory or time."""


def run(
    work: Callable[[OnProgress], R],
    *,
    log: Path,
    on_progress: OnProgress = silent,
    timeout_s: float | None = None,
    memory_gib: float | None = None,
    environment: dict[str, str] | None = None,
) -> R:
    """Return what `work` returns, having run it in a fresh process.

    Args:
        work: a module-level function, or a `functools.partial` of one; it is called with a progress callback.
        log: the file that takes everything the process prints.
        timeout_s: seconds after which the process is killed.
        memory_gib: the data that the process may allocate, in GiB (Linux).
        environment: variables set for the process only.

    Raises:
        EdgeshipError: as the work raised it.
        ChildCrashed: the process died, hung or ran out of memory; the text ends with the log's path.
        StageFailed: the work raised anything else; the traceback is in the log.
    """
    answers, child_end = multiprocessing.Pipe(duplex=False)
    log.parent.mkdir(parents=True, exist_ok=True)
    with answers, log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _ENTRY, str(child_end.fileno())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[child_end.fileno()],
            env=_environment(environment or {}),
        )
        child_end.close()
        try:
            _send(process, pickle.dumps((work, memory_gib)))
            answer: R = _listen(process, answers, on_progress, timeout_s, log)
            return answer
        finally:
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()


def _environment(extra: dict[str, str]) -> dict[str, str]:
    """Return the child's variables: ours, the noise turned off, and edgeship importable from where it runs now."""
    here = str(Path(__file__).parent.parent)
    path = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(path), **extra}


def _send(process: subprocess.Popen[bytes], order: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(len(order).to_bytes(8, "big") + order)
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it died at once; listening says how


def _listen(
    process: subprocess.Popen[bytes],
    answers: Connection[Any, Any],
    on_progress: OnProgress,
    timeout_s: float | None,
    log: Path,
) -> Any:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not answers.poll(left):
            raise ChildCrashed(f"stopped after {timeout_s:.0f} s without an answer; full log: {log}", log=log)
        try:
            kind, value = answers.recv()
        except (EOFError, OSError):  # OSError: it died in the middle of an answer
            raise ChildCrashed(f"{_death(process)}; full log: {log}", log=log) from None
        if kind == "progress":
            on_progress(value)
        elif kind == "result":
            return value
        elif kind == "refused":
            raise value
        elif kind == "memory":
            raise ChildCrashed(f"ran out of memory; full log: {log}", log=log)
        else:
            raise StageFailed(f"{value}; full log: {log}", log=log)


def _death(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    if code < 0:
        return f"the process ended by {signal.Signals(-code).name}"
    return f"the process ended with exit code {code}"


def main() -> None:
    """Do one piece of work: the order comes on stdin, the answer goes to the pipe named on the command line."""
    answers: Connection[Any, Any] = Connection(int(sys.argv[1]), readable=False)
    order = sys.stdin.buffer
    work, memory_gib = pickle.loads(order.read(int.from_bytes(order.read(8), "big")))
    threading.Thread(target=_end_with_parent, args=(order,), daemon=True).start()
    if memory_gib is not None:
        _limit_memory(memory_gib)
    try:
        answer: tuple[str, object] = ("result", work(lambda step: _tell(answers, step)))
    except EdgeshipError as refusal:
        answer = ("refused", refusal)
    except MemoryError:
        traceback.print_exc()
        answer = ("memory", None)
    except Exception as fault:  # noqa: BLE001  # a boundary between processes: the parent names it, the log has it all
        traceback.print_exc()
        first_line = (str(fault).strip().splitlines() or [""])[0]
        answer = ("failed", f"{type(fault).__name__}: {first_line[:300]}")
    answers.send(answer)
    answers.close()
    sys.stdout.flush()
    os._exit(0)  # TensorFlow's own threads may take seconds to end, and have nothing left to say


def _tell(answers: Connection[Any, Any], step: Progress) -> None:
    answers.send(("progress", step))


def _end_with_parent(order: IO[bytes]) -> None:
    order.read()  # returns when the parent's end closes, however the parent ended
    os._exit(1)


def _limit_memory(memory_gib: float) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limit = int(memory_gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
