"""The nightly site: tonight's verdicts first, then a page for each model on each device, and the manifests behind the points.

Plain files that load nothing: no network, no script. The pages are written anew each time, each whole or not at all, the first
page last; a manifest's page is named by its content, so that one that is there is left as it is.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from edgeship import __version__, digest
from edgeship.errors import BadInput
from edgeship.history import CaseNight, History
from edgeship.measurement import BenchRecord
from edgeship.nightly_record import Case, NightRecord
from edgeship.report import case_charts, figures, site_page
from edgeship.report.night_summary import COLOUR, Comparison, Summary, decision_word, summarize, value
from edgeship.report.page import environment
from edgeship.report.story import Story, middle, moment
from edgeship.store import no_space_named

INDEX, MANIFESTS = "index.html", "manifests"
_SPARKS, _NIGHTS = 30, 30
_OURS = b'<meta name="generator" content="edgeship '
_MOST_SLUG = 60
_AT_ONCE = 100  # manifests: each may be large


def check(folder: Path) -> None:
    """Refuse a folder that the site cannot be written to, before a night's work.

    Raises:
        BadInput: it is a file, or its first page is not one of edgeship's.
    """
    index = folder / INDEX
    try:
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"{folder}: is a file; --html names a folder")
        if index.exists() and _OURS not in index.read_bytes()[:2000]:
            raise BadInput(
                f"{index}: is there already and was not made by edgeship", hint="choose another folder with --html"
            )
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{folder}: cannot be written: {error.strerror}", hint="choose another folder with --html"
        ) from None


def write(history: History, folder: Path, *, night: NightRecord) -> Path:
    """Write the site of all that a history holds, with one night in front; return its first page.

    Raises:
        BadInput: see `check`.
        StageFailed: no space is left.
    """
    check(folder)
    summary, style = summarize(night), _style()
    benches = {run.case: run.bench for run in night.runs if run.bench is not None and run.role == "new"}
    lost = {one.case: one for one in summary.lost}
    by_case: dict[Case, list[Comparison]] = {}
    for one in summary.comparisons:
        by_case.setdefault(one.case, []).append(one)
    pages: dict[Case, str] = {}
    cards = []
    with no_space_named(folder):
        for name, stories in _pages(history, benches):
            manifests = _write_manifests(history, folder, stories)
            judged = [one for story in stories for one in by_case.get(story.case, ())]
            gone = [lost[story.case] for story in stories if story.case in lost]
            _write(folder / name, site_page.render(stories, night, judged, gone, manifests=manifests, style=style))
            pages |= {story.case: name for story in stories}
            cards.append(_card(name, stories))
        nights = _nights(history)
        _write(folder / INDEX, _index(night, summary, pages, cards, nights, style, history.where))
    return folder / INDEX


def _pages(history: History, benches: Mapping[Case, BenchRecord]) -> Iterator[tuple[str, list[Story]]]:
    """Yield the name of each page with the cases on it: one model on one device."""
    order = sorted(history.cases(), key=lambda case: (case.model, case.device, case.target, case.recipe))
    taken: set[str] = set()
    for (model, device), cases in groupby(order, key=lambda case: (case.model, case.device)):
        told = [story for case in cases if (story := _story(history, case, benches.get(case))).nights]
        if told:
            name = _page_name(model, device, taken)
            taken.add(name.lower())
            yield name, told


def _story(history: History, case: Case, bench: BenchRecord | None) -> Story:
    nights = dict(history.by_metric(case))
    verdicts = {one.night: one.verdict for one in history.findings(case, "latency")}
    return Story(case, nights.pop("latency", ()), nights, history.points(case), verdicts, bench)


def _page_name(model: str, device: str, taken: set[str]) -> str:
    """Return a file's name that says what it is of; one that had to be changed to be a name carries a digest."""
    said = f"{model}-on-{device}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", said).strip("-.")[:_MOST_SLUG]
    if name != said or f"{name}.html".lower() in {*taken, INDEX}:
        name = f"{name}-{digest.of_bytes(said.encode(errors='surrogateescape'))[:8]}"
    return f"{name}.html"


def _write_manifests(history: History, folder: Path, stories: Sequence[Story]) -> dict[str, str]:
    """Write the pages of manifests that are not there; return artifact → address. One artifact has one manifest: its first."""
    found: dict[str, str] = {}
    missing: dict[str, tuple[str, Case]] = {}
    for story in stories:
        for point in story.points:
            artifact, sha = point.artifact_sha256, point.manifest_sha256
            if artifact and sha and artifact not in found:
                found[artifact] = f"{MANIFESTS}/{sha[:24]}.html"
                if not (folder / found[artifact]).exists():
                    missing[sha] = (found[artifact], story.case)
    if missing:
        (folder / MANIFESTS).mkdir(exist_ok=True)
    names = list(missing)
    for start in range(0, len(names), _AT_ONCE):
        for sha, manifest in history.manifests(names[start : start + _AT_ONCE]).items():
            address, case = missing[sha]
            _write(folder / address, _manifest(case, manifest))
    return found


def _manifest(case: Case, manifest: Mapping[str, Any]) -> str:
    quality = manifest.get("quality")
    facts = [
        ("artifact", manifest.get("sha256")), ("built", manifest.get("made")), ("by edgeship", manifest.get("edgeship")),
        ("size", figures.size(manifest["size_bytes"]) if isinstance(manifest.get("size_bytes"), int) else None),
        ("quality", f"{quality.get('metric', '')} {quality.get('got')}".strip() if isinstance(quality, Mapping) else None),
        ("source", manifest.get("source")),
    ]  # fmt: skip
    return environment(None).get_template("manifest.html.j2").render(
        edgeship=__version__, name=f"{case.model} {case.recipe} for {case.target}",
        facts=[(label, text) for label, text in facts if text], whole=json.dumps(manifest, indent=1, ensure_ascii=False, default=str),
    )  # fmt: skip


def _card(name: str, stories: Sequence[Story]) -> dict[str, Any]:
    cases = []
    for story in stories:
        last = story.nights[-_SPARKS:]
        values = [middle(night.figures.new) for night in last]
        told = next((each for each in reversed(values) if each is not None), None)
        decision = last[-1].decision
        colour = COLOUR.get(decision or "", "")
        cases.append(
            {
                "recipe": story.case.recipe, "value": "" if told is None else value("latency", told), "colour": colour,
                "drawn": Markup(case_charts.spark(values, colour if colour != "doubt" else "") or "<span></span>"),
                "word": _last_word(last[-1]),
            }
        )  # fmt: skip
    return {"href": name, "model": stories[0].case.model, "device": stories[0].case.device, "cases": cases}


def _last_word(night: CaseNight) -> str:
    """Return what stands beside a case's line: only what is not as it should be."""
    if night.decision in ("slower", "faster"):
        return decision_word("latency", night.decision)
    return "" if night.figures.new else "no figure"


def _nights(history: History) -> list[dict[str, Any]]:
    """Return the last nights of all suites, newest first, each with what its latencies came to."""
    found: dict[str, tuple[CaseNight, Counter[str]]] = {}
    for one in history.histories(limit=_NIGHTS):
        for night in one.nights:
            _, counts = found.setdefault(night.night, (night, Counter()))
            counts.update({"cases": 1, "faults": night.faults, night.decision or "none": 1})
    newest = sorted(found.values(), key=lambda entry: entry[0].began, reverse=True)[:_NIGHTS]
    return [
        {
            "at": f"{moment(night.began):%Y-%m-%d %H:%M}", "suite": night.suite, "cases": counts["cases"],
            "counts": [(counts[decision], COLOUR[decision]) for decision in ("slower", "faster", "cannot-tell")]
            + [(counts["faults"], "doubt")],
        }
        for night, counts in newest
    ]  # fmt: skip


def _index(
    night: NightRecord, summary: Summary, pages: Mapping[Case, str], cards: Sequence[Mapping[str, Any]],
    nights: Sequence[Mapping[str, Any]], style: Markup, where: str,
) -> str:  # fmt: skip
    rows = [_compared(one, pages) for one in summary.comparisons]
    loud = [one.verdict.decision in ("slower", "faster") for one in summary.comparisons]
    lost = [
        {
            "cause": one.fault.cause if one.fault else "not run",
            "href": pages.get(one.case),
            "words": one.words,
            **_names(one.case),
        }
        for one in summary.lost
    ]
    began = moment(night.began)
    ended = f" to {moment(night.ended):%H:%M}" if night.ended else ", not finished"
    return environment(None).get_template("nightly.html.j2").render(
        edgeship=__version__, style=style, night=night, summary=summary, when=f"{began:%d %B %Y %H:%M}{ended} UTC",
        told=[row for row, is_loud in zip(rows, loud, strict=True) if is_loud],
        quiet=[row for row, is_loud in zip(rows, loud, strict=True) if not is_loud],
        lost=lost, overcome=[(case.name, fault.message) for case, fault in summary.overcome], cards=cards, sparks=_SPARKS,
        nights=nights, where=where,
    )  # fmt: skip


def _compared(one: Comparison, pages: Mapping[Case, str]) -> dict[str, Any]:
    verdict, drawn = one.verdict, ""
    if verdict.effect is not None and verdict.ci95 is not None and one.tolerance is not None:
        drawn = case_charts.interval(verdict.effect, verdict.ci95, one.tolerance, one.colour)
    return {
        **_names(one.case), "href": pages.get(one.case), "colour": one.colour, "word": one.word, "metric": one.metric,
        "simulated": one.simulated, "change": one.change, "drawn": Markup(drawn), "figure": one.figure,
        "why": verdict.reason if verdict.decision != "same" else "",
    }  # fmt: skip


def _names(case: Case) -> dict[str, str]:
    return {"model": case.model, "device": case.device, "recipe": case.recipe}


def _style() -> Markup:
    """Return the style sheet that each page carries, without the space that only its editor needs."""
    folder = resources.files("edgeship.report") / "templates"
    text = "".join((folder / name).read_text(encoding="utf-8") for name in ("build.css", "site.css"))
    return Markup(re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)))


def _write(path: Path, text: str) -> None:
    """Write a page beside its place and rename it. It is not flushed to the disk: it can be made again."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
