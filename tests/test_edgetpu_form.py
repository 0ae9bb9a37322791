"""Each form for the Edge TPU: what stood there is gone, and the outputs are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeship import adaptation, flatbuffer, interpret
from edgeship.edgetpu_form import FORMS
from edgeship.errors import StageFailed
from edgeship.graph_editor import GraphEditor
from edgeship.progress import silent
from tests.tiny_tflite import SAME, TinyModel

EXACT, APPROXIMATE = 1e-6, 5e-4
RELU, RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6
VALID = schema.Padding.VALID
IMAGE = (1, 6, 4, 8)


def kinds(path: Path) -> list[str]:
    """Return the operations of a file."""
    return [operator.name for operator in flatbuffer.read(path).main.operators]


def one(
    kind: str, *more: Any, shape: Sequence[int] = IMAGE, result: Sequence[int] | None = None, **options: Any
) -> TinyModel:
    """Return a model of one operation on an image, with constants behind it as given."""
    model = TinyModel()
    inputs = [model.input("image", shape)]
    inputs += [model.constant(f"constant{place}", np.asarray(values)) for place, values in enumerate(more)]
    model.outputs = [
        model.operator(kind, inputs, model.tensor("result", shape if result is None else result), **options)
    ]
    return model


def two(kind: str, **options: Any) -> TinyModel:
    """Return a model of one operation on two images."""
    model = TinyModel()
    inputs = [model.input("one", IMAGE), model.input("two", IMAGE)]
    model.outputs = [model.operator(kind, inputs, model.tensor("result", IMAGE), **options)]
    return model


def pool(kind: str, activation: int) -> TinyModel:
    """Return a 2x2 pooling with an activation in it."""
    options = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2, "padding": VALID}
    return one(kind, result=(1, 3, 2, 8), fusedActivationFunction=activation, **options)


def parts(
    kind: str, *constants: Any, axis: int | None, lengths: Sequence[int], keep: bool, **options: Any
) -> TinyModel:
    """Return a model that takes an image apart along its depth."""
    model = TinyModel()
    inputs = [model.input("image", IMAGE)]
    inputs += [model.constant(f"constant{place}", np.asarray(values)) for place, values in enumerate(constants)]
    shapes = [(*IMAGE[:3], length) if keep else IMAGE[:3] for length in lengths]
    results = [model.tensor(f"part{place}", shape) for place, shape in enumerate(shapes)]
    if axis is not None:
        options["axis"] = axis
    model.operator(kind, inputs, *results, **options)
    model.outputs = results
    return model


def clamped_convolution(activation: str, *, read_twice: bool = False) -> TinyModel:
    """Return a convolution with an activation of its own behind it."""
    model = TinyModel()
    kernel = np.random.default_rng(0).normal(size=(5, 3, 3, 8))
    wide = model.conv(model.input("image", IMAGE), "wide", kernel, (6, 4))
    model.outputs = [model.operator(activation, [wide], model.tensor("result", (1, 6, 4, 5)))]
    if read_twice:
        model.outputs.append(model.operator("LOGISTIC", [wide], model.tensor("other", (1, 6, 4, 5))))
    return model


def grouped(groups: int) -> TinyModel:
    """Return a convolution in groups with a bias and an activation."""
    model = TinyModel()
    random = np.random.default_rng(1)
    weight = model.constant("weight", random.normal(size=(12, 3, 3, 8 // groups)).astype(np.float32))
    bias = model.constant("bias", random.normal(size=12).astype(np.float32))
    options = {"strideH": 2, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": SAME}
    result = model.tensor("result", (1, 3, 4, 12))
    model.operator(
        "CONV_2D", [model.input("image", IMAGE), weight, bias], result, fusedActivationFunction=RELU6, **options
    )
    model.outputs = [result]
    return model


def dense_rows(keep: bool) -> TinyModel:
    """Return a fully-connected layer over every point of an image."""
    model = TinyModel()
    random = np.random.default_rng(2)
    weight = model.constant("weight", random.normal(size=(5, 8)).astype(np.float32))
    bias = model.constant("bias", random.normal(size=5).astype(np.float32))
    result = model.tensor("result", (1, 6, 4, 5) if keep else (24, 5))
    inputs = [model.input("image", IMAGE), weight, bias]
    model.operator("FULLY_CONNECTED", inputs, result, keepNumDims=keep, fusedActivationFunction=RELU)
    model.outputs = [result]
    return model


def flattened() -> TinyModel:
    """Return an image flattened with its channels first, and a fully-connected layer behind."""
    model = TinyModel()
    order = model.constant("order", np.array([0, 3, 1, 2], np.int32))
    first = model.operator("TRANSPOSE", [model.input("image", IMAGE), order], model.tensor("first", (1, 8, 6, 4)))
    flat = model.operator("RESHAPE", [first], model.tensor("flat", (1, 192)), newShape=[1, 192])
    model.outputs = [model.dense(flat, "dense", np.random.default_rng(3).normal(size=(5, 192)))]
    return model


def there_and_back() -> TinyModel:
    """Return a transposition, elementwise work, and the way back."""
    model = TinyModel()
    to = model.constant("to", np.array([0, 3, 1, 2], np.int32))
    back = model.constant("back", np.array([0, 2, 3, 1], np.int32))
    first = model.operator("TRANSPOSE", [model.input("image", IMAGE), to], model.tensor("first", (1, 8, 6, 4)))
    bent = model.operator("LOGISTIC", [first], model.tensor("bent", (1, 8, 6, 4)))
    half = model.constant("half", np.array(0.5, np.float32))
    low = model.operator("MUL", [bent, half], model.tensor("low", (1, 8, 6, 4)))
    again = model.operator("TRANSPOSE", [low, back], model.tensor("again", IMAGE))
    model.outputs = [model.operator("TANH", [again], model.tensor("result", IMAGE))]
    return model


def mean_of_planes() -> TinyModel:
    """Return the mean over height and width of an image whose channels come first."""
    model = TinyModel()
    to = model.constant("to", np.array([0, 3, 1, 2], np.int32))
    axes = model.constant("axes", np.array([2, -1], np.int32))
    first = model.operator("TRANSPOSE", [model.input("image", IMAGE), to], model.tensor("first", (1, 8, 6, 4)))
    model.outputs = [model.operator("MEAN", [first, axes], model.tensor("result", (1, 8)))]
    return model


def several(batch: int, *, open_batch: bool = False) -> TinyModel:
    """Return a model for several images at once, flattened by a shape that names their number."""
    model = TinyModel()
    image = model.input("image", (batch, 2, 2, 4))
    sizes = model.constant("sizes", np.array([batch, 16], np.int32))
    flat = model.operator("RESHAPE", [image, sizes], model.tensor("flat", (batch, 16)), newShape=[batch, 16])
    kernel = model.constant("kernel", np.random.default_rng(4).normal(size=(3, 16)).astype(np.float32))
    model.outputs = [model.operator("FULLY_CONNECTED", [flat, kernel, -1], model.tensor("result", (batch, 3)))]
    if open_batch:
        for index in (image, flat, *model.outputs):
            model.tensors[index].shapeSignature = [-1, *model.tensors[index].shape[1:]]
    return model


def computed_shape() -> TinyModel:
    """Return a model that flattens by a shape computed from its input's, as TensorFlow writes it for an open batch."""
    model = several(1, open_batch=True)
    image, flat = model.inputs[0], model.operators[0].outputs[0]
    shape = model.operator("SHAPE", [image], model.tensor("shape", (4,), "int32"), outType=schema.TensorType.INT32)
    borders = [model.constant(f"border{place}", np.array([value], np.int32)) for place, value in enumerate((0, 1, 1))]
    lead = model.tensor("lead", (), "int32")
    model.operator("STRIDED_SLICE", [shape, *borders], lead, shrinkAxisMask=1)
    rest = model.constant("rest", np.array(16, np.int32))
    packed = model.operator("PACK", [lead, rest], model.tensor("packed", (2,), "int32"), valuesCount=2, axis=0)
    reshape = model.operators.pop(0)
    reshape.inputs, reshape.builtinOptions.newShape = [image, packed], None
    dense = model.operators.pop(0)
    model.operators += [reshape, dense]
    assert reshape.outputs == [flat]
    return model


def nearest(half_pixel: bool) -> TinyModel:
    """Return a resize to twice the size."""
    size = np.array([12, 8], np.int32)
    return one("RESIZE_NEAREST_NEIGHBOR", size, result=(1, 12, 8, 8), halfPixelCenters=half_pixel)


def packed() -> TinyModel:
    """Return two images joined along a new axis."""
    model = TinyModel()
    inputs = [model.input("one", (1, 3, 4)), model.input("two", (1, 3, 4))]
    model.outputs = [model.operator("PACK", inputs, model.tensor("result", (1, 2, 3, 4)), valuesCount=2, axis=1)]
    return model


def strided(begin: list[int], end: list[int], steps: list[int], result: Sequence[int], **masks: Any) -> TinyModel:
    """Return a STRIDED_SLICE."""
    constants = [np.array(values, np.int32) for values in (begin, end, steps)]
    return one("STRIDED_SLICE", *constants, result=result, **masks)


def float_edges() -> TinyModel:
    """Return an 8-bit addition between float inputs and outputs."""
    model = TinyModel()
    eight = {"scale": 0.05, "zero_point": 3}
    image = model.input("image", IMAGE)
    small = model.operator("QUANTIZE", [image], model.tensor("small", IMAGE, "int8", **eight))  # type: ignore[arg-type]
    twice = model.operator("ADD", [small, small], model.tensor("twice", IMAGE, "int8", scale=0.1))
    model.outputs = [model.operator("DEQUANTIZE", [twice], model.tensor("result", IMAGE))]
    return model


def dense_of_eight_bits() -> TinyModel:
    """Return an 8-bit fully-connected layer with a scale a channel."""
    model = TinyModel()
    random = np.random.default_rng(5)
    scales = np.array([0.01, 0.002, 0.02], np.float32)
    weight = model.constant("weight", random.integers(-127, 128, (3, 16)).astype(np.int8), scale=scales)
    bias = model.constant("bias", random.integers(-900, 900, 3).astype(np.int32), scale=scales * 0.05)
    inputs = [model.input("image", (1, 16), "int8", scale=0.05), weight, bias]
    model.outputs = [model.operator("FULLY_CONNECTED", inputs, model.tensor("result", (1, 3), "int8", scale=0.5))]
    return model


ONE_AXIS = np.array([3], np.int32)
CASES: dict[str, tuple[str, Callable[[], TinyModel], set[str]]] = {
    "neg": ("arithmetic", lambda: one("NEG"), {"NEG"}),
    "abs": ("arithmetic", lambda: one("ABS"), {"ABS"}),
    "square": ("arithmetic", lambda: one("SQUARE"), {"SQUARE"}),
    "squared difference": ("arithmetic", lambda: two("SQUARED_DIFFERENCE"), {"SQUARED_DIFFERENCE"}),
    "minimum": ("arithmetic", lambda: two("MINIMUM"), {"MINIMUM"}),
    "minimum of a constant": ("arithmetic", lambda: one("MINIMUM", np.array(0.4, np.float32)), {"MINIMUM"}),
    "add_n": ("arithmetic", lambda: two("ADD_N"), {"ADD_N"}),
    "div": ("arithmetic", lambda: one("DIV", np.array([3.0], np.float32)), {"DIV"}),
    "relu6 fused": ("clamp", lambda: clamped_convolution("RELU6"), {"RELU6"}),
    "relu6 read twice": ("clamp", lambda: clamped_convolution("RELU6", read_twice=True), {"RELU6"}),
    "relu_n1_to_1": ("clamp", lambda: one("RELU_N1_TO_1"), {"RELU_N1_TO_1"}),
    "relu_0_to_1": ("clamp", lambda: one("RELU_0_TO_1"), {"RELU_0_TO_1"}),
    "dense rows": ("dense", lambda: dense_rows(True), {"FULLY_CONNECTED"}),
    "dense flat rows": ("dense", lambda: dense_rows(False), {"FULLY_CONNECTED"}),
    "matmul": ("dense", lambda: one("BATCH_MATMUL", np.ones((8, 3), np.float32), shape=(1, 6, 8), result=(1, 6, 3)),
               {"BATCH_MATMUL"}),
    "depth to space": ("depth_to_space", lambda: one("DEPTH_TO_SPACE", result=(1, 12, 8, 2), blockSize=2), {"DEPTH_TO_SPACE"}),
    "two images": ("fixed_shapes", lambda: several(2), set()),
    "open batch": ("fixed_shapes", lambda: several(1, open_batch=True), set()),
    "computed shape": ("fixed_shapes", computed_shape, {"SHAPE", "PACK", "STRIDED_SLICE"}),
    "average relu6": ("fused_activation", lambda: pool("AVERAGE_POOL_2D", RELU6), set()),
    "max relu": ("fused_activation", lambda: pool("MAX_POOL_2D", RELU), set()),
    "gelu": ("gelu", lambda: one("GELU"), {"GELU"}),
    "gelu by tanh": ("gelu", lambda: one("GELU", approximate=True), {"GELU"}),
    "two groups": ("grouped_convolution", lambda: grouped(2), set()),
    "four groups": ("grouped_convolution", lambda: grouped(4), set()),
    "hard swish": ("hard_swish", lambda: one("HARD_SWISH"), {"HARD_SWISH"}),
    "leaky": ("leaky_relu", lambda: one("LEAKY_RELU", alpha=0.2), {"LEAKY_RELU"}),
    "leaky above 1": ("leaky_relu", lambda: one("LEAKY_RELU", alpha=1.5), {"LEAKY_RELU"}),
    "leaky below 0": ("leaky_relu", lambda: one("LEAKY_RELU", alpha=-0.5), {"LEAKY_RELU"}),
    "prelu": ("leaky_relu", lambda: one("PRELU", np.linspace(0, 1, 8, dtype=np.float32).reshape(1, 1, 8)), {"PRELU"}),
    "prelu of points": ("leaky_relu", lambda: one("PRELU", np.linspace(-1, 2, 192, dtype=np.float32).reshape(6, 4, 8)),
                        {"PRELU"}),
    "nearest": ("nearest_resize", lambda: nearest(True), set()),
    "pack": ("pack", packed, {"PACK"}),
    "padv2": ("pad", lambda: one("PADV2", np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32), np.array(0, np.float32),
                                 result=(1, 9, 5, 8)), {"PADV2"}),
    "mean over odd depth": ("reduction", lambda: one("MEAN", ONE_AXIS, shape=(1, 6, 4, 7), result=(1, 6, 4)), {"MEAN"}),
    "sum over odd depth": ("reduction", lambda: one("SUM", np.array([-1], np.int32), shape=(1, 6, 7), result=(1, 6, 1),
                                                    keepDims=True), {"SUM"}),
    "mean over batch": ("reduction", lambda: one("MEAN", np.array([0, 1, 2], np.int32), result=(8,)), set()),
    "mean over nothing": ("reduction", lambda: one("MEAN", np.array([0], np.int32), result=(6, 4, 8)), {"MEAN"}),
    "largest": ("reduction", lambda: one("REDUCE_MAX", np.array([1, 2], np.int32), result=(1, 8)), {"REDUCE_MAX"}),
    "squeeze": ("reshape", lambda: one("SQUEEZE", shape=(1, 6, 1, 8), result=(6, 8)), {"SQUEEZE"}),
    "expand": ("reshape", lambda: one("EXPAND_DIMS", np.array(1, np.int32), result=(1, 1, 6, 4, 8)), {"EXPAND_DIMS"}),
    "transpose of ones": ("reshape", lambda: one("TRANSPOSE", np.array([0, 3, 1, 2], np.int32), shape=(1, 1, 1, 8),
                                                 result=(1, 8, 1, 1)), {"TRANSPOSE"}),
    "gather": ("slices", lambda: one("GATHER", np.array([2, 3, 4], np.int32), result=(1, 6, 4, 3), axis=3), {"GATHER"}),
    "gather one": ("slices", lambda: one("GATHER", np.array(5, np.int32), result=(1, 4, 8), axis=1), {"GATHER"}),
    "unpack": ("slices", lambda: parts("UNPACK", axis=-1, lengths=[1] * 8, keep=False, num=8), {"UNPACK"}),
    "split_v": ("slices", lambda: parts("SPLIT_V", np.array([3, 4, -1], np.int32), np.array(3, np.int32), axis=None,
                                        lengths=[3, 4, 1], keep=True, numSplits=3), {"SPLIT_V"}),
    "every second": ("slices", lambda: strided([0, 1, 0, 0], [1, 6, 4, 8], [1, 2, 2, 1], (1, 3, 2, 8)), {"STRIDED_SLICE"}),
    "one row": ("slices", lambda: strided([0, -2], [0, 0], [1, 1], (1, 4, 8), beginMask=1, endMask=1, shrinkAxisMask=2),
                {"STRIDED_SLICE"}),
    "flattened": ("transpose", flattened, {"TRANSPOSE"}),
    "there and back": ("transpose", there_and_back, {"TRANSPOSE"}),
    "mean of planes": ("transpose", mean_of_planes, {"TRANSPOSE"}),
    "float edges": ("quantized_edges", float_edges, {"QUANTIZE", "DEQUANTIZE"}),
    "dense of 8 bits": ("dense_scale", dense_of_eight_bits, set()),
}  # fmt: skip


def run(path: Path, given: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Return a file's real outputs, in its order, by the plain kernels."""
    runner = interpret.Runner(path, kernels="without-delegates")
    count = len(next(iter(given.values())))
    batches = [
        runner.run({name: array[start : start + runner.batch] for name, array in given.items()})
        for start in range(0, count, runner.batch)
    ]
    return [np.concatenate([batch[name] for batch in batches]) for name in batches[0]]


def inputs_of(path: Path, count: int = 4) -> dict[str, np.ndarray[Any, Any]]:
    """Return normal inputs, wide enough that every clamp is reached."""
    random = np.random.default_rng(7)
    specs = flatbuffer.read(path).interface.inputs
    return {spec.name: 3 * random.standard_normal((count, *spec.shape[1:])).astype(np.float32) for spec in specs}


def rewritten(form: str, path: Path, out: Path) -> int:
    """Bring in one form until nothing changes, and return in how many places."""
    total = 0
    for _ in range(10):
        editor = GraphEditor(path)
        count = FORMS[form].rewrite(editor)
        out.write_bytes(editor.content())
        if not count:
            return total
        total, path = total + count, out
    raise AssertionError(f"{form} finds no end")


@pytest.mark.parametrize("case", CASES)
def test_outputs_stay_and_what_does_not_map_goes(tmp_path: Path, case: str) -> None:
    form, make, gone = CASES[case]
    before, after = make().write(tmp_path / "before.tflite"), tmp_path / "after.tflite"
    assert rewritten(form, before, after) > 0
    assert not gone & set(kinds(after)), kinds(after)
    given = inputs_of(before)
    limit = EXACT if FORMS[form].EXACT else APPROXIMATE
    ours, theirs = flatbuffer.read(before).interface, flatbuffer.read(after).interface
    assert [spec.name for spec in ours.inputs] == [spec.name for spec in theirs.inputs]
    for expected, got in zip(run(before, given), run(after, given), strict=True):
        assert expected.shape == got.shape
        step = 0.11 if form == "quantized_edges" else 0.51 if form == "dense_scale" else 0.0
        assert np.abs(expected - got).max() <= max(limit * max(np.ptp(expected), 1.0), step)


def test_every_form_has_a_case() -> None:
    assert {form for form, _, _ in CASES.values()} == set(FORMS)
    assert list(FORMS) == sorted(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_what_fits_already_is_left_alone(tmp_path: Path, form: str) -> None:
    model = clamped_convolution("RELU")
    editor = GraphEditor(model.write(tmp_path / "model.tflite"))
    assert FORMS[form].rewrite(editor) == 0


def test_activations_leave_pools(tmp_path: Path) -> None:
    before, after = pool("AVERAGE_POOL_2D", RELU6).write(tmp_path / "before.tflite"), tmp_path / "after.tflite"
    rewritten("fused_activation", before, after)
    assert kinds(after) == ["AVERAGE_POOL_2D", "ADD"]
    assert flatbuffer.read(after).main.operators[0].options["FusedActivationFunction"] == 0


def test_the_batch_is_one(tmp_path: Path) -> None:
    before, after = several(3).write(tmp_path / "before.tflite"), tmp_path / "after.tflite"
    rewritten("fixed_shapes", before, after)
    assert [tensor.shape[0] for tensor in flatbuffer.read(after).main.tensors if not tensor.constant] == [1, 1, 1]


def test_one_scale_stays_within_half_a_step(tmp_path: Path) -> None:
    before, after = dense_of_eight_bits().write(tmp_path / "before.tflite"), tmp_path / "after.tflite"
    rewritten("dense_scale", before, after)
    ours, theirs = (flatbuffer.read(path).main.tensors for path in (before, after))
    old, new = (next(t for t in tensors if t.name.startswith("weight")) for tensors in (ours, theirs))
    assert new.quantization is not None
    assert new.quantization.scales.size == 1
    one_step = float(new.quantization.scales[0])
    expected, got = flatbuffer.values(old), flatbuffer.values(new)
    assert expected is not None
    assert got is not None
    assert np.abs(expected - got).max() <= one_step / 2 * 1.0001


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_slices_of_all_kinds_are_the_runtimes(tmp_path: Path, data: st.DataObject) -> None:
    begin = [data.draw(st.integers(-size - 1, size)) for size in IMAGE]
    end = [data.draw(st.integers(-size - 1, size + 1)) for size in IMAGE]
    steps = [1, data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), 1]
    masks = {name: data.draw(st.integers(0, 15)) for name in ("beginMask", "endMask", "shrinkAxisMask")}
    picked = [slice(*part) for part in zip(begin, end, steps, strict=True)]
    places = [
        range(size)[slice(None if masks["beginMask"] >> axis & 1 else part.start, None if masks["endMask"] >> axis & 1 else part.stop, part.step)]
        for axis, (size, part) in enumerate(zip(IMAGE, picked, strict=True))
    ]  # fmt: skip
    shrunk = [bool(masks["shrinkAxisMask"] >> axis & 1) for axis in range(4)]
    if any(not -size <= begin[axis] < size for axis, size in enumerate(IMAGE) if shrunk[axis]):
        return
    shape = [len(place) for place, gone in zip(places, shrunk, strict=True) if not gone]
    if not all(shape) or not shape:
        return
    path = strided(begin, end, steps, shape, **masks).write(tmp_path / "slice.tflite")
    check_same(path, "slices", tmp_path)


def check_same(path: Path, form: str, folder: Path) -> None:
    """Hold the outputs after a form against those before."""
    after = folder / "after.tflite"
    rewritten(form, path, after)
    given = inputs_of(path, 1)
    try:
        expected = run(path, given)
    except StageFailed:  # the runtime does not take it either
        return
    for ours, theirs in zip(expected, run(after, given), strict=True):
        assert np.array_equal(ours, theirs)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_transpositions_anywhere_are_the_same(tmp_path: Path, data: st.DataObject) -> None:
    model = TinyModel()
    known = [model.input("image", IMAGE)]
    for number in range(data.draw(st.integers(1, 8))):
        source = data.draw(st.sampled_from(known))
        shape = model.tensors[source].shape
        kind = data.draw(st.sampled_from(["TRANSPOSE", "TRANSPOSE", "RELU", "LOGISTIC", "ADD", "MUL"]))
        if kind == "TRANSPOSE":
            order = data.draw(st.permutations(range(4)))
            constant = model.constant(f"order{number}", np.array(order, np.int32))
            result = model.tensor(f"t{number}", [shape[axis] for axis in order])
            known.append(model.operator("TRANSPOSE", [source, constant], result))
        elif kind in ("ADD", "MUL"):
            alike = [index for index in known if model.tensors[index].shape == shape]
            other = data.draw(st.sampled_from([*alike, model.constant(f"c{number}", np.array(2.0, np.float32))]))
            known.append(model.operator(kind, [source, other], model.tensor(f"t{number}", shape)))
        else:
            known.append(model.operator(kind, [source], model.tensor(f"t{number}", shape)))
    chosen = data.draw(st.lists(st.sampled_from(known[1:]), min_size=1, max_size=2, unique=True))
    model.outputs = list(dict.fromkeys([*chosen, known[-1]]))
    path = model.write(tmp_path / "before.tflite")
    before = kinds(path).count("TRANSPOSE")
    check_same(path, "transpose", tmp_path)
    assert kinds(tmp_path / "after.tflite").count("TRANSPOSE") <= before


def feed_for(path: Path, folder: Path) -> Path:
    """Write normal inputs for a file."""
    feed = folder / "feed.npz"
    arrays: dict[str, Any] = {f"input:{name}": array for name, array in inputs_of(path).items()}
    np.savez(feed, **arrays)
    return feed


def test_forms_meet_one_another(tmp_path: Path) -> None:
    model = TinyModel()
    bent = model.operator("HARD_SWISH", [model.input("image", IMAGE)], model.tensor("bent", IMAGE))
    slim = model.operator("LEAKY_RELU", [bent], model.tensor("slim", IMAGE), alpha=0.1)
    least = model.operator("RELU6", [slim], model.tensor("least", IMAGE))
    model.outputs = [model.operator("GELU", [least], model.tensor("result", IMAGE))]
    path, out = model.write(tmp_path / "model.tflite"), tmp_path / "out.tflite"
    done = adaptation.adapt(silent, path, "model", feed_for(path, tmp_path), out)
    assert {one.name for one in done.rewrites} == {"clamp", "gelu", "hard_swish", "leaky_relu"}
    assert all(one.kept and one.relative_error < 1e-3 for one in done.rewrites)
    assert not {"HARD_SWISH", "LEAKY_RELU", "RELU6", "GELU"} & set(kinds(out))
    assert any("HARD_SWISH as x * relu6(x + 3) / 6" in note for note in done.notes)


class Wrong:
    """A form that changes what the model means."""

    SUMMARY = "LOGISTIC as TANH"
    EXACT = True

    def rewrite(self, editor: GraphEditor) -> int:
        """Do it."""
        found = editor.each("LOGISTIC")
        for operator in found:
            operator.opcodeIndex = editor.operator("TANH", [], []).opcodeIndex
        return len(found)


def test_a_form_that_changes_the_model_is_taken_back_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMS, "wrong", Wrong())
    path, out = one("LOGISTIC").write(tmp_path / "model.tflite"), tmp_path / "out.tflite"
    done = adaptation.adapt(silent, path, "model", feed_for(path, tmp_path), out)
    assert [one.kept for one in done.rewrites] == [False]
    assert kinds(out) == ["LOGISTIC"]
    assert done.notes[0].startswith("not rewritten, the outputs would move by")
    assert not (tmp_path / "trial.tflite").exists()
