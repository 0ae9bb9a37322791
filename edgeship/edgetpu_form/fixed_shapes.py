"""Batch and shapes fixed: a batch of 1 in place of more or of an open one, and no shape that is computed on the way."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.graph_editor import GraphEditor

SUMMARY = "the batch fixed to 1, open dimensions closed, and shapes computed from shapes made constants"
EXACT = True


def rewrite(editor: GraphEditor) -> int:
    """Fix what is open and return how many tensors changed; 0 where the runtime cannot tell the shapes."""
    changed = _one_batch(editor)
    for tensor in editor.tensors:
        signature = tensor.shapeSignature
        if signature is not None and any(int(size) < 0 for size in signature):
            tensor.shapeSignature = None
            changed += 1
    return changed + _constant_shapes(editor)


def _one_batch(editor: GraphEditor) -> int:
    """Set the batch to 1 where every input has the same larger one."""
    batches = {editor.shape(port.tensor)[:1] for port in editor.inputs}
    ends = {editor.shape(port.tensor)[:1] for port in editor.outputs}
    if len(batches) != 1 or batches != ends:
        return 0
    (lead,) = batches
    if not lead or lead[0] < 2:
        return 0
    old = {index: tensor.shape for index, tensor in enumerate(editor.tensors)}
    for port in editor.inputs:
        editor.tensors[port.tensor].shape = [1, *editor.shape(port.tensor)[1:]]
    for operator in editor.each("RESHAPE"):
        _reshape_to_one(editor, operator, lead[0])
    found = _allocated(editor)
    if found is None:
        for index, shape in old.items():
            editor.tensors[index].shape = shape
        return 0
    for entry in found.get_tensor_details():
        if entry["index"] < len(editor.tensors):
            editor.tensors[entry["index"]].shape = [int(size) for size in entry["shape"]]
    return 1


def _reshape_to_one(editor: GraphEditor, operator: Any, batch: int) -> None:
    target = editor.values(int(operator.inputs[1])) if len(operator.inputs) > 1 else None
    if target is not None and target.size and target[0] == batch:
        sizes = np.array([1, *target[1:]], np.int32)
        operator.inputs = [int(operator.inputs[0]), editor.constant("one/shape", sizes)]
    listed = getattr(operator.builtinOptions, "newShape", None)
    if listed is not None and len(listed) and int(listed[0]) == batch:
        operator.builtinOptions.newShape = [1, *(int(size) for size in listed[1:])]


def _constant_shapes(editor: GraphEditor) -> int:
    """Put the value in the place of what is computed from shapes and constants alone."""
    fixed = {index for index in range(len(editor.tensors)) if editor.is_constant(index)}
    folded: list[Any] = []
    shapes: set[int] = set()
    for operator in editor.operators:
        listed = () if operator.inputs is None else operator.inputs
        inputs = [int(index) for index in listed if index >= 0]
        outputs = [int(index) for index in operator.outputs]
        if editor.kind(operator) == "SHAPE" or (inputs and set(inputs) <= fixed and set(inputs) & shapes):
            fixed |= set(outputs)
            shapes |= set(outputs)
            folded.append(operator)
    if not folded:
        return 0
    needed = [index for index in sorted(shapes) if _read_outside(editor, index, folded)]
    values = _values(editor, needed)
    if values is None:
        return 0
    for index, value in values.items():
        editor.redirect(index, editor.constant(f"{editor.name(index)}/value", value))
    for operator in folded:
        editor.replace(operator, [])
    return len(folded)


def _read_outside(editor: GraphEditor, index: int, folded: list[Any]) -> bool:
    return any(all(reader is not known for known in folded) for reader in editor.readers(index))


def _values(editor: GraphEditor, indices: list[int]) -> dict[int, np.ndarray[Any, Any]] | None:
    """Return what some tensors hold once the model has run on zeros, None where it does not run."""
    if any(editor.is_output(index) for index in indices):
        return None
    found = _allocated(editor)
    if found is None:
        return None
    try:
        for entry in found.get_input_details():
            found.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
        found.invoke()
        return {index: np.array(found.get_tensor(index)) for index in indices}
    except (ValueError, RuntimeError):
        return None


def _allocated(editor: GraphEditor) -> Any | None:
    """Return the runtime with the graph as it is now, its tensors numbered as here; None where it refuses it."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        interpreter = Interpreter(
            model_content=editor.whole(), num_threads=1, experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )  # fmt: skip
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError):
        return None
    return interpreter
