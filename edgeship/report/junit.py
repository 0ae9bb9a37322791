"""A night as JUnit XML, as Jenkins, GitLab and the actions of GitHub read it.

A device is a test suite; a case is a test `… measured`, and each of its metrics one more. A regression or a broken budget is a
failure, a case that could not be measured an error, a verdict that cannot be told is skipped: it neither passed nor failed.
Names hold no figures, so that a server knows a test again the next night; GitLab takes a test by its class and name, and
Jenkins splits the class at its last dot. Within https://github.com/jenkinsci/xunit-plugin (junit-10.xsd), 2026-11-22.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.etree import ElementTree

from edgeship import __version__
from edgeship.nightly_record import Case, NightRecord, Run
from edgeship.report.night_summary import Comparison, Lost, summarize

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(night: NightRecord) -> bytes:
    """Return the XML file's bytes."""
    summary = summarize(night)
    root = ElementTree.Element("testsuites", name=_clean(f"edgeship nightly {night.suite}"))
    by_device: dict[str, dict[Case, _Told]] = {}
    for case in [*night.cases, *(run.case for run in night.runs)]:
        by_device.setdefault(case.device, {}).setdefault(case, _Told())
    for run in night.runs:
        by_device[run.case.device][run.case].runs.append(run)
    for one in summary.comparisons:
        by_device.setdefault(one.case.device, {}).setdefault(one.case, _Told()).comparisons.append(one)
    lost = {one.case: one for one in summary.lost}
    for device, cases in by_device.items():
        root.append(_device(night, device, cases, lost))
    _count(root, root.findall("testsuite"))
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


@dataclass
class _Told:
    """What there is of one case."""

    runs: list[Run] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)


def _device(
    night: NightRecord, device: str, cases: Mapping[Case, _Told], lost: Mapping[Case, Lost]
) -> ElementTree.Element:
    name = _clean(device)
    suite = ElementTree.Element("testsuite", name=name, hostname=name, timestamp=_timestamp(night.began))
    suite.append(_properties(_told(night, [run for told in cases.values() for run in told.runs])))
    for case, told in cases.items():
        suite.append(_measured(night.suite, case, told.runs, lost.get(case)))
        for one in sorted(told.comparisons, key=lambda one: one.metric):
            suite.append(_compared(night.suite, one))
    tests = suite.findall("testcase")
    for kind, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(count, str(sum(test.find(kind) is not None for test in tests)))
    suite.set("tests", str(len(tests)))
    suite.set("time", f"{sum(float(test.get('time', '0')) for test in tests):.3f}")
    return suite


def _count(root: ElementTree.Element, suites: list[ElementTree.Element]) -> None:
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}")


def _measured(suite: str, case: Case, runs: list[Run], lost: Lost | None) -> ElementTree.Element:
    """Return the test that says whether the case was measured at all."""
    test = _test(suite, case, "measured", sum(map(_seconds, runs)))
    if lost is not None and lost.fault is not None:
        _said(test, "error", lost.fault.cause, lost.fault.message, lost.words)
    elif lost is not None:
        _said(test, "skipped", "not-run", lost.words, lost.words)
    faults = [f"{run.role} run {run.ordinal}: {run.fault.message}" for run in runs if run.fault is not None]
    if faults:
        ElementTree.SubElement(test, "system-err").text = _clean("\n".join(faults))
    return test


def _compared(suite: str, one: Comparison) -> ElementTree.Element:
    test = _test(suite, one.case, one.metric, 0.0)
    verdict = one.verdict
    text = "\n".join(_sentences(one))
    if verdict.alarm:
        _said(test, "failure", one.kind, f"{one.word} by {one.change}" if one.change else one.word, text)
    elif verdict.decision == "cannot-tell":
        _said(test, "skipped", "cannot-tell", verdict.reason, text)
    else:
        ElementTree.SubElement(test, "system-out").text = _clean(text)
    return test


def _sentences(one: Comparison) -> Iterator[str]:
    yield f"{one.case.name}: {one.metric} {one.word}"
    yield one.verdict.reason
    if one.figure:
        yield f"figures: {one.figure}{' (simulated)' if one.simulated else ''}"


def _test(suite: str, case: Case, what: str, seconds: float) -> ElementTree.Element:
    """Return a test; the dots of names would cut the class where Jenkins splits it."""
    name = f"{case.model} {case.target} {case.recipe}: {what}"
    class_name = ".".join(part.replace(".", "_") for part in (suite, case.device))
    return ElementTree.Element("testcase", classname=_clean(class_name), name=_clean(name), time=f"{seconds:.3f}")


def _said(test: ElementTree.Element, element: str, kind: str, message: str, text: str) -> None:
    made = ElementTree.SubElement(test, element, type=kind, message=_clean(" ".join(message.split())))
    made.text = _clean(text)


def _properties(told: Iterable[tuple[str, str]]) -> ElementTree.Element:
    made = ElementTree.Element("properties")
    for name, value in told:
        ElementTree.SubElement(made, "property", name=_clean(name), value=_clean(value))
    return made


def _told(night: NightRecord, runs: list[Run]) -> Iterator[tuple[str, str]]:
    """Yield what a device's suite is told with: the night, and the device as its last record has it."""
    yield "night", night.id
    yield "suite", night.suite
    yield "began", night.began
    yield "ended", night.ended or "not finished"
    yield "edgeship", __version__
    bench = next((run.bench for run in reversed(runs) if run.bench is not None), None)
    if bench is not None:
        yield "target", bench.target
        yield "transport", bench.transport
        yield "runtime", " ".join(filter(None, (bench.runtime.name, bench.runtime.version, bench.runtime.delegate)))
        yield "simulated", str(bench.simulated).lower()
    for sha, case in {
        run.artifact_sha256: run.case for run in runs if run.artifact_sha256 and run.role == "new"
    }.items():
        yield f"artifact {case.model} {case.target} {case.recipe}", sha
    for event in night.health:
        if runs and event.device == runs[0].case.device:
            yield f"health {event.at}", f"{event.event}: {event.reason}"


def _seconds(run: Run) -> float:
    """Return how long a run's own inferences took."""
    bench = run.bench
    if bench is None:
        return 0.0
    return (sum(bench.samples_ms or ()) + sum(bench.warmup_ms)) / 1e3


def _timestamp(at: str) -> str:
    """Return the time in UTC as the schema's servers read it: to the second, without a zone."""
    moment = datetime.fromisoformat(at)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _clean(text: str) -> str:
    """Return text without what XML cannot hold: control characters and halves of characters."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
