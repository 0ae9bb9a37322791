"""Models that would run code or reach files when loaded: refused with the place named, until the user says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgeship import child
from edgeship.errors import BadInput
from edgeship.importers import Imported, Request
from edgeship.progress import OnProgress
from tests import tiny_keras

TIMEOUT_S = 600
SHOP = """
import {package} as keras

@keras.saving.register_keras_serializable(package="shop")
class Twice(keras.layers.Layer):
    def call(self, x):
        return x * 2.0
"""
OPERATIONS = {
    "reads": "ReadFile",
    "writes": "WriteFile",
    "python": "EagerPyFunc",
    "restores": "RestoreV2",
    "vocabulary": "InitializeTableFromTextFileV2",
    "lines": "TensorSliceDataset",  # the first that stands in it
}


def make_saved_models(on_progress: OnProgress, folder: Path) -> None:
    """Write SavedModels that reach out, one by each operation, and harmless ones of other styles; in a child process."""
    import numpy as np
    import tensorflow as tf

    (folder / "words.txt").write_text("a\nb\n")
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            str(folder / "words.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        ),
        1,
    )  # fmt: skip

    def lines() -> object:
        dataset = tf.data.TextLineDataset(str(folder / "words.txt"))
        return tf.cast(dataset.reduce(np.int64(0), lambda count, _: count + 1), tf.float32)

    def writes() -> object:
        with tf.control_dependencies([tf.io.write_file(str(folder / "written"), "x")]):
            return tf.constant(1.0)

    bodies = {
        "reads": lambda: tf.cast(tf.strings.length(tf.io.read_file(str(folder / "words.txt"))), tf.float32),
        "writes": writes,
        "python": lambda: tf.py_function(lambda: 1.0, [], tf.float32),
        "restores": lambda: tf.raw_ops.RestoreV2(
            prefix="elsewhere", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
        )[0],
        "vocabulary": lambda: tf.cast(table.lookup(tf.constant("a")), tf.float32),
        "lines": lines,
    }

    def served(body: Callable[[], Any]) -> object:
        spec = tf.TensorSpec((None, 3), tf.float32, name="x")
        return tf.function(lambda x: {"y": x + body()}, input_signature=[spec])

    for name, body in bodies.items():
        module = tf.Module()
        module.table = table if name == "vocabulary" else None
        module.serve = served(body)
        tf.saved_model.save(module, str(folder / name), signatures=module.serve)
    for resource in (True, False):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, (None, 4), name="x")
            w = tf.compat.v1.get_variable("w", initializer=np.eye(4, 3, dtype=np.float32), use_resource=resource)
            session.run(tf.compat.v1.global_variables_initializer())
            outputs = {"y": tf.nn.relu(x @ w), "b": tf.reduce_sum(x, axis=1)}
            tf.compat.v1.saved_model.simple_save(session, str(folder / f"tf1-{resource}"), {"x": x}, outputs)


def test_saved_models_that_reach_out_are_refused_and_tf1_style_ones_come_in(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    child.run(partial(make_saved_models, folder=tmp_path), log=log, timeout_s=TIMEOUT_S)
    names = [*OPERATIONS, "tf1-True", "tf1-False"]
    requests = [Request(tmp_path / name, tmp_path / "out.tflite", tmp_path / "out.npz") for name in names]
    answers = child.run(partial(tiny_keras.bring_all, requests=requests), log=log, timeout_s=TIMEOUT_S)
    for (name, operation), answer in zip(OPERATIONS.items(), answers, strict=False):
        assert isinstance(answer, BadInput), (name, answer)
        assert answer.message.startswith(f"{tmp_path / name}/saved_model.pb: node '")
        assert f"is {operation}," in answer.message
        assert answer.hint is not None and answer.hint.endswith(f"--trust {operation}")
    assert not (tmp_path / "written").exists()
    for answer in answers[len(OPERATIONS) :]:
        assert isinstance(answer, Imported), answer
        assert answer.input_names == ("x",) and set(answer.output_names) == {"y", "b"}


def make_own_layers(on_progress: OnProgress, folder: Path) -> None:
    """Write models with a layer of one's own and with a Lambda, by both generations; in a child process."""
    import importlib
    import sys

    sys.path.append(str(folder))
    for package in ("keras", "tf_keras"):
        (folder / f"shop_{package}.py").write_text(SHOP.format(package=package))
        keras = importlib.import_module(package)
        own = importlib.import_module(f"shop_{package}").Twice
        for name, layer in (("own", own()), ("lambda", keras.layers.Lambda(lambda x: x + 1.0))):
            made = keras.Sequential([keras.Input((4,), name="x"), layer, keras.layers.Dense(2, name="y")])
            for suffix in (".keras", ".h5"):
                made.save(folder / f"{package}-{name}{suffix}")


def test_code_of_one_s_own_runs_only_when_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log.txt"
    child.run(partial(make_own_layers, folder=tmp_path), log=log, timeout_s=TIMEOUT_S)
    monkeypatch.chdir(tmp_path)  # where the shop's module is found
    plan: list[tuple[str, tuple[str, ...], str]] = [  # the module that does not define it first: importing stays
        (f"{package}-own{suffix}", ("json",), "--trust")
        for package in ("keras", "tf_keras")
        for suffix in (".keras", ".h5")
    ]
    plan += [
        (f"{package}-{name}{suffix}", trust, wanted)
        for package in ("keras", "tf_keras")
        for suffix in (".keras", ".h5")
        for name, trust, wanted in (
            ("own", (), "--trust"),
            ("own", (f"shop_{package}",), ""),
            ("own", ("no_such_module",), ""),
            ("lambda", (), "--trust lambda"),
            ("lambda", ("lambda",), ""),
        )
    ]
    requests = [
        Request(tmp_path / source, tmp_path / "out.tflite", tmp_path / "out.npz", trust=trust)
        for source, trust, _ in plan
    ]
    answers = child.run(partial(tiny_keras.bring_all, requests=requests), log=log, timeout_s=TIMEOUT_S)
    for (source, trust, wanted), answer in zip(plan, answers, strict=True):
        if wanted:
            assert isinstance(answer, BadInput), (source, trust, answer)
            assert wanted in str(answer.hint)
        elif trust == ("no_such_module",):
            assert isinstance(answer, BadInput) and answer.message.startswith("--trust no_such_module")
        else:
            assert isinstance(answer, Imported), (source, trust, answer)
