"""Keras models, `.keras` and `.h5`, of Keras 3 and of Keras 2 (tf_keras)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgeship import check_inputs, keras_file, tf_convert
from edgeship.check_inputs import InputSpec
from edgeship.errors import BadInput
from edgeship.importers import Imported, Request
from edgeship.progress import OnProgress, Progress

SUMMARY = "Keras models: .keras and .h5, written by Keras 3 or Keras 2 (tf_keras)"
PACKAGES = ("tensorflow", "keras", "tf-keras")
ENVIRONMENTS = ()
_NAMES = re.compile(rb"(?<![\w/.-])(config|metadata)\.json")  # not torch's `data/weights/model_weights_config.json`
_DISTRIBUTION = {"keras": "keras", "tf_keras": "tf-keras"}


def recognizes(source: Path) -> bool:
    """Say whether it is HDF5, or an archive with a Keras config.json."""
    if not source.is_file():
        return False
    with source.open("rb") as stream:
        head = stream.read(4096)
    return head.startswith(keras_file.HDF5_MAGIC) or (
        head.startswith(keras_file.ZIP_MAGIC) and _NAMES.search(head) is not None
    )


def bring(on_progress: OnProgress, request: Request) -> Imported:
    """Write the reference and the check file of a Keras model.

    Raises:
        BadInput: the file is damaged, runs code that is not trusted, or has open dimensions.
        StageFailed: the converter refused.
    """
    on_progress(Progress("import", 0, 3, "loading the model"))
    loaded = keras_file.load(request.source, request.trust)
    model = loaded.model
    inputs = _inputs(request, model)
    shapes = check_inputs.full_shapes(request.source, inputs, request.shapes)
    given = check_inputs.arrays(request.source, inputs, shapes, request.examples, request.seed)

    on_progress(Progress("import", 1, 3, "asking the model itself"))
    expected = _called(request.source, model, given)

    on_progress(Progress("import", 2, 3, "converting to TFLite"))
    content = tf_convert.convert(
        request.source,
        lambda **tensors: _outputs(model, tensors),
        {spec.name: (shapes[spec.name], spec.dtype) for spec in inputs},
        [
            getattr(variable, "value", variable) if loaded.flavour == "keras" else variable
            for variable in model.variables
        ],
    )
    request.reference.write_bytes(content)
    check_inputs.write(request.check, given, expected)
    distribution = _DISTRIBUTION[loaded.flavour]
    return Imported(
        checked_against=f"{loaded.flavour} {version(distribution)}",
        input_names=tuple(shapes),
        output_names=tuple(expected),
        examples=len(next(iter(given.values()))),
        trainable=True,
        tools={name: version(name) for name in ("tensorflow", distribution)},
    )


def _inputs(request: Request, model: Any) -> list[InputSpec]:
    """Return the model's inputs in order; a model that was never built has what the user gives."""
    import tensorflow as tf

    tensors = getattr(model, "inputs", None)
    if not tensors:
        if not request.shapes:
            raise BadInput(
                f"{request.source}: says nothing of its inputs; it was saved before it was built",
                hint="call the model once and save it again, or give --shape input:1,224,224,3",
            )
        return [InputSpec(name, (None, *shape[1:]), "float32") for name, shape in request.shapes.items()]
    names = tf_convert.argument_names([tensor.name for tensor in tensors])
    limit = min((layer.input_dim for layer in model.layers if hasattr(layer, "input_dim")), default=2)
    return [
        InputSpec(name, tuple(tensor.shape), tf.as_dtype(tensor.dtype).name, limit)
        for name, tensor in zip(names, tensors, strict=True)
    ]


def _outputs(model: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's outputs by name for input tensors by name (in the model's order)."""
    import tensorflow as tf

    values = list(tensors.values())
    results = tf.nest.flatten(model(values[0] if len(values) == 1 else values, training=False))
    names = list(getattr(model, "output_names", None) or [])
    if not names and len(results) == 1 and model.layers:  # Keras 3's Sequential names no outputs
        names = [model.layers[-1].name]
    if len(names) != len(results):
        names = [f"output_{number}" for number in range(len(results))]
    return dict(zip(tf_convert.unique(names), results, strict=True))


def _called(source: Path, model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    try:
        outputs = _outputs(model, {name: tf.convert_to_tensor(array) for name, array in given.items()})
    except (*tf_convert.FAULTS, tf.errors.OpError) as fault:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
        raise BadInput(f"{source}: the model does not run with {shapes}: {tf_convert.first_line(fault)}") from fault
    return {name: tensor.numpy() for name, tensor in outputs.items()}
