"""The nightly site as files: links that lead somewhere, every text escaped, nothing loaded, nothing of others overwritten."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from edgeship import history
from edgeship.errors import BadInput
from edgeship.history import CaseNight
from edgeship.night import Night
from edgeship.nightly_record import Case, NightRecord
from edgeship.report import case_charts, expectation, site, site_charts, site_page
from edgeship.report.case_charts import Mark, Panel
from tests import sample_nights
from tests.sample_nights import FAMILIES, Family
from tests.test_build_page import HOSTILE, Page

LINK = re.compile(r'href="([^"]+)"')
IDENTITY = re.compile(r' id="([^"]+)"')


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NightRecord]:
    """Return the folder of a site, and the night in front."""
    place = tmp_path_factory.mktemp("site")
    with history.open(str(place / "history.sqlite")) as kept:
        night = sample_nights.write(kept, 8)
        assert site.write(kept, place / "site", night=night) == place / "site" / "index.html"
    return place / "site", night


def pages(folder: Path) -> dict[str, str]:
    """Return every page of a site by its address."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.html"))}


def check_links(folder: Path) -> None:
    """Every link leads to a file that is there, and to a place in it."""
    every = pages(folder)
    places = {name: IDENTITY.findall(text) for name, text in every.items()}
    for name, text in every.items():
        assert len(set(places[name])) == len(places[name]), f"{name}: an id stands twice"
        for link in LINK.findall(text):
            if link == "data:,":
                continue
            address, _, anchor = html.unescape(link).partition("#")
            leads = str(Path(name).parent / unquote(address)) if address else name
            assert leads in every, f"{name} → {link}"
            assert not anchor or anchor in places[leads], f"{name} → {link}"


def test_the_pages_hold_together(written: tuple[Path, NightRecord]) -> None:
    folder, _ = written
    assert {name for name in pages(folder) if "/" not in name} == {
        "index.html", "keywords-on-attic.html", "keywords-on-cellar.html", "mobilenetv2-on-kitchen.html",
        "mobilenetv2-on-phone.html", "resnet8-on-kitchen.html", f"{virtual()}.html",
    }  # fmt: skip
    check_links(folder)
    for name, text in pages(folder).items():
        page = Page(text)
        assert page.open == [] and page.handlers == [], name
        assert not {"script", "iframe", "img", "object", "embed", "base", "form"} & set(page.elements)
        assert all("//" not in address and not address.startswith("/") for address in page.loaded), (
            "nothing from elsewhere"
        )
    assert [path for path in folder.rglob("*") if path.name.startswith(".")] == []


def virtual() -> str:
    """Return the name of the page of a device whose own name is no file's."""
    return site._page_name("resnet8", "virtual:rpi4", set()).removesuffix(".html")


def test_tonight_comes_first(written: tuple[Path, NightRecord]) -> None:
    folder, night = written
    page = pages(folder)["index.html"]
    order = [page.index(f'id="{name}"') for name in ("verdict", "tonight", "lost", "faults", "cases", "nights")]
    assert order == sorted(order)
    text = Page(page.partition("<body>")[2].partition("</body>")[0]).text
    assert (
        text.index("2 regressions") < text.index("slower resnet8 on kitchen") < text.index("nothing answers on port 22")
    )
    for case in night.cases:
        assert case.model in text and case.device in text
    assert "quarantined" in text and "three faults in a row: unreachable" in text


def test_a_page_has_history_band_change_points_conditions_and_manifests(written: tuple[Path, NightRecord]) -> None:
    folder, night = written
    page = pages(folder)["resnet8-on-kitchen.html"]
    text = Page(page).text
    assert text.index("latency slower by") < text.index("int8 for rpi4") < text.index("float32 for rpi4"), (
        "the worst first"
    )
    for words in (
        "95 % of unchanged nights",
        "the baseline beside it",
        "Reference workload",
        "Raspberry Pi 4 Model B",
        "cpu-thermal",
    ):
        assert words in text, words
    assert page.count('class="band"') >= 1 and page.count('class="runs"') == 2
    for case in (case for case in night.cases if (case.model, case.device) == ("resnet8", "kitchen")):
        new = next(run for run in night.runs if run.case == case and run.role == "new")
        assert new.artifact_sha256 is not None and new.artifact_sha256[:8] in page
    accepted = pages(folder)["mobilenetv2-on-kitchen.html"]
    assert 'class="accepted"' in accepted and "level accepted" in accepted and "the level changed" in accepted.lower()
    assert "no figure" in pages(folder)["keywords-on-cellar.html"]


def test_a_manifest_is_shown_whole(written: tuple[Path, NightRecord]) -> None:
    folder, _ = written
    found = [text for name, text in pages(folder).items() if name.startswith("manifests/")]
    whole = [text.partition('<pre id="manifest">')[2].partition("</pre>")[0] for text in found]
    told = [json.loads(html.unescape(each)) for each in whole]
    family = FAMILIES[0]
    artifact = sample_nights.sha(f"{family.case.name} 1.06")
    assert sample_nights.manifest(family, artifact, grown=True) in told


def test_written_again_it_is_the_same_and_leaves_other_files_alone(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        night = sample_nights.write(kept, 3, FAMILIES[:1], judged=0)
        site.write(kept, folder, night=night)
        before = pages(folder)
        (folder / "CNAME").write_text("example.org")
        manifest = next((folder / "manifests").iterdir())
        at = manifest.stat().st_mtime_ns
        site.write(kept, folder, night=night)
    assert pages(folder) == before and (folder / "CNAME").read_text() == "example.org"
    assert manifest.stat().st_mtime_ns == at, "a manifest's page is named by its content"


def test_places_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="file: is a file"):
        site.check(tmp_path / "file")
    with pytest.raises(BadInput, match="below: cannot be written: Not a directory"):
        site.check(tmp_path / "file" / "below")
    (tmp_path / "index.html").write_text("<h1>my own</h1>")
    with pytest.raises(BadInput, match=r"index\.html: is there already and was not made by edgeship"):
        site.check(tmp_path)


def test_hostile_names(tmp_path: Path) -> None:
    names = (HOSTILE, "../../escape", "a/b", "a b", "A-B", "caf\udce9", "\N{SNOWMAN}", "index", "")
    families = tuple(Family(Case(name, name, name, name), 3.0, 0.01) for name in names)
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        night = sample_nights.write(kept, 2, families, judged=0)
        site.write(kept, tmp_path / "site", night=night)
    every = pages(tmp_path / "site")
    assert len([name for name in every if "/" not in name]) == len(names) + 1
    check_links(tmp_path / "site")
    for name, text in every.items():
        assert "<script>alert" not in text, name
        assert Page(text).open == []
    assert "&lt;script&gt;" in every["index.html"]


def test_a_first_night_and_a_night_without_anything(tmp_path: Path) -> None:
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        night = NightRecord("n0", "drawer", "2026-11-20T01:00:00+00:00", None, (FAMILIES[0].case,))
        kept.begin(night)
        site.write(kept, tmp_path / "site", night=night)
        check_links(tmp_path / "site")
        assert "1 case not measured" in pages(tmp_path / "site")["index.html"]
        first = sample_nights.write(kept, 1, FAMILIES[:2])
        site.write(kept, tmp_path / "site", night=first)
    check_links(tmp_path / "site")


def test_long_histories_have_a_chart_of_all_nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, nights in ((site_charts, "CHARTED", 8), (site_charts, "_OVERVIEW", 5), (site_page, "RECENT", 4)):
        monkeypatch.setattr(module, name, nights)
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        night = sample_nights.write(kept, 12, FAMILIES[-2:-1], judged=0)
        site.write(kept, tmp_path / "site", night=night)
    page = pages(tmp_path / "site")[f"{virtual()}.html"]
    assert "the last 8 nights" in page and "all 12 nights" in page and "8 older nights" in page
    check_links(tmp_path / "site")


def nights_of(levels_ms: list[float], spread: float) -> list[CaseNight]:
    """Return nights of four runs around these levels."""
    source = np.random.default_rng(5)
    return [
        CaseNight(
            f"n{number}", "drawer", f"2026-10-{number % 28 + 1:02}T01:00:00+00:00",
            Night(tuple((level * (1 + spread * source.standard_normal(4))).tolist())), "a", None, 4, 0, 0, "same", 0.0,
        )
        for number, level in enumerate(levels_ms)
    ]  # fmt: skip


def test_change_points_are_where_the_level_changed_and_not_at_one_far_night() -> None:
    far = nights_of([31.0] * 23 + [33.0], 0.008)
    moved = nights_of([84.0] * 11 + [74.0] * 13, 0.008)
    assert expectation.course(far, counted=False).changes == ()
    (change,) = expectation.course(moved, counted=False).changes
    assert change.place == 11 and change.effect == pytest.approx(-0.12, abs=0.01)
    assert expectation.course(nights_of([4.33] * 3, 0.0), counted=True).changes == ()


def test_bands_hold_unchanged_nights() -> None:
    nights = nights_of([74.8] * 60, 0.008)
    bands = expectation.course(nights, counted=False).bands
    inside = [
        band[0] <= np.median(night.figures.new) <= band[1] for night, band in zip(nights, bands, strict=True) if band
    ]
    assert len(inside) == 60 and 0.85 <= np.mean(inside) <= 1


@pytest.mark.parametrize("values", [[None, None], [3.0], [3.0, 3.0, 3.0], [0.0, 0.0], [None, 5.0, None], [-1.0, 1e9]])
def test_any_history_can_be_drawn(values: list[float | None]) -> None:
    drawn = case_charts.draw(Panel("name", [Mark(value, "a", "words") for value in values]))
    assert ("nan" not in drawn and "inf" not in drawn) and bool(drawn) == any(value is not None for value in values)
    assert "nan" not in case_charts.spark(values, "")


def test_words_in_a_chart_are_escaped() -> None:
    drawn = case_charts.draw(Panel("<name>", [Mark(1.0, "a", "<b>")], labels=[(0, "<i>")]))
    assert "<name>" not in drawn and "<b>" not in drawn and "<i>" not in drawn


def test_a_night_that_is_not_in_the_history_yet(tmp_path: Path) -> None:
    """The site is of what the history holds; the night in front may be of another suite."""
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        night = sample_nights.write(kept, 3, FAMILIES[:1], judged=0)
        other = dataclasses.replace(night, suite="other", cases=(), runs=(), findings=(), health=())
        site.write(kept, tmp_path / "site", night=other)
    assert "Not part of" in pages(tmp_path / "site")["resnet8-on-kitchen.html"]
