"""The programs that run on Linux boards, really run on this machine: with LiteRT, and with the last tflite-runtime."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship import interpret
from edgeship.board import profiler, runner
from tests.tiny_tflite import TinyModel, separable

TIMEOUT_S = 300
OLD = "tflite-runtime"
RUNTIMES = ("ai-edge-litert", OLD)


@dataclass(frozen=True)
class Said:
    """What a program said on stdout, line by line, and how it ended."""

    code: int
    lines: tuple[dict[str, Any], ...]
    stderr: str

    @property
    def last(self) -> dict[str, Any]:
        """Return the line that ends it all."""
        return self.lines[-1]

    @property
    def result(self) -> dict[str, Any]:
        """Return the result, which has to be there."""
        assert self.code == 0, (self.lines[-1:], self.stderr)
        assert self.last["event"] == "result"
        return self.last


@dataclass(frozen=True)
class Asked:
    """Starts the board's programs as a board does: a Python, a file, one JSON object on stdin."""

    python: str = sys.executable
    flags: tuple[str, ...] = ()

    def start(self, order: dict[str, Any], *, program: Any = runner, limit: Callable[[], None] | None = None) -> Any:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.Popen(
            [self.python, *self.flags, program.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment, preexec_fn=limit, text=True,
        )  # fmt: skip

    def __call__(self, order: dict[str, Any], **options: Any) -> Said:
        process = self.start(order, **options)
        try:
            stdout, stderr = process.communicate(json.dumps(order), timeout=TIMEOUT_S)
        finally:
            process.kill()
        return Said(process.returncode, tuple(json.loads(line) for line in stdout.splitlines()), stderr)


def order(action: str, model: Path | str, **more: Any) -> dict[str, Any]:
    """Return a short request."""
    return {
        "action": action, "model": str(model), "threads": 1, "cpus": [], "batch": 1, "runs": 30, "min_seconds": 0.3,
        "max_seconds": 10, "warmup_seconds": 0.1, "warmup_max_seconds": 5, "feed": None, "outputs": None,
        "snapshot_every_s": 0.1, "sys": "/sys", "proc": "/proc", **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return separable().write(tmp_path_factory.mktemp("model") / "separable.tflite")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of 16 MiB of weights."""
    made, random = TinyModel(), np.random.default_rng(0)
    hidden = made.dense(made.input("x", (1, 2048)), "hidden", random.normal(size=(2048, 2048)))
    made.outputs.append(hidden)
    return made.write(tmp_path_factory.mktemp("model") / "large.tflite")


@pytest.fixture(scope="session")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the Python of an environment with tflite-runtime 2.14, which takes Python 3.11 and numpy 1 at most."""
    folder = tmp_path_factory.mktemp("tflite-runtime")
    if shutil.which("uv") is None:
        _absent("uv is not installed")
    commands = (
        ["uv", "--no-config", "venv", "--quiet", "--python", "3.11", str(folder / "venv")],
        [
            "uv",
            "--no-config",
            "pip",
            "install",
            "--quiet",
            "--python",
            str(folder / "venv"),
            f"{OLD}==2.14.0",
            "numpy<2",
        ],
    )
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode != 0:
            _absent(f"{OLD} 2.14.0 cannot be installed: {done.stderr.strip()[-300:]}")
    return str(folder / "venv" / "bin" / "python")


def _absent(why: str) -> None:
    if os.environ.get("EDGESHIP_REQUIRE_LAB"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(params=RUNTIMES)
def ask(request: pytest.FixtureRequest) -> Asked:
    return Asked() if request.param == RUNTIMES[0] else Asked(request.getfixturevalue("old_python"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.float32]]:
    feed = np.random.default_rng(1).normal(size=(20, 1, 16, 16, 3)).astype(np.float32)
    path = tmp_path_factory.mktemp("feed") / "feed.npz"
    np.savez(path, **{"input:0": feed})  # type: ignore[arg-type]
    return path, feed


def test_it_times_a_model(ask: Asked, model: Path) -> None:
    said = ask(order("measure", model))
    first, result = said.lines[0], said.result
    assert first["event"] == "runtime"
    assert (first["name"], first["version"]) in (("ai-edge-litert", "2.3.0"), (OLD, "2.14.0"))
    samples, starts = result["samples_ns"], result["starts_ns"]
    assert len(samples) == len(starts) >= 30
    assert starts[0] == 0
    assert starts[-1] >= 0.25e9
    assert all(length > 0 for length in samples)
    step = result["every"]
    gaps = [after - before - length for before, after, length in zip(starts, starts[1:], samples, strict=False)]
    assert step > 1 or min(gaps) >= 0
    assert result["init_ns"] > 0
    assert result["first_ns"] > 0
    assert result["warmup_ns"]
    assert result["delegate"] == "XNNPACK"
    assert isinstance(result["steady"], bool)


def test_in_turns_with_another_both_are_timed(ask: Asked, model: Path, large: Path) -> None:
    """A model beside itself takes as long, one of many times the work many times as long; outputs and samples stay its own."""
    same = ask(order("measure", model, beside=str(model), min_seconds=1.0)).result
    ratios = [one / other for one, other in same["turns_ns"]]
    assert ratios and 0.4 < np.median(ratios) < 2.5
    heavy = ask(order("measure", large, beside=str(model), min_seconds=1.0)).result
    assert np.median([one / other for one, other in heavy["turns_ns"]]) > 2
    assert np.median([one for one, _ in heavy["turns_ns"]]) == pytest.approx(np.median(heavy["samples_ns"]), rel=0.5)


@pytest.mark.parametrize("other", ["gone.tflite", "text.tflite", None])
def test_what_does_not_run_beside_it_is_left_out(model: Path, other: str | None, tmp_path: Path) -> None:
    (tmp_path / "text.tflite").write_text("no model")
    result = Asked()(order("measure", model, beside=other and str(tmp_path / other))).result
    assert result["turns_ns"] == [] and len(result["samples_ns"]) >= 30


def test_a_board_with_little_memory_times_a_model_alone(model: Path, tmp_path: Path) -> None:
    """Two models at once could be one too many there."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {30 * model.stat().st_size // 1024} kB\n")
    for name in ("loadavg", "vmstat"):
        (tmp_path / name).write_text((Path("/proc") / name).read_text())
    result = Asked()(order("measure", model, beside=str(model), proc=str(tmp_path))).result
    assert result["turns_ns"] == []
    (tmp_path / "meminfo").write_text(f"MemTotal: {60 * model.stat().st_size // 1024} kB\n")
    assert Asked()(order("measure", model, beside=str(model), proc=str(tmp_path))).result["turns_ns"]


def test_what_runs_beside_it_takes_none_of_its_time(model: Path, large: Path) -> None:
    """The limit on time is on the model's own: as many runs as alone, though most of the time goes to another."""
    alone = Asked()(order("measure", model, runs=10**6, min_seconds=0.1, max_seconds=0.5)).result
    beside = Asked()(order("measure", model, beside=str(large), runs=10**6, min_seconds=0.1, max_seconds=0.5)).result
    assert len(beside["samples_ns"]) * beside["every"] > 0.3 * len(alone["samples_ns"]) * alone["every"]
    assert beside["starts_ns"][-1] > 0.7e9, "as much time again went to the other"


def test_a_model_that_runs_on_its_feed_only_runs_beside_itself(tmp_path: Path) -> None:
    """It would stop at a zero among made-up numbers; beside a model with other inputs it is timed against those."""
    divider = TinyModel()
    number = divider.input("x", (1, 4), "int32")
    six = divider.constant("six", np.full((1, 4), 6, np.int32))
    divider.outputs.append(divider.operator("DIV", [six, number], divider.tensor("y", (1, 4), "int32")))
    path = divider.write(tmp_path / "divider.tflite")
    np.savez(tmp_path / "feed.npz", **{"input:0": np.full((2, 1, 4), 3, np.int32)})  # type: ignore[arg-type]
    feed = str(tmp_path / "feed.npz")
    assert Asked()(order("measure", path, beside=str(path), feed=feed)).result["turns_ns"]
    other = separable().write(tmp_path / "other.tflite")
    assert Asked()(order("measure", path, beside=str(other), feed=feed)).result["turns_ns"]
    images = tmp_path / "images.npz"
    np.savez(images, **{"input:0": np.zeros((2, 1, 16, 16, 3), np.float32)})  # type: ignore[arg-type]
    left_out = Asked()(order("measure", other, beside=str(path), feed=str(images))).result
    assert left_out["turns_ns"] == [] and len(left_out["samples_ns"]) >= 30


def test_conditions_are_taken_before_during_and_after(model: Path) -> None:
    result = Asked()(order("measure", model, min_seconds=1.0)).result
    before, during, after = result["before"], result["during"], result["after"]
    assert 4 <= len(during) <= 11
    moments = [one["at_s"] for one in (before, *during, after)]
    assert moments == sorted(moments)
    assert before["at_s"] < result["began_s"] < during[0]["at_s"]
    assert before["load"] is not None
    assert abs(time.time() - after["wall_s"]) < 60


def test_progress_is_told_at_most_five_times_a_second(model: Path) -> None:
    said = Asked()(order("measure", model, min_seconds=1.0, warmup_seconds=0.5))
    told = [line for line in said.lines if line["event"] == "progress"]
    assert {line["stage"] for line in told} == {"warm-up", "measure"}
    assert len(told) <= 5 * 8
    assert all(0 <= line["done"] <= line["total"] for line in told)


def test_its_outputs_are_the_models(
    ask: Asked, model: Path, images: tuple[Path, NDArray[np.float32]], tmp_path: Path
) -> None:
    for action in ("measure", "outputs"):
        said = ask(order(action, model, feed=str(images[0]), outputs=str(tmp_path / action)))
        assert said.result
    with np.load(tmp_path / "measure") as one, np.load(tmp_path / "outputs") as other:
        assert one.files == other.files == ["output:0"]
        found = one["output:0"]
        assert np.array_equal(found, other["output:0"])
    assert found.dtype == np.float32
    assert found.shape == (20, 1, 10)
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, **{"input:image": images[1][:, 0]})  # type: ignore[arg-type]
    (ran,) = interpret.outputs([interpret.Job(model, inputs)], log=tmp_path / "log.txt")
    assert np.abs(found[:, 0] - next(iter(ran.outputs.values()))).max() < 1e-5


def test_outputs_of_thousands_are_quick(model: Path, tmp_path: Path) -> None:
    feed = np.random.default_rng(1).normal(size=(5000, 1, 16, 16, 3)).astype(np.float32)
    np.savez(tmp_path / "feed.npz", **{"input:0": feed})  # type: ignore[arg-type]
    began = time.monotonic()
    said = Asked()(order("outputs", model, feed=str(tmp_path / "feed.npz"), outputs=str(tmp_path / "out.npz")))
    assert said.result["examples"] == 5000
    assert time.monotonic() - began < 20
    assert len(said.lines) < 5 * (time.monotonic() - began) + 5


def test_a_batch_repeats_what_it_is_fed_and_takes_longer(ask: Asked, large: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "feed.npz", **{"input:0": np.ones((3, 1, 2048), np.float32)})  # type: ignore[arg-type]
    feed = str(tmp_path / "feed.npz")
    one, many = (ask(order("measure", large, batch=batch, feed=feed)).result for batch in (1, 64))
    assert np.median(many["samples_ns"]) > 4 * np.median(one["samples_ns"])


def test_a_model_that_takes_no_batches_says_so(model: Path) -> None:
    said = Asked()(order("measure", model, batch=4))
    assert (said.code, said.last["kind"]) == (1, "failed")
    assert said.last["message"].startswith("in batches of 4: ")


def test_memory_is_above_the_bare_runtime(ask: Asked, model: Path, large: Path) -> None:
    small, big = (ask(order("memory", path)).result for path in (model, large))
    assert big["model_mib"] - small["model_mib"] > 14
    for found in (small, big):
        assert found["peak_rss_mib"] == pytest.approx(found["bare_mib"] + found["model_mib"])
        assert 0 < found["anonymous_mib"] < found["peak_rss_mib"]
        assert 0 < found["proportional_mib"] < found["peak_rss_mib"] + 2
        assert found["source"] == "VmHWM, RssAnon, Pss"


def test_counters_that_are_absent_are_null(model: Path, tmp_path: Path) -> None:
    found = Asked()(order("memory", model, proc=str(tmp_path))).result
    assert found["peak_rss_mib"] is None
    assert found["source"] == ""


def test_it_is_held_to_its_cores(model: Path) -> None:
    core = max(os.sched_getaffinity(0))
    assert Asked()(order("measure", model, cpus=[core])).result
    refused = Asked()(order("measure", model, cpus=[4095]))
    assert (refused.code, refused.last["kind"]) == (1, "failed")
    assert "cores [4095]" in refused.last["message"]


@pytest.mark.parametrize("action", ["measure", "memory", "outputs"])
def test_a_bad_model_is_called_one(action: str, ask: Asked, images: tuple[Path, Any], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"no flatbuffer" * 100)
    for path in (damaged, tmp_path / "absent.tflite"):
        said = ask(order(action, path, feed=str(images[0]), outputs=str(tmp_path / "out.npz")))
        assert said.code == 1
        assert (said.last["event"], said.last["kind"]) == ("error", "bad-model")


def test_a_bad_feed_is_called_one(model: Path, images: tuple[Path, NDArray[np.float32]], tmp_path: Path) -> None:
    feeds: dict[str, dict[str, Any]] = {
        "absent": {}, "turned": {"input:0": images[1].transpose(0, 1, 4, 2, 3)}, "empty": {"input:0": images[1][:0]},
        "typed": {"input:0": images[1].astype(np.float64)}, "named": {"image": images[1]},
    }  # fmt: skip
    paths: list[str | None] = [str(tmp_path / f"{name}.npz") for name in feeds]
    for name, arrays in feeds.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / "half.npz").write_bytes(images[0].read_bytes()[:5000])
    for path in [*paths, str(tmp_path / "half.npz"), str(tmp_path / "nothing.npz"), None]:
        said = Asked()(order("outputs", model, feed=path, outputs=str(tmp_path / "out.npz")))
        assert (said.code, said.last.get("kind")) == (1, "bad-feed"), path


def test_a_full_disk_is_called_one(model: Path, images: tuple[Path, Any], tmp_path: Path) -> None:
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100, 100))
    wanted = order("outputs", model, feed=str(images[0]), outputs=str(tmp_path / "out.npz"))
    said = Asked()(wanted, limit=limit)
    assert (said.code, said.last["kind"]) == (1, "no-space")


def test_too_little_memory_is_called_so(large: Path, tmp_path: Path) -> None:
    feed = np.zeros((20000, 1, 2048), np.float32)
    np.savez_compressed(tmp_path / "feed.npz", **{"input:0": feed})  # type: ignore[arg-type]
    limit = partial(resource.setrlimit, resource.RLIMIT_DATA, (150 << 20, 150 << 20))
    wanted = order("outputs", large, feed=str(tmp_path / "feed.npz"), outputs=str(tmp_path / "out.npz"))
    said = Asked()(wanted, limit=limit)
    assert (said.code, said.last["kind"]) == (1, "memory")


@pytest.mark.parametrize("program", [runner, profiler])
def test_without_a_runtime_it_says_so(program: Any, model: Path) -> None:
    said = Asked(flags=("-S",))(order("measure", model), program=program)  # without any site-packages
    assert (said.code, said.last["kind"]) == (1, "missing-runtime")
    assert "Traceback" not in said.stderr


def test_nonsense_is_refused_in_a_line(model: Path) -> None:
    for nonsense in ({}, order("dance", model)):
        said = Asked()(nonsense)
        assert (said.code, said.last["event"], said.last["kind"]) == (1, "error", "failed")


def test_it_ends_quietly_when_nobody_listens(model: Path) -> None:
    process = Asked().start(order("measure", model))
    process.stdin.write(json.dumps(order("measure", model, min_seconds=60, max_seconds=60)))
    process.stdin.close()
    process.stdout.readline()
    process.stdout.close()
    try:
        assert process.wait(TIMEOUT_S) == 1
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.stderr.close()


def test_operators_are_timed(model: Path, images: tuple[Path, Any]) -> None:
    for feed in (None, str(images[0])):
        said = Asked()(order("operators", model, feed=feed), program=profiler)
        assert said.lines[0] == {"event": "runtime", "name": "ai-edge-litert", "version": "2.3.0"}
        found = said.result["operators"]
        assert said.result["why"] is None
        assert sum(entry["count"] for entry in found) >= 6
        assert any("Convolution" in entry["name"] for entry in found)
        assert all(entry["ms"] >= 0 for entry in found)


def test_operators_add_up_to_an_inference(large: Path) -> None:
    parts = []
    for _ in range(5):  # whatever else the machine does may fall on one of the two
        said = Asked()(order("operators", large), program=profiler).result
        found = said["operators"]
        assert found, said["why"]
        assert found[0]["name"].startswith("Delegate/Fully Connected")
        samples = Asked()(order("measure", large)).result["samples_ns"]
        parts.append(sum(entry["ms"] for entry in found) / (np.median(samples) / 1e6))
        if 0.3 < parts[-1] < 3:
            return
    pytest.fail(f"the operations' times add up to {parts} of an inference")


@pytest.mark.parametrize("damage", ["absent", "damaged", "batch"])
def test_without_operators_it_says_why(damage: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 100)
    path = model if damage == "batch" else tmp_path / f"{damage}.tflite"
    said = Asked()(order("operators", path, batch=2 if damage == "batch" else 1), program=profiler)
    assert said.result["operators"] is None
    assert said.result["why"]


def test_a_profiler_that_dies_costs_its_own_result_only(large: Path) -> None:
    limit = partial(resource.setrlimit, resource.RLIMIT_DATA, (40 << 20, 40 << 20))
    said = Asked()(order("operators", large), program=profiler, limit=limit)
    assert said.result["operators"] is None
    assert "signal 6" in said.result["why"] or "returned" in said.result["why"]


def test_the_old_runtime_has_no_operators(old_python: str, model: Path) -> None:
    said = Asked(old_python)(order("operators", model), program=profiler)
    assert said.result["operators"] is None
    assert said.result["why"] == "tflite-runtime 2.14.0 has no profiler"
