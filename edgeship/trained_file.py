"""A trained tf_keras model as TFLite with batch 1, with the reference's names and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship import flatbuffer, tf_convert
from edgeship.recipe import Scheme


@dataclass(frozen=True)
class Ports:
    """The inputs and outputs of the file to be written, in the model's own order: names and full shapes."""

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]


def write(source: Path, model: Any, ports: Ports, scheme: Scheme, out: Path) -> None:
    """Write the model: float32, or int8 where it was trained for that, with int8 or float inputs and outputs.

    Args:
        source: what the user gave, for messages.
        scheme: `float32`, `int8` or `int8-float-io`.

    Raises:
        StageFailed: the converter refused.
    """
    legal = dict(zip(ports.inputs, tf_convert.argument_names(list(ports.inputs)), strict=True))
    made = dict(zip(ports.outputs, tf_convert.argument_names(list(ports.outputs)), strict=True))

    def forward(**tensors: Any) -> Mapping[str, Any]:
        import tensorflow as tf

        ordered = [tensors[name] for name in legal.values()]
        outputs = model(ordered if len(ordered) > 1 else ordered[0], training=False)
        flat = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return {
            name: tensor if tuple(tensor.shape) == shape else tf.reshape(tensor, shape)
            for name, shape, tensor in zip(made.values(), ports.outputs.values(), flat, strict=True)
        }

    inputs = {
        legal[name]: (shape, tensor.dtype.name)
        for (name, shape), tensor in zip(ports.inputs.items(), model.inputs, strict=True)
    }
    if scheme == "float32":
        content = tf_convert.convert(source, forward, inputs, model.variables)
    else:
        content = _to_int8(source, forward, inputs, model.variables, scheme)
    back = {short: name for names in (legal, made) for name, short in names.items()}
    beside = out.with_name(out.name + ".part")
    beside.write_bytes(_renamed(content, back))
    beside.replace(out)


def _to_int8(
    source: Path,
    forward: Any,
    inputs: Mapping[str, tuple[tuple[int, ...], str]],
    variables: Sequence[Any],
    scheme: Scheme,
) -> bytes:
    """Return a quantization-aware model as TFLite; its ranges are in the graph, so no examples are needed."""
    import tensorflow as tf

    module = tf.Module()
    module.all_variables = list(variables)
    specs = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()}
    concrete = tf.function(forward, autograph=False).get_concrete_function(**specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme == "int8":
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    try:
        content: bytes = converter.convert()
    except (*tf_convert.FAULTS, tf.errors.OpError) as fault:
        raise tf_convert.refusal(source, fault) from fault
    return content


def _renamed(content: bytes, names: Mapping[str, str]) -> bytes:
    """Return the file with its signature's names replaced: TensorFlow takes only letters, digits and `_` in them."""
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    if all(short == name for short, name in names.items()):
        return content
    model = schema.ModelT.InitFromPackedBuf(content)
    for signature in model.signatureDefs or []:
        for entry in (*(signature.inputs or []), *(signature.outputs or [])):
            entry.name = names.get(_text(entry.name), _text(entry.name))
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=flatbuffer.IDENTIFIER)
    return bytes(builder.Output())


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
