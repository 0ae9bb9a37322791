"""The pages with devices' results in a real browser: no error, nothing asked of any network, no sideways scrolling."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edgeship.measurement import Memory
from edgeship.report import bench_page, build_page
from tests import sample_bench, sample_record
from tests.end_to_end import test_report_page
from tests.end_to_end.test_report_page import LONG, requests, shown

browser = test_report_page.browser
PAGES = {
    "one": lambda: bench_page.render(sample_bench.record()),
    "several": lambda: bench_page.render(*sample_bench.every()),
    "ship": lambda: build_page.render(sample_record.record(), benches=sample_bench.every()),
}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("name", PAGES)
def test_page_opens_clean_and_fits(browser: Any, tmp_path: Path, name: str, width: int, dark: bool) -> None:
    shown(browser, PAGES[name](), tmp_path, width=width, dark=dark)

    assert browser.get_log("browser") == []
    assert requests(browser) == [(tmp_path / "report.html").as_uri()]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    (verdict,) = browser.find_elements("css selector", "#verdict h1")
    assert verdict.is_displayed() and verdict.location["y"] + verdict.size["height"] < 900, "on the first screen"
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.device svg')].map(s => [s.getBoundingClientRect().width, s.getBoundingClientRect().height])"
    )
    assert len(boxes) == (2 if name == "one" else 9), "a phone that keeps aggregates has no histogram"
    assert all(wide > 250 and high > 100 for wide, high in boxes)


def test_long_names_do_not_push_the_page_wide(browser: Any, tmp_path: Path) -> None:
    made = sample_bench.record(device=LONG, target=LONG, artifact=LONG, doubts=(LONG,), reasons=(LONG,), valid=False)
    snapshot = sample_bench.snapshot(1.0, temperature_c={LONG: 40.0}, governor=(LONG,))
    around = dataclasses.replace(made.conditions, board=sample_bench.board(model=LONG), before=snapshot)
    long = dataclasses.replace(made, conditions=around, memory=Memory(1.0, None, LONG))
    for html in (bench_page.render(long, long), build_page.render(sample_record.record(), benches=(long,))):
        shown(browser, html, tmp_path, width=400)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
