"""Environments of their own: whole or not there, made once, and clear words where something is missing. With the real uv, offline."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from edgeship import checkup, environment, installer, resources
from edgeship.environment import Environment
from edgeship.errors import EdgeshipError, MissingTool, StageFailed
from edgeship.progress import Progress

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let edgeship know one environment, of one package that lies in a file; uv has no network and an empty cache."""
    data = tmp_path / "package" / "data" / "requirements"
    data.mkdir(parents=True)
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "package")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("tiny.py", "VALUE = 7\n")
        made.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        made.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr("tiny-1.0.dist-info/RECORD", "")
    sha = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (data / "tiny.toml").write_text(
        f'summary = "a test"\npackages = ["tiny==1.0"]\npython = ["{PYTHON}"]\nimports = ["tiny"]\n'
    )
    (data / "tiny.txt").write_text(f"tiny @ {wheel.as_uri()} --hash=sha256:{sha}\n")
    return data


def value(python: Path) -> str:
    done = subprocess.run(
        [python, "-I", "-c", "import tiny; print(tiny.VALUE)"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def refused(kind: type[EdgeshipError], log: Path) -> EdgeshipError:
    with pytest.raises(kind) as refusal:
        environment.ready("tiny", log=log)
    assert not list((environment.folder("tiny").parent).glob("tiny-*/*")), "something half made was left"
    return refusal.value


@pytest.mark.processes
def test_it_is_made_once_and_reused(tiny: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    assert environment.found("tiny") is None
    assert [tool.version for tool in environment.tools()] == [None]
    python = environment.ready("tiny", on_progress=told.append, log=tmp_path / "log.txt")
    assert value(python) == "7"
    assert [step.done for step in told] == sorted(step.done for step in told)
    assert told[-1].done == told[-1].total
    assert "fetching" in " ".join(step.text for step in told)
    before = python.parent.parent.stat().st_ino
    told.clear()
    assert environment.ready("tiny", on_progress=told.append, log=tmp_path / "log.txt") == python
    assert not told
    assert python.parent.parent.stat().st_ino == before
    assert [(tool.name, tool.version, tool.install) for tool in environment.tools()] == [("tiny", "1.0", None)]
    assert "tiny" in {tool.name for tool in checkup.examine().tools}


@pytest.mark.processes
def test_two_that_ask_at_once_make_it_once(tiny: Path, tmp_path: Path) -> None:
    found: list[Path] = []
    fetched: list[Progress] = []

    def ask() -> None:
        found.append(
            environment.ready(
                "tiny",
                on_progress=lambda step: fetched.append(step) if "fetching" in step.text else None,
                log=tmp_path / "log",
            )
        )

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(found)) == 1
    assert len(found) == 3
    assert len(fetched) == 1
    assert value(found[0]) == "7"


@pytest.mark.processes
def test_one_whose_interpreter_was_removed_is_made_anew(tiny: Path, tmp_path: Path) -> None:
    python = environment.ready("tiny", log=tmp_path / "log.txt")
    python.unlink()
    python.symlink_to(tmp_path / "gone")
    assert environment.found("tiny") is None
    assert value(environment.ready("tiny", log=tmp_path / "log.txt")) == "7"


@pytest.mark.processes
def test_other_pins_are_another_environment(tiny: Path, tmp_path: Path) -> None:
    python = environment.ready("tiny", log=tmp_path / "log.txt")
    with (tiny / "tiny.txt").open("a") as stream:
        stream.write("# changed\n")
    other = environment.ready("tiny", log=tmp_path / "log.txt")
    assert other != python
    assert python.is_file()
    assert environment.versions("tiny")["tiny"] == "1.0"


@pytest.mark.processes
def test_a_package_that_changed_is_refused(tiny: Path, tmp_path: Path) -> None:
    text = (tiny / "tiny.txt").read_text()
    (tiny / "tiny.txt").write_text(re.sub("sha256:.*", "sha256:" + "0" * 64, text))
    refusal = refused(MissingTool, tmp_path / "log.txt")
    assert "hash" in refusal.message.lower()


@pytest.mark.processes
def test_without_a_network_it_says_so_and_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    (tiny / "tiny.txt").write_text(f"numpy==2.2.6 --hash=sha256:{'0' * 64}\n")
    refusal = refused(MissingTool, tmp_path / "log.txt")
    assert refusal.message.startswith("the environment of tiny is not there and cannot be fetched: ")
    assert refusal.hint is not None
    assert "network" in refusal.hint
    assert str(tmp_path / "log.txt") in refusal.message
    assert "uv" in (tmp_path / "log.txt").read_text()


@pytest.mark.processes
def test_what_does_not_start_is_refused_with_its_complaint(tiny: Path, tmp_path: Path) -> None:
    text = (tiny / "tiny.toml").read_text()
    (tiny / "tiny.toml").write_text(text.replace('imports = ["tiny"]', 'imports = ["tiny", "absent_module"]'))
    refusal = refused(StageFailed, tmp_path / "log.txt")
    assert "absent_module" in refusal.message


@pytest.mark.processes
def test_without_uv_the_command_that_brings_it_is_the_hint(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "uv", None)
    assert installer.uv() is None
    refusal = refused(MissingTool, tmp_path / "log.txt")
    assert refusal.hint == "pip install uv"


@pytest.mark.processes
def test_without_an_interpreter_it_says_which_to_install(tiny: Path, tmp_path: Path) -> None:
    uv = installer.uv()
    assert uv is not None, "pip install uv"
    wanted = Environment(summary="", packages=("tiny==1.0",), python=("3.99", "3.98"), imports=())
    with pytest.raises(MissingTool, match=r"needs Python 3\.99 or 3\.98") as refusal:
        environment._interpreter("tiny", wanted, uv, tmp_path / "log.txt", lambda step: None)
    assert "python3.99" in (refusal.value.hint or "")


@pytest.mark.processes
def test_a_program_on_the_path_that_only_ends_with_an_error_is_passed_over(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = installer.uv()
    assert uv is not None, "pip install uv"
    shims, versions = tmp_path / "shims", tmp_path / "pyenv" / "versions"
    real = Path(getattr(sys, "_base_executable", sys.executable))
    for folder in (shims, versions / "3.99.9" / "bin", versions / "3.99.10" / "bin", versions / "3.9.1" / "bin"):
        folder.mkdir(parents=True)
        program = folder / "python3.99"
        program.write_text("#!/bin/sh\nexit 127\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    found = [path for path in environment._candidates("3.99", uv) if tmp_path in path.parents]
    assert found == [shims / "python3.99", versions / "3.99.10/bin/python3.99", versions / "3.99.9/bin/python3.99"]
    assert not any(environment._fits(path, "3.99") for path in found)
    assert environment._fits(real, PYTHON)
    assert not environment._fits(real, "3.99")


@pytest.mark.processes
def test_a_file_that_is_no_program_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "python3.99").write_bytes(b"\x7fELF")
    (tmp_path / "python3.99").chmod(0o755)
    assert not environment._fits(tmp_path / "python3.99", "3.99")


@pytest.mark.parametrize("name", environment.names())
def test_the_shipped_pins_name_a_hash_for_each_and_no_address(name: str) -> None:
    wanted = environment.read(name)
    for file in environment.pins(name):
        text = file.read_text()
        assert not re.search(r"://|^\s*(-i|-f|--index|--extra-index|--find-links)", text, re.MULTILINE)
        entries = re.split(r"^(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
        for entry in filter(str.strip, entries):
            assert re.match(r"[A-Za-z0-9._-]+==\S+", entry), entry
            assert "--hash=sha256:" in entry, entry
    pinned = "".join(file.read_text() for file in environment.pins(name))
    for package in wanted.packages:
        assert re.search(rf"^{re.escape(package)}\b", pinned, re.MULTILINE), package
    assert wanted.summary
    assert all(re.fullmatch(r"3\.\d+", version) for version in wanted.python)


def test_the_onnx_environment_holds_no_tensorflow() -> None:
    pinned = "".join(file.read_text() for file in environment.pins("onnx2tf"))
    assert not re.search(r"^(tensorflow|keras|tf[-_]keras|torch)\b", pinned, re.MULTILINE)


def test_uv_is_there() -> None:
    assert installer.uv() is not None or shutil.which("uv"), "pip install uv"


@pytest.mark.processes
def test_only_environments_of_other_pins_are_pruned(tiny: Path, tmp_path: Path) -> None:
    """What today's pins ask for stays, and so does what is not an environment."""
    python = environment.ready("tiny", log=tmp_path / "log.txt")
    place = environment.folder("tiny").parent
    old = place / "tiny-0123456789abcdef"
    old.mkdir()
    (old / "file").write_bytes(b"x" * 1000)
    assert environment.prune() == (1, 1000)
    assert not old.exists()
    assert value(python) == "7"
    assert environment.prune() == (0, 0)
