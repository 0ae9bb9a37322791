"""bench(): one artifact on one board or on several at once, its outputs held against this machine's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import attempt, deliverable, examples, host, inventory, metrics, verify
from edgeship.attempt import Assignment
from edgeship.deliverable import Deliverable
from edgeship.device import Device
from edgeship.errors import BadInput, EdgeshipError
from edgeship.examples import EVERY_INPUT, Examples, Preparation
from edgeship.measurement import BenchRecord, Feed
from edgeship.progress import Listener, StageTold
from edgeship.run import Quality
from edgeship.run_devices import Failed
from edgeship.store import Store, home, write_whole

GOLDEN_EXAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class BenchOrder:
    """What the user asked to measure; what is None was not said."""

    artifact: str
    devices: tuple[str, ...]
    inventory: Path | None = None
    runs: int | None = None
    min_seconds: float | None = None
    warmup_seconds: float | None = None
    threads: int | None = None
    batch: int = 1
    data: Path | None = None
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    metric: str | None = None
    governor: str | None = None
    wait_s: int = 0
    seed: int = 0


def bench(order: BenchOrder, listener: Listener) -> tuple[BenchRecord | Failed, ...]:
    """Return what each device brought back, in the order they were named; devices work at the same time.

    Raises:
        BadInput: the artifact, the data or a device's name cannot be used; nothing was measured.
        StageFailed: the artifact does not run on this machine, so there is nothing to hold a board's answer against.
    """
    boards = _boards(order)
    subject = deliverable.find(order.artifact)
    with Store(home()) as store:
        given = assignment(order, subject, store)
        told = _quietly(listener, threading.Lock())
        pool = ThreadPoolExecutor(len(boards))
        try:
            return tuple(pool.map(lambda board: _one(board, given, told), boards))
        except BaseException:  # the user has had enough: nobody waits for boards that measure on
            given.ending.end()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def check(order: BenchOrder) -> None:
    """Refuse what is wrong with an order before any work: an unknown device.

    Raises:
        BadInput: with the near miss.
    """
    _boards(order)


def _boards(order: BenchOrder) -> tuple[Device, ...]:
    boards = tuple(inventory.find(name, inventory.place(order.inventory)) for name in dict.fromkeys(order.devices))
    if not boards:
        raise BadInput("no device was named", hint="edgeship devices list")
    return boards


def _one(board: Device, given: Assignment, listener: Listener) -> BenchRecord | Failed:
    try:
        return _told(board, given, listener)
    except EdgeshipError as error:
        return Failed(board.name, error)


def _told(board: Device, given: Assignment, listener: Listener) -> BenchRecord:
    began = time.monotonic()
    made = attempt.bench(board, given, listener.on_progress)
    name, middle = "mean" if made.latency_ms.p50 is None else "p50", made.typical_ms
    text = f"{board.name}: {name} {middle:.3f} ms" if middle is not None else f"{board.name}: measured"
    listener.on_stage(StageTold("bench", "ran", "", time.monotonic() - began, text))
    return made


def _quietly(listener: Listener, lock: threading.Lock) -> Listener:
    """Return callbacks that several threads may call."""

    def one_at_a_time(call: Callable[[Any], None]) -> Callable[[Any], None]:
        def locked(value: Any) -> None:
            with lock:
                call(value)

        return locked

    return Listener(*(one_at_a_time(call) for call in (listener.on_progress, listener.on_stage, listener.on_advice)))


def assignment(order: BenchOrder, subject: Deliverable, store: Store) -> Assignment:
    """Return what every board of a bench is given: the artifact, the golden examples, and what this machine makes of them.

    Raises:
        BadInput: the data cannot be used with the artifact.
        StageFailed: the artifact does not run on this machine.
    """
    how = _preparation(order, subject)
    golden = deliverable.seeded(subject.graph, how, count=GOLDEN_EXAMPLES, seed=order.seed)
    log = store.log("bench")
    given = examples.read(order.data) if order.data else None
    data = None if given is None else examples.matched(given, subject.graph.interface.inputs, how)
    feed = None if data is None else deliverable.feed(data, subject.graph, how)
    both = golden if feed is None else deliverable.joined(golden, feed)
    outputs = host.outputs(subject.runnable, both, log=log)
    judge, metric = (None, None) if data is None else _judge(order.metric, data, outputs, subject)
    return Assignment(
        deliverable=subject,
        golden=golden,
        expected=tuple(array[:GOLDEN_EXAMPLES] for array in outputs),
        data=feed,
        judge=judge,
        metric=metric,
        runs=order.runs,
        min_seconds=order.min_seconds,
        warmup_seconds=order.warmup_seconds,
        threads=order.threads,
        batch=order.batch,
        wait_s=order.wait_s,
        governor=order.governor,
        home=home(),
        log=log,
    )


def _preparation(order: BenchOrder, subject: Deliverable) -> dict[str, Preparation]:
    if order.scale is None and order.offset is None:
        return dict(subject.preparation)
    return {EVERY_INPUT: Preparation(order.scale or (1.0,), order.offset or (0.0,))}


def _judge(
    named: str | None, data: Examples, expected: Sequence[NDArray[Any]], subject: Deliverable
) -> tuple[Callable[[tuple[NDArray[Any], ...]], Quality], str]:
    """Return what turns a board's outputs into quality, the metric there against the metric here; and its name."""
    classes = verify.classes([spec.shape for spec in subject.graph.interface.outputs])
    metric = metrics.find(named or _default_metric(data, classes))
    metrics.check(metric, data.labels, classes, data.origin)
    ours = deliverable.real_outputs([array[GOLDEN_EXAMPLES:] for array in expected], subject.graph)
    count = len(next(iter(ours.values())))
    labels = None if data.labels is None else data.labels[:count]
    before = metric.score(ours, labels, ours)

    def judge(raw: tuple[NDArray[Any], ...]) -> Quality:
        theirs = deliverable.real_outputs(raw, subject.graph)
        if not all(np.isfinite(array).all() for array in theirs.values()):
            got = 0.0 if metric.higher_is_better else float(np.finfo(np.float32).max)
        else:
            got = metric.score(theirs, labels, ours)
        drop = metric.drop(before, got)
        return Quality(metric.name, before, got, drop, None, count, False, True)

    return judge, metric.name


def _default_metric(data: Examples, classes: int | None) -> str:
    if data.labels is not None and data.labels.dtype.kind == "f":
        return "mse"
    if classes is None:
        return "sqnr"
    return "agreement" if data.labels is None else "top1"


def feed_of(subject: Deliverable, count: int) -> Feed:
    """Return the golden examples of an artifact, as bench and deploy use them."""
    return deliverable.seeded(subject.graph, subject.preparation, count=count)


def check_page(path: Path) -> None:
    """Refuse a file for the page that cannot be written, before anything is measured.

    Raises:
        BadInput: its folder is not there, or may not be written.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise BadInput(f"{path}: cannot be written", hint="--html names a file in a folder of yours")


def write_page(path: Path, results: Sequence[BenchRecord | Failed]) -> None:
    """Write a page with what the devices brought back.

    Raises:
        BadInput: the file cannot be written.
    """
    from edgeship.report import bench_page

    made = [one for one in results if isinstance(one, BenchRecord)]
    failed = [one for one in results if isinstance(one, Failed)]
    page = bench_page.render(*made, failed=failed, compiled=home() / "templates")
    try:
        write_whole(path, page.encode(errors="backslashreplace"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from None
