"""`edgeship compare` on a real board behind sshd: A B B A until it is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeship import history, interpret
from tests.conftest import CommandLine
from tests.lab.drawer import Drawer, drawer
from tests.tiny_tflite import TinyModel, separable

QUICK = ("--runs", "16", "--min-seconds", "0.1", "--warmup-seconds", "0.1", "--no-reference")


def heavy() -> TinyModel:
    """Return a model with many times the work of the small one."""
    random, model = np.random.default_rng(0), TinyModel()
    image = model.input("image", (1, 32, 32, 3))
    first = model.conv(image, "stem", random.normal(size=(32, 3, 3, 3)), (16, 16), strideH=2, strideW=2)
    second = model.conv(first, "second", random.normal(size=(32, 3, 3, 32)), (16, 16))
    axes = model.constant("axes", np.array([1, 2], np.int32))
    pooled = model.operator("MEAN", [second, axes], model.tensor("pooled", (1, 1, 1, 32)), keepDims=True)
    flat = model.operator("RESHAPE", [pooled], model.tensor("flat", (1, 32)), newShape=[1, 32])
    logits = model.dense(flat, "dense", random.normal(size=(10, 32)))
    model.outputs.append(model.operator("SOFTMAX", [logits], model.tensor("softmax", (1, 10)), beta=1.0))
    return model


@pytest.fixture(scope="module")
def lab() -> Iterator[Drawer]:
    """Return a drawer with one board."""
    with drawer() as made:
        yield made


@pytest.fixture
def run(lab: Drawer, session_store: Path, tmp_path: Path) -> CommandLine:
    """Return the command line of a user whose drawer this is."""
    return CommandLine(session_store, tmp_path, {**lab.variables, "EDGESHIP_HISTORY": str(tmp_path / "nights.sqlite")})


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a small model's file."""
    return separable().write(tmp_path / "small.tflite")


def test_a_much_slower_artifact_is_exit_7(run: CommandLine, small: Path, tmp_path: Path) -> None:
    """Many times the work: worse by time and by size, and only by what the user asks for."""
    large = heavy().write(tmp_path / "large.tflite")
    answer = run("compare", small, large, "--device", "board-1", "--repeats", "4", "--json", *QUICK)
    assert answer.code == 7, answer.stderr
    told = answer.table
    assert (told["decision"], told["passed"], told["whole"]) == ("worse", False, True)
    verdicts = {one["metric"]: one for one in told["verdicts"]}
    assert verdicts["latency"]["decision"] == verdicts["size"]["decision"] == "slower"
    assert [one["side"] for one in told["runs"]] == ["a", "b", "b", "a"] * 2
    assert told["b"]["latency_ms"] > 1.5 * told["a"]["latency_ms"]
    assert told["a"]["runs"] == told["b"]["runs"] == 4
    effect, middle = verdicts["latency"]["effect"], told["b"]["latency_ms"] / told["a"]["latency_ms"] - 1
    assert effect == pytest.approx(middle, rel=0.1), "the table's times are those that the verdict is made of"
    shown = run("compare", large, small, "--device", "board-1", "--repeats", "4", "--gate", "latency", *QUICK)
    assert shown.code == 0 and "B IS BETTER" in shown.stdout


def test_of_an_error_more_is_worse_also_where_nobody_named_it(run: CommandLine, small: Path, tmp_path: Path) -> None:
    """Labels that are numbers are judged by their mean squared error: A has none of it, so B is worse."""
    other = separable(seed=1).write(tmp_path / "other.tflite")
    images = np.random.default_rng(0).normal(size=(12, 16, 16, 3)).astype(np.float32)
    np.savez(tmp_path / "images.npz", **{"input:image": images})  # type: ignore[arg-type]
    (ran,) = interpret.outputs([interpret.Job(small, tmp_path / "images.npz")], log=tmp_path / "log.txt")
    np.savez(tmp_path / "data.npz", image=images, labels=next(iter(ran.outputs.values())))
    told = run(
        "compare", small, other, "--device", "board-1", "--repeats", "2", "--data", tmp_path / "data.npz", "--gate",
        "quality", "--json", *QUICK,
    )  # fmt: skip
    assert told.code == 7, told.stderr
    (quality,) = (one for one in told.table["verdicts"] if one["metric"] == "quality")
    assert quality["decision"] == "slower" and told.table["b"]["quality"] > told.table["a"]["quality"]


def test_the_same_file_and_a_device_that_a_night_holds(run: CommandLine, small: Path, lab: Drawer) -> None:
    """The same file is no difference that anybody is failed for; while a night has the board, nobody compares on it."""
    answer = run("compare", small, small, "--device", "board-1", "--repeats", "3", "--gate", "size", "--json", *QUICK)
    assert answer.code == 0, answer.stderr
    assert "A and B are the same file" in answer.table["doubts"][0]
    lease = lab.environment["EDGESHIP_DEVICES"]
    name = next(line for line in Path(lease).read_text().splitlines() if line.startswith("lease")).split('"')[1]
    with history.open(run.variables["EDGESHIP_HISTORY"]) as kept, kept.lease(f"lease:{name}", holder="tonight"):
        busy = run("compare", small, small, "--device", "board-1", *QUICK)
    assert busy.code == 6 and "tonight" in busy.message


def test_mistakes(run: CommandLine, small: Path) -> None:
    """Nothing is measured where something is wrong with the question."""
    gate = run("compare", small, small, "--device", "board-1", "--gate", "latncy")
    assert gate.code == 2 and "did you mean 'latency'" in gate.message
    gone = run("compare", small, "gone.tflite", "--device", "board-1")
    assert gone.code == 2 and gone.message.startswith("gone.tflite: no such file")
    board = run("compare", small, small, "--device", "board-2")
    assert board.code == 2 and "board-2" in board.message
