"""Forms that the Edge TPU's compiler maps, in the place of others with the same meaning: one rewrite of the graph a file."""

from __future__ import annotations

from typing import Protocol

from edgeship.edgetpu_form import (
    arithmetic,
    clamp,
    dense,
    dense_scale,
    depth_to_space,
    fixed_shapes,
    fused_activation,
    gelu,
    grouped_convolution,
    hard_swish,
    leaky_relu,
    nearest_resize,
    pack,
    pad,
    quantized_edges,
    reduction,
    reshape,
    slices,
    transpose,
)
from edgeship.graph_editor import GraphEditor


class Form(Protocol):
    """One rewrite, satisfied by a module.

    To add one: 1. write `edgetpu_form/<name>.py` with the three names below: it looks for operations that the compiler
    does not map, or the quantizer leaves float, and puts others with the same meaning in their place; what it is not
    sure of it leaves alone; 2. add its line to `FORMS`; 3. add a small model with it to `tests/test_edgetpu_form.py`,
    which holds the outputs before and after against each other.
    """

    SUMMARY: str  # what stands in the place of what, for the report
    EXACT: bool  # False: an approximation, whose error the summary states

    def rewrite(self, editor: GraphEditor) -> int:
        """Rewrite all that there is in the open graph, and return how many places that were; 0: nothing changed."""


FORMS: dict[str, Form] = {
    "arithmetic": arithmetic,
    "clamp": clamp,
    "dense": dense,
    "dense_scale": dense_scale,
    "depth_to_space": depth_to_space,
    "fixed_shapes": fixed_shapes,
    "fused_activation": fused_activation,
    "gelu": gelu,
    "grouped_convolution": grouped_convolution,
    "hard_swish": hard_swish,
    "leaky_relu": leaky_relu,
    "nearest_resize": nearest_resize,
    "pack": pack,
    "pad": pad,
    "quantized_edges": quantized_edges,
    "reduction": reduction,
    "reshape": reshape,
    "slices": slices,
    "transpose": transpose,
}
FIRST = "fixed_shapes"  # the others ask for shapes, above all whether there is one row or several
