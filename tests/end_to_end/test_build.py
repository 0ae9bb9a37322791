"""Real builds through the real command line: the contract's JSON, the out folder, caching, and builds that are killed."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import flatbuffer, resources
from edgeship.digest import of_file
from tests.conftest import Answer, CommandLine, finish

DIGITS = resources.folder("models") / "digits"
SCALE = str(1 / 255)
FILES = {"model.tflite", "manifest.json", "report.html"}
KILLS = 8
NUMBER = (int, float)
# The contract of `edgeship build --json`: key → type, or the keys of an object.
CONTRACT: dict[str, Any] = {
    "artifact": str, "sha256": str, "target": str, "recipe": str, "size_bytes": int, "gzip_bytes": int,
    "reference_size_bytes": int, "sparsity": NUMBER, "warnings": list, "manifest": str, "report": str, "stages": list,
    "quality": {
        "metric": str, "reference": NUMBER, "got": NUMBER, "drop": NUMBER, "budget": (int, float, type(None)),
        "examples": int, "synthetic": bool, "passed": bool,
    },
    "import": {"checked_against": str, "max_abs_error": NUMBER, "relative_error": NUMBER, "examples": int},
    "quantized": {"operators": int, "of": int, "weight_share": NUMBER},
}  # fmt: skip
STAGE = {"stage": str, "outcome": str, "why": str, "seconds": NUMBER, "tools": dict}
Here = Callable[..., Answer]


def check(table: dict[str, Any], contract: dict[str, Any]) -> None:
    """Hold an object against key → type."""
    for key, kind in contract.items():
        if isinstance(kind, dict):
            check(table[key], kind)
        else:
            assert isinstance(table[key], kind), (key, table[key])


def outcomes(table: dict[str, Any]) -> dict[str, str]:
    return {stage["stage"]: stage["outcome"] for stage in table["stages"]}


def why(table: dict[str, Any]) -> dict[str, str]:
    return {stage["stage"]: stage["why"] for stage in table["stages"] if stage["outcome"] == "ran"}


def with_data(model: Path, *more: str | Path) -> tuple[str | Path, ...]:
    """Return the command line of a build on the digits' own examples."""
    data, calibration = DIGITS / "data.npz", DIGITS / "calibration.npz"
    return (
        "build",
        model,
        "-t",
        "rpi4",
        "--data",
        data,
        "--calibration",
        calibration,
        "--scale",
        SCALE,
        "--json",
        *more,
    )


def test_the_sample_model_becomes_a_smaller_one_that_is_the_same(digits_build: tuple[Answer, Path]) -> None:
    answer, out = digits_build
    assert answer.code == 0, answer.stderr
    table = answer.table
    check(table, CONTRACT)
    for stage in table["stages"]:
        check(stage, STAGE)
    assert (table["target"], table["recipe"], table["artifact"]) == ("rpi4", "int8", str(out / "model.tflite"))
    assert why(table) == {"import": "first build", "quantize": "first build", "verify": "first build"}
    assert table["size_bytes"] == (out / "model.tflite").stat().st_size < 0.4 * table["reference_size_bytes"]
    assert table["gzip_bytes"] < table["size_bytes"]
    assert table["sha256"] == of_file(out / "model.tflite")
    quality = table["quality"]
    assert (quality["metric"], quality["synthetic"], quality["passed"]) == ("top1", False, True)
    assert quality["reference"] > 0.95
    assert quality["drop"] == pytest.approx(quality["reference"] - quality["got"], abs=1e-12)
    assert quality["drop"] < 0.01
    assert table["quantized"]["operators"] == table["quantized"]["of"]
    assert table["quantized"]["weight_share"] == 1.0
    assert table["import"]["relative_error"] < 1e-4
    assert table["warnings"] == []


def test_the_out_folder_holds_the_artifact_and_all_that_is_known_of_it(digits_build: tuple[Answer, Path]) -> None:
    answer, out = digits_build
    assert {path.name for path in out.iterdir()} == FILES
    manifest = json.loads((out / "manifest.json").read_text())
    table = answer.table
    assert {key: manifest[key] for key in table} == table
    assert set(manifest["input_hashes"]) == {"model", "reference", "data", "calibration"}
    assert manifest["options"]["seed"] == 0
    assert len(manifest["layers"]) > 5
    (image,), (scores,) = manifest["inputs"], manifest["outputs"]
    assert (image["shape"], image["dtype"], scores["shape"]) == ([1, 28, 28, 1], "int8", [1, 10])
    assert image["preprocessing"]["scale"] == [pytest.approx(1 / 255)]
    assert manifest["labels"] == [str(digit) for digit in range(10)]
    graph = flatbuffer.read(out / "model.tflite")
    spec = graph.interface.inputs[0]
    assert (image["name"], image["scale"], image["zero_point"]) == (spec.name, spec.scale, spec.zero_point)
    page = (out / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert table["sha256"][:12] in page


def test_an_unchanged_rebuild_runs_nothing(digits_build: tuple[Answer, Path], session_store: Path) -> None:
    before, out = digits_build
    logs = set((session_store / "logs").iterdir())
    run = CommandLine(session_store, out.parent, {"PYTHONPROFILEIMPORTTIME": "1"})
    again = run("build", "--target", "rpi4", "--json", "--out", out)
    assert again.code == 0, again.stderr
    assert outcomes(again.table) == {"import": "cached", "quantize": "cached", "verify": "cached"}
    assert {stage["why"] for stage in again.table["stages"]} == {"unchanged"}
    same = set(CONTRACT) - {"stages"}
    assert {key: again.table[key] for key in same} == {key: before.table[key] for key in same}
    loaded = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines() if line.startswith("import time:")}
    assert "edgeship.pipeline" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"tensorflow", "keras", "tf_keras", "litert_quantizer"}
    assert set((session_store / "logs").iterdir()) == logs  # no child was started either


@pytest.mark.parametrize(
    ("recipe", "size", "drop", "dtype"),
    [
        ("float32", 1.0, 0.0, "float32"),
        ("float16", 0.6, 0.005, "float32"),
        ("int8-weights", 0.4, 0.01, "float32"),
        ("dynamic-int8", 0.4, 0.01, "float32"),
        ("int8-float-io", 0.4, 0.01, "float32"),
        ("int16x8", 0.5, 0.01, "int16"),
        ("int4-weights", 0.3, 0.1, "float32"),
    ],
)
def test_each_flatbuffer_recipe(
    here: Here, float_digits: Path, recipe: str, size: float, drop: float, dtype: str
) -> None:
    answer = here(*with_data(float_digits, "-r", recipe, "--out", "out"))
    assert answer.code == 0, answer.stderr
    table = answer.table
    assert table["size_bytes"] <= size * table["reference_size_bytes"]
    assert table["quality"]["drop"] <= drop
    assert table["quality"]["examples"] == 400
    graph = flatbuffer.read(Path("out/model.tflite"))
    assert graph.interface.inputs[0].dtype == dtype
    assert table["quantized"]["weight_share"] == pytest.approx(0 if recipe == "float32" else 1, abs=0.01)


def test_verify_compares_two_files_and_keeps_a_budget(here: Here, float_digits: Path, int8_digits: Path) -> None:
    data = ("--data", DIGITS / "data.npz", "--scale", SCALE, "--json")
    answer = here("verify", float_digits, int8_digits, *data)
    assert answer.code == 0, answer.stderr
    quality = answer.table["quality"]
    assert (quality["metric"], quality["examples"], quality["passed"]) == ("top1", 400, True)
    assert abs(quality["drop"]) < 0.01
    errors = [layer["sqnr_db"] for layer in answer.table["layers"] if layer["sqnr_db"] is not None]
    assert len(errors) > 5
    assert errors == sorted(errors)
    missed = here("verify", float_digits, int8_digits, *data, "--metric", "mse", "--max-drop", "0")
    assert missed.code == 7
    assert missed.table["quality"]["passed"] is False
    same = here("verify", float_digits, float_digits, *data)
    assert same.table["quality"]["drop"] == 0
    assert same.table["quality"]["agreement"] == 1


def test_inspect_tells_a_quantized_file(here: Here, int8_digits: Path) -> None:
    answer = here("inspect", int8_digits, "--json")
    assert answer.code == 0, answer.stderr
    assert answer.table["quantized"].startswith("int8 in or out")
    assert answer.table["inputs"][0]["dtype"] == "int8"


def test_a_quantized_file_is_not_quantized_again_and_says_so(here: Here, int8_digits: Path) -> None:
    answer = here("build", int8_digits, "-t", "rpi4", "-r", "dynamic-int8", "--json", "--out", "out")
    assert answer.code == 0, answer.stderr
    assert set(outcomes(answer.table)) == {"import", "verify"}
    assert any("is quantized already" in text and "was not applied" in text for text in answer.table["warnings"])
    assert Path("out/model.tflite").read_bytes() == int8_digits.read_bytes()
    assert answer.table["quality"]["synthetic"] is True


def test_a_missed_budget_keeps_everything_and_is_exit_7(here: Here, float_digits: Path) -> None:
    answer = here(*with_data(float_digits, "--metric", "mse", "--max-drop", "0", "--out", "out"))
    assert answer.code == 7
    assert answer.table["quality"]["passed"] is False
    assert answer.table["quality"]["budget"] == 0
    assert {path.name for path in Path("out").iterdir()} == FILES
    assert json.loads(Path("out/manifest.json").read_text())["quality"]["passed"] is False
    people = here(*(word for word in with_data(float_digits, "--metric", "mse", "--max-drop", "0") if word != "--json"))
    assert people.code == 7
    assert "MISSED" in people.stdout


def test_a_users_folder_keeps_the_users_files(here: Here, float_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine, caf\udce9"  # no UTF-8
    (out / "notes").mkdir(parents=True)
    (out / "notes" / "a.txt").write_text("mine")
    for _ in range(2):
        assert here(*with_data(float_digits, "--out", out)).code == 0
        assert {path.name for path in out.iterdir()} == {*FILES, "notes"}
        assert (out / "notes" / "a.txt").read_text() == "mine"


def test_a_model_is_never_written_over_by_its_own_build(here: Here, float_digits: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.tflite"
    source.write_bytes(float_digits.read_bytes())
    answer = here(*(word for word in with_data(source, "--out", tmp_path) if word != "--json"))
    assert answer.code == 2
    assert answer.message.startswith(f"{source}: is there already and was not made by edgeship")
    assert source.read_bytes() == float_digits.read_bytes()


def test_a_stage_says_what_changed(here: Here, float_digits: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('base = "int8"\n')
    images = np.random.default_rng(0).integers(0, 255, (40, 28, 28, 1), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", image=images, labels=np.arange(40) % 10)

    def build(*more: str) -> dict[str, str]:
        answer = here("build", float_digits, "-t", "rpi4", "-r", recipe, "--data", "data.npz", "--json", *more)
        assert answer.code == 0, answer.stderr
        return why(answer.table)

    assert build("--scale", SCALE)["verify"] == "first build"
    assert build("--scale", SCALE) == {}
    recipe.write_text('base = "int8"\n[quantize]\ngranularity = "tensor"\n')
    changed = build("--scale", SCALE)
    assert changed == {"quantize": 'option granularity: "channel" to "tensor"', "verify": "the artifact changed"}
    assert all("option preparation" in text for text in build("--scale", "0.5").values())
    assert "option seed: 0 to 1" in build("--scale", "0.5", "--seed", "1")["import"]
    np.savez(tmp_path / "data.npz", image=images[::-1], labels=np.arange(40) % 10)
    assert build("--scale", "0.5", "--seed", "1") == {
        "import": "the data changed", "quantize": "the calibration data changed",
        "verify": "the artifact changed; the evaluation data changed",
    }  # fmt: skip


def test_fresh_runs_every_stage_again(here: Here, float_digits: Path) -> None:
    first = here(*with_data(float_digits)).table
    again = here(*with_data(float_digits, "--fresh")).table
    assert why(again) == {"import": "--fresh", "quantize": "--fresh", "verify": "--fresh"}
    assert again["sha256"] == first["sha256"]
    assert again["quality"] == first["quality"]


def test_two_builds_at_once_both_succeed(cli: CommandLine, float_digits: Path, tmp_path: Path) -> None:
    run = dataclasses.replace(cli, home=tmp_path / "store")
    answers = [finish(process) for process in [run.start(*with_data(float_digits, "--out", "out")) for _ in range(2)]]
    assert [answer.code for answer in answers] == [0, 0], [answer.stderr for answer in answers]
    first, second = (answer.table for answer in answers)
    assert first["sha256"] == second["sha256"] == of_file(tmp_path / "out" / "model.tflite")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"out", "store"}
    assert list((tmp_path / "store" / "work").iterdir()) == []


def test_a_build_killed_anywhere_leaves_a_store_that_builds(
    cli: CommandLine, float_digits: Path, tmp_path: Path
) -> None:
    """The short form; `scripts/bench_kill.py` does a hundred."""
    run = dataclasses.replace(cli, home=tmp_path / "store")
    command = with_data(float_digits, "--out", tmp_path / "out")
    times = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        killed += run.kill_after(times.uniform(0.2, 3), *command) == -9
        if (tmp_path / "out").exists():
            manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
            assert manifest["sha256"] == of_file(tmp_path / "out" / "model.tflite")
    assert killed
    listed = run("store", "list", "--json")
    assert listed.code == 0, listed.stderr
    built = run(*command)
    assert built.code == 0, built.stderr
    assert built.table["sha256"] == of_file(tmp_path / "out" / "model.tflite")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert list((tmp_path / "store" / "work").iterdir()) == []
