"""Each segment as a TFLite file of its own, fit for a pipeline that hands tensors on by their names.

The rules are those of the vendor's runner (libcoral, coral/pipeline/pipelined_model_runner.cc): the first segment takes
all inputs of the model, the last gives all of its outputs, a tensor is known by its name, and what a segment does not
read flows past it. An output that is computed early is therefore handed over by the last segment, through a RESHAPE to
the shape that it has.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeship.graph_editor import GraphEditor, Port
from edgeship.segment_cuts import Segment

_DESCRIBES_THE_WHOLE = ("TFLITE_METADATA",)  # names the whole model's inputs and outputs


@dataclass(frozen=True)
class Content:
    """One segment's file: its bytes, and the names of the tensors that enter and leave, in the file's order."""

    content: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def contents(model: Path, segments: Sequence[Segment]) -> tuple[Content, ...]:
    """Return the file of each segment, in the order of the pipeline.

    Raises:
        BadInput: the model is damaged or holds more than one graph.
    """
    editor = GraphEditor(model)
    operators = list(editor.operators)
    _make_unique(editor, segments)
    handed_over = _hand_over(editor, segments)
    made = []
    for number, segment in enumerate(segments):
        inside = [operators[index] for index in segment.operators]
        outputs = list(segment.outputs)
        if number == len(segments) - 1:
            inside += [operator for operator, _ in handed_over.values()]
            outputs = [handed_over[index][1] if index in handed_over else index for index in outputs]
        entering = _ports(editor, segment.inputs, editor.inputs if number == 0 else ())
        leaving = _ports(editor, outputs, editor.outputs if number == len(segments) - 1 else ())
        content = editor.part(inside, entering, leaving, without_metadata=_DESCRIBES_THE_WHOLE)
        names = [tuple(editor.name(port.tensor) for port in ports) for ports in (entering, leaving)]
        made.append(Content(content, *names))
    return tuple(made)


def _make_unique(editor: GraphEditor, segments: Sequence[Segment]) -> None:
    """Give a name of its own to each tensor that travels, where it has none or shares it with another."""
    travelling = dict.fromkeys(index for segment in segments for index in (*segment.inputs, *segment.outputs))
    counts = Counter(editor.name(index) for index in range(len(editor.tensors)))
    for index in travelling:
        name = editor.name(index)
        if not name or counts[name] > 1:
            editor.tensors[index].name = editor.unique(name or f"tensor_{index}")


def _hand_over(editor: GraphEditor, segments: Sequence[Segment]) -> dict[int, tuple[object, int]]:
    """Return, for each output of the model that the last segment only hands over, the RESHAPE that does and its result.

    The result takes the name; where it travels, the tensor gets another.
    """
    last = segments[-1]
    made = {}
    for index in dict.fromkeys(last.outputs):
        if len(segments) == 1 or index not in last.inputs:
            continue
        result = copy.copy(editor.tensors[index])
        given = any(port.tensor == index for port in editor.inputs)
        name = editor.name(index)
        result.name = editor.unique(f"{name}/output") if given else name
        if not given:
            editor.tensors[index].name = editor.unique(f"{name}/early")
        editor.tensors.append(result)
        place = len(editor.tensors) - 1
        shape = editor.constant(editor.unique(f"{name}/shape"), np.array(editor.shape(index), np.int32))
        options = {"newShape": list(editor.shape(index))}
        made[index] = (editor.operator("RESHAPE", [index, shape], [place], **options), place)
    return made


def _ports(editor: GraphEditor, tensors: Sequence[int], own: Sequence[Port]) -> list[Port]:
    """Return a segment's ports: the model's own first, called as it calls them, then others by their tensors' names."""
    taken = {port.name for port in own}
    ports = [Port(port.name, index) for port, index in zip(own, tensors, strict=False)]
    for index in tensors[len(ports) :]:
        name = editor.name(index)
        while name in taken:
            name += "_"
        taken.add(name)
        ports.append(Port(name, index))
    return ports
