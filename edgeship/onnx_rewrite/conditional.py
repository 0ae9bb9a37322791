"""If: the branch taken stands in its place; where that is known only at run time, both are computed and one is chosen."""

from __future__ import annotations

import onnx

from edgeship.onnx_rewrite.draft import DoesNotFit, Draft, attribute, dims_of, refusal
from edgeship.onnx_rewrite.inlining import inline

OPERATIONS: tuple[str, ...] = ("If",)
NOTE = "inlined: the branch that is taken, or both and a choice where only the run tells"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Inline one branch where the condition is constant or the other does not fit; else both, and a Where for each output.

    Raises:
        BadInput: the condition is known only at run time, and the branches give different shapes, or none fits.
    """
    condition = draft.constant(node.input[0])
    branches = {True: attribute(node, "then_branch"), False: attribute(node, "else_branch")}
    taken = _only_fitting(draft, node, branches) if condition is None else bool(condition.reshape(-1)[0])
    if taken is not None:
        for name, value in zip(node.output, inline(draft, branches[taken]), strict=True):
            draft.add("Identity", value, output=name)
        return True
    both = [inline(draft, branches[choice]) for choice in (True, False)]
    for name, value, instead in zip(node.output, *both, strict=True):
        draft.add("Where", node.input[0], value, instead, output=name)
    return True


def _only_fitting(draft: Draft, node: onnx.NodeProto, branches: dict[bool, onnx.GraphProto]) -> bool | None:
    """Return which branch is the only one that can run with the shapes at hand, or None when both can.

    Raises:
        BadInput: neither can, or both can and give different shapes.
    """
    from edgeship.onnx_rewrite import rewritten

    shapes, fault = {}, None
    for choice, branch in branches.items():
        try:
            made, _notes = rewritten(draft.alone(branch), strict=True)
        except DoesNotFit as found:
            fault = found
            continue
        shapes[choice] = [dims_of(value.type) for value in made.graph.output]
    if not shapes and fault is not None:
        raise fault
    if len(shapes) == 1:
        return next(iter(shapes))
    for taken, other in zip(shapes[True], shapes[False], strict=True):
        if taken != other or taken is None:
            raise refusal(
                node, f"its branches give different shapes ({taken} and {other}), by a condition known only at run time"
            )
    return None
