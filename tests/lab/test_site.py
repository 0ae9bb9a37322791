"""The nightly site of a history in PostgreSQL: the same pages as of one in SQLite."""

from __future__ import annotations

from pathlib import Path

from edgeship import history
from edgeship.report import site
from tests import sample_nights
from tests.test_site import check_links, pages


def test_the_same_site_from_either_database(postgresql: str, tmp_path: Path) -> None:
    written = {}
    for name, url in (("postgresql", postgresql), ("sqlite", str(tmp_path / "history.sqlite"))):
        with history.open(url) as kept:
            night = sample_nights.write(kept, 4, sample_nights.FAMILIES[:3], judged=0)
            site.write(kept, tmp_path / name, night=night)
            check_links(tmp_path / name)
            written[name] = {
                page: text.replace(kept.where, "the history") for page, text in pages(tmp_path / name).items()
            }
    assert written["postgresql"] == written["sqlite"]
