"""Converters that run in environments of their own: a script for another Python is given orders, and answers them.

To add one: a script in this folder that imports nothing of edgeship, reads JSON lines from stdin and answers each with one
JSON line on stdout, `{"done": {…}}` or `{"refused": text}`; everything large goes through files.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeship.errors import StageFailed

HERE = Path(__file__).parent


class Refused(Exception):
    """The converter cannot do what was ordered, or ended over it; the text says why. The next order may be done."""


class Converter:
    """A converter's process, which ends with us. Use it with `with`."""

    def __init__(
        self, name: str, python: Path, script: str, *, memory_gib: float, log: Path, folder: Path | None = None
    ) -> None:
        """Prepare to start it at the first order.

        Args:
            name: what users know it by.
            python: the interpreter of its environment.
            script: a file of this folder.
            memory_gib: the data that it may allocate.
            log: gets its command line, and all that it prints.
            folder: where it works, and has what it needs for a while; None: here, and where the system has it.
        """
        self.name, self.log, self.folder = name, log, folder
        self._line = [str(python), "-I", "-B", str(HERE / script), str(memory_gib)]
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Converter:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, order: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Give an order and return the answer; a process that ended is started anew.

        Raises:
            Refused: it cannot do that, ended over it, or took too long.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(dict(order)).encode() + b"\n")
            process.stdin.flush()
            answer = self._answer(process, time.monotonic() + timeout_s)
        except (BrokenPipeError, EOFError):
            raise Refused(f"{self.name} {self._death()}") from None
        except TimeoutError:
            self._end()
            raise Refused(f"{self.name} took longer than {timeout_s:.0f} s") from None
        if "refused" in answer:
            raise Refused(str(answer["refused"]))
        done: dict[str, Any] = answer["done"]
        return done

    def _start(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            output.write(f"$ {shlex.join(self._line)}\n".encode())
            output.flush()
            try:
                self._process = subprocess.Popen(
                    self._line,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    cwd=self.folder,
                    env=_environment(self.folder),
                )
            except OSError as fault:
                raise StageFailed(
                    f"{self.name}: {self._line[0]} does not start: {fault.strerror}", log=self.log
                ) from None
        self._unread = b""
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], deadline: float) -> dict[str, Any]:
        assert process.stdout is not None
        while b"\n" not in self._unread:
            if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                raise EOFError
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _death(self) -> str:
        """Say how the process ended."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        self._end()
        return f"ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        self._process = None


def _environment(folder: Path | None) -> dict[str, str]:
    """Return its variables: ours, without those that change which modules a Python finds, or how it draws progress."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    kept |= {"TMPDIR": str(folder)} if folder else {}
    return {**kept, "PYTHONHASHSEED": "0", "TQDM_DISABLE": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
