"""Which device does what next: a queue of tasks that devices take from, and that faults put back for later or elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from edgeship.device import Device
from edgeship.nightly_plan import Artifact, Task


@dataclass
class Job:
    """A task on its way: whose turn it is (the first device), since when it may run, and how often it failed there.

    Attributes:
        settled: has a history on its first device, so that no other takes it only because it is free.
        busy_since: since when somebody else has had the device; None: nobody has. `busy` says who, in words.
    """

    artifact: Artifact
    devices: tuple[Device, ...]
    settled: bool = True
    not_before: float = 0.0
    tries: int = 0
    busy_since: float | None = None
    busy: str = ""

    @property
    def device(self) -> Device:
        """Return the device whose turn it is."""
        return self.devices[0]


class Queue:
    """Tasks that wait. Devices take them from threads of their own; times are of `time.monotonic`."""

    def __init__(self, tasks: Iterable[Task], settled: frozenset[str] = frozenset()) -> None:
        """Take the tasks; `settled` are the names of cases that have a history."""
        self._waiting = [
            Job(task.artifact, task.devices, len(task.devices) == 1 or task.case.name in settled) for task in tasks
        ]
        self._running = 0
        self._news = threading.Condition()
        self._stopped = False

    def take(self, device: Device, *, until: float) -> Job | None:
        """Return the next job for a device, having waited for it; None: none will come, it was stopped, or it is too late."""
        with self._news:
            while not self._stopped:
                now = time.monotonic()
                if now >= until:
                    return None
                mine = [job for job in self._waiting if self._may(job, device)]
                ready = [job for job in mine if job.not_before <= now]
                if ready:
                    job = min(ready, key=lambda one: one.device.name != device.name)
                    self._waiting.remove(job)
                    job.devices = (device, *(one for one in job.devices if one.name != device.name))
                    self._running += 1
                    return job
                if not mine and not self._may_come(device):
                    return None
                wake = min((job.not_before for job in mine), default=until)
                self._news.wait(max(min(wake, until) - now, 0.01))
            return None

    def done(self, job: Job) -> None:
        """Say that a job came to its end."""
        with self._news:
            self._running -= 1
            self._news.notify_all()

    def later(self, job: Job, after_s: float) -> None:
        """Put a job back, for no earlier than so many seconds from now."""
        with self._news:
            job.not_before = time.monotonic() + after_s
            self._back(job)

    def elsewhere(self, job: Job) -> bool:
        """Put a job back for its other devices; return False, and keep it, where there is none."""
        with self._news:
            if len(job.devices) == 1:
                return False
            job.devices, job.tries, job.not_before = job.devices[1:], 0, 0.0
            job.busy_since, job.busy = None, ""
            job.settled = False
            self._back(job)
            return True

    def stop(self) -> None:
        """Hand out nothing from now on."""
        with self._news:
            self._stopped = True
            self._news.notify_all()

    @property
    def stopped(self) -> bool:
        """Say whether it was stopped."""
        return self._stopped

    def left(self) -> tuple[Job, ...]:
        """Return what still waits."""
        with self._news:
            return tuple(self._waiting)

    def _back(self, job: Job) -> None:
        self._running -= 1
        self._waiting.append(job)
        self._news.notify_all()

    @staticmethod
    def _may(job: Job, device: Device) -> bool:
        if job.device.name == device.name:
            return True
        return not job.settled and any(one.name == device.name for one in job.devices)

    def _may_come(self, device: Device) -> bool:
        """Say whether a job that runs elsewhere, or waits for another device, may yet be this device's."""
        return self._running > 0 or any(
            any(one.name == device.name for one in job.devices) for job in self._waiting
        )  # fmt: skip
