"""ONNX files read with distrust: what they claim is held against what is there, and nothing outside their folder is read.

For use inside a child process: onnxruntime, which gets the file next, may end its process on a damaged one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship import onnx_external
from edgeship.errors import BadInput

if TYPE_CHECKING:
    import onnx

LIMIT_BYTES = 2**31 - 1  # protobuf's own, for a whole message
_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}  # ModelProto's → wire type
_VERSION, _GRAPH = 1, 7
_HEAD_BYTES = 4096
_AGAIN = "export or copy the model again"
_OPERATORS = ("", "ai.onnx")


def recognizes(source: Path) -> bool:
    """Say whether a file begins with the outer fields of an ONNX model."""
    with source.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    place, seen = 0, set()
    while place < len(head):
        key, place = _number(head, place)
        if key is None:
            break
        if _FIELDS.get(key >> 3) != key & 7:
            return False
        seen.add(key >> 3)
        value, place = _number(head, place)
        if value is None or key >> 3 == _GRAPH:
            break
        place += value if key & 7 else 0
    return _VERSION in seen and len(seen) > 1


def _number(data: bytes, place: int) -> tuple[int | None, int]:
    """Return protobuf's number at a place and the place after it; None where it does not end."""
    value = 0
    for index, byte in enumerate(data[place : place + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, place + index + 1
    return None, len(data)


def read(source: Path) -> onnx.ModelProto:
    """Return a model with all its weights inside, its nodes in an order in which they can run.

    Raises:
        BadInput: damaged, too large, cyclic, or its weights lie outside its folder; the text starts with the file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if source.stat().st_size > LIMIT_BYTES:
        raise BadInput(f"{source}: {source.stat().st_size / 2**30:.1f} GiB; an ONNX file cannot be larger than 2 GiB")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(source.read_bytes())
    except DecodeError as fault:
        raise BadInput(f"{source}: damaged ONNX file: it ends early or its bytes changed", hint=_AGAIN) from fault
    _check_versions(source, model)
    _fill(source, model)
    for graph in graphs(model.graph):
        _sort(source, graph)
    if model.functions:
        model = _inlined(source, model)
    return model


def content(source: Path, model: onnx.ModelProto) -> bytes:
    """Return a model's bytes with all its weights inside: the file's own, where they are."""
    own = source.read_bytes()
    # Sought as a word, wherever it stands: a reader that finds a name there looks for the file on its own.
    return model.SerializeToString() if b"location" in own else own


def _check_versions(source: Path, model: onnx.ModelProto) -> None:
    import onnx

    if not model.graph.node or not model.graph.output:
        raise BadInput(
            f"{source}: damaged ONNX file: it holds no {'outputs' if model.graph.node else 'graph'}", hint=_AGAIN
        )
    opset = version(model)
    known = onnx.defs.onnx_opset_version()
    if opset is None:
        raise BadInput(f"{source}: damaged ONNX file: it does not say which operator set it is written in", hint=_AGAIN)
    if not 1 <= opset <= known:
        raise BadInput(
            f"{source}: written in operator set {opset}; edgeship's onnx knows 1 to {known}",
            hint=f"export it with opset_version={min(known, 17)}",
        )


def version(model: onnx.ModelProto) -> int | None:
    """Return the version of the standard operators, or None where the file does not say."""
    return next((entry.version for entry in model.opset_import if entry.domain in _OPERATORS), None)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Give a graph and every graph inside it (the branches of an If, the body of a Loop), the outer first."""
    waiting = deque([graph])
    while waiting:
        current = waiting.popleft()
        yield current
        for node in current.node:
            for attribute in node.attribute:
                waiting += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Give every tensor that stands in a model: weights, and constants in attributes, of functions too."""
    nodes = [node for function in model.functions for node in function.node]
    for graph in graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        nodes += graph.node
    for node in nodes:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for sparse in (
                *attribute.sparse_tensors,
                *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else ()),
            ):
                yield from (sparse.values, sparse.indices)


def _fill(source: Path, model: onnx.ModelProto) -> None:
    """Hold every tensor's claim against the bytes that it has, and put those into it that lie in other files."""
    import onnx

    total = model.ByteSize()
    for tensor in tensors(model):
        if tensor.data_type == onnx.TensorProto.STRING:
            continue
        claimed = _claimed_bytes(source, tensor)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            total += claimed
            if total > LIMIT_BYTES:
                raise BadInput(f"{source}: holds more than 2 GiB of weights, which is more than edgeship reads")
            tensor.raw_data = _external(source, tensor, claimed)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
        elif claimed and not _holds(tensor, claimed):
            raise BadInput(
                f"{source}: damaged ONNX file: '{tensor.name}' claims {claimed:,} bytes, which are not there",
                hint=_AGAIN,
            )


def _claimed_bytes(source: Path, tensor: onnx.TensorProto) -> int:
    """Return how many bytes a tensor's shape and type come to, as they are stored."""
    import onnx

    if any(size < 0 for size in tensor.dims):
        raise BadInput(f"{source}: damaged ONNX file: '{tensor.name}' has the shape {list(tensor.dims)}", hint=_AGAIN)
    try:
        item: int = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        raise BadInput(
            f"{source}: damaged ONNX file: '{tensor.name}' has the type {tensor.data_type}", hint=_AGAIN
        ) from None
    count = math.prod(int(size) for size in tensor.dims)
    halves = {onnx.TensorProto.INT4, onnx.TensorProto.UINT4, getattr(onnx.TensorProto, "FLOAT4E2M1", -1)}
    return (count + 1) // 2 if tensor.data_type in halves else count * item


def _holds(tensor: onnx.TensorProto, claimed: int) -> bool:
    """Say whether a tensor has as many values inside the file as it claims."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data) == claimed
    fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    return max(map(len, fields)) > 0 and claimed <= 16 * max(map(len, fields))


def _external(source: Path, tensor: onnx.TensorProto, claimed: int) -> bytes:
    """Return the bytes of a tensor that lies in another file of the model's folder."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    location = told.get("location", "")
    path = onnx_external.inside(source.parent, location)
    if path is None:
        raise BadInput(
            f"{source}: its weights '{tensor.name}' lie outside its folder, in '{location}', which is not read",
            hint=_inward(source, location),
        )
    if not path.is_file():
        raise BadInput(
            f"{source}: its weights '{tensor.name}' are in {path}, which is not there", hint="copy it beside the model"
        )
    try:
        offset, length = int(told.get("offset") or 0), int(told.get("length") or claimed)
    except ValueError:
        offset, length = -1, -1
    size = path.stat().st_size
    if length != claimed or not 0 <= offset <= size - length:
        raise BadInput(
            f"{path}: {size:,} bytes, of which {source.name} wants {told.get('length') or claimed} "
            f"from {told.get('offset') or 0} on for '{tensor.name}', which has {claimed}",
            hint="copy the file again, or export the model again",
        )
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


def _inward(source: Path, location: str) -> str:
    """Say how weights come into a model's folder: in place of a link there, else by writing the model anew."""
    if location and not Path(location).is_absolute() and ".." not in Path(location).parts:
        return f"put that file itself in place of the link in {source.parent}"
    return f"if you trust it, write it as one file: onnx.save(onnx.load('{source.name}'), 'whole.onnx')"


def _sort(source: Path, graph: onnx.GraphProto) -> None:
    """Put a graph's nodes into an order in which each comes after what it reads.

    Raises:
        BadInput: there is none, for nodes read each other in a circle, or two make the same value.
    """
    maker: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in maker:
                raise BadInput(f"{source}: damaged ONNX file: '{name}' is made by two nodes", hint=_AGAIN)
            maker[name] = index
    needs = [{maker[name] for name in _read_by(node) if name in maker} for node in graph.node]
    if all(needed < index for index, needed_by in enumerate(needs) for needed in needed_by):
        return
    readers: dict[int, list[int]] = {}
    for index, needed_by in enumerate(needs):
        for needed in needed_by:
            readers.setdefault(needed, []).append(index)
    left = [len(needed_by) for needed_by in needs]
    free = deque(index for index, count in enumerate(left) if not count)
    order = []
    while free:
        index = free.popleft()
        order.append(index)
        for reader in readers.get(index, ()):
            left[reader] -= 1
            if not left[reader]:
                free.append(reader)
    if len(order) < len(needs):
        stuck = graph.node[next(index for index, count in enumerate(left) if count)]
        raise BadInput(
            f"{source}: its graph is cyclic: {stuck.op_type} {layer(stuck)} reads what is made from its own output",
            hint=_AGAIN,
        )
    nodes = [graph.node[index] for index in order]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Give what a node reads, the graphs inside it included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
            for graph in graphs(inner):
                for deeper in graph.node:
                    yield from deeper.input


def layer(node: onnx.NodeProto) -> str:
    """Return what a node is called: its name, else that of its first output."""
    return f"'{node.name or next(iter(node.output), '')}'"


def _inlined(source: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, TypeError) as fault:
        raise BadInput(f"{source}: its functions cannot be put in place: {first_line(fault)}") from fault


def first_line(fault: BaseException) -> str:
    """Return the first line of a library's complaint, at most 300 characters."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(fault).__name__
