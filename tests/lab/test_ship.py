"""The commands about devices, as a user types them, with a real board behind sshd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship import digest
from tests.conftest import Answer, CommandLine
from tests.lab.drawer import Drawer, drawer
from tests.tiny_tflite import separable

QUICK = ("--runs", "16", "--min-seconds", "0.2", "--warmup-seconds", "0.1")


@pytest.fixture(scope="module")
def lab() -> Iterator[Drawer]:
    """Return a drawer with one board."""
    with drawer() as made:
        yield made


@pytest.fixture
def run(lab: Drawer, session_store: Path, tmp_path: Path) -> CommandLine:
    """Return the command line of a user whose drawer this is."""
    return CommandLine(session_store, tmp_path, lab.variables)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a small model's file."""
    return separable().write(tmp_path / "tiny.tflite")


def test_ship_builds_and_measures_on_one_page(run: CommandLine, digits_build: tuple[Answer, Path]) -> None:
    """One command: the build's object and the bench's, one page with both, the samples beside it."""
    answer = run("ship", "--target", "linux-x86_64", "--device", "board-1", "--out", "out", *QUICK, "--json")
    assert answer.code == 0, answer.stderr
    made = answer.table
    assert made["build"]["quality"]["passed"]
    bench = made["bench"]
    assert (bench["device"], bench["transport"], bench["simulated"]) == ("board-1", "ssh", False)
    assert bench["artifact_sha256"] == made["build"]["sha256"]
    assert bench["golden"]["passed"] and bench["golden"]["checked"] == 8
    assert bench["latency_ms"]["runs"] == len(bench["samples_ms"]) >= 16
    assert bench["memory"]["peak_rss_mib"] > 5 and bench["operators"]
    assert bench["runtime"] == {"name": "ai-edge-litert", "version": "2.3.0", "delegate": "XNNPACK"}
    page = (run.cwd / "out" / "report.html").read_text()
    assert "board-1" in page and "golden check passed" in page
    assert json.loads((run.cwd / "out" / "bench-board-1.json").read_text())["samples_ms"] == bench["samples_ms"]


def test_quality_on_the_device(run: CommandLine, int8_digits: Path) -> None:
    """With --data, the metric there stands against the metric here."""
    data = Path(__file__).parent.parent.parent / "models" / "digits" / "data.npz"
    answer = run("bench", int8_digits.parent, "--device", "board-1", "--data", data, *QUICK, "--json")
    assert answer.code == 0, answer.stderr
    quality = answer.table["quality"]
    assert (quality["metric"], quality["drop"], quality["examples"]) == ("top1", 0, 400)
    assert quality["got"] > 0.9


def test_deploy_rollback_and_what_an_app_reads(run: CommandLine, lab: Drawer, model: Path, tmp_path: Path) -> None:
    """A version, another, the first again; the same twice is nothing to do; a folder of the user's is left alone."""
    other = separable(seed=3).write(tmp_path / "other.tflite")
    place = ("--device", "board-1", "--to", "app/model", "--json")
    first, second = run("deploy", model, *place), run("deploy", other, *place)
    assert (first.code, second.code) == (0, 0), first.stderr + second.stderr
    read = lab.boards[0].home / "app" / "model" / "model.tflite"
    assert digest.of_file(read) == digest.of_file(other) == second.table["artifact_sha256"]
    assert second.table["previous"] == first.table["version"]
    assert run("deploy", other, *place).code == 3
    assert run("rollback", *place).table["artifact_sha256"] == digest.of_file(model) == digest.of_file(read)
    assert run("rollback", *place).code == 3
    (lab.boards[0].home / "mine").mkdir()
    refused = run("deploy", model, "--device", "board-1", "--to", "mine")
    assert refused.code == 2 and "edgeship did not make it" in refused.message


@pytest.mark.usefixtures("adb_server")  # scan asks adb, which starts a server: one that ends with the test
def test_check_list_scan_clean(run: CommandLine, lab: Drawer, model: Path) -> None:
    """The board is asked what it is; what is nearby is found; the cache there can be emptied."""
    lab.desk.config.write_text("Host shelf-pi\n  HostName 127.0.0.1\n")
    assert {row["name"] for row in run("devices", "list", "--json").table["devices"]} == {"local", "board-1"}
    (check,) = run("devices", "check", "board-1", "--json").table["checks"]
    assert check["reachable"] and check["mismatches"] == [] and check["board"]["cores"]
    assert "shelf-pi" in [one["address"] for one in run("devices", "scan", "--json").table["found"]]
    assert run("bench", model, "--device", "board-1", *QUICK).code == 0
    assert run("devices", "clean", "board-1", "--json").table["freed_mib"] > 10
    assert list((lab.boards[0].home / ".edgeship").glob("*/*")) == []


def test_a_wrong_target_is_seen(run: CommandLine, lab: Drawer) -> None:
    """check names what differs, and exits 6."""
    lab.change(lab.boards[0], target="rpi4")
    try:
        answer = run("devices", "check", "board-1", "--json")
    finally:
        lab.change(lab.boards[0], target="linux-x86_64")
    assert answer.code == 6
    assert {"architecture", "ABI"} <= {one["what"] for one in answer.table["checks"][0]["mismatches"]}


def test_refusals_name_the_next_move(run: CommandLine, lab: Drawer, model: Path, tmp_path: Path) -> None:
    """An unknown device, a missing artifact, a board that is off."""
    unknown = run("bench", model, "--device", "board-11")
    assert unknown.code == 2 and "board-1" in unknown.message
    assert run("bench", tmp_path / "none.tflite", "--device", "board-1").code == 2
    lab.change(lab.boards[0], port=9)
    try:
        off = run("bench", model, "--device", "board-1", "--json")
    finally:
        lab.change(lab.boards[0], port=lab.boards[0].port)
    assert off.code == 6 and off.table["error"]["hint"]


def test_several_devices_in_one_call(run: CommandLine, model: Path, tmp_path: Path) -> None:
    """One that works and one that does not: the first's figures, the second's error, the error's code, one page."""
    lines = ("devices", "add", "gone", "nobody@127.0.0.1", "--target", "linux-x86_64", "--port", "9")
    assert run(*lines).code == 0
    try:
        answer = run(
            "bench",
            model,
            "--device",
            "board-1",
            "--device",
            "gone",
            *QUICK,
            "--json",
            "--html",
            tmp_path / "page.html",
        )
    finally:
        assert run("devices", "remove", "gone").code == 0
    assert answer.code == 6
    made, failed = answer.table["benches"]
    assert made["golden"]["passed"] and failed["error"]["fault"] == "unreachable"
    assert "gone" in (tmp_path / "page.html").read_text()
