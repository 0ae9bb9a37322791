"""SavedModel folders: exported by Keras, by TensorFlow 2, or in the style of TensorFlow 1."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgeship import check_inputs, saved_model_file, tf_convert
from edgeship.check_inputs import InputSpec
from edgeship.errors import BadInput, StageFailed
from edgeship.importers import Imported, Request
from edgeship.progress import OnProgress, Progress

SUMMARY = "SavedModel folders, of TensorFlow 2, Keras export and TensorFlow 1"
PACKAGES = ("tensorflow",)
ENVIRONMENTS = ()
DEFAULT_SIGNATURE = "serving_default"


def recognizes(source: Path) -> bool:
    """Say whether it is a folder with a saved_model.pb."""
    return (source / "saved_model.pb").is_file()


def bring(on_progress: OnProgress, request: Request) -> Imported:
    """Write the reference and the check file of a SavedModel's signature.

    Raises:
        BadInput: damaged, reaches files or Python, has no clear signature, or open dimensions.
        StageFailed: the converter refused.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # no Keras is needed here: 2 s less
    on_progress(Progress("import", 0, 3, "loading the model"))
    file = saved_model_file.check(request.source, request.trust)
    loaded = _load(request.source, file.tags)
    signature = _signature(request.source, loaded, file.signatures)
    inputs = _inputs(request, signature)
    shapes = check_inputs.full_shapes(request.source, inputs, request.shapes)
    given = check_inputs.arrays(request.source, inputs, shapes, request.examples, request.seed)

    on_progress(Progress("import", 1, 3, "asking the model itself"))
    expected = _called(request.source, signature, given)

    on_progress(Progress("import", 2, 3, "converting to TFLite"))
    content = tf_convert.convert(
        request.source,
        _function(request.source, signature, list(expected)),
        {spec.name: (shapes[spec.name], spec.dtype) for spec in inputs},
        signature.variables,
    )
    request.reference.write_bytes(content)
    check_inputs.write(request.check, given, expected)
    return Imported(
        checked_against=f"tensorflow {version('tensorflow')}",
        input_names=tuple(shapes),
        output_names=tuple(expected),
        examples=len(next(iter(given.values()))),
        trainable=False,
        tools={"tensorflow": version("tensorflow")},
    )


def _load(source: Path, tags: tuple[str, ...]) -> Any:
    import tensorflow as tf

    try:
        return tf.saved_model.load(str(source), tags=list(tags))
    except (*tf_convert.FAULTS, tf.errors.OpError) as fault:
        raise BadInput(f"{source}: TensorFlow cannot load it: {tf_convert.first_line(fault)}") from fault


def _signature(source: Path, loaded: Any, names: tuple[str, ...]) -> Any:
    chosen = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in names else names[0] if len(names) == 1 else None
    if chosen is None or chosen not in loaded.signatures:
        has = f"has the signatures {', '.join(names)}" if names else "has no signature"
        raise BadInput(
            f"{source}: {has}; one named '{DEFAULT_SIGNATURE}' is needed",
            hint="export it with model.export(folder), or tf.saved_model.save(..., signatures=...)",
        )
    return loaded.signatures[chosen]


def _function(source: Path, signature: Any, output_names: list[str]) -> Callable[..., dict[str, Any]]:
    """Return the signature as a function that the converter can export."""
    renamed = _renamed(signature)
    kinds = {node.op for node in signature.graph.as_graph_def().node}
    if kinds & {"Variable", "VariableV2"}:  # TF1's reference variables cannot be exported again: made constants
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        frozen = convert_variables_to_constants_v2(signature)
        keywords = {own: name for name, own in renamed.items()}
        order = [keywords[own] for own in signature._arg_keywords]  # as the graph's inputs stand
        return lambda **tensors: dict(
            zip(sorted(output_names), frozen(*(tensors[name] for name in order)), strict=True)
        )
    resources = sum(tensor.dtype.name == "resource" for tensor in signature.captured_inputs)
    if resources > len(signature.variables):
        raise StageFailed(f"{source}: looks values up in a table, which TFLite has no operator for")
    return lambda **tensors: dict(signature(**{renamed[name]: tensor for name, tensor in tensors.items()}))


def _inputs(request: Request, signature: Any) -> list[InputSpec]:
    specs = signature.structured_input_signature[1]
    inputs = []
    for name, (_, spec) in zip(_renamed(signature), sorted(specs.items()), strict=True):
        rank = len(request.shapes.get(name, ())) or 4
        shape = (None,) * rank if spec.shape.rank is None else tuple(spec.shape)
        inputs.append(InputSpec(name, shape, spec.dtype.name))
    if not inputs:
        raise BadInput(f"{request.source}: its signature takes no inputs")
    return inputs


def _renamed(signature: Any) -> dict[str, str]:
    """Return the reference's input names, in order, each with the signature's own."""
    own = sorted(signature.structured_input_signature[1])
    return dict(zip(tf_convert.argument_names(own), own, strict=True))


def _called(source: Path, signature: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    try:
        renamed = _renamed(signature)
        outputs = signature(**{renamed[name]: tf.convert_to_tensor(array) for name, array in given.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}
    except (*tf_convert.FAULTS, tf.errors.OpError) as fault:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
        raise BadInput(f"{source}: does not run with {shapes}: {tf_convert.first_line(fault)}") from fault
