"""The program inside a `.pt2` file, as JSON: held against what a plain graph of tensors needs, and described.

A node may name only operators of ATen and a short list of arithmetic and control flow: all else could be any function.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeship.errors import BadInput

Json = dict[str, Any]

# No other name begins with two underscores, and no overload with one: those are Python's, not operators.
_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.(_?[A-Za-z]\w*|__i?(and|or|xor|lshift|rshift)__)\.[A-Za-z]\w*"
)
# What reads or writes files, or makes Python objects; every other ATen operator computes.
_REACHING = re.compile(r"file|pickle|\bsave\b|\bload\b|script|import|_pyobj")
_CONTROL = frozenset({
    "torch.ops.higher_order." + name
    for name in ("cond", "while_loop", "scan", "wrap_with_set_grad_enabled", "wrap_with_autocast", "wrap")
})  # fmt: skip
_PLAIN = frozenset(
    {f"_operator.{name}" for name in (
        "abs", "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "invert", "le", "lshift", "lt", "mod", "mul", "ne",
        "neg", "not_", "or_", "pos", "pow", "rshift", "sub", "truediv", "xor",
    )}
    | {f"math.{name}" for name in ("ceil", "floor", "trunc", "sqrt", "log2", "pow", "exp")}
    | {f"torch.{name}" for name in ("sym_float", "sym_int", "sym_ite", "sym_max", "sym_min", "sym_not", "sym_sum")}
    | {f"torch._sym_{name}" for name in ("sqrt", "log2")}
)  # fmt: skip
# The words of sympy and of torch.utils._sympy.functions that sizes are made of.
_SIZE_WORDS = frozenset({
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Equality", "Eq", "Ne", "Unequality",
    "StrictLessThan", "StrictGreaterThan", "LessThan", "GreaterThan", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "true",
    "false", "Abs", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv",
    "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator",
    "TruncToFloat", "TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat", "Identity", "oo", "int_oo", "Infinity",
    "NegativeInfinity", "BooleanTrue", "BooleanFalse", "ceiling", "floor",
})  # fmt: skip
_DIALECTS = ("TRAINING", "ATEN")  # how torch holds a graph against its rules; others are registered by code
_SYMBOL = re.compile(r"[a-z]{1,6}\d{1,9}")
_SIZE_CHARACTERS = 20_000
_CONTAINERS = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_PAIRED = re.compile(r"L__self__|_export_root")


def cleaned(source: Path, program: Json) -> Json:
    """Return a copy of a program that torch may load: nothing in it runs code, or is text that would be evaluated.

    Raises:
        BadInput: it names something that could; the text says what, and the hint how to do without.
    """
    copy: Json = json.loads(json.dumps(program))
    copy["guards_code"] = []  # Python, compiled and run with every call
    copy["verifiers"] = [name for name in copy.get("verifiers", []) if name in _DIALECTS]
    for name, limits in copy["range_constraints"].items():
        numbers = all(value is None or isinstance(value, int) for value in limits.values())
        if not _SYMBOL.fullmatch(name) or not numbers:
            raise _suspicious(source, "a size", name)
    for table in _tables(copy):
        _check(source, table)
    return copy


def _tables(value: Any) -> Iterator[Json]:
    """Give every table inside a value, however deep; without recursion, which a file could exhaust."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            yield current
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)


def _check(source: Path, table: Json) -> None:
    if "target" in table:
        _check_target(source, table)
    if "as_operator" in table:
        _check_operator(source, str(table["as_operator"]), "")
    if "expr_str" in table:
        _check_size(source, table["expr_str"])
    for spec in ("in_spec", "out_spec"):
        if spec in table:
            _check_nesting(source, table[spec])
    if table.get("custom_obj_values") or "as_custom_obj" in table:
        raise BadInput(f"{source}: holds an object of a class of its own, which would be unpickled")
    if "metadata" in table and "target" in table:
        table["metadata"] = {key: text for key, text in table["metadata"].items() if key == "nn_module_stack"}


def _check_target(source: Path, node: Json) -> None:
    target = str(node["target"])
    where = layer(node)
    if target.startswith(("torch.ops.aten.dropout.", "torch.ops.aten.feature_dropout.")) and _argument(node, "train"):
        raise _training(source, "dropout", where)
    if target.startswith("torch.ops.aten.batch_norm.") and _argument(node, "training"):
        raise _training(source, "batch normalization", where)
    _check_operator(source, target, where)


def _check_operator(source: Path, target: str, where: str) -> None:
    if target in _PLAIN or target in _CONTROL:
        return
    if _OPERATORS.fullmatch(target) and not _REACHING.search(target):
        return
    at = f" at {where}" if where else ""
    if re.fullmatch(r"torch\.ops\.\w+\.\w+(\.\w+)?", target):
        raise BadInput(
            f"{source}: uses the operator {target.removeprefix('torch.ops.')}{at}, which only the code that brings it can run",
            hint="export the model with plain operators of torch instead",
        )
    raise _suspicious(source, f"an operator{at}", target)


def _check_size(source: Path, text: Any) -> None:
    """Refuse the text of a size that is more than arithmetic: sympy would evaluate it as Python."""
    if not isinstance(text, str) or len(text) > _SIZE_CHARACTERS:
        raise _suspicious(source, "a size", str(text))
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _suspicious(source, "a size", text) from None
    allowed = (
        ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub, ast.BinOp, ast.Add,
        ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq,
        ast.NotEq,
    )  # fmt: skip
    for node in ast.walk(tree):
        fine = isinstance(node, allowed)
        if isinstance(node, ast.Call):
            fine = isinstance(node.func, ast.Name)
        elif isinstance(node, ast.Name):
            fine = node.id in _SIZE_WORDS or bool(_SYMBOL.fullmatch(node.id))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            fine = bool(re.fullmatch(r"[a-z]{1,6}\d{1,9}|-?[\d.e+-]{1,40}", node.value))
        if not fine:
            raise _suspicious(source, "a size", text)


def _check_nesting(source: Path, text: Any) -> None:
    """Refuse inputs and outputs nested in anything but tuples, lists and dictionaries: torch would import what is named."""
    for table in _tables(json.loads(text)):
        kind = table.get("type")
        if "__enum__" in table or "default_factory_module" in table or (kind not in _CONTAINERS and "type" in table):
            raise BadInput(
                f"{source}: its inputs or outputs are nested in {str(kind)[:80]!r}",
                hint="export a model that takes and returns tensors, in tuples, lists or dictionaries with text keys",
            )


def _suspicious(source: Path, what: str, text: str) -> BadInput:
    return BadInput(
        f"{source}: names {text[:120]!r} as {what}, which could run code; refused", hint="do not trust this file"
    )


def _training(source: Path, what: str, where: str) -> BadInput:
    return BadInput(
        f"{source}: was exported in training mode: {what} at {where} is at work",
        hint="call model.eval() before torch.export.export",
    )


def layer(node: Json) -> str:
    """Return the module that a node belongs to, as the model's own code names it, else the node's name."""
    stack = str(node.get("metadata", {}).get("nn_module_stack", ""))
    path = stack.split(";")[-1].split(",")
    name = path[1] if len(path) == 3 else ""
    return _PAIRED.sub("", name).strip(".") or f"'{node.get('name') or first_output(node)}'"


def first_output(node: Json) -> str:
    """Return the name of what a node gives first."""
    for table in _tables(node.get("outputs", [])):
        if isinstance(table.get("name"), str):
            return str(table["name"])
    return "?"


def _argument(node: Json, name: str) -> Any:
    """Return a node's argument as a plain value, or None."""
    for entry in node.get("inputs", ()):
        if entry.get("name") == name:
            return next(iter(entry["arg"].values()), None)
    return None


def arguments(node: Json) -> Mapping[str, Any]:
    """Return a node's arguments by name: tensors as their names, other values as they are."""
    found = {}
    for entry in node.get("inputs", ()):
        value = next(iter(entry["arg"].values()), None)
        found[entry.get("name", "")] = value["name"] if isinstance(value, dict) and "name" in value else value
    return found
