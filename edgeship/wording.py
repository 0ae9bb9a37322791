"""What is said of each stage when it has ended, whether it ran or was cached."""

from __future__ import annotations

from edgeship.compilation import Compilation


def imported(checked_against: str, relative_error: float) -> str:
    """Say how the reference was held against its source."""
    return f"same outputs as {checked_against}: error {relative_error:.1e} of their range"


def quantized(operators: int, of: int, weight_share: float) -> str:
    """Say how much of the model holds small numbers."""
    return f"{operators} of {of} operations, {weight_share:.0%} of the weights"


def adapted(rewrites: int, examples: int) -> str:
    """Say how much was rewritten for the target's chip."""
    if not rewrites:
        return "already of the form that the chip takes"
    return f"{rewrites} kind{'s' * (rewrites != 1)} of operation rewritten for the chip, same outputs on {examples} examples"


def verified(metric: str, reference: float, got: float, examples: int) -> str:
    """Say what the metric was before and after."""
    return f"{metric} {reference:.4g} to {got:.4g} on {examples:,} examples"


def compiled(made: Compilation) -> str:
    """Say what the chip runs of it, and what stays on the CPU."""
    chip, cpu = made.chip_operators, sum(made.cpu_operators.values())
    runs = "the chip's part" if chip is None else f"{chip:,} operations on the chip"
    streamed = f", {made.streamed_bytes:,} bytes of weights streamed" if made.streamed_bytes else ""
    return f"{runs}, {cpu:,} on the CPU{streamed}"
