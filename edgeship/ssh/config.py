"""What the user's ssh config says of a host, read as OpenSSH reads it: Host, Match, Include, the first value wins.

paramiko has a reader too: it knows no Include, takes the words of Match that it does not know as matching, and asks the
name server once for every IdentityFile. Format: ssh_config(5).
"""

from __future__ import annotations

import fnmatch
import getpass
import glob
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeship import command
from edgeship.errors import BadInput

SYSTEM = Path("/etc/ssh/ssh_config")
KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")  # where ssh looks for a key when nothing names one
_DEEPEST = 16  # Includes within Includes, as in OpenSSH
_EXEC_TIMEOUT_S = 30.0
_LINE = re.compile(r"^\s*(\w+)(?:\s*=\s*|\s+)(.*?)\s*$")
_MANY = frozenset({"identityfile"})  # every value counts, not only the first
_PATHS = frozenset({"identityfile", "identityagent", "userknownhostsfile", "globalknownhostsfile"})


@dataclass(frozen=True)
class Spot:
    """A host as one writes it: [user@]host[:port], or ssh://…"""

    host: str
    user: str | None = None
    port: int | None = None


@dataclass(frozen=True)
class Host:
    """How to reach a host; what nothing says has ssh's own default."""

    alias: str
    hostname: str
    port: int
    user: str
    identities: tuple[Path, ...]  # private keys, in the order in which to try them
    named: bool  # the identities were named, and are not where ssh looks anyway
    identities_only: bool = False
    agent: str | None = None  # the agent's socket
    jump: str | None = None
    proxy: str | None = None  # a command line that connects
    known_hosts: tuple[Path, ...] = ()
    key_alias: str | None = None
    connect_timeout_s: float | None = None

    @property
    def known_name(self) -> str:
        """Return the name under which known_hosts has the host."""
        if self.key_alias:
            return self.key_alias.lower()
        return self.hostname.lower() if self.port == 22 else f"[{self.hostname.lower()}]:{self.port}"


def spot(text: str) -> Spot:
    """Take an address apart; a colon is a port's only when there is one, or after a bracket."""
    text = text.removeprefix("ssh://").rstrip("/")
    user, at, host = text.rpartition("@")
    port = None
    if found := re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+):(\d+)", host):
        host = found[1] or found[3]
        port = int(found[2] or found[4]) if found[2] or found[4] else None
    return Spot(host, user if at else None, port)


def look_up(asked: Spot, *, config: Path | None = None, system: Path = SYSTEM) -> Host:
    """Return how to reach a host.

    Args:
        config: the user's file, else `~/.ssh/config`.

    Raises:
        BadInput: a file says something that cannot be read; the text starts with the file and the line.
    """
    user_file = config or _ssh_folder() / "config"
    found = _Lookup(asked)
    for path, folder in ((user_file, user_file.parent), (system, system.parent)):
        found.read(path, folder)
    return found.host()


def names(*, config: Path | None = None) -> list[str]:
    """Return the hosts that the user's config names, without patterns, in the file's order.

    Raises:
        BadInput: as `look_up`.
    """
    path = config or _ssh_folder() / "config"
    found: list[str] = []
    for _, key, value in _all_lines(path, path.parent):
        if key == "host":
            found += [word for word in _words(value, path) if not re.search(r"[*?!]", word) and word not in found]
    return found


class _Lookup:
    """One pass over the config for one host; what is found first stays."""

    def __init__(self, asked: Spot) -> None:
        self.asked = asked
        self.found: dict[str, list[str]] = {}
        if asked.user:
            self.found["user"] = [asked.user]
        if asked.port:
            self.found["port"] = [str(asked.port)]

    def read(self, path: Path, folder: Path, *, depth: int = 0, active: bool = True) -> None:
        """Take what a file says; `active`: the block that includes it is for this host."""
        outer = active
        for number, key, value in _lines(path):
            where = f"{path}: line {number}"
            if key == "host":
                active = outer and _listed(_words(value, where), self.asked.host)
            elif key == "match":
                active = outer and self._matches(_words(value, where), where)
            elif not active:
                continue
            elif key == "include":
                for included in _included(value, folder, where, depth):
                    self.read(included, folder, depth=depth + 1)
            elif key in _MANY:
                self.found.setdefault(key, []).append(_first(value, where))
            elif key in ("proxycommand", "proxyjump"):  # the one that stands first decides, `none` too
                if "proxycommand" not in self.found and "proxyjump" not in self.found:
                    self.found[key] = [value]
            elif key not in self.found:
                self.found[key] = _words(value, where) or [""]

    def _matches(self, words: list[str], where: str) -> bool:
        """Say whether a Match line is for this host; a criterion that is not known here is not met."""
        while words:
            word = words.pop(0)
            kind = word.lower().lstrip("!")
            if kind in ("all", "final", "canonical"):
                met = kind == "all"  # no second pass is made, and names are not made canonical
            elif not words:
                raise BadInput(f"{where}: Match {word} lacks its pattern")
            else:
                met = self._meets(kind, words.pop(0))
            if met == word.startswith("!"):
                return False
        return True

    def _meets(self, kind: str, wanted: str) -> bool:
        if kind == "exec":
            words = ("/bin/sh", "-c", self._expand(wanted))
            return command.call(*words, timeout_s=_EXEC_TIMEOUT_S, check=False).exit_code == 0
        subject = {
            "host": self._hostname(),
            "originalhost": self.asked.host,
            "user": self._value("user") or getpass.getuser(),
            "localuser": getpass.getuser(),
        }.get(kind)
        return subject is not None and _listed(wanted.split(","), subject)

    def _hostname(self) -> str:
        told = self._value("hostname") or self.asked.host
        return re.sub(r"%[%hn]", lambda token: "%" if token[0] == "%%" else self.asked.host, told)

    def _value(self, key: str) -> str | None:
        return self.found[key][0] if key in self.found else None

    def _set(self, key: str) -> str | None:
        """Return a value that is not `none`, its tokens replaced."""
        value = self._value(key)
        return None if value is None or value.lower() in ("none", "") else self._expand(value, path=key in _PATHS)

    def _expand(self, value: str, *, path: bool = False) -> str:
        home = str(Path.home())
        tokens = {
            "%%": "%", "%h": self._hostname(), "%n": self.asked.host, "%p": self._value("port") or "22", "%d": home,
            "%r": self._value("user") or getpass.getuser(), "%u": getpass.getuser(), "%L": os.uname().nodename.split(".")[0],
        }  # fmt: skip
        value = re.sub(r"%.", lambda token: tokens.get(token[0], token[0]), value)
        if path:
            value = re.sub(r"\$\{(\w+)\}", lambda name: os.environ.get(name[1], ""), value)
            value = re.sub(r"^~(?=/|$)", lambda _: home, value)
        return value

    def host(self) -> Host:
        """Return what was found."""
        named = [value for value in self.found.get("identityfile", []) if value.lower() != "none"]
        identities = [Path(self._expand(value, path=True)) for value in named]
        if "identityfile" not in self.found:
            identities = [_ssh_folder() / name for name in KEYS]
        return Host(
            alias=self.asked.host,
            hostname=self._hostname(),
            port=self._number("port") or 22,
            user=self._value("user") or getpass.getuser(),
            identities=tuple(dict.fromkeys(identities)),
            named=bool(named),
            identities_only=(self._value("identitiesonly") or "").lower() == "yes",
            agent=self._agent(),
            jump=self._set("proxyjump"),
            proxy=self._set("proxycommand"),
            known_hosts=self._known_hosts(),
            key_alias=self._set("hostkeyalias"),
            connect_timeout_s=self._number("connecttimeout"),
        )

    def _agent(self) -> str | None:
        told = self._value("identityagent") or "SSH_AUTH_SOCK"
        if told.lower() == "none":
            return None
        if told == "SSH_AUTH_SOCK" or (told.startswith("$") and not told.startswith("${")):
            return os.environ.get(told.lstrip("$"))
        return self._expand(told, path=True)

    def _known_hosts(self) -> tuple[Path, ...]:
        """Return the files to ask; /dev/null is how others switch the check off, and it is never off here."""
        ours, theirs = (
            [Path(self._expand(value, path=True)) for value in self.found.get(key, []) if value != "/dev/null"]
            for key in ("userknownhostsfile", "globalknownhostsfile")
        )
        etc = Path("/etc/ssh")
        return (
            *(ours or (_ssh_folder() / "known_hosts", _ssh_folder() / "known_hosts2")),
            *(theirs or (etc / "ssh_known_hosts", etc / "ssh_known_hosts2")),
        )

    def _number(self, key: str) -> int | None:
        value = self._value(key)
        if value is None or value.lower() == "none":
            return None
        if not value.isdigit():
            raise BadInput(f"the ssh config of {self.asked.host}: {key} is no number: {value}")
        return int(value)


def _ssh_folder() -> Path:
    return Path.home() / ".ssh"


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Give a file's settings: line number, key in lower case, the rest; a file that is not there says nothing."""
    try:
        text = path.read_text(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as fault:
        raise BadInput(f"{path}: {fault.strerror or fault}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found = _LINE.match(line)
            if not found:
                raise BadInput(f"{path}: line {number}: not a setting: {line.strip()}")
            yield number, found[1].lower(), found[2]


def _all_lines(path: Path, folder: Path, depth: int = 0) -> Iterator[tuple[int, str, str]]:
    """Give the settings of a file and of all that it includes, whoever they are for."""
    for number, key, value in _lines(path):
        yield number, key, value
        if key == "include":
            for included in _included(value, folder, f"{path}: line {number}", depth):
                yield from _all_lines(included, folder, depth + 1)


def _included(value: str, folder: Path, where: str, depth: int) -> Iterable[Path]:
    if depth >= _DEEPEST:
        raise BadInput(f"{where}: Include goes deeper than {_DEEPEST} files")
    for word in _words(value, where):
        whole = folder / Path(re.sub(r"^~(?=/|$)", lambda _: str(Path.home()), word))
        yield from (Path(name) for name in sorted(glob.glob(str(whole))) if Path(name).is_file())  # noqa: PTH207  # absolute patterns


def _words(value: str, where: object) -> list[str]:
    try:
        return shlex.split(value, comments=True)
    except ValueError as fault:
        raise BadInput(f"{where}: {fault}: {value}") from None


def _first(value: str, where: str) -> str:
    return (_words(value, where) or [""])[0]


def _listed(patterns: Iterable[str], subject: str) -> bool:
    """Say whether a list of patterns takes a name: one of them does, and none with a `!` does."""
    met = False
    for pattern in patterns:
        if _like(subject, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            met = True
    return met


def _like(subject: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(subject.lower(), pattern.lower().replace("[", "[[]"))
