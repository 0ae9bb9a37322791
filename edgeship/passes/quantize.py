"""Post-training quantization of the flatbuffer by litert-quantizer: TFLite in, TFLite out, no TensorFlow.

The schemes are those of the recipe's name. What the quantizer really did is not believed but read from its result
(`quantized.py`): it skips operations without a word.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeship import embedding_lookup, flatbuffer, interpret
from edgeship.errors import StageFailed
from edgeship.progress import OnProgress, Progress
from edgeship.recipe import Quantization

SUMMARY = "post-training quantization of the flatbuffer"
SIGNATURE = "serving_default"
# They leave a table that rows are gathered from float, but not one that is looked up in.
_OF_WEIGHTS = ("dynamic-int8", "int8-weights", "int4-weights")
_OF_ACTIVATIONS = ("int8", "int8-float-io", "int16x8")


@dataclass(frozen=True)
class Quantized:
    """What the pass used: the number of calibration examples, 0 when the scheme needs none."""

    calibration_examples: int


def quantize(
    on_progress: OnProgress, source: Path, name: str, calibration: Path | None, options: Quantization, out: Path
) -> Quantized:
    """Write the quantized file. Runs in a child process.

    Args:
        source: a float TFLite file.
        name: what the user knows it by, for messages.
        calibration: npz of what the model eats (`input:<name>`), for the schemes that need it.
        options: scheme, granularity, and which operations, by patterns over their output tensors' names.
        out: where the result is written.

    Raises:
        StageFailed: the quantizer refused the model.
    """
    if options.scheme == "float32":
        out.write_bytes(source.read_bytes())
        return Quantized(0)
    from litert_quantizer import quantizer

    count = 0
    lookups = out.with_name("lookups.tflite")
    if options.scheme in _OF_WEIGHTS and embedding_lookup.look_up(source, lookups):
        source = lookups
    try:
        graph = flatbuffer.read(source)
        key = graph.signature
        if key is None:  # the quantizer finds a model's inputs by its signature alone
            source, key = _signed(source, out.with_name("signed.tflite")), SIGNATURE
        left = _divisions(graph) if options.scheme in _OF_ACTIVATIONS else []
        tool = quantizer.Quantizer(str(source), _recipe(options, left))
        found = None
        if calibration is not None and tool.need_calibration:
            feed = interpret.load_feed(calibration)
            count = len(next(iter(feed.values())))
            found = tool.calibrate({key: _Batches(feed, count, on_progress)}, num_threads=interpret.cores())
        result = tool.quantize(found, enable_progress_report=False)
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise StageFailed(f"{name}: the quantizer refused {options.scheme}: {error}") from error
    out.write_bytes(bytes(result.quantized_model))
    for made in (lookups, out.with_name("signed.tflite")):
        made.unlink(missing_ok=True)
    return Quantized(count)


def _signed(source: Path, out: Path) -> Path:
    """Write a file that has no signature again with one that names inputs and outputs by their tensors."""
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(source.read_bytes())
    main = model.subgraphs[0]
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = SIGNATURE, 0
    made.inputs, made.outputs = [], []
    for indices, entries in ((main.inputs, made.inputs), (main.outputs, made.outputs)):
        for index in indices:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = main.tensors[index].name, int(index)
            entries.append(entry)
    model.signatureDefs = [made]
    builder = flatbuffers.Builder(source.stat().st_size)
    builder.Finish(model.Pack(builder), file_identifier=flatbuffer.IDENTIFIER)
    out.write_bytes(bytes(builder.Output()))
    return out


class _Batches:
    """Calibration inputs, one example at a time, telling of each; the quantizer asks for its length."""

    def __init__(self, feed: dict[str, NDArray[Any]], count: int, on_progress: OnProgress) -> None:
        self.feed, self.count, self.on_progress = feed, count, on_progress

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        for index in range(self.count):
            if index % 16 == 0:
                self.on_progress(Progress("calibrate", index, self.count))
            yield {name: array[index : index + 1] for name, array in self.feed.items()}


def _divisions(graph: flatbuffer.Graph) -> list[str]:
    """Return the outputs of divisions by what is computed: quantized it may be zero, by which the runtime does not divide."""
    return [
        part.tensors[operator.outputs[0]].name
        for part in graph.subgraphs
        for operator in part.operators
        if operator.name == "DIV" and not part.tensors[operator.inputs[1]].constant
    ]


def _recipe(options: Quantization, left: list[str]) -> Any:
    """Return the quantizer's own recipe: the scheme for every operation, then what is skipped or left, then the interface."""
    from litert_quantizer import recipe_manager
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import TFLOperationName

    manager = recipe_manager.RecipeManager()
    for pattern in options.layers:
        _add_scheme(manager, fnmatch.translate(pattern), options)
    skipped = [(fnmatch.translate(pattern), TFLOperationName.ALL_SUPPORTED) for pattern in options.skip]
    skipped += [(rf"{re.escape(name)};?\Z", TFLOperationName.DIV) for name in left]
    if options.scheme == "int8-float-io":
        skipped += [(".*", TFLOperationName.INPUT), (".*", TFLOperationName.OUTPUT)]
    for pattern, operation in skipped:
        manager.add_quantization_config(pattern, operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return manager.get_quantization_recipe()


def _add_scheme(manager: Any, regex: str, options: Quantization) -> None:
    from litert_quantizer import qtyping
    from litert_quantizer.algorithm_manager import AlgorithmName

    every = qtyping.TFLOperationName.ALL_SUPPORTED
    weights = {"channel": qtyping.QuantGranularity.CHANNELWISE, "tensor": qtyping.QuantGranularity.TENSORWISE}[
        options.granularity
    ]
    match options.scheme:
        case "int8" | "int8-float-io":
            manager.add_static_config(regex, every, 8, options.weight_bits or 8, weights)
        case "int16x8":
            manager.add_static_config(regex, every, 16, 8, weights)
        case "dynamic-int8":
            manager.add_dynamic_config(regex, every, options.weight_bits or 8, weights)
        case "int8-weights" | "int4-weights":
            bits = options.weight_bits or (4 if options.scheme == "int4-weights" else 8)
            manager.add_weight_only_config(regex, every, bits, weights)
        case "float16":
            half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
            config = qtyping.OpQuantizationConfig(
                weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
            )
            manager.add_quantization_config(regex, every, config, AlgorithmName.FLOAT_CASTING)
