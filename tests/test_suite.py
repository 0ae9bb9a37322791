"""A suite file: read strictly, with words for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import suite as suites
from edgeship.errors import BadInput
from edgeship.nightly_record import Case

WHOLE = """
name = "desk"
models = ["digits", "kws"]
targets = ["rpi*"]
recipes = ["int8", "prune50-int8"]
devices = ["pi-01", "tag:desk", "any:phones", "virtual:rpi4"]
repeats = 3
time_limit = "2h"
run_limit = "90s"
retries = 1
tags = ["main"]
hook = ["usb-power", "{device}", "{event}"]

[[include]]
model = "k*"
[[include]]
device = "pi-*"

[[exclude]]
recipe = "prune*"
target = "rpi4"

[gates]
memory = false
alpha = 0.005
[gates.smallest]
latency = 0.02

[[budget]]
latency_ms = 12
[[budget]]
model = "kws"
latency_ms = 3.5
quality = 0.9

[bench]
runs = 50
min_seconds = 1
threads = 2

[model.kws]
source = "models/kws.tflite"
data = "kws.npz"
scale = [0.5]
shapes = { input = [1, 96, 96, 1] }
"""


def written(folder: Path, text: str, name: str = "suite.toml") -> Path:
    """Return a suite's file."""
    path = folder / name
    path.write_text(text)
    return path


def test_a_whole_suite_is_read(tmp_path: Path) -> None:
    """Every table has its place; times are seconds."""
    found = suites.read(written(tmp_path, WHOLE))
    assert (found.name, found.models, found.repeats) == ("desk", ("digits", "kws"), 3)
    assert suites.seconds(found.time_limit) == 7200 and suites.seconds(found.run_limit) == 90
    assert found.gates.on == ("latency", "size", "quality")
    assert found.gates.smallest.latency == 0.02
    assert found.bench.runs == 50 and found.bench.threads == 2
    assert found.options_of("kws").shapes == {"input": (1, 96, 96, 1)}
    assert found.options_of("digits").source is None
    assert found.folder == tmp_path and len(found.sha256) == 64


def test_the_name_is_the_files_unless_it_is_said(tmp_path: Path) -> None:
    """A file's stem is made to fit."""
    text = 'models = ["digits"]\ndevices = ["local"]'
    assert suites.read(written(tmp_path, text, "my desk!.toml")).name == "my-desk-"


def test_include_and_exclude_are_globs_over_cases(tmp_path: Path) -> None:
    """A case needs one of the includes, and none of the excludes."""
    found = suites.read(written(tmp_path, WHOLE))
    assert found.wants(Case("kws", "rpi5", "int8", "other"))
    assert found.wants(Case("digits", "rpi4", "int8", "pi-01"))
    assert not found.wants(Case("digits", "rpi4", "int8", "other"))
    assert not found.wants(Case("kws", "rpi4", "prune50-int8", "pi-01"))
    assert not found.wants(Case("kws", "linux-x86_64", "int8", "pi-01"))


def test_of_budgets_the_last_that_fits_counts(tmp_path: Path) -> None:
    """Limits that a later table does not name stay."""
    found = suites.read(written(tmp_path, WHOLE))
    assert found.budget_of(Case("digits", "rpi4", "int8", "pi-01")).latency_ms == 12
    mine = found.budget_of(Case("kws", "rpi4", "int8", "pi-01"))
    assert (mine.latency_ms, mine.quality, mine.memory_mib) == (3.5, 0.9, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('device = ["local"]\nmodels = ["a"]', "no such key 'device'; did you mean 'devices'?"),
        ('models = ["a"]', "the key 'devices' is missing"),
        ('models = []\ndevices = ["local"]', "'models'"),
        ('models = ["a"]\ndevices = ["local"]\ntime_limit = "soon"', "'time_limit': expected a time above zero"),
        ('models = ["a"]\ndevices = ["local"]\ntime_limit = "0s"', "'time_limit': expected a time above zero"),
        ('models = ["a"]\ndevices = ["local"]\ntime_limit = 30', "'time_limit': a time has its unit, as in \"30s\"; got 30"),
        ('models = ["a"]\ndevices = ["local"]\ntime_limit = true', "'time_limit'"),
        ('models = ["a"]\ndevices = ["local"]\nretries = -1', "'retries'"),
        ('models = ["a"]\ndevices = ["local"]\nrepeats = 0', "'repeats'"),
        ('models = ["a", "a"]\ndevices = ["local"]', "'models': 'a' stands twice"),
        ('models = ["a"]\ndevices = ["local"]\n[gates]\nlatancy = false', "did you mean 'latency'?"),
        ('models = ["a"]\ndevices = ["local"]\n[gates]\nlatency=false\nmemory=false\nsize=false\nquality=false', "all gates are off"),
        ('models = ["a"]\ndevices = ["local"]\n[[budget]]\nlatency = 3', "no such key 'budget.0.latency'; did you mean 'latency_ms'?"),
        ('models = ["a"]\ndevices = ["local"]\n[[exclude]]\nmodels = "x"', "did you mean 'model'?"),
        ('models = ["kws"]\ndevices = ["local"]\n[model.kvs]\nsource = "x"', "[model.kvs]: no such model 'kvs'; did you mean 'kws'?"),
        ('models = ["a"]\ndevices = ["local"]\nhook = ["x", "{board}"]', "only {device} and {event} can be filled in"),
        ('models = ["a"]\ndevices = ["local"]\nhook = ["{device.foo}"]', "only {device} and {event} can be filled in"),
        ('models = ["a"]\ndevices = ["local"]\nhook = ["{device[foo]}"]', "only {device} and {event} can be filled in"),
        ('models = ["a"]\ndevices = ["local"]\nhook = ["{device:{event.x}}"]', "only {device} and {event} can be filled in"),
        ('models = ["a"]\ndevices = ["local"]\nhook = ["{device!z}"]', "only {device} and {event} can be filled in"),
        ('models = ["a"]\ndevices = ["local"]\nhook = ["x", "{"]', "only {device} and {event} can be filled in"),
        ('models = ["a"]\ndevices = ["local"]\nname = "a/b"', "'name'"),
        ('models = ["a"]\ndevices = ["local"]\nsha256 = "1"', "no such key 'sha256'"),
        ("models = [", "not a TOML file"),
    ],
    ids=range(24),
)  # fmt: skip
def test_what_does_not_fit_is_told_in_words(tmp_path: Path, text: str, told: str) -> None:
    """The text starts with the file and offers the near miss."""
    path = written(tmp_path, text)
    with pytest.raises(BadInput) as refused:
        suites.read(path)
    assert refused.value.message.startswith(f"{path}: ")
    assert told in refused.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(BadInput, match="no such file"):
        suites.read(tmp_path / "none.toml")
    with pytest.raises(BadInput, match=f"^{tmp_path}: a folder; the suite's TOML file is expected$"):
        suites.read(tmp_path)
