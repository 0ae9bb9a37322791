"""ONNX files are read with distrust: every claim is held against the bytes, and nothing outside their folder is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeship import model as models
from edgeship import onnx_external, onnx_file
from edgeship.errors import BadInput
from edgeship.importers import recognize
from tests import tiny_onnx
from tests.tiny_onnx import FLOAT, node

WHOLE = tiny_onnx.two_inputs().SerializeToString()


def refused(path: Path) -> str:
    """Return the refusal of a file, which has to start with it or with one that it names."""
    with pytest.raises(BadInput) as refusal:
        onnx_file.read(path)
    assert refusal.value.message.startswith(str(path.parent)), refusal.value.message
    assert "\n" not in refusal.value.message
    return refusal.value.message


@pytest.mark.parametrize("name", ["two_inputs", "tokens", "stateful", "odd_names", "channels_last", "sequence", "half"])
def test_what_is_whole_is_read(name: str, tmp_path: Path) -> None:
    made = getattr(tiny_onnx, name)()
    path = tiny_onnx.save(made, tmp_path / "m.onnx")
    assert recognize(path) == "onnx"
    found = onnx_file.read(path)
    assert [one.op_type for one in found.graph.node] == [one.op_type for one in made.graph.node]
    assert onnx_file.version(found) == 17
    assert onnx_file.content(path, found) == path.read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(WHOLE) - 1))
def test_what_ends_early_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(WHOLE[:length])
    assert "damaged" in refused(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(WHOLE) * 8 - 1), st.integers(0, len(WHOLE) * 8 - 1))
def test_flipped_bits_are_read_or_refused(tmp_path: Path, first: int, second: int) -> None:
    content = bytearray(WHOLE)
    for bit in (first, second):
        content[bit // 8] ^= 1 << bit % 8
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    try:
        onnx_file.read(path)
    except BadInput as refusal:
        assert refusal.message.startswith(str(path))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_other_bytes_are_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content or b"x")
    onnx_file.recognizes(path)
    with pytest.raises(BadInput):
        onnx_file.read(path)


@pytest.mark.parametrize("dims", [[2**31], [2**16, 2**16, 2**16], [2**40], [7]])
def test_weights_that_claim_more_than_is_there_are_refused(dims: list[int], tmp_path: Path) -> None:
    made = tiny_onnx.two_inputs()
    del made.graph.initializer[1].dims[:]
    made.graph.initializer[1].dims.extend(dims)
    assert "not there" in refused(tiny_onnx.save(made, tmp_path / "m.onnx"))


def test_weights_of_a_negative_size_and_of_no_type_are_refused(tmp_path: Path) -> None:
    made = tiny_onnx.two_inputs()
    made.graph.initializer[0].dims[0] = -6
    assert "shape [-6" in refused(tiny_onnx.save(made, tmp_path / "m.onnx"))
    made = tiny_onnx.two_inputs()
    made.graph.initializer[0].data_type = 99
    assert "type 99" in refused(tiny_onnx.save(made, tmp_path / "m.onnx"))


def test_a_cyclic_graph_is_refused_with_its_layer(tmp_path: Path) -> None:
    made = tiny_onnx.two_inputs()
    made.graph.node[1].input[0] = "flat"
    message = refused(tiny_onnx.save(made, tmp_path / "m.onnx"))
    assert "cyclic" in message
    assert "Relu 'active_layer'" in message


def test_a_cycle_through_a_branch_is_found(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [node("Neg", ["after"], "inside")], "then", [], [helper.make_tensor_value_info("inside", FLOAT, [1])]
    )
    made = tiny_onnx.model(
        [node("If", ["yes"], "chosen", then_branch=branch, else_branch=branch), node("Relu", ["chosen"], "after")],
        [("yes", TensorProto.BOOL, [])],
        [("after", FLOAT, [1])],
    )
    assert "cyclic" in refused(tiny_onnx.save(made, tmp_path / "m.onnx"))


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    made = tiny_onnx.two_inputs()
    names = [one.name for one in made.graph.node]
    nodes = [onnx.NodeProto.FromString(one.SerializeToString()) for one in reversed(made.graph.node)]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    found = [one.name for one in onnx_file.read(tiny_onnx.save(made, tmp_path / "m.onnx")).graph.node]
    assert sorted(found) == sorted(names)
    assert found.index("features_layer") < found.index("active_layer") < found.index("scores_layer")


def test_a_value_that_two_nodes_make_is_refused(tmp_path: Path) -> None:
    made = tiny_onnx.two_inputs()
    made.graph.node[1].output[0] = "features"
    assert "'features' is made by two nodes" in refused(tiny_onnx.save(made, tmp_path / "m.onnx"))


def test_an_operator_set_of_the_future_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tiny_onnx.save(tiny_onnx.two_inputs(), tmp_path / "m.onnx")
    made = onnx.load(path)
    made.opset_import[0].version = 999
    tiny_onnx.save(made, path)
    with pytest.raises(BadInput, match="operator set 999") as refusal:
        onnx_file.read(path)
    assert "opset_version=" in (refusal.value.hint or "")


def test_local_functions_are_put_in_place(tmp_path: Path) -> None:
    made = tiny_onnx.model([node("Twice", ["x"], "y", domain="own")], [("x", FLOAT, [1, 2])], [("y", FLOAT, [1, 2])])
    made.opset_import.append(helper.make_opsetid("own", 1))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    made.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    found = onnx_file.read(tiny_onnx.save(made, tmp_path / "m.onnx"))
    assert [one.op_type for one in found.graph.node] == ["Add"]
    assert not found.functions


# ---- weights in other files


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """Return a model in a folder of its own, its weights in a file beside it."""
    (tmp_path / "model").mkdir()
    return tiny_onnx.save_with_weights_beside(tiny_onnx.two_inputs(), tmp_path / "model" / "m.onnx")


def moved(path: Path, location: str, **more: str) -> Path:
    """Write a model again with its weights said to lie elsewhere."""
    made = onnx.load(path, load_external_data=False)
    for tensor in made.graph.initializer:
        for entry in tensor.external_data:
            entry.value = more.get(entry.key, location if entry.key == "location" else entry.value)
    path.write_bytes(made.SerializeToString())
    return path


def test_weights_beside_the_model_are_read(beside: Path) -> None:
    found = onnx_file.read(beside)
    assert not any(tensor.external_data for tensor in found.graph.initializer)
    expected = {tensor.name: tensor for tensor in tiny_onnx.two_inputs().graph.initializer}
    for tensor in found.graph.initializer:
        assert np.array_equal(onnx.numpy_helper.to_array(tensor), onnx.numpy_helper.to_array(expected[tensor.name]))
    assert onnx_file.content(beside, found) != beside.read_bytes()


def test_weights_beside_the_model_are_part_of_its_address(beside: Path) -> None:
    data = beside.with_name("m.onnx.data")
    assert onnx_external.companions(beside) == (data.resolve(),)
    before = models.address(beside)
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)
    assert models.address(beside) != before


@pytest.mark.parametrize("name", ["M.ONNX", "m.model", "m"])
def test_weights_beside_a_model_of_any_name_are_part_of_its_address(name: str, beside: Path) -> None:
    path = beside.rename(beside.with_name(name))
    before = models.address(path)
    data = beside.with_name("m.onnx.data")
    data.write_bytes(bytes(data.stat().st_size))
    assert models.address(path) != before


def test_no_reader_but_ours_gets_the_names_of_files(beside: Path) -> None:
    """Protobuf's fields may stand in any order; onnxruntime would look for such a file in the current folder."""
    location, key = b"m.onnx.data", b"\x0a\x08location"
    value = b"\x12" + bytes([len(location)]) + location
    own = beside.read_bytes()
    assert key + value in own
    beside.write_bytes(own.replace(key + value, value + key))
    assert b"external" not in onnx_file.content(beside, onnx_file.read(beside))
    assert location not in onnx_file.content(beside, onnx_file.read(beside))


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/hostname", "sub/../../secret", "", "a\0b", pytest.param("x" * 5000, id="long")]
)
def test_weights_outside_the_folder_are_not_read(location: str, beside: Path) -> None:
    (beside.parent.parent / "secret").write_bytes(bytes(9999))
    message = refused(moved(beside, location))
    assert "outside its folder" in message
    assert onnx_external.companions(beside) == ()


def test_what_to_do_about_weights_outside_the_folder_helps(beside: Path) -> None:
    """A file that is copied here is still not the one that the model names; only in place of a link it is."""
    (beside.parent / "link").symlink_to("/etc/hostname")
    for location, helps in (
        ("../secret", "onnx.save("),
        ("/etc/hostname", "onnx.save("),
        ("link", "in place of the link"),
    ):
        with pytest.raises(BadInput) as refusal:
            onnx_file.read(moved(beside, location))
        assert helps in str(refusal.value.hint)


@pytest.mark.parametrize("kind", ["file", "folder", "loop"])
def test_links_that_lead_out_of_the_folder_are_not_followed(kind: str, beside: Path) -> None:
    secret = beside.parent.parent / "secret"
    secret.mkdir()
    (secret / "data").write_bytes(bytes(9999))
    if kind == "file":
        (beside.parent / "link").symlink_to(secret / "data")
        message = refused(moved(beside, "link"))
    elif kind == "folder":
        (beside.parent / "link").symlink_to(secret)
        message = refused(moved(beside, "link/data"))
    else:
        (beside.parent / "link").symlink_to(beside.parent / "link")
        message = refused(moved(beside, "link"))
    assert "outside its folder" in message or "not there" in message


def test_weights_that_are_missing_or_too_few_are_refused(beside: Path) -> None:
    data = beside.with_name("m.onnx.data")
    data.write_bytes(data.read_bytes()[:100])
    assert "100 bytes, of which" in refused(beside)
    data.unlink()
    assert "which is not there" in refused(beside)
    data.mkdir()
    assert "which is not there" in refused(beside)


@pytest.mark.parametrize(
    ("key", "value"), [("length", "99999999999"), ("offset", "99999999999"), ("offset", "-1"), ("length", "many")]
)
def test_places_that_are_not_in_the_file_are_refused(key: str, value: str, beside: Path) -> None:
    assert "bytes, of which" in refused(moved(beside, "m.onnx.data", **{key: value}))


def test_two_gigabytes_of_claimed_weights_are_refused_before_they_are_read(beside: Path) -> None:
    made = onnx.load(beside, load_external_data=False)
    with beside.with_name("m.onnx.data").open("wb") as stream:
        stream.truncate(2**32)  # a file with a hole: it takes no space
    tensor = made.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend([2**10, 2**20])
    for entry in tensor.external_data:
        entry.value = {"length": str(2**32), "offset": "0"}.get(entry.key, entry.value)
    beside.write_bytes(made.SerializeToString())
    assert "more than 2 GiB" in refused(beside)


def test_weights_inside_constants_and_branches_are_held_to_the_folder_too(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    hidden = tiny_onnx.weights("hidden", 4)
    hidden.ClearField("raw_data")
    hidden.data_location = TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value="../secret")
    inner = node("Constant", [], "inside", value=hidden)
    branch = helper.make_graph([inner], "then", [], [helper.make_tensor_value_info("inside", FLOAT, [4])])
    made = tiny_onnx.model(
        [node("If", ["yes"], "out", then_branch=branch, else_branch=branch)],
        [("yes", TensorProto.BOOL, [])],
        [("out", FLOAT, [4])],
    )
    assert "outside its folder" in refused(tiny_onnx.save(made, tmp_path / "model" / "m.onnx"))
