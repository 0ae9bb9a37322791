"""Real wheels for boards, and the real runtimes in them: what the data says of each is asked of it again."""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import flatbuffer, runtime_release, runtime_support, wheels
from edgeship.errors import DeviceFault
from edgeship.runtime_release import Release
from edgeship.wheels import Packed, Wheels
from tests.lab import runtime_models

ASK = Path(__file__).with_name("ask_runtime.py")
PYTHON = "3.11"  # the newest that has wheels of every release
RELEASES = runtime_release.read_all()
HERE = platform.machine()
FETCH = """
import sys, pathlib
from edgeship import runtime_release, wheels
from edgeship.wheels import Wheels
release = runtime_release.find("tflite-runtime", "2.14.0")
wanted = wheels._wheels(release, sys.argv[1], "3.11")
print(wheels.fetch(wanted, device="board", cache=pathlib.Path(sys.argv[2]), log=pathlib.Path(sys.argv[3])).sha256)
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an interpreter that wheels of every release fit."""
    place = tmp_path_factory.mktemp("python") / "venv"
    made = subprocess.run(["uv", "venv", "--quiet", "--python", PYTHON, place], capture_output=True, text=True)
    if made.returncode != 0:
        if os.environ.get("EDGESHIP_REQUIRE_LAB") == "1":
            pytest.fail(f"Python {PYTHON} is needed: {made.stderr}")
        pytest.skip(f"Python {PYTHON} is needed: {made.stderr}")
    return place / "bin" / "python"


def fetched(release: Release, machine: str, cache: Path, python: str = PYTHON) -> tuple[Wheels, Packed]:
    wanted = wheels._wheels(release, machine, python)
    return wanted, wheels.fetch(wanted, device="board", cache=cache, log=cache / "log")


@pytest.fixture(scope="session")
def tree(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Release], Path]:
    """Return where a release for this machine lies unpacked, as on a board."""

    @functools.cache
    def unpacked(title: str) -> Path:
        release = next(one for one in RELEASES if one.title == title)
        place = tmp_path_factory.mktemp("tree")
        with tarfile.open(fetched(release, HERE, cache)[1].path) as archive:
            archive.extractall(place, filter="data")
        return place

    return lambda release: unpacked(release.title)


def ask(python: Path, tree: Path | None, action: str, folder: Path, *options: str) -> dict[str, str | None]:
    """Return what a runtime said of each file in a folder; without a tree, the one that edgeship itself runs on."""
    path = {"PYTHONPATH": str(tree)} if tree else {}
    environment = {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **path}
    words = [python if tree else sys.executable, ASK, action, folder, *options]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return answers


releases = pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.title)


@releases
def test_operations_types_and_customs_are_as_the_runtime_says(
    release: Release, tree: Callable[[Release], Path], python: Path, tmp_path: Path
) -> None:
    folders = {}
    for write in (runtime_models.versions, runtime_models.types, runtime_models.customs):
        folders[write.__name__] = tmp_path / write.__name__
        folders[write.__name__].mkdir()
        write(folders[write.__name__])
    taken = {name for name, wrong in ask(python, tree(release), "load", folders["versions"]).items() if wrong is None}
    found: dict[str, list[int]] = {}
    for name in taken:
        operation, _, version = name.rpartition("-")
        found.setdefault(operation, []).append(int(version))
    assert {name: max(numbers) for name, numbers in found.items()} == release.highest()
    assert {name: min(numbers) for name, numbers in found.items() if min(numbers) != 1} == dict(release.lowest)
    assert all(len(numbers) == max(numbers) - min(numbers) + 1 for numbers in found.values())

    types = ask(python, tree(release), "load", folders["types"])
    assert {name for name, wrong in types.items() if wrong is None} == set(release.types)
    customs = ask(python, tree(release), "run", folders["customs"])
    unknown = re.compile("unresolved custom op|Select TensorFlow op")
    assert {name for name, wrong in customs.items() if not unknown.search(wrong or "")} == set(release.custom)


@pytest.fixture(scope="session", params=["operations", "recipes"])
def asked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, python: Path
) -> tuple[Path, list[Any]]:
    """Return a folder of files, and what edgeship's own runtime makes of them, with XNNPACK and without."""
    folder = tmp_path_factory.mktemp(request.param)
    getattr(runtime_models, request.param)(folder)
    return folder, [outputs(python, None, folder), outputs(python, None, folder, "--plain")]


def outputs(python: Path, tree: Path | None, folder: Path, *options: str) -> dict[str, Any]:
    """Return each file's outputs, or what was wrong with it."""
    found: dict[str, Any] = {}
    for name, wrong in ask(python, tree, "run", folder, *options).items():
        if wrong is not None:
            found[name] = wrong
            continue
        with np.load(folder / f"{name}.npz") as arrays:
            found[name] = np.concatenate([arrays[key].astype(np.float64).ravel() for key in sorted(arrays.files)])
    return found


def right(got: Any, host: list[Any], limit: float = 0.05) -> bool:
    """Say whether outputs are those of the host within a share of their spread."""
    if isinstance(got, str) or np.isnan(got).any():
        return False
    errors = [off(got, one) for one in host]
    return min((error for error in errors if error is not None), default=limit) < limit


def off(got: Any, host: Any) -> float | None:
    """Return the error relative to the spread, None where the host has nothing to compare with."""
    if isinstance(host, str) or np.isnan(host).any():
        return None
    return float(np.sqrt(np.mean((got - host) ** 2)) / (host.std() + 1e-9))


@releases
def test_what_is_wrong_is_refused_and_what_is_right_is_not(
    release: Release, tree: Callable[[Release], Path], python: Path, asked: tuple[Path, list[Any]]
) -> None:
    folder, host = asked
    got = outputs(python, tree(release), folder)
    assert len(got) > 25
    misjudged = []
    for name, answer in got.items():
        if name == "DEPTHWISE_CONV_2D.float32.int8.one":
            continue  # wrong everywhere, the host too: whole recipes below are held against their float model
        graph = flatbuffer.read(folder / f"{name}.tflite")
        refused = runtime_support.refusal(graph, runtime=release.name, version=release.version, architecture=HERE)
        hosts = [one[name] for one in host]
        truth = host[0].get(f"{name.split('.')[0]}.float32") if folder.name.startswith("recipes") else None
        if not isinstance(answer, str) and all(isinstance(one, str) for one in hosts):
            continue  # it runs what the host does not: nobody knows what is right
        good = right(answer, hosts) and (truth is None or right(answer, [truth], 0.9))
        if good is (refused is not None):
            errors = [answer if isinstance(answer, str) else off(answer, one) for one in hosts]
            misjudged.append((name, *errors, truth is not None and off(answer, truth), refused and refused.reason))
    assert not misjudged, "\n".join(map(str, misjudged))


@releases
def test_a_release_says_its_own_version_from_the_tree(
    release: Release, tree: Callable[[Release], Path], python: Path
) -> None:
    module = release.name.replace("-", "_")
    code = (
        f"import {module}.interpreter, importlib.metadata as m; print({module}.__file__, m.version('{release.name}'))"
    )
    words = [str(python), "-c", code]
    done = subprocess.run(words, env={"PYTHONPATH": str(tree(release))}, capture_output=True, text=True, check=True)
    file, version = done.stdout.split()
    assert file.startswith(str(tree(release))) and version == release.version


@pytest.mark.parametrize(
    ("release", "machine"),
    [pytest.param(one, machine, id=f"{one.title} {machine}") for one in RELEASES for machine in one.wheels.needs],
)
def test_wheels_for_every_machine(release: Release, machine: str, cache: Path) -> None:
    """The content is for that machine, holds nothing else, and asks for no newer C library than the data says."""
    wanted, packed = fetched(release, machine, cache)
    code = {"aarch64": 0xB7, "armv7l": 0x28, "x86_64": 0x3E}[machine]
    asked: set[tuple[int, ...]] = set()
    tops = set()
    with tarfile.open(packed.path) as archive:
        for member in archive:
            tops.add(member.name.split("/")[0].split("-")[0])
            content = archive.extractfile(member)
            assert content is not None and member.mtime == 0
            body = content.read()
            if body.startswith(b"\x7fELF"):
                assert body[18] == code, member.name
                asked |= {runtime_release.numbers(one.decode()) for one in re.findall(rb"GLIBC_(2\.[0-9]+)\0", body)}
    module = release.name.replace("-", "_")
    assert tops == {module, *({"numpy", "numpy.libs"} if wanted.numpy else set())}
    assert max(asked) <= runtime_release.numbers(release.wheels.needs[machine])
    assert packed.size_bytes < 26e6


def test_fetched_again_it_is_the_same(cache: Path, tmp_path: Path) -> None:
    release = RELEASES[-1]
    first, again = fetched(release, HERE, cache)[1], fetched(release, HERE, tmp_path)[1]
    assert first.sha256 == again.sha256
    written = again.path.stat().st_mtime_ns
    assert fetched(release, HERE, tmp_path)[1] == again and again.path.stat().st_mtime_ns == written
    again.path.write_bytes(b"damaged")
    assert fetched(release, HERE, tmp_path)[1].sha256 == first.sha256


def start(machine: str, cache: Path, log: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", FETCH, machine, str(cache), str(log)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    both = [start(HERE, tmp_path / "cache", log) for log in logs]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert said[0] == said[1] and len(said[0].strip()) == 64
    assert sum(log.exists() for log in logs) == 1  # the other waited and took what was there


def test_killed_half_way_nothing_half_is_left(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for seconds in (0.6, 1.2, 2.0, 3.0):
        process = start(HERE, cache, tmp_path / "log")
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for path in cache.glob("*.tar.gz"):
            with tarfile.open(path) as archive:
                assert archive.getnames()
    packed = fetched(RELEASES[-1], HERE, cache)[1]
    assert wheels._packed(packed.path) == packed


@pytest.mark.parametrize("machine", ["aarch64", "armv7l"])
def test_without_a_network_it_says_what_to_do(machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple"), ("UV_CACHE_DIR", str(tmp_path / "uv")), ("UV_HTTP_RETRIES", "0"), ("PIP_NO_INDEX", "1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(DeviceFault) as told:
        fetched(RELEASES[-1], machine, tmp_path / "cache")
    assert told.value.fault == "missing"
    assert told.value.message.startswith(
        "board: the board lacks tflite-runtime 2.14.0 and this machine cannot fetch it: "
    )
    assert told.value.hint is not None and "python3 -m pip install tflite-runtime==2.14.0" in told.value.hint
    assert told.value.log is not None and told.value.log.exists()
    assert not list((tmp_path / "cache").glob("*.tar.gz"))


def test_pip_alone_is_enough(tmp_path: Path, cache: Path, python: Path) -> None:
    """An environment with pip and no uv fetches the same."""
    place = tmp_path / "venv"
    subprocess.run(
        [shutil.which("uv") or "uv", "venv", "--quiet", "--seed", "--python", sys.executable, place], check=True
    )
    found = wheels._wheels(RELEASES[-1], HERE, PYTHON)
    code = FETCH
    bare = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PATH")}
    sites = [path for path in sys.path if path]
    done = subprocess.run(
        [place / "bin" / "python", "-c", code, HERE, tmp_path / "cache", tmp_path / "log"],
        env={**bare, "PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sites)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    assert " -m pip install" in (tmp_path / "log").read_text().splitlines()[0]
    assert done.stdout.strip() == wheels.fetch(found, device="board", cache=cache, log=cache / "log").sha256
