"""Have a suite measured every night by systemd, as a user's own units: no root, no cron, resumed after a crash or a reboot.

    python scripts/lab_timer.py SUITE.toml [--at 01:30] [--html DIR] [--junit FILE] [--markdown FILE] [--devices FILE] [--history URL]
                                [--on-end WORDS…] [--print]

Written are a service, its timer, a service that goes on with an interrupted night at boot, and a file of settings that nobody
else may read (a history's URL may hold a password). --print only shows them. To remove: `systemctl --user disable --now
edgeship-NAME.timer edgeship-NAME-boot.service`. docs/lab.md has the rest.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_S = 120  # for the report of a night that is stopped


@dataclass(frozen=True)
class Order:
    """What is to be measured when; `options` are those of `edgeship nightly`."""

    name: str
    program: Path
    suite: Path
    at: str
    marker: Path
    settings: Path
    options: tuple[str, ...] = ()
    on_end: tuple[str, ...] = ()


def main() -> None:
    """Write the units and start the timer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--at", default="01:30", help="a time of day, or any OnCalendar of systemd")
    for option in ("--html", "--junit", "--markdown", "--devices"):
        parser.add_argument(option, type=Path)
    parser.add_argument("--history")
    parser.add_argument(
        "--on-end", nargs="+", default=[], help="a program that is called after each night, with its exit code"
    )
    parser.add_argument("--print", action="store_true", dest="show")
    given = parser.parse_args()
    program = shutil.which("edgeship") or sys.exit("edgeship is not on the PATH: pip install 'edgeship[build,nightly]'")
    if not given.suite.is_file():
        sys.exit(f"{given.suite}: no such file")
    name = f"edgeship-{re.sub('[^A-Za-z0-9_-]+', '-', given.suite.stem)}"
    home = Path.home()
    paths = {option: getattr(given, option) for option in ("html", "junit", "markdown", "devices")}
    options = [
        word for option, path in paths.items() if path is not None for word in (f"--{option}", str(path.absolute()))
    ]
    order = Order(
        name, Path(program), given.suite.absolute(), given.at, home / ".local/state/edgeship" / f"{name}.unfinished",
        home / ".config/edgeship" / f"{name}.env", tuple(options), tuple(given.on_end),
    )  # fmt: skip
    if any(not text.isprintable() for text in (str(order.suite), *order.options, *order.on_end)):
        sys.exit("a name with a line's end, or another character that is not printed, cannot stand in a unit")
    if given.show:
        for unit, text in units(order).items():
            print(f"# {unit}\n{text}")
        return
    _install(order, home / ".config/systemd/user", given.history)


def units(order: Order) -> dict[str, str]:
    """Return the units by their files' names."""
    words = [str(order.program), "nightly", str(order.suite), "--resume", *order.options]
    marker = quoted([str(order.marker)])
    # It stays while a night is not finished: after a power cut, a kill, or a stop (130).
    tidy = f'if [ "$EXIT_CODE" = exited ] && [ "$EXIT_STATUS" != 130 ]; then rm -f {shlex.quote(str(order.marker))}; fi'
    after = [f"ExecStopPost={quoted([*order.on_end])} $EXIT_STATUS"] if order.on_end else []
    service = [
        "[Unit]", f"Description=edgeship nightly {order.suite.name}".replace("%", "%%"),
        "[Service]", "Type=oneshot", f"EnvironmentFile=-{plain(order.settings)}", f"WorkingDirectory={plain(order.suite.parent)}",
        f"ExecStartPre=/usr/bin/mkdir -p {quoted([str(order.marker.parent)])}", f"ExecStartPre=/usr/bin/touch {marker}",
        f"ExecStart={quoted(words)}", f"ExecStopPost=/bin/sh -c {quoted([tidy])}", *after,
        # A verdict is no accident: only what died of a signal is begun again, and goes on where it was.
        "Restart=on-abnormal", "RestartSec=60", "TimeoutStartSec=infinity", f"TimeoutStopSec={STOP_S}",
    ]  # fmt: skip
    timer = [
        "[Unit]", f"Description=every night: edgeship nightly {order.suite.name}".replace("%", "%%"),
        "[Timer]", f"OnCalendar={calendar(order.at)}", "Persistent=true", "[Install]", "WantedBy=timers.target",
    ]  # fmt: skip
    boot = [
        "[Unit]", f"Description=go on with the interrupted night of {order.suite.name}".replace("%", "%%"),
        f"ConditionPathExists={plain(order.marker)}",
        "[Service]", "Type=oneshot", f"ExecStart=/usr/bin/systemctl --user start --no-block {order.name}.service",
        "[Install]", "WantedBy=default.target",
    ]  # fmt: skip
    named = {f"{order.name}.service": service, f"{order.name}.timer": timer, f"{order.name}-boot.service": boot}
    return {name: "\n".join(lines) + "\n" for name, lines in named.items()}


def calendar(at: str) -> str:
    """Return systemd's calendar expression for a time of day; any other text is one already."""
    return f"*-*-* {at}:00" if re.fullmatch(r"\d\d?:\d\d", at) else at


def quoted(words: Sequence[str]) -> str:
    """Return words as a unit's command line has them (systemd.service(5)): quoted, nothing in them a specifier or a variable."""
    doubled = {"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$"}
    return " ".join('"' + "".join(doubled.get(each, each) for each in word) + '"' for word in words)


def plain(path: Path) -> str:
    """Return a path for a setting that takes one as it stands."""
    return str(path).replace("%", "%%")


def settings(values: Mapping[str, str]) -> str:
    """Return a file of settings (EnvironmentFile in systemd.exec(5)): quoted, nothing in them means anything else."""
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in values.items()}
    return "".join(f'{name}="{value}"\n' for name, value in escaped.items())


def _install(order: Order, folder: Path, history: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    order.settings.parent.mkdir(parents=True, exist_ok=True)
    for name, text in units(order).items():
        (folder / name).write_text(text)
    kept = {
        "EDGESHIP_HISTORY": history or os.environ.get("EDGESHIP_HISTORY"),
        "EDGESHIP_HOME": os.environ.get("EDGESHIP_HOME"),
        "PATH": os.environ.get("PATH"),
    }
    descriptor = os.open(order.settings, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:  # noqa: PTH123  # made with its rights, not given them afterwards
        file.write(settings({name: value for name, value in kept.items() if value}))
    systemctl("daemon-reload")
    systemctl("enable", "--now", f"{order.name}.timer")
    systemctl("enable", f"{order.name}-boot.service")
    print(f"{order.name}.timer is set. Once, so that it runs while nobody is logged in: loginctl enable-linger")
    print(f"At once: systemctl --user start {order.name}.service    What it says: journalctl --user -u {order.name}")


def systemctl(*words: str) -> None:
    """Run systemctl for this user; leave with its complaint."""
    if subprocess.run(["systemctl", "--user", *words], check=False).returncode:
        sys.exit(f"systemctl --user {' '.join(words)} failed")


if __name__ == "__main__":
    main()
