"""A TFLite file whose operations compute in float but store their weights in 8 bits or fewer: the same with float weights.

The kernels of such a hybrid file round activations while they run. Its float twin is what can be differentiated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeship import flatbuffer
from edgeship.flatbuffer import Graph, Tensor

_CONVERSION = "DEQUANTIZE"


def hidden(graph: Graph) -> list[Tensor]:
    """Return the quantized constants that operations on float values use as they are."""
    tensors = graph.main.tensors
    found = {}
    for operator in graph.main.operators:
        computed = [
            index for index in (*operator.inputs, *operator.outputs) if index >= 0 and not tensors[index].constant
        ]
        if operator.name == _CONVERSION or any(tensors[index].quantization is not None for index in computed):
            continue
        for index in operator.inputs:
            if index >= 0 and tensors[index].constant and tensors[index].quantization is not None:
                found[index] = tensors[index]
    return list(found.values())


def write(source: Path, out: Path) -> tuple[str, ...]:
    """Write the file with float32 in place of hidden weights, and return their dtypes; write nothing where there are none.

    Raises:
        BadInput: the file is damaged.
    """
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    tensors = hidden(flatbuffer.read(source))
    if not tensors:
        return ()
    model = schema.ModelT.InitFromPackedBuf(source.read_bytes())
    for tensor in tensors:
        real = flatbuffer.values(tensor)
        if real is None:
            continue
        made: Any = schema.BufferT()
        made.data = np.frombuffer(np.ascontiguousarray(real).tobytes(), np.uint8)
        model.buffers.append(made)
        entry = model.subgraphs[0].tensors[tensor.index]
        entry.type, entry.quantization, entry.buffer = schema.TensorType.FLOAT32, None, len(model.buffers) - 1
    builder = flatbuffers.Builder(source.stat().st_size)
    builder.Finish(model.Pack(builder), file_identifier=flatbuffer.IDENTIFIER)
    out.write_bytes(bytes(builder.Output()))
    return tuple(sorted({tensor.dtype for tensor in tensors}))
