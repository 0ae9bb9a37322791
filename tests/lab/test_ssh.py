"""ssh against real sshd, ssh-agent and ssh: who gets in, whom we believe, what is said, and what ends a connection."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship import remote
from edgeship.device import Device
from edgeship.devices import ssh
from edgeship.errors import DeviceFault
from edgeship.remote import Finished
from edgeship.ssh import shell as secure_shell
from tests.lab.real_sshd import Desk, Sshd, free_port, keygen, need, need_root


def run(device: Device, script: str, **options: Any) -> Finished:
    connection = ssh.connect(device)
    try:
        return remote.run(connection, script, timeout_s=30, **options)
    finally:
        connection.close()


def refused(device: Device) -> DeviceFault:
    with pytest.raises(DeviceFault) as caught:
        ssh.connect(device).close()
    assert caught.value.message.startswith(f"{device.name}: ")
    return caught.value


# --- who gets in


def test_a_key_that_the_config_names_gets_in(board: Sshd, desk: Desk) -> None:
    desk.meet(board)
    desk.key = desk.key.rename(desk.ssh / "odd")
    desk.config.write_text(
        f"Host bench\n HostName {board.address}\n Port {board.port}\n User {board.user}\n IdentityFile ~/.ssh/odd\n"
    )
    alias = Device(name="pi", target="rpi4", transport="ssh", address="bench")
    assert run(alias, "echo $((6 * 7))").text == "42\n"
    assert ssh.scan() == [("bench", "bench")]


def test_a_key_that_is_not_admitted_is_named_with_what_admits_it(board: Sshd, desk: Desk) -> None:
    desk.trust(board)
    stranger = keygen(desk.home / "stranger")
    fault = refused(board.device(identity=str(stranger)))
    where = f"{board.user}@{board.address}"
    assert fault.fault == "auth"
    assert fault.message == f"board: {where} takes none of our keys (tried {stranger})"
    assert fault.hint == f"ssh-copy-id -i {stranger} -p {board.port} {where}"


def test_without_any_key_or_with_one_that_is_not_there(board: Sshd, desk: Desk) -> None:
    desk.trust(board)
    desk.key.unlink()
    assert "asks for a key and we have none" in refused(board.device()).message
    gone = refused(board.device(identity="~/gone"))
    assert gone.fault == "auth" and f"{desk.home}/gone does not exist" in gone.message


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_locked_key_needs_its_passphrase(
    board: Sshd,
    desk: Desk,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk.trust(board)
    locked = keygen(desk.home / "locked", kind, passphrase="open sesame")
    board.admit(locked)
    entry = board.device(identity=str(locked))
    fault = refused(entry)
    assert fault.fault == "auth" and f"{locked} needs its passphrase" in fault.message
    assert fault.hint == f"ssh-add {locked}"
    monkeypatch.setenv("EDGESHIP_SSH_PASSPHRASE", "wrong")
    assert refused(entry).hint == f"ssh-add {locked}"
    monkeypatch.setenv("EDGESHIP_SSH_PASSPHRASE", "open sesame")
    assert run(entry, ":").exit_code == 0


def test_a_passphrase_is_asked_for_on_a_terminal(board: Sshd, desk: Desk) -> None:
    import pty

    desk.trust(board)
    locked = keygen(desk.home / "locked", passphrase="open sesame")
    board.admit(locked)
    entry = board.device(identity=str(locked))
    code = (
        "import sys; from edgeship import remote; from edgeship.device import Device; from edgeship.devices import ssh\n"
        f"c = ssh.connect(Device.model_validate_json({entry.model_dump_json()!r}))\n"
        "print(remote.run(c, 'echo inside', timeout_s=9).text); c.close()"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""
    try:
        while b"Passphrase of" not in said:
            said += os.read(terminal, 1000)
        os.write(terminal, b"open sesame\n")
        while b"inside" not in said:
            said += os.read(terminal, 1000)
        assert b"open sesame" not in said
    finally:
        os.waitpid(pid, 0)
        os.close(terminal)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    need("ssh-agent", "ssh-add")
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            time.sleep(0.01)
        yield socket
    finally:
        process.terminate()
        process.wait(10)


def add(socket: Path, key: Path) -> None:
    env = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
    subprocess.run(["ssh-add", "-q", str(key)], check=True, env=env, timeout=20, stdin=subprocess.DEVNULL)


def test_the_agents_keys_get_in(board: Sshd, desk: Desk, agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.meet(board)
    add(agent, desk.key)
    desk.key.unlink()
    desk.key.with_suffix(".pub").unlink()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    assert run(board.device(), ":").exit_code == 0
    monkeypatch.delenv("SSH_AUTH_SOCK")
    refused(board.device())
    desk.config.write_text(f"IdentityAgent {agent}\n")
    assert run(board.device(), ":").exit_code == 0
    desk.config.write_text(f"IdentityAgent {desk.home}/nobody\n")
    refused(board.device())


def test_of_a_full_agent_only_the_named_key_is_offered(
    board: Sshd,
    desk: Desk,
    agent: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk.trust(board)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    keys = [keygen(desk.home / f"key{number}") for number in range(9)]  # sshd hangs up after six wrong ones
    for key in keys:
        add(agent, key)
    board.admit(keys[-1])
    public = keys[-1].with_suffix(".pub")
    keys[-1].unlink()  # the agent has it; only the public half lies here
    assert run(board.device(identity=str(keys[-1])), ":").exit_code == 0
    assert run(board.device(identity=str(public)), ":").exit_code == 0
    desk.config.write_text(f"IdentityFile {public}\n")
    assert run(board.device(), ":").exit_code == 0


def test_a_board_that_hangs_up_after_wrong_keys_says_what_to_do(
    board: Sshd, desk: Desk, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.trust(board)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    for number in range(9):
        add(agent, keygen(desk.home / f"key{number}"))
    fault = refused(board.device())
    assert fault.fault == "auth" and "hung up after so many: name the right one as `identity`" in fault.message


# --- whom we believe


def test_an_unknown_host_is_refused_until_the_hint_is_followed(board: Sshd, desk: Desk) -> None:
    need("ssh-keyscan")
    board.admit(desk.key)
    fault = refused(board.device())
    assert fault.fault == "host-key" and fault.hint is not None
    assert f"ssh-ed25519 {board.fingerprint()}" in fault.message
    told = fault.hint.rpartition("): ")[2]
    # ssh-keyscan's comments go to stderr; the shell's ~ is the test's home.
    subprocess.run(told, shell=True, check=True, stderr=subprocess.DEVNULL, timeout=60)
    assert run(board.device(), ":").exit_code == 0


def test_a_changed_host_is_refused_until_the_hint_is_followed(board: Sshd, desk: Desk) -> None:
    board.admit(desk.key)
    other = keygen(desk.home / "old-host").with_suffix(".pub").read_text().split()
    name = f"[{board.address}]:{board.port}"
    desk.known_hosts.write_text(f"{name} {other[0]} {other[1]}\n")
    subprocess.run(
        ["ssh-keygen", "-q", "-H", "-f", str(desk.known_hosts)], check=True, timeout=20, stderr=subprocess.DEVNULL
    )
    fault = refused(board.device())
    assert fault.fault == "host-key" and fault.hint is not None
    old = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(desk.home / "old-host.pub")],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert board.fingerprint() in fault.message and old.stdout.split()[1] in fault.message
    subprocess.run(fault.hint.partition(": ")[2], shell=True, check=True, timeout=20, capture_output=True)
    assert "is not known" in refused(board.device()).message
    desk.trust(board)
    assert run(board.device(), ":").exit_code == 0


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_board_with_keys_of_several_types_is_asked_for_the_known_one(desk: Desk, known: int) -> None:
    with Sshd(host_keys=("rsa", "ecdsa", "ed25519")) as many:
        many.admit(desk.key)
        desk.known_hosts.write_text(many.known_line(known))
        assert run(many.device(), ":").exit_code == 0


def test_a_board_of_our_own_is_believed_by_its_own_file_only(board: Sshd, desk: Desk) -> None:
    entry = desk.meet(board).model_copy(update={"identity": str(desk.key)})
    desk.config.write_text("Host *\n ProxyJump nowhere\n")
    own = desk.home / "own"
    own.write_text(board.known_line())
    desk.known_hosts.unlink()
    connection = secure_shell.connect(entry, known_hosts=own)
    assert remote.run(connection, "echo", timeout_s=9).exit_code == 0
    connection.close()
    own.write_text("")
    with pytest.raises(DeviceFault, match="is not known"):
        secure_shell.connect(entry, known_hosts=own)


# --- ways there


@pytest.fixture
def chain(desk: Desk) -> Iterator[list[Sshd]]:
    """Give three boards, the last reachable only from the second, in the config as gate, inner and shelf."""
    need_root()
    with Sshd() as gate, Sshd() as inner, Sshd() as shelf:
        blocks = []
        for name, way, one in (("gate", "none", gate), ("inner", "gate", inner), ("shelf", "gate,inner", shelf)):
            desk.meet(one)
            blocks.append(f"Host {name}\n HostName 127.0.0.1\n Port {one.port}\n User {one.user}\n ProxyJump {way}\n")
        desk.config.write_text("".join(blocks))
        yield [gate, inner, shelf]


def entry(address: str, **changes: Any) -> Device:
    return Device.model_validate({"name": "board", "target": "rpi4", "transport": "ssh", "address": address, **changes})


def test_jump_hosts_lead_to_a_board(chain: list[Sshd], desk: Desk) -> None:
    connection = ssh.connect(entry("shelf"))
    blob = os.urandom(3_000_000)
    assert remote.run(connection, "cat", timeout_s=30, stdin=[blob]).output == blob
    assert [len(one.sessions()) for one in chain] == [1, 1, 1]
    connection.close()
    deadline = time.monotonic() + 5
    while any(one.sessions() for one in chain):
        assert time.monotonic() < deadline, "a way stays open"
        time.sleep(0.05)


def test_every_host_on_the_way_is_checked(chain: list[Sshd], desk: Desk) -> None:
    lines = desk.known_hosts.read_text().splitlines(keepends=True)
    for missing, one in enumerate(chain):
        desk.known_hosts.write_text("".join(line for number, line in enumerate(lines) if number != missing))
        fault = refused(entry("shelf"))
        assert fault.fault == "host-key" and f":{one.port} is not known" in fault.message


def test_a_way_that_ends_midway_is_named(chain: list[Sshd], desk: Desk) -> None:
    chain[2].stop()
    fault = refused(entry("shelf"))
    assert fault.fault == "unreachable"
    assert fault.message == f"board: the jump host inner cannot reach 127.0.0.1:{chain[2].port}: Connect failed"
    chain[0].stop()
    fault = refused(entry("shelf"))
    assert (fault.fault, fault.message) == ("unreachable", f"board: nothing listens at 127.0.0.1:{chain[0].port}")


def test_jump_hosts_in_a_circle_end(desk: Desk) -> None:
    desk.config.write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    fault = refused(entry("a"))
    assert fault.fault == "unreachable" and "circle" in fault.message


def test_a_program_leads_to_a_board(board: Sshd, desk: Desk) -> None:
    need("socat")
    desk.meet(board)
    desk.config.write_text(
        f"Host pi\n HostName {board.address}\n ProxyCommand socat - TCP:%h:%p\n"
        "Host broken\n ProxyCommand echo no route today >&2; exit 1\n"
    )
    blob = os.urandom(3_000_000)
    pi = entry("pi", port=board.port, user=board.user)
    assert run(pi, "cat", stdin=[blob]).output == blob
    fault = refused(entry("broken"))
    assert fault.fault == "unreachable" and fault.message.endswith(": ProxyCommand: no route today")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("no-such-host.invalid", "no address is known for no-such-host.invalid"),
        ("127.0.0.1:{free}", "nothing listens at 127.0.0.1:{free}"),
    ],
)
def test_nobody_there(desk: Desk, address: str, says: str) -> None:
    free = free_port()
    fault = refused(entry(address.format(free=free)))
    assert (fault.fault, fault.message) == ("unreachable", f"board: {says.format(free=free)}")


def test_who_does_not_talk_ssh_is_named(desk: Desk) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            line = server.accept()[0]
            line.sendall(b"220 mail\r\n" * 200)
            line.close()

        threading.Thread(target=answer, daemon=True).start()
        fault = refused(entry(f"127.0.0.1:{port}"))
    assert (fault.fault, fault.message) == ("unreachable", f"board: what answers at 127.0.0.1:{port} does not talk ssh")
