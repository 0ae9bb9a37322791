"""The commands about the history, on nights of every kind: for people, as JSON, and what they refuse."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from edgeship import history, history_view
from edgeship.cli import app
from edgeship.nightly_record import Case
from edgeship.report.history_terminal import HistoryTerminal
from tests import sample_nights
from tests.sample_nights import Family

HOSTILE = "[red]mo\x1b[31mdel"
FAMILIES = (
    Family(Case("resnet8", "rpi4", "int8", "kitchen"), 31.2, 0.004, "slower"),
    Family(Case("mobilenetv2", "rpi4", "int8", "kitchen"), 84.0, 0.004, "accepted"),
    Family(Case("keywords", "rpi4", "int8", "cellar"), 2.1, 0.004, "lost"),
    Family(Case(HOSTILE, "rpi4", "int8", "attic"), 2.1, 0.004),
    Family(Case(HOSTILE, "rpi5", "int8", "attic"), 2.1, 0.004),
)
SLOWER = "resnet8/rpi4/int8@kitchen"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a history of a few nights."""
    place = tmp_path_factory.mktemp("history") / "nights.sqlite"
    with history.open(str(place)) as kept:
        sample_nights.write(kept, 9, FAMILIES)
    return place


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the terminal room."""
    monkeypatch.setenv("COLUMNS", "140")


def run(database: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["history", *arguments, "--history", str(database)])


def table(result: Result) -> dict[str, Any]:
    """Return the one JSON object on stdout."""
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_line_a_case(database: Path) -> None:
    """What got slower stands first; its last night is its highest bar; an accepted level is marked."""
    lines = run(database).stdout.splitlines()
    assert "5 cases, 9 nights" in lines[0]
    assert "resnet8" in lines[2] and "slower" in lines[2] and "▁▁▁▁▁▁▁▁█" in lines[2]
    accepted = next(line for line in lines if "mobilenetv2" in line)
    assert "████╎▁▁▁▁▁" in accepted
    lost = next(line for line in lines if "cellar" in line)
    assert "·" in lost and "1 fault" in lost
    assert lines[-1].strip() == f"what happened: edgeship history show {SLOWER}"


def test_hostile_names_are_shown_as_they_are(database: Path) -> None:
    """A name is no markup and moves no cursor; the target is told where nothing else tells cases apart."""
    shown = run(database).stdout
    assert "[red]mo" in shown and "\x1b" not in shown
    assert shown.count("for rpi4") == 1 and shown.count("for rpi5") == 1


def test_one_case_whole(database: Path) -> None:
    """The chart has every night once, then the verdicts, then the nights, the newest first."""
    shown = run(database, "show", SLOWER).stdout
    chart = [line for line in shown.splitlines() if "┤" in line]
    assert sum(line.count("●") for line in chart) == 9
    assert chart[0].rstrip().endswith("●")
    assert "latency slower slower than the baseline: +" in shown
    assert "size larger" in shown
    nights = [line.split()[0] for line in shown.splitlines() if line.strip().startswith("2026-10-2")]
    assert nights[-2:] and nights == sorted(nights, reverse=True)
    accepted = run(database, "show", "mobilenetv2").stdout
    assert "accepted" in accepted and "(level 1)" in accepted


def test_json_has_the_figures(database: Path) -> None:
    """What people see, scripts can read."""
    found = table(run(database, "resnet8", "--json", "-n", "3"))
    assert [case["case"] for case in found["cases"]] == [SLOWER]
    nights = found["cases"][0]["nights"]
    assert len(nights) == 3
    assert nights[-1]["decision"] == "slower" and nights[-1]["effect"] == pytest.approx(0.06, abs=0.02)
    assert len(nights[-1]["new"]) == len(nights[-1]["old"]) == 4
    whole = table(run(database, "show", SLOWER, "--json", "--metric", "size"))
    assert whole["unit"] == "bytes" and whole["findings"][0]["verdict"]["metric"] == "latency"
    night = table(run(database, "show", nights[-1]["night"], "--json"))
    assert night["night"] == nights[-1]["night"] and len(night["cases"]) == 5
    assert all("samples_ms" not in run for run in night["runs"])


def test_a_night_by_its_name(database: Path) -> None:
    """The same page that the night itself printed."""
    name = table(run(database, "--json"))["cases"][0]["nights"][-1]["night"]
    assert "REGRESSION" in run(database, "show", name).stdout


def test_accept_by_the_start_of_a_digest(tmp_path: Path) -> None:
    """The newest by default, an older one by its start; only what was measured."""
    place = tmp_path / "nights.sqlite"
    with history.open(str(place)) as kept:
        sample_nights.write(kept, 4, FAMILIES[:1], judged=0)
    newest = table(run(place, "accept", SLOWER, "--json"))
    nights = table(run(place, SLOWER, "--json"))["cases"][0]["nights"]
    assert newest == {"case": SLOWER, "artifact_sha256": nights[-1]["new_sha256"], "level": 1}
    older = table(run(place, "accept", "resnet8", "--artifact", nights[0]["new_sha256"][:6].upper(), "--json"))
    assert (older["artifact_sha256"], older["level"]) == (nights[0]["new_sha256"], 2)
    assert "is held against" in run(place, "accept", "resnet8").stdout
    refused = run(place, "accept", "resnet8", "--artifact", "zz")
    assert refused.exit_code == 2 and "no artifact was measured that begins with zz" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnet9",), "no case 'resnet9'; did you mean 'resnet8'?"),
        (("show", "resnet9"), "no case 'resnet9'; did you mean"),
        (("show", "*"), "fits 5 cases: "),
        (("show", "2020-01-01-drawer"), "no case '2020-01-01-drawer'"),
        (("--metric", "memori"), "no such metric 'memori'; did you mean 'memory'?"),
        (("accept", "*@kitchen"), "fits 2 cases: "),
        (("export", "nights.xls"), "its ending has to be one of .json, .csv, .parquet"),
        (("export", "gone/nights.csv"), "cannot be written"),
        (("-n", "0"), "Invalid value for '--nights'"),
    ],
)
def test_what_is_refused(database: Path, arguments: tuple[str, ...], said: str) -> None:
    """One JSON object, exit 2, and the near miss."""
    result = run(database, *arguments, "--json")
    assert result.exit_code == 2
    assert said in json.loads(result.stdout)["error"]["message"]


def test_an_empty_history(tmp_path: Path, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is no error; it says how to begin. The usual place may not be there yet."""
    with history.open(str(tmp_path / "new.sqlite")):
        pass
    assert "no nights yet: edgeship nightly" in run(tmp_path / "new.sqlite").stdout
    assert run(tmp_path / "new.sqlite", "export", str(tmp_path / "x.csv")).exit_code == 3
    monkeypatch.delenv("EDGESHIP_HISTORY", raising=False)
    usual = CliRunner().invoke(app, ["history"])
    assert usual.exit_code == 0 and "no nights yet: edgeship nightly" in usual.stdout


@pytest.mark.parametrize("command", [["list"], ["show", "x"], ["accept", "x"], ["export", "x.csv"]], ids=" ".join)
@pytest.mark.parametrize("through", ["option", "environment"])
def test_a_file_that_is_not_there_is_not_made(
    command: list[str], through: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that was mistyped is no empty history."""
    (tmp_path / "nights.sqlite").touch()
    for wrong, guess in (
        (tmp_path / "night.sqlite", "; did you mean 'nights.sqlite'?"),
        (tmp_path / "new" / "a.sqlite", ""),
    ):
        monkeypatch.setenv("EDGESHIP_HISTORY", str(wrong))
        option = ["--history", str(wrong)] if through == "option" else []
        result = CliRunner().invoke(app, ["history", *command, *option, "--json"])
        assert result.exit_code == 2
        assert json.loads(result.stdout)["error"]["message"] == f"{wrong}: no such file{guess}"
    assert [each.name for each in tmp_path.iterdir()] == ["nights.sqlite"]


def test_export(database: Path, tmp_path: Path) -> None:
    """As many rows as the command says."""
    found = table(run(database, "export", str(tmp_path / "nights.csv"), "resnet8", "--json"))
    assert len((tmp_path / "nights.csv").read_text().splitlines()) == found["runs"] + 1 == 82


def test_a_long_history_keeps_its_width(database: Path) -> None:
    """Charts end at the terminal's usual width, whatever is asked for."""
    with history.open(str(database)) as kept:
        told = history_view.view(kept, FAMILIES[0].case, "latency", None)
    many = history_view.CaseView(
        history.CaseHistory(told.case, "latency", "ms", told.shown.nights * 30), told.levels, told.findings
    )
    console = Console(width=200, file=io.StringIO(), highlight=False, soft_wrap=True)
    HistoryTerminal(console).case(many)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in shown.splitlines() if "┤" in line) < 90
