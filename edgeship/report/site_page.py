"""One page of the nightly site: the history of one model on one device, a section for each of its cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgeship import __version__
from edgeship.gate import Verdict
from edgeship.history.figures import CaseNight, Point
from edgeship.measurement import BenchRecord
from edgeship.nightly_record import NightRecord
from edgeship.report import conditions, expectation, site_charts
from edgeship.report.night_summary import COLOUR, Comparison, Lost, change, change_interval, decision_word, value
from edgeship.report.page import environment
from edgeship.report.story import Story, middle, moment

RECENT = 40  # nights in the open table
_LABELS = {"memory": "Peak memory", "size": "Size", "quality": "Quality"}


def render(
    stories: Sequence[Story], night: NightRecord, judged: Sequence[Comparison], lost: Sequence[Lost], *,
    manifests: Mapping[str, str], style: Markup,
) -> str:  # fmt: skip
    """Return the page of one model on one device.

    Args:
        stories: its cases.
        judged: tonight's verdicts on them, and `lost` those that brought no figure.
        manifests: sha256 of an artifact → address of the page of its manifest, relative to this page.
        style: the style sheet, which the page carries itself.
    """
    case = stories[0].case
    alarms = [one for one in judged if one.verdict.alarm]
    alarmed = {one.case for one in alarms}
    stories = sorted(stories, key=lambda story: story.case not in alarmed)
    kind = "missed" if alarms else "doubtful" if lost else "passed" if judged else "built"
    words = [
        f"{f'{one.metric} {one.word} by {one.change}' if one.kind == 'regression' else one.why} ({one.case.recipe})"
        for one in alarms
    ]
    words += [f"{one.case.recipe} was not measured: {one.words}" for one in lost]
    told = "; ".join(words) or (f"No regression in {night.id}." if judged else f"Not part of {night.id}.")
    return environment(None).get_template("case.html.j2").render(
        edgeship=__version__, model=case.model, device=case.device, suite=night.suite, night=night.id, style=style,
        verdict={"kind": kind, "sentence": told},
        cases=[_section(story, f"case-{place}", night, lost, manifests) for place, story in enumerate(stories, start=1)],
    )  # fmt: skip


def _section(
    story: Story, anchor: str, night: NightRecord, lost: Sequence[Lost], manifests: Mapping[str, str]
) -> dict[str, Any]:
    counted = story.bench.conditions.counted if story.bench else story.simulated
    course = expectation.course(story.nights, counted=counted)
    by_night: dict[str, list[Point]] = defaultdict(list)
    for point in story.points:
        by_night[point.night].append(point)
    rows = [
        _row(place, each, by_night[each.night], story.verdicts.get(each.night), anchor, manifests)
        for place, each in enumerate(story.nights)
    ]
    changes = [
        {
            "anchor": rows[each.place]["anchor"], "night": rows[each.place]["at"],
            "words": f"{change('latency', each.effect)}, from {value('latency', each.before)} to {value('latency', each.after)}",
        }
        for each in reversed(course.changes)
    ]  # fmt: skip
    drawn, still = site_charts.panels(story, rows, by_night)
    return {
        "anchor": anchor, "recipe": story.case.recipe, "target": story.case.target, "simulated": story.simulated,
        "sentence": _sentence(story), "troubles": [one.words for one in lost if one.case == story.case],
        "figures": list(_figures(story, by_night)),
        "charts": list(site_charts.charts(story, course, rows)), "panels": drawn, "still": still,
        "changes": changes, "recent": rows[: -RECENT - 1 : -1], "older": rows[-RECENT - 1 :: -1] if len(rows) > RECENT else [],
        "conditions": _conditions(story.bench),
    }  # fmt: skip


def _sentence(story: Story) -> str:
    first, last = (moment(story.nights[place].began) for place in (0, -1))
    runs = sum(night.runs for night in story.nights)
    over = f"{len(story.nights)} night{'s' * (len(story.nights) != 1)} from {first:%d %B %Y} to {last:%d %B %Y}, {runs:,} runs"
    faults, invalid = sum(night.faults for night in story.nights), sum(night.invalid for night in story.nights)
    return f"{over}, {faults} with a fault, {invalid} not valid. A point is the median of a night's runs; it leads to its row."


def _row(
    place: int, night: CaseNight, points: Sequence[Point], verdict: Verdict | None, anchor: str, manifests: Mapping[str, str]
) -> dict[str, Any]:  # fmt: skip
    own = [point for point in points if point.role == "new"]
    middle_ms = middle(night.figures.new)
    valid = f"{len(night.figures.new)}" + (f" + {len(night.figures.old)}" if night.figures.old else "")
    troubles = sorted({point.fault for point in points if point.fault})
    troubles += ["not valid"] if night.invalid else []
    word = decision_word("latency", night.decision) if night.decision else ""
    hottest = max((point.hottest_c for point in points if point.hottest_c is not None), default=None)
    spread = middle([point.cv for point in own if point.cv is not None])
    moved = change("latency", night.effect) if night.effect is not None else ""
    at = moment(night.began)
    shown = "" if middle_ms is None else value("latency", middle_ms)
    return {
        "anchor": f"{anchor}-night-{place}", "at": f"{at:%Y-%m-%d %H:%M}", "day": at, "value": shown, "change": moved,
        "interval": change_interval("latency", verdict.ci95) if verdict and verdict.ci95 else "",
        "word": word, "colour": COLOUR.get(night.decision or "", ""), "troubles": troubles, "runs": valid,
        "spread": "" if spread is None else f"{100 * spread:.2g} %", "hottest": "" if hottest is None else f"{hottest:.0f} °C",
        "manifests": [(manifests.get(sha), sha[:8]) for sha in dict.fromkeys((night.new_sha256, night.old_sha256)) if sha],
        "words": " · ".join(filter(None, (f"{at:%Y-%m-%d}", shown or "no figure", moved, word, *troubles))),
    }  # fmt: skip


def _figures(story: Story, by_night: Mapping[str, Sequence[Point]]) -> Iterator[dict[str, str]]:
    """Yield the newest figures: label, value, what is said under it."""
    newest = next((night for night in reversed(story.nights) if night.figures.new), None)
    if newest is None:
        return
    verdict = story.verdicts.get(newest.night)
    at = f"{moment(newest.began):%d %B}"
    yield {
        "label": f"p50, {at}",
        "value": value("latency", middle(newest.figures.new) or 0.0),
        "under": f"{len(newest.figures.new)} runs",
    }
    if newest.figures.old:
        yield {
            "label": "Baseline beside it",
            "value": value("latency", middle(newest.figures.old) or 0.0),
            "under": f"{len(newest.figures.old)} runs, alternated",
        }
    if verdict is not None and verdict.effect is not None and verdict.ci95 is not None:
        yield {
            "label": "Change",
            "value": change("latency", verdict.effect),
            "under": f"95 % interval {change_interval('latency', verdict.ci95)}",
        }
    if verdict is not None:
        yield {
            "label": "Runs spread",
            "value": f"{100 * verdict.spread:.2g} %",
            "under": f"{100 * verdict.shared:.0f} % of its variance from night to night",
        }
    for metric, nights in story.others.items():
        found = next(
            ((night, told) for night in reversed(nights) if (told := middle(night.figures.new)) is not None), None
        )
        if found is not None:
            moved = change(metric, found[0].effect) if found[0].effect else ""
            yield {"label": _LABELS[metric], "value": value(metric, found[1]), "under": moved}
    hottest = [point.hottest_c for point in by_night[newest.night] if point.hottest_c is not None]
    if hottest:
        yield {"label": "Hottest sensor", "value": f"{max(hottest):.0f} °C", "under": ""}


def _conditions(bench: BenchRecord | None) -> dict[str, Any] | None:
    if bench is None:
        return None
    run = bench.runtime
    title = f"{run.name}{f' {run.version}' if run.version else ''} over {bench.transport}, {bench.made}".removesuffix(
        ", "
    )
    return {
        "title": title,
        "rows": conditions.rows(bench.conditions),
        "board": conditions.board_facts(bench.conditions.board),
    }
