"""Which device does what next, also where several take at the same time."""

from __future__ import annotations

import threading
import time

from edgeship.device import Device
from edgeship.nightly_plan import Artifact, Task
from edgeship.nightly_queue import Queue
from edgeship.plan import Order

A, B, C = (Device(name=name, target="rpi4", transport="ssh", address=name) for name in "abc")


def task(model: str, *devices: Device) -> Task:
    """Return a task."""
    return Task(Artifact(model, "rpi4", "int8", Order(model=model, target="rpi4")), devices)


def soon() -> float:
    """Return a moment from which on nothing is waited for."""
    return time.monotonic() + 5


def test_a_device_gets_its_own_tasks_in_order() -> None:
    """And then nothing more."""
    queue = Queue([task("one", A), task("two", B), task("three", A)])
    taken = []
    while (job := queue.take(A, until=soon())) is not None:
        taken.append(job.artifact.model)
        queue.done(job)
        if len(taken) == 2:
            other = queue.take(B, until=soon())
            assert other is not None
            queue.done(other)
    assert taken == ["one", "three"]


def test_a_free_device_takes_from_a_pool_what_has_no_history() -> None:
    """What has one stays with the device that measured it."""
    queue = Queue([task("old", A, B), task("new", A, B)], frozenset({"old/rpi4/int8@a"}))
    job = queue.take(B, until=soon())
    assert job is not None and job.artifact.model == "new" and [one.name for one in job.devices] == ["b", "a"]
    first = queue.take(A, until=soon())
    assert first is not None and first.artifact.model == "old"


def test_what_is_put_back_comes_later_and_others_go_first() -> None:
    """A device that waits for one task does the next meanwhile."""
    queue = Queue([task("one", A), task("two", A)])
    job = queue.take(A, until=soon())
    assert job is not None
    queue.later(job, 0.3)
    began = time.monotonic()
    second = queue.take(A, until=soon())
    assert second is not None and second.artifact.model == "two"
    queue.done(second)
    again = queue.take(A, until=soon())
    assert again is job and time.monotonic() - began >= 0.25


def test_elsewhere_is_another_device_or_nowhere() -> None:
    """The tries begin anew there."""
    queue = Queue([task("one", A, B)])
    job = queue.take(A, until=soon())
    assert job is not None
    job.tries = 2
    assert queue.elsewhere(job)
    moved = queue.take(B, until=soon())
    assert moved is job and moved.tries == 0
    assert not queue.elsewhere(moved)
    queue.done(moved)
    assert queue.take(A, until=soon()) is None and queue.left() == ()


def test_an_idle_device_waits_for_what_may_yet_be_its_own() -> None:
    """While another works on a task of its pool."""
    queue = Queue([task("one", A, B)], frozenset({"one/rpi4/int8@a"}))
    job = queue.take(A, until=soon())
    assert job is not None
    found = []
    waiting = threading.Thread(target=lambda: found.append(queue.take(B, until=soon())))
    waiting.start()
    time.sleep(0.1)
    assert waiting.is_alive()
    queue.elsewhere(job)
    waiting.join(5)
    assert found == [job]


def test_a_stop_and_the_end_of_the_time_free_all_who_wait() -> None:
    """What waited is still there."""
    queue = Queue([task("one", A), task("two", B)])
    job = queue.take(A, until=soon())
    assert job is not None
    queue.later(job, 60)
    assert queue.take(A, until=time.monotonic() + 0.1) is None
    waiting = threading.Thread(target=lambda: queue.take(A, until=time.monotonic() + 60))
    waiting.start()
    queue.stop()
    waiting.join(5)
    assert not waiting.is_alive() and queue.stopped
    assert queue.take(B, until=soon()) is None
    assert {one.artifact.model for one in queue.left()} == {"one", "two"}


def test_many_devices_do_each_task_once() -> None:
    """Whatever is put back and moved on the way."""
    devices = [A, B, C]
    queue = Queue([task(f"m{number}", *devices[number % 3 :], *devices[: number % 3]) for number in range(60)])
    done: list[str] = []
    lock = threading.Lock()

    def work(device: Device) -> None:
        number = 0
        while (job := queue.take(device, until=time.monotonic() + 20)) is not None:
            number += 1
            if number % 5 == 0 and queue.elsewhere(job):
                continue
            if number % 7 == 0 and job.tries == 0:
                job.tries = 1
                queue.later(job, 0.01)
                continue
            with lock:
                done.append(job.artifact.model)
            queue.done(job)

    threads = [threading.Thread(target=work, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == sorted(f"m{number}" for number in range(60))
