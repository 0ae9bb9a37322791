"""Einsum of one or two values: transposes, sums and one product of matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute, refusal

OPERATIONS: tuple[str, ...] = ("Einsum",)
NOTE = "as a product of matrices"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Write out an equation; letters are axes.

    Raises:
        BadInput: three values or more, an axis named twice in one value, or open shapes.
    """
    equation = attribute(node, "equation").replace(" ", "")
    shapes = [draft.fixed_shape(node, name) for name in node.input]
    terms, result = _letters(node, equation, shapes)
    lengths: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, length in zip(term, shape, strict=True):
            lengths[letter] = max(length, lengths.get(letter, 1))
    if any(len(set(term)) != len(term) for term in terms) or len(terms) > 2:
        raise refusal(node, f"equation '{equation}': more than two values, or one axis twice in a value")
    if any(
        lengths[letter] != length
        for t, s in zip(terms, shapes, strict=True)
        for letter, length in zip(t, s, strict=True)
    ):
        raise refusal(node, f"equation '{equation}': axes of one letter have different lengths")
    if len(terms) == 1:
        made = _arranged(draft, node.input[0], terms[0], result, lengths)
    else:
        made = _product(draft, node, terms, result, lengths)
    draft.add("Identity", made, output=node.output[0])
    return True


def _letters(node: onnx.NodeProto, equation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """Return each value's axes as letters, and the result's; an ellipsis becomes letters of its own."""
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise refusal(node, f"equation '{equation}' for {len(shapes)} values")
    spare = [chr(number) for number in range(0x3B1, 0x3C9)]
    widest = 0
    for place, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        if "..." in term:
            count = len(shape) - len(term) + 3
            widest = max(widest, count)
            terms[place] = term.replace("...", "".join(spare[len(spare) - count :]))
    hidden = "".join(spare[len(spare) - widest :])
    if not arrow:
        every = "".join(terms)
        result = hidden + "".join(sorted(c for c in set(every) if every.count(c) == 1 and c not in hidden))
    return terms, result.replace("...", hidden)


def _arranged(draft: Draft, value: str, term: str, kept: str, lengths: Mapping[str, int]) -> str:
    """Add the sum over axes that are not kept, and bring the others into this order."""
    gone = [place for place, letter in enumerate(term) if letter not in kept]
    if gone:
        term = "".join(letter for letter in term if letter in kept)
        value = draft.reshape(draft.reduce("ReduceSum", value, gone), [lengths[letter] for letter in term])
    order = [term.index(letter) for letter in kept]
    return value if order == sorted(order) else draft.transpose(value, order)


def _product(draft: Draft, node: onnx.NodeProto, terms: Sequence[str], result: str, lengths: Mapping[str, int]) -> str:
    """Add the product as [batch, rows, sum] · [batch, sum, columns]."""
    first, second = terms
    batch = "".join(letter for letter in result if letter in first and letter in second)
    rows = "".join(letter for letter in result if letter in first and letter not in second)
    columns = "".join(letter for letter in result if letter in second and letter not in first)
    total = "".join(letter for letter in first if letter in second and letter not in result)

    def size(letters: str) -> int:
        return math.prod(lengths[letter] for letter in letters)

    outer = [size(batch)] if batch else []
    left = _arranged(draft, node.input[0], first, batch + rows + total, lengths)
    left = draft.reshape(left, [*outer, size(rows), size(total)])
    right = _arranged(draft, node.input[1], second, batch + total + columns, lengths)
    right = draft.reshape(right, [*outer, size(total), size(columns)])
    made = batch + rows + columns
    product = draft.reshape(draft.add("MatMul", left, right), [lengths[letter] for letter in made])
    return _arranged(draft, product, made, result, lengths)
