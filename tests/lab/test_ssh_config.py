"""The user's ssh config is read as the real ssh reads it: `ssh -G` says what that is."""

from __future__ import annotations

import os
import pwd
import re
import subprocess

import pytest

from edgeship.ssh import config as ssh_config
from tests.lab.real_sshd import Desk, need

CONFIGS = [
    "Host pi\n HostName %h.lan\n Port 7\n User me\n IdentityFile ~/k1\nHost p*\n IdentityFile /k/%r@%h-%p\n User no\n",
    "Match originalhost pi user root\n Port 1\nMatch !host pi\n Port 2\nMatch all\n Port 3\n User u\nHost pi\n ConnectTimeout 9\n",
    "Include more/*\nHost pi\n ProxyJump x@a:3,b\n ProxyCommand nc %h %p\n UserKnownHostsFile /a /b\n HostKeyAlias z\n",
    "Match exec \"test %h = pi\"\n Port 5\nMatch exec false\n User no\nHost *,!pi\n User wrong\nHost * !pi\n Port 9\n",
    "Host po\n Include more/*\nHost pi\n ProxyCommand=none\n ProxyJump a\n IdentitiesOnly yes\n",
]  # fmt: skip


@pytest.mark.parametrize("text", CONFIGS)
@pytest.mark.parametrize("asked", ["pi", "root@pi", "po"])
def test_the_config_means_what_it_means_to_ssh(desk: Desk, text: str, asked: str) -> None:
    need("ssh")
    (desk.ssh / "more").mkdir()
    (desk.ssh / "more/one").write_text("Host po\n Port 44\nHost pi\n User included\n IdentityFile /included\n")
    desk.config.write_text(text.replace("more/", f"{desk.ssh}/more/"))
    told = subprocess.run(
        ["ssh", "-G", "-F", str(desk.config), asked], check=True, capture_output=True, text=True, timeout=20
    )
    theirs: dict[str, list[str]] = {}
    for line in told.stdout.splitlines():
        key, _, value = line.partition(" ")
        theirs.setdefault(key, []).append(value)
    ours = ssh_config.look_up(ssh_config.spot(asked), system=desk.home / "none")
    assert [ours.hostname, str(ours.port), ours.user] == [theirs[key][0] for key in ("hostname", "port", "user")]
    if ours.named:  # -G leaves tokens in; and for ~ ssh asks who we are, not what HOME says
        tokens = {"%r": ours.user, "%h": ours.hostname, "%p": str(ours.port)}
        said = [re.sub("%.", lambda token: tokens[token[0]], value) for value in theirs["identityfile"]]
        said = [re.sub(rf"^(~|{pwd.getpwuid(os.getuid()).pw_dir})/k1$", f"{desk.home}/k1", path) for path in said]
        assert [str(path) for path in ours.identities] == said
    assert ours.jump == theirs.get("proxyjump", [None])[0]
    assert (ours.proxy is None) == ("proxycommand" not in theirs)
    assert ours.key_alias == theirs.get("hostkeyalias", [None])[0]
    assert ours.identities_only == (theirs["identitiesonly"] == ["yes"])
    assert str(ours.connect_timeout_s or "none") == theirs["connecttimeout"][0].removesuffix(".0")
