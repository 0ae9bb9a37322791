"""A night as Markdown for a pull request: the verdict first, then what changed, the rest folded away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from edgeship import __version__
from edgeship.nightly_record import NightRecord
from edgeship.report.night_summary import Comparison, Summary, summarize

MARKER = "<!-- edgeship nightly -->"  # by which a job finds the comment that it wrote before
MOST_BYTES = 60_000  # GitHub refuses a comment of more than 65536 characters
_SIGNS = {"missed": "❌", "doubtful": "⚠️", "passed": "✅"}
_MARKS = {"slower": "❌", "cannot-tell": "❔", "faster": "🟢", "same": "✅"}
_LOUD = ("slower", "faster")
_MOST_OPEN = 20
_SPECIAL = re.compile(r"[\\`*_\[\]~$]")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LINKING = re.compile(r"(?<=[@#])(?=\w)|(?<=:)(?=//)|(?<=www)(?=\.)")  # a mention, an issue, an address
_NO_SPACE = "\N{ZERO WIDTH SPACE}"


def render(night: NightRecord) -> str:
    """Return the text; it stays below what a comment may hold, and says what it leaves out."""
    summary = summarize(night)
    for most in (1_000_000, 100, 20, 5, 0):
        text = "\n".join(_parts(night, summary, most)) + "\n"
        if len(text.encode()) <= MOST_BYTES:
            return text
    return text[: MOST_BYTES // 4]


def _parts(night: NightRecord, summary: Summary, most: int) -> Iterator[str]:
    yield MARKER
    yield f"## {_SIGNS[summary.kind]} {_plain(night.suite)}: {_plain(summary.title)}"
    yield f"\n{_plain(summary.sentence)}"
    told, quiet = (
        [one for one in summary.comparisons if (one.verdict.decision in _LOUD) is loud] for loud in (True, False)
    )
    if told:
        yield ""
        yield from _table(told[: min(most, _MOST_OPEN)], reasons=True)
        further = told[_MOST_OPEN:most]
        yield from _folded(f"{len(further)} more changes", _table(further, reasons=True), bool(further))
    if summary.lost:
        yield f"\n**Not measured** ({len(summary.lost)})\n"
        for lost in summary.lost[:most]:
            yield f"- ⚠️ {_code(lost.case.name)}: {_plain(_short(lost.words))}"
    yield from _folded(f"No change told ({len(quiet)})", _table(quiet[:most], reasons=False), bool(quiet))
    faults = [f"- {_code(case.name)}: {_plain(_short(fault.message))}" for case, fault in summary.overcome[:most]]
    yield from _folded(f"Faults that were overcome ({len(summary.overcome)})", faults, bool(faults))
    health = [f"- {_code(event.device)} {event.event}: {_plain(_short(event.reason))}" for event in night.health[:most]]
    yield from _folded(f"Devices ({len(night.health)})", health, bool(health))
    left = max(0, len(told) - most) + max(0, len(quiet) - most) + max(0, len(summary.lost) - most)
    more = f" · {left} lines left out" if left else ""
    yield f"\n<sub>night {_code(night.id)} · edgeship {__version__}{more}</sub>"


def _table(comparisons: Sequence[Comparison], *, reasons: bool) -> Iterator[str]:
    if not comparisons:
        return
    yield "| | model | device | metric | change | 95 % interval | figure |"
    yield "|---|---|---|---|---:|---|---|"
    for one in comparisons:
        case = one.case
        cells = (
            f"{_MARKS[one.verdict.decision]} {one.word}", _code(f"{case.model} {case.recipe}"), _code(case.device),
            one.metric, one.change or "-", one.interval or "-", f"{one.figure}{' simulated' if one.simulated else ''}",
        )  # fmt: skip
        bars_kept = (cell.replace("|", "\\|") for cell in cells)  # in code too, a bar ends a table's cell
        yield f"| {' | '.join(bars_kept)} |"
    if reasons:
        yield ""
        for one in comparisons:
            if one.verdict.decision == "slower":
                yield f"- {_code(one.case.name)} {_plain(one.why)}"


def _folded(title: str, lines: Iterable[str], shown: bool) -> Iterator[str]:
    if shown:
        yield f"\n<details><summary>{title}</summary>\n"
        yield from lines
        yield "\n</details>"


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:299]}…"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is: on one line, nothing in it a link, a mention or HTML."""
    escaped = _SPECIAL.sub(lambda found: f"\\{found.group()}", _one_line(text))
    return "".join(_HTML.get(each, each) for each in _LINKING.sub(_NO_SPACE, escaped))


def _code(text: str) -> str:
    """Return a name as code, in which nobody is mentioned."""
    shown = _one_line(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    edge = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{edge}{shown}{edge}{fence}"


def _one_line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
