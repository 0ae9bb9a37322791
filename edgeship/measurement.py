"""What a board said: raw samples and conditions first; every other figure is a view of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Snapshot:
    """A board's conditions at one moment; what it does not tell is None or empty.

    Attributes:
        at_s: seconds of the board's steady clock.
        wall_s: seconds of its wall clock, since 1970.
        clock_mhz: frequency of each core in use.
        governor: of each core, or one for all.
        temperature_c: sensor → degrees Celsius.
        throttled: Raspberry Pi's bits: 0-3 now, 16-19 since boot.
        thermal_status: Android's: 0 none … 6 shutdown.
        load: runnable processes averaged over one minute.
        swapped_pages: pages swapped in and out since boot.
        swap_used_kib: swap in use.
        available_kib: memory that could be had.
        battery: `level` in percent, `temperature_c`, `status` in the system's word.
    """

    at_s: float
    wall_s: float
    clock_mhz: tuple[float, ...] = ()
    governor: tuple[str, ...] = ()
    temperature_c: Mapping[str, float] = field(default_factory=dict)
    throttled: int | None = None
    thermal_status: int | None = None
    load: float | None = None
    swapped_pages: int | None = None
    swap_used_kib: int | None = None
    available_kib: int | None = None
    battery: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Runtime:
    """What ran the model there: name, version, and what it says of itself (delegate, kernels on the CPU)."""

    name: str
    version: str | None
    delegate: str | None = None


@dataclass(frozen=True)
class Samples:
    """The raw timing of one run. Nanoseconds of the board's steady clock; `starts_ns` counts from the first sample.

    `samples_ns` is None where the tool keeps aggregates only; then `aggregate_ms` holds what it printed (mean, min, max,
    std, p50, p90, …, runs). Of very many samples only one in `every` is kept.
    """

    init_ns: int | None
    first_ns: int | None
    warmup_ns: tuple[int, ...]
    samples_ns: tuple[int, ...] | None
    starts_ns: tuple[int, ...] | None
    steady: bool
    aggregate_ms: Mapping[str, float] | None = None
    every: int = 1
    turns_ns: tuple[tuple[int, int], ...] = ()  # medians of its turns and of the companion's next to them


@dataclass(frozen=True)
class Beside:
    """Another artifact that ran in turns with the one measured, a twentieth of a second each, in the same process.

    What the machine does meanwhile falls on both, so that `ratio` is known far better than either time (after Bulej et al. 2020,
    "Duet Benchmarking", doi:10.1145/3358960.3379132, who run both at once).

    Attributes:
        ratio: the median over turns of the median of a turn over that of the other's turn next to it.
        ms: of one inference of the other: the median over its turns.
    """

    artifact_sha256: str
    ratio: float
    ms: float
    turns: int


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference. A percentile below its floor of samples is None, and so is what a tool does not tell."""

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    min: float | None
    max: float | None
    cv: float | None
    ci95: tuple[float, float] | None
    runs: int


@dataclass(frozen=True)
class Memory:
    """Taken in a run of its own. `model_mib` is what stands above the bare runtime; `source` names the counters."""

    peak_rss_mib: float
    model_mib: float | None
    source: str
    anonymous_mib: float | None = None
    proportional_mib: float | None = None
    bare_mib: float | None = None


@dataclass(frozen=True)
class Operator:
    """Time of one operation (or of one kind of them) in one inference, and its share of all."""

    name: str
    ms: float
    share: float


@dataclass(frozen=True)
class Golden:
    """The device's outputs against the host's on the same inputs; `max_steps` counts quantization steps, None for floats.

    `compared` is false where the tool on the board hands no outputs out: then nothing is known, and nothing passed.
    """

    checked: int
    max_abs_error: float
    max_steps: int | None
    passed: bool
    why: str | None = None
    compared: bool = True

    @property
    def failed(self) -> bool:
        """Say whether the device's outputs were seen and are wrong."""
        return self.compared and not self.passed

    @property
    def word(self) -> str:
        """Return the verdict in a word or two."""
        return "passed" if self.passed else "failed" if self.compared else "not compared"


@dataclass(frozen=True)
class EdgeTpu:
    """An Edge TPU that a board sees: on USB its vendor and product, on PCIe its node; `writable` by this user."""

    attachment: Literal["usb", "pcie"]
    name: str
    writable: bool


@dataclass(frozen=True)
class Board:
    """What a board says of itself when asked; what it does not tell is None or empty."""

    machine_id: str | None
    boot_id: str | None
    model: str | None
    system: str | None
    kernel: str | None
    architecture: str | None
    abi: str | None
    word_bits: int | None
    cores: int | None
    core_names: tuple[str, ...]
    features: tuple[str, ...]
    memory_mib: int | None
    free_mib: int | None
    page_bytes: int | None
    libc: str | None
    python: str | None
    runtimes: Mapping[str, str]
    governor: str | None
    clock_mhz: float | None
    serial: str | None = None
    edgetpus: tuple[EdgeTpu, ...] = ()
    libedgetpu: str | None = None  # its package's version, "" for a file of no package

    @property
    def userland(self) -> str | None:
        """Return the architecture that programs are built for: uname tells of the kernel, which may be 64-bit alone."""
        return "armv7l" if self.word_bits == 32 and self.architecture == "aarch64" else self.architecture


@dataclass(frozen=True)
class Conditions:
    """Everything around one run."""

    board: Board
    before: Snapshot | None
    during: tuple[Snapshot, ...]
    after: Snapshot | None
    threads: int
    cpus: tuple[int, ...]
    batch: int
    counted: bool = False
    unmodelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchRecord:
    """One bench of one artifact on one device. The keys of `--json` come first; see the command line's contract."""

    device: str
    target: str
    transport: str
    simulated: bool
    artifact_sha256: str
    runtime: Runtime
    latency_ms: Latency
    samples_ms: tuple[float, ...] | None
    init_ms: float | None
    first_inference_ms: float | None
    memory: Memory | None
    operators: tuple[Operator, ...] | None
    golden: Golden
    quality: Any
    conditions: Conditions
    valid: bool
    reasons: tuple[str, ...]
    doubts: tuple[str, ...]
    starts_ms: tuple[float, ...] | None = None
    warmup_ms: tuple[float, ...] = ()
    artifact: str = ""
    edgeship: str = ""
    made: str = ""
    beside: Beside | None = None

    @property
    def typical_ms(self) -> float | None:
        """Return the p50, or the mean where the tool tells no p50."""
        return self.latency_ms.p50 if self.latency_ms.p50 is not None else self.latency_ms.mean


@dataclass(frozen=True)
class Wanted:
    """How a run is to be done. Seconds are the board's own; at least `runs` samples and `min_seconds`, whichever is later."""

    threads: int
    cpus: tuple[int, ...]
    batch: int
    runs: int
    min_seconds: float
    max_seconds: float
    warmup_seconds: float


@dataclass(frozen=True, eq=False)
class Measured:
    """What a runtime brought back from a board. `outputs` are raw arrays of shape (examples, …), one per output."""

    runtime: Runtime
    samples: Samples
    before: Snapshot | None
    during: tuple[Snapshot, ...]
    after: Snapshot | None
    memory: Memory | None
    operators: tuple[Operator, ...] | None
    outputs: tuple[Any, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Feed:
    """What a model is fed on a board: per input, in the file's order, a raw array of shape (examples, *input shape)."""

    names: tuple[str, ...]
    arrays: tuple[Any, ...]

    @property
    def count(self) -> int:
        """Return the number of examples."""
        return len(self.arrays[0])


@dataclass(frozen=True)
class OutputSpec:
    """One output of a model as it lies in memory, batch axis included."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Trial:
    """Everything that a runtime needs to know of one bench."""

    model: str  # path on the board
    beside: str | None = field(default=None, kw_only=True)  # path there of what runs in turns with it
    wanted: Wanted
    feed: Feed  # its first example is what is timed
    outputs: tuple[OutputSpec, ...]
    profile: bool = True
    memory: bool = True
    slower: float = 3.0  # how much longer than the board's own seconds ours may last
