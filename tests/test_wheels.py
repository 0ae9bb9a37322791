"""Which release a board takes is decided by what its wheels really need; archives are whole or not there."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from edgeship import installer, runtime_release, target, wheels
from edgeship.command import Called
from edgeship.runtime_release import Refusal
from edgeship.target import Runtime
from edgeship.wheels import Wheels

LITERT = Runtime(name="ai-edge-litert", version="2.3.0", source="a test of ours")
TFLITE = Runtime(name="tflite-runtime", version="2.14.0", source="a test of ours")


def chosen(*runtimes: Runtime, machine: str = "aarch64", python: str | None = "3.11", libc: str | None = "2.36") -> str:
    """Return the release that a board takes, or the reason why none."""
    found = wheels.choose(runtimes, architecture=machine, python=python, libc=libc)
    return found.reason if isinstance(found, Refusal) else f"{found.package} {found.version}"


@pytest.mark.parametrize(
    ("machine", "python", "libc", "expected"),
    [
        ("aarch64", "3.13.5", "glibc 2.41", "ai-edge-litert 2.3.0"),
        ("aarch64", "3.11.2", "glibc 2.36", "ai-edge-litert 2.3.0"),
        ("aarch64", "3.10", "2.31", "ai-edge-litert 1.4.0"),  # its libraries ask for glibc 2.34, whatever the tag says
        ("x86_64", "3.10", "2.31", "ai-edge-litert 2.3.0"),
        ("aarch64", "3.9.2", "glibc 2.31", "ai-edge-litert 1.4.0"),
        ("aarch64", "3.8.10", "glibc 2.31", "tflite-runtime 2.14.0"),
        ("armv7l", "3.11.2", "glibc 2.36", "tflite-runtime 2.14.0"),
        ("armv7l", "3.9.2", "glibc 2.31", "tflite-runtime 2.14.0"),
    ],
)
def test_the_newest_release_that_fits(machine: str, python: str, libc: str, expected: str) -> None:
    assert chosen(machine=machine, python=python, libc=libc) == expected


def test_the_targets_own_release_comes_first() -> None:
    assert chosen(TFLITE) == "tflite-runtime 2.14.0"
    assert chosen(LITERT, python="3.9") == "ai-edge-litert 1.4.0"  # its own does not fit: the newest that does
    assert (
        chosen(Runtime(name="benchmark_model", version=None, source="a test of ours"), LITERT) == "ai-edge-litert 2.3.0"
    )


@pytest.mark.parametrize(
    ("machine", "python", "libc", "words"),
    [
        ("aarch64", "3.7.3", "2.28", ["aarch64, Python 3.7.3, glibc 2.28", "needs Python 3.10 to 3.14", "tflite-runtime 2.14.0"]),
        ("aarch64", "3.15", "2.43", ["ai-edge-litert 2.3.0 needs Python 3.10 to 3.14"]),
        ("armv7l", "3.13", "2.41", ["ai-edge-litert 2.3.0 has no wheels for armv7l", "needs Python 3.8 to 3.11"]),
        ("armv6l", "3.11", "2.36", ["no wheels for armv6l"]),
        ("aarch64", "3.11", "2.17", ["ai-edge-litert 2.3.0 needs glibc 2.35"]),
        ("x86_64", "3.12", "musl 1.2.4", ["musl 1.2.4", "glibc"]),
        ("aarch64", "3.11", None, ["not known"]),
        ("aarch64", None, "2.36", ["no Python"]),
    ],
)  # fmt: skip
def test_a_refusal_names_what_does_not_fit(
    machine: str, python: str | None, libc: str | None, words: list[str]
) -> None:
    reason = chosen(machine=machine, python=python, libc=libc)
    assert all(word in reason for word in words), reason


def test_a_delegate_takes_its_own_release_only() -> None:
    for name in ("coral-usb", "coral-dev-board"):
        reason = chosen(*target.read(name).runtimes)
        assert "2.5.0.post1" in reason and "libedgetpu" in reason


def test_every_target_that_pins_a_release_gets_it() -> None:
    """A target's Python runtime without a delegate is one that edgeship can bring to a board."""
    for kind in target.read_all():
        for runtime in kind.runtimes:
            if runtime.name != "benchmark_model" and not runtime.delegate:
                found = wheels.choose(
                    kind.runtimes, architecture=kind.platform.architecture, python="3.11", libc="glibc 2.36"
                )
                assert isinstance(found, Wheels), kind.name
                assert (found.package, found.version) == (runtime.name, runtime.version)


def test_where_numpy_has_no_wheels_the_board_brings_it() -> None:
    found = wheels.choose((TFLITE,), architecture="armv7l", python="3.11", libc="2.36")
    assert isinstance(found, Wheels)
    assert found.numpy is None and found.board_numpy == "apt-get install python3-numpy"
    assert found.requirements == ("tflite-runtime==2.14.0",)
    old = wheels.choose((TFLITE,), architecture="aarch64", python="3.11", libc="2.36")
    assert isinstance(old, Wheels) and old.numpy is not None and old.numpy.startswith("1.")  # it does not import with 2


def test_every_release_reads_and_stands_in_order() -> None:
    titles = [release.title for release in runtime_release.read_all()]
    assert titles == ["ai-edge-litert 2.3.0", "ai-edge-litert 1.4.0", "tflite-runtime 2.14.0"]
    for release in runtime_release.read_all():
        assert set(release.wheels.tag) == set(release.wheels.needs), release.title


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("ai_edge_litert/interpreter.py", True),
        ("ai_edge_litert/libLiteRt.so", True),  # the profiler is in it
        ("ai_edge_litert/libLiteRtWebGpuAccelerator.so", False),
        ("ai_edge_litert/aot/core/types.py", False),
        ("ai_edge_litert-2.3.0.dist-info/METADATA", True),
        ("ai_edge_litert-2.3.0.dist-info/RECORD", False),
        ("numpy/_core/_multiarray_umath.cpython-311-aarch64-linux-gnu.so", True),
        ("numpy.libs/libscipy_openblas64_-ff651d7f.so", True),
        ("numpy/lib/tests/test_io.py", False),
        ("numpy/__init__.pyi", False),
        ("tqdm/std.py", False),
    ],
)
def test_what_a_board_gets(name: str, wanted: bool) -> None:
    release = runtime_release.find("ai-edge-litert", "2.3.0")
    assert release is not None
    assert wheels._wanted(name, (*release.wheels.keep, *wheels._KEEP)) is wanted


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    archives = []
    for number, order in enumerate((("b", "a"), ("a", "b"))):
        tree = tmp_path / f"tree{number}"
        tree.mkdir()
        for name in order:
            (tree / name).write_text(name)
        (tree / "a").chmod(0o700 if number else 0o755)
        archive = tmp_path / f"{number}.tar.gz"
        wheels._pack(tree, wheels._files(tree), archive)
        archives.append(archive.read_bytes())
    assert archives[0] == archives[1]
    with tarfile.open(tmp_path / "0.tar.gz") as packed:
        assert [(member.name, member.mtime, member.mode) for member in packed] == [("a", 0, 0o755), ("b", 0, 0o644)]


def test_a_damaged_archive_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "runtime.tar.gz"
    assert wheels._packed(path) is None
    path.write_bytes(b"content")
    assert wheels._packed(path) is None  # killed before its note was written
    wheels._note(path).write_text("ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73")
    found = wheels._packed(path)
    assert found is not None and found.size_bytes == 7
    path.write_bytes(b"c0ntent")
    assert wheels._packed(path) is None


def test_what_installers_say_is_made_one_line() -> None:
    """What uv 0.13.9 and pip 26.3 printed on a machine without a network."""
    uv = "error: Request failed after 3 retries in 6.4s\n  cause: Failed to fetch: x\n  cause: dns error\n  cause: no such name\n"
    assert installer.complaint(Called(2, "", uv)) == "Request failed after 3 retries in 6.4s: no such name"
    pip = (
        "WARNING: Retrying\nERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)\n"
        "ERROR: No matching distribution found for a==1\n"
    )
    assert installer.complaint(Called(1, "", pip)).startswith("Could not find a version that satisfies")
    assert installer.complaint(Called(1, "what\n", "")) == "what"
