"""Runs a TFLite model on a Linux board: its time, its outputs, its memory. One file, pushed as it is; Python 3.8 syntax.

One JSON request comes on stdin, JSON lines go out on stdout, what libraries print goes to stderr. It needs a runtime
and numpy; what a request does not need is not imported, for small boards start slowly.
"""
# pathlib would be one more import to wait for on a slow board; zip(strict=) came with Python 3.10.
# ruff: noqa: PTH113, PTH119, PTH123, PTH207, B905

from __future__ import annotations

import array
import contextlib
import errno
import gc
import glob
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

clock = time.perf_counter_ns
SECOND_NS = 1_000_000_000
CHUNK_NS = SECOND_NS // 20  # timed in one go, without looking at anything else
SHORT_NS = SECOND_NS // 10  # what is shorter is run once unrecorded after a look around, which leaves the caches cold
KEPT = 1 << 16  # samples; of a longer run every second one is kept, then every fourth, …
FEWEST = 8  # samples that a run past its `max_seconds` takes all the same
STEADY, WINDOW, EACH = 0.02, 5, 10
WATCHED = "/devices/system/cpu/cpu[0-9]*/cpufreq", "/class/thermal/thermal_zone*", "/class/apex/apex_*"


class Refused(Exception):
    """What ends the work with an error line; its arguments are the word that the workstation decides by, and a text."""


class Voice:
    """Says JSON lines to the workstation, on a stdout that no library can reach."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.told_ns = 0

    def say(self, event: str, **table: Any) -> None:
        """Write a line; when nobody is there to read it, the process ends without a word."""
        try:
            self.out.write(json.dumps({"event": event, **table}) + "\n")
            self.out.flush()
        except OSError:
            os._exit(1)

    def progress(self, stage: str, done: int, total: int) -> bool:
        """Write how far it is, five times a second at most; return whether it did."""
        due = clock() - self.told_ns >= SECOND_NS // 5
        if due:
            self.told_ns = clock()
            self.say("progress", stage=stage, done=done, total=max(done, total))
        return due


class Watch:
    """Reads the board's conditions. `cpus` are the cores in use, none for all; what the board does not tell is null."""

    def __init__(self, sys_root: str, proc_root: str, cpus: list[int]) -> None:
        self.proc, self.seen = proc_root, []  # type: str, list[dict[str, Any]]
        lists = (glob.glob(sys_root + part) for part in WATCHED)
        cores, zones, chips = (sorted(found, key=lambda path: (len(path), path)) for found in lists)
        self.zones = zones + chips  # an Edge TPU on PCIe tells its temperature as a zone does, one on USB has none
        self.cores = [core for core in cores if not cpus or int(core.split("/cpu")[-2]) in cpus]
        self.throttle_files = glob.glob(sys_root + "/devices/platform/soc*/soc*:firmware/get_throttled")
        programs = [folder + "/vcgencmd" for folder in os.environ.get("PATH", os.defpath).split(":")]
        self.vcgencmd = [path for path in programs if os.access(path, os.X_OK) and not self.throttle_files][:1]

    def look(self, every_s: float) -> bool:
        """Take a snapshot, unless one was taken a moment ago; return whether it did."""
        due = not self.seen or time.monotonic() - self.seen[-1]["at_s"] >= every_s
        if due:
            self.seen.append(self.snapshot())
        return due

    def snapshot(self) -> dict[str, Any]:
        """Return the conditions now; the keys are those of edgeship's Snapshot."""
        load = read(self.proc + "/loadavg").split()
        pages, memory = numbers(self.proc + "/vmstat"), numbers(self.proc + "/meminfo")
        temperatures: dict[str, float] = {}
        for zone in self.zones:
            name, value = read(zone + "/type"), read(zone + "/temp")
            if value.lstrip("-").isdigit():
                temperatures[os.path.basename(zone) if name in ("", *temperatures) else name] = int(value) / 1000
        return {
            "at_s": time.monotonic(), "wall_s": time.time(), "temperature_c": temperatures,
            "clock_mhz": [int(khz) / 1000 for khz in self._of_cores("scaling_cur_freq") if khz.isdigit()],
            "governor": self._of_cores("scaling_governor"),
            "throttled": self._throttled(), "load": float(load[0]) if load else None,
            "swapped_pages": pages["pswpin"] + pages["pswpout"] if "pswpout" in pages else None,
            "swap_used_kib": memory["SwapTotal"] - memory["SwapFree"] if "SwapFree" in memory else None,
            "available_kib": memory.get("MemAvailable"), "battery": None, "thermal_status": None,
        }  # fmt: skip

    def _of_cores(self, name: str) -> list[str]:
        return [told for told in (read(core + "/" + name) for core in self.cores) if told]

    def _throttled(self) -> int | None:
        told = read(self.throttle_files[0]) if self.throttle_files else ""
        if self.vcgencmd:
            import subprocess

            words, quiet = [*self.vcgencmd, "get_throttled"], subprocess.DEVNULL
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                told = subprocess.check_output(words, stderr=quiet, timeout=2).decode(errors="replace")
        with contextlib.suppress(ValueError):
            return int(told.rpartition("=")[2], 16)
        self.vcgencmd = []  # what fails is not asked again
        return None


def read(path: str) -> str:
    """Return a file's text without the white space around it, "" for a file that cannot be read."""
    with contextlib.suppress(OSError), open(path, errors="replace") as stream:
        return stream.read().strip()
    return ""


def numbers(path: str) -> dict[str, int]:
    """Return the lines `name number …` of a file."""
    rows = [line.split()[:2] for line in read(path).splitlines()]
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def load_runtime(first: str = "") -> tuple[Any, str, str | None]:
    """Return the runtime's module, its name and its version, one called `first` first, or refuse with `missing-runtime`."""
    reasons = []
    for name in sorted(("ai_edge_litert", "tflite_runtime"), key=lambda name: name != first.replace("-", "_")):
        try:
            package = __import__(name + ".interpreter")
        except (ImportError, OSError, AttributeError, SystemError) as fault:  # also a numpy or a libc that does not fit
            reasons.append(name + ": " + one_line(fault))
            continue
        found = glob.glob(package.__path__[0] + "-*.dist-info")
        version = getattr(package, "__version__", found[0].split("-")[-2] if len(found) == 1 else None)
        return package.interpreter, name.replace("_", "-"), version
    raise Refused("missing-runtime", "; ".join(reasons))


class Model:
    """A loaded model; `init_ns` covers opening the delegate, making the interpreter and allocating its tensors."""

    def __init__(self, runtime: Any, request: dict[str, Any], batch: int) -> None:
        path, self.asked = request["model"], request.get("delegate")
        if not os.path.isfile(path):
            raise Refused("bad-model", "no such file: " + path)
        began = clock()
        try:
            given = {"experimental_delegates": [runtime.load_delegate(**self.asked)]} if self.asked else {}
            self.interpreter = runtime.Interpreter(model_path=path, num_threads=request["threads"], **given)
            self.inputs = self.interpreter.get_input_details()
            self.shapes = [tuple(map(int, entry["shape"])) for entry in self.inputs]  # of one example
            for entry, shape in zip(self.inputs, self.shapes):
                if batch > 1:
                    self.interpreter.resize_tensor_input(entry["index"], (batch, *shape[1:]))
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError, OSError, AttributeError) as fault:  # the last of a library of another kind
            kind, where = ("failed", f"in batches of {batch}: ") if batch > 1 else ("bad-model", "")
            kind = "delegate" if self.asked else kind
            raise Refused(kind, where + one_line(fault)) from None
        self.init_ns = clock() - began
        self.invoke: Callable[[], None] = self.interpreter.invoke
        self.inputs, self.outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()

    def set(self, values: list[Any]) -> None:
        """Put one array into each input."""
        for entry, one in zip(self.inputs, values):
            self.interpreter.set_tensor(entry["index"], one)

    def set_for_timing(self, feed: str | None) -> None:
        """Put in the feed's first examples, repeated where the batch is longer than the feed, or else seeded numbers."""
        import numpy as np

        if feed:
            columns = [column.reshape(-1, *column.shape[2:]) for column in load_feed(feed, self)]
            self.set([np.resize(column, entry["shape"]) for column, entry in zip(columns, self.inputs)])
        else:
            self.set([seeded(entry["shape"], np.dtype(entry["dtype"])) for entry in self.inputs])

    def delegate(self) -> str | None:
        """Return the delegate that took operations: the one asked for, or XNNPACK, which a runtime applies unasked."""
        with contextlib.suppress(AttributeError, ValueError, RuntimeError):
            names = [entry["op_name"] for entry in self.interpreter._get_ops_details()]
            if self.asked and any(name.startswith(("edgetpu-custom-op", "EdgeTpu")) for name in names):
                return str(self.asked["library"])
            if "DELEGATE" in names:
                return "XNNPACK"
        return None


def seeded(shape: Any, dtype: Any) -> Any:
    """Return the same numbers everywhere: -1…1 for floats, all values of 8 and 16 bits, 0 and 1 for the rest."""
    import numpy as np

    # Knuth's multiplicative hash
    mixed = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint32) * np.uint32(2654435761)
    values: Any = mixed >> 31
    if dtype.kind in "OSU":
        raise Refused("bad-model", "an input takes text")
    if dtype.kind == "f":
        values = (mixed >> 8).astype(np.float32) / (1 << 23) - 1
    elif dtype.kind in "iu" and dtype.itemsize < 4:
        values = (mixed >> (32 - 8 * dtype.itemsize)).astype(f"u{dtype.itemsize}").view(dtype)
    return values.astype(dtype).reshape(shape)


def load_feed(path: str | None, model: Model) -> list[Any]:
    """Return the feed's arrays, all in memory, or refuse with `bad-feed`."""
    import zipfile

    import numpy as np

    if not path:
        raise Refused("bad-feed", "outputs are wanted and there is no feed")
    try:
        with np.load(path, allow_pickle=False) as content:
            feed = [content[f"input:{number}"] for number in range(len(model.inputs))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as fault:
        raise Refused("bad-feed", f"{path}: {one_line(fault)}") from None
    for number, (found, shape, entry) in enumerate(zip(feed, model.shapes, model.inputs)):
        wanted = (max(1, len(feed[0])), *shape) if feed[0].ndim else shape
        if found.shape != wanted or found.dtype != entry["dtype"]:
            what = f"input:{number} is {found.dtype} {found.shape}, not {np.dtype(entry['dtype'])} {wanted}"
            raise Refused("bad-feed", f"{path}: {what}")
    return feed


class Record:
    """When inferences began and how long they took, in nanoseconds; of very many only every n-th, `every`, is kept."""

    def __init__(self, invoke: Callable[[], None]) -> None:
        self.invoke = invoke
        self.starts, self.all_lengths = array.array("q", bytes(8 * KEPT)), array.array("q", bytes(8 * KEPT))
        self.turn, self.count, self.every, self.elsewhere_ns = 0, 0, 1, 0

    @property
    def lengths(self) -> list[int]:
        """Return how long those kept took."""
        return self.all_lengths[: self.count].tolist()

    def last_turn(self) -> int:
        """Return the median of what was timed in one go last."""
        ordered = sorted(self.all_lengths[self.turn : self.count])
        return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2

    def add(self) -> None:
        """Time inferences for a twentieth of a second, at least one, and do nothing else meanwhile."""
        if self.count == KEPT:
            self.count, self.every = KEPT // 2, self.every * 2
            for row in (self.starts, self.all_lengths):
                row[: KEPT // 2] = row[::2]
        pace = self.every * max(1, self.all_lengths[self.count - 1]) if self.count else CHUNK_NS
        end = min(KEPT, self.count + max(1, CHUNK_NS // pace))
        starts, lengths, now, invoke, skipped = self.starts, self.all_lengths, clock, self.invoke, range(self.every - 1)
        for number in range(self.count, end):
            began = now()
            invoke()
            ended = now()
            starts[number] = began
            lengths[number] = ended - began
            for _ in skipped:
                invoke()
        self.turn, self.count = self.count, end


def steady(lengths: list[int]) -> bool:
    """Say whether the last two eighths agree: medians within 2 %, their four halves not going one way by over 1 %."""
    width = max(WINDOW, len(lengths) // 8)
    last, half = lengths[-2 * width :], width // 2
    if len(last) < 2 * width:
        return False
    spans = [(0, width), (width, 2 * width), *((at, at + half) for at in (0, half, width, width + half))]
    older, newer, *way = (sorted(last[start:end])[(end - start) // 2] for start, end in spans)
    drifts = way in (sorted(way), sorted(way, reverse=True)) and abs(way[3] - way[0]) > STEADY / 2 * way[0]
    return abs(newer - older) <= STEADY * older and not drifts


def repeat(
    record: Record, stage: str, voice: Voice, runs: int, least_s: float, most_s: float, *,
    ready: Callable[[], bool] = lambda: True, look: Callable[[], bool] = lambda: False,
) -> None:  # fmt: skip
    """Time `runs` inferences and `least_s`, whichever is longer, until it is `ready`; after `most_s` 8 inferences do."""
    while True:
        record.add()
        taken, spent_s = record.count * record.every, (clock() - record.starts[0] - record.elsewhere_ns) / SECOND_NS
        enough = taken >= runs and spent_s >= least_s and ready()
        if enough or (taken >= min(FEWEST, runs) and spent_s >= most_s):
            return
        looked, total = look(), max(runs, int(taken * least_s / spent_s))
        if (voice.progress(stage, taken, total) or looked) and record.all_lengths[record.count - 1] < SHORT_NS:
            record.invoke()


def measure(request: dict[str, Any], runtime: Any, voice: Voice) -> dict[str, Any]:
    """Time the model, in turns with another if one is named; then run the feed, for outputs, where the batch is 1."""
    watch = Watch(request["sys"], request["proc"], request["cpus"])
    watch.look(0)
    model = Model(runtime, request, request["batch"])
    model.set_for_timing(request["feed"])
    gc.disable()
    began = clock()
    model.invoke()
    first_ns = clock() - began
    warmup, record = Record(model.invoke), Record(model.invoke)
    seconds = request["warmup_seconds"], request["warmup_max_seconds"]
    repeat(warmup, "warm-up", voice, 1, *seconds, ready=lambda: steady(warmup.lengths))
    seconds, every_s = (request["min_seconds"], request["max_seconds"]), request["snapshot_every_s"]
    beside, turns = None, []  # type: Record | None, list[tuple[int, int]]
    # What does not run here is left out, and the model is timed alone.
    with contextlib.suppress(Refused, OSError, RuntimeError, ValueError, MemoryError):
        if request.get("beside") and has_room(request["proc"], request["model"], request["beside"]):
            other = Model(runtime, {**request, "model": request["beside"]}, request["batch"])
            try:
                other.set_for_timing(request["feed"])
            except Refused:  # it has other inputs
                other.set_for_timing(None)
            other.invoke()
            beside = Record(other.invoke)

    def look() -> bool:
        if beside:
            began = clock()
            beside.add()
            record.elsewhere_ns += clock() - began
            turns.append((record.last_turn(), beside.last_turn()))
        return watch.look(every_s) or bool(beside)

    repeat(record, "measure", voice, request["runs"], *seconds, look=look)
    watch.look(0)
    gc.enable()
    if request["outputs"] and request["batch"] == 1:
        write_outputs(model, request, voice)
    starts = record.starts[: record.count].tolist()
    return {
        "init_ns": model.init_ns, "first_ns": first_ns, "warmup_ns": warmup.lengths, "samples_ns": record.lengths,
        "starts_ns": [start - starts[0] for start in starts], "began_s": starts[0] / SECOND_NS, "every": record.every,
        "steady": steady(warmup.lengths), "delegate": model.delegate(),
        "before": watch.seen[0], "during": watch.seen[1:-1], "after": watch.seen[-1], "turns_ns": turns,
    }  # fmt: skip


def has_room(proc: str, *paths: str) -> bool:
    """Say whether models fit into half of the memory together: each takes a multiple of its file, for its tensors."""
    kib = numbers(proc + "/meminfo").get("MemTotal")
    return kib is None or kib / 2 > EACH * len(paths) * max(map(os.path.getsize, paths)) / 1024


def write_outputs(model: Model, request: dict[str, Any], voice: Voice) -> dict[str, Any]:
    """Run every example of the feed and write the raw outputs; they are in memory until then."""
    import numpy as np

    feed = load_feed(request["feed"], model)
    count, columns = len(feed[0]), []  # type: int, list[Any]
    for number in range(count):
        model.set([column[number] for column in feed])
        model.invoke()
        arrays = [model.interpreter.get_tensor(entry["index"]) for entry in model.outputs]
        columns = columns or [np.empty((count, *one.shape), one.dtype) for one in arrays]
        for column, one in zip(columns, arrays):
            column[number] = one
        voice.progress("outputs", number + 1, count)
    with open(request["outputs"], "wb") as stream:  # to a name, numpy would add its own ending
        np.savez(stream, **{f"output:{number}": column for number, column in enumerate(columns)})
    return {"examples": count}


def memory(request: dict[str, Any], runtime: Any, voice: Voice) -> dict[str, Any]:
    """Return the MiB of this process at its peak, and before it held anything but Python, numpy and the runtime."""
    own = request.get("proc", "/proc") + "/self"
    with contextlib.suppress(OSError), open(own + "/clear_refs", "w") as stream:
        stream.write("5")  # VmHWM starts again from here: what imports took and gave back is no model's
    bare = numbers(own + "/status").get("VmHWM")
    model = Model(runtime, request, request.get("batch", 1))
    for entry in model.inputs:
        model.interpreter.tensor(entry["index"])().fill(0)  # in place: arrays made for it would count as the model's
    for _ in range(3):
        model.invoke()
    found = {**numbers(own + "/status"), **numbers(own + "/smaps_rollup")}
    peak = found.get("VmHWM")
    kib = {
        "peak_rss_mib": peak, "bare_mib": bare, "model_mib": None if peak is None or bare is None else peak - bare,
        "anonymous_mib": found.get("RssAnon"), "proportional_mib": found.get("Pss"),
    }  # fmt: skip
    source = ", ".join(counter for counter in ("VmHWM", "RssAnon", "Pss") if counter in found)
    return {**{key: None if size is None else size / 1024 for key, size in kib.items()}, "source": source}


ACTIONS: dict[str, Callable[[dict[str, Any], Any, Voice], dict[str, Any]]] = {
    "measure": measure, "memory": memory,
    "outputs": lambda request, runtime, voice: write_outputs(Model(runtime, request, 1), request, voice),
}  # fmt: skip


def one_line(fault: BaseException) -> str:
    """Return what a fault says, in one line."""
    return " ".join(str(fault).split())[:500] or type(fault).__name__


def main() -> None:
    """Do what the request on stdin asks for and say the result, or else why there is none, with exit code 1."""
    voice = Voice()
    try:
        request = json.loads(sys.stdin.buffer.read())
        try:
            os.sched_setaffinity(0, request["cpus"] or os.sched_getaffinity(0))
        except OSError as fault:
            raise Refused("failed", f"it cannot be held to the cores {request['cpus']}: {fault.strerror}") from None
        runtime, name, version = load_runtime(request.get("runtime", ""))
        voice.say("runtime", name=name, version=version)
        voice.say("result", **ACTIONS[request["action"]](request, runtime, voice))
        os._exit(0)  # tearing a runtime down takes a slow board long, and nothing is left to say
    except Refused as refusal:
        kind, message = refusal.args
    except MemoryError:
        kind, message = "memory", "the board has too little memory for this"
    except Exception as fault:  # noqa: BLE001  # the end of a process: the workstation names it, stderr has it all
        sys.excepthook(*sys.exc_info())
        full = isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        kind, message = "no-space" if full else "failed", type(fault).__name__ + ": " + one_line(fault)
    voice.say("error", kind=kind, message=message)
    os._exit(1)


if __name__ == "__main__":
    main()
