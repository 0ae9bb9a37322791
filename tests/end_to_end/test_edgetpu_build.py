"""Builds for a Coral through the command line, with the stand-in of its closed compiler: what is made, kept, cached and refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import compiled, deliverable, digest, flatbuffer, standin
from edgeship.compilers import edgetpu
from edgeship.standin import CompilerMode
from edgeship.store import Store
from tests.conftest import Answer, CommandLine
from tests.contract.test_compilers import running
from tests.tiny_tflite import separable

Here = Callable[..., Answer]
BUILD = ("build", "tiny.tflite", "--target", "coral-usb", "--data", "images.npz", "--out", "out")
IMAGES = np.random.default_rng(0).normal(size=(24, 16, 16, 3)).astype(np.float32)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a test with a small float model and images in it; no compiler is installed."""
    monkeypatch.delenv(edgetpu.SETTING, raising=False)
    if shutil.which(edgetpu.NAME):  # the real one is asked in tests/contract
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
    separable().write(tmp_path / "tiny.tflite")
    np.savez(tmp_path / "images.npz", inputs=IMAGES)
    return tmp_path


@pytest.fixture
def use(work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[CompilerMode], Path]:
    """Return what installs the stand-in in a mode."""

    def install(mode: CompilerMode) -> Path:
        made = standin.edgetpu_compiler(work / "program", mode=mode)
        monkeypatch.setenv(edgetpu.SETTING, str(made))
        return made

    return install


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("out", "manifest.json").read_text())
    return found


def files() -> list[str]:
    return sorted(path.name for path in Path("out").iterdir())


def test_without_the_compiler_the_forecast_stands_in(here: Here, work: Path) -> None:
    answer = here(*BUILD, "--json")
    assert answer.code == 0, answer.stderr
    table = answer.table

    assert files() == ["manifest.json", "model.tflite", "report.html"]
    assert Path(table["artifact"]).name == "model.tflite"
    assert (table["passed"], table["compiler"], table["uncompiled"]) == (True, None, None)
    assert {gate["seen_by"] for gate in table["gates"]} == {"forecast"}
    (told,) = [text for text in table["warnings"] if "is not installed" in text]
    assert "https://coral.ai/docs/edgetpu/compiler/" in told
    assert "operations are forecast to map" in told
    assert "compile" not in [stage["stage"] for stage in table["stages"]]
    assert manifest()["forecast"]["edgetpu_share"] > 0


def test_with_the_compiler_both_files_are_there(here: Here, use: Callable[[CompilerMode], Path]) -> None:
    use("works")
    answer = here(*BUILD, "--json")
    assert answer.code == 0, answer.stderr
    table = answer.table
    out = Path("out")

    assert files() == ["manifest.json", "model.tflite", "model_edgetpu.tflite", "report.html"]
    assert Path(table["artifact"]).name == "model_edgetpu.tflite"
    assert table["sha256"] == digest.of_file(out / "model_edgetpu.tflite")
    assert table["size_bytes"] == (out / "model_edgetpu.tflite").stat().st_size
    assert table["uncompiled"]["sha256"] == digest.of_file(out / "model.tflite")
    assert compiled.is_compiled(flatbuffer.read(out / "model_edgetpu.tflite"))
    assert not compiled.is_compiled(flatbuffer.read(out / "model.tflite"))
    assert (table["passed"], table["compiler"]["cpu_operators"], table["compiler"]["streamed_bytes"]) == (True, {}, 0)
    assert table["compiler"]["min_runtime"] == 14
    (stage,) = [stage for stage in table["stages"] if stage["stage"] == "compile"]
    assert stage["tools"] == {"edgetpu_compiler": standin.COMPILER_VERSIONS[0]}
    assert any("stand-in" in text for text in table["warnings"])
    page = (out / "report.html").read_text()
    assert "no Edge TPU in a build" in page
    assert "load_delegate" in page
    assert "Mapped to Edge TPU" in page

    again = here(*BUILD, "--json").table
    assert {stage["outcome"] for stage in again["stages"]} == {"cached"}

    found = deliverable.find("out")
    assert (found.path.name, found.runnable.name, found.target) == ("model_edgetpu.tflite", "model.tflite", "coral-usb")
    assert deliverable.find("out/model.tflite").target == "coral-usb"
    refused = here("build", "out/model_edgetpu.tflite", "--target", "coral-usb", "--out", "again")
    assert refused.code == 2
    assert "out/model_edgetpu.tflite" in refused.message


def test_a_compiler_that_comes_or_goes_is_noticed(
    here: Here, use: Callable[[CompilerMode], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here(*BUILD)
    use("works")
    assert here(*BUILD, "--json").table["compiler"] is not None
    monkeypatch.delenv(edgetpu.SETTING)
    table = here(*BUILD, "--json").table
    assert table["compiler"] is None
    assert files() == ["manifest.json", "model.tflite", "report.html"]


def test_a_broken_gate_is_a_verdict_and_everything_is_kept(here: Here, use: Callable[[CompilerMode], Path]) -> None:
    use("unmapped")
    answer = here(*BUILD, "--json")
    assert answer.code == 7, answer.stderr
    table = answer.table

    assert table["passed"] is False
    assert table["quality"]["passed"] is True
    assert {gate["gate"]: gate["passed"] for gate in table["gates"]} == {"streamed_bytes": True, "cpu_operators": False}
    assert any("stay on the CPU, coral-usb allows 0" in text for text in table["warnings"])
    assert "model_edgetpu.tflite" in files()
    page = Path("out", "report.html").read_text()
    assert "Missed a gate" in page
    assert manifest()["passed"] is False
    assert here(*BUILD).code == 7  # also when all of it is cached


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("refused", "large activation tensors"),
        ("crash", "Segmentation fault"),
        ("silence", "without a word and without a file"),
        ("no-file", "says that it succeeded, and wrote no file"),
        ("plain-file", "a file without edgetpu-custom-op"),
        ("garbage", "no TFLite file, or damaged"),
        ("hang", "took longer than 3 s and was ended"),
    ],
)
def test_a_compiler_that_breaks_leaves_nothing(
    mode: CompilerMode, words: str, here: Here, use: Callable[[CompilerMode], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(mode)
    monkeypatch.setenv(edgetpu.TIMEOUT_SETTING, "1" if mode == "hang" else "60")
    answer = here(*BUILD)

    assert answer.code == 5, answer.stderr
    assert answer.message.startswith("tiny.tflite: ")
    assert words in answer.message
    log = Path(answer.message.rpartition("full log: ")[2].strip())
    assert log.is_file()
    assert not Path("out").exists()
    assert not list(Path().glob(".*"))
    store = Path(os.environ["EDGESHIP_HOME"])
    assert not list((store / "work").iterdir())


def test_the_users_own_file_is_not_written_over(here: Here, use: Callable[[CompilerMode], Path]) -> None:
    use("works")
    Path("out").mkdir()
    Path("out", "model_edgetpu.tflite").write_bytes(b"mine")
    answer = here(*BUILD)
    assert answer.code == 2
    assert "was not made by edgeship" in answer.message
    assert Path("out", "model_edgetpu.tflite").read_bytes() == b"mine"


def test_a_setting_that_names_no_program(here: Here, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(edgetpu.SETTING, str(work / "gone"))
    answer = here(*BUILD)
    assert answer.code == 4
    assert "no such program" in answer.message
    monkeypatch.setenv(edgetpu.SETTING, "")
    monkeypatch.setenv(edgetpu.TIMEOUT_SETTING, "soon")
    assert here(*BUILD).code == 0  # nothing is compiled, so nothing is timed


def test_the_command_compiles_several_together_and_keeps_them(
    here: Here, use: Callable[[CompilerMode], Path], work: Path
) -> None:
    use("works")
    assert here(*BUILD).code == 0
    shutil.copyfile("out/model.tflite", "first.tflite")
    shutil.copyfile("out/model.tflite", "second.tflite")
    answer = here("edgetpu", "first.tflite", "--with", "second.tflite", "--out", "made", "--json")
    assert answer.code == 0, answer.stderr
    parts = answer.table["compiler"]["parts"]

    assert [part["model"] for part in parts] == ["first.tflite", "second.tflite"]
    assert sorted(path.name for path in Path("made").iterdir()) == ["first_edgetpu.tflite", "second_edgetpu.tflite"]
    assert all(part["cached_bytes"] > 0 for part in parts)
    shown = here("edgetpu", "first.tflite").stdout
    assert "stand-in" in shown
    assert "1 of 1" in shown
    assert "without the compiler" not in shown
    both = here("edgetpu", "first.tflite", "--with", "second.tflite").stdout
    assert "first.tflite" in both and "second.tflite" in both  # on 80 columns too
    assert sorted(path.name for path in Path().glob("first*")) == ["first.tflite"]  # without --out nothing is kept


def test_compiled_segments_are_kept_beside_those_of_the_host(here: Here, use: Callable[[CompilerMode], Path]) -> None:
    use("works")
    assert here(*BUILD).code == 0
    shutil.copyfile("out/model.tflite", "m.tflite")
    assert here("edgetpu", "m.tflite", "--segments", "2", "--out", "made").code == 0
    names = [f"m_segment_{number}_of_2" for number in range(2)]
    wanted = [f"{name}{end}.tflite" for name in names for end in ("", "_edgetpu")]
    assert {path.name for path in Path("made").iterdir()} == {*wanted, "segments.json"}
    answer = here("edgetpu", "m.tflite", "--segments", "400", "--out", "none")
    assert answer.code == 3
    assert not Path("none").exists()


def test_the_command_says_what_the_compiler_complains_of(here: Here, use: Callable[[CompilerMode], Path]) -> None:
    assert here(*BUILD).code == 0
    use("refused")
    answer = here("edgetpu", "out/model.tflite", "--out", "made")
    assert answer.code == 5
    assert "large activation tensors" in answer.message
    assert not Path("made").exists()


def test_doctor_knows_the_compiler(here: Here, use: Callable[[CompilerMode], Path]) -> None:
    def told() -> dict[str, Any]:
        (tool,) = [tool for tool in here("doctor", "--json").table["tools"] if tool["name"] == edgetpu.NAME]
        return dict(tool)

    assert (told()["version"], told()["install"]) == (None, edgetpu.INSTALL)
    use("works")
    assert told()["version"] == f"{standin.COMPILER_VERSIONS[0]} (stand-in)"


def test_a_build_that_is_killed_leaves_no_compiler_running(work: Path, session_store: Path) -> None:
    variables = {
        edgetpu.SETTING: str(standin.edgetpu_compiler(work / "program", mode="hang")),
        edgetpu.TIMEOUT_SETTING: "2",
    }
    process = CommandLine(session_store, work, variables).start(*BUILD)

    def compiling() -> list[int]:
        return [pid for pid in running(str(work / "program")) if pid != process.pid]

    assert waited(compiling, 120)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert waited(lambda: not compiling(), 30)
    assert not (work / "out").exists()
    with Store(session_store) as store, store.scratch() as mine:  # whoever works next sweeps what was left
        assert [path.name for path in (session_store / "work").iterdir()] == [mine.name]


def waited(claim: Callable[[], Any], seconds: float) -> bool:
    """Return whether a claim came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if claim():
            return True
        time.sleep(0.2)
    return False
