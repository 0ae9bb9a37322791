"""Keras files are read as data: what they hold, and every way in which one may carry code, is found without loading."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgeship import keras_file
from edgeship.errors import BadInput
from tests import tiny_keras
from tests.tiny_keras import layer, model

DENSE = layer("Dense", units=3, activation="relu")
RELU = {"module": "builtins", "class_name": "function", "config": "relu", "registered_name": "relu"}
POLICY = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}
BYTECODE = ["4wEAAA==", None, None]

HARMLESS = [
    DENSE,
    layer("Dense", dtype=POLICY, activation=RELU),
    layer("Multiply", "keras.src.ops.numpy", "Multiply"),
    layer("Functional", "tf_keras.src.engine.functional", "Functional", layers=[DENSE]),
    layer("TFOpLambda", "tf_keras.src.layers.core.tf_op_layer", "TFOpLambda", function="math.multiply"),
    layer("TFOpLambda", "tf_keras.src.layers.core.tf_op_layer", "TFOpLambda", function="compat.v1.transpose"),
    layer(
        "SlicingOpLambda", "tf_keras.src.layers.core.tf_op_layer", "SlicingOpLambda", function="__operators__.getitem"
    ),
    layer("Dense", bias={"class_name": "__numpy__", "config": {"value": [1, 2], "dtype": "float32"}}),
    layer("StringLookup", vocabulary=["a", "b"]),
]
# Each with a word of the reason and what the hint offers.
HARMFUL = [
    (layer("Lambda", function=BYTECODE, function_type="lambda"), "bytecode", "--trust lambda"),
    (layer("Lambda", function={"class_name": "__lambda__", "config": {"code": "x"}}), "bytecode", "--trust lambda"),
    (layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "x"}}), "bytecode", "--trust lambda"),
    (layer("Lambda", function="f", function_type="function", module="shop.parts"), "shop.parts", "--trust shop.parts"),
    (layer("Twice", None, "shop>Twice"), "shop>Twice", "--trust MODULE"),
    (layer("Twice", "shop.layers", "Twice"), "shop.layers", "--trust shop.layers"),
    (layer("Popen", "subprocess", None), "subprocess", "--trust subprocess"),
    (layer("Dense", "keras_evil.layers", None), "keras_evil", "--trust keras_evil.layers"),
    (layer("load_model", "keras.models", None), "load_model", "--trust"),
    (layer("get_file", "keras.utils", None), "get_file", "--trust"),
    (layer("Dense", activation={**RELU, "config": "eval"}), "eval", "--trust MODULE"),
    (layer("Dense", activation={**RELU, "module": "os", "config": "system"}), "system", "--trust os"),
    (layer("Dense", kernel_initializer={"module": "os", "class_name": "Evil", "config": {}}), "Evil", "--trust os"),
    (layer("Dense", constraint=[{"deep": [{"class_name": "a>B", "config": {}}]}]), "a>B", "--trust MODULE"),
    (layer("TFSMLayer", filepath="/tmp/evil"), "SavedModel", None),
    (layer("TorchModuleWrapper", module_bytes="x"), "pickle", None),
    (layer("TFOpLambda", "tf_keras.src.layers.core.tf_op_layer", "TFOpLambda", function="io.write_file"), "write_file", None),
    (layer("TFOpLambda", "tf_keras.src.layers.core.tf_op_layer", "TFOpLambda", function="py_function"), "py_function", None),
    (layer("ClassMethod", "tf_keras.src.layers.core.tf_op_layer", "ClassMethod", cls_symbol="io.gfile"), "any method", None),
    (layer("StringLookup", vocabulary="/etc/passwd"), "/etc/passwd", None),
    (layer("Dense", spec={"class_name": "__typespec__", "spec_name": "X", "module": "os", "config": []}), "X", "--trust os"),
]  # fmt: skip


@pytest.mark.parametrize("container", ["keras", "h5"])
@pytest.mark.parametrize("item", HARMLESS, ids=lambda item: str(item["class_name"]))
def test_what_keras_itself_writes_is_not_refused(item: dict[str, Any], container: str, tmp_path: Path) -> None:
    file = _written(tmp_path, container, model(item))
    assert file.refused == ()
    assert file.layers == (item["class_name"],)


@pytest.mark.parametrize("container", ["keras", "h5"])
@pytest.mark.parametrize(("item", "word", "hint"), HARMFUL, ids=lambda value: value["class_name"] if isinstance(value, dict) else "")  # fmt: skip
def test_code_is_found_and_refused_with_the_reason(
    item: dict[str, Any], word: str, hint: str | None, container: str, tmp_path: Path
) -> None:
    file = _written(tmp_path, container, model(DENSE, item))
    assert len(file.refused) == 1
    with pytest.raises(BadInput) as refusal:
        keras_file.refuse_untrusted(Path("m.keras"), file, ())
    assert refusal.value.message.startswith("m.keras: layer '")
    assert word in refusal.value.message
    assert (hint in str(refusal.value.hint)) if hint else (refusal.value.hint is None)


def _written(folder: Path, container: str, config: dict[str, Any]) -> keras_file.KerasFile:
    write = tiny_keras.archive if container == "keras" else tiny_keras.hdf5
    return keras_file.describe(write(folder / f"m.{container}", config))


def test_trust_is_for_what_it_names(tmp_path: Path) -> None:
    file = _written(tmp_path, "keras", model(layer("Lambda", function=BYTECODE), layer("Twice", None, "shop>Twice")))
    with pytest.raises(BadInput, match="bytecode"):
        keras_file.refuse_untrusted(tmp_path, file, ("shop",))
    with pytest.raises(BadInput, match="shop>Twice"):
        keras_file.refuse_untrusted(tmp_path, file, ("lambda",))
    keras_file.refuse_untrusted(tmp_path, file, ("lambda", "shop"))


def test_losses_of_the_training_state_are_not_loaded_so_not_refused(tmp_path: Path) -> None:
    config = model(DENSE) | {"compile_config": {"loss": layer("MyLoss", "my.losses", "my>MyLoss")}}
    assert _written(tmp_path, "keras", config).refused == ()


@pytest.mark.parametrize(("version", "flavour"), [("3.0.0", "keras"), ("2.21.0", "tf_keras"), ("2.4.0", "tf_keras")])
def test_the_version_says_whose_it_is(version: str, flavour: str, tmp_path: Path) -> None:
    for file in (
        tiny_keras.archive(tmp_path / "a.keras", model(DENSE), version=version),
        tiny_keras.hdf5(tmp_path / "a.h5", model(DENSE), version=version),
    ):
        assert keras_file.describe(file).flavour == flavour


@pytest.mark.parametrize(
    ("member", "content", "word"),
    [
        ("../evil.py", b"x", "outside"),
        ("/evil.py", b"x", "outside"),
        ("assets\\..\\evil", b"x", "outside"),
        ("model.weights.npz", b"x", "pickled"),
        ("config.json", b"{}", "two files of one name"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_tricks_of_archives_are_refused(member: str, content: bytes, word: str, tmp_path: Path) -> None:
    file = tiny_keras.archive(tmp_path / "m.keras", model(DENSE), members={member: content})
    with pytest.raises(BadInput, match=word):
        keras_file.describe(file)


def test_a_size_that_no_compression_reaches_is_refused(tmp_path: Path) -> None:
    file = tiny_keras.archive(tmp_path / "m.keras", model(DENSE), members={"assets/a": b"\0" * 5_000})
    content = bytearray(file.read_bytes())
    where = content.rindex(b"PK\x01\x02")  # the last entry of the directory: its uncompressed size is at 24
    content[where + 24 : where + 28] = (2**31).to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(BadInput, match="more than is possible"):
        keras_file.describe(file)


@pytest.mark.parametrize(
    ("trick", "word"), [("link", "another file"), ("raw", "another file"), ("huge", "GiB of weights")]
)
def test_data_in_other_files_and_endless_data_are_refused(trick: str, word: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    path = tiny_keras.hdf5(tmp_path / "m.h5", model(DENSE))
    with h5py.File(path, "a") as file:
        if trick == "link":
            file["w"] = h5py.ExternalLink(str(secret), "/x")
        elif trick == "raw":
            file.create_dataset("w", (4,), np.float32, external=[(str(secret), 0, 16)])
        else:
            file.create_dataset("w", (2**40,), np.float32, chunks=(1024,))
    with pytest.raises(BadInput, match=word):
        keras_file.describe(path)


def test_a_function_is_known_by_the_name_that_the_loader_looks_up(tmp_path: Path) -> None:
    """tf_keras takes the function from `module` and `config`; a trusted `registered_name` beside them is a lie."""
    lie = {"module": "os", "class_name": "function", "config": "system", "registered_name": "shop>twice"}
    (code,) = _written(tmp_path, "keras", model(layer("Dense", activation=lie))).refused
    assert (code.key, code.module, code.trusted_by) == ("system", "os", "os")


def test_a_trusted_lambda_name_does_not_cover_bytecode_beside_it(tmp_path: Path) -> None:
    sly = layer(
        "Lambda",
        function="f",
        function_type="function",
        module="shop",
        output_shape=BYTECODE,
        output_shape_type="lambda",
    )
    (code,) = _written(tmp_path, "h5", model(sly)).refused
    assert code.trusted_by == "lambda"


def test_what_is_no_model_says_so(tmp_path: Path) -> None:
    weights = tmp_path / "w.h5"
    with h5py.File(weights, "w") as file:
        file["kernel"] = np.zeros(3)
    other = tmp_path / "o.keras"
    with zipfile.ZipFile(other, "w") as made:
        made.writestr("readme.txt", "hello")
    text = tmp_path / "t.h5"
    text.write_text("hello")
    deep = tmp_path / "d.keras"
    with zipfile.ZipFile(deep, "w") as made:
        made.writestr("config.json", "[" * 100_000)
    for path, word in ((weights, "no model"), (other, "config.json"), (text, "neither"), (deep, "damaged")):
        with pytest.raises(BadInput, match=word) as refusal:
            keras_file.describe(path)
        assert refusal.value.message.startswith(str(path))


def test_the_version_and_the_class_may_not_be_anything(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="keras_version"):
        keras_file.describe(tiny_keras.archive(tmp_path / "a.keras", model(DENSE), version="x"))
    odd = json.loads(json.dumps(model({**DENSE, "class_name": ["Dense"]})))
    assert keras_file.describe(tiny_keras.archive(tmp_path / "b.keras", odd)).refused
