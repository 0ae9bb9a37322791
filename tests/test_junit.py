"""JUnit XML held against what Jenkins' schema (junit-10.xsd of its xunit plugin) and GitLab's reader take."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship.nightly_record import Case, Fault, Finding, NightRecord
from edgeship.report import junit
from tests import sample_nights
from tests.sample_nights import verdict

# Element → the children it may have, the attributes it must have, those it may have. Order is free but in `testcase`.
SCHEMA: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"testsuite"}, set(), {"name", "time", "tests", "failures", "errors"}),
    "testsuite": (
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
    ),
    "testcase": ({"skipped", "error", "failure", "system-out", "system-err"}, {"name"}, {"time", "classname", "group"}),
    "properties": ({"property"}, set(), set()),
    "property": (set(), {"name", "value"}, set()),
    **{name: (set(), set(), {"type", "message"}) for name in ("failure", "error", "skipped")},
    **{name: (set(), set(), set()) for name in ("system-out", "system-err")},
}
TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
HOSTILE = "a\0b\x1b[31m\udce9\ufffe<&>\"']]>\n{{ 7 * 7 }}"


def parsed(night: NightRecord) -> ElementTree.Element:
    """Return a night's XML, held against the schema's rules and what its servers need beyond them."""
    root = ElementTree.fromstring(junit.render(night))
    assert root.tag == "testsuites"
    for element in root.iter():
        children, needed, allowed = SCHEMA[element.tag]
        assert {child.tag for child in element} <= children, element.tag
        assert needed <= set(element.attrib) <= needed | allowed, element.tag
        assert TIME.fullmatch(element.get("time", "0"))
    tests = root.findall("testsuite/testcase")
    names = Counter((test.get("classname"), test.get("name")) for test in tests)
    assert set(names.values()) <= {1}, "GitLab drops all but the first of a name"
    for suite in root.findall("testsuite"):
        assert TIMESTAMP.fullmatch(suite.get("timestamp", ""))
        assert [len(suite.findall(what)) for what in ("properties", "testcase")] == [1, int(suite.get("tests", ""))]
        for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert len(suite.findall(f"testcase/{kind}")) == int(suite.get(name, ""))
    for name in ("tests", "failures", "errors"):
        assert int(root.get(name, "")) == sum(int(suite.get(name, "")) for suite in root.findall("testsuite"))
    for test in tests:
        assert (test.get("classname") or "").count(".") == 1, (
            "Jenkins takes what stands before the last dot as the package"
        )
        assert sum(test.find(kind) is not None for kind in ("failure", "error", "skipped")) <= 1
    return root


def told(root: ElementTree.Element, kind: str) -> dict[str, tuple[str, str]]:
    """Return the tests that came to a kind of end: device and name → its type and its message."""
    found = {}
    for suite in root.findall("testsuite"):
        for test in suite.findall("testcase"):
            if (end := test.find(kind)) is not None:
                found[f"{suite.get('name')} {test.get('name')}"] = (end.get("type", ""), end.get("message", ""))
    return found


def test_a_night_as_servers_read_it() -> None:
    root = parsed(sample_nights.last())

    failures, errors = told(root, "failure"), told(root, "error")
    assert failures["kitchen resnet8 rpi4 int8: latency"][0] == "regression"
    assert re.fullmatch(r"slower by \+\d\.\d %", failures["kitchen resnet8 rpi4 int8: latency"][1])
    assert failures["kitchen resnet8 rpi4 int8: size"] == ("regression", "larger by +3.5 %")
    assert errors == {
        "cellar keywords rpi4 int8: measured": ("device", "cellar: nothing answers on port 22 of 192.168.1.24")
    }
    text = root.find(".//failure")
    assert text is not None and text.text and "figures: " in text.text and "slower than the baseline" in text.text
    names = {
        each.get("name"): each.get("value") for each in root.findall("testsuite[@name='kitchen']/properties/property")
    }
    assert (
        names["target"] == "rpi4"
        and names["suite"] == "drawer"
        and len(names["artifact resnet8 rpi4 int8"] or "") == 64
    )
    hot = root.find("testsuite[@name='attic']/testcase/system-err")
    assert hot is not None and hot.text == "old run 3: attic: throttled in the run"


def test_names_stay_from_night_to_night() -> None:
    nights = list(sample_nights.nights(3, judged=0))
    names = [{(test.get("classname"), test.get("name")) for test in parsed(night).iter("testcase")} for night in nights]
    assert names[0] == names[1]
    assert names[2] < names[0], "the case that was lost has no metrics that night"


def _verdicts() -> Iterator[Any]:
    yield pytest.param(
        verdict("cannot-tell", effect=None, ci95=None, reason="no history"), "skipped", "cannot-tell", id="first"
    )
    yield pytest.param(verdict("slower"), "failure", "regression", id="slower")
    yield pytest.param(
        verdict("slower", metric="latency budget", ci95=None, p=None, effect=0.2, reason="latency 12 ms misses the budget of 10 ms"),
        "failure", "budget", id="budget",
    )  # fmt: skip
    wrong = verdict(
        "slower", metric="golden", ci95=None, p=None, effect=None, reason="its outputs are not this machine's"
    )
    yield pytest.param(wrong, "failure", "wrong-outputs", id="golden")


@pytest.mark.parametrize(("given_verdict", "element", "kind"), list(_verdicts()))
def test_what_each_verdict_becomes(given_verdict: Any, element: str, kind: str) -> None:
    night = sample_nights.last()
    case = night.cases[0]
    finding = Finding(night.id, case, given_verdict, None, None)
    root = parsed(
        dataclasses.replace(
            night, findings=(finding,), cases=(case,), runs=tuple(run for run in night.runs if run.case == case)
        )
    )

    ((_, (found, _)),) = told(root, element).items()
    assert found == kind


def test_what_was_not_run_is_no_error_and_what_ends_a_case_is_one() -> None:
    night = sample_nights.last()
    case = night.cases[0]
    assert told(parsed(dataclasses.replace(night, runs=(), findings=(), cases=(case,))), "skipped") == {
        "kitchen resnet8 rpi4 int8: measured": ("not-run", "nothing was run")
    }
    runs = [run for run in night.runs if run.case == case]
    runs[-1] = dataclasses.replace(runs[-1], bench=None, fault=Fault("timeout", "kitchen: no end", 6, 2))
    root = parsed(dataclasses.replace(night, runs=tuple(runs), cases=(case,)))
    assert told(root, "error") == {"kitchen resnet8 rpi4 int8: measured": ("timeout", "kitchen: no end")}


def test_any_of_several_devices_will_do() -> None:
    night = sample_nights.last()
    measured, other = night.cases[0], dataclasses.replace(night.cases[0], device="shelf")
    runs = tuple(run for run in night.runs if run.case == measured)
    told_so = dataclasses.replace(
        night, cases=(other,), runs=runs, options={"pools": {other.name: ["shelf", "kitchen"]}}
    )
    assert "shelf resnet8 rpi4 int8: measured" not in told(parsed(told_so), "skipped")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text() | st.just(HOSTILE) | st.just("v1.2.3"), min_size=5, max_size=5))
def test_any_text_makes_a_file_that_can_be_read(words: list[str]) -> None:
    case = Case(*words[:4])
    night = sample_nights.last()
    runs = tuple(dataclasses.replace(run, case=case) for run in night.runs[:9])
    lost = dataclasses.replace(runs[0], id="lost", bench=None, fault=Fault("device", words[4] + HOSTILE, 6))
    finding = Finding(night.id, case, verdict("slower", reason=words[4]), None, None)
    parsed(dataclasses.replace(night, suite=words[4], cases=(case,), runs=(*runs, lost), findings=(finding,)))
