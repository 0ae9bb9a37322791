"""PyTorch in, by the real converter in its own environment: exported programs, functions of the user's, hostile files."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeship import check_inputs, environment, torch_file
from edgeship.converter import Converter
from edgeship.digest import of_file
from tests import conftest
from tests.conftest import Answer

Here = Callable[..., Answer]
HERE = Path(__file__).parent.parent
TWO = HERE / "data" / "torch" / "two_inputs-recorded-torch-2.13.0.pt2"
_FLOAT = "float32"
# Model → the reference's inputs and outputs.
CASES = {
    "unet": ({"image": ((1, 16, 16, 3), _FLOAT)}, {"output": ((1, 16, 16, 2), _FLOAT)}),
    "recurrent": (
        {"frames": ((1, 7, 6), _FLOAT), "state": ((1, 1, 5), _FLOAT)},
        {"words": ((1, 7, 3), _FLOAT), "state_after": ((1, 1, 5), _FLOAT)},
    ),
}


@pytest.fixture(scope="session")
def python(session_store: Path) -> Path:
    """Return the interpreter of the converter's environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESHIP_HOME", str(session_store))
        return environment.ready("litert-torch", log=session_store / "torch.log")


@pytest.fixture(scope="session")
def models(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of exported programs, made by torch itself."""
    folder = tmp_path_factory.mktemp("torch")
    line = [str(python), "-I", str(HERE / "tiny_torch.py"), str(folder), *CASES, "only_by_onnx"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=conftest.TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", CASES)
def test_programs_come_in_and_verify(name: str, here: Here, models: Path) -> None:
    source = models / f"{name}.pt2"
    before = of_file(source)
    answer = here("inspect", source, "--json")
    assert answer.code == 0, answer.stdout + answer.stderr
    for side, expected in zip(("inputs", "outputs"), CASES[name], strict=True):
        assert {spec["name"]: (tuple(spec["shape"]), spec["dtype"]) for spec in answer.table[side]} == expected
    assert answer.table["format"] == "pytorch"
    assert of_file(source) == before


def test_what_litert_torch_cannot_lower_goes_by_way_of_onnx(here: Here, models: Path, tmp_path: Path) -> None:
    line = ("build", models / "only_by_onnx.pt2", "--target", "rpi4", "--recipe", "float32", "--json")
    answer = here(*line, "--out", tmp_path / "out")
    assert answer.code == 0, answer.stdout + answer.stderr
    assert answer.table["import"]["relative_error"] <= 1e-4
    assert answer.table["import"]["checked_against"].startswith("torch 2.")
    notes = json.loads((tmp_path / "out" / "manifest.json").read_text())["notes"]
    assert any("by way of ONNX" in note and "logcumsumexp" in note for note in notes)


MODULE = """
import pathlib, sys
sys.path.insert(0, {tests!r})
pathlib.Path({marker!r}).open("a").write("x")

def make():
    import tiny_torch
    return tiny_torch.make("encoder")

def wrong():
    return "a model"

def broken():
    raise ZeroDivisionError("of my own")
"""


def test_a_function_of_the_user_s_runs_only_when_named(here: Here, python: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "my_module.py").write_text(MODULE.format(tests=str(HERE), marker=str(marker)))
    shutil.copyfile(TWO, tmp_path / "my_module.pt2")
    code = here("build", "my_module.py", "--target", "rpi4")
    assert code.code == 2 and "my_module:function" in code.stderr
    assert not marker.exists()
    answer = here("build", "my_module:make", "--target", "rpi4", "--recipe", "float32", "--json", "--out", "out")
    assert answer.code == 0, answer.stdout + answer.stderr
    assert marker.read_text() == "x"
    assert answer.table["import"]["relative_error"] <= 1e-4
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [spec["name"] for spec in manifest["inputs"]] == ["signal"]
    for name, word in (
        ("wrong", "returned str"),
        ("broken", r"ZeroDivisionError (line 14): of my own"),
        ("mak", "it has broken, make"),
    ):
        refused = here("build", f"my_module:{name}", "--target", "rpi4")
        assert refused.code == 2, refused.stderr
        assert word in refused.message.replace("\n", " ")
    assert marker.read_text() == "xxxx"  # it ran again each time
    missing = here("build", "other:make", "--target", "rpi4")
    assert missing.code == 2 and "other.py" in missing.message


def pickle_that_writes(place: Path) -> bytes:
    """Return what torch.load runs a program by, when it is allowed to: a file is made."""
    script = f"open({str(place)!r}, 'w')"
    return b"\x80\x02cbuiltins\nexec\nX" + len(script).to_bytes(4, "little") + script.encode() + b"\x85R."


LOAD = "import sys, torch\ntry: torch.export.load(sys.argv[1])\nexcept Exception as fault: print(fault)"


def test_pickles_and_evaluated_text_run_in_torch_and_not_in_edgeship(here: Here, python: Path, tmp_path: Path) -> None:
    marks = {name: tmp_path / f"{name}-ran" for name in ("inputs", "size")}
    for name, mark in marks.items():
        with zipfile.ZipFile(TWO) as archive, zipfile.ZipFile(tmp_path / f"{name}.pt2", "w") as made:
            for entry in archive.infolist():
                content = archive.read(entry)
                if name == "inputs" and entry.filename.endswith("sample_inputs/model.pt"):
                    content = pickle_that_writes(mark)
                if name == "size" and entry.filename.endswith("models/model.json"):
                    table = json.loads(content)
                    text = f"__import__('pathlib').Path({str(mark)!r}).touch()"
                    sizes = table["graph_module"]["graph"]["tensor_values"]["image"]["sizes"]
                    sizes[0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 1}}}
                    content = json.dumps(table).encode()
                made.writestr(entry.filename, content)
        subprocess.run([python, "-I", "-c", LOAD, tmp_path / f"{name}.pt2"], capture_output=True, timeout=300)
        assert mark.exists(), f"{name}: torch itself does not run it, so this shows nothing"
        mark.unlink()
    refused = here("inspect", tmp_path / "size.pt2")
    assert refused.code == 2 and "could run code" in refused.message
    answered = here("inspect", tmp_path / "inputs.pt2", "--json")  # the pickle is left out: the rest is a good program
    assert answered.code == 0, answered.stderr
    assert not any(mark.exists() for mark in marks.values())


def test_the_first_operation_that_differs_is_named(python: Path, tmp_path: Path) -> None:
    torch_file.write_clean(TWO, torch_file.read(TWO), tmp_path / "clean.pt2")
    random = np.random.default_rng(0)
    given = {"image": random.standard_normal((1, 8, 8, 3), "f"), "extra": random.standard_normal((1, 4), "f")}
    check_inputs.write(tmp_path / "feed.npz", given, {})
    shapes = {"image": (1, 3, 8, 8), "extra": (1, 4)}
    inputs = [
        {"name": name, "shape": shapes[name], "eaten": array.shape, "dtype": "float32",
         "channels_last": name == "image", "batched": False}
        for name, array in given.items()
    ]  # fmt: skip
    order = {
        "do": "compare",
        "source": str(tmp_path / "clean.pt2"),
        "inputs": inputs,
        "feed": str(tmp_path / "feed.npz"),
    }
    with Converter("litert-torch", python, "litert_torch_runner.py", memory_gib=16.0, log=tmp_path / "log") as tool:
        everything = tool.ask({**order, "folder": str(tmp_path), "tolerance": -1.0}, timeout_s=300)
        nothing = tool.ask({**order, "folder": str(tmp_path), "tolerance": 1e-4}, timeout_s=300)
    assert everything["suspect"] == "aten.conv2d.default at conv"
    assert nothing["suspect"] is None
