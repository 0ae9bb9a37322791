"""TFLite operations that move, cut, join and look up values without computing any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgeship.flatbuffer import Operator
from edgeship.lift_graph import Shape, Walk

_MIRROR = {0: "REFLECT", 1: "SYMMETRIC"}


def _lead(walk: Walk, operator: Operator, *, fixed: bool) -> int:
    """Return where the batch goes: in place of the first axis where the operation leaves that alone, which must be 1."""
    computed = [index for index in operator.inputs if index in walk.tensors]
    whole = [*computed, *operator.outputs]
    return 0 if fixed and all(walk.shapes[index][:1] == (1,) for index in whole) else 1


def _operand(walk: Walk, operator: Operator, lead: int, position: int = 0) -> Any:
    index = operator.inputs[position]
    return walk.in_shape(index, walk.shapes[index], lead, f"{walk.named(operator)}/axes")


def _numbers(walk: Walk, operator: Operator, position: int) -> list[int]:
    return [int(number) for number in walk.constant(operator, position).reshape(-1)]


def _put(walk: Walk, operator: Operator, kind: str, options: Mapping[str, Any], lead: int) -> None:
    tensor = walk.do(kind, [_operand(walk, operator, lead)], options, lead=lead, name=walk.named(operator))
    walk.put(operator, tensor)


def reshape(walk: Walk, operator: Operator) -> None:
    """Build new axes for the same values."""
    walk.put(operator, walk.tensors[operator.inputs[0]])


def transpose(walk: Walk, operator: Operator) -> None:
    """Build another order of axes; where only axes of length 1 move, that is a reshape."""
    import tf_keras

    shape, order = walk.shapes[operator.inputs[0]], _numbers(walk, operator, 1)
    moved = [axis for axis in order if shape[axis] != 1]
    if moved == sorted(moved):
        reshape(walk, operator)
        return
    lead = _lead(walk, operator, fixed=order[0] == 0)
    dims = [axis + 1 for axis in order] if lead else order[1:]
    permute = tf_keras.layers.Permute(tuple(dims), name=walk.layer_name(walk.named(operator)))
    walk.put(operator, permute(_operand(walk, operator, lead)))


def concatenate(walk: Walk, operator: Operator) -> None:
    """Join tensors along an axis."""
    axis = int(operator.options["Axis"]) % len(walk.shapes[operator.outputs[0]])
    _join(walk, operator, axis, {index: walk.shapes[index] for index in operator.inputs})


def pack(walk: Walk, operator: Operator) -> None:
    """Join tensors along a new axis."""
    axis = int(operator.options["Axis"]) % len(walk.shapes[operator.outputs[0]])
    shapes = {index: walk.shapes[index] for index in operator.inputs}
    _join(walk, operator, axis, {index: (*shape[:axis], 1, *shape[axis:]) for index, shape in shapes.items()})


def _join(walk: Walk, operator: Operator, axis: int, shapes: Mapping[int, Shape]) -> None:
    import tf_keras

    name = walk.named(operator)
    lead = 0 if axis and all(shape[0] == 1 for shape in shapes.values()) else 1
    operands: list[Any] = []
    for index in operator.inputs:
        shape = shapes[index]
        if index in walk.constants:
            operands.append(walk.constants[index].reshape((1, *shape) if lead else shape))
        else:
            operands.append(walk.in_shape(index, shape, lead, f"{name}/axes"))
    constant = [number for number, operand in enumerate(operands) if isinstance(operand, np.ndarray)]
    if constant:
        options = {"axis": axis, "constants": constant}
        tensor = walk.do("CONCATENATION", operands, options, lead=lead, name=name)
    elif len(operands) == 1:
        tensor = operands[0]
    else:
        tensor = tf_keras.layers.Concatenate(axis + lead, name=walk.layer_name(name))(operands)
    number = int(operator.options.get("FusedActivationFunction", 0))
    walk.put(operator, walk.activated(operator, tensor, number, name))


def cut(walk: Walk, operator: Operator) -> None:
    """Build SLICE: a beginning and a size on each axis."""
    shape = walk.shapes[operator.inputs[0]]
    begins = _numbers(walk, operator, 1)
    out = walk.shapes[operator.outputs[0]]
    bounds = [[begin, begin + size, 1] for begin, size in zip(begins, out, strict=True)]
    _cut(walk, operator, bounds, shape)


def strided_slice(walk: Walk, operator: Operator) -> None:
    """Build STRIDED_SLICE with its masks; the axes that it drops or adds are those of its result's shape."""
    said, shape = operator.options, walk.shapes[operator.inputs[0]]
    begins, ends, strides = (_numbers(walk, operator, position) for position in (1, 2, 3))
    if said.get("EllipsisMask", 0):
        raise walk.refuse(operator, "has an ellipsis")
    bounds: list[list[int | None]] = []
    for number, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        bit = 1 << number
        if said.get("NewAxisMask", 0) & bit:
            continue
        size = shape[len(bounds)]
        if said.get("ShrinkAxisMask", 0) & bit:
            begin %= size
            bounds.append([begin, begin + 1, 1])
            continue
        end += begin if said.get("Offset") else 0
        wanted = slice(
            None if said.get("BeginMask", 0) & bit else begin, None if said.get("EndMask", 0) & bit else end, stride
        )
        start, stop, step = wanted.indices(size)
        bounds.append([start, None if stop < 0 else stop, step])
    bounds += [[0, size, 1] for size in shape[len(bounds) :]]
    _cut(walk, operator, bounds, shape)


def _cut(walk: Walk, operator: Operator, bounds: Any, shape: Shape, *, output: int = 0) -> None:
    whole = all(list(bound) == [0, size, 1] for bound, size in zip(bounds, shape, strict=True))
    if whole:
        walk.put(operator, walk.tensors[operator.inputs[_source(operator)]], output=output)
        return
    index = operator.inputs[_source(operator)]
    lead = 0 if shape[:1] == (1,) and list(bounds[0]) == [0, 1, 1] else 1
    name = walk.graph.tensors[operator.outputs[output]].name
    tensor = walk.in_shape(index, shape, lead, f"{name}/axes")
    tensor = walk.do(
        "SLICE", [tensor], {"bounds": list(bounds) if lead else [[None] * 3, *bounds[1:]]}, lead=lead, name=name
    )
    walk.put(operator, tensor, output=output)


def _source(operator: Operator) -> int:
    return 1 if operator.name == "SPLIT" else 0


def split(walk: Walk, operator: Operator) -> None:
    """Cut a tensor along an axis, one cut for each output that somebody reads."""
    shape = walk.shapes[operator.inputs[_source(operator)]]
    if operator.name == "UNPACK":
        axis = int(operator.options["Axis"]) % len(shape)
        sizes = [1] * len(operator.outputs)
    else:
        axis = _numbers(walk, operator, 0 if operator.name == "SPLIT" else 2)[0] % len(shape)
        sizes = [walk.shapes[index][axis] for index in operator.outputs]
    begin = 0
    for output, size in enumerate(sizes):
        bounds: list[list[int]] = [[0, length, 1] for length in shape]
        bounds[axis] = [begin, begin + size, 1]
        begin += size
        _cut(walk, operator, bounds, shape, output=output)


def gather(walk: Walk, operator: Operator) -> None:
    """Look up slices: an Embedding where rows of a learned table are taken."""
    import tf_keras

    source, indices = operator.inputs[:2] if operator.name == "GATHER" else operator.inputs[1::-1]
    shape, name = walk.shapes[source], walk.named(operator)
    axis = int(operator.options.get("Axis", 0)) % max(len(shape), 1)
    batch_dims = int(operator.options.get("BatchDims", 0))
    looked_up, out = walk.shapes[indices], walk.shapes[operator.outputs[0]]
    if source in walk.constants:
        table = walk.constants[source]
        lead = 0 if looked_up[:1] == (1,) and axis == 0 else 1
        tensor = walk.in_shape(indices, looked_up, lead, f"{name}/axes")
        if axis == 0 and table.ndim == 2 and table.dtype.kind == "f" and not batch_dims:
            layer = tf_keras.layers.Embedding(*table.shape, name=walk.layer_name(name))
            tensor = layer(tensor)
            walk.weights.append((layer, [table]))
        elif axis or batch_dims:
            raise walk.refuse(operator, f"looks up axis {axis} of a table")
        else:
            options = {"axis": 0, "batch_dims": 0, "batched": False, "from_graph": False}
            tensor = walk.do("GATHER", [table, tensor], options, lead=lead, name=name)
        walk.put(operator, tensor)
        return
    batched = indices not in walk.constants
    lead = 0 if shape[:1] == (1,) == out[:1] and axis and not batched and not batch_dims else 1
    options = {"axis": axis, "batch_dims": batch_dims, "batched": batched, "from_graph": True}
    if batched:
        found: Any = walk.in_shape(indices, looked_up, 1, f"{name}/axes")
    elif batch_dims:
        raise walk.refuse(operator, "has batch dimensions and constant places")
    else:
        found = walk.constants[indices]
    tensor = walk.in_shape(source, shape, lead, f"{name}/axes")
    walk.put(operator, walk.do("GATHER", [tensor, found], options, lead=lead, name=name))


def gather_nd(walk: Walk, operator: Operator) -> None:
    """Look up single values or slices by their coordinates."""
    source, places = operator.inputs[:2]
    name, shape = walk.named(operator), walk.shapes[source]
    if places in walk.constants:  # the same ones for every example: places in one flat axis
        depth = walk.shapes[places][-1]
        flat = np.ravel_multi_index(walk.constants[places].reshape(-1, depth).T, shape[:depth]).astype(np.int32)
        whole = (int(np.prod(shape[:depth])), *shape[depth:])
        options = {"axis": 0, "batch_dims": 0, "batched": False, "from_graph": True}
        tensor = walk.in_shape(source, whole, 1, f"{name}/axes")
        walk.put(operator, walk.do("GATHER", [tensor, flat], options, lead=1, name=name))
        return
    table = walk.constants.get(source)
    found = _operand(walk, operator, 1, 1)
    given = _operand(walk, operator, 1) if table is None else table
    walk.put(operator, walk.do("GATHER_ND", [given, found], {"batched": table is None}, lead=1, name=name))


def one_hot(walk: Walk, operator: Operator) -> None:
    """Build a row of zeros with a one."""
    axis = int(operator.options.get("Axis", -1))
    depth, on, off = (walk.constant(operator, position).reshape(-1)[0].item() for position in (1, 2, 3))
    options = {
        "axis": axis, "depth": depth, "on": on, "off": off,
        "dtype": walk.graph.tensors[operator.outputs[0]].dtype,
    }  # fmt: skip
    _put(walk, operator, "ONE_HOT", options, _lead(walk, operator, fixed=axis != 0))


def pad(walk: Walk, operator: Operator) -> None:
    """Build a border: a ZeroPadding2D where it is of zeros around an image."""
    import tf_keras

    pads = [[int(size) for size in pair] for pair in walk.constant(operator, 1)]
    lead = _lead(walk, operator, fixed=pads[0] == [0, 0])
    name = walk.named(operator)
    if operator.name == "MIRROR_PAD":
        options = {"pads": pads, "mode": _MIRROR[int(operator.options.get("Mode", 0))]}
        _put(walk, operator, "MIRROR_PAD", options, lead)
        return
    value = walk.optional(operator, 2)
    filled = 0.0 if value is None else value.reshape(-1)[0].item()
    if not filled and len(pads) == 4 and pads[3] == [0, 0] and lead == 0:
        layer = tf_keras.layers.ZeroPadding2D((tuple(pads[1]), tuple(pads[2])), name=walk.layer_name(name))
        walk.put(operator, layer(walk.tensors[operator.inputs[0]]))
        return
    _put(walk, operator, "PAD", {"pads": pads, "value": filled}, lead)


def repeat(walk: Walk, operator: Operator) -> None:
    """Build copies of a tensor along its axes."""
    out, shape = walk.shapes[operator.outputs[0]], walk.shapes[operator.inputs[0]]
    if operator.name == "TILE":
        multiples = _numbers(walk, operator, 1)
        _put(walk, operator, "TILE", {"multiples": multiples}, _lead(walk, operator, fixed=multiples[:1] == [1]))
        return
    whole = (*[1] * (len(out) - len(shape)), *shape)
    lead = 0 if whole[:1] == (1,) == out[:1] else 1
    tensor = walk.in_shape(operator.inputs[0], whole, lead, f"{walk.named(operator)}/axes")
    options = {"shape": list(out if lead else out[1:])}
    walk.put(operator, walk.do("BROADCAST_TO", [tensor], options, lead=lead, name=walk.named(operator)))


def along(walk: Walk, operator: Operator) -> None:
    """Build running sums and reversed axes."""
    shape = walk.shapes[operator.inputs[0]]
    axes = [axis % len(shape) for axis in _numbers(walk, operator, 1)]
    lead = _lead(walk, operator, fixed=0 not in axes)
    if operator.name == "CUMSUM":
        said = operator.options
        options = {"axis": axes[0], "exclusive": bool(said.get("Exclusive")), "reverse": bool(said.get("Reverse"))}
        _put(walk, operator, "CUMSUM", options, lead)
        return
    _put(walk, operator, "REVERSE_V2", {"axes": axes}, lead)


def cast(walk: Walk, operator: Operator) -> None:
    """Build another dtype."""
    _put(
        walk,
        operator,
        "CAST",
        {"dtype": walk.graph.tensors[operator.outputs[0]].dtype},
        _lead(walk, operator, fixed=True),
    )


def image(walk: Walk, operator: Operator) -> None:
    """Build a change of an image's size, or of what its channels stand for."""
    name, out = walk.named(operator), walk.shapes[operator.outputs[0]]
    if operator.name.startswith("RESIZE"):
        options: dict[str, Any] = {
            "method": "bilinear" if operator.name == "RESIZE_BILINEAR" else "nearest",
            "size": list(out[1:3]),
            "align_corners": bool(operator.options.get("AlignCorners")),
            "half_pixel": bool(operator.options.get("HalfPixelCenters")),
        }
        kind = "RESIZE"
    else:
        kind, options = operator.name, {"block": int(operator.options["BlockSize"])}
    walk.put_images(operator, walk.do(kind, [walk.images(operator, 0)], options, lead=0, name=name), out[0])


def space_to_batch(walk: Walk, operator: Operator) -> None:
    """Build the cutting of an image into blocks, as old converters write dilated convolutions."""
    block = _numbers(walk, operator, 1)
    edges = [[int(size) for size in pair] for pair in walk.constant(operator, 2)]
    back = operator.name == "BATCH_TO_SPACE_ND"
    one = walk.shapes[operator.outputs[0] if back else operator.inputs[0]]
    if one[0] != 1:
        raise walk.refuse(operator, f"works on {one[0]} images at once")
    options = {"block": block, "crops" if back else "pads": edges, "count": int(np.prod(block))}
    tensor = walk.do(
        operator.name, [walk.tensors[operator.inputs[0]]], options, lead=int(back), name=walk.named(operator)
    )
    walk.put(operator, tensor)


def top_k(walk: Walk, operator: Operator) -> None:
    """Build the largest values of the last axis, and their places."""
    count = {"count": _numbers(walk, operator, 1)[0]}
    for output, kind in enumerate(("TOPK_VALUES", "TOPK_INDICES")):
        name = walk.graph.tensors[operator.outputs[output]].name
        tensor = walk.do(kind, [_operand(walk, operator, 1)], count, lead=1, name=name)
        walk.put(operator, tensor, output=output)


MOVES: Mapping[str, Callable[[Walk, Operator], None]] = {
    "BATCH_TO_SPACE_ND": space_to_batch,
    "BROADCAST_TO": repeat,
    "CAST": cast,
    "CONCATENATION": concatenate,
    "CUMSUM": along,
    "DEPTH_TO_SPACE": image,
    "EMBEDDING_LOOKUP": gather,
    "EXPAND_DIMS": reshape,
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "MIRROR_PAD": pad,
    "ONE_HOT": one_hot,
    "PACK": pack,
    "PAD": pad,
    "PADV2": pad,
    "RESHAPE": reshape,
    "RESIZE_BILINEAR": image,
    "RESIZE_NEAREST_NEIGHBOR": image,
    "REVERSE_V2": along,
    "SLICE": cut,
    "SPACE_TO_BATCH_ND": space_to_batch,
    "SPACE_TO_DEPTH": image,
    "SPLIT": split,
    "SPLIT_V": split,
    "SQUEEZE": reshape,
    "STRIDED_SLICE": strided_slice,
    "TILE": repeat,
    "TOPK_V2": top_k,
    "TRANSPOSE": transpose,
    "UNPACK": split,
}
