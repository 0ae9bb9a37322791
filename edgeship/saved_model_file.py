"""SavedModel folders, looked through before TensorFlow loads them: no operation may reach files, Python or other machines.

Loading a SavedModel already runs parts of it (initializers, TF1's restore operation), so the graph is read as a plain
protocol buffer first. Saving and restoring is allowed to the saver that every SavedModel carries, and to it alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.errors import BadInput

MAX_GRAPH_BYTES = 2 * 1024**3  # a protocol buffer's own limit
INIT_OP = "__saved_model_init_op"

# By name, gone through over all 1910 operations that TensorFlow 2.21 registers.
_REACHES_OUT = re.compile(
    r"File(?!name$|spec$)|Reader|Dataset|Iterator|PyFunc|Snapshot|Summary|Sql|LMDB|Rpc|Debug|^Print|Remap|Skipgram|ImmutableConst"
    r"|(De|En)codeProto|RecordInput|Remote|TPU|Tpu|Session|Send|Recv|Collective|Nccl|FixedUnigram|DataService|Sleep"
    r"|Xla(CallModule|CustomCall|Launch|HostCompute|Run|Compile)|DumpTensor|NegTrain|ImportEvent|Heartbeat|[Ii]nfeed"
    r"|[Oo]utfeed|CalibrationStatisticsSaver|DistributedSave|DTensorRestore|MlirPassthrough|StoreMinibatch"
)
_SAVER = re.compile(r"^(Save|SaveV2|SaveSlices|Restore|RestoreV2|RestoreSlice)$|^MergeV2")
_WRITES = re.compile(r"^Save|^MergeV2")
_RUNS_ON_LOAD = ("_initialize", "_create_resource", "_destroy_resource")
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op", "table_initializer")


@dataclass(frozen=True)
class SavedModelFile:
    """What a SavedModel offers: the tags that load it and its signatures' names."""

    tags: tuple[str, ...]
    signatures: tuple[str, ...]


def check(folder: Path, trust: tuple[str, ...]) -> SavedModelFile:
    """Return what a SavedModel offers, having looked at every operation in it.

    Args:
        folder: the one with `saved_model.pb`.
        trust: operations that may reach out all the same, by type (`--trust ReadFile`).

    Raises:
        BadInput: damaged, or an operation reaches files, Python or other machines; the text names the node.
    """
    file = folder / "saved_model.pb"
    if (folder / "saved_model.cpb").exists() or (folder / "saved_model.pbtxt").exists():
        # TensorFlow would load the other one instead of the one that was looked through.
        raise BadInput(f"{folder}: has a second graph beside saved_model.pb; keep one")
    meta = _served(folder, _parsed(file))
    for where, node in _nodes(meta):
        if _REACHES_OUT.search(node.op) and node.op not in trust:
            raise _refusal(file, where, node)
    graph = _Calls(meta)
    for where, node in graph.reached(_run_roots(meta)):
        if _SAVER.search(node.op) and node.op not in trust:
            raise _refusal(file, where, node)
    if not meta.HasField("object_graph_def"):  # TF1 style: loading runs the saver's own operation
        _check_restore(file, meta, graph)
    return SavedModelFile(tuple(meta.meta_info_def.tags), tuple(sorted(set(meta.signature_def) - {INIT_OP})))


def _refusal(file: Path, where: str, node: Any) -> BadInput:
    name = f"{where}/{node.name}" if where else node.name
    return BadInput(
        f"{file}: node '{name}' is {node.op}, an operation that reaches files, Python or other machines",
        hint=f"export the model without it, or if you trust it: --trust {node.op}",
    )


def _parsed(file: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        if file.stat().st_size > MAX_GRAPH_BYTES:
            raise BadInput(f"{file}: larger than 2 GiB")
        return saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except OSError as fault:
        raise BadInput(f"{file}: cannot be read: {fault.strerror or fault}") from fault
    except DecodeError as fault:
        raise BadInput(f"{file}: damaged: not a SavedModel protocol buffer") from fault


def _served(folder: Path, saved_model: Any) -> Any:
    graphs = list(saved_model.meta_graphs)
    serving = [meta for meta in graphs if "serve" in meta.meta_info_def.tags]
    chosen = serving if len(graphs) > 1 else graphs
    if len(chosen) != 1:
        raise BadInput(
            f"{folder}: holds {len(graphs)} graphs, {len(serving)} of them with the tag 'serve'; one is needed"
        )
    if len(graphs) > 1:
        chosen[0].ClearField("object_graph_def")  # TensorFlow loads one of several in the style of TF1
    return chosen[0]


def _nodes(meta: Any) -> Iterator[tuple[str, Any]]:
    for node in meta.graph_def.node:
        yield "", node
    for function in meta.graph_def.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def _run_roots(meta: Any) -> set[str]:
    """Return the nodes of the main graph and the functions that loading and serving run, TF1's restore apart."""
    roots: set[str] = set()
    for signature in meta.signature_def.values():
        roots |= {_node_name(tensor.name) for tensor in signature.outputs.values()}
    for key in _INIT_COLLECTIONS:
        if key in meta.collection_def:
            roots |= {_node_name(name) for name in meta.collection_def[key].node_list.value}
    objects = meta.object_graph_def.nodes
    numbers = [child.node_id for node in objects for child in node.children if child.local_name in _RUNS_ON_LOAD]
    numbers += [saveable.restore_function for node in objects for saveable in node.saveable_objects.values()]
    for number in numbers:
        if 0 <= number < len(objects) and objects[number].WhichOneof("kind") == "function":
            roots |= set(objects[number].function.concrete_functions)
        elif 0 <= number < len(objects) and objects[number].WhichOneof("kind") == "bare_concrete_function":
            roots.add(objects[number].bare_concrete_function.concrete_function_name)
    return roots


def _check_restore(file: Path, meta: Any, graph: _Calls) -> None:
    """Refuse a TF1 restore operation that writes, or that reads another checkpoint than the folder's own."""
    saver = meta.saver_def
    filename = _node_name(saver.filename_tensor_name)
    for where, node in graph.reached({_node_name(saver.restore_op_name)}):
        foreign = node.op.startswith("Restore") and (where or not graph.comes_from(node, filename))
        if _WRITES.search(node.op) or foreign:
            raise _refusal(file, where, node)


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").split(":")[0]


class _Calls:
    """Which nodes run when some node runs: through inputs in the main graph, and whole functions where they are called."""

    def __init__(self, meta: Any) -> None:
        self.nodes = {node.name: node for node in meta.graph_def.node}
        self.functions = {function.signature.name: function for function in meta.graph_def.library.function}

    def reached(self, roots: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yield (function or "", node) for all that running the roots runs."""
        waiting = list(roots)
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.nodes:
                node = self.nodes[name]
                yield "", node
                waiting += [_node_name(tensor) for tensor in node.input]
                waiting += self._called(node)
            if name in self.functions:
                for node in self.functions[name].node_def:
                    yield name, node
                    waiting += self._called(node)

    def comes_from(self, node: Any, name: str) -> bool:
        """Say whether a node's first input is a named node's output, looking through identities."""
        for _ in self.nodes:
            if not node.input:
                return False
            source = _node_name(node.input[0])
            if source == name:
                return True
            node = self.nodes.get(source)
            if node is None or node.op != "Identity":
                return False
        return False

    def _called(self, node: Any) -> list[str]:
        names = [node.op]
        for value in node.attr.values():
            names += [value.func.name] if value.HasField("func") else [func.name for func in value.list.func]
        return [name for name in names if name in self.functions]
