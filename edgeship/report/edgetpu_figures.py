"""A forecast for the Edge TPU in rows and words, the same on the terminal and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.run_edgetpu import Confidence, Forecast, Placement, weakest

_CONSEQUENCES = frozenset({"behind", "other_part"})


@dataclass(frozen=True)
class Row:
    """Operations of one name that share a fate; `why` is empty where nothing needs saying."""

    name: str
    count: int
    where: str
    confidence: Confidence
    why: str
    source: str


def rows(operators: Sequence[Placement]) -> list[Row]:
    """Return a row a kind of operation and fate: the CPU's first, what waits behind others after its causes."""
    groups: dict[tuple[str, ...], list[Placement]] = {}
    for entry in operators:
        fate = entry.confidence if entry.on == "edgetpu" else f"{entry.rule} {entry.behind}"
        groups.setdefault((entry.on, entry.name, fate), []).append(entry)
    ordered = sorted(groups.values(), key=lambda group: (group[0].on, group[0].rule in _CONSEQUENCES, group[0].index))
    return [_row(group) for group in ordered]


def _row(group: Sequence[Placement]) -> Row:
    first, sure = group[0], weakest(*(entry.confidence for entry in group))
    on_chip = first.on == "edgetpu"
    reasons = list(dict.fromkeys(entry.reason for entry in group if not on_chip or entry.rule))
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    where = "Edge TPU" if on_chip else "CPU"
    return Row(first.name, len(group), where, sure, f"{reasons[0]}{more}" if reasons else "", first.source)


def parts(found: Forecast) -> str:
    """Say how many custom operations there will be, and how many more there could be."""
    more = found.possible_subgraphs - found.subgraphs
    count = f"{found.subgraphs} part{'s' * (found.subgraphs != 1)}"
    return f"{count} ({more} more with the compiler's -a)" if more > 0 else count


def memory(found: Forecast) -> str:
    """Say whether the parameters stay on the chip."""
    if found.fits_on_chip is None:
        return "not known whether all are cached on the chip"
    return "cached on the chip" if found.fits_on_chip else "more than the chip holds: streamed at every inference"
