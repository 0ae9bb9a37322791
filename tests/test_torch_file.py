"""Exported programs are read as data: what would run code when torch loads it is refused before, and damage is told."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeship import torch_file, torch_interface, torch_program
from edgeship.errors import BadInput
from edgeship.importers import recognize

DATA = Path(__file__).parent / "data" / "torch"
TWO = DATA / "two_inputs-recorded-torch-2.13.0.pt2"
TOKENS = DATA / "open_tokens-recorded-torch-2.13.0.pt2"
PICKLE = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03."
MODEL, WEIGHTS, CONSTANTS = (
    "models/model.json",
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
)
Edit = Callable[[dict[str, Any]], object]


def changed(
    out: Path, records: dict[str, bytes] | None = None, *, edit: dict[str, Edit] | None = None, source: Path = TWO
) -> Path:
    """Write a copy of an archive with some of its tables edited, and records added or replaced."""
    records = dict(records or {})
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(out, "w") as made:
        for entry in archive.infolist():
            root, _, name = entry.filename.partition("/")
            content = records.pop(name, archive.read(entry))
            if edit and name in edit:
                table = json.loads(content)
                edit[name](table)
                content = json.dumps(table).encode()
            made.writestr(f"{root}/{name}", content)
        for name, content in records.items():
            made.writestr(f"{root}/{name}", content)
    return out


def nodes(table: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table["graph_module"]["graph"]["nodes"]
    return found


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        file = torch_file.read(path)
        torch_interface.declared(path, file)
        torch_file.write_clean(path, file, path.with_suffix(".clean"))
    assert caught.value.message.startswith(str(path))
    return caught.value.message


def test_a_program_is_described_without_torch() -> None:
    file = torch_file.read(TWO)
    image, extra = torch_interface.declared(TWO, file)
    assert (image.name, image.axes, image.dtype, image.image) == ("image", (1, 3, 8, 8), "float32", True)
    assert (extra.name, extra.axes, extra.image) == ("extra", (1, 4), False)
    assert torch_interface.output_names(TWO, file) == ("scores", "angle")
    assert file.torch_version.startswith("2.13.0")
    assert recognize(TWO) == "pytorch"


def test_open_axes_have_their_names_and_indices_their_limit() -> None:
    ids, mask = torch_interface.declared(TOKENS, torch_file.read(TOKENS))
    assert ids.dtype == "int32"  # TFLite's inputs are of 32 bits
    assert ids.limit == 11  # the rows of the table
    assert ids.axes == mask.axes == (1, ids.axes[1])
    assert isinstance(ids.axes[1], str)
    assert torch_interface.output_names(TOKENS, torch_file.read(TOKENS)) == ("output",)


def test_the_clean_copy_holds_no_pickle_no_guards_and_no_traces(tmp_path: Path) -> None:
    guarded = changed(tmp_path / "m.pt2", edit={MODEL: lambda table: table.update(guards_code=["evil()"])})
    torch_file.write_clean(guarded, torch_file.read(guarded), tmp_path / "clean.pt2")
    with zipfile.ZipFile(tmp_path / "clean.pt2") as archive, zipfile.ZipFile(TWO) as source:
        assert archive.read("model/data/sample_inputs/model.pt") == b""
        table = json.loads(archive.read(f"model/{MODEL}"))
        assert table["guards_code"] == []
        assert {key for node in nodes(table) for key in node["metadata"]} <= {"nn_module_stack"}
        ours = {name.partition("/")[2]: archive.read(name) for name in archive.namelist() if "/weight_" in name}
        theirs = {name.partition("/")[2]: source.read(name) for name in source.namelist() if "/weight_" in name}
        assert ours == theirs and ours
    assert torch_file.read(tmp_path / "clean.pt2").program == torch_file.read(guarded).program


def zipped(path: Path, records: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in records.items():
            made.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("name", "records", "word"),
    [
        ("w.pt", {"w/data.pkl": PICKLE, "w/version": b"3"}, "pickled module"),
        ("w.pth", {"w/data.pkl": PICKLE, "w/data/0": b"1234"}, "pickled module"),
        ("w.pt2", {"w/data.pkl": PICKLE}, "pickled module"),
        ("s.pt", {"s/data.pkl": PICKLE, "s/constants.pkl": PICKLE, "s/code/__torch__.py": b""}, "TorchScript"),
        ("a.pt2", {"a/archive_format": b"pt2", "a/data/aotinductor/model/m.so": b"\x7fELF"}, "AOTInductor"),
        ("old.pt2", {"version": b"8.5", "serialized_exported_program.json": b"{}"}, "PyTorch 2.7"),
    ],
)
def test_other_files_of_torch_are_told_apart(name: str, records: dict[str, bytes], word: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / name, records)
    with pytest.raises(BadInput, match=word) as caught:
        recognize(path)
    assert caught.value.message.startswith(str(path))
    assert caught.value.hint and ("torch.export" in caught.value.hint or "2.9" in caught.value.hint)


def test_weights_of_an_old_torch_are_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(PICKLE)
    with pytest.raises(BadInput, match="pickled module"):
        recognize(tmp_path / "w.pth")
    (tmp_path / "w.dat").write_bytes(PICKLE)
    with pytest.raises(BadInput, match="not a model"):
        recognize(tmp_path / "w.dat")


def test_a_keras_archive_is_none_of_torch_s_and_a_small_program_none_of_keras(tmp_path: Path) -> None:
    keras = zipped(tmp_path / "m.keras", {"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": b""})
    assert recognize(keras) == "keras"
    assert b"config.json" in TWO.read_bytes()[:4096]
    assert recognize(TWO) == "pytorch"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "Symbol('s0').__class__",
        "(lambda: 1)()",
        "[s0 for s0 in s1]",
        "Symbol('__import__(1)')",
        "s0.n(subs=1)",
        "exec('1')",
        "open('x')",
        "s0 if s1 else s2",
        "S('x')",
        "sympify('1')",
        "Function('f')(s0)",
        "f'{s0}'",
        "s0 := 3",
        "(" * 3000 + "s0" + ")" * 3000,
        "1+" * 30000 + "1",
        "",
        "Mul(Integer(24), *s0)",
    ],
)
def test_a_size_that_is_more_than_arithmetic_is_refused(text: str, tmp_path: Path) -> None:
    def put(table: dict[str, Any]) -> None:
        sizes = table["graph_module"]["graph"]["tensor_values"]["image"]["sizes"]
        sizes[0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 1}}}

    assert "could run code" in refusal(changed(tmp_path / "m.pt2", edit={MODEL: put}))


@given(st.text(alphabet="sS01()_.'[]{}:=+-*/ ,lambdforinxeqtMulAdInger\\\"", max_size=40))
def test_no_size_that_passes_reaches_an_attribute_an_index_or_another_name(text: str) -> None:
    try:
        torch_program._check_size(Path("m"), text)
    except BadInput:
        return
    assert not set(text) & set("[]{}\\") and "lambda" not in text and "__" not in text.replace("__ ", "")


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("torch.hub.load", "could run code"),
        ("torch.load", "could run code"),
        ("torch.serialization.load", "could run code"),
        ("torch._C._jit_get_operation", "could run code"),
        ("torch.ops.load_library", "could run code"),
        ("torch.ops.aten.from_file.default", "which only the code"),
        ("torch.ops.aten.save.default", "which only the code"),
        ("torch.ops.aten.__class__.mro", "which only the code"),
        ("torch.ops.aten.add.__call__", "which only the code"),
        ("torch.ops.aten.add.Tensor.__call__", "could run code"),
        ("_operator.methodcaller", "could run code"),
        ("_operator.add.__self__", "could run code"),
        ("math.__loader__.load_module", "could run code"),
        ("#ext:op", "could run code"),
        ("torch.ops.mylib.fused.default", "which only the code that brings it"),
        ("torch.ops.torchvision.roi_align.default", "torchvision.roi_align.default"),
        ("torch.ops.higher_order.triton_kernel_wrapper_functional", "which only the code"),
    ],
)
def test_a_node_names_only_operators(target: str, word: str, tmp_path: Path) -> None:
    path = changed(tmp_path / "m.pt2", edit={MODEL: lambda table: nodes(table)[0].update(target=target)})
    text = refusal(path)
    assert word in text
    assert "at conv" in text  # the layer, as the model's own code names it


def test_an_operator_given_as_a_value_is_held_to_the_same(tmp_path: Path) -> None:
    def put(table: dict[str, Any]) -> None:
        nodes(table)[0]["inputs"][0]["arg"] = {"as_operator": "torch.hub.load"}

    assert "could run code" in refusal(changed(tmp_path / "m.pt2", edit={MODEL: put}))


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "enum.Enum", "context": {"__enum__": True, "fqn": "os:x", "name": "y"}, "children_spec": []},
        {"type": "collections.defaultdict", "context": {"default_factory_module": "os"}, "children_spec": []},
        {"type": "my.Namedtuple", "context": "null", "children_spec": []},
        {"type": "builtins.tuple", "context": {"__enum__": True, "fqn": "os:x", "name": "y"}, "children_spec": []},
    ],
    ids=["enum", "defaultdict", "namedtuple", "context"],
)
def test_nesting_that_would_import_is_refused(spec: dict[str, Any], tmp_path: Path) -> None:
    def put(table: dict[str, Any]) -> None:
        table["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, spec])

    assert "nested in" in refusal(changed(tmp_path / "m.pt2", edit={MODEL: put}))


def pickled(table: dict[str, Any]) -> None:
    next(iter(table["config"].values()))["use_pickle"] = True


def opaque(table: dict[str, Any]) -> None:
    table["config"]["x"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": None}


def custom(table: dict[str, Any]) -> None:
    table["config"]["x"] = {"path_name": "custom_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}


def elsewhere(table: dict[str, Any]) -> None:
    next(iter(table["config"].values()))["path_name"] = "../../../../etc/passwd"


@pytest.mark.parametrize(
    ("place", "edit"), [(WEIGHTS, pickled), (CONSTANTS, opaque), (CONSTANTS, custom), (WEIGHTS, elsewhere)]
)
def test_pickled_parts_are_refused(place: str, edit: Edit, tmp_path: Path) -> None:
    path = changed(tmp_path / "m.pt2", {"data/constants/custom_obj_0": PICKLE}, edit={place: edit})
    assert "could run code" in refusal(path)


def test_weights_pickled_by_an_older_torch_are_refused(tmp_path: Path) -> None:
    path = changed(tmp_path / "m.pt2", {"data/weights/model.pt": PICKLE})
    assert "pickled" in refusal(path)


def huge_input(table: dict[str, Any]) -> None:
    table["graph_module"]["graph"]["tensor_values"]["image"]["sizes"][2] = {"as_int": 2**40}


def huge_weight(table: dict[str, Any]) -> None:
    next(iter(table["config"].values()))["tensor_meta"]["sizes"][0] = {"as_int": 2**31}


def negative(table: dict[str, Any]) -> None:
    next(iter(table["config"].values()))["tensor_meta"]["storage_offset"] = {"as_int": -8}


@pytest.mark.parametrize(
    ("place", "edit", "word"),
    [(MODEL, huge_input, "claims"), (WEIGHTS, huge_weight, "needs"), (WEIGHTS, negative, "damaged")],
)
def test_what_is_claimed_is_held_against_what_is_there(place: str, edit: Edit, word: str, tmp_path: Path) -> None:
    assert word in refusal(changed(tmp_path / "m.pt2", edit={place: edit}))


@pytest.mark.parametrize(
    ("place", "content"),
    [(MODEL, b"{" * 100_000), (MODEL, b"[]"), (MODEL, b"\xff"), (WEIGHTS, b"null"), ("archive_format", b"zip"), ("byteorder", b"big"), ("archive_version", b"7"), (MODEL, b'{"a":' * 5000 + b"1" + b"}" * 5000)],
    ids=["deep", "list", "bytes", "null", "format", "big-endian", "version", "nested"],
)  # fmt: skip
def test_tables_that_are_none_are_refused(place: str, content: bytes, tmp_path: Path) -> None:
    refusal(changed(tmp_path / "m.pt2", {place: content}))


def test_a_newer_schema_is_told_with_the_torch_that_wrote_it(tmp_path: Path) -> None:
    edit: dict[str, Edit] = {
        MODEL: lambda table: table.update(schema_version={"major": 9, "minor": 1}, torch_version="3.0")
    }
    assert "schema 9.1, written by torch 3.0" in refusal(changed(tmp_path / "m.pt2", edit=edit))


@pytest.mark.parametrize("name", ["../evil", "/etc/x", "a/../../x", "a\\b"])
def test_records_named_as_torch_never_does_are_refused(name: str, tmp_path: Path) -> None:
    path = changed(tmp_path / "m.pt2")
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(f"model/{name}" if not name.startswith("/") else name, b"x")
    assert "torch never writes" in refusal(path)


def test_compressed_records_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    path = changed(tmp_path / "m.pt2")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as made:
        made.writestr("two_inputs-recorded-torch-2.13.0/data/weights/weight_99", bytes(50_000_000))
    assert path.stat().st_size < 200_000
    assert "compressed" in refusal(path)


def test_a_record_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path / "m.pt2")
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "a") as made:
        made.writestr(made.infolist()[0].filename, b"x")
    assert "twice" in refusal(path)


def test_a_record_that_claims_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    content = bytearray(TWO.read_bytes())
    with zipfile.ZipFile(TWO) as archive:
        place = archive.start_dir
    for offset in (20, 24):  # its sizes in the table of contents, compressed and plain
        content[place + offset : place + offset + 4] = (2**31 - 2).to_bytes(4, "little")
    (tmp_path / "m.pt2").write_bytes(content)
    assert "claims 2147" in refusal(tmp_path / "m.pt2")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, TWO.stat().st_size - 1))
def test_a_truncated_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(TWO.read_bytes()[:length])
    with pytest.raises(BadInput) as caught:
        assert recognize(path) == "pytorch"
        torch_file.write_clean(path, torch_file.read(path), tmp_path / "clean.pt2")
    assert caught.value.message.startswith(str(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.integers(0, TWO.stat().st_size * 8 - 1))
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path, bit: int) -> None:
    content = bytearray(TWO.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path = tmp_path / "m.pt2"
    path.write_bytes(content)
    try:
        assert recognize(path) == "pytorch"
        file = torch_file.read(path)
        torch_interface.declared(path, file)
        torch_file.write_clean(path, file, tmp_path / "clean.pt2")
    except BadInput as caught:
        assert caught.message.startswith(str(path))
        return
    assert file.program == torch_file.read(TWO).program


def training(table: dict[str, Any]) -> None:
    nodes(table)[0].update(
        target="torch.ops.aten.dropout.default",
        inputs=[{"name": "train", "arg": {"as_bool": True}, "kind": 1}],
    )


def test_training_mode_is_told(tmp_path: Path) -> None:
    assert "training mode: dropout at conv" in refusal(changed(tmp_path / "m.pt2", edit={MODEL: training}))


def stateful(table: dict[str, Any]) -> None:
    specs = table["graph_module"]["signature"]["input_specs"]
    specs[0] = {"buffer": {"arg": {"name": "b_cache"}, "buffer_name": "cache", "persistent": True}}
    inputs = [{"name": "self", "arg": {"as_tensor": {"name": "b_cache"}}, "kind": 1}]
    nodes(table)[0].update(target="torch.ops.aten.add_.Tensor", inputs=inputs)


def test_a_program_that_keeps_state_is_refused(tmp_path: Path) -> None:
    assert "changes its buffer 'cache'" in refusal(changed(tmp_path / "m.pt2", edit={MODEL: stateful}))
