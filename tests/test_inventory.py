"""The devices file: read strictly, written without losing a word of the user's, by however many at once."""

from __future__ import annotations

import multiprocessing
import platform
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeship import inventory
from edgeship.device import Device
from edgeship.errors import BadInput, NothingToDo

TEXT = """\
# My boards.

[pi-01]  # under the desk
target = "rpi4"     # 4 GB
transport = "ssh"
address = "pi@kitchen"
tags = [
    "slow",  # card
    "old",
]

# The phone has a crack.
["phone.old"]
target = "android-arm64"
transport = "adb"
address = "R58M123"

[zulu]
transport = "ssh"
target = "rpi5"
address = "zulu"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "conf" / "devices.toml"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


def pi(name: str = "pi-02", **changes: Any) -> Device:
    return Device(**{"name": name, "target": "rpi4", "transport": "ssh", "address": "pi", **changes})


def test_the_file_is_the_options_then_the_variables_then_the_config_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("EDGESHIP_DEVICES", raising=False)
    assert inventory.place(None).parts[-2:] == ("edgeship", "devices.toml")
    monkeypatch.setenv("EDGESHIP_DEVICES", "/some/where.toml")
    assert inventory.place(None) == Path("/some/where.toml")
    assert inventory.place(Path("x.toml")) == Path("x.toml")


def test_a_file_is_read_in_its_order(file: Path) -> None:
    found = inventory.read(file)
    assert list(found) == ["pi-01", "phone.old", "zulu"]
    assert found["pi-01"] == pi("pi-01", address="pi@kitchen", tags=("slow", "old"))
    assert inventory.read(file.with_name("none.toml")) == {}
    assert inventory.names(file)[:4] == ["phone.old", "pi-01", "zulu", "local"]
    assert "virtual:rpi5" in inventory.names(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[a]\ntarget = "rpi4"\ntransport = "ssh"\nadress = "x"', "[a]: no such key 'adress'; did you mean 'address'?"),
        ('[a]\ntarget = "rp4"\ntransport = "ssh"\naddress = "x"', "[a]: no such target 'rp4'; did you mean 'rpi4'?"),
        ('[a]\ntarget = "rpi4"\ntransport = "sssh"\naddress = "x"', "[a]: 'transport': "),
        ('[a]\ntarget = "rpi4"\ntransport = "ssh"', "[a]: the key 'address' is missing: the host"),
        ('[a]\ntarget = "android-arm64"\ntransport = "adb"', "[a]: the key 'address' is missing: the serial"),
        ('[a]\ntransport = "ssh"\naddress = "x"', "[a]: the key 'target' is missing"),
        ('[a]\ntarget = "rpi4"\ntransport = "ssh"\naddress = "x"\nport = "22"', "[a]: 'port': "),
        ('[a]\nname = "b"\ntarget = "rpi4"\ntransport = "local"', "[a]: no such key 'name'"),
        ('[a.b]\ntarget = "rpi4"', "[a]: 'b' is a table"),
        ('["a b"]\ntarget = "rpi4"\ntransport = "local"', "[a b]: a name is of letters"),
        ('[local]\ntarget = "rpi4"\ntransport = "local"', "[local]: 'local' and names"),
        ('["virtual:rpi4"]\ntarget = "rpi4"\ntransport = "local"', "[virtual:rpi4]: 'local' and names"),
        ("a = 3", "'a' is no table"),
        ("[a", "not a TOML file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_its_entry(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(BadInput) as refused:
        inventory.read(file)
    assert refused.value.message.startswith(f"{file}: {told}")
    with pytest.raises(BadInput):
        inventory.add(file, pi())
    assert file.read_text() == text


def test_files_are_named_from_the_folder_of_the_devices_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    inventory.add(file, pi("a", identity="keys/a", benchmark_model="~/bm", target="own/board.toml"))
    found = inventory.find("a", file)
    assert found.identity == str(file.parent / "keys/a")
    assert found.benchmark_model == "/home/me/bm"
    assert found.target == str(file.parent / "own/board.toml")
    assert 'identity = "keys/a"' in file.read_text()
    inventory.add(file, pi("b", identity="/abs/key"))
    monkeypatch.chdir(file.parent)
    assert inventory.find("b", Path(file.name)).identity == "/abs/key"
    assert inventory.find("a", Path(file.name)) == found


@pytest.mark.parametrize(("machine", "target"), [("x86_64", "linux-x86_64"), ("aarch64", "linux-arm64"), ("arm64", "linux-arm64")])  # fmt: skip
def test_local_and_virtual_always_exist(file: Path, monkeypatch: pytest.MonkeyPatch, machine: str, target: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    file.write_text("[broken")
    assert inventory.find("local", file) == Device(name="local", target=target, transport="local")
    assert inventory.find("virtual:rpi5", file) == Device(name="virtual:rpi5", target="rpi5", transport="virtual")
    with pytest.raises(BadInput, match=r"^virtual:rpi55: no such target 'rpi55'; did you mean 'rpi5'\?"):
        inventory.find("virtual:rpi55", file)
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    with pytest.raises(BadInput, match=r"^local: no target stands for a machine of the kind s390x"):
        inventory.find("local", file)


def test_an_unknown_device_gets_the_near_miss_and_the_command(file: Path) -> None:
    with pytest.raises(BadInput, match=r"no such device 'pi01'; did you mean 'pi-01'\?") as refused:
        inventory.find("pi01", file)
    assert refused.value.message.startswith(str(file))
    assert "edgeship devices add pi01" in str(refused.value.hint)
    with pytest.raises(BadInput, match="did you mean 'virtual:rpi4'"):
        inventory.find("virtul:rpi4", file)


def test_adding_keeps_every_word(file: Path) -> None:
    inventory.add(file, pi("pi.02", port=2222, cpus=(2, 3)))
    text = file.read_text()
    assert text.startswith(TEXT)
    assert text.removeprefix(TEXT) == (
        '\n["pi.02"]\ntarget = "rpi4"\ntransport = "ssh"\naddress = "pi"\nport = 2222\ncpus = [2, 3]\n'
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert inventory.find("pi.02", file) == pi("pi.02", port=2222, cpus=(2, 3))


def test_the_first_device_makes_the_file_and_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "devices.toml"
    inventory.add(path, pi())
    assert tomllib.loads(path.read_text()) == {"pi-02": {"target": "rpi4", "transport": "ssh", "address": "pi"}}
    assert path.read_text().startswith("[pi-02]\n")


def test_a_name_that_is_taken_is_kept_unless_replaced(file: Path) -> None:
    same = pi("pi-01", address="pi@kitchen", tags=("slow", "old"))
    for replace in (False, True):
        with pytest.raises(NothingToDo, match="'pi-01' is there"):
            inventory.add(file, same, replace=replace)
    other = pi("pi-01", address="cellar", port=2022)
    with pytest.raises(BadInput, match="there is a device 'pi-01'") as refused:
        inventory.add(file, other)
    assert "--replace" in str(refused.value.hint)
    assert file.read_text() == TEXT
    inventory.add(file, other, replace=True)
    text = file.read_text()
    assert list(inventory.read(file)) == ["pi-01", "phone.old", "zulu"]
    assert inventory.find("pi-01", file) == other
    for kept in ("# My boards.\n\n[pi-01]  # under the desk\n", "# 4 GB\n", "# The phone has a crack.\n"):
        assert kept in text


@pytest.mark.parametrize("name", ["local", "virtual:rpi4", "", "-a", "a b", "a/b", "é", "a\n"])
def test_some_names_cannot_be(file: Path, name: str) -> None:
    with pytest.raises(BadInput):
        inventory.add(file, pi(name))
    assert file.read_text() == TEXT


def test_what_an_entry_needs_is_asked_for_before_it_is_written(file: Path) -> None:
    for device in (pi(address=None), pi(transport="adb", address=""), pi(target="rpi44")):
        with pytest.raises(BadInput):
            inventory.add(file, device)
    inventory.add(file, pi(transport="virtual", address=None))


def test_removing_leaves_the_others_comments(file: Path) -> None:
    inventory.remove(file, "pi-01")
    text = file.read_text()
    assert list(inventory.read(file)) == ["phone.old", "zulu"]
    assert text.startswith("# My boards.\n")
    assert "# The phone has a crack.\n[" in text
    assert "kitchen" not in text
    inventory.remove(file, "zulu")
    inventory.remove(file, "phone.old")
    assert inventory.read(file) == {}
    inventory.add(file, pi())
    assert list(inventory.read(file)) == ["pi-02"]
    with pytest.raises(BadInput, match=r"no such device 'pi-03'; did you mean 'pi-02'"):
        inventory.remove(file, "pi-03")


def test_line_ends_stay_as_they_are(file: Path) -> None:
    before = TEXT.replace("\n", "\r\n").encode()
    file.write_bytes(before)
    inventory.add(file, pi())
    assert file.read_bytes().startswith(before)
    assert len(inventory.read(file)) == 4


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "devices.toml"
    link.symlink_to(file)
    inventory.add(link, pi())
    assert link.is_symlink()
    assert "pi-02" in inventory.read(file)


def test_a_file_that_cannot_be_written_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "devices.toml", Path("/proc/none/devices.toml")):
        with pytest.raises(BadInput, match="cannot be written"):
            inventory.add(path, pi())


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True).filter(lambda name: name != "local")
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
entries = st.builds(
    Device, name=names, target=st.sampled_from(["rpi4", "rpi5", "linux-x86_64"]), transport=st.sampled_from(["ssh", "local", "virtual"]),
    address=words, port=st.none() | st.integers(1, 65535), user=st.none() | words, python=st.none() | words, governor=st.none() | words,
    cpus=st.lists(st.integers(0, 63), max_size=3).map(tuple), tags=st.lists(words, max_size=3).map(tuple),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(entries, max_size=5, unique_by=lambda entry: entry.name), st.lists(entries, max_size=3), st.booleans())
def test_what_was_added_is_read_back(tmp_path: Path, first: list[Device], then: list[Device], inline: bool) -> None:
    path = tmp_path / "devices.toml"
    path.write_text('# a comment\ndrawer = {target = "rpi4", transport = "local"} # flat\n' if inline else "")
    expected = inventory.read(path)
    for device in (*first, *then):
        if expected.get(device.name) != device:
            inventory.add(path, device, replace=True)
        expected[device.name] = device
    assert inventory.read(path) == expected
    for name in list(expected):
        inventory.remove(path, name)
        del expected[name]
        assert inventory.read(path) == expected
    assert not inline or "# a comment" in path.read_text()


def _add_ten(path: Path, first: int) -> None:
    for number in range(first, first + 10):
        inventory.add(path, pi(f"pi-{number}"))


@pytest.mark.processes
def test_writers_at_once_lose_nothing(file: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_add_ten, args=(file, first)) for first in (100, 200, 300)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(inventory.read(file)) == 33
    assert file.read_text().startswith(TEXT)
