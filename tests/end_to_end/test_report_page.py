"""The build page in a real browser: nothing asked of any network, no error, no sideways scrolling on a phone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship.report.app_program import program
from edgeship.report.build_page import render
from edgeship.run import Port
from tests.sample_record import bare, record
from tests.tiny_tflite import separable

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
LONG = "model/" + "a_very_long_layer_name_that_no_browser_can_break_/" * 6


def program_path(*names: str) -> str:
    """Return an installed program; skip without it, unless the whole lab is required."""
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        text = f"none of {', '.join(names)} is installed: apt-get install chromium chromium-driver"
        if os.environ.get("EDGESHIP_REQUIRE_LAB") == "1":
            pytest.fail(text)
        pytest.skip(text)
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = program_path("chromium", "chromium-browser", "google-chrome"), program_path("chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


def opened(browser: Any, page: Path, *, width: int, dark: bool = False) -> None:
    """Open a page at a width, as for somebody who wants nothing to move: a click waits for no scrolling then."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())


def shown(browser: Any, html: str, folder: Path, *, width: int, dark: bool = False) -> None:
    """Open a page at a width, from a file."""
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    opened(browser, page, width=width, dark=dark)


def requests(browser: Any) -> list[str]:
    """Return the addresses that the browser asked for since the page was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [entry["params"]["request"]["url"] for entry in messages if entry["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith("data:")]


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("whole", [True, False], ids=["full", "bare"])
def test_page_opens_clean_and_fits(browser: Any, tmp_path: Path, width: int, whole: bool) -> None:
    shown(browser, render(record() if whole else bare()), tmp_path, width=width)

    assert browser.get_log("browser") == []
    assert requests(browser) == [(tmp_path / "report.html").as_uri()]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width, "with all details open"
    (verdict,) = browser.find_elements("css selector", "#verdict h1")
    assert verdict.text == ("Passed" if whole else "Built") and verdict.is_displayed()
    assert verdict.location["y"] + verdict.size["height"] < 900, "on the first screen"


def test_long_names_do_not_push_the_page_wide(browser: Any, tmp_path: Path) -> None:
    made = record(
        model=LONG, source=LONG, warnings=(LONG,), notes=(LONG,), inputs=(Port(LONG, (1, 2), "int8", 0.1, 0),)
    )
    shown(browser, render(made), tmp_path, width=400)

    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400


def test_charts_are_drawn(browser: Any, tmp_path: Path) -> None:
    made = record()
    shown(browser, render(made), tmp_path, width=400)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map(s => [s.getBoundingClientRect().width, s.getBoundingClientRect().height])"
    )

    assert len(boxes) == 3 + len(made.histograms)
    assert all(width > 100 and height > 50 for width, height in boxes)


def test_dark_and_light_are_both_readable(browser: Any, tmp_path: Path) -> None:
    read = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    for dark in (False, True):
        shown(browser, render(record()), tmp_path, width=400, dark=dark)
        ink, page = ([int(part) for part in text[4:-1].split(",")] for text in browser.execute_script(read))
        assert (sum(ink) > sum(page)) == dark
        assert abs(sum(ink) - sum(page)) > 450


def test_the_program_for_apps_runs(tmp_path: Path) -> None:
    model = separable()
    model.write(tmp_path / "model.tflite")
    how = {"scale": [0.5], "offset": [0.25], "range": None}
    inputs = (Port("image", (-1, 16, 16, 3), "float32", None, None, how),)
    outputs = (Port("softmax", (1, 10), "float32", None, None),)
    labels = tuple(f"class {index}" for index in range(10))
    (tmp_path / "app.py").write_text(program("model.tflite", inputs, outputs, labels))
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith("class ")
