"""What an exported program is fed and gives: its inputs as they are declared, which of them are images, its outputs' names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeship.errors import BadInput
from edgeship.onnx_interface import Declared, OutputPort, Port
from edgeship.torch_file import AGAIN, ExportedFile
from edgeship.torch_program import arguments, first_output, layer

Json = dict[str, Any]

# torch's ScalarType, by number, as the reference has them: TFLite's inputs are of 32 bits.
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int32", 6: "float32", 7: "float32", 8: "float32", 12: "bool",
    13: "float32",
}  # fmt: skip
_LONGEST_INPUT = 2**28  # values
# Reading an image through these says nothing of where its channels stand; through those, they stand second.
_THROUGH = frozenset({
    "abs", "add", "clamp", "clone", "contiguous", "div", "dropout", "hardtanh", "mul", "neg", "pad", "constant_pad_nd", "relu",
    "reflection_pad2d", "replication_pad2d", "sigmoid", "sub", "tanh", "to", "_to_copy", "rsub", "detach", "alias", "lift_fresh",
})  # fmt: skip
_SPATIAL = frozenset({
    "conv2d", "convolution", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d",
    "batch_norm", "_native_batch_norm_legit_no_training", "group_norm", "native_group_norm", "instance_norm",
    "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
    "grid_sampler", "grid_sampler_2d", "pixel_shuffle", "pixel_unshuffle", "max_pool2d_with_indices", "channel_shuffle",
})  # fmt: skip
_THROUGH_TO_OUTPUT = _THROUGH | {
    "cat", "celu", "clamp_max", "clamp_min", "elu", "erf", "exp", "gelu", "hardsigmoid", "hardswish", "leaky_relu",
    "log", "log_softmax", "maximum", "minimum", "mish", "pow", "prelu", "relu6", "selu", "silu", "softmax", "softplus",
    "sqrt", "square", "where",
}  # fmt: skip
_INDEX_THROUGH = frozenset({
    "clone", "contiguous", "expand", "flatten", "reshape", "select", "slice", "squeeze", "to", "_to_copy", "transpose",
    "unsqueeze", "view", "permute", "alias",
})  # fmt: skip
_EXACT_SYMBOL = re.compile(r"(?:Symbol\(')?([a-z]{1,6}\d{1,9})(?:'.*\))?")


def declared(source: Path, file: ExportedFile) -> list[Declared]:
    """Return the program's inputs, in order.

    Raises:
        BadInput: there is none, or one is no tensor of numbers that TFLite has; or the program keeps state of its own.
    """
    module = file.program["graph_module"]
    graph = module["graph"]
    _check_stateless(source, file)
    readers = _readers(graph)
    rows = _rows(file)
    found = []
    for name in _names(source, module):
        meta = graph["tensor_values"][name]
        dtype = _DTYPES.get(int(meta["dtype"]))
        if dtype is None:
            raise BadInput(f"{source}: input '{name}' holds numbers that TFLite has not (complex, or of 8 bits)")
        axes = tuple(_axis(entry) for entry in meta["sizes"])
        if _count(axes) > _LONGEST_INPUT:
            raise BadInput(f"{source}: input '{name}' claims {_count(axes)} values, more than edgeship makes inputs of")
        image = len(axes) == 4 and _is_image(name, readers)
        limit = _limit(name, readers, rows) if "int" in dtype else 2
        found.append(Declared(name, axes, dtype, image, limit))
    if not found:
        raise BadInput(f"{source}: the program takes no inputs", hint=AGAIN)
    return found


def _names(source: Path, module: Json) -> list[str]:
    names = []
    for spec in module["signature"]["input_specs"]:
        ((kind, entry),) = spec.items()
        if kind == "user_input" and "as_tensor" in entry["arg"]:
            names.append(entry["arg"]["as_tensor"]["name"])
        elif kind in ("token", "custom_obj") or (kind == "user_input" and "as_sym_int" in entry["arg"]):
            raise BadInput(f"{source}: takes an input that is no tensor", hint="export it with tensors as inputs")
    return names


def _axis(entry: Json) -> int | str | None:
    if "as_int" in entry:
        return int(entry["as_int"])
    symbol = _EXACT_SYMBOL.fullmatch(str(entry["as_expr"]["expr_str"]))
    return symbol[1] if symbol else None


def _count(axes: Sequence[int | str | None]) -> int:
    count = 1
    for axis in axes:
        count *= axis if isinstance(axis, int) else 1
    return count


def _check_stateless(source: Path, file: ExportedFile) -> None:
    """Refuse a program that changes its own buffers: a TFLite reference begins every run anew."""
    module = file.program["graph_module"]
    buffers = {
        spec["buffer"]["arg"]["name"]: spec["buffer"]["buffer_name"]
        for spec in module["signature"]["input_specs"]
        if "buffer" in spec
    }
    changed = [
        spec["buffer_mutation"]["buffer_name"]
        for spec in module["signature"]["output_specs"]
        if "buffer_mutation" in spec
    ]
    where = ""
    for node in module["graph"]["nodes"]:
        operator = str(node["target"]).split(".")
        given = arguments(node)
        own = given.get("self", given.get("input"))
        if len(operator) > 3 and operator[3].endswith("_") and not operator[3].endswith("__") and own in buffers:
            changed, where = [buffers[own]], f" at {layer(node)}"
    if changed:
        raise BadInput(
            f"{source}: changes its buffer '{changed[0]}' as it runs{where}; a reference keeps nothing between runs",
            hint="make that state an input and an output; or, if it trains, call model.eval() before exporting",
        )


def _readers(graph: Json) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for node in graph["nodes"]:
        for value in arguments(node).values():
            for name in [value] if isinstance(value, str) else _listed(value):
                found.setdefault(name, []).append(node)
    return found


def _listed(value: Any) -> list[str]:
    entries = value if isinstance(value, list) else []
    return [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]


def _operator(node: Json) -> str:
    parts = str(node["target"]).split(".")
    return parts[3] if len(parts) > 3 else parts[-1]


def _is_image(name: str, readers: Mapping[str, list[Json]]) -> bool:
    """Say whether what reads an input takes its second axis for channels."""
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop()
        for node in readers.get(current, ()):
            operator = _operator(node).removesuffix("_")
            if operator in _SPATIAL:
                return next(iter(arguments(node).values()), None) == current
            made = first_output(node)
            if operator in _THROUGH and made not in seen:
                seen.add(made)
                waiting.append(made)
    return False


def _rows(file: ExportedFile) -> dict[str, int]:
    """Return the length of every parameter, by its name in the graph."""
    found = {}
    for spec in file.program["graph_module"]["signature"]["input_specs"]:
        entry = spec.get("parameter")
        meta = file.tables["weights"]["config"].get(entry["parameter_name"]) if entry else None
        if meta and meta["tensor_meta"]["sizes"]:
            found[entry["arg"]["name"]] = int(meta["tensor_meta"]["sizes"][0]["as_int"])
    return found


def _limit(name: str, readers: Mapping[str, list[Json]], rows: Mapping[str, int]) -> int:
    """Return below which number made-up values of an integer input stay: the rows of the table that it looks up in."""
    waiting, seen = [name], set[str]()
    found: list[int] = []
    while waiting:
        current = waiting.pop()
        for node in readers.get(current, ()):
            given, made = arguments(node), first_output(node)
            if _operator(node) == "embedding" and given.get("indices") == current:
                found += [rows[table] for table in [str(given.get("weight"))] if table in rows]
            elif _operator(node) in _INDEX_THROUGH and made not in seen:
                seen.add(made)
                waiting.append(made)
    return min(found, default=2)


def outputs(source: Path, file: ExportedFile, *, keep_layout: bool) -> dict[str, bool]:
    """Return the outputs' names, in order, and whether each is an image that the reference gives channels last.

    Raises:
        BadInput: an output is no tensor.
    """
    module = file.program["graph_module"]
    graph = module["graph"]
    makers = {made: node for node in graph["nodes"] for made in _makes(node)}
    given = [spec["user_output"]["arg"] for spec in module["signature"]["output_specs"] if "user_output" in spec]
    found = {}
    for name, entry in zip(output_names(source, file), given, strict=True):
        own = entry["as_tensor"]["name"]
        axes = len(graph["tensor_values"][own]["sizes"])
        found[name] = not keep_layout and axes == 4 and _gives_image(own, makers)
    return found


def _makes(node: Json) -> list[str]:
    entries = (next(iter(entry.values()), None) for entry in node.get("outputs", ()))
    return [
        name
        for entry in entries
        for name in ([entry["name"]] if isinstance(entry, dict) and "name" in entry else _listed(entry))
    ]


def _gives_image(name: str, makers: Mapping[str, Json]) -> bool:
    """Say whether a value comes, through operations on single values, from one that puts channels second."""
    waiting, seen = [name], {name}
    while waiting:
        node = makers.get(waiting.pop())
        if node is None:
            continue
        operator = _operator(node).removesuffix("_")
        if operator in _SPATIAL:
            return True
        if operator in _THROUGH_TO_OUTPUT:
            read = [
                one
                for value in arguments(node).values()
                for one in ([value] if isinstance(value, str) else _listed(value))
            ]
            waiting += [one for one in read if one not in seen]
            seen.update(read)
    return False


def output_names(source: Path, file: ExportedFile) -> tuple[str, ...]:
    """Return names for the outputs: the keys of a dictionary that the model returns, else `output` or `output_0` and so on.

    Raises:
        BadInput: an output is no tensor.
    """
    module = file.program["graph_module"]
    given = [spec["user_output"]["arg"] for spec in module["signature"]["output_specs"] if "user_output" in spec]
    if not given or not all("as_tensor" in entry for entry in given):
        raise BadInput(f"{source}: gives outputs that are no tensors, or none", hint="return tensors only")
    call = next(entry for entry in module["module_call_graph"] if not entry["fqn"])
    spec = json.loads(call["signature"]["out_spec"])[1]
    keys = json.loads(spec["context"]) if spec["type"] in ("builtins.dict", "collections.OrderedDict") else []
    flat = all(child["type"] is None for child in spec["children_spec"])
    if keys and flat and len(keys) == len(given) and all(isinstance(key, str) and key for key in keys):
        return tuple(keys)
    return ("output",) if len(given) == 1 else tuple(f"output_{number}" for number in range(len(given)))


def notes(ports: Sequence[Port], given: Sequence[OutputPort]) -> tuple[str, ...]:
    """Say where the reference's inputs and outputs are not shaped as the program's."""
    told = []
    for port in ports:
        if port.channels_last or port.batched:
            how = "channels last" if port.channels_last else "with a batch axis"
            told.append(
                f"input '{port.declared.name}' is {_words(port.eaten)}, {how} (the source's is {_words(port.shape)})"
            )
    told += [
        f"output '{one.name}' is {_words(one.given)}, channels last (the source's is {_words(one.shape)})"
        for one in given
        if one.channels_last
    ]
    return tuple(told)


def _words(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single value"
