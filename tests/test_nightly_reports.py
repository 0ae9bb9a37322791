"""The files of a night when one of them cannot be written."""

from __future__ import annotations

from pathlib import Path

from edgeship import history, nightly_reports
from edgeship.errors import BadInput
from edgeship.nightly_reports import Files
from tests import sample_nights


def test_what_can_be_written_is_written_whatever_cannot(tmp_path: Path) -> None:
    """A file that stands where a folder should, and a folder where a file should, after a night that began with neither."""
    files = Files(tmp_path / "gone" / "junit.xml", tmp_path / "summary.md", tmp_path / "site")
    nightly_reports.check(files)
    (tmp_path / "gone").touch()
    with history.open(str(tmp_path / "nights.sqlite")) as kept:
        night = sample_nights.write(kept, 2)
        (told,) = nightly_reports.write(files, kept, night)
        assert isinstance(told, BadInput) and told.message.startswith(f"{files.junit}: cannot be written: ")
        assert (tmp_path / "summary.md").exists() and (tmp_path / "site" / "index.html").exists()

        (tmp_path / "site" / "index.html").unlink()
        (tmp_path / "site" / "index.html").mkdir()
        told, site = nightly_reports.write(files, kept, night)
        assert isinstance(site, BadInput) and site.message.startswith(f"{tmp_path / 'site'}")
        assert nightly_reports.write(Files(markdown=tmp_path / "again.md"), kept, night) == ()
