"""QUANTIZE and DEQUANTIZE at the edges of an 8-bit file taken off: they stay on the CPU, and the app can do them."""

from __future__ import annotations

from edgeship.graph_editor import GraphEditor, Port

SUMMARY = "float inputs and outputs of an 8-bit file as 8-bit ones"
EXACT = True
_EIGHT_BITS = frozenset({"int8", "uint8"})


def rewrite(editor: GraphEditor) -> int:
    """Take them off and return how many there were."""
    count = 0
    for operator in editor.each("QUANTIZE", "DEQUANTIZE"):
        source, result = int(operator.inputs[0]), int(operator.outputs[0])
        into = editor.kind(operator) == "QUANTIZE"
        ports = editor.inputs if into else editor.outputs
        outer, inner = (source, result) if into else (result, source)
        place = next((number for number, port in enumerate(ports) if port.tensor == outer), None)
        if place is None or not editor.is_float(outer) or editor.dtype(inner) not in _EIGHT_BITS:
            continue
        if into and len(editor.readers(source)) > 1:
            continue
        if editor.is_constant(inner) or any(port.tensor == inner for port in (*editor.inputs, *editor.outputs)):
            continue
        ports[place] = Port(ports[place].name, inner)
        if editor.signature is None:  # without one a tensor's name is what the app knows
            names = editor.tensors[outer].name, editor.tensors[inner].name
            editor.tensors[inner].name, editor.tensors[outer].name = names
        editor.replace(operator, [])
        count += 1
    return count
