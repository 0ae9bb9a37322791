"""Whether a device can be used: faults counted over nights, quarantine after three in a row, and the way out of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import tenacity

from edgeship import command, nightly_faults, nightly_run
from edgeship.device import Device
from edgeship.errors import DeviceFault, EdgeshipError
from edgeship.nightly_case import Tonight
from edgeship.nightly_record import HealthEvent
from edgeship.progress import StageTold
from edgeship.suite import seconds

IN_A_ROW = 3
_HOOK_TIMEOUT_S = 300.0
_OTHERS_S = 60  # for somebody who measures on it just now
Event = Literal["quarantined", "released", "power-cycled", "unhealthy"]


def in_a_row(events: Sequence[HealthEvent]) -> int:
    """Return how many faults, newest first, came since the device last worked."""
    count = 0
    for event in events:
        if event.event == "released":
            break
        count += event.event == "unhealthy"
    return count


def failed(tonight: Tonight, device: Device, error: EdgeshipError) -> bool:
    """Keep a fault of the device; return whether it is now quarantined."""
    _tell(tonight, device, "unhealthy", error.message)
    known = tonight.kept.health(device.name)
    if known.quarantined is None and in_a_row(known.events) >= IN_A_ROW:
        _tell(tonight, device, "quarantined", f"{IN_A_ROW} faults in a row, the last one: {error.message}")
        return True
    return known.quarantined is not None


def worked(tonight: Tonight, device: Device) -> None:
    """Keep that a device that had faults has measured again, so that they are not counted any more."""
    if in_a_row(tonight.kept.health(device.name).events):
        _tell(tonight, device, "released", "it measured again")


def quarantined(tonight: Tonight, device: Device) -> HealthEvent | None:
    """Return why a device is quarantined; None: it is not."""
    return tonight.kept.health(device.name).quarantined


def heal(tonight: Tonight, device: Device, *, waiting: bool = False) -> bool:
    """Power-cycle a quarantined device where the suite has a hook, check it, and release it if it is well.

    Args:
        waiting: it has been quarantined for some time, and may have been mended: it is checked before its power is cut.
    """
    error: EdgeshipError | None = None
    if not waiting or (error := _checked(tonight, device, patient=False)) is not None:
        cycled = _power_cycle(tonight, device)
        if cycled or error is None:
            error = _checked(tonight, device, patient=cycled)
    if error is None:
        _tell(tonight, device, "released", "the reference workload ran there and its outputs are right")
        return True
    if not tonight.stopping.is_set():
        _tell(tonight, device, "unhealthy", f"health check: {error.message}")
    return False


def _power_cycle(tonight: Tonight, device: Device) -> bool:
    """Call the suite's hook, which may cut a device's power; return whether it did its work."""
    if not tonight.suite.hook:
        return False
    words = [word.format(device=device.name, event="power-cycle") for word in tonight.suite.hook]
    try:
        done = command.call(
            *words, timeout_s=_HOOK_TIMEOUT_S, check=False, folder=tonight.suite.folder, stopped=tonight.stopping
        )
    except (EdgeshipError, OSError) as error:
        if tonight.stopping.is_set():
            return False
        _tell(tonight, device, "unhealthy", f"the hook {words[0]} could not be run: {error}")
        return False
    if done.exit_code:
        _tell(tonight, device, "unhealthy", f"the hook {words[0]} failed (exit {done.exit_code}): {done.complaint}")
        return False
    _tell(tonight, device, "power-cycled", " ".join(words))
    return True


def _checked(tonight: Tonight, device: Device, *, patient: bool) -> EdgeshipError | None:
    """Run the reference workload; return what went wrong. After a power-cycle the board may still be booting."""
    longest_s = min(seconds(tonight.suite.boot) if patient else 0.0, max(tonight.until - time.monotonic(), 0.0))
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, DeviceFault) and nightly_faults.again(error)),
        wait=tenacity.wait_exponential(min=1, max=15),
        stop=tenacity.stop_any(tenacity.stop_after_delay(longest_s), tenacity.stop_when_event_set(tonight.stopping)),
        reraise=True,
    )
    try:
        again(_reference, tonight, device)
    except EdgeshipError as error:
        return error
    return None


def _reference(tonight: Tonight, device: Device) -> None:
    tonight.check(device)
    given = tonight.artifacts.assignment(tonight.artifacts.reference())
    bench = nightly_run.measure(
        device, given, tonight.endings, limit_s=seconds(tonight.suite.run_limit), wait_s=_OTHERS_S,
        on_progress=tonight.listener.on_progress,
    )  # fmt: skip
    if bench.golden.failed:
        raise DeviceFault(
            f"{device.name}: the reference workload's outputs are wrong: {bench.golden.why}", fault="failed"
        )


def _tell(tonight: Tonight, device: Device, event: Event, reason: str) -> None:
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    tonight.kept.keep_health(HealthEvent(tonight.record.id, device.name, at, event, reason))
    tonight.listener.on_stage(StageTold("health", "ran", "", 0.0, f"{device.name}: {event}: {reason}"))
