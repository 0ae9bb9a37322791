"""Runs, converts and compares exported programs, in litert-torch's own environment. It imports nothing of edgeship.

Orders come as JSON lines on stdin; each is answered with one line on stdout. What libraries print goes to stderr.
"""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

GIB = 1024**3
TAPS = 32  # tensors compared in one conversion
_OPERATOR = re.compile(r"aten[.:]+(\w+)")


def main() -> None:
    """Carry out orders until there are none left, or whoever gives them is gone."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _limit_memory(float(sys.argv[1]))
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # nothing is unpickled; edgeship leaves nothing that would be
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    socket.socket.connect = _refuse  # type: ignore[method-assign]
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    works: dict[str, Callable[..., dict[str, Any]]] = {
        "ask": ask,
        "convert": convert,
        "to_onnx": to_onnx,
        "compare": compare,
        "culprit": culprit,
    }
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer: dict[str, Any] = {"done": works[order.pop("do")](**order)}
        except MemoryError:
            answer = {"refused": "it ran out of memory"}
        except (Exception, SystemExit) as fault:  # noqa: BLE001  # a boundary between processes: whoever ordered names it
            import traceback

            traceback.print_exc()
            answer = {"refused": f"{_located(fault, order)}{type(fault).__name__}: {fault}"[:4000]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def ask(
    source: str, inputs: list[dict[str, Any]], outputs: dict[str, bool], feed: str, out: str, step: int
) -> dict[str, Any]:
    """Run the program on every batch of a feed; write `output:<name>` arrays, the first axis counting the examples."""
    import numpy as np
    import torch

    model = _reference(source, inputs, outputs)
    with np.load(feed) as content:
        given = {entry["name"]: content[f"input:{entry['name']}"] for entry in inputs}
    count = len(next(iter(given.values())))
    kept: dict[str, list[Any]] = {name: [] for name in outputs}
    shapes: dict[str, list[int]] = {}
    with torch.no_grad():
        for start in range(0, count, step):
            batch = {name: torch.from_numpy(array[start : start + step]) for name, array in given.items()}
            for name, tensor in model(**batch).items():
                array = (
                    tensor.detach().to(torch.float32).numpy()
                    if tensor.dtype == torch.bfloat16
                    else tensor.detach().numpy()
                )
                shapes[name] = list(array.shape)
                whole = array.ndim and len(array) == step
                kept[name].append(array if whole else np.repeat(array[None], min(step, count - start), axis=0))
    with Path(out).open("wb") as stream:
        arrays = {f"output:{name}": np.concatenate(parts) for name, parts in kept.items()}
        np.savez(stream, **arrays)  # type: ignore[arg-type, unused-ignore]  # numpy's stub takes the names for its own option
    return {"torch": torch.__version__, "shapes": shapes}


def convert(source: str, inputs: list[dict[str, Any]], outputs: dict[str, bool], out: str) -> dict[str, Any]:
    """Write a float32 TFLite file by litert-torch."""
    import litert_torch

    model = _reference(source, inputs, outputs)
    litert_torch.convert(model, sample_kwargs=_samples(inputs)).export(out)
    return {"file": out}


def to_onnx(source: str, inputs: list[dict[str, Any]], outputs: dict[str, bool], out: str) -> dict[str, Any]:
    """Write an ONNX file by torch's exporter, the program's own layout kept; the older exporter where the newer fails."""
    import torch

    own = [{**entry, "channels_last": False, "batched": False, "eaten": entry["shape"]} for entry in inputs]
    model = _reference(source, own, dict.fromkeys(outputs, False))
    names = [entry["name"] for entry in inputs]
    options: dict[str, Any] = {"kwargs": _samples(own), "input_names": names, "output_names": list(outputs)}
    try:
        torch.onnx.export(model, (), out, dynamo=True, external_data=False, opset_version=18, **options)
    except Exception:  # noqa: BLE001  # torch.onnx's errors have no parent of their own
        torch.onnx.export(model, (), out, dynamo=False, opset_version=17, **options)
    return {"file": out}


def compare(source: str, inputs: list[dict[str, Any]], feed: str, folder: str, tolerance: float) -> dict[str, Any]:
    """Return the first operation whose value differs after conversion: some tensors made outputs, converted and compared,
    then those between the last that agrees and the first that does not."""
    import numpy as np

    with np.load(feed) as content:
        given = {entry["name"]: content[f"input:{entry['name']}"][: entry["eaten"][0]] for entry in inputs}
    program = _loaded(source)
    nodes = [node for node in program.graph.nodes if node.op == "call_function" and _is_float(node)]
    names = [node.name for node in nodes]
    low, high, error = 0, len(names), 0.0
    while high - low > 0:
        places = sorted({low + (high - low - 1) * index // (TAPS - 1) for index in range(TAPS)})
        errors = _errors(
            source, inputs, [names[place] for place in places], given, Path(folder) / f"taps{low}-{high}.tflite"
        )
        bad = next((index for index, value in enumerate(errors) if value > tolerance), None)
        if bad is None:
            return {"suspect": None}
        error = errors[bad]
        found, low = places[bad], (places[bad - 1] + 1 if bad else low)
        if found == low:
            return {"suspect": f"{_operator_name(nodes[found])} at {_layer(nodes[found])}", "error": error}
        high = found + 1
    return {"suspect": None}


def culprit(source: str, seconds: float) -> dict[str, Any]:
    """Return the first operation that litert-torch cannot convert alone, its weights as constants; one of each kind is tried."""
    import litert_torch

    program = _loaded(source)
    weights = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    weights |= program.graph_signature.inputs_to_lifted_tensor_constants
    values = {name: {**program.constants, **program.state_dict}[own] for name, own in weights.items()}
    tried, until = set(), time.monotonic() + seconds
    for node in program.graph.nodes:
        kind = _kind(node)
        if node.op != "call_function" or kind in tried or not hasattr(node.meta.get("val"), "dtype"):
            continue
        tried.add(kind)
        if time.monotonic() > until:
            break
        module, given = _alone(node, values)
        try:
            litert_torch.convert(module, tuple(given))
        except Exception as fault:  # noqa: BLE001  # whatever a converter raises
            return {"suspect": f"{node.target} at {_layer(node)}", "why": str(fault)[:1000]}
    return {"suspect": None}


def _kind(node: Any) -> str:
    """Return what makes two operations alike to a converter: the target, its plain arguments, the shapes of its tensors."""
    import torch

    shown = torch.fx.map_arg((node.args, node.kwargs), lambda arg: repr(getattr(arg.meta.get("val"), "shape", None)))
    return f"{node.target} {shown}"


def _alone(node: Any, values: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return a module of one operation, and inputs for it."""
    import torch

    module, graph, given = torch.nn.Module(), torch.fx.Graph(), []
    made: dict[str, Any] = {}
    for index, arg in enumerate(node.all_input_nodes):
        value = arg.meta.get("val")
        if arg.name in values:
            module.register_buffer(f"weight{index}", values[arg.name].detach())
            made[arg.name] = graph.get_attr(f"weight{index}")
        else:
            made[arg.name] = graph.placeholder(f"input{index}")
            given.append(torch.zeros(tuple(value.shape), dtype=value.dtype) if hasattr(value, "dtype") else value)
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda arg: made[arg.name])
    graph.output(graph.call_function(node.target, args, kwargs))
    return torch.fx.GraphModule(module, graph).eval(), given


def _errors(
    source: str, inputs: list[dict[str, Any]], names: list[str], given: dict[str, Any], out: Path
) -> list[float]:
    """Convert the program with some of its tensors as outputs; return how far each is off, relative to its range."""
    import litert_torch
    import numpy as np
    import torch
    from ai_edge_litert.interpreter import Interpreter

    model = _reference(source, inputs, {f"tap{index}": False for index in range(len(names))}, tapped=names)
    litert_torch.convert(model, sample_kwargs=_samples(inputs)).export(str(out))
    with torch.no_grad():
        ours = model(**{name: torch.from_numpy(array) for name, array in given.items()})
    theirs = Interpreter(str(out)).get_signature_runner()(**given)
    errors = []
    for index in range(len(names)):
        expected, got = ours[f"tap{index}"].numpy().astype(np.float64), theirs[f"tap{index}"].astype(np.float64)
        low, high = (float(expected.min()), float(expected.max())) if expected.size else (0.0, 0.0)
        spread = max(high - low, 0.01 * max(abs(low), abs(high)), 1e-6)  # a single value has no range
        same = expected.shape == got.shape and np.isfinite(got).all()
        errors.append(float(np.abs(expected - got).max(initial=0.0)) / spread if same else float("inf"))
    return errors


@functools.cache
def _loaded(source: str) -> Any:
    """Load a program that edgeship wrote anew, and look once more at what it would call."""
    import torch

    program = torch.export.load(source)
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            if node.op == "call_function" and not _is_operator(node.target):
                raise ValueError(f"the program calls {node.target!r}")
    return program


def _is_operator(target: Any) -> bool:
    import math
    import operator

    import torch

    kinds = (torch._ops.OpOverload, torch._ops.HigherOrderOperator)
    if isinstance(target, kinds):
        return True
    name = getattr(target, "__name__", "")
    places = (operator, math, torch)
    return any(getattr(place, name, None) is target for place in places) and (
        target.__module__ != "torch" or "sym_" in name
    )


def _reference(
    source: str, inputs: list[dict[str, Any]], outputs: dict[str, bool], tapped: list[str] | None = None
) -> Any:
    """Return a module that eats what the reference eats, by name, and gives what it gives, by name."""
    import torch
    from torch.utils import _pytree as pytree

    program = _loaded(source)
    module = _module(program, tapped)
    dtypes = {
        node.name: node.meta["val"].dtype
        for node in program.graph.nodes
        if node.op == "placeholder" and hasattr(node.meta.get("val"), "dtype")
    }
    ports = {entry["name"]: entry for entry in inputs}
    leaves = [spec.arg for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]

    class Reference(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, **eaten: Any) -> dict[str, Any]:
            found = [
                _as_source(eaten[leaf.name], ports[leaf.name], dtypes[leaf.name]) if leaf.name in ports else leaf.value
                for leaf in leaves
            ]
            positional, named = pytree.tree_unflatten(found, program.call_spec.in_spec)
            answer = pytree.tree_leaves(self.module(*positional, **named))
            named_outputs = zip(outputs.items(), answer, strict=True)
            return {name: value.permute(0, 2, 3, 1) if last else value for (name, last), value in named_outputs}

    reference = Reference()
    reference.training = False  # the program's own module refuses eval()
    return reference


def _as_source(tensor: Any, port: dict[str, Any], dtype: Any) -> Any:
    if port["batched"]:
        tensor = tensor.reshape(port["shape"])
    elif port["channels_last"]:
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _module(program: Any, tapped: list[str] | None) -> Any:
    """Return the program as a module, with some of its tensors as outputs where they are asked for."""
    module = program.module(check_guards=False)
    if tapped is None:
        return module
    import torch
    from torch.utils import _pytree as pytree

    nodes = {node.name: node for node in module.graph.nodes}
    end = next(node for node in module.graph.nodes if node.op == "output")
    end.args = ([nodes[name] for name in tapped],)
    codegen = module.graph._codegen
    if isinstance(codegen, torch.fx.graph._PyTreeCodeGen):
        spec = pytree.tree_flatten([0] * len(tapped))[1]
        codegen.pytree_info = codegen.pytree_info._replace(out_spec=spec)
    module.recompile()
    return module


def _samples(inputs: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    return {entry["name"]: torch.zeros(entry["eaten"], dtype=getattr(torch, entry["dtype"])) for entry in inputs}


def _is_float(node: Any) -> bool:
    value = node.meta.get("val")
    return hasattr(value, "dtype") and value.dtype.is_floating_point


def _operator_name(node: Any) -> str:
    return str(node.target)


def _layer(node: Any) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return re.sub(r"L__self__|_export_root", "", path).strip(".") or f"'{node.name}'"


def _located(fault: BaseException, order: dict[str, Any]) -> str:
    """Name the operation that a converter stumbled over, and the layer where the program first has it."""
    named = _OPERATOR.search(str(fault))
    if named is None or "source" not in order:
        return ""
    try:
        nodes = list(_loaded(order["source"]).graph.nodes)
    except Exception:  # noqa: BLE001  # it is this that failed
        return ""
    for node in nodes:
        if node.op == "call_function" and re.search(rf"aten\.{named[1]}\b", str(node.target)):
            return f"{node.target} at {_layer(node)}: "
    return ""


def _refuse(*arguments: Any) -> NoReturn:
    raise OSError("a converter needs no network")


def _end_with_parent(parent: int) -> None:
    """End when whoever started us is gone, even in the middle of an order."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(0.5)
    os._exit(1)


def _limit_memory(memory_gib: float) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limit = int(memory_gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main()
