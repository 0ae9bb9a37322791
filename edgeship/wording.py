"""What is said of each stage when it has ended, whether it ran or was cached."""

from __future__ import annotations


def imported(checked_against: str, relative_error: float) -> str:
    """Say how the reference was held against its source."""
    return f"same outputs as {checked_against}: error {relative_error:.1e} of their range"


def quantized(operators: int, of: int, weight_share: float) -> str:
    """Say how much of the model holds small numbers."""
    return f"{operators} of {of} operations, {weight_share:.0%} of the weights"


def verified(metric: str, reference: float, got: float, examples: int) -> str:
    """Say what the metric was before and after."""
    return f"{metric} {reference:.4g} to {got:.4g} on {examples:,} examples"
