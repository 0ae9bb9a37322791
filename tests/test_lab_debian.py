"""What is read of this machine's apt: the mirror it uses, and its way to the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.errors import BadInput, MissingTool
from edgeship.lab import debian

NEW_FORM = """\
# the archive
Types: deb
URIs: https://mirror.example.org/debian/
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


@pytest.mark.parametrize(
    ("sources", "mirror"),
    [
        (NEW_FORM, "https://mirror.example.org/debian"),
        ("deb http://mirror.example.org/debian bookworm main\n", "http://mirror.example.org/debian"),
        ("deb [arch=amd64 signed-by=/k] http://a.example.org/debian bookworm main", "http://a.example.org/debian"),
        ("deb http://a.example.org/debian-security bookworm-security main", None),
        ("# deb http://a.example.org/debian bookworm main", None),
        ("deb-src http://a.example.org/debian bookworm main", None),
        ("URIs: https://a.example.org/node_20.x", None),
        ("URIs: https://a.example.org/node_20.x http://b.example.org/debian", "http://b.example.org/debian"),
        ("", None),
    ],
)
def test_a_mirror_is_found_in_either_form(sources: str, mirror: str | None) -> None:
    assert debian.mirror_in(sources) == mirror


def test_only_a_debian_has_a_debian_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "os-release").write_text("NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\n")
    (tmp_path / "sources.list").write_text("deb http://mirror.example.org/debian bookworm main\n")
    monkeypatch.setattr(debian, "_OS_RELEASE", tmp_path / "os-release")
    monkeypatch.setattr(debian, "_SOURCES", (tmp_path / "sources.list", tmp_path / "sources.list.d"))
    with pytest.raises(BadInput) as caught:
        debian.host_mirror()
    assert caught.value.hint is not None and "--mirror" in caught.value.hint
    (tmp_path / "os-release").write_text('ID="debian"\n')
    assert debian.host_mirror() == "http://mirror.example.org/debian"


def test_without_debians_keys_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "KEYRINGS", (tmp_path / "none",))
    with pytest.raises(MissingTool) as caught:
        debian.archive(tmp_path / "apt", mirror="http://mirror.example.org/debian", log=tmp_path / "log")
    assert caught.value.hint == "apt-get install debian-archive-keyring"


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ('Acquire::http::Proxy "http://proxy.example.org:3128";', True),
        ('Acquire::https::CaInfo "/etc/ssl/own.pem";', True),
        ('Acquire::Retries "3";', True),
        ('Acquire::http "";', False),
        ('Acquire::IndexTargets::deb::DEP-11::KeepCompressed "true";', False),
        ('APT::Update::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb";', False),
    ],
)
def test_of_apts_settings_only_the_way_to_the_network_counts(line: str, taken: bool) -> None:
    assert bool(debian._NETWORK.match(line)) is taken
