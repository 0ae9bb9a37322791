"""If: the branch taken stands in its place; where that is known only at run time, both are computed and one is chosen."""

from __future__ import annotations

import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute, refusal, replace_names

OPERATIONS: tuple[str, ...] = ("If",)
NOTE = "the branch that is taken stands in its place"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Inline one branch for a constant condition, else both with a Where for each output.

    Raises:
        BadInput: the condition is known only at run time, and the branches give different shapes.
    """
    condition = draft.constant(node.input[0])
    branches = {True: attribute(node, "then_branch"), False: attribute(node, "else_branch")}
    if condition is not None:
        made = _inline(draft, branches[bool(condition.reshape(-1)[0])])
        for name, value in zip(node.output, made, strict=True):
            draft.add("Identity", value, output=name)
        return True
    taken, other = (_shapes(branches[choice]) for choice in (True, False))
    if taken != other and None not in (taken, other):
        raise refusal(
            node, f"its branches give different shapes ({taken} and {other}), by a condition known only at run time"
        )
    both = [_inline(draft, branches[choice]) for choice in (True, False)]
    for name, value, instead in zip(node.output, *both, strict=True):
        draft.add("Where", node.input[0], value, instead, output=name)
    return True


def _shapes(branch: onnx.GraphProto) -> list[tuple[int, ...]] | None:
    """Return the shapes that a branch declares for its outputs, or None when it does not say."""
    found = []
    for value in branch.output:
        if not value.type.tensor_type.HasField("shape"):
            return None
        dims = value.type.tensor_type.shape.dim
        if not all(dim.HasField("dim_value") for dim in dims):
            return None
        found.append(tuple(dim.dim_value for dim in dims))
    return found


def _inline(draft: Draft, branch: onnx.GraphProto) -> list[str]:
    """Add a branch's nodes under names that are new here; return the names of its outputs."""
    names: dict[str, str] = {}
    for tensor in branch.initializer:
        names[tensor.name] = draft.name(tensor.name)
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name]
        draft.know(copy.name, copy)
    for inner in branch.node:
        for name in inner.output:
            if name:
                names[name] = draft.name(name)
        copied = onnx.NodeProto()
        copied.CopyFrom(inner)
        replace_names(copied, names, outputs=True)
        draft.add_node(copied)
    return [names.get(value.name, value.name) for value in branch.output]
