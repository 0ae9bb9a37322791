"""One run of one artifact on one device, limited in time; and waiting until a board that was too hot has cooled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from edgeship import attempt, target
from edgeship.attempt import Assignment, Ending
from edgeship.device import Device
from edgeship.errors import DeviceFault
from edgeship.measurement import BenchRecord
from edgeship.progress import OnProgress, Progress

COOL_C = 60.0  # well below where boards lower their clocks
SETTLED_C = 0.5  # a board that cools by less in a minute has come to its rest
LOOK_EVERY_S = 20.0
_TEMPERATURES = "cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null; true"
_OTHERS = ("the load was", "the times were not steady")  # as `trust` begins these reasons
_WARM = ("temperature", "thrott", "hot", "thermal", "°C", "clock capped", "under-voltage")


class Endings:
    """The runs that are under way, by device, so that one or all of them can be ended at once."""

    def __init__(self) -> None:
        self._open: dict[Ending, str] = {}
        self._lock = threading.Lock()
        self.ended = False

    @contextmanager
    def one(self, device: str) -> Iterator[Ending]:
        """Give a run's own; it is ended at once when all were ended before."""
        ending = Ending()
        with self._lock:
            self._open[ending] = device
            ended = self.ended
        if ended:
            ending.end()
        try:
            yield ending
        finally:
            with self._lock:
                self._open.pop(ending, None)

    def end(self, device: str | None = None) -> None:
        """End the runs of a device; without one, of all, and none begins from now on."""
        with self._lock:
            self.ended = self.ended or device is None
            endings = [ending for ending, name in self._open.items() if device in (None, name)]
        for ending in endings:
            ending.end()


def measure(
    device: Device, given: Assignment, endings: Endings, *, limit_s: float, wait_s: int = 0, on_progress: OnProgress
) -> BenchRecord:  # fmt: skip
    """Return what a board brought back.

    Raises:
        DeviceFault: as a bench; `timeout` when it took longer than it may.
        BadInput: the board's runtime cannot run the artifact.
    """
    with endings.one(device.name) as ending:
        over = threading.Event()

        def end() -> None:
            over.set()
            ending.end()

        timer = threading.Timer(limit_s, end)
        timer.daemon = True
        timer.start()
        try:
            if ending.ended:
                raise DeviceFault(f"{device.name}: the night was stopped", fault="lost")
            return attempt.bench(device, replace(given, ending=ending, wait_s=wait_s), on_progress)
        except DeviceFault as fault:
            if not over.is_set():
                raise
            raise DeviceFault(
                f"{device.name}: the run took longer than {limit_s:g} s and was ended",
                fault="timeout",
                hint="run_limit in the suite; `edgeship bench` on the same device shows what takes so long",
            ) from fault
        finally:
            timer.cancel()


def tolerated(bench: BenchRecord) -> BenchRecord:
    """Return a run on a machine that is shared: what others did to it is a doubt, and no reason against the run."""
    left = tuple(reason for reason in bench.reasons if not reason.startswith(_OTHERS))
    moved = tuple(f"{reason}; the suite lets it count" for reason in bench.reasons if reason not in left)
    return replace(bench, valid=not left, reasons=left, doubts=(*bench.doubts, *moved)) if moved else bench


def warm(bench: BenchRecord) -> bool:
    """Say whether the conditions broke because the board was hot."""
    return any(word in reason for reason in bench.reasons for word in _WARM)


def cool_down(
    device: Device, *, longest_s: float, stopped: Callable[[float], bool], on_progress: OnProgress
) -> str:  # fmt: skip
    """Wait until a board is below 60 °C or cools no further; return in words how that went.

    Args:
        stopped: waits so many seconds, and says whether to give up.
    """
    began, before = time.monotonic(), None
    while (spent := time.monotonic() - began) < longest_s:
        now = hottest_c(device)
        if now is None:
            stopped(min(LOOK_EVERY_S * 3, longest_s - spent))
            return "it tells no temperature: waited a minute"
        if now <= COOL_C:
            return f"cooled to {now:.0f} °C in {spent:.0f} s"
        if before is not None and before - now < SETTLED_C * LOOK_EVERY_S / 60:
            return f"it cools no further than {now:.0f} °C ({spent:.0f} s)"
        before = now
        on_progress(Progress(f"{device.name}: cooling", int(spent), int(longest_s), f"{now:.0f} °C"))
        if stopped(min(LOOK_EVERY_S, longest_s - spent)):
            break
    return f"still hot after {time.monotonic() - began:.0f} s"


def hottest_c(device: Device) -> float | None:
    """Return the greatest temperature that a board's sensors tell now; None where it tells none or cannot be asked."""
    try:
        with attempt.leased(device, target.read(device.target)) as (session, _):
            said = session.run(_TEMPERATURES, timeout_s=30).text.split()
    except DeviceFault:
        return None
    found = [int(word) / 1000 for word in said if word.lstrip("-").isdigit()]
    likely = [one for one in found if 0 < one < 150]
    return max(likely, default=None)
