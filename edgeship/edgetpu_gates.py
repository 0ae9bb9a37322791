"""A target's gates held against what the compiler made, or, without it, against the forecast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeship.compilation import Compilation, GateVerdict
from edgeship.target import Gates


def of_compiled(gates: Gates | None, made: Compilation) -> tuple[GateVerdict, ...]:
    """Return the verdict on each gate; a figure that the compiler did not print passes nothing."""
    found = {"streamed_bytes": made.streamed_bytes, "cpu_operators": sum(made.cpu_operators.values())}
    return tuple(
        GateVerdict(name, limit, found[name], _within(found[name], limit), "compiler") for name, limit in _limits(gates)
    )


def of_forecast(
    gates: Gates | None, *, cpu_operators: Mapping[str, int], fits_on_chip: bool | None
) -> tuple[GateVerdict, ...]:
    """Return what is to be expected of each gate. How many bytes would be streamed is not forecast, only whether any are.

    Where the forecast does not know whether the weights fit, the gate is let pass.
    """
    verdicts = []
    for name, limit in _limits(gates):
        if name == "cpu_operators":
            count = sum(cpu_operators.values())
            verdicts.append(GateVerdict(name, limit, count, count <= limit, "forecast"))
        else:
            verdicts.append(GateVerdict(name, limit, None, fits_on_chip is not False, "forecast"))
    return tuple(verdicts)


def in_words(verdict: GateVerdict, cpu_operators: Mapping[str, int], target: str) -> str:
    """Say what broke a gate, and by what."""
    allowed = f"{target} allows {verdict.limit:,}"
    if verdict.gate == "cpu_operators":
        names = ", ".join(f"{count} {name}" for name, count in sorted(cpu_operators.items(), key=lambda item: -item[1]))
        count = verdict.got or 0
        stay = "stay" if verdict.seen_by == "compiler" else "are forecast to stay"
        return f"{count} operation{'s' * (count != 1)} {stay} on the CPU, {allowed}: {names}"
    if verdict.seen_by == "forecast":
        return f"the weights are forecast not to fit into the chip's memory, and to be streamed at every inference; {allowed} bytes"
    told = "an unknown number of" if verdict.got is None else f"{verdict.got:,}"
    return f"{told} bytes of weights are streamed at every inference, {allowed}: fewer or smaller layers, or more chips (segments)"


def _limits(gates: Gates | None) -> Iterator[tuple[str, int]]:
    limits = {} if gates is None else {"streamed_bytes": gates.streamed_bytes, "cpu_operators": gates.cpu_operators}
    yield from ((name, limit) for name, limit in limits.items() if limit is not None)


def _within(got: int | None, limit: int) -> bool:
    return got is not None and got <= limit
