"""The units of a lab's night: what systemd reads in them is what was meant, whatever the files are called."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "lab_timer.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lab_timer", SCRIPT)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["lab_timer"] = found
    spec.loader.exec_module(found)
    return found


def order(script: ModuleType, suite: str = "/lab/drawer.toml", **changes: object) -> object:
    told = {"options": ("--html", "/srv/site"), "on_end": ("/usr/bin/logger", "it's done")}
    return script.Order(
        "edgeship-drawer", Path("/usr/bin/edgeship"), Path(suite), "01:30", Path("/home/lab/state/drawer.unfinished"),
        Path("/home/lab/drawer.env"), **(told | changes),
    )  # fmt: skip


def settings(text: str) -> dict[str, list[str]]:
    """Return what a unit sets: a key may stand several times."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.startswith("["):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def as_run(line: str) -> list[str]:
    """Return the words that systemd makes of a command line without variables in it."""
    return [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(line)]


def test_units(script: ModuleType) -> None:
    made = script.units(order(script))
    assert set(made) == {"edgeship-drawer.service", "edgeship-drawer.timer", "edgeship-drawer-boot.service"}
    service, timer = settings(made["edgeship-drawer.service"]), settings(made["edgeship-drawer.timer"])
    assert as_run(service["ExecStart"][0]) == [
        "/usr/bin/edgeship",
        "nightly",
        "/lab/drawer.toml",
        "--resume",
        "--html",
        "/srv/site",
    ]
    assert service["Restart"] == ["on-abnormal"], "a verdict is no reason to begin again"
    assert service["ExecStopPost"][1] == '"/usr/bin/logger" "it\'s done" $EXIT_STATUS'
    assert timer["OnCalendar"] == ["*-*-* 01:30:00"] and timer["Persistent"] == ["true"]
    boot = settings(made["edgeship-drawer-boot.service"])
    assert boot["ConditionPathExists"] == ["/home/lab/state/drawer.unfinished"]


@pytest.mark.parametrize(
    "suite", ["/a b/c.toml", "/100%/h.toml", "/$HOME/x.toml", '/"q"/x.toml', "/back\\slash.toml", "/é's.toml"]
)
def test_names_that_mean_something_to_systemd(script: ModuleType, suite: str) -> None:
    service = settings(script.units(order(script, suite))["edgeship-drawer.service"])
    assert as_run(service["ExecStart"][0])[2] == suite


@pytest.mark.parametrize(("code", "status", "kept"), [("exited", "0", False), ("exited", "7", False), ("exited", "130", True), ("killed", "KILL", True)])  # fmt: skip
@pytest.mark.processes
def test_the_mark_of_an_unfinished_night_stays_after_a_kill_and_a_stop(
    script: ModuleType, tmp_path: Path, code: str, status: str, kept: bool
) -> None:
    marker = tmp_path / "it's $x unfinished"
    marker.touch()
    made = script.units(script.Order("n", Path("/e"), Path("/s"), "01:30", marker, Path("/f")))
    line = settings(made["n.service"])["ExecStopPost"][0]
    subprocess.run(as_run(line), check=True, env={"EXIT_CODE": code, "EXIT_STATUS": status, "PATH": "/usr/bin:/bin"})
    assert marker.exists() == kept


def test_settings_keep_any_value(script: ModuleType) -> None:
    assert script.settings({"A": 'x"y\\z'}) == 'A="x\\"y\\\\z"\n'


def test_a_time_of_day_or_any_calendar(script: ModuleType) -> None:
    assert script.calendar("23:15") == "*-*-* 23:15:00" and script.calendar("Mon..Fri 02:00") == "Mon..Fri 02:00"
