"""Rows gathered from a constant table as TFLite's embedding lookup, whose table quantizers make small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import BadInput
from edgeship.graph_editor import GraphEditor

SMALLEST_BYTES = 1 << 14  # a smaller table gains nothing


def look_up(source: Path, out: Path) -> int:
    """Write a file whose gathers of whole rows from large float tables are lookups; return how many there were.

    Nothing is written where there are none, or where the file holds several graphs.
    """
    try:
        editor = GraphEditor(source)
    except BadInput:
        return 0
    found = [operator for operator in editor.each("GATHER") if _takes_rows(editor, operator)]
    for operator in found:
        editor.replace(operator, _lookup(editor, operator))
    if found:
        out.write_bytes(editor.content())
    return len(found)


def _takes_rows(editor: GraphEditor, operator: Any) -> bool:
    table, indices = operator.inputs[0], operator.inputs[1]
    options = operator.builtinOptions
    return (
        editor.is_float(table)
        and editor.is_constant(table)
        and editor.tensors[table].sparsity is None
        and len(editor.shape(table)) == 2
        and 4 * int(np.prod(editor.shape(table), dtype=np.int64)) >= SMALLEST_BYTES
        and not getattr(options, "axis", 0)
        and not getattr(options, "batchDims", 0)
        and editor.dtype(indices) in ("int32", "int64")
        and not editor.is_constant(indices)
    )


def _lookup(editor: GraphEditor, operator: Any) -> list[Any]:
    """Return the operations in a gather's place: flat whole numbers of 32 bits, the lookup, the gather's own shape."""
    table, indices = int(operator.inputs[0]), int(operator.inputs[1])
    result = int(operator.outputs[0])
    name, shape = editor.name(result), editor.shape(result)
    count = int(np.prod(editor.shape(indices), dtype=np.int64))
    made = []
    if editor.dtype(indices) != "int32":
        cast = editor.computed(f"{name}_rows", editor.shape(indices), "int32")
        types = vars(editor.schema.TensorType)
        options = {"inDataType": types["INT64"], "outDataType": types["INT32"]}
        made.append(editor.operator("CAST", [indices], [cast], **options))
        indices = cast
    flat = editor.computed(f"{name}_flat", (count,), "int32")
    length = editor.constant(f"{name}_count", np.array([count], np.int32))
    made.append(editor.operator("RESHAPE", [indices, length], [flat], newShape=[count]))
    rows = editor.computed(f"{name}_lookup", (count, editor.shape(table)[1]))
    made.append(editor.operator("EMBEDDING_LOOKUP", [flat, table], [rows]))
    whole = editor.constant(f"{name}_shape", np.array(shape, np.int32))
    made.append(editor.operator("RESHAPE", [rows, whole], [result], newShape=list(shape)))
    return made
