"""A program that runs an artifact as an app would: written out for one file's own inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeship.run import Port

_HEAD = """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter  # with tflite-runtime: from tflite_runtime.interpreter import Interpreter

interpreter = Interpreter(model_path={path})
interpreter.allocate_tensors()"""
_HEAD_WITH_CHIP = """\
import numpy as np
from tflite_runtime.interpreter import Interpreter, load_delegate  # the release that the target names: newer ones crash

chip = load_delegate({library})  # the first inference uploads the weights, and takes longer
interpreter = Interpreter(model_path={path}, experimental_delegates=[chip])
interpreter.allocate_tensors()"""
_STEPS = (("scale", "*", 1.0), ("offset", "+", 0.0))
_STORED = '''

def stored(real, detail):
    """Real values as the input stores them."""
    scale, zero_point = detail["quantization"]
    if not scale:
        return real.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.rint(real / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])'''
_REAL = '''

def real(values, detail):
    """What the output's stored values mean."""
    scale, zero_point = detail["quantization"]
    return (values.astype(np.float32) - zero_point) * scale if scale else values

'''


def program(
    file_name: str,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    labels: Sequence[str],
    *,
    library: str | None = None,
) -> str:
    """Return Python text that feeds zeros of the right shape to the file, preprocessed, and prints what comes out.

    Args:
        library: the delegate's, which a compiled file needs.
    """
    head = _HEAD if library is None else _HEAD_WITH_CHIP
    lines = [head.format(path=repr(file_name), library=repr(library)), *_lines(inputs, outputs, labels)]
    return "\n".join(lines) + "\n"


def _lines(inputs: Sequence[Port], outputs: Sequence[Port], labels: Sequence[str]) -> Iterator[str]:
    yield _STORED
    yield _REAL
    for index, port in enumerate(inputs):
        shape = tuple(max(size, 1) for size in port.shape)
        variable = f"x{index}" if len(inputs) > 1 else "x"
        yield f"{variable} = np.zeros({shape}, np.float32)  # {_comment(port)}"
        yield from _prepared(variable, port.preprocessing)
        yield f"detail = interpreter.get_input_details()[{index}]"
        yield f'interpreter.set_tensor(detail["index"], stored({variable}, detail))'
    yield "interpreter.invoke()"
    for index, port in enumerate(outputs):
        variable = f"y{index}" if len(outputs) > 1 else "y"
        yield f"detail = interpreter.get_output_details()[{index}]  # {port.name!a}"
        yield f'{variable} = real(interpreter.get_tensor(detail["index"]), detail)'
        if index == 0 and labels:
            yield f"labels = {[str(label) for label in labels]!r}"
            yield f"print(labels[int({variable}.reshape(-1).argmax())])"
        else:
            yield f"print({variable})"


def _comment(port: Port) -> str:
    """Return the port's name as a literal: no name can end the comment."""
    how = port.preprocessing or {}
    before = "your data, as stored" if _scaled(how) else "your data"
    return f"{port.name!a}: {before}"


def _scaled(how: Mapping[str, Any]) -> bool:
    return any(set(_list(how.get(key))) - {neutral} for key, _, neutral in _STEPS)


def _prepared(variable: str, how: Mapping[str, Any] | None) -> Iterator[str]:
    for key, sign, neutral in _STEPS:
        numbers = _list((how or {}).get(key))
        if set(numbers) - {neutral}:
            yield f"{variable} = {variable} {sign} {_literal(numbers)}"


def _literal(numbers: Sequence[float]) -> str:
    shown = [repr(number) for number in numbers]
    return shown[0] if len(shown) == 1 else f"np.array([{', '.join(shown)}], np.float32)"


def _list(found: object) -> list[float]:
    if isinstance(found, list | tuple):
        return [float(number) for number in found]
    return [float(found)] if isinstance(found, int | float) else []
