"""An Android board from connection to record: the real adbd and shell, and the stand-in of benchmark_model.

The vendor's benchmark_model cannot be had here; the stand-in really runs the model and prints like it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import benchmarking, deployment, digest, inventory, standin
from edgeship.benchmarking import BenchOrder
from edgeship.measurement import BenchRecord
from edgeship.progress import Listener
from edgeship.standin import Dialect
from tests.lab.android import HOST_PYTHON, AndroidBoard
from tests.tiny_tflite import separable


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a small float model."""
    return separable().write(tmp_path / "tiny.tflite")


def added(board: AndroidBoard, tmp_path: Path, dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the board with its binary into a devices file, and return that."""
    binary = standin.benchmark_model(tmp_path, dialect=dialect, python=HOST_PYTHON)
    changes = {"benchmark_model": str(binary), "benchmark_model_sha256": digest.of_file(binary)}
    file = tmp_path / "devices.toml"
    inventory.add(file, board.device.model_copy(update={"name": "phone", **changes}))
    monkeypatch.setenv("EDGESHIP_DEVICES", str(file))
    return file


@pytest.mark.parametrize("dialect", ["tflite-2025", "litert-2025"])
def test_bench(
    android_board: AndroidBoard, model: Path, tmp_path: Path, dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latency, memory, conditions and the golden check come back; the board is clean afterwards."""
    added(android_board, tmp_path, dialect, monkeypatch)
    order = BenchOrder(artifact=str(model), devices=("phone",), runs=10, min_seconds=0.2, warmup_seconds=0.1)
    (made,) = benchmarking.bench(order, Listener())
    assert isinstance(made, BenchRecord)
    assert made.golden.word == ("passed" if dialect == "tflite-2025" else "not compared")
    assert made.runtime.name == "benchmark_model"
    assert made.samples_ms is None and made.latency_ms.mean and made.latency_ms.runs >= 10
    assert made.memory is not None and made.memory.peak_rss_mib > 1
    assert made.conditions.before is not None and made.conditions.before.battery is not None
    assert made.conditions.board.model
    assert any("aggregates" in doubt for doubt in made.doubts)


def test_deploy_and_rollback(
    android_board: AndroidBoard, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version is left there, another, and the first is put back."""
    added(android_board, tmp_path, "tflite-2025", monkeypatch)
    other = separable(seed=5).write(tmp_path / "other.tflite")
    to = "/data/local/tmp/app/model"
    first = deployment.deploy(str(model), "phone", to, Listener())
    second = deployment.deploy(str(other), "phone", to, Listener())
    assert (second.previous, first.previous) == (first.version, None)
    back = deployment.rollback("phone", to, Listener())
    assert back.artifact_sha256 == first.artifact_sha256 == digest.of_file(model)
    assert digest.of_file(android_board.path(f"{to}/model.tflite")) == first.artifact_sha256
