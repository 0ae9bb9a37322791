"""What one inference is estimated to cost on an Edge TPU, from the vendor's published latencies: a guide, no measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PositiveFloat

from edgeship import resources, toml_file
from edgeship.target import Accelerator
from edgeship.toml_file import Record

Link = Literal["usb3", "usb2", "pcie"]
LINKS: tuple[Link, ...] = get_args(Link)
OF_ATTACHMENT: Mapping[str, Link] = {"usb": "usb3", "pcie": "pcie"}
CAVEAT = "an estimate from published latencies of other models, not a measurement; segments on one USB hub share its bandwidth"


class ChipEntry(Record):
    """`[chip]`: the share of the peak that convolutions reach."""

    efficiency: PositiveFloat
    source: str = Field(min_length=10)


class LinkEntry(Record):
    """`[links.<name>]`: how fast bytes travel to the chip, and what each inference costs beside."""

    bytes_per_s: PositiveFloat
    fixed_ms: PositiveFloat
    source: str = Field(min_length=10)


class ScheduleData(Record):
    """`data/edgetpu/schedule.toml`, whole."""

    chip: ChipEntry
    links: Mapping[Link, LinkEntry]


@dataclass(frozen=True)
class Chip:
    """One Edge TPU as the estimate sees it: memory in bytes, multiply-accumulates a second, bytes a second over its link."""

    on_chip_bytes: int
    macs_per_s: float
    link: Link
    bytes_per_s: float
    fixed_ms: float

    def streamed_bytes(self, weight_bytes: ArrayLike) -> NDArray[np.int64]:
        """Return the bytes of weights that do not stay on the chip and travel at every inference."""
        return np.maximum(0, np.asarray(weight_bytes, dtype=np.int64) - self.on_chip_bytes)

    def work_ms(self, macs: ArrayLike, weight_bytes: ArrayLike) -> NDArray[np.float64]:
        """Return the estimated milliseconds that the chip computes, or waits for weights."""
        compute_ms = 1e3 * np.asarray(macs, dtype=np.float64) / self.macs_per_s
        return np.maximum(compute_ms, self.travel_ms(self.streamed_bytes(weight_bytes)))

    def travel_ms(self, size_bytes: ArrayLike) -> NDArray[np.float64]:
        """Return the estimated milliseconds that some bytes take over the link."""
        return 1e3 * np.asarray(size_bytes, dtype=np.float64) / self.bytes_per_s

    def latency_ms(self, macs: int, weight_bytes: int, crossing_bytes: int) -> float:
        """Return the estimated milliseconds of one inference; `crossing_bytes` go in or come out."""
        return float(self.fixed_ms + self.work_ms(macs, weight_bytes) + self.travel_ms(crossing_bytes))


@dataclass(frozen=True)
class Schedule:
    """A pipeline at work: one inference leaves it every `slowest_ms`, and each takes `latency_ms` from end to end.

    `single_*` are those of the whole model on one chip; `caveat` says what all of them are worth.
    """

    link: Link
    slowest_ms: float
    latency_ms: float
    throughput_per_s: float
    single_ms: float
    single_throughput_per_s: float
    caveat: str = CAVEAT


def chip(accelerator: Accelerator, link: Link | None = None) -> Chip:
    """Return an accelerator with the figures of its link (`link` in place of the attachment's usual one)."""
    data = toml_file.read(resources.data("edgetpu") / "schedule.toml", ScheduleData)
    name: Link = link or OF_ATTACHMENT[accelerator.attachment]
    entry = data.links[name]
    return Chip(
        on_chip_bytes=int(accelerator.on_chip_mib * 1024 * 1024),
        macs_per_s=accelerator.int8_tops * 1e12 / 2 * data.chip.efficiency,
        link=name,
        bytes_per_s=entry.bytes_per_s,
        fixed_ms=entry.fixed_ms,
    )


def schedule(chip: Chip, stages_ms: Sequence[float], single_ms: float) -> Schedule:
    """Return how a pipeline of stages runs, each on a chip of its own: the slowest sets the pace."""
    slowest = max(stages_ms)
    return Schedule(
        link=chip.link,
        slowest_ms=slowest,
        latency_ms=sum(stages_ms),
        throughput_per_s=1e3 / slowest,
        single_ms=single_ms,
        single_throughput_per_s=1e3 / single_ms,
    )
