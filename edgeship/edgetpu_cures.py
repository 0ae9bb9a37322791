"""What to change so that more of a model runs on the Edge TPU: the change that frees most first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeship.flatbuffer import Subgraph
from edgeship.run_edgetpu import Placement
from edgeship.target import Accelerator

_MIB = 2**20
_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
_CONSEQUENCES = frozenset({"behind", "other_part"})  # rules of operations that would map, were it not for another one
_SHOWN = 4


@dataclass(frozen=True)
class Room:
    """The parameters on the Edge TPU against the chip's memory: bytes, whether they fit (None: not known), and the chip."""

    parameter_bytes: int
    fits: bool | None
    chip: Accelerator | None


def suggestions(main: Subgraph, placed: Sequence[Placement], room: Room, more_parts: int) -> tuple[str, ...]:
    """Return what to change, in sentences.

    Args:
        main: the graph.
        placed: where each of its operations runs.
        room: on the chip.
        more_parts: how many more custom operations the compiler would make if it may make several.
    """
    return (
        *_interface(main, placed),
        *_cures(main, placed),
        *_cut(main, placed),
        *_parts(more_parts),
        *_memory(room),
        *_doubts(placed),
    )


def of_file(cure: str, reason: str) -> str:
    """Return what to change where the compiler would refuse the whole file."""
    return f"{_sentence(cure)}: {reason}"


def _interface(main: Subgraph, placed: Sequence[Placement]) -> Iterator[str]:
    names = [
        main.tensors[index].name for index in (*main.inputs, *main.outputs) if main.tensors[index].dtype == "float32"
    ]
    converted = [entry for entry in placed if _converts_at_an_end(main, entry)]
    if converted and names:
        yield f"Use int8 in and out (recipe int8): {_listed(names)} is float, and {_counted(converted)} stays on the CPU for it"


def _converts_at_an_end(main: Subgraph, entry: Placement) -> bool:
    operator = main.operators[entry.index]
    ends = {index for index in (*main.inputs, *main.outputs) if main.tensors[index].dtype == "float32"}
    return entry.name in _CONVERSIONS and entry.on == "cpu" and bool(ends & {*operator.inputs, *operator.outputs})


def _cures(main: Subgraph, placed: Sequence[Placement]) -> Iterator[str]:
    """Yield a sentence a cure: which operations it is for, and how many wait behind them."""
    groups: dict[str, list[Placement]] = {}
    for entry in placed:
        if (
            entry.on == "cpu"
            and entry.rule not in _CONSEQUENCES
            and entry.cure
            and not _converts_at_an_end(main, entry)
        ):
            groups.setdefault(entry.cure, []).append(entry)
    waiting = Counter(entry.behind for entry in placed if entry.behind is not None)
    freed = {cure: sum(waiting[entry.index] for entry in entries) for cure, entries in groups.items()}
    for cure in sorted(groups, key=lambda cure: -freed[cure] - len(groups[cure])):
        behind = f", and {freed[cure]} more behind {'it' if len(groups[cure]) == 1 else 'them'}" if freed[cure] else ""
        yield f"{_sentence(cure)} ({_counted(groups[cure])}{behind}, on the CPU)"


def _cut(main: Subgraph, placed: Sequence[Placement]) -> Iterator[str]:
    """Yield where the model can be cut so that the first part maps whole, if what the CPU gets from the Edge TPU is its end."""
    made: set[int] = set()  # by the Edge TPU
    behind: set[int] = set()  # by the CPU, of what the Edge TPU made
    tail, border = [], dict[int, None]()
    for entry in placed:
        operator = main.operators[entry.index]
        if entry.on == "edgetpu":
            made.update(operator.outputs)
        elif (made | behind) & set(operator.inputs):
            tail.append(entry)
            behind.update(operator.outputs)
            border.update(dict.fromkeys(index for index in operator.inputs if index in made))
    if len(tail) < 2 or all(entry.name in _CONVERSIONS for entry in tail):
        return
    names = _listed([_short(main.tensors[index].name) for index in border])
    yield f"Or split the head off: cut at {names}, and what comes before maps whole; the {len(tail)} operations behind run on the CPU either way"


def _short(name: str) -> str:
    """Return the first of the names that a converter has run together."""
    return f"'{name.partition(';')[0]}'"


def _parts(more: int) -> Iterator[str]:
    if more > 0:
        yield (
            f"The compiler's option -a would put {more} more part{'s' if more > 1 else ''} of the graph on the Edge TPU; data then "
            "crosses to the CPU and back between parts, which was seen ten times slower: measure it"
        )


def _memory(room: Room) -> Iterator[str]:
    if room.chip is None or room.fits:
        return
    size, chip_mib = room.parameter_bytes / _MIB, room.chip.on_chip_mib
    if room.fits is False:
        count = math.ceil(size / chip_mib)
        yield (
            f"The parameters ({size:.1f} MiB) exceed the chip's memory ({chip_mib:g} MiB): the rest streams at every inference. Use a "
            f"smaller model, or cut it for {count} Edge TPUs"
        )
        return
    yield (
        f"Whether all parameters ({size:.1f} MiB) are cached, only the compiler's log says: activations share the chip's memory "
        f"({chip_mib:g} MiB). A smaller input leaves more room"
    )


def _doubts(placed: Sequence[Placement]) -> Iterator[str]:
    crowded = [entry for entry in placed if entry.on == "edgetpu" and entry.rule == "crowded"]
    if crowded:
        yield (
            f"Use a smaller input, or fewer channels at the start: {crowded[0].reason}; the compiler was seen to stop early or to give "
            f"up on such models, from operation {crowded[0].index} on"
        )
    groups: dict[tuple[str, str], list[Placement]] = {}
    for entry in placed:
        if entry.on == "edgetpu" and entry.confidence == "unknown" and entry.rule != "crowded":
            groups.setdefault((entry.name, entry.rule), []).append(entry)
    for group in groups.values():
        cure = (
            f". {_sentence(group[0].cure)}" if group[0].cure else "; what stands behind would stay on the CPU with it"
        )
        yield f"Not sure to map: {_counted(group)}, {group[0].reason}{cure}"


def _counted(entries: Sequence[Placement]) -> str:
    counts = Counter(entry.name for entry in entries).most_common()
    first = next(entry for entry in entries)
    if len(entries) == 1:
        return f"{first.name}, operation {first.index}"
    return f"{_listed([f'{count} {name}' for name, count in counts])}, the first operation {first.index}"


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:_SHOWN], *([f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
