"""The command line: one JSON object whatever happens, global flags anywhere, exit codes, near misses, a light `--help`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import edgeship
from edgeship.cli import app
from tests.tiny_tflite import separable

HEAVY = (
    "tensorflow", "keras", "tf_keras", "onnx", "ai_edge_litert", "litert_quantizer", "paramiko", "sqlalchemy",
    "matplotlib", "rich.markdown", "numpy",
)  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def error(result: Result) -> dict[str, Any]:
    """Return the refusal in the one JSON object on stdout."""
    table = json.loads(result.stdout)
    assert set(table) == {"error"}
    assert set(table["error"]) == {"exit", "message", "hint", "log"}
    assert table["error"]["exit"] == result.exit_code
    found: dict[str, Any] = table["error"]
    return found


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(separable().write(tmp_path / "tiny.tflite"))


MISTAKES = [
    ((), 2, "Missing command"),
    (("store",), 2, "Missing command"),
    (("bulid",), 2, "No such command 'bulid'. Did you mean 'build'?"),
    (("build",), 2, "Missing option '--target'"),
    (("build", "--tagret", "rpi4"), 2, "No such option: --tagret"),
    (("build", "--target", "rpi4", "--seed", "x"), 2, "Invalid value for '--seed'"),
    (("build", "--target", "rpi4", "--seed", "-1"), 2, "Invalid value for '--seed'"),
    (("build", "a", "b", "--target", "rpi4"), 2, "unexpected extra argument"),
    (("build", "--target", "rpi44"), 2, "no such target 'rpi44'; did you mean 'rpi4'?"),
    (("build", "--target", "rpi4", "--recipe", "int9"), 2, "no such recipe 'int9'; did you mean 'int8'?"),
    (("build", "digit", "--target", "rpi4"), 2, "no such model 'digit'; did you mean 'digits'?"),
    (("build", "--target", "coral-usb", "-r", "float16"), 2, "coral-usb refuses the recipe 'float16'"),
    (("build", "--target", "rpi4", "--metric", "top-1"), 2, "no such metric 'top-1'; did you mean 'top1'?"),
    (("build", "--target", "rpi4", "--max-drop", "inf"), 2, "--max-drop inf"),
    (("build", "--target", "rpi4", "--max-drop", "-1"), 2, "--max-drop -1"),
    (("build", "--target", "rpi4", "--scale", "1,x"), 2, "--scale 1,x: expected a number"),
    (("build", "--target", "rpi4", "--shape", "1,2"), 2, "--shape 1,2: expected the input's name"),
    (("build", "--target", "rpi4", "--data", "gone.npz"), 2, "gone.npz: no such file"),
    (("inspect", "gone.tflite"), 2, "gone.tflite: no such file"),
    (("inspect", "caf\udce9.tflite"), 2, "caf\udce9.tflite: no such file"),
    (("inspect", "x" * 300), 2, "File name too long"),
    (("inspect", "digits", "--target", "rpi"), 2, "no such target 'rpi'"),
    (("verify", "digits"), 2, "Missing argument 'b'"),
    (("targets", "rp14"), 2, "did you mean 'rpi4'"),
    (("store", "prune", "--days", "-1"), 2, "Invalid value for '--days'"),
    (("store", "clean"), 2, "No such command 'clean'"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), MISTAKES)
def test_a_mistake_is_one_json_object_and_nothing_else(arguments: tuple[str, ...], code: int, said: str) -> None:
    found = run(*arguments, "--json")
    assert found.exit_code == code
    assert said in error(found)["message"]
    assert found.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"), [entry for entry in MISTAKES if entry[0] not in ((), ("store",))]
)
def test_a_mistake_is_one_line_and_a_hint_for_people(arguments: tuple[str, ...], code: int, said: str) -> None:
    found = run(*arguments)
    assert found.exit_code == code
    assert found.stdout == ""
    lines = found.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert said.encode(errors="backslashreplace").decode() in lines[0]
    assert len(lines) <= 2
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("arguments", [(), ("store",)])
def test_a_command_without_its_rest_shows_help(arguments: tuple[str, ...]) -> None:
    found = run(*arguments)
    assert found.exit_code == 2
    assert "Usage: edgeship" in found.stderr
    assert "error:" not in found.stderr


def test_global_flags_may_stand_anywhere(tiny: str) -> None:
    tables = [
        json.loads(run(*arguments).stdout)
        for arguments in (
            ("--json", "inspect", tiny),
            ("inspect", "--json", tiny),
            ("inspect", tiny, "--quiet", "--json"),
            ("-v", "inspect", tiny, "--json", "--traceback"),
        )
    ]
    assert all(table == tables[0] for table in tables)
    assert tables[0]["format"] == "tflite"


def test_behind_a_double_dash_a_flag_is_a_name() -> None:
    found = run("inspect", "--", "--json")
    assert found.exit_code == 2
    assert "no such model '--json'" in found.stderr


def test_the_version_may_stand_anywhere() -> None:
    for arguments in (("--version",), ("build", "--version"), ("store", "list", "--version")):
        found = run(*arguments)
        assert (found.exit_code, found.stdout) == (0, f"edgeship {edgeship.__version__}\n")


def test_a_traceback_is_shown_when_asked_for() -> None:
    found = run("inspect", "gone.tflite", "--traceback", "--json")
    assert error(found)["exit"] == 2
    assert "Traceback" in found.stderr


@pytest.mark.parametrize("command", ["build", "verify", "inspect", "targets", "doctor", "store", "store list"])
def test_every_command_has_help(command: str) -> None:
    found = run(*command.split(), "--help")
    assert found.exit_code == 0
    assert f"Usage: edgeship {command}" in found.stdout
    assert found.stderr == ""


def test_inspect_has_the_contracts_keys(tiny: str) -> None:
    table = json.loads(run("inspect", tiny, "--target", "rpi4", "--json").stdout)
    assert set(table) >= {
        "format", "parameters", "macs", "size_bytes", "sparsity", "inputs", "outputs", "operators", "target",
    }  # fmt: skip
    assert table["operators"]["CONV_2D"] == 3
    assert table["size_bytes"] == Path(tiny).stat().st_size
    assert table["inputs"][0]["shape"] == [1, 16, 16, 3]
    assert table["target"]["name"] == "rpi4"
    assert table["target"]["roofline"]["bound_by"] in ("memory", "compute")
    assert "CONV_2D" in run("inspect", tiny).stdout


def test_targets_lists_all_and_shows_one() -> None:
    every = json.loads(run("targets", "--json").stdout)["targets"]
    assert {"rpi4", "rpi5", "coral-usb", "linux-x86_64"} <= {target["name"] for target in every}
    one = json.loads(run("targets", "rpi4", "--json").stdout)
    assert one in every
    for name in ("rpi4", "coral-usb"):
        assert name in run("targets").stdout
        assert name in run("targets", name).stdout


def test_doctor_says_what_is_installed(own_store: Path) -> None:
    table = json.loads(run("doctor", "--json").stdout)
    assert table["edgeship"] == edgeship.__version__
    assert table["store"] == str(own_store)
    assert table["store_writable"] is True
    assert table["ready"]["core"] is True
    assert all(
        tool["version"] or tool["install"].startswith(("pip install", "made by", "https://coral.ai"))
        for tool in table["tools"]
    )
    assert "numpy" in run("doctor").stdout


def test_an_empty_store_lists_and_prunes_nothing(own_store: Path) -> None:
    assert json.loads(run("store", "list", "--json").stdout) == {"store": str(own_store), "entries": []}
    table = json.loads(run("store", "prune", "--days", "0", "--json").stdout)
    assert table == {"results": 0, "artifacts": 0, "freed_bytes": 0, "environments": 0}
    assert "0 results" in run("store", "list").stdout


def test_a_store_that_cannot_be_is_refused(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_store.write_text("a file")
    found = run("store", "list", "--json")
    assert error(found)["exit"] == 2
    assert "the store cannot be written" in error(found)["message"]


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["build", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys\nsys.argv = ['edgeship', *{arguments!r}]\nfrom edgeship.cli import main\n"
        f"try:\n    main()\nfinally:\n    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stderr == "[]\n"
    assert "edgeship" in found.stdout


@pytest.mark.processes
def test_a_name_that_no_encoding_can_tell_is_told_anyway() -> None:
    for encoding in ("utf-8:strict", "ascii:strict"):
        found = subprocess.run(
            [sys.executable, "-m", "edgeship.cli", "inspect", b"caf\xe9.tflite"],
            capture_output=True, text=True, timeout=60, check=False, env={**_environment(), "PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert (found.returncode, found.stdout) == (2, "")
        assert found.stderr.startswith("error: caf\\udce9.tflite: no such file")


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(edgeship.__file__).parent.parent)}
