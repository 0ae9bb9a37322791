"""A TensorFlow function to float32 TFLite: the one door to its converter."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeship.errors import BadInput, StageFailed

# What TensorFlow and Keras raise on models that are damaged or do not fit; its own tree, OpError, comes with the import.
FAULTS: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def unique(names: Sequence[str]) -> list[str]:
    """Return the names with the later of equal ones numbered: two outputs of one layer are `a`, `a_1`."""
    found: list[str] = []
    for name in names:
        number, made = 0, name
        while made in found:
            number += 1
            made = f"{name}_{number}"
        found.append(made)
    return found


def argument_names(names: Sequence[str]) -> list[str]:
    """Return input names as TensorFlow will have them in a signature: letters, digits and `_`, a letter first."""
    plain = (re.sub(r"[^A-Za-z0-9]", "_", name) for name in names)
    return unique([name if name[:1].isalpha() else f"arg_{name}" for name in plain])


def convert(
    source: Path,
    function: Callable[..., Mapping[str, Any]],
    inputs: Mapping[str, tuple[tuple[int, ...], str]],
    variables: Sequence[Any],
) -> bytes:
    """Return a float32 TFLite file whose signature has the function's own input and output names.

    Args:
        source: the model's file, for messages.
        function: takes tensors by name, in the order of `inputs`; returns tensors by name.
        inputs: name → (full shape, dtype).
        variables: the tf.Variables that the function reads. Only they and the function are exported: a quarter of the
            time of `from_keras_model`, which traces every layer and the training functions too.

    Raises:
        StageFailed: the converter refused.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    module = tf.Module()
    module.all_variables = list(variables)
    specs = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()}
    try:
        traced = tf.function(lambda **tensors: function(**{name: tensors[name] for name in inputs}), autograph=False)
        concrete = traced.get_concrete_function(**specs)  # it sorts the names
    except (*FAULTS, tf.errors.OpError) as fault:
        raise BadInput(f"{source}: does not run with inputs {_shapes(inputs)}: {first_line(fault)}") from fault
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    try:
        content: bytes = converter.convert()
    except (*FAULTS, ConverterError, tf.errors.OpError) as fault:
        raise refusal(source, fault) from fault
    return content


def refusal(source: Path, fault: BaseException) -> StageFailed:
    """Return the converter's complaint in one line: the operators that TFLite lacks, where that is it."""
    lacking = re.findall(r"tf\.(\w+)\(", str(fault)) or re.findall(r"Custom ops: ([\w, ]+)", str(fault))
    operators = sorted({name.strip() for names in lacking for name in names.split(",")})
    if operators:
        return StageFailed(f"{source}: TFLite has no operators for {', '.join(operators)}")
    return StageFailed(f"{source}: TensorFlow's converter refused it: {first_line(fault)}")


def _shapes(inputs: Mapping[str, tuple[tuple[int, ...], str]]) -> str:
    return ", ".join(f"{name} {shape}" for name, (shape, _) in inputs.items())


def first_line(fault: BaseException) -> str:
    """Return the first line that says something, at most 300 characters of it."""
    lines = [line for line in str(fault).strip().splitlines() if line.strip()]
    return lines[0].strip()[:300] if lines else type(fault).__name__
