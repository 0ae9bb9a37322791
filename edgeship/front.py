"""Between the command line and the rest: global options, the door by which refusals leave, progress on stderr."""

from __future__ import annotations

import contextlib
import json as json_text
import os
import sys
import traceback as traceback_text
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeship.progress import Listener
    from edgeship.report.terminal import Terminal

_GLOBAL = {"--json", "--quiet", "-q", "--verbose", "-v", "--traceback", "--version"}
_BUG = "this is a bug in edgeship, not in what you gave it; please report it with the traceback above"
INTERRUPTED = 130
LARGEST = 3e38  # what float32, in which models eat, can hold


def globals_first(args: list[str]) -> list[str]:
    """Return the arguments with the global flags in front, so that they may stand behind a command too."""
    end = args.index("--") if "--" in args else len(args)
    flags = [arg for arg in args[:end] if arg in _GLOBAL]
    return flags + [arg for arg in args[:end] if arg not in _GLOBAL] + args[end:]


def guarded(run: Callable[[], Any], *, json: bool, traceback: bool) -> int:
    """Return the exit code of a command, having told of every refusal in one way."""
    from edgeship.errors import EdgeshipError

    try:
        code = run()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except EdgeshipError as refusal:
        if traceback:
            traceback_text.print_exc()
        log = str(refusal.log) if refusal.log else None
        fault = getattr(refusal, "fault", None)
        return _refuse(refusal.exit_code, refusal.message, refusal.hint, log, json=json, fault=fault)
    except _usage_error() as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context else "edgeship --help"
        message = error.format_message()
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
            if not json:
                sys.stderr.write(f"{message}\n")
                return 2
            message = "Missing command."
        return _refuse(2, message, hint, None, json=json)
    except (KeyboardInterrupt, _abort()):
        return _refuse(INTERRUPTED, "stopped", None, None, json=json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has gone: nothing to say
        return 1
    except Exception as bug:  # noqa: BLE001  # the last door: a crash is told as ours, whole
        traceback_text.print_exc()
        return _refuse(1, f"{type(bug).__name__}: {bug}", _BUG, None, json=json)


def _usage_error() -> type[Any]:
    """Return the parser's own error, whichever parser typer was built on."""
    from typer import BadParameter

    return next(kind for kind in reversed(BadParameter.__mro__) if hasattr(kind, "format_message"))


def _abort() -> type[BaseException]:
    from typer import Abort

    return Abort


def _refuse(code: int, message: str, hint: str | None, log: str | None, *, json: bool, fault: str | None = None) -> int:
    if json:
        error = {"exit": code, "message": message, "hint": hint, "log": log, **({"fault": fault} if fault else {})}
        sys.stdout.write(json_text.dumps({"error": error}) + "\n")
        return code
    from edgeship.report.terminal import stderr

    screen = stderr()
    screen.print("[bold red]error:[/] ", end="")
    screen.print(message, markup=False, highlight=False, soft_wrap=True)
    if hint:
        screen.print(f"  {hint}", markup=False, highlight=False, soft_wrap=True, style="dim")
    return code


@dataclass(frozen=True)
class Front:
    """How the user wants to be told: the global options of one command line."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def show(self, table: Mapping[str, Any], draw: Callable[[Terminal], None]) -> None:
        """Print the result: one JSON object, or for people."""
        if self.json:
            sys.stdout.write(json_text.dumps(table, allow_nan=False, default=str) + "\n")
            return
        from edgeship.report.terminal import Terminal

        draw(Terminal())

    @contextlib.contextmanager
    def listening(self) -> Iterator[Listener]:
        """Give the callbacks of a long command: a progress bar and a line a stage, all on stderr."""
        from edgeship.report.live import live

        with live(quiet=self.quiet, verbose=self.verbose) as listener:
            yield listener


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Return the numbers in `0.1` or `0.1,0.2,0.3`."""
    import math

    from edgeship.errors import BadInput

    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(math.isfinite(value) and abs(value) < LARGEST for value in found):
        raise BadInput(f"{option} {text}: expected a number, or one per channel with commas between: 0.5,0.5,0.5")
    return found


def folder(option: str, text: str | None) -> Path | None:
    """Return the folder named; an empty name (an unset variable in a script) is none."""
    from edgeship.errors import BadInput

    if text is not None and not text.strip():
        raise BadInput(f"{option}: the folder's name is empty")
    return None if text is None else Path(text)


def not_negative(option: str, value: float | None) -> float | None:
    """Return the number if it is finite and not below zero."""
    import math

    from edgeship.errors import BadInput

    if value is not None and not 0 <= value < math.inf:
        raise BadInput(f"{option} {value}: expected a number from 0 up")
    return value


def shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """Return input name → shape from `input:1,224,224,3`."""
    from edgeship.errors import BadInput

    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition(":")
        parts = sizes.split(",")
        if not name or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            raise BadInput(f"--shape {text}: expected the input's name and its sizes: input:1,224,224,3")
        found[name] = tuple(int(part) for part in parts)
    return found
