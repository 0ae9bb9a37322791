"""Targets as data: every file that ships, and the words for a file or a name that does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from edgeship import recipe, target
from edgeship.errors import BadInput

SMALLEST = """\
name = "board"
summary = "a board on a desk"
transports = ["ssh"]
threads = 2
default_recipe = "int8"

[platform]
system = "linux"
source = "the vendor's datasheet, page 3"

[[runtimes]]
name = "ai-edge-litert"
source = "the wheel's own metadata"
"""


def written(folder: Path, *changes: tuple[str, str], name: str = "board") -> str:
    """Write the smallest target with some text replaced, and return its path."""
    text = SMALLEST
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


def groups(record: target.Target) -> list[target.Sourced]:
    """Return every group of facts that a target has."""
    found = [record.platform, record.board, record.cpu, record.peak, record.accelerator, *record.runtimes]
    return [group for group in found if group is not None]


@pytest.mark.parametrize("name", target.names())
def test_every_target_reads_and_holds_together(name: str) -> None:
    read = target.read(name)
    parts = recipe.read(read.default_recipe).parts

    assert read.name == name
    assert all(group.source.strip() for group in groups(read))
    assert target.refusal(read, parts) is None, "a target takes its own default recipe"
    schemes = get_args(recipe.Scheme)
    techniques = ("prune", "cluster", "qat", "pqat", "cqat", "pcqat")
    for pattern in read.refuses:
        alone = read.model_copy(update={"refuses": {pattern: read.refuses[pattern]}})
        assert any(target.refusal(alone, [part]) for part in (*schemes, *techniques)), f"'{pattern}' matches no part"


@pytest.mark.parametrize("name", ["rpi-zero2w", "rpi3", "rpi4", "rpi4-32bit", "rpi5"])
def test_peaks_of_a_cpu_stand_on_its_cores_and_clock(name: str) -> None:
    read = target.read(name)
    assert read.peak and read.peak.fp32_gflops
    assert read.cpu and read.cpu.cores and read.cpu.clock_mhz
    cycles = read.cpu.cores * read.cpu.clock_mhz / 1000

    assert read.peak.fp32_gflops / cycles == pytest.approx(16 if "asimddp" in read.cpu.features else 8)
    if read.peak.int8_gops is not None:
        assert read.peak.int8_gops / cycles == pytest.approx(64 if "asimddp" in read.cpu.features else 16)


def test_read_all_is_sorted_and_whole() -> None:
    assert [read.name for read in target.read_all()] == target.names() == sorted(target.names())
    assert {"rpi4", "rpi4-32bit", "android-arm64", "coral-usb", "linux-x86_64"} <= set(target.names())


def test_a_misspelt_name_gets_the_near_miss() -> None:
    with pytest.raises(BadInput, match="no such target 'rpi-5'; did you mean 'rpi5'") as refused:
        target.read("rpi-5")
    assert refused.value.hint is not None and "coral-usb" in refused.value.hint


def test_a_users_own_file_is_read(tmp_path: Path) -> None:
    read = target.read(written(tmp_path))
    assert (read.name, read.transports, read.cpu, read.peak, read.refuses) == ("board", ("ssh",), None, None, {})
    assert read.runtimes[0].version is None


def test_a_target_is_frozen(tmp_path: Path) -> None:
    read = target.read(written(tmp_path))
    with pytest.raises(ValidationError, match="frozen"):
        read.threads = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("transports", "transport", r"board\.toml: no such key 'transport'; did you mean 'transports'\?"),
        ("threads = 2\n", "", "the key 'threads' is missing"),
        ('source = "the vendor\'s datasheet, page 3"\n', "", r"the key 'platform\.source' is missing"),
        ("threads = 2", 'threads = "2"', r"'threads': .*integer.*; got '2'"),
        ("threads = 2", "threads = 0", "'threads': .*greater than 0"),
        ('["ssh"]', "[]", "'transports': .*at least 1"),
        ('["ssh"]', '["telnet"]', r"'transports\.0': .*'local', 'ssh' or 'adb'; got 'telnet'"),
        ('system = "linux"', 'system = "linux"\narchitecture = "arm64"', r"'platform\.architecture': .*'aarch64'"),
        ("[[runtimes]]", '[cpu]\nclock_ghz = 1\nsource = "long enough"\n[[runtimes]]', r"no such key 'cpu\.clock_ghz'"),
        ('name = "board"', 'name = "plank"', "expected 'board'; got 'plank'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_words(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        target.read(written(tmp_path, (old, new)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.toml: no such file"):
        target.read(str(tmp_path / "nowhere.toml"))


@pytest.mark.parametrize(
    ("name", "recipe_name", "words"),
    [
        ("rpi4-32bit", "dynamic-int8", "garbage"),
        ("rpi4-32bit", "int4-weights", "does not load"),
        ("rpi4-32bit", "prune50-dynamic-int8", "garbage"),
        ("rpi4-32bit", "int8-weights", None),
        ("rpi4-32bit", "float16", None),
        ("rpi4", "dynamic-int8", None),
        ("coral-usb", "float16", "8-bit"),
        ("coral-usb", "prune50", "8-bit"),  # pruned and left in float
        ("coral-usb", "int8-float-io", "QUANTIZE"),
        ("coral-dev-board", "pcqat50-16-int8", None),
    ],
)
def test_what_a_target_refuses(name: str, recipe_name: str, words: str | None) -> None:
    reason = target.refusal(target.read(name), recipe.read(recipe_name).parts)
    assert reason is None if words is None else words in (reason or "")


@pytest.mark.parametrize("name", ["coral-usb", "coral-dev-board"])
def test_an_edge_tpu_takes_full_integer_only(name: str) -> None:
    read = target.read(name)
    assert [scheme for scheme in recipe.SCHEMES if target.refusal(read, [scheme]) is None] == ["int8"]
