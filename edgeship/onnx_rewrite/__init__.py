"""ONNX to ONNX before conversion: what converters get wrong or cannot do becomes operations that they do rightly."""

from __future__ import annotations

from collections import Counter, deque
from typing import Protocol

import onnx

from edgeship.onnx_rewrite.draft import STANDARD_DOMAINS, Draft
from edgeship.onnx_rewrite.folding import folded

MOST_NODES = 200_000  # a graph that grows past this was unrolled without measure


class Rewrite(Protocol):
    """One kind of operation that is replaced, satisfied by a module.

    To add one: 1. write `onnx_rewrite/<operation>.py` with the three names below; 2. add its line to `REWRITES`;
    3. hold it against onnxruntime in `tests/test_onnx_rewrite_<operation>.py`, over all attributes that it takes.
    The walk goes once from inputs to outputs, and over replacements too: a rewrite may use what another one replaces,
    and must leave alone (return False) what it would only replace by the same.
    """

    OPERATIONS: tuple[str, ...]  # ONNX names, of the standard domain; of several takers the first in `REWRITES` decides
    NOTE: str  # what became of it, in words that complete "LSTM (2 layers): …"

    def rewrite(self, draft: Draft, node: onnx.NodeProto) -> bool:
        """Add to the draft the nodes that make all of the node's outputs, and return True; or return False: it stays.

        Raises:
            BadInput: neither a converter nor this module can do it; the message names operation and layer.
        """


# The plugs need the names above, so they are imported below them.
from edgeship.onnx_rewrite import (  # noqa: E402
    activation,
    conditional,
    dense,
    einsum,
    gelu,
    grouped_convolution,
    gru,
    identity,
    log_sum,
    loop,
    lstm,
    normalization,
    reshaping,
    resize,
    rnn,
    scaling,
    scan,
    selection,
    single,
    spectrum,
)

REWRITES: dict[str, Rewrite] = {
    "activation": activation,
    "conditional": conditional,
    "dense": dense,
    "einsum": einsum,
    "gelu": gelu,
    "grouped_convolution": grouped_convolution,
    "gru": gru,
    "identity": identity,
    "log_sum": log_sum,
    "loop": loop,
    "lstm": lstm,
    "normalization": normalization,
    "reshaping": reshaping,
    "resize": resize,
    "rnn": rnn,
    "scaling": scaling,
    "scan": scan,
    "selection": selection,
    "single": single,
    "spectrum": spectrum,
}


def rewritten(model: onnx.ModelProto, *, strict: bool = False) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return a model of the same meaning that the converter does rightly, and what was changed, in words.

    Args:
        model: its input shapes are fixed; weights are inside. It is left as it is.
        strict: also refuse nodes that do not fit the shapes of their inputs.

    Raises:
        BadInput: an operation that cannot be converted; the message names operation and layer, not the file.
    """
    by_operation: dict[str, list[Rewrite]] = {}
    for rewrite in REWRITES.values():
        for operation in rewrite.OPERATIONS:
            by_operation.setdefault(operation, []).append(rewrite)
    draft = Draft(model, strict=strict)
    changed: Counter[tuple[str, str]] = Counter()
    outputs = {value.name for value in model.graph.output}
    pending = deque((node, True) for node in model.graph.node)
    while pending and len(draft.kept) < MOST_NODES:
        waiting, original = pending.popleft()
        node = draft.current(waiting)
        if folded(draft, node, outputs):
            continue
        known = by_operation.get(node.op_type, []) if node.domain in STANDARD_DOMAINS else []
        taken = next((rewrite for rewrite in known if rewrite.rewrite(draft, node)), None)
        if taken is None:
            draft.keep(node)
            continue
        made = draft.take()
        if original and taken.NOTE and [fresh.op_type for fresh in made] != [node.op_type]:
            changed[node.op_type, taken.NOTE] += 1
        pending.extendleft((fresh, False) for fresh in reversed(made))
    return draft.finished(model), tuple(_note(kind, note, count) for (kind, note), count in sorted(changed.items()))


def _note(operation: str, note: str, count: int) -> str:
    return f"{operation} ({count} layer{'s' if count > 1 else ''}): {note}"
