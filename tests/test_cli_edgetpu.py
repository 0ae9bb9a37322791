"""`edgeship edgetpu`, and what `inspect` and `build` make of compiled files: JSON, words, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edgeship.cli import app
from tests import tiny_edgetpu
from tests.test_compiled import CACHED, pieces
from tests.tiny_edgetpu import EightBit
from tests.tiny_tflite import separable

KEYS = {
    "operators", "edgetpu_share", "subgraphs", "cpu_operators", "parameter_bytes", "fits_on_chip", "suggestions", "compiler",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take every compiler off the way: the forecast alone is meant here."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EDGESHIP_EDGETPU_COMPILER", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def table(*arguments: str) -> dict[str, Any]:
    found = run(*arguments, "--json")
    assert found.exit_code == 0, found.output
    read: dict[str, Any] = json.loads(found.stdout)
    return read


def refusal(*arguments: str) -> dict[str, Any]:
    found = run(*arguments, "--json")
    error: dict[str, Any] = json.loads(found.stdout)["error"]
    assert error["exit"] == found.exit_code
    assert found.stderr == ""
    return error


@pytest.fixture
def half(tmp_path: Path) -> str:
    """Write a model of which one operation does not map, and one stands behind it."""
    return str(EightBit().source().conv(3).chain("LEAKY_RELU").conv().ends().write(tmp_path / "half.tflite"))


def test_json_has_the_issues_keys(half: str) -> None:
    found = table("edgetpu", half)
    assert set(found) >= KEYS
    assert [set(one) >= {"index", "name", "on", "reason", "confidence"} for one in found["operators"]] == [True] * 3
    assert [one["on"] for one in found["operators"]] == ["edgetpu", "cpu", "cpu"]
    assert found["cpu_operators"] == {"LEAKY_RELU": 1, "CONV_2D": 1}
    assert found["edgetpu_share"] == pytest.approx(1 / 3)
    assert found["subgraphs"] == 1 and found["compiler"] is None
    assert found["fits_on_chip"] is True
    assert found["target"] == "coral-usb" and found["runtime"] == 14


def test_people_see_what_stays_why_and_what_to_change(half: str) -> None:
    found = run("edgetpu", half)
    assert found.exit_code == 0
    assert "IN PART" in found.stdout and "1 of 3 operations (33%)" in found.stdout
    assert "LEAKY_RELU" in found.stdout and "certain" in found.stdout
    assert "→ Replace LEAKY_RELU" in found.stdout
    assert "a forecast" in found.stdout


def test_a_whole_model_maps(tmp_path: Path) -> None:
    path = EightBit().source().conv().ends().write(tmp_path / "whole.tflite")
    assert "ALL MAPS" in run("edgetpu", str(path), "--target", "coral-dev-board").stdout


def test_a_file_that_the_compiler_refuses_is_no_error(tmp_path: Path) -> None:
    path = EightBit().source().conv().chain("GELU").ends().write(tmp_path / "new.tflite")
    found = run("edgetpu", str(path))
    assert found.exit_code == 0
    assert "CPU ONLY" in found.stdout and "the compiler would refuse this file" in found.stdout


def test_the_out_folder_of_a_build_will_do(tmp_path: Path) -> None:
    EightBit().source().conv().ends().write(tmp_path / "model.tflite")
    assert table("edgetpu", str(tmp_path))["path"].endswith("model.tflite")


def test_without_the_compiler_what_only_it_can_do_is_refused(half: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    for asked in (("--with", half), ("--out", str(made))):
        error = refusal("edgetpu", half, *asked)
        assert error["exit"] == 4
        assert asked[0] in error["message"] and "edgetpu_compiler is not installed" in error["message"]
        assert "coral.ai/docs/edgetpu/compiler" in error["hint"]
    assert not made.exists()


def test_a_compiled_file_is_not_compiled_beside_another(half: str, tmp_path: Path) -> None:
    done = str(tiny_edgetpu.compiled(tmp_path, given=CACHED))
    error = refusal("edgetpu", half, "--with", done)
    assert error["exit"] == 3 and error["message"].startswith(f"{done}: is compiled")


def test_several_subgraphs_and_an_older_runtime(half: str) -> None:
    assert table("edgetpu", half, "-a")["subgraphs"] == 2
    assert table("edgetpu", half, "--runtime", "12")["runtime"] == 12


def test_refusals(tmp_path: Path, half: str) -> None:
    float_model = str(separable().write(tmp_path / "float.tflite"))
    done = str(tiny_edgetpu.compiled(tmp_path, given=CACHED))
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(Path(half).read_bytes()[:300])
    mistakes = [
        (("edgetpu", float_model), 2, f"{float_model}: computes in float32"),
        (("edgetpu", done), 3, f"{done}: is compiled for the Edge TPU already"),
        (("edgetpu", str(broken)), 2, f"{broken}: damaged TFLite file"),
        (("edgetpu", half, "--target", "rpi4"), 2, "rpi4: has no Edge TPU"),
        (("edgetpu", half, "--target", "coral-ubs"), 2, "did you mean 'coral-usb'?"),
        (("edgetpu", half, "--runtime", "11"), 2, "runtime 11: nothing is known of it"),
        (("edgetpu", "gone.tflite"), 2, "gone.tflite: no such file"),
        (("edgetpu", "digits"), 2, "not a TFLite file"),
        (("edgetpu",), 2, "Missing argument 'model'"),
    ]
    for arguments, code, said in mistakes:
        error = refusal(*arguments)
        assert (error["exit"], said in error["message"]) == (code, True), error
    assert "edgeship inspect" in refusal("edgetpu", done)["hint"]
    assert "edgeship build digits" in refusal("edgetpu", "digits")["hint"]


def test_open_sizes_are_refused(tmp_path: Path) -> None:
    model = EightBit().source().conv().ends()
    model.tensors[model.inputs[0]].shapeSignature = [1, -1, -1, 4]
    path = model.write(tmp_path / "open.tflite")
    assert "has open sizes (1,?,?,4)" in refusal("edgetpu", str(path))["message"]


def test_inspect_shows_what_was_compiled(tmp_path: Path) -> None:
    path = str(tiny_edgetpu.compiled(tmp_path, "m_edgetpu.tflite", CACHED, "SOFTMAX"))
    found = table("inspect", path)
    assert found["compiled"]["cpu_operators"] == {"SOFTMAX": 1}
    assert found["compiled"]["cached_bytes"] == 4096
    assert found["operators"] == {"edgetpu-custom-op": 1, "SOFTMAX": 1}
    words = run("inspect", path).stdout
    assert "for the Edge TPU, 1 part" in words and "1 SOFTMAX" in words and "4.0 KiB cached on the chip" in words


def test_inspect_of_a_package_of_an_unknown_form(tmp_path: Path) -> None:
    assert "of a form that is not known" in run("inspect", str(tiny_edgetpu.compiled(tmp_path, given=b"new"))).stdout


def test_inspect_puts_segments_together(tmp_path: Path) -> None:
    paths = pieces(tmp_path)
    found = table("inspect", str(paths[1]))
    assert [Path(one["path"]).name for one in found["segments"]] == [path.name for path in paths]
    assert "segment 2" in run("inspect", str(paths[1])).stdout
    paths[0].unlink()
    assert f"missing beside it: {paths[0].name}" in run("inspect", str(paths[1])).stdout


def test_inspect_of_any_other_model_says_nothing_of_it(tmp_path: Path) -> None:
    found = table("inspect", str(separable().write(tmp_path / "m.tflite")))
    assert found["compiled"] is None and found["segments"] == []


@pytest.mark.processes  # the import is a child of its own
def test_build_refuses_to_quantize_it_again(tmp_path: Path) -> None:
    path = str(tiny_edgetpu.compiled(tmp_path, given=CACHED))
    error = refusal("build", path, "--target", "rpi4", "--out", str(tmp_path / "out"))
    assert error["exit"] == 2
    assert error["message"] == f"{path}: is compiled for the Edge TPU already, and cannot be quantized again"
    assert "edgeship inspect" in error["hint"]
    assert not (tmp_path / "out").exists()
