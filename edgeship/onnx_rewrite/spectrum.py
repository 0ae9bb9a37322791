"""STFT of a real signal: a convolution with the window's cosines and sines, which takes a frame at every step."""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.onnx_rewrite.draft import Draft, attribute, refusal

OPERATIONS: tuple[str, ...] = ("STFT",)
NOTE = "as a convolution with cosines and sines"


def rewrite(draft: Draft, node: onnx.NodeProto) -> bool:
    """Replace it; the result is [batch, frames, bins, real and imaginary].

    Raises:
        BadInput: a complex signal, open shapes, or a window that is computed anew in every run.
    """
    shape = draft.fixed_shape(node, node.input[0])
    step = draft.fixed_constant(node, 1, "frame step")
    window = draft.fixed_constant(node, 2, "window")
    length = draft.fixed_constant(node, 3, "frame length")
    if len(shape) == 3 and shape[2] != 1:
        raise refusal(node, "a complex signal")
    size = int(length.reshape(-1)[0]) if length is not None else window.size if window is not None else 0
    if step is None or not 0 < size <= shape[1]:
        raise refusal(node, f"frames of {size} samples from a signal of {shape[1]}")
    hop = int(step.reshape(-1)[0])
    bins = size // 2 + 1 if attribute(node, "onesided", 1) else size
    angles = 2 * np.pi * np.outer(np.arange(bins), np.arange(size)) / size
    basis = np.stack([np.cos(angles), -np.sin(angles)]).reshape(2 * bins, 1, size)
    if window is not None:
        basis = basis * np.pad(window, (0, size - window.size))
    kind = draft.dtype(node.input[0]) or np.dtype(np.float32)
    channel = draft.reshape(node.input[0], (shape[0], 1, shape[1]))
    made = draft.add("Conv", channel, draft.const(basis.astype(kind)), strides=[hop], kernel_shape=[size])
    frames = (shape[1] - size) // hop + 1
    parts = draft.reshape(made, (shape[0], 2, bins, frames))
    draft.transpose(parts, (0, 3, 2, 1), output=node.output[0])
    return True
