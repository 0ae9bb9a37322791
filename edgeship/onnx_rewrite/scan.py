"""Scan over sequences of fixed length: its steps, one after another."""

from __future__ import annotations

import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute, refusal
from edgeship.onnx_rewrite.inlining import bare, inline, stack

OPERATIONS: tuple[str, ...] = ("Scan",)
NOTE = "its steps put one after another"
MOST_STEPS = 1024


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Put the steps one after another.

    Raises:
        BadInput: open shapes, more steps than are reasonable, or the form of before opset 9.
    """
    if draft.opset < 9:
        raise refusal(node, "its form of before opset 9")
    body = bare(draft, attribute(node, "body"))
    scanned = attribute(node, "num_scan_inputs")
    values, sequences = list(node.input[: len(node.input) - scanned]), list(node.input[len(node.input) - scanned :])
    shapes = [draft.fixed_shape(node, name) for name in sequences]
    axes = [
        axis % len(shape)
        for axis, shape in zip(attribute(node, "scan_input_axes") or [0] * scanned, shapes, strict=True)
    ]
    backwards = attribute(node, "scan_input_directions") or [0] * scanned
    steps = shapes[0][axes[0]]
    if not 0 < steps <= MOST_STEPS:
        raise refusal(node, f"{steps} steps; from 1 to {MOST_STEPS} are unrolled")
    collected: list[list[str]] = [[] for _output in range(len(body.output) - len(values))]
    for step in range(steps):
        parts = []
        for name, shape, axis, reverse in zip(sequences, shapes, axes, backwards, strict=True):
            place = steps - 1 - step if reverse else step
            part = draft.slice(name, axis, place, place + 1)
            parts.append(draft.reshape(part, [length for number, length in enumerate(shape) if number != axis]))
        made = inline(draft, body, [*values, *parts])
        values, outputs = made[: len(values)], made[len(values) :]
        for names, name in zip(collected, outputs, strict=True):
            names.append(name)
    for name, value in zip(node.output, values, strict=False):
        if name:
            draft.add("Identity", value, output=name)
    _put(draft, node, collected, list(node.output[len(values) :]))
    return True


def _put(draft: Draft, node: onnx.NodeProto, collected: list[list[str]], outputs: list[str]) -> None:
    """Add what the steps made, stacked along each output's axis and in its direction."""
    count = len(collected)
    axes = attribute(node, "scan_output_axes") or [0] * count
    backwards = attribute(node, "scan_output_directions") or [0] * count
    for name, parts, axis, reverse in zip(outputs, collected, axes, backwards, strict=False):
        if name:
            stack(draft, parts[::-1] if reverse else parts, axis, name)
