"""What in a Keras configuration is code, or names code, beside Keras's own.

A configuration may name any class or function of any module, hold Python bytecode, call TensorFlow by name, or point
at other files. tf_keras imports whatever module a configuration names; Keras 3 has grown guards, and holes in them. So
nothing is left to either: what is not known to be harmless is found here, before a loader sees it.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LAMBDA = "lambda"  # `--trust lambda` lets bytecode stored in the file run


@dataclass(frozen=True)
class ForeignCode:
    """One place of a model that is code, or names code, beside Keras's own.

    Attributes:
        layer: the layer it stands in.
        name: the class or function.
        reason: why it is refused, starting with the layer.
        trusted_by: what the user would have to trust: a module, "MODULE" where the file does not say which, "lambda",
            or None where nothing helps.
        module: where the loader would import it from, or None.
        key: the name that the loader looks up among registered objects before it imports anything, or None.
    """

    layer: str
    name: str
    reason: str
    trusted_by: str | None
    module: str | None = None
    key: str | None = None

    def __str__(self) -> str:
        return self.reason


_BUILT_IN_PARTS = frozenset(
    {
        "activations", "constraints", "dtype_policies", "engine", "initializers", "layers", "losses", "metrics",
        "mixed_precision", "models", "ops", "optimizers", "quantizers", "random", "regularizers", "__internal__",
    }
)  # fmt: skip
_FUNCTION_PARTS = frozenset({"activations", "initializers", "losses", "metrics", "ops", "regularizers"})
_PLAIN = frozenset(
    {
        "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__", "__tuple__",
        "__complex__", "TensorShape", "CompositeTensor", "TypeSpec",
    }
)  # fmt: skip
_TENSOR_SPECS = frozenset({"TensorSpec", "RaggedTensorSpec", "SparseTensorSpec"})
_CODE_LAYERS = {
    "TFSMLayer": "runs a SavedModel from another folder",
    "TorchModuleWrapper": "is a pickle, which runs code when read",
    "JaxLayer": "holds code as bytes",
    "FlaxLayer": "holds code as bytes",
    "ClassMethod": "calls any method of TensorFlow by its name",
    "InstanceMethod": "calls any method by its name",
}
# What an operation recorded by tf_keras may be; the others reach files, Python and the network (tf.io, tf.py_function).
_TF_FAMILIES = (
    "math.",
    "nn.",
    "__operators__.",
    "linalg.",
    "image.",
    "signal.",
    "keras.activations.",
    "keras.backend.",
)
_TF_NAMES = (
    "abs add add_n argmax argmin argsort bitcast boolean_mask broadcast_to cast clip_by_value concat constant cos cumsum "
    "divide einsum equal exp expand_dims eye fill floor gather gather_nd greater greater_equal identity less less_equal "
    "logical_and logical_not logical_or matmul maximum meshgrid minimum multiply negative norm not_equal one_hot ones "
    "ones_like pad pow range rank realdiv reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min "
    "reduce_prod reduce_sum repeat reshape reverse roll round rsqrt scan_nd scatter_nd sequence_mask shape sigmoid sign "
    "sin size slice sort space_to_batch split sqrt square squeeze stack stop_gradient strided_slice subtract tanh "
    "tensor_scatter_nd_update tensordot tile transpose truediv unstack where zeros zeros_like"
)
_TF_SINGLE = frozenset(_TF_NAMES.split())


def foreign_code(config: dict[str, Any]) -> Iterator[ForeignCode]:
    """Yield every place of a configuration that is code or names code beside Keras's own, in all depths."""
    waiting: list[tuple[object, str]] = [(config, "model")]
    while waiting:
        node, layer = waiting.pop()
        if isinstance(node, dict):
            inner = node.get("config")
            own_name = inner.get("name") if isinstance(inner, dict) and "inbound_nodes" in node else None
            layer = own_name if isinstance(own_name, str) else layer
            if "class_name" in node and (found := _judged(node, layer)):
                yield found
            if isinstance(node.get("vocabulary"), str):
                reason = f"layer '{layer}' reads its vocabulary from another file, {node['vocabulary']!r}"
                yield ForeignCode(layer, "vocabulary", reason, None)
            waiting += [(value, layer) for value in reversed(node.values())]
        elif isinstance(node, list):
            waiting += [(value, layer) for value in reversed(node)]


def _judged(node: dict[str, Any], layer: str) -> ForeignCode | None:
    """Return why one serialized object is refused, or None for what Keras itself makes."""
    name, module = node["class_name"], node.get("module")
    if not isinstance(name, str) or not isinstance(module, str | None):
        return ForeignCode(layer, str(name), f"layer '{layer}' has a class that is no name: {str(name)[:60]!r}", None)
    inner = node.get("config")
    if name in ("Lambda", "__lambda__"):
        return _judged_lambda(layer, inner if isinstance(inner, dict) else {})
    if name in _CODE_LAYERS:
        return ForeignCode(layer, name, f"layer '{layer}' ({name}) {_CODE_LAYERS[name]}", None)
    if name in ("TFOpLambda", "SlicingOpLambda"):
        return _judged_operation(layer, inner.get("function") if isinstance(inner, dict) else None)
    if name in _PLAIN:
        return None
    if name == "__typespec__":
        known = node.get("spec_name") in _TENSOR_SPECS and str(module).startswith("tensorflow.python.")
        return None if known else _foreign(layer, str(node.get("spec_name")), node)
    if name == "function":
        return None if _is_own_function(inner, module) else _foreign(layer, str(inner), node)
    return None if _is_own_class(name, node) else _foreign(layer, name, node)


def _judged_lambda(layer: str, config: dict[str, Any]) -> ForeignCode | None:
    """Let a Lambda pass only when all its functions are named: by an entry of its own (judged there), or a plain name."""
    function = config.get("function")
    kinds = {config.get(f"{part}_type") for part in ("function", "output_shape", "mask")}
    if "lambda" not in kinds:
        if isinstance(function, dict) and "class_name" in function:
            return None
        if isinstance(function, str) and config.get("function_type") == "function":
            return _foreign(layer, function, {**config, "class_name": "function"})
    return ForeignCode(layer, "Lambda", f"layer '{layer}' (Lambda) is Python bytecode stored in the file", LAMBDA)


def _judged_operation(layer: str, function: object) -> ForeignCode | None:
    name = function.removeprefix("compat.v1.") if isinstance(function, str) else ""
    if name in _TF_SINGLE or name.startswith(_TF_FAMILIES):
        return None
    return ForeignCode(layer, str(function), f"layer '{layer}' calls tf.{function}, which is no plain arithmetic", None)


def _foreign(layer: str, name: str, node: dict[str, Any]) -> ForeignCode:
    module = node.get("module")
    module = module if isinstance(module, str) and module not in ("__main__", "builtins") else None
    # Keras looks functions up by their own name, classes by the registered one; the other may say anything.
    key = name if node.get("class_name") == "function" else node.get("registered_name", name)
    key = key if isinstance(key, str) else None
    shown = key if key and ">" in key else name
    source = f" of module '{module}'" if module else ""
    reason = f"layer '{layer}' uses '{shown}'{source}, code that is no part of Keras"
    return ForeignCode(layer, name, reason, module or "MODULE", module, key)


def _is_own_module(module: str, parts: frozenset[str]) -> bool:
    path = [part for part in module.split(".") if part != "src"]
    return path[0] in ("keras", "tf_keras") and len(path) > 1 and path[1] in parts


def _is_own_function(name: object, module: str | None) -> bool:
    if not isinstance(name, str) or ">" in name or module is None:
        return False
    if module == "builtins":  # how Keras writes 'relu'; tf_keras would find Python's own eval there too
        return not hasattr(builtins, name)
    return _is_own_module(module, _FUNCTION_PARTS)


def _is_own_class(name: str, node: dict[str, Any]) -> bool:
    module, registered_name = node.get("module"), node.get("registered_name")
    if ">" in name or registered_name not in (None, name):
        return False
    if "module" not in node:  # the older form: looked up by name among Keras's own, an unknown one fails to load
        return True
    if module is None or not name[:1].isupper():
        return False
    return module in ("keras", "tf_keras") or _is_own_module(module, _BUILT_IN_PARTS)
