"""What commands about devices print: verdicts first, simulated where it is, and no board's text read as markup."""

from __future__ import annotations

import dataclasses
from io import StringIO

import pytest
from rich.console import Console

from edgeship.measurement import BenchRecord, Golden
from edgeship.report.device_terminal import DeviceTerminal
from edgeship.run_devices import Deployed, DeviceCheck, DeviceRow, FoundDevice, LabMachine, Mismatch
from tests import sample_bench

HOSTILE = "[bold red]x[/] [/] \x1b[2J\x07\nnext\\"
RECORDS = [pytest.param(record, id=record.device) for record in sample_bench.every()]


class Screen:
    """A terminal that keeps what was printed."""

    def __init__(self, width: int = 120) -> None:
        self.written = StringIO()
        console = Console(file=self.written, width=width, highlight=False, soft_wrap=True, force_terminal=False)
        self.terminal = DeviceTerminal(console)

    @property
    def text(self) -> str:
        return self.written.getvalue()


@pytest.mark.parametrize("record", RECORDS)
def test_a_bench_tells_everything_that_makes_it_good_or_bad(record: BenchRecord) -> None:
    screen = Screen()
    screen.terminal.bench(record)
    first = screen.text.splitlines()[0]

    wanted = "WRONG OUTPUTS" if not record.golden.passed else "MEASURED" if record.valid else "NOT VALID"
    assert wanted in first and record.device in first
    assert ("simulated" in screen.text) == record.simulated
    assert all(told in screen.text for told in (*record.reasons, *record.doubts, *record.conditions.unmodelled))
    assert record.runtime.name in screen.text and "golden" in screen.text


def test_a_calm_bench_in_full() -> None:
    screen = Screen()
    screen.terminal.bench(sample_bench.record())

    assert "p50 31.395 ms, 95 % interval 31.373 to 31.417 ms" in screen.text
    assert "initialization 4.71 ms, first inference 38 ms" in screen.text
    assert "peak 21.6 MiB, 3.9 MiB of it the model's (VmHWM, RssAnon and Pss of /proc/self)" in screen.text
    assert "passed on 16 inputs, largest error 0.003906, 1 step\n" in screen.text
    assert "temperature: 52.1 to 60.4 °C" in screen.text and "governor: performance" in screen.text


def test_what_is_not_known_is_said() -> None:
    screen = Screen()
    screen.terminal.bench(sample_bench.counted())
    screen.terminal.bench(sample_bench.aggregates())

    assert "p99 needs 662 samples" in screen.text
    assert "not told: temperature, clock, governor, throttling" in screen.text
    assert "p50 3.201 ms, no interval" in screen.text and "p90 not told" in screen.text


def test_batches_give_examples_a_second() -> None:
    made = sample_bench.record()
    screen = Screen()
    screen.terminal.bench(dataclasses.replace(made, conditions=dataclasses.replace(made.conditions, batch=4)))

    assert "127.4 examples a second in batches of 4" in screen.text


@pytest.mark.parametrize("width", [80, 120])
def test_devices_side_by_side_keep_their_names_and_numbers(width: int) -> None:
    screen = Screen(width)
    screen.terminal.benches(sample_bench.every())
    lines = screen.text.splitlines()

    for record, line in zip(sample_bench.every(), lines[1:], strict=False):
        assert record.device in line
        assert ("simulated" in line) == record.simulated
        assert f"{'passed' if record.golden.passed else 'failed'}" in line
        assert ("not valid" in line) == (not record.valid)
    assert "31.373 to 31.417" in lines[1]
    assert "cellar: golden check failed" in screen.text and "attic: throttled: the soft" in screen.text


def test_the_inventory_and_an_empty_one() -> None:
    screen = Screen()
    screen.terminal.devices([DeviceRow("kitchen", "rpi4", "ssh", "pi@10.0.0.7", ("lab", "desk"))])
    screen.terminal.devices([])

    assert "kitchen" in screen.text and "pi@10.0.0.7" in screen.text and "lab, desk" in screen.text
    assert "edgeship devices add" in screen.text


def test_a_check_names_each_mismatch() -> None:
    screen = Screen()
    wrong = DeviceCheck("kitchen", "rpi4", True, sample_bench.board(abi="armhf"), (Mismatch("ABI", "arm64", "armhf"),), ("old kernel",))  # fmt: skip
    screen.terminal.device_check(wrong)
    screen.terminal.device_check(DeviceCheck("kitchen", "rpi4", True, sample_bench.board(), ()))
    screen.terminal.device_check(DeviceCheck("attic", "rpi5", False, None, (), ("nothing answers at its address",)))

    assert "✗ kitchen differs from rpi4\n  ABI: expected arm64, found armhf\n  note: old kernel" in screen.text
    assert "✓ kitchen is a rpi4\n" in screen.text
    assert "✗ attic unreachable\n  note: nothing answers at its address" in screen.text


def test_a_scan_a_lab_and_a_deployment() -> None:
    screen = Screen()
    screen.terminal.scan([FoundDevice("9B13", "adb", "usb:1-2", "unauthorized", "phone")])
    screen.terminal.scan([])
    screen.terminal.lab([LabMachine("rpi4", "running", 17, 2222, None, True, "ssh -p 2222 edge@127.0.0.1")])
    screen.terminal.lab([])
    screen.terminal.deployed(Deployed("kitchen", "/opt/model", "3", "ab" * 32, "2", Golden(16, 0.0, 0, True)))

    for words in (
        "unauthorized", "nothing found", "rpi4 running, process 17, instructions counted, ssh port 2222",
        "ssh -p 2222 edge@127.0.0.1", "edgeship lab up", "DEPLOYED  kitchen: /opt/model", "passed on 16 inputs, largest error 0, 0 steps",
    ):  # fmt: skip
        assert words in screen.text


def test_one_of_several_that_failed_says_why_and_what_next() -> None:
    screen = Screen()
    screen.terminal.failed("attic", "attic: nothing answers", "is it on?")
    screen.terminal.failed("cellar", "no space left", None)

    assert screen.text == "✗ attic: nothing answers\n  is it on?\n✗ cellar: no space left\n"


def test_a_tool_without_a_median_has_its_mean_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    screen = DeviceTerminal()
    screen.bench(sample_bench.mean_only())
    screen.benches([sample_bench.mean_only()])
    text = capsys.readouterr().out

    assert "mean 1.929 ms, no interval" in text and "p50" not in text.splitlines()[1]
    assert "varying by not told" in text and "mean 1.929 ms" in text.splitlines()[-1]


def test_hostile_text_is_shown_and_moves_nothing() -> None:
    made = sample_bench.throttled()
    board = sample_bench.board(model=HOSTILE, system=HOSTILE)
    screen = Screen()
    hostile = dataclasses.replace(
        made, device=HOSTILE, target=HOSTILE, doubts=(HOSTILE,), reasons=(HOSTILE,), golden=Golden(1, 0.0, None, False, HOSTILE)
    )  # fmt: skip
    screen.terminal.bench(hostile)
    screen.terminal.benches([hostile])
    screen.terminal.devices([DeviceRow(HOSTILE, HOSTILE, HOSTILE, HOSTILE, (HOSTILE,))])
    screen.terminal.device_check(DeviceCheck(HOSTILE, HOSTILE, True, board, (Mismatch(HOSTILE, HOSTILE, HOSTILE),), (HOSTILE,)))  # fmt: skip
    screen.terminal.scan([FoundDevice(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)])
    screen.terminal.lab([LabMachine(HOSTILE, HOSTILE, ssh_command=HOSTILE)])
    screen.terminal.failed(HOSTILE, HOSTILE, HOSTILE)
    screen.terminal.deployed(Deployed(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, None))

    assert "\x1b" not in screen.text and "\x07" not in screen.text
    assert screen.text.count("[bold red]x[/] [/]") > 15
