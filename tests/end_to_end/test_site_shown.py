"""The nightly site in a real browser: charts draw, links work, nothing in the console, nothing asked of any network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship import history
from edgeship.nightly_record import Case
from edgeship.report import site
from tests import sample_nights
from tests.end_to_end import test_report_page
from tests.end_to_end.test_report_page import opened, requests
from tests.sample_nights import Family

browser = test_report_page.browser
LONG = "a_very_long_name_that_no_browser_can_break_" * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a site of real verdicts."""
    place = tmp_path_factory.mktemp("site")
    families = (*sample_nights.FAMILIES, Family(Case(LONG, LONG, LONG, LONG), 3.0, 0.01))
    with history.open(str(place / "history.sqlite")) as kept:
        night = sample_nights.write(kept, 12, families)
        site.write(kept, place / "site", night=night)
    return place / "site"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_every_page_opens_clean_and_fits(browser: Any, folder: Path, width: int, dark: bool) -> None:
    every = [*folder.glob("*.html"), *list((folder / "manifests").iterdir())[:2]]
    assert len(every) == 10
    for page in every:
        opened(browser, page, width=width, dark=dark)
        assert browser.get_log("browser") == []
        assert requests(browser) == [page.as_uri()]
        browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, page.name
        if page.parent == folder:
            (verdict,) = browser.find_elements("css selector", "#verdict h1")
            assert verdict.is_displayed() and verdict.location["y"] < 900, "on the first screen"
    (ground, ink) = browser.execute_script(
        "const s = getComputedStyle(document.body); return [getComputedStyle(document.documentElement).colorScheme, s.color]"
    )
    assert ground == "light dark" and ink


@pytest.mark.parametrize("width", [360, 1200])
def test_charts_draw(browser: Any, folder: Path, width: int) -> None:
    opened(browser, folder / "resnet8-on-kitchen.html", width=width)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.area svg')].map(s => { const b = s.getBoundingClientRect(); return [b.width, b.height] })"
    )
    assert len(boxes) >= 6 and all(wide > 0.6 * min(width, 480) and high > 90 for wide, high in boxes)
    (lines, bands, dots, ticks) = browser.execute_script(
        """const first = document.querySelector('.area');
        const long = [...first.querySelectorAll('path.new')].map(p => p.getTotalLength());
        const band = first.querySelector('path.band');
        return [long, getComputedStyle(band).fill, first.querySelectorAll('path.dot').length,
                [...first.querySelectorAll('.y')].map(t => t.getBoundingClientRect()).map(b => [b.left, b.top])]"""
    )
    assert lines[0] > 500 and bands not in ("none", "") and dots == 12
    assert len(ticks) >= 2 and all(left >= 0 for left, _ in ticks), "the figures at the ticks are on the page"
    overlap = browser.execute_script(
        """const boxes = [...document.querySelector('.plot').querySelectorAll('.x')].map(t => t.getBoundingClientRect())
            .filter(b => b.width > 0);
        return boxes.slice(1).filter((b, n) => b.left < boxes[n].right).length"""
    )
    assert overlap == 0, "dates do not run into one another"


def test_links_lead_from_tonight_to_the_manifest(browser: Any, folder: Path) -> None:
    opened(browser, folder / "index.html", width=1200)
    first = browser.find_element("css selector", "#tonight .rows a")
    assert first.text == "resnet8 on kitchen"
    first.click()
    assert browser.current_url == (folder / "resnet8-on-kitchen.html").as_uri()
    anchor = browser.execute_script(
        """const link = [...document.querySelectorAll('.area a')].at(11), box = link.querySelector('path').getBoundingClientRect();
        window.scrollTo(0, box.top - 200);
        const after = link.querySelector('path').getBoundingClientRect();
        const hit = document.elementFromPoint(after.left + after.width / 2, after.top + after.height / 2).closest('a');
        hit.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true, view: window}));
        return link.getAttribute('href')"""
    )
    assert browser.current_url.endswith(anchor)
    row = browser.find_element("css selector", "tr:target")
    assert row.is_displayed() and "slower" in row.text
    row.find_element("css selector", "td:last-child a").click()
    assert "/manifests/" in browser.current_url
    assert '"size_bytes": 99480' in browser.find_element("id", "manifest").text
    assert browser.get_log("browser") == []


def test_every_link_works(browser: Any, folder: Path) -> None:
    opened(browser, folder / "index.html", width=1200)
    links = browser.execute_script(
        "return [...new Set([...document.querySelectorAll('a')].map(a => a.href.split('#')[0]))]"
    )
    assert len(links) == 8
    for link in links:
        browser.get(link)
        assert browser.find_elements("id", "verdict"), link
        back = browser.execute_script("return [...document.querySelectorAll('.crumb a')].map(a => a.href)")
        assert not back or back == [(folder / "index.html").as_uri()]
    assert browser.get_log("browser") == []
