"""Every compiler is asked the same: the stand-in that ships, and the real program where this machine has it.

The closed edgetpu_compiler cannot be shipped; our stand-in (`edgeship/standin`) takes its options, writes files of its form
and prints its dialects. What only a stand-in can do on demand (hang, crash, fall silent) is asked of it alone.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeship import compilation, compiled, digest, edgetpu_gates, flatbuffer, standin, target
from edgeship.compilation import Compilation, CompileOrder, Program, Source
from edgeship.compilers import COMPILERS, edgetpu
from edgeship.errors import BadInput, MissingTool, StageFailed
from edgeship.standin import CompilerMode
from tests.tiny_tflite import TinyModel

REAL = shutil.which(edgetpu.NAME)
NEWEST, *OLDER = standin.COMPILER_VERSIONS
PROGRAMS = [NEWEST, pytest.param("real", marks=pytest.mark.skipif(REAL is None, reason="closed"))]


def chain(count: int = 4, *, channels: int = 8, tail: bool = False) -> TinyModel:
    """Return an int8 model of 1x1 convolutions and a ReLU; with a tail, one operation that no Edge TPU has."""
    random, made = np.random.default_rng(0), TinyModel()
    here = made.input("image", (1, 8, 8, channels), "int8", scale=0.1, zero_point=0)
    for number in range(count):
        kernel = random.integers(-127, 128, (channels, 1, 1, channels), dtype=np.int8)
        weight = made.constant(f"w{number}", kernel, scale=np.full(channels, 0.01), axis=0)
        bias = made.constant(f"b{number}", np.zeros(channels, np.int32), scale=np.full(channels, 0.001), axis=0)
        after = made.tensor(f"c{number}", (1, 8, 8, channels), "int8", scale=0.1, zero_point=0)
        steps = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        here = made.operator("CONV_2D", [here, weight, bias], after, padding=schema.Padding.SAME, **steps)
    if tail:
        after = made.tensor("rounded", (1, 8, 8, channels), "int8", scale=0.1, zero_point=0)
        here = made.operator("FLOOR", [here], after)
    made.outputs = [here]
    return made


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "real":
            made = standin.edgetpu_compiler(tmp_path_factory.mktemp("program"), version=request.param)
            patch.setenv(edgetpu.SETTING, str(made))
        found = edgetpu.find()
        assert found is not None
        yield found


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Program:
    """Return the stand-in in one of its modes."""
    monkeypatch.setenv(edgetpu.SETTING, str(standin.edgetpu_compiler(tmp_path / "program", mode=request.param)))
    found = edgetpu.find()
    assert found is not None
    return found


def run(program: Program, folder: Path, *models: TinyModel, **options: float) -> Compilation:
    """Compile models in a fresh folder."""
    sources = tuple(
        Source(model.write(folder / f"source {number}.tflite"), f"my model {number}.tflite")
        for number, model in enumerate(models)
    )
    scratch = folder / "scratch"
    scratch.mkdir()
    order = CompileOrder(sources, **options)  # type: ignore[arg-type]  # whole numbers where they are whole
    return edgetpu.compile_models(order, program, folder=scratch, log=folder / "compile.log")


def test_every_compiler_satisfies_its_manual() -> None:
    assert list(COMPILERS) == sorted(COMPILERS)
    kinds = {one.accelerator.kind for one in target.read_all() if one.accelerator}
    assert kinds <= set(COMPILERS)
    for module in COMPILERS.values():
        assert module.NAME
        assert "https://" in module.INSTALL
        assert module.timeout_s() > 0


def test_it_says_who_it_is(program: Program) -> None:
    assert program.name == "edgetpu_compiler"
    assert program.version.count(".") >= 1
    assert program.sha256 == digest.of_file(Path(program.path))
    assert program.stand_in == (program.path != REAL)


def test_a_model_that_maps_whole(program: Program, tmp_path: Path) -> None:
    made = run(program, tmp_path, chain())
    (part,) = made.parts

    assert (part.model, part.segment, part.of) == ("my model 0.tflite", 0, 1)
    assert (part.chip_operators, part.cpu_operators) == (4, {})
    assert part.streamed_bytes == 0
    assert part.cached_bytes is not None and part.cached_bytes >= 4 * 64
    assert {line.status for line in part.statuses} == {"Mapped to Edge TPU"}
    graph = flatbuffer.read(tmp_path / "scratch" / part.file)
    assert compiled.is_compiled(graph)
    assert part.size_bytes == graph.size_bytes
    assert part.file.isascii() and " " not in part.file
    log = (tmp_path / "compile.log").read_text()
    assert f"{program.path} --show_operations" in log.splitlines()[0]
    assert f"Edge TPU Compiler version {program.version}" in log


def test_what_does_not_map_stays_on_the_cpu_and_is_explained(program: Program, tmp_path: Path) -> None:
    made = run(program, tmp_path, chain(tail=True))
    left = [line for line in made.parts[0].statuses if not line.mapped]

    assert made.chip_operators == 4
    assert made.cpu_operators == {"FLOOR": 1}
    assert [(line.name, line.count) for line in left] == [("FLOOR", 1)]
    assert left[0].meaning
    assert left[0].suggestion
    gates = edgetpu_gates.of_compiled(target.read("coral-usb").gates, made)
    assert {gate.gate: gate.passed for gate in gates} == {"streamed_bytes": True, "cpu_operators": False}
    assert "FLOOR" in edgetpu_gates.in_words(gates[1], made.cpu_operators, "coral-usb")


@pytest.mark.parametrize("version", OLDER)
def test_an_older_version_in_its_own_dialect(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(edgetpu.SETTING, str(standin.edgetpu_compiler(tmp_path / "program", version=version)))
    found = edgetpu.find()
    assert found is not None
    made = run(found, tmp_path, chain(2), chain(3, tail=True), min_runtime=14)

    assert (made.version, made.min_runtime) == (version, None)
    assert [part.chip_operators for part in made.parts] == [2, 3]
    assert [part.streamed_bytes for part in made.parts] == [0, 0]
    assert "--min_runtime_version" not in (tmp_path / "compile.log").read_text()


def test_models_compiled_together_in_the_order_given(program: Program, tmp_path: Path) -> None:
    made = run(program, tmp_path, chain(2), chain(3))
    assert [part.model for part in made.parts] == ["my model 0.tflite", "my model 1.tflite"]
    assert [part.chip_operators for part in made.parts] == [2, 3]
    assert len({part.file for part in made.parts}) == 2


def test_segments_with_their_balance(program: Program, tmp_path: Path) -> None:
    made = run(program, tmp_path, chain(4), segments=2)
    assert [(part.segment, part.of) for part in made.parts] == [(0, 2), (1, 2)]
    assert made.chip_operators == 4
    table = compilation.contract(made)
    assert sum(part["parameter_share"] for part in table["parts"]) == pytest.approx(1.0)
    assert [part["parameter_bytes"] for part in table["parts"]] == [part.parameter_bytes for part in made.parts]
    assert all(part.file.endswith(f"_segment_{number}_of_2_edgetpu.tflite") for number, part in enumerate(made.parts))


def test_a_float_model_is_refused_by_its_own_line(program: Program, tmp_path: Path) -> None:
    made = TinyModel()
    image = made.input("image", (1, 4))
    made.outputs = [made.dense(image, "dense", np.ones((2, 4)))]
    with pytest.raises(StageFailed, match=r"^my model 0\.tflite: edgetpu_compiler .* says '.*not quantized'") as caught:
        run(program, tmp_path, made)
    assert "recipe int8" in (caught.value.hint or "")
    assert caught.value.log == tmp_path / "compile.log"


def test_the_oldest_runtime_is_asked_for(program: Program, tmp_path: Path) -> None:
    made = run(program, tmp_path, chain(1), min_runtime=14)
    assert made.min_runtime == 14
    assert "--min_runtime_version 14" in (tmp_path / "compile.log").read_text()


@pytest.mark.parametrize(
    ("broken", "words", "hint"),
    [
        ("refused", "says 'Compilation failed: Compilation failed due to large activation tensors", "smaller input"),
        ("failed", "refused it without a reason", "edgeship edgetpu"),
        ("timeout", "says 'Compilation timeout.", edgetpu.TIMEOUT_SETTING),
        ("crash", "Segmentation fault", "last layers"),
        ("silence", "without a word and without a file", "edgeship edgetpu"),
        ("no-file", "says that it succeeded, and wrote no file", "edgeship edgetpu"),
        ("plain-file", "wrote a file without edgetpu-custom-op", None),
        ("garbage", "no TFLite file, or damaged", "compile again"),
    ],
    indirect=["broken"],
)
def test_each_way_to_break_is_told_apart(broken: Program, words: str, hint: str | None, tmp_path: Path) -> None:
    with pytest.raises(StageFailed) as caught:
        run(broken, tmp_path, chain(1))
    assert caught.value.message.startswith("my model 0.tflite: edgetpu_compiler")
    assert words in caught.value.message
    assert caught.value.message.endswith(f"; full log: {tmp_path / 'compile.log'}")
    assert (hint or "") in (caught.value.hint or "")


@pytest.mark.parametrize("broken", ["hang"], indirect=True)
def test_one_that_hangs_is_ended_with_its_children(broken: Program, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(StageFailed, match=r"my model 0\.tflite: .*took longer than 3 s and was ended") as caught:
        run(broken, tmp_path, chain(1), timeout_s=1.0)
    assert time.monotonic() - began < 30
    assert edgetpu.TIMEOUT_SETTING in (caught.value.hint or "")
    assert not list(running(str(tmp_path)))


def running(word: str) -> Iterator[int]:
    """Yield the processes whose working folder or command line lies in a folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                where, line = str((entry / "cwd").readlink()), (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if where.startswith(word) or word in line:
                yield int(entry.name)


@pytest.mark.parametrize("broken", ["unmapped"], indirect=True)
def test_a_file_of_which_nothing_maps_is_a_broken_gate_and_no_fault(broken: Program, tmp_path: Path) -> None:
    made = run(broken, tmp_path, chain(3))
    assert (made.chip_operators, made.cpu_operators) == (0, {"CONV_2D": 3})
    assert not edgetpu_gates.of_compiled(target.read("coral-usb").gates, made)[1].passed


def test_weights_beyond_the_cache_are_streamed_and_break_the_gate(program: Program, tmp_path: Path) -> None:
    made = run(program, tmp_path, chain(3, channels=2048))  # 12 MiB
    assert made.streamed_bytes is not None and made.streamed_bytes > 3 << 20
    (gate, _) = edgetpu_gates.of_compiled(target.read("coral-usb").gates, made)
    assert (gate.gate, gate.passed) == ("streamed_bytes", False)


class TestFinding:
    def test_none_on_the_path(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv(edgetpu.SETTING, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert edgetpu.find() is None

    def test_one_on_the_path(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        made = standin.edgetpu_compiler(tmp_path)
        monkeypatch.delenv(edgetpu.SETTING, raising=False)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        found = edgetpu.find()
        assert found is not None
        assert found.path == str(made)

    def test_a_setting_that_names_nothing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv(edgetpu.SETTING, str(tmp_path / "gone"))
        with pytest.raises(MissingTool, match=r"EDGESHIP_EDGETPU_COMPILER=.*gone: no such program") as caught:
            edgetpu.find()
        assert "coral.ai" in (caught.value.hint or "")

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ("#!/bin/sh\necho hello\n", "is no edgetpu_compiler: asked for its version, it said 'hello'"),
            ("#!/bin/sh\nexit 1\n", "it said 'nothing'"),
            ("\x7fELF of another processor", "does not run here"),
            ("#!/no/such/shell\n", "does not run here|needed and not installed"),
        ],
        ids=["another", "silent", "foreign", "no shell"],
    )
    def test_a_program_that_is_not_it(
        self, script: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = tmp_path / "edgetpu_compiler"
        path.write_text(script)
        path.chmod(0o755)
        monkeypatch.setenv(edgetpu.SETTING, str(path))
        with pytest.raises(MissingTool, match=words):
            edgetpu.find()

    def test_one_that_was_replaced_is_asked_again(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv(edgetpu.SETTING, str(standin.edgetpu_compiler(tmp_path)))
        versions: list[str] = []
        for version in standin.COMPILER_VERSIONS[:2]:
            path = standin.edgetpu_compiler(tmp_path, version=version)
            os.utime(path, ns=(len(versions), len(versions)))
            found = edgetpu.find()
            assert found is not None
            versions.append(found.version)
        assert versions == list(standin.COMPILER_VERSIONS[:2])

    @pytest.mark.parametrize("text", ["soon", "0", "-3", "nan", "inf", "1e9"])
    def test_a_time_that_is_none(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(edgetpu.TIMEOUT_SETTING, text)
        with pytest.raises(BadInput, match=f"^{edgetpu.TIMEOUT_SETTING}={text}: expected seconds"):
            edgetpu.timeout_s()


def test_the_modes_are_all_asked_about() -> None:
    asked: set[CompilerMode] = {
        "works", "refused", "failed", "timeout", "hang", "crash", "silence", "no-file", "plain-file", "garbage", "unmapped",
    }  # fmt: skip
    assert asked == set(standin.COMPILER_MODES)


def test_gates_that_are_forecast() -> None:
    gates = target.read("coral-usb").gates
    judge = partial(edgetpu_gates.of_forecast, gates)
    assert [gate.passed for gate in judge(cpu_operators={}, fits_on_chip=True)] == [True, True]
    assert [gate.passed for gate in judge(cpu_operators={"FLOOR": 2}, fits_on_chip=None)] == [True, False]
    (streamed, _) = judge(cpu_operators={}, fits_on_chip=False)
    assert (streamed.passed, streamed.got, streamed.seen_by) == (False, None, "forecast")
    assert "forecast" in edgetpu_gates.in_words(streamed, {}, "coral-usb")
    assert edgetpu_gates.of_forecast(None, cpu_operators={"FLOOR": 2}, fits_on_chip=False) == ()
