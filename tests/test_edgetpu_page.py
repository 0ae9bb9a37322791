"""The forecast on a build's page and in its manifest: every operation's fate, escaped, and nothing where there is none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edgeship import forecast, manifest
from edgeship.artifact import Advice
from edgeship.report import edgetpu_figures
from edgeship.report.build_page import render
from edgeship.run import BuildRecord
from edgeship.run_edgetpu import Forecast
from tests.sample_record import record
from tests.test_build_page import Page
from tests.tiny_edgetpu import EightBit

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def found(tmp_path: Path) -> Forecast:
    model = EightBit().source().conv(3).chain("LEAKY_RELU").conv().chain("RELU")
    return forecast.forecast(model.read(tmp_path))


def made(found: Forecast | None) -> BuildRecord:
    return dataclasses.replace(record(), forecast=found)


def test_the_page_tells_what_maps_and_what_to_change(found: Forecast) -> None:
    page = Page(render(made(found)))
    words = " ".join(page.words)
    assert "On the Edge TPU" in words and "1 of 4" in words
    assert "Replace LEAKY_RELU" in words
    assert "comes after operation 1 (LEAKY_RELU), which stays on the CPU" in words
    assert page.loaded == ["data:,"] and page.open == []


def test_what_to_change_stands_once(found: Forecast) -> None:
    text = found.suggestions[0]
    told = dataclasses.replace(made(found), advice=(Advice("note", text),), notes=(text, "another"))
    html = render(told)
    assert html.count("Replace LEAKY_RELU") == 1 and "another" in html
    assert "Replace LEAKY_RELU" in render(dataclasses.replace(told, forecast=None))


def test_without_an_edge_tpu_the_page_says_nothing_of_one() -> None:
    assert "Edge TPU" not in " ".join(Page(render(made(None))).words)


def test_names_from_the_file_are_text(found: Forecast) -> None:
    first = dataclasses.replace(found.operators[1], name=HOSTILE, reason=HOSTILE, source=f'"{HOSTILE}')
    hostile = dataclasses.replace(found, operators=(first,), suggestions=(HOSTILE,), refused=HOSTILE)
    html = render(made(hostile))
    assert HOSTILE not in html
    Page(html)


def test_the_manifest_holds_it_whole(found: Forecast) -> None:
    read = json.loads(manifest.as_bytes(manifest.manifest(made(found))))
    assert read["forecast"] == json.loads(json.dumps(dataclasses.asdict(found)))


def test_rows_are_the_cpus_first_causes_before_what_waits(found: Forecast) -> None:
    rows = edgetpu_figures.rows(found.operators)
    assert [(row.name, row.where) for row in rows] == [
        ("LEAKY_RELU", "CPU"),
        ("CONV_2D", "CPU"),
        ("RELU", "CPU"),
        ("CONV_2D", "Edge TPU"),
    ]
    assert rows[-1].why == ""
    assert sum(row.count for row in rows) == len(found.operators)


@pytest.mark.parametrize(
    ("fits", "said"), [(True, "cached on the chip"), (False, "streamed at every inference"), (None, "not known")]
)
def test_memory_in_words(fits: bool | None, said: str, found: Forecast) -> None:
    assert said in edgetpu_figures.memory(dataclasses.replace(found, fits_on_chip=fits))
