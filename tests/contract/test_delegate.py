"""An external delegate loaded by the board's runner and by a bench, on this machine: no Edge TPU is here.

What loads is a delegate of a few lines, made by the C compiler, that takes no operation; what fails is what really fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import board_facts, deliverable, digest, host, resources, session, target
from edgeship.attempt import _delegated, runtime_of
from edgeship.compilation import COMPILED, CompileOrder, Source
from edgeship.compilers import edgetpu
from edgeship.device import Device
from edgeship.devices import local
from edgeship.errors import BadInput, DeviceFault
from edgeship.measurement import Trial, Wanted
from edgeship.progress import silent
from edgeship.runtimes import litert
from edgeship.standin import edgetpu_compiler
from edgeship.target import Runtime
from tests.contract.test_compilers import chain
from tests.tiny_tflite import separable

# The C API of TensorFlow Lite (c/common.h): what the loader and the interpreter touch of a delegate that does nothing.
SOURCE = """
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
typedef struct Delegate { void* data; int (*prepare)(void*, struct Delegate*); void* hooks[3]; long long flags; void* builder; } Delegate;
static int prepare(void* context, Delegate* self) { return 0; }
Delegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, "option %s=%s\\n", keys[i], values[i]);
        if (!strcmp(values[i], "none")) return NULL;  /* libedgetpu without a chip: no delegate, and no word */
    }
    Delegate* made = calloc(1, sizeof(Delegate));
    made->prepare = prepare;
    return made;
}
void tflite_plugin_destroy_delegate(Delegate* made) { free(made); }
"""
WANTED = Wanted(threads=1, cpus=(), batch=1, runs=10, min_seconds=0.05, max_seconds=10, warmup_seconds=0.01)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        if os.environ.get("EDGESHIP_REQUIRE_LAB"):
            pytest.fail("a C compiler is needed: apt-get install gcc libc6-dev")
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("delegate")
    (folder / "delegate.c").write_text(SOURCE)
    made = folder / "libnothing.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, folder / "delegate.c"], check=True)
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return separable().write(tmp_path / "model.tflite")


def asked(model: Path, delegate: dict[str, Any] | None) -> tuple[int, dict[str, Any], str]:
    """Run the board's runner with a delegate; return its exit code, its last word and what libraries printed."""
    order = {
        "action": "memory", "model": str(model), "threads": 1, "cpus": [], "batch": 1, "delegate": delegate,
        "runtime": "ai-edge-litert", "proc": "/proc",
    }  # fmt: skip
    program = resources.board("runner.py")
    done = subprocess.run(
        [sys.executable, program], input=json.dumps(order), capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_the_runner_loads_a_delegate_with_its_options(library: Path, model: Path) -> None:
    code, last, noise = asked(model, {"library": str(library), "options": {"device": "usb"}})
    assert (code, last["event"]) == (0, "result"), last
    assert "option device=usb" in noise


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("libedgetpu-that-is-nowhere.so.1", "cannot open shared object file"),
        ("libm.so.6", "tflite_plugin_create_delegate"),
    ],
    ids=["missing", "another library"],
)
def test_a_library_that_is_no_delegate_is_told_as_one(name: str, words: str, model: Path) -> None:
    code, last, _ = asked(model, {"library": name, "options": {}})
    assert (code, last["event"], last["kind"]) == (1, "error", "delegate")
    assert words in last["message"]


def test_a_delegate_that_finds_no_chip(library: Path, model: Path) -> None:
    code, last, _ = asked(model, {"library": str(library), "options": {"device": "none"}})
    assert (code, last["kind"]) == (1, "delegate")
    assert "Failed to load delegate from" in last["message"]


def here(library: str, **options: str) -> Runtime:
    return Runtime(
        name="ai-edge-litert", version=None, delegate="libedgetpu", delegate_library=library, delegate_options=options,
        delegate_runtime=14, source="this machine's own",
    )  # fmt: skip


def bench(runtime: Runtime, model: Path, folder: Path) -> Any:
    """Bench a model on this machine with a runtime's delegate; return what came back and the host's outputs."""
    entry = Device(
        name="desk", target="coral-usb", transport="local", folder=str(folder / "there"), lease=folder.name,
        python=sys.executable,
    )  # fmt: skip
    subject = deliverable.find(str(model))
    feed = deliverable.seeded(subject.graph, {}, count=2)
    with session.opened(local.Local("desk"), entry) as board:
        ready = litert.ready(board, entry, runtime, home=folder, log=folder / "log", on_progress=silent)
        trial = Trial(board.deliver(model, what="the model"), WANTED, feed, subject.outputs)
        measured = litert.measure(board, ready, trial, on_progress=silent)
    return measured, host.outputs(model, feed, log=folder / "log")


def test_a_bench_with_a_delegate_measures_and_compares(library: Path, model: Path, tmp_path: Path) -> None:
    measured, expected = bench(here(str(library), device="usb"), model, tmp_path)
    assert measured.samples.first_ns > 0
    assert measured.memory is not None
    assert np.allclose(measured.outputs[0], expected[0])
    assert measured.operators is None
    assert any("libnothing.so.1" in doubt for doubt in measured.doubts)
    assert "libedgetpu" not in (measured.runtime.delegate or "")  # it took nothing, and so is not named


@pytest.mark.parametrize(
    ("device", "fault", "move"),
    [("none", "missing", "plugdev"), (None, "missing", "libedgetpu1-std")],
    ids=["no chip", "no library"],
)
def test_a_bench_says_what_to_do(
    device: str | None, fault: str, move: str, library: Path, model: Path, tmp_path: Path
) -> None:
    runtime = here(str(library), device=device) if device else here("libedgetpu-that-is-nowhere.so.1")
    with pytest.raises(DeviceFault) as caught:
        bench(runtime, model, tmp_path)
    assert caught.value.fault == fault
    assert move in (caught.value.hint or "")


class TestCompiledFiles:
    @pytest.fixture
    def built(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Return a folder as a build leaves it: the int8 file, the compiled one, the manifest that knows both."""
        monkeypatch.setenv(edgetpu.SETTING, str(edgetpu_compiler(tmp_path / "program")))
        out, scratch = tmp_path / "out", tmp_path / "scratch"
        out.mkdir()
        scratch.mkdir()
        plain = chain(2).write(out / "model.tflite")
        program = edgetpu.find()
        assert program is not None
        order = CompileOrder((Source(plain, "model.tflite"),))
        (part,) = edgetpu.compile_models(order, program, folder=scratch, log=tmp_path / "log").parts
        compiled = Path(shutil.copyfile(scratch / part.file, out / COMPILED))
        said = {
            "edgeship": "0", "sha256": digest.of_file(compiled), "uncompiled": {"sha256": digest.of_file(plain)},
            "target": "coral-usb", "inputs": [], "outputs": [],
        }  # fmt: skip
        (out / "manifest.json").write_text(json.dumps(said))
        return out

    def test_the_folder_stands_for_the_compiled_file(self, built: Path) -> None:
        found = deliverable.find(str(built))
        assert (found.path, found.runnable) == (built / COMPILED, built / "model.tflite")
        assert found.outputs[0].shape == (1, 8, 8, 8)
        assert len(host.outputs(found.runnable, deliverable.seeded(found.graph, {}, count=1), log=built / "log")) == 1

    def test_without_its_twin_nothing_can_be_held_against_it(self, built: Path, tmp_path: Path) -> None:
        alone = Path(shutil.copyfile(built / COMPILED, tmp_path / "x_edgetpu.tflite"))
        with pytest.raises(BadInput, match="compiled for the Edge TPU; the file that it was compiled from") as caught:
            deliverable.find(str(alone))
        assert "put x.tflite beside it" in (caught.value.hint or "")
        shutil.copyfile(built / "model.tflite", tmp_path / "x.tflite")
        assert deliverable.find(str(alone)).runnable == tmp_path / "x.tflite"
        chain(1, channels=4).write(tmp_path / "x.tflite")
        with pytest.raises(BadInput, match="it is of another model"):
            deliverable.find(str(alone))

    def test_a_twin_that_was_replaced(self, built: Path) -> None:
        chain(1).write(built / "model.tflite")
        with pytest.raises(BadInput, match=r"is not the file that model_edgetpu\.tflite was compiled from"):
            deliverable.find(str(built))

    def test_a_board_without_the_chip_is_told_what_it_can_run(self, built: Path) -> None:
        found = deliverable.find(str(built))
        board: Any = type("Board", (), {"name": "desk"})()
        with pytest.raises(BadInput, match="compiled for the Edge TPU, which a rpi4 does not have") as caught:
            _delegated(found, target.read("rpi4"), board)
        assert "model.tflite" in (caught.value.hint or "")
        assert _delegated(found, target.read("coral-usb"), board) == ("edgetpu-custom-op",)
        assert _delegated(deliverable.find(str(built / "model.tflite")), target.read("rpi4"), board) == ()


def test_a_binary_of_the_users_loads_the_targets_library(tmp_path: Path) -> None:
    entry = Device(
        name="desk", target="coral-usb", transport="local", benchmark_model="/bin/true", benchmark_model_sha256="0" * 64
    )
    chosen = runtime_of(entry, target.read("coral-usb"))
    assert (chosen.name, chosen.version, chosen.delegate_library) == ("benchmark_model", None, "libedgetpu.so.1")
    assert runtime_of(replace_binary(entry), target.read("coral-usb")).name == "tflite-runtime"
    plain = runtime_of(entry, target.read("rpi4"))
    assert (plain.name, plain.delegate_library) == ("benchmark_model", None)


def replace_binary(entry: Device) -> Device:
    return entry.model_copy(update={"benchmark_model": None, "benchmark_model_sha256": None})


def test_the_pair_that_crashes_is_refused_on_the_board(tmp_path: Path) -> None:
    board = replace(
        board_facts.read(["python=3.9.2", "libedgetpu=16.0"]), runtimes={"tflite-runtime": "2.14.0", "numpy": "1.26"}
    )
    stub: Any = type("Board", (), {"name": "desk", "board": board, "python": "python3"})()
    wanted = target.read("coral-usb").runtimes[0]
    with pytest.raises(
        DeviceFault, match=r"cannot be used with libedgetpu 16\.0: newer ones end with a segmentation fault"
    ) as caught:
        litert.ready(
            stub,
            Device(name="desk", target="coral-usb", transport="local"),
            wanted,
            home=tmp_path,
            log=tmp_path / "log",
            on_progress=silent,
        )
    assert caught.value.fault == "mismatch"
    assert "2.5.0.post1" in (caught.value.hint or "")
