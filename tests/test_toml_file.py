"""Strict TOML: unknown keys with a near miss, wrong types and missing keys named by their dotted place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from edgeship import toml_file
from edgeship.errors import BadInput
from edgeship.toml_file import Record


class Port(Record):
    number: int
    open: bool = True


class Machine(Record):
    name: str
    ports: tuple[Port, ...] = ()
    by_name: dict[str, Port] = Field(default_factory=dict)
    share: float | None = None


def read(folder: Path, text: str | bytes) -> Machine:
    path = folder / "machine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return toml_file.read(path, Machine)


def test_a_file_that_fits_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, 'name = "a"\nshare = 1\n[[ports]]\nnumber = 22\n[by_name.web]\nnumber = 80\nopen = false\n')
    assert found == Machine(name="a", ports=(Port(number=22),), by_name={"web": Port(number=80, open=False)}, share=1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('nmae = "a"', "no such key 'nmae'; did you mean 'name'?"),
        ('name = "a"\n[[ports]]\nnumbr = 1', "no such key 'ports.0.numbr'; did you mean 'number'?"),
        ('name = "a"\n[by_name.x]\nopened = true\nnumber = 1', "no such key 'by_name.x.opened'; did you mean 'open'?"),
        ('name = "a"\nzzzz = 1', "no such key 'zzzz'"),
        ("share = 0.5", "the key 'name' is missing"),
        ("name = 3", "'name': Input should be a valid string; got 3"),
        ('name = "a"\n[[ports]]\nnumber = "22"', "'ports.0.number': Input should be a valid integer; got '22'"),
        ('name = "a"\n[[ports]]\nnumber = 1\nopen = 1', "'ports.0.open': Input should be a valid boolean; got 1"),
        ('name = "a"\nshare = inf', "'share': Input should be a finite number; got inf"),
        ('name = "a"\nshare = nan', "'share': Input should be a finite number; got nan"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        read(tmp_path, text)
    assert refusal.value.message == f"{tmp_path / 'machine.toml'}: {said}"


@pytest.mark.parametrize(
    "content", [b"name = ", b"\xff\xfe\x00", b"name = " + b"1" * 5000, b"a = " + b"[" * 20_000, b"<html>", b"\x00" * 50]
)
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadInput, match=r"machine\.toml: not a TOML file"):
        read(tmp_path, content)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.toml: no such file"):
        toml_file.read(tmp_path / "gone.toml", Machine)
    with pytest.raises(BadInput, match="not a TOML file"):
        toml_file.read(tmp_path, Machine)
    with pytest.raises(BadInput, match="not a TOML file"):
        toml_file.read(tmp_path / ("x" * 300), Machine)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.text(alphabet="nameports[]=.\"'{}\n1-:Tinf", max_size=60).map(str.encode))
@example(b'name = "a"\n[[ports]]\nnumber = 2024-01-01')
@example(b'name = "a"\n[by_name]\nx = []')
def test_any_content_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    try:
        assert isinstance(read(tmp_path, content), Machine)
    except BadInput as refusal:
        assert refusal.message.startswith(str(tmp_path / "machine.toml"))
