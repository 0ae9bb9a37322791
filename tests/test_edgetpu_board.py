"""Edge TPUs on boards, as far as they need none: found in a made-up sysfs, named as mismatches, asked for, and their faults in words."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import board_facts, drawer, edgetpu_delegate, resources, target
from edgeship.board import runner
from edgeship.measurement import Board, EdgeTpu
from edgeship.runtimes import benchmark_model

USB, PCIE = "coral-usb", "coral-dev-board"


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def usb(number: int, vendor: str, product: str) -> dict[str, str]:
    """Return what sysfs holds of one USB device."""
    folder = f"sys/bus/usb/devices/1-{number}"
    told = {"idVendor": vendor, "idProduct": product, "busnum": "1", "devnum": str(number)}
    return {f"{folder}/{name}": f"{text}\n" for name, text in told.items()}


def asked(root: Path) -> Board:
    """Return the board that the script tells of, its trees in a folder."""
    script = resources.board("facts.sh").read_text()
    head = f"folder={root} python=false sys={root}/sys dev={root}/dev usr={root}/usr\n"
    environment = {**os.environ, "PATH": f"{root}/bin:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", head + script], capture_output=True, text=True, env=environment, check=False)
    assert done.stderr == ""
    return board_facts.read(done.stdout.splitlines())


@pytest.mark.processes
@pytest.mark.parametrize("product", [("1a6e", "089a"), ("18d1", "9302")], ids=["new", "opened before"])
def test_a_usb_accelerator_is_found_before_and_after_its_first_use(tmp_path: Path, product: tuple[str, str]) -> None:
    plant(tmp_path, {**usb(2, "0bda", "8153"), **usb(7, *product), "dev/bus/usb/001/007": ""})
    plant(tmp_path, {"sys/bus/usb/devices/1-0:1.0/bInterfaceClass": "09"})  # an interface has no ids
    assert asked(tmp_path).edgetpus == (EdgeTpu("usb", ":".join(product), True),)


@pytest.mark.processes
def test_one_on_pcie_whose_node_is_not_there(tmp_path: Path) -> None:
    plant(tmp_path, {"sys/class/apex/apex_0/temp": "41300\n", "sys/class/apex/apex_1/temp": "42\n", "dev/apex_1": ""})
    assert asked(tmp_path).edgetpus == (EdgeTpu("pcie", "apex_0", False), EdgeTpu("pcie", "apex_1", True))


@pytest.mark.processes
@pytest.mark.parametrize(
    ("answer", "version"),
    [("printf 'ii 16.0\\n'", "16.0"), ("printf 'un \\nii 15.0-1\\n'", "15.0-1"), ("exit 1", "")],
)
def test_the_library_and_its_version(tmp_path: Path, answer: str, version: str) -> None:
    plant(tmp_path, {"usr/lib/aarch64-linux-gnu/libedgetpu.so.1": "", "bin/dpkg-query": f"#!/bin/sh\n{answer}\n"})
    (tmp_path / "bin" / "dpkg-query").chmod(0o755)
    assert asked(tmp_path).libedgetpu == version


@pytest.mark.processes
def test_a_board_without_any_of_it(tmp_path: Path) -> None:
    board = asked(tmp_path)
    assert (board.edgetpus, board.libedgetpu) == ((), None)


@pytest.fixture
def board() -> Board:
    """Return a board with everything that a Coral USB Accelerator needs."""
    told = board_facts.read(["architecture=x86_64", "libedgetpu=16.0", "edgetpu=usb 18d1:9302 yes"])
    return replace(told, runtimes={"tflite-runtime": "2.5.0.post1", "numpy": "1.26.4"})


def named(board: Board, kind: str) -> dict[str, tuple[str, str]]:
    return {one.what: (one.expected, one.found) for one in drawer.mismatches(board, target.read(kind))}


def test_a_whole_coral_has_no_mismatch(board: Board) -> None:
    assert named(board, USB) == {}


def test_each_thing_that_a_coral_lacks_is_named(board: Board) -> None:
    bare = replace(board, edgetpus=(), libedgetpu=None)
    assert named(bare, USB)["Edge TPU"][1] == "none found"
    assert named(bare, USB)["library"] == ("libedgetpu 16.0", "not installed")
    locked = replace(board, edgetpus=(EdgeTpu("usb", "1a6e:089a", False),))
    assert "plugdev" in named(locked, USB)["Edge TPU"][1]
    other = replace(board, edgetpus=(EdgeTpu("pcie", "apex_0", True),))
    assert named(other, USB)["Edge TPU"][1] == "one on PCIe"
    assert named(board, PCIE)["Edge TPU"] == ("on PCIe (/dev/apex_0)", "one on USB")
    assert named(replace(board, libedgetpu="15.0"), USB) == {"library": ("libedgetpu 16.0", "15.0")}
    assert named(replace(board, libedgetpu="16.0-1"), USB) == {}
    assert named(replace(board, libedgetpu=""), USB) == {}  # built by hand: nobody can say
    assert "Edge TPU" not in named(bare, "linux-x86_64")


def test_the_pair_that_crashes_is_refused_before_it_runs() -> None:
    wanted = target.read(USB).runtimes[0]

    def refusal(version: str, library: str | None = "16.0", name: str = "tflite-runtime") -> str | None:
        found = edgetpu_delegate.pair_refusal(wanted, name=name, version=version, library=library)
        return found.reason if found else None

    assert "segmentation fault" in (refusal("2.14.0") or "")
    assert refusal("2.14.0", None) is not None  # the target's own library is meant
    assert refusal("2.12.0") is not None
    assert refusal("2.11.1") is None
    assert refusal("2.5.0.post1") is None
    assert refusal("2.17.0", "16.0tf2.17.1-1.ubuntu22.04") is None  # rebuilt for newer ones
    assert refusal("2.3.0", name="ai-edge-litert") is None
    assert edgetpu_delegate.pair_refusal(target.read("rpi4").runtimes[0], name="x", version="9", library="16.0") is None


@pytest.mark.parametrize(
    ("said", "fault", "word"),
    [
        ("libedgetpu.so.1: cannot open shared object file: No such file or directory", "missing", "libedgetpu1-std"),
        ("Failed to load delegate from libedgetpu.so.1", "missing", "plugdev"),
        (
            "Failed to prepare for TPU. Failed precondition: Package requires runtime version (14), which is newer than this "
            "runtime version (13).Node number 2 (EdgeTpuDelegateForCustomOp) failed to prepare.",
            "mismatch",
            "delegate_runtime",
        ),
        (
            "Internal: Unsupported data type in custom op handler: 0Node number 1 (EdgeTpuDelegateForCustomOp) failed to prepare.",
            "mismatch",
            "pair",
        ),
        ("Encountered unresolved custom op: edgetpu-custom-op.Node number 0 failed to prepare.", "mismatch", "pair"),
        ("exit 139", "mismatch", "pair"),
    ],
)
def test_each_known_failure_has_its_next_move(said: str, fault: str, word: str) -> None:
    known = edgetpu_delegate.explained(said)
    assert known is not None
    assert (known.fault, word in known.move) == (fault, True)


def test_words_that_nobody_has_seen_are_not_explained() -> None:
    assert edgetpu_delegate.explained("exit 1", "out of cheese") is None


@pytest.mark.parametrize(("kind", "device"), [(USB, "usb"), (PCIE, "pci")])
def test_the_library_is_asked_for_in_both_spellings(kind: str, device: str) -> None:
    runtime = target.read(kind).runtimes[0]
    wanted = edgetpu_delegate.asked(runtime)
    assert wanted is not None
    assert wanted.request() == {"library": "libedgetpu.so.1", "options": {"device": device}}
    flags = ("--external_delegate_path=libedgetpu.so.1", f"--external_delegate_options=device:{device}")
    assert wanted.flags() == flags
    assert benchmark_model._delegate(runtime.delegate, wanted) == (flags, "EXTERNAL")
    assert edgetpu_delegate.asked(target.read("rpi4").runtimes[0]) is None


def test_the_chips_temperature_is_one_of_the_boards(tmp_path: Path) -> None:
    plant(tmp_path, {
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n", "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/class/apex/apex_0/temp": "41300\n", "sys/class/apex/apex_1/temp": "\n",
    })  # fmt: skip
    found = runner.Watch(str(tmp_path / "sys"), str(tmp_path / "proc"), []).snapshot()
    assert found["temperature_c"] == {"cpu-thermal": 48.312, "apex_0": 41.3}
