"""What is read of the user's ssh config and known_hosts, and what is said when a host cannot be trusted; no network."""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.errors import BadInput, DeviceFault
from edgeship.ssh import config as ssh_config
from edgeship.ssh import host_keys
from edgeship.ssh import route as ssh_route
from edgeship.ssh import shell as secure_shell
from edgeship.ssh.config import Host, Spot

KEY, OTHER = b"\0\0\0\x0bssh-ed25519 one", b"\0\0\0\x0bssh-ed25519 two"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def look_up(home: Path, text: str, asked: str = "pi", system: str = "") -> Host:
    (home / ".ssh/config").write_text(text)
    (home / "system").write_text(system)
    return ssh_config.look_up(ssh_config.spot(asked), system=home / "system")


@pytest.mark.parametrize(
    ("text", "spot"),
    [
        ("pi", Spot("pi")),
        ("me@pi", Spot("pi", "me")),
        ("me@pi:2222", Spot("pi", "me", 2222)),
        ("ssh://me@pi:2222/", Spot("pi", "me", 2222)),
        ("fe80::1%eth0", Spot("fe80::1%eth0")),
        ("[fe80::1]:22", Spot("fe80::1", None, 22)),
        ("me@corp@pi", Spot("pi", "me@corp")),
    ],
)
def test_an_address_is_taken_apart(text: str, spot: Spot) -> None:
    assert ssh_config.spot(text) == spot


def test_without_a_config_ssh_has_its_defaults(home: Path) -> None:
    found = ssh_config.look_up(Spot("pi"), system=home / "none")
    assert (found.hostname, found.port, found.user) == ("pi", 22, getpass.getuser())
    assert found.identities == tuple(home / ".ssh" / name for name in ("id_ed25519", "id_ecdsa", "id_rsa"))
    assert not found.named and found.jump is found.proxy is found.agent is None
    assert found.known_hosts[0] == home / ".ssh/known_hosts"


def test_an_alias_leads_to_all_that_its_block_says(home: Path) -> None:
    found = look_up(
        home,
        """
        Host other
          Port 1
        Host pi "a b"
          HostName=10.0.0.7
          port = 2222   # the router's
          User pi
          IdentityFile ~/.ssh/%n_key
          IdentitiesOnly yes
          UserKnownHostsFile "~/.ssh/boards" /dev/null
          HostKeyAlias Shelf
          ConnectTimeout 3
          ProxyJump me@gate:22,inner
          IdentityAgent ~/agent.sock
        Host *
          Port 99
          IdentityFile %d/last
        """,
    )
    assert (found.hostname, found.port, found.user) == ("10.0.0.7", 2222, "pi")
    assert found.identities == (home / ".ssh/pi_key", home / "last") and found.named
    assert found.known_hosts[0] == home / ".ssh/boards" and found.known_name == "shelf"
    assert (found.connect_timeout_s, found.jump) == (3, "me@gate:22,inner")
    assert found.identities_only and found.agent == f"{home}/agent.sock"


def test_what_is_asked_for_stands_before_the_config(home: Path) -> None:
    found = look_up(home, "Host pi\n User pi\n Port 2\nMatch user me\n HostName mine\n", "me@pi:3")
    assert (found.user, found.port, found.hostname) == ("me", 3, "mine")


@pytest.mark.parametrize(
    ("lines", "proxy", "jump"),
    [
        ("ProxyJump gate\nProxyCommand nc %h %p", None, "gate"),
        ("ProxyCommand nc %h %p # %r %%\nProxyJump gate", "nc pi 22 # {user} %", None),
        ("ProxyJump none\nProxyCommand nc %h %p", None, None),
        ("ProxyCommand none", None, None),
    ],
)
def test_the_first_way_to_a_host_decides(home: Path, lines: str, proxy: str | None, jump: str | None) -> None:
    found = look_up(home, lines)
    assert (found.proxy, found.jump) == (proxy and proxy.format(user=getpass.getuser()), jump)


@pytest.mark.parametrize(
    ("criteria", "met"),
    [
        ("all", True),
        ("host 10.*", True),
        ("originalhost pi,po", True),
        ("originalhost *,!pi", False),
        ("!host 10.*", False),
        ("host 10.* user root", False),
        ("canonical", False),
        ("final", False),
        ("localnetwork 10.0.0.0/8", False),
        ("!localuser nobody-of-that-name", True),
    ],
)
def test_match_takes_what_its_criteria_say(home: Path, criteria: str, met: bool) -> None:
    found = look_up(home, f"Host pi\n HostName 10.0.0.7\n User me\nMatch {criteria}\n Port 7\n")
    assert found.port == (7 if met else 22)


def test_includes_count_where_they_stand(home: Path) -> None:
    folder = home / ".ssh/config.d"
    folder.mkdir()
    (folder / "1.conf").write_text("Host pi\n Port 1\nHost po\n Port 2\n")
    (folder / "2.conf").write_text("User included\n")
    text = "Include config.d/*.conf nothing/*\nHostName after\nHost po\n Include config.d/2.conf\n"
    found = look_up(home, text)
    assert (found.port, found.user, found.hostname) == (1, "included", "after")
    found = look_up(home, "Host po\n Include config.d/*.conf\nHost *\n HostName after\n")
    assert (found.port, found.hostname) == (22, "after")  # a block within a block needs both


def test_the_systems_file_comes_after_the_users(home: Path) -> None:
    found = look_up(home, "Host pi\n Port 1\n", system="Port 2\nUser theirs\n")
    assert (found.port, found.user) == (1, "theirs")


def test_the_names_of_the_config(home: Path) -> None:
    (home / ".ssh/more").write_text("Host shelf\n")
    (home / ".ssh/config").write_text('Host pi "po" *.lan !no\nMatch host x\n Port 1\nInclude more\nhost = pi last\n')
    assert ssh_config.names() == ["pi", "po", "shelf", "last"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Port", "config: line 1: not a setting: Port"),
        ("\nHost 'pi", "config: line 2: No closing quotation: 'pi"),
        ("Match host", "config: line 1: Match host lacks its pattern"),
        ("Include config", "Include goes deeper than 16 files"),
        ("Port ssh", "port is no number: ssh"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(home: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        look_up(home, text)


def line(name: str, key: bytes = KEY) -> str:
    return f"{name} ssh-ed25519 {base64.b64encode(key).decode()} comment\n"


def hashed(name: str) -> str:
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("field", "met"),
    [
        ("pi", True),
        ("po,pi", True),
        ("PI", True),
        ("p?", True),
        ("*,!pi", False),
        ("[pi]:22", False),
        (hashed("pi"), True),
        (hashed("po"), False),
        ("|1|not|base64", False),
    ],
    ids=lambda value: "hashed" if str(value).startswith("|1|") else None,  # its salt is random
)
def test_a_line_of_known_hosts_is_for_whom_it_names(tmp_path: Path, field: str, met: bool) -> None:
    file = tmp_path / "known"
    file.write_text("\n# pi\npi\npi ssh-rsa %%%\n@cert-authority " + line("pi") + line(field))
    assert [entry.line for entry in host_keys.find([tmp_path / "none", file], "pi")] == ([6] if met else [])


def test_a_port_is_part_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "known").write_text(line("[10.0.0.7]:2222") + line(hashed("[10.0.0.7]:2222"), OTHER))
    assert [entry.key for entry in host_keys.find([tmp_path / "known"], "[10.0.0.7]:2222")] == [KEY, OTHER]


def check(home: Path, known: str, **changes: Any) -> DeviceFault | None:
    file = home / ".ssh/known_hosts"
    file.write_text(known)
    host = replace(Host("pi", "10.0.0.7", 22, "me", (), False, known_hosts=(file,)), **changes)
    try:
        ssh_route._check("shelf-pi", host, host_keys.find([file], host.known_name), "ssh-ed25519", KEY)
    except DeviceFault as fault:
        assert fault.fault == "host-key"
        return fault
    return None


def test_a_known_host_key_passes(home: Path) -> None:
    assert check(home, line("10.0.0.7")) is None
    assert check(home, line("[10.0.0.7]:2222"), port=2222) is None
    assert check(home, line("10.0.0.7"), port=2222) is None  # noted without its port, as OpenSSH takes it
    assert check(home, line("shelf"), key_alias="Shelf") is None


def test_an_unknown_host_key_is_refused_with_what_notes_it(home: Path) -> None:
    fault = check(home, line("10.0.0.8"), port=2222)
    assert fault is not None
    print_ = host_keys.fingerprint(KEY)
    assert fault.message == f"shelf-pi: the host key of [10.0.0.7]:2222 is not known: ssh-ed25519 {print_}"
    assert fault.hint == (
        "if the board says the same (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub): "
        "ssh-keyscan -p 2222 10.0.0.7 >> ~/.ssh/known_hosts"
    )
    for changes in ({"jump": "gate"}, {"proxy": "nc"}, {"key_alias": "x"}):  # ways that ssh-keyscan cannot go
        fault = check(home, "", **changes)
        assert fault is not None and fault.hint is not None
        assert fault.hint.endswith(": ssh -o StrictHostKeyChecking=ask -p 22 me@pi exit")


def test_a_changed_host_key_is_refused_with_both_fingerprints(home: Path) -> None:
    fault = check(home, line("[10.0.0.7]:2222", OTHER), port=2222)
    assert fault is not None
    file = home / ".ssh/known_hosts"
    assert host_keys.fingerprint(KEY) in fault.message
    assert f"{file}:1 has {host_keys.fingerprint(OTHER)}" in fault.message
    assert fault.hint == f"if the board was set up anew: ssh-keygen -f {file} -R '[10.0.0.7]:2222'"


def test_a_revoked_host_key_is_refused_although_known(home: Path) -> None:
    fault = check(home, line("10.0.0.7") + "@revoked " + line("*"))
    assert fault is not None and "is revoked" in fault.message


def test_a_key_for_another_port_is_no_proof_of_change(home: Path) -> None:
    fault = check(home, line("10.0.0.7", OTHER), port=2222)
    assert fault is not None and "is not known" in fault.message


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_scripts_are_wrapped_without_what_shells_disagree_on(script: str) -> None:
    words = shlex.split(secure_shell._for_any_shell(script).decode("ascii"))
    assert words[:3] == ["exec", "sh", "-c"] and len(words) == 4
    inner = words[3].partition('printf %b "')[2].removesuffix('")"')
    assert not set(inner) & set("'\"`$!\n")
    octal = re.compile(rb"\\0([0-7]{3})")
    assert octal.sub(lambda found: bytes([int(found[1], 8)]), inner.encode()) == script.encode()
