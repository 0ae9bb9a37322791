"""Nights on this very machine, as a user runs them: what changes from night to night, and what they answer."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgeship import attempt, history, nightly, nightly_outcome, nightly_plan, resources, target
from edgeship import suite as suites
from edgeship.nightly_record import NightRecord
from edgeship.progress import Listener, Progress
from tests.conftest import Answer, CommandLine
from tests.tiny_tflite import separable

SUITE = """
name = "here"
models = ["model.tflite"]
recipes = ["float32"]
devices = ["{devices}"]
repeats = 1
retries = 0
lease = "2s"
{more}
[gates]
latency = false
memory = false
[bench]
runs = 16
min_seconds = 0.05
warmup_seconds = 0.02
shared_machine = true
{tables}
"""
LARGER = resources.data("reference") / "model.tflite"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a small model and a suite."""
    separable().write(tmp_path / "model.tflite")
    suite(tmp_path)
    return tmp_path


def suite(folder: Path, more: str = "", tables: str = "", devices: str = "local") -> None:
    """Write the suite."""
    (folder / "suite.toml").write_text(SUITE.format(more=more, tables=tables, devices=devices))


def own_device(folder: Path) -> None:
    """Write an inventory with a device that no other test waits for: this machine, under a lease of its own."""
    entry = f'[own]\ntarget = "linux-x86_64"\ntransport = "local"\nlease = "{folder.name}"\n'
    (folder / "devices.toml").write_text(entry)


def night(run: CommandLine, *more: str) -> Answer:
    """Do a night, which takes long where other tests use the same cores."""
    process = run.start("nightly", "suite.toml", "--history", "history.sqlite", "--json", *more)
    try:
        stdout, stderr = process.communicate(timeout=900)
    finally:
        process.kill()
    return Answer(process.returncode, stdout, stderr)


def decisions(answer: Answer) -> dict[str, str]:
    """Return what was decided of each metric."""
    return {one["metric"]: one["decision"] for one in answer.table["verdicts"]}


def test_a_larger_artifact_is_told_until_it_is_accepted(cli: CommandLine, folder: Path) -> None:
    """The baseline runs beside it; the report fails; afterwards it is the new level."""
    first = night(cli)
    assert (first.code, decisions(first)) == (0, {"size": "cannot-tell", "quality": "cannot-tell"})
    assert (night(cli).code, decisions(night(cli))["size"]) == (0, "same")
    shutil.copyfile(LARGER, folder / "model.tflite")
    larger = night(cli, "--junit", "junit.xml", "--markdown", "summary.md")
    assert (larger.code, larger.table["exit"], decisions(larger)["size"]) == (7, 7, "slower")
    (size,) = [one for one in larger.table["verdicts"] if one["metric"] == "size"]
    assert size["effect"] > 10 and size["baseline_sha256"] != size["artifact_sha256"]
    assert ElementTree.parse(folder / "junit.xml").getroot().find(".//failure") is not None
    assert "regression" in (folder / "summary.md").read_text()
    with history.open(str(folder / "history.sqlite")) as kept:
        roles = [run.role for run in kept.night(larger.table["night"]).runs]
        assert roles == ["reference", "new", "old"] or roles == ["reference", "old", "new"]
        (case,) = kept.cases()
        kept.accept(case, size["artifact_sha256"])
    assert night(cli).code == 0


def test_budgets_and_models_that_are_missing(cli: CommandLine, folder: Path) -> None:
    """A limit that is missed is a negative verdict; a model that is not there is its own cases' fault; the verdict wins."""
    suite(folder, tables="[[budget]]\nsize_bytes = 10\n[[budget]]\nlatency_ms = 100000")
    missed = night(cli)
    told = decisions(missed)
    assert (missed.code, told["size budget"], told["latency budget"]) == (7, "slower", "same")

    suite(folder)
    text = (folder / "suite.toml").read_text().replace('["model.tflite"]', '["model.tflite", "gone.onnx"]')
    (folder / "suite.toml").write_text(text)
    lost = night(cli)
    assert lost.code == 2
    (fault,) = lost.table["faults"]
    assert (fault["model"], fault["cause"], fault["exit_code"]) == ("gone", "mistake", 2)
    assert {one["model"] for one in lost.table["verdicts"]} == {"model"}


def test_an_interrupted_night_leaves_its_report_and_goes_on(cli: CommandLine, folder: Path) -> None:
    """Ctrl-C is exit 130; what was kept stays, and --resume does only the rest."""
    suite(folder, more='tags = ["ci"]')
    text = (folder / "suite.toml").read_text()
    text = text.replace('["float32"]', '["float32", "float16"]').replace("min_seconds = 0.05", "min_seconds = 2")
    (folder / "suite.toml").write_text(text)
    process = cli.start("nightly", "suite.toml", "--history", "history.sqlite", "--json", "--junit", "junit.xml")
    before = _runs(folder, at_least=2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert (folder / "junit.xml").exists()
    done = night(cli, "--resume")
    assert done.code == 0, done.stderr
    with history.open(str(folder / "history.sqlite")) as kept:
        made = kept.night(done.table["night"])
    assert before <= {run.id for run in made.runs} and len(made.runs) == 4 and made.options["tags"] == ["ci"]


def test_a_night_that_measured_another_artifact_is_not_gone_on_with(cli: CommandLine, folder: Path) -> None:
    """It is ended, and a new one measures tonight's."""
    done = night(cli)
    with history.open(str(folder / "history.sqlite")) as kept:
        first = kept.night(done.table["night"])
        (run,) = [each for each in first.runs if each.role == "new"]
        now = datetime.now(UTC).isoformat()
        kept.begin(NightRecord("old", "here", now, None, first.cases, options=first.options))
        kept.keep(replace(run, id="old/new/0", night="old", artifact_sha256="0" * 64))
    again = night(cli, "--resume")
    assert again.code == 0 and again.table["night"] not in ("old", first.id)
    with history.open(str(folder / "history.sqlite")) as kept:
        assert kept.night("old").ended is not None
        assert {each.artifact_sha256 for each in kept.night(again.table["night"]).runs} == {
            each.artifact_sha256 for each in first.runs
        }


def test_a_device_that_somebody_measures_on_is_waited_for_only_so_long(cli: CommandLine, folder: Path) -> None:
    """The board's own lease is held, by one who keeps no history: it is told who, also where the night's time was up first."""
    own_device(folder)
    suite(folder, more='wait = "1s"\ntime_limit = "3m"', devices="own")
    device = nightly_plan.plan(suites.read(folder / "suite.toml"), folder / "devices.toml").devices[0]
    with attempt.leased(device, target.read(device.target)):
        waited = night(cli, "--devices", "devices.toml")
        suite(folder, more='wait = "30m"\ntime_limit = "20s"', devices="own")
        over = night(cli, "--devices", "devices.toml")
    for answer, said in ((waited, "busy: held by"), (over, "20s were up")):
        (fault,) = answer.table["faults"]
        assert answer.code == 6 and said in fault["message"] and "held by" in fault["message"], fault


def test_a_lease_that_is_lost_is_no_fault_of_the_device(folder: Path) -> None:
    """What ran meanwhile is measured again, and nothing counts against the board."""
    own_device(folder)
    suite(folder, devices="own")
    stolen: list[str] = []

    def steal(progress: Progress) -> None:
        with contextlib.closing(sqlite3.connect(folder / "history.sqlite", timeout=30)) as database:
            taken = (
                "UPDATE leases SET token = token + 1, expires_s = 0 WHERE device_key LIKE 'lease:%' AND expires_s > 0"
            )
            if not stolen and database.execute(taken).rowcount:
                stolen.append(progress.stage)
            database.commit()

    plan = nightly_plan.plan(suites.read(folder / "suite.toml"), folder / "devices.toml")
    with history.open(str(folder / "history.sqlite")) as kept:
        done = nightly.run(plan, kept, Listener(on_progress=steal))
    assert stolen and not done.health and nightly_outcome.exit_code(done) == 0
    assert sorted(run.role for run in done.runs) == ["new", "reference"] and not any(run.fault for run in done.runs)


def test_the_plan_alone_needs_no_history(cli: CommandLine, folder: Path) -> None:
    """--dry-run lists the cases, and writes nothing."""
    answer = night(cli, "--dry-run")
    assert answer.code == 0 and answer.table["artifacts"] == ["model/linux-x86_64/float32"]
    assert not (folder / "history.sqlite").exists()
    shown = cli("nightly", "suite.toml", "--dry-run")
    assert "local" in shown.stdout and "model" in shown.stdout
    none = night(cli, "--only", "modle")
    assert none.code == 3 and "did you mean 'model'?" in none.table["error"]["message"]


def _runs(folder: Path, *, at_least: int) -> frozenset[str]:
    until = time.monotonic() + 900
    while time.monotonic() < until:
        time.sleep(0.3)
        if (folder / "history.sqlite").exists():
            with history.open(str(folder / "history.sqlite")) as kept:
                under_way = kept.unfinished("here")
            if under_way is not None and len(under_way.runs) >= at_least:
                return frozenset(run.id for run in under_way.runs)
    raise AssertionError("nothing was kept")
