"""Loop with a number of steps that is known before the run: its steps, one after another."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgeship.onnx_rewrite.draft import Draft, attribute, optional_input, refusal
from edgeship.onnx_rewrite.inlining import bare, inline, stack

OPERATIONS: tuple[str, ...] = ("Loop",)
NOTE = "its steps put one after another"
MOST_STEPS = 1024
_STEP, _COLLECTED = "edgeship_step", "edgeship_collected"  # attributes of a loop whose first steps are out already


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Take one step out of the loop and leave a shorter one behind it, which the walk meets next.

    By then the step's condition is folded where it can be, so a loop that counts by itself ends by itself.

    Raises:
        BadInput: more steps than are reasonable, an end that the data decide, or nothing to collect.
    """
    body = bare(draft, attribute(node, "body"))
    carried = len(body.input) - 2
    step = attribute(node, _STEP, 0)
    trips = draft.constant(optional_input(node, 0)) if optional_input(node, 0) else np.array(np.iinfo(np.int64).max)
    going = draft.constant(optional_input(node, 1)) if optional_input(node, 1) else np.array(True)
    if trips is None or going is None:
        if step:
            raise refusal(node, "how many steps it takes is known only in the run")
        return False
    values = list(node.input[2 : 2 + carried])
    collected = _collected(node, 2 + carried)
    if not going.reshape(-1)[0] or step >= int(trips.reshape(-1)[0]):
        _finish(draft, node, values, collected)
        return True
    if step >= MOST_STEPS:
        raise refusal(node, f"more than {MOST_STEPS} steps")
    made = inline(draft, body, [draft.const(np.array(step, np.int64)), draft.const(np.array(True)), *values])
    for place, name in enumerate(made[1 + carried :]):
        if place == len(collected):
            collected.append([])
        collected[place].append(name)
    rest = onnx.NodeProto(op_type="Loop", name=node.name, output=node.output)
    rest.input.extend([optional_input(node, 0), *made[: 1 + carried], *(name for names in collected for name in names)])
    rest.attribute.append(helper.make_attribute("body", body))
    rest.attribute.append(helper.make_attribute(_STEP, step + 1))
    rest.attribute.append(helper.make_attribute(_COLLECTED, len(collected)))
    draft.add_node(rest)
    return True


def _collected(node: onnx.NodeProto, start: int) -> list[list[str]]:
    """Return, for each output that collects, the names of what the steps so far made."""
    step, count = attribute(node, _STEP, 0), attribute(node, _COLLECTED, 0)
    names = list(node.input[start:])
    return [names[place * step : (place + 1) * step] for place in range(count)]


def _finish(draft: Draft, node: onnx.NodeProto, values: list[str], collected: list[list[str]]) -> None:
    """Add the outputs of a loop that is over."""
    for name, value in zip(node.output, values, strict=False):
        if name:
            draft.add("Identity", value, output=name)
    wanted = [name for name in node.output[len(values) :] if name]
    if wanted and not collected:
        raise refusal(node, "it collects what its steps make, and has no steps")
    for name, parts in zip(node.output[len(values) :], collected, strict=True):
        if name:
            stack(draft, parts, 0, name)
