"""What a recipe will and will not do for this model on this target: said before the work, and after it.

To add a rule: 1. its words and their source, in `data/advice.toml`; 2. a function of the same name here, in `_BEFORE` or
`_AFTER`, that returns the words to fill in, or None where the rule does not hold. Silence is better than a truism.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from edgeship import complexity as counting
from edgeship import resources, toml_file
from edgeship.artifact import Advice, Complexity
from edgeship.flatbuffer import Graph, Operator, Tensor, values
from edgeship.quantized import LITTLE, Coverage, coverage
from edgeship.recipe import Recipe, Scheme
from edgeship.target import Runtime, Target

_Words = Mapping[str, str]
_INTEGER: frozenset[Scheme] = frozenset({"int8", "int8-float-io", "dynamic-int8"})
_STATIC: frozenset[Scheme] = frozenset({"int8", "int8-float-io", "int16x8"})
_XNNPACK = frozenset({"ai-edge-litert", "benchmark_model"})
_OLD = "tflite-runtime"
_SYMPTOMS = {"dynamic-int8": "computes garbage", "int4-weights": "computes NaN"}
_TOO_NEW = {"FULLY_CONNECTED": 12}
_DOMINANT = 0.5
_REUSE = 8  # multiply-accumulates a weight from which arithmetic, not fetching weights, sets the time
_MIB = 2**20
_SPARSE_SHARE = 2 / 3
# What a scheme leaves of float32 bytes, of weights and of activations.
_LEFT: Mapping[Scheme, tuple[float, float]] = {
    "float32": (1, 1), "float16": (0.5, 1), "int8-weights": (0.25, 1), "dynamic-int8": (0.25, 1),
    "int8": (0.25, 0.25), "int8-float-io": (0.25, 0.25), "int16x8": (0.25, 0.5), "int4-weights": (0.125, 1),
}  # fmt: skip
_MASKING = frozenset({"ADD", "MUL", "SELECT", "SELECT_V2", "SUB"})
_HIDDEN = -1e4  # what attention adds to the scores of tokens that do not count, or less
_UNARY = frozenset({
    "ABS", "CEIL", "ELU", "EXP", "FLOOR", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_N1_TO_1",
    "ROUND", "SQUARE", "SQRT", "TANH",
})  # fmt: skip


class _Rule(toml_file.Record):
    """A rule's words, and where they come from."""

    level: Literal["warning", "note"]
    text: str
    source: str


@dataclass(frozen=True)
class _Case:
    """What a rule looks at: before the work the reference, after it the artifact."""

    graph: Graph
    complexity: Complexity
    recipe: Recipe
    target: Target

    @property
    def scheme(self) -> Scheme:
        return self.recipe.quantize.scheme

    @property
    def runtime(self) -> Runtime:
        return self.target.runtimes[0]

    @property
    def xnnpack(self) -> bool:
        return self.runtime.name in _XNNPACK and self.target.accelerator is None

    @property
    def coverage(self) -> Coverage:
        return coverage(self.graph)


_Predicate = Callable[[_Case], _Words | None]


def before(reference: Graph, complexity: Complexity, recipe: Recipe, target: Target) -> tuple[Advice, ...]:
    """Return what is known before any work, from the float reference, its complexity, the recipe and the target."""
    return _told(_BEFORE, _Case(reference, complexity, recipe, target))


def after(artifact: Graph, complexity: Complexity, recipe: Recipe, target: Target) -> tuple[Advice, ...]:
    """Return what the artifact itself shows, from its graph and complexity, and what was asked of it."""
    return _told(_AFTER, _Case(artifact, complexity, recipe, target))


@cache
def rules() -> Mapping[str, _Rule]:
    """Return every rule's words by its name.

    Raises:
        BadInput: the rule table does not fit.
    """
    path = resources.data("advice.toml")
    return {
        name: toml_file.parse(entry, _Rule, where=f"{path}: {name}")
        for name, entry in toml_file.read_table(path).items()
    }


def sparse_obstacle(graph: Graph) -> str | None:
    """Return the first reason why XNNPACK's sparse kernels do not take this graph, None where they might.

    The conditions are those of tensorflow/lite/delegates/xnnpack/README.md, "Sparse Inference"; sparsity is not looked at.
    """
    tensors = graph.main.tensors
    unpacked = counting.constant_origins(graph.main)
    inner = [operator for operator in graph.main.operators if not set(operator.outputs) <= unpacked.keys()]
    if inner and inner[0].name == "PAD":
        inner = inner[1:]
    if not inner or not _is_first_convolution(inner[0], tensors):
        return "XNNPACK's sparse kernels need a 3x3 convolution of stride 2 from 3 channels at the start"
    for operator in inner[1:]:
        if operator.name == "DEPTH_TO_SPACE" or (operator.name == "MEAN" and operator.options.get("KeepDims")):
            return None
        if not _fits_sparse(operator, tensors):
            return f"XNNPACK's sparse kernels do not take its {_described(operator, tensors)}"
    return "XNNPACK's sparse kernels need a spatial MEAN that keeps its dimensions, or a DEPTH_TO_SPACE, at the end"


def _told(predicates: Mapping[str, _Predicate], case: _Case) -> tuple[Advice, ...]:
    """Return the advice of every rule that holds, warnings first."""
    told = []
    for name, predicate in predicates.items():
        words = predicate(case)
        if words is not None:
            rule = rules()[name]
            told.append(Advice(rule.level, rule.text.format(**words)))
    return tuple(sorted(told, key=lambda advice: advice.level != "warning"))


def _is_first_convolution(operator: Operator, tensors: tuple[Tensor, ...]) -> bool:
    shape, options = _kernel(operator, tensors), operator.options
    strides = (options.get("StrideH"), options.get("StrideW"))
    return operator.name == "CONV_2D" and shape[1:] == (3, 3, 3) and strides == (2, 2)


def _fits_sparse(operator: Operator, tensors: tuple[Tensor, ...]) -> bool:
    shape, options = _kernel(operator, tensors), operator.options
    strides = (options.get("StrideH"), options.get("StrideW"))
    if operator.name == "CONV_2D":
        return shape[1:3] == (1, 1) and strides == (1, 1)
    if operator.name == "DEPTHWISE_CONV_2D":
        dilations = (options.get("DilationHFactor"), options.get("DilationWFactor"))
        return shape[1:3] in ((3, 3), (5, 5)) and strides in ((1, 1), (2, 2)) and dilations == (1, 1)
    return operator.name in {"ADD", "MUL", "RESIZE_BILINEAR", "PAD"} | _UNARY


def _described(operator: Operator, tensors: tuple[Tensor, ...]) -> str:
    shape = _kernel(operator, tensors)
    if operator.name not in ("CONV_2D", "DEPTHWISE_CONV_2D") or len(shape) != 4:
        return operator.name
    stride = operator.options.get("StrideH", 1)
    return f"{shape[1]}x{shape[2]} {operator.name}" + (f" of stride {stride}" if stride != 1 else "")


def _kernel(operator: Operator, tensors: tuple[Tensor, ...]) -> tuple[int, ...]:
    index = operator.inputs[1] if len(operator.inputs) > 1 else -1
    return tensors[index].shape if index >= 0 else ()


def _pruning_with_integers(case: _Case) -> _Words | None:
    if not case.recipe.prune or not case.xnnpack or case.scheme in ("float32", "float16"):
        return None
    return {"target": case.target.name, "scheme": case.scheme}


def _pruning_without_sparse_kernels(case: _Case) -> _Words | None:
    obstacle = _pruning_obstacle(case)
    return {"target": case.target.name, "obstacle": obstacle} if obstacle else None


def _pruning_might_help(case: _Case) -> _Words | None:
    float_pruning = case.recipe.prune and case.xnnpack and case.scheme in ("float32", "float16")
    return {"target": case.target.name} if float_pruning and not _pruning_obstacle(case) else None


def _pruning_obstacle(case: _Case) -> str | None:
    """Return why float pruning does not help; None where it might, or is not what is asked."""
    prune = case.recipe.prune
    if prune is None or not case.xnnpack or case.scheme not in ("float32", "float16"):
        return None
    obstacle = sparse_obstacle(case.graph)
    if obstacle is None and prune.sparsity < _SPARSE_SHARE:
        return f"XNNPACK's sparse kernels need two thirds of the 1x1 weights to be zero, not {prune.sparsity:.0%}"
    return obstacle


def _int16x8_without_kernels(case: _Case) -> _Words | None:
    return {} if case.xnnpack and case.scheme == "int16x8" else None


def _dynamic_slower_than_static(case: _Case) -> _Words | None:
    return {} if case.xnnpack and case.scheme == "dynamic-int8" and _reuses_weights(case) else None


def _weights_only_saves_size(case: _Case) -> _Words | None:
    holds = case.xnnpack and case.scheme.endswith("-weights") and _reuses_weights(case)
    return {"scheme": case.scheme} if holds else None


def _reuses_weights(case: _Case) -> bool:
    """Say whether arithmetic sets the time, as in convolutions, not fetching each weight once, as in wide dense layers."""
    return case.complexity.macs >= _REUSE * case.complexity.parameters


def _old_runtime_cannot_run(case: _Case) -> _Words | None:
    if case.runtime.name != _OLD or case.target.accelerator or case.scheme not in _SYMPTOMS:
        return None
    return {**_runtime_words(case), "scheme": case.scheme, "symptom": _SYMPTOMS[case.scheme]}


def _old_runtime_slow_int8(case: _Case) -> _Words | None:
    if case.runtime.name != _OLD or case.target.accelerator or case.scheme not in _STATIC - {"int16x8"}:
        return None
    return _runtime_words(case)


def _runtime_words(case: _Case) -> _Words:
    name = f"{case.runtime.name} {case.runtime.version}" if case.runtime.version else case.runtime.name
    return {"runtime": name, "target": case.target.name}


def _no_int8_dot_product(case: _Case) -> _Words | None:
    cpu = case.target.cpu
    if cpu is None or not cpu.features or case.target.platform.architecture != "aarch64":
        return None
    if not case.xnnpack or case.scheme not in _INTEGER or "asimddp" in cpu.features:
        return None
    return {"core": f"{case.target.name}'s {cpu.core}" if cpu.core else f"Every {case.target.name} machine"}


def _one_layer_dominates(case: _Case) -> _Words | None:
    costs = case.complexity.operators
    if sum(cost.macs > 0 for cost in costs) < 3 or not case.complexity.macs:
        return None
    shares = counting.bound_shares(case.complexity, case.target, integer=case.scheme in _INTEGER)
    basis = "the time that the target's peaks allow" if shares else "all multiply-accumulates"
    shares = shares or tuple(cost.macs / case.complexity.macs for cost in costs)
    share, cost = max(zip(shares, costs, strict=True), key=lambda pair: pair[0])
    if share < _DOMINANT:
        return None
    return {"layer": _short(cost.output), "operator": cost.name, "share": f"{share:.0%}", "basis": basis}


def _short(name: str) -> str:
    """Return the first of the names that a converter joined by semicolons, and of a long one the end."""
    first = name.split(";", maxsplit=1)[0]
    return first if len(first) <= 60 else f"…{first[-59:]}"


def _too_little_memory_ahead(case: _Case) -> _Words | None:
    weights, activations = _LEFT[case.scheme]
    return _too_little(
        case, weights * case.complexity.weight_bytes + activations * case.complexity.peak_activation_bytes
    )


def _too_little_memory(case: _Case) -> _Words | None:
    return _too_little(case, case.complexity.weight_bytes + case.complexity.peak_activation_bytes)


def _too_little(case: _Case, need_bytes: float) -> _Words | None:
    memory_mib = case.target.board.memory_mib if case.target.board else None
    if memory_mib is None or need_bytes / _MIB < memory_mib * _DOMINANT:
        return None
    return {"target": case.target.name, "need_mib": f"{need_bytes / _MIB:.0f}", "memory_mib": f"{memory_mib}"}


def _mostly_untouched(case: _Case) -> _Words | None:
    if case.scheme == "float32" or not _little(case):
        return None
    found = case.coverage
    return {
        "recipe": case.recipe.name,
        "operators": str(found.operators),
        "of": str(found.of),
        "share": f"{found.weight_share:.0%}",
        "untouched": _counted(found.untouched) or "none",
    }


def _little(case: _Case) -> bool:
    found = case.coverage
    few_operators = case.scheme in _STATIC and found.operators < LITTLE * found.of
    return few_operators or (bool(found.schemes) and found.weight_share < LITTLE)


def _operations_stayed_float(case: _Case) -> _Words | None:
    if case.scheme not in _STATIC or _little(case):
        return None
    found = case.coverage
    if not found.untouched:
        return None
    return {"count": str(sum(found.untouched.values())), "of": str(found.of), "untouched": _counted(found.untouched)}


def _counted(untouched: Mapping[str, int]) -> str:
    names = sorted(untouched, key=lambda name: -untouched[name])
    text = ", ".join(f"{untouched[name]} {name}" for name in names[:6])
    return f"{text} and more" if len(names) > 6 else text


def _masked_attention(case: _Case) -> _Words | None:
    """A mask's huge negative number: no scale holds that and the scores beside it."""
    main = case.graph.main
    if case.scheme not in _STATIC or not any(operator.name == "SOFTMAX" for operator in main.operators):
        return None
    for operator in main.operators:
        for tensor in (main.tensors[index] for index in operator.inputs if index >= 0):
            if operator.name not in _MASKING or tensor.dtype != "float32" or not tensor.constant:
                continue
            found = values(tensor)
            if found is not None and found.size and found.min() <= _HIDDEN:
                words = {"operator": operator.name, "value": f"{found.min():.2g}", "scheme": case.scheme}
                return {**words, "softer": "dynamic-int8"}
    return None


def _sparsity_missed(case: _Case) -> _Words | None:
    prune = case.recipe.prune
    if prune is None or case.complexity.sparsity >= prune.sparsity * _DOMINANT:
        return None
    asked, got = f"{prune.sparsity:.0%}", f"{case.complexity.sparsity:.0%}"
    return {"recipe": case.recipe.name, "asked": asked, "got": got}


def _float_interface_on_edgetpu(case: _Case) -> _Words | None:
    ends = (*case.graph.interface.inputs, *case.graph.interface.outputs)
    names = [f"'{spec.name}'" for spec in ends if spec.dtype == "float32"]
    return {"names": ", ".join(names)} if case.target.accelerator and names else None


def _operator_too_new(case: _Case) -> _Words | None:
    if case.runtime.name != _OLD:
        return None
    for operator in case.graph.main.operators:
        if not operator.custom and operator.version >= _TOO_NEW.get(operator.name, operator.version + 1):
            return {**_runtime_words(case), "operator": operator.name, "version": str(operator.version)}
    return None


_BEFORE: Mapping[str, _Predicate] = {
    "int16x8_without_kernels": _int16x8_without_kernels,
    "old_runtime_cannot_run": _old_runtime_cannot_run,
    "too_little_memory": _too_little_memory_ahead,
    "masked_attention": _masked_attention,
    "pruning_with_integers": _pruning_with_integers,
    "pruning_without_sparse_kernels": _pruning_without_sparse_kernels,
    "pruning_might_help": _pruning_might_help,
    "dynamic_slower_than_static": _dynamic_slower_than_static,
    "weights_only_saves_size": _weights_only_saves_size,
    "old_runtime_slow_int8": _old_runtime_slow_int8,
    "no_int8_dot_product": _no_int8_dot_product,
    "one_layer_dominates": _one_layer_dominates,
}
_AFTER: Mapping[str, _Predicate] = {
    "operator_too_new": _operator_too_new,
    "mostly_untouched": _mostly_untouched,
    "sparsity_missed": _sparsity_missed,
    "float_interface_on_edgetpu": _float_interface_on_edgetpu,
    "too_little_memory": _too_little_memory,
    "operations_stayed_float": _operations_stayed_float,
}
