"""ONNX in, by the real converter in its own environment: every kind of interface, and refusals that name operation and layer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeship import child, environment, flatbuffer, interpret, onnx_difference
from edgeship.converter import Converter, Refused
from edgeship.digest import of_file
from tests import tiny_onnx
from tests.conftest import Answer, CommandLine
from tests.tiny_onnx import FLOAT, node

Here = Callable[..., Answer]
Ports = dict[str, tuple[tuple[int, ...], str]]
_FLOAT = "float32"
# Model → what is typed, and the reference's inputs and outputs.
CASES: dict[str, tuple[tuple[str, ...], Ports, Ports]] = {
    "channels_last": ((), {"image": ((1, 8, 8, 3), _FLOAT)}, {"out": ((1, 3, 3, 4), _FLOAT)}),
    "named_by_tensorflow": (
        (),
        {"image:0": ((1, 8, 8, 3), _FLOAT), "other/image:0": ((1, 8, 8, 3), _FLOAT)},
        {"out:0": ((1, 6, 6, 4), _FLOAT)},
    ),
    "odd_names": (
        (),
        {"input.1": ((1, 4), _FLOAT)},
        {"/model/out:0": ((1, 3), _FLOAT), "a name, with blanks": ((1, 3), _FLOAT)},
    ),
    "open_image": (
        ("--shape", "image:1,3,12,16"),
        {"image": ((1, 12, 16, 3), _FLOAT)},
        {"mask": ((1, 24, 32, 2), _FLOAT)},
    ),
    "quantized": ((), {"image": ((1, 8, 8, 3), _FLOAT)}, {"out": ((1, 6, 6, 4), _FLOAT)}),
    "sequence": (
        (),
        {"audio": ((1, 2, 16), _FLOAT)},
        {"active": ((1, 5, 16), _FLOAT), "out": ((1, 16, 3), _FLOAT)},
    ),
    "stateful": (
        (),
        {"x": ((1, 4), _FLOAT), "state": ((1, 2, 1, 3), _FLOAT), "rate": ((1,), "int64")},
        {"out": ((1, 3), _FLOAT), "state_after": ((2, 1, 3), _FLOAT)},
    ),
    "tokens": (
        ("--shape", "input_ids:1,9"),  # the mask's axis has the same name
        {"input_ids": ((1, 9), "int64"), "attention_mask": ((1, 9), "int64")},
        {"embedding": ((1, 6), _FLOAT), "best": ((1,), "int64")},
    ),
}


def ports(specs: list[dict[str, Any]]) -> Ports:
    return {spec["name"]: (tuple(spec["shape"]), spec["dtype"]) for spec in specs}


@pytest.mark.parametrize("name", CASES)
def test_interfaces_of_every_kind_come_in(name: str, here: Here, tmp_path: Path) -> None:
    typed, inputs, outputs = CASES[name]
    path = tiny_onnx.save(getattr(tiny_onnx, name)(), tmp_path / f"{name}.onnx")
    before = of_file(path)
    answer = here("inspect", path, "--json", *typed)
    assert answer.code == 0, answer.stdout + answer.stderr
    assert answer.table["format"] == "onnx"
    assert ports(answer.table["inputs"]) == inputs
    assert ports(answer.table["outputs"]) == outputs
    assert of_file(path) == before


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return examples for the model of two inputs: bytes, channels last, as cameras store them."""
    random = np.random.default_rng(5)
    path = tmp_path / "photos.npz"
    np.savez(
        path,
        image=random.integers(0, 256, (40, 8, 8, 3)).astype(np.uint8),
        extra=random.standard_normal((40, 4)).astype(np.float32),
    )
    return path


def built(model: Path, data: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("build", model, "--target", "rpi4", "--recipe", "int8", "--data", data, *more, "--json")


def test_a_build_from_onnx_starts_no_tensorflow_and_leaves_the_file_alone(
    cli: CommandLine, photos: Path, tmp_path: Path
) -> None:
    path = tiny_onnx.save(tiny_onnx.two_inputs(), tmp_path / "m.onnx")
    before = of_file(path)
    for package in ("tensorflow", "keras", "tf_keras"):
        (tmp_path / "trap" / package).mkdir(parents=True)
        (tmp_path / "trap" / package / "__init__.py").write_text(
            f"open({str(tmp_path / 'sprung')!r}, 'a').write(__name__)\nraise SystemExit('must not be imported')\n"
        )
    line = CommandLine(
        cli.home, cli.cwd, {"PYTHONPATH": f"{cli.environment['PYTHONPATH']}{os.pathsep}{tmp_path / 'trap'}"}
    )
    answer = line(*built(path, photos, "--scale", "0.0078125", "--offset", "-1"))
    assert answer.code == 0, answer.stderr
    table = answer.table
    assert not (tmp_path / "sprung").exists()
    assert of_file(path) == before
    assert table["import"]["checked_against"].startswith("onnxruntime ")
    assert table["import"]["relative_error"] <= 1e-4
    assert {"onnx2tf", "onnxsim", "onnxruntime"} <= set(table["stages"][0]["tools"])
    manifest = json.loads((tmp_path / table["manifest"]).read_text())
    assert [tuple(one["shape"]) for one in manifest["inputs"]] == [(1, 8, 8, 3), (1, 4)]
    assert any("channels last" in note for note in manifest["notes"])
    again = line(*built(path, photos, "--scale", "0.0078125", "--offset", "-1"))
    assert {stage["outcome"] for stage in again.table["stages"]} == {"cached"}


@pytest.mark.parametrize("keep", [False, True], ids=["turned", "kept"])
@pytest.mark.parametrize("stored", ["NHWC", "NCHW"])
def test_examples_of_either_layout_feed_either(
    keep: bool, stored: str, here: Here, photos: Path, tmp_path: Path
) -> None:
    path = tiny_onnx.save(tiny_onnx.two_inputs(), tmp_path / "m.onnx")
    if stored == "NCHW":
        with np.load(photos) as content:
            arrays = dict(content)
        np.savez(photos, image=arrays["image"].transpose(0, 3, 1, 2), extra=arrays["extra"])
    options = ["--keep-layout"] if keep else []
    answer = here(*built(path, photos, "--scale", "0.0078125", *options, "--recipe", "float32"))
    assert answer.code == 0, answer.stdout
    specs = flatbuffer.read(Path(answer.table["artifact"])).interface.inputs
    assert specs[0].shape == ((1, 3, 8, 8) if keep else (1, 8, 8, 3))
    assert answer.table["quality"]["got"] == 1.0


def test_open_axes_are_asked_for_or_told_by_the_examples(here: Here, tmp_path: Path) -> None:
    path = tiny_onnx.save(tiny_onnx.open_image(), tmp_path / "m.onnx")
    asked = here("inspect", path)
    assert asked.code == 2
    assert "open dimensions (?, 3, ?, ?)" in asked.message
    assert "--shape image:1,3,224,224" in asked.stderr
    data = tmp_path / "d.npz"
    np.savez(data, inputs=np.random.default_rng(0).standard_normal((30, 10, 12, 3)).astype(np.float32))
    answer = here(*built(path, data))
    assert answer.code == 0, answer.stdout
    assert answer.table["import"]["examples"] == 8
    interface = flatbuffer.read(Path(answer.table["artifact"])).interface
    assert [spec.shape for spec in (*interface.inputs, *interface.outputs)] == [(1, 10, 12, 3), (1, 20, 24, 2)]
    typed = here("inspect", path, "--shape", "image:1,6,8,3", "--json")  # the other way round, as its examples are
    assert ports(typed.table["inputs"]) == {"image": ((1, 6, 8, 3), _FLOAT)}
    wrong = here("inspect", path, "--shape", "image:1,4,8,8")
    assert wrong.code == 2
    assert "does not fit" in wrong.message


def unsupported() -> onnx.ModelProto:
    nodes = [node("Relu", ["x"], "active"), node("Det", ["active"], "y")]
    return tiny_onnx.model(nodes, [("x", FLOAT, [1, 4, 4])], [("y", FLOAT, [1])])


def of_another_maker() -> onnx.ModelProto:
    made = tiny_onnx.model([node("Own", ["x"], "y", domain="acme")], [("x", FLOAT, [1, 4])], [("y", FLOAT, [1, 4])])
    made.opset_import.append(onnx.helper.make_opsetid("acme", 1))
    return made


def of_text() -> onnx.ModelProto:
    text = onnx.TensorProto.STRING
    return tiny_onnx.model([node("Identity", ["x"], "y")], [("x", text, [4])], [("y", text, [4])])


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (unsupported, 5, ["TFLite has no operations for Det ('y_layer')", "full log"]),
        (of_another_maker, 2, ["acme:Own"]),
        (of_text, 2, ["'x' is string"]),
        (tiny_onnx.half, 2, ["'x' is float16"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_be_brought_is_named(
    make: Callable[[], onnx.ModelProto], code: int, words: list[str], here: Here, tmp_path: Path
) -> None:
    path = tiny_onnx.save(make(), tmp_path / "m.onnx")
    answer = here("inspect", path)
    assert answer.code == code, answer.stderr
    assert answer.message.startswith(str(path))
    for word in words:
        assert word in answer.message


def test_damaged_files_are_refused_and_leave_nothing(here: Here, tmp_path: Path) -> None:
    content = tiny_onnx.two_inputs().SerializeToString()
    path, out = tmp_path / "m.onnx", tmp_path / "out"
    damages = [
        content[:2],
        content[: len(content) // 2],
        content[:-1],
        content.replace(b"Relu", b"Re\xffu"),
        content.replace(b"Conv", b"Canv"),
    ]
    for damaged in damages:
        path.write_bytes(damaged)
        answer = here("build", path, "--target", "rpi4", "--out", out)
        assert answer.code == 2, answer.stderr
        assert answer.message.startswith(str(path))
        assert not out.exists()


# ---- the first layer that differs


@pytest.fixture(scope="module")
def converted(session_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Convert one model with the real converter; return the graph, the TFLite file and the report."""
    folder = tmp_path_factory.mktemp("converted")
    made = onnx.shape_inference.infer_shapes(tiny_onnx.two_inputs(batch=1))
    graph, copied = tiny_onnx.save(made, folder / "graph.onnx"), tiny_onnx.save(made, folder / "copied.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESHIP_HOME", str(session_store))
        python = environment.ready("onnx2tf", log=folder / "log.txt")
    with Converter("onnx2tf", python, "onnx2tf_runner.py", memory_gib=8, log=folder / "log.txt") as tool:
        with pytest.raises(Refused, match="FileNotFoundError"):
            tool.ask({"do": "simplify", "source": str(folder / "gone"), "out": str(folder / "x")}, timeout_s=60)
        order = {
            "do": "convert",
            "source": str(copied),
            "folder": str(folder),
            "inputs": ["image", "extra"],
            "options": {},
        }
        answer = tool.ask(order, timeout_s=120)
        with pytest.raises(Refused, match="took longer than 0 s"):
            tool.ask(order, timeout_s=0)
    return graph, Path(answer["file"]), Path(answer["report"])


@pytest.mark.parametrize(
    ("weights", "operation", "layer"),
    [("kernel", "Conv", "features_layer"), ("dense", "Gemm", "scores_layer"), ("turn", "MatMul", "turned_layer")],
)
def test_the_first_layer_that_differs_is_found(
    weights: str, operation: str, layer: str, converted: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    graph, file, report = converted
    changed = onnx.load(graph)
    for tensor in changed.graph.initializer:
        if tensor.name == weights:
            array = onnx.numpy_helper.to_array(tensor).copy()
            array.flat[0] += 0.5
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, weights))
    random = np.random.default_rng(1)
    fed = {
        "image": random.standard_normal((1, 3, 8, 8)).astype(np.float32),
        "extra": random.standard_normal((1, 4)).astype(np.float32),
    }
    for made, expected in ((onnx.load(graph), None), (changed, (operation, f"'{layer}'"))):
        compare = partial(onnx_difference.first, source=graph, model=made, converted=file, report=report, fed=fed)
        found = child.run(partial(_asked, compare=compare), log=tmp_path / "log.txt", memory_gib=interpret.MEMORY_GIB)
        assert (None if found is None else (found.operation, found.layer)) == expected


def _asked(
    on_progress: object, compare: Callable[[], onnx_difference.Suspect | None]
) -> onnx_difference.Suspect | None:
    return compare()


# ---- killed


def converters() -> set[int]:
    """Return the processes that convert."""
    told = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]) for line in told.splitlines() if "onnx2tf_runner.py" in line and "ps -ww" not in line}


def test_a_build_that_is_killed_leaves_no_converter_behind(cli: CommandLine, tmp_path: Path) -> None:
    path = tiny_onnx.save(tiny_onnx.two_inputs(), tmp_path / "m.onnx")
    home = tmp_path / "home"
    home.mkdir()
    (home / "environments").symlink_to((cli.home / "environments").resolve())
    before = converters()
    process = CommandLine(home, tmp_path).start("inspect", path)
    deadline = time.monotonic() + 120
    while not (mine := converters() - before) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert mine, "it ended before its converter was seen"
    while converters() & mine and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not converters() & mine
