"""The runtime `benchmark_model` against its stand-in on this machine, in each of the tool's dialects.

Android's own binary cannot be had here; the stand-in ships in the package, really runs the model and speaks like the
original (`edgeship/standin`). The parsers are held against recorded output of the real tool in `tests/test_benchmark_output.py`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgeship import digest, resources, session, standin
from edgeship.device import Device
from edgeship.devices import local
from edgeship.errors import BadInput, DeviceFault
from edgeship.measurement import Feed, Measured, OutputSpec, Trial, Wanted
from edgeship.progress import Progress, silent
from edgeship.runtimes import benchmark_model
from edgeship.session import Session
from edgeship.standin import DIALECTS, Dialect
from edgeship.target import Runtime
from tests.tiny_tflite import TinyModel

SOURCE = "a public document"
WANTED = Wanted(threads=1, cpus=(), batch=1, runs=20, min_seconds=0.1, max_seconds=20, warmup_seconds=0.05)
WRITES_OUTPUTS = "tflite-2025"


def two_by_two() -> TinyModel:
    """Return a model with two inputs, one of them with a colon in its name, and two outputs of different sizes."""
    made = TinyModel()
    left = made.input("image:0", (1, 8, 8, 3))
    right = made.input("right", (1, 4))
    random = np.random.default_rng(0)
    conv = made.conv(left, "conv", random.normal(size=(5, 3, 3, 3)), (8, 8))
    dense = made.dense(right, "dense", random.normal(size=(7, 4)))
    made.outputs = [conv, dense]
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return two_by_two().write(tmp_path / "model.tflite")


def device(tmp_path: Path, binary: Path | None, **changes: Any) -> Device:
    entry: dict[str, Any] = {
        "name": "desk", "target": "linux-x86_64", "transport": "local", "folder": str(tmp_path / "there"),
        "lease": tmp_path.name, "python": sys.executable,
    }  # fmt: skip
    if binary is not None:
        entry |= {"benchmark_model": str(binary), "benchmark_model_sha256": digest.of_file(binary)}
    return Device(**{**entry, **changes})


def run_of(source: str, tmp_path: Path) -> Path:
    """Return a stand-in that was changed: it runs `source` first."""
    made = standin.benchmark_model(tmp_path / "changed", python=sys.executable)
    made.write_text(made.read_text().replace("import resource\n", f"import resource\n{source}\n", 1))
    return made


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Session]:
    with session.opened(local.Local("desk"), device(tmp_path, None)) as opened:
        yield opened


def feed_of(path: Path, examples: int = 3) -> Feed:
    random = np.random.default_rng(1)
    details = Interpreter(model_path=str(path)).get_input_details()
    arrays = tuple(random.normal(size=(examples, *detail["shape"])).astype(detail["dtype"]) for detail in details)
    return Feed(tuple(detail["name"] for detail in details), arrays)


def host_outputs(path: Path, feed: Feed) -> list[NDArray[Any]]:
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    found: list[list[NDArray[Any]]] = []
    for example in range(feed.count):
        for detail, array in zip(interpreter.get_input_details(), feed.arrays, strict=True):
            interpreter.set_tensor(detail["index"], array[example])
        interpreter.invoke()
        found.append([interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()])
    return [np.stack(column) for column in zip(*found, strict=True)]


def trial_of(board: Session, model: Path, **changes: Any) -> Trial:
    feed = feed_of(model)
    interpreter = Interpreter(model_path=str(model))
    specs = tuple(
        OutputSpec(detail["name"], tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"]).name)
        for detail in interpreter.get_output_details()
    )
    trial = Trial(board.deliver(model, what="the model"), WANTED, feed, specs)
    return replace(trial, **changes)


def bench(
    board: Session,
    entry: Device,
    trial: Trial,
    *,
    delegate: str | None = None,
    told: list[Progress] | None = None,
) -> Measured:
    wanted = Runtime(name="benchmark_model", source=SOURCE, delegate=delegate)
    steps = told if told is not None else []
    here = Path(entry.folder or "/").parent
    made = benchmark_model.ready(board, entry, wanted, home=here, log=here / "log", on_progress=silent)
    return benchmark_model.measure(board, made, trial, on_progress=steps.append)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_gives_the_same_figures(board: Session, model: Path, tmp_path: Path, dialect: Dialect) -> None:
    binary = standin.benchmark_model(tmp_path / "bin", dialect=dialect, python=sys.executable)
    told: list[Progress] = []
    trial = trial_of(board, model)
    found = bench(board, device(tmp_path, binary), trial, told=told)

    figures = found.samples.aggregate_ms
    assert figures is not None
    assert found.samples.samples_ns is None
    assert figures["runs"] >= 20
    assert 0 < figures["min"] <= figures["mean"] <= figures["max"]
    assert ("p50" in figures) == dialect.endswith("2025")
    assert any("percentiles" in doubt for doubt in found.doubts) == (not dialect.endswith("2025"))
    assert 0 < (found.samples.init_ns or 0) < 10e9
    assert figures["min"] <= (found.samples.first_ns or 0) / 1e6 < 1000
    assert found.runtime.version == f"sha256:{digest.of_file(binary)}"

    assert found.memory is not None
    assert found.memory.bare_mib is not None
    assert 5 < found.memory.bare_mib <= found.memory.peak_rss_mib < 1000
    assert found.memory.model_mib == pytest.approx(found.memory.peak_rss_mib - found.memory.bare_mib)
    assert found.operators is not None
    assert sum(one.share for one in found.operators) == pytest.approx(1)
    assert {"measure on desk", "memory on desk", "operators on desk"} <= {step.stage for step in told}

    if dialect == WRITES_OUTPUTS:
        expected = host_outputs(model, trial.feed)
        assert [one.shape for one in found.outputs] == [(3, 1, 8, 8, 5), (3, 1, 7)]
        for got, want in zip(found.outputs, expected, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, atol=1e-5)
        assert not any("random" in doubt for doubt in found.doubts)
    else:
        assert found.outputs == ()
        assert any("not compared" in doubt for doubt in found.doubts)
    assert any("random" in doubt for doubt in found.doubts) == (dialect in ("tflite-2019", "litert-2025"))


def test_outputs_of_many_examples_come_in_pieces(
    board: Session, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_model, "BATCH_OF_EXAMPLES", 2)
    binary = standin.benchmark_model(tmp_path / "bin", python=sys.executable)
    told: list[Progress] = []
    trial = trial_of(board, model, profile=False, memory=False)
    found = bench(board, device(tmp_path, binary), trial, told=told)
    for got, want in zip(found.outputs, host_outputs(model, trial.feed), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    assert [step.done for step in told if step.stage == "outputs on desk"] == [1, 2, 3]
    assert found.memory is None
    assert found.operators is None


def test_a_batch_is_timed_and_outputs_stay_single(board: Session, model: Path, tmp_path: Path) -> None:
    binary = standin.benchmark_model(tmp_path / "bin", python=sys.executable)
    trial = trial_of(board, model, profile=False, memory=False, wanted=replace(WANTED, batch=4, threads=2))
    found = bench(board, device(tmp_path, binary), trial)
    assert found.outputs[0].shape == (3, 1, 8, 8, 5)
    assert not any("random" in doubt for doubt in found.doubts)


def test_a_batch_needs_a_build_that_shapes_inputs(board: Session, model: Path, tmp_path: Path) -> None:
    binary = standin.benchmark_model(tmp_path / "bin", dialect="litert-2025", python=sys.executable)
    trial = trial_of(board, model, wanted=replace(WANTED, batch=4))
    with pytest.raises(DeviceFault, match="does not know --input_layer") as caught:
        bench(board, device(tmp_path, binary), trial)
    assert caught.value.fault == "failed"


def test_cores_are_chosen_by_a_mask(board: Session, model: Path, tmp_path: Path) -> None:
    source = "import os; open('cores', 'w').write(str(sorted(os.sched_getaffinity(0))))"
    trial = trial_of(board, model, profile=False, memory=False, wanted=replace(WANTED, cpus=(1,)))
    bench(board, device(tmp_path, run_of(source, tmp_path)), trial)
    assert board.fetch(f"{board.folder}/cores") == b"[1]"


def test_a_gpu_that_did_nothing_is_told(board: Session, model: Path, tmp_path: Path) -> None:
    binary = standin.benchmark_model(tmp_path / "bin", python=sys.executable)
    found = bench(board, device(tmp_path, binary), trial_of(board, model, memory=False, profile=False), delegate="gpu")
    assert "the GPU delegate took nothing: the CPU ran all of the model" in found.doubts
    assert "GPU: nothing, the CPU ran it all" in (found.runtime.delegate or "")


def test_plain_kernels_are_asked_for_by_a_flag(board: Session, model: Path, tmp_path: Path) -> None:
    binary = standin.benchmark_model(tmp_path / "bin", python=sys.executable)
    found = bench(board, device(tmp_path, binary), trial_of(board, model, memory=False), delegate="none")
    assert found.operators is not None
    assert [one.name for one in found.operators] == ["BUILTIN_KERNELS"]


def test_a_delegate_flag_that_the_build_does_not_know_is_refused(board: Session, model: Path, tmp_path: Path) -> None:
    binary = standin.benchmark_model(tmp_path / "bin", dialect="litert-2025", python=sys.executable)
    with pytest.raises(DeviceFault, match="does not know --external_delegate_path"):
        bench(board, device(tmp_path, binary), trial_of(board, model), delegate="/usr/lib/libvx_delegate.so")


def test_an_external_delegate_that_is_not_there_fails_with_the_tools_words(
    board: Session, model: Path, tmp_path: Path
) -> None:
    binary = standin.benchmark_model(tmp_path / "bin", python=sys.executable)
    with pytest.raises(DeviceFault, match="libnowhere") as caught:
        bench(board, device(tmp_path, binary), trial_of(board, model), delegate="/usr/lib/libnowhere.so")
    assert caught.value.fault == "failed"


def test_deprecated_delegates_are_refused(board: Session, model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nnapi: deprecated"):
        bench(board, device(tmp_path, run_of("", tmp_path)), trial_of(board, model), delegate="nnapi")


def test_a_broken_model_fails_with_the_tools_words(board: Session, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model at all")
    binary = standin.benchmark_model(tmp_path / "bin", python=sys.executable)
    trial = replace(trial_of(board, model), model=board.deliver(broken, what="a broken model"))
    with pytest.raises(DeviceFault, match=r"desk: benchmark_model failed .exit 1.: Failed to initialize") as caught:
        bench(board, device(tmp_path, binary), trial)
    assert caught.value.fault == "failed"


@pytest.mark.parametrize(
    ("source", "fault", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed", "killed"),
        ("import os; os.kill(os.getpid(), 11)", "failed", "SIGSEGV"),
        ("import os; os.kill(os.getpid(), 4)", "failed", "newer processor"),
        ("import sys; sys.exit(0)", "failed", "without figures"),
        ("import sys; sys.exit('out.bin: No space left on device')", "full", "disk is full"),
    ],
)
def test_how_the_tool_ends_is_classified(
    board: Session, model: Path, tmp_path: Path, source: str, fault: str, words: str
) -> None:
    with pytest.raises(DeviceFault, match=words) as caught:
        bench(board, device(tmp_path, run_of(source, tmp_path)), trial_of(board, model))
    assert caught.value.fault == fault


def test_outputs_of_the_wrong_size_are_not_taken(board: Session, model: Path, tmp_path: Path) -> None:
    trial = trial_of(board, model, memory=False, profile=False)
    trial = replace(trial, outputs=trial.outputs[:1])
    binary = standin.benchmark_model(tmp_path / "bin", python=sys.executable)
    with pytest.raises(DeviceFault, match="bytes of outputs, not the"):
        bench(board, device(tmp_path, binary), trial)


def test_the_stand_in_runs_on_a_boards_older_python() -> None:
    source = (resources.folder("standin") / "benchmark_model.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))
    assert "import edgeship" not in source
    assert "from edgeship" not in source


class TestTheBinary:
    """What is refused before anything runs."""

    def ready(self, board: Session, entry: Device) -> None:
        wanted = Runtime(name="benchmark_model", source=SOURCE)
        benchmark_model.ready(board, entry, wanted, home=Path(), log=Path("log"), on_progress=silent)

    def test_none_is_named(self, board: Session, tmp_path: Path) -> None:
        with pytest.raises(DeviceFault, match="desk: its entry names no benchmark_model") as caught:
            self.ready(board, device(tmp_path, None))
        assert caught.value.fault == "missing"
        assert "--benchmark-model FILE" in (caught.value.hint or "")

    def test_it_is_not_there(self, board: Session, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="no such file"):
            self.ready(board, device(tmp_path, None, benchmark_model=str(tmp_path / "gone")))

    def test_nobody_pinned_it(self, board: Session, tmp_path: Path) -> None:
        binary = run_of("", tmp_path)
        with pytest.raises(BadInput, match="does not pin it"):
            self.ready(board, device(tmp_path, None, benchmark_model=str(binary)))

    def test_it_was_replaced(self, board: Session, tmp_path: Path) -> None:
        entry = device(tmp_path, run_of("", tmp_path), benchmark_model_sha256="0" * 64)
        with pytest.raises(BadInput, match="expected sha256 0000"):
            self.ready(board, entry)

    def test_it_is_no_program(self, board: Session, tmp_path: Path) -> None:
        text = tmp_path / "page.html"
        text.write_text("<html>404</html>")
        with pytest.raises(BadInput, match="not a program"):
            self.ready(board, device(tmp_path, text))

    def test_it_is_for_another_machine(self, board: Session, tmp_path: Path) -> None:
        head = bytearray(Path(sys.executable).read_bytes()[:4096])
        head[18:20] = b"\xb7\x00"
        other = tmp_path / "linux_aarch64_benchmark_model"
        other.write_bytes(head)
        with pytest.raises(BadInput, match=r"built for aarch64 .64 bits.; the board's programs are x86_64"):
            self.ready(board, device(tmp_path, other))

    def test_its_loader_is_not_there(self, board: Session, tmp_path: Path) -> None:
        program = Path(sys.executable).read_bytes()
        loader = next(
            name for name in (b"/lib64/ld-linux-x86-64.so.2", b"/lib/ld-linux-aarch64.so.1") if name in program
        )
        android = tmp_path / "android_benchmark_model"
        android.write_bytes(program.replace(loader, b"/system/bin/linker64".ljust(len(loader), b"\0"), 1))
        with pytest.raises(
            DeviceFault, match="started by /system/bin/linker64, which the board does not have"
        ) as caught:
            self.ready(board, device(tmp_path, android))
        assert caught.value.fault == "missing"
