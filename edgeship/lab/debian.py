"""Debian packages for another machine: found, checked and downloaded by apt with a state of its own, then unpacked.

Nothing of this machine's package state is read or changed, and none of the packages' own scripts run: so it works for
any user, and for an architecture that this machine cannot run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeship import command
from edgeship.errors import BadInput, MissingTool, StageFailed

SUITE, ARCHITECTURE = "trixie", "arm64"
KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{form}") for form in ("gpg", "pgp"))
_OS_RELEASE = Path("/etc/os-release")
_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
_UPDATE_TIMEOUT_S, _DOWNLOAD_TIMEOUT_S, _UNPACK_TIMEOUT_S = 600.0, 1800.0, 120.0
# What of this machine's own apt settings counts: the way to the network. Its hooks must not run.
_NETWORK = re.compile(r'^Acquire::(?:https?|ftp|socks|Retries|ForceIPv[46])\b.* "[^"]+";$')
_NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/lib/systemd")


@dataclass(frozen=True)
class Archive:
    """An apt that knows one Debian mirror and nothing of this machine; `folder` is its own."""

    folder: Path
    log: Path

    def apt(self, *words: str, timeout_s: float) -> str:
        """Run one apt program with this archive's settings and return its output.

        Raises:
            StageFailed: it failed; the text ends with the path of its log.
        """
        settings = {"APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C.UTF-8"}
        return command.call(*words, timeout_s=timeout_s, log=self.log, environment=settings, folder=self.folder).output

    def install(self, packages: Sequence[str]) -> list[Path]:
        """Download packages and all that they depend on; return the files, sorted."""
        self.apt("apt-get", "--yes", "-qq", "--download-only", "install", *packages, timeout_s=_DOWNLOAD_TIMEOUT_S)
        return sorted((self.folder / "cache" / "archives").glob("*.deb"))

    def kernel(self) -> Path:
        """Download the newest kernel made for virtual machines, without what it depends on; return its file."""
        told = self.apt("apt-cache", "depends", f"linux-image-cloud-{ARCHITECTURE}", timeout_s=60)
        found = re.search(r"Depends: (linux-image-\S+)", told)
        if found is None:
            raise StageFailed(f"the mirror has no kernel for {ARCHITECTURE}; full log: {self.log}", log=self.log)
        self.apt("apt-get", "-qq", "download", found[1], timeout_s=_DOWNLOAD_TIMEOUT_S)
        return next(self.folder.glob("linux-image-*.deb"))


def archive(folder: Path, *, mirror: str, log: Path) -> Archive:
    """Return an apt that knows what a mirror has today.

    Raises:
        MissingTool: Debian's keys are not on this machine.
        StageFailed: the mirror cannot be reached or is not signed by Debian.
    """
    for inner in ("lists/partial", "cache/archives/partial", "state"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    (folder / "state" / "status").touch()
    source = f"deb [arch={ARCHITECTURE} signed-by={_keyring()}] {mirror} {SUITE} main\n"
    (folder / "sources.list").write_text(source)
    # apt reads the file in APT_CONFIG before its own folders, so these must not be read at all.
    (folder / "apt.conf").write_text("".join((_settings(folder), *_network_settings())))
    made = Archive(folder, log)
    try:
        made.apt("apt-get", "-qq", "update", timeout_s=_UPDATE_TIMEOUT_S)
    except StageFailed as failed:
        raise StageFailed(
            f"{mirror}: Debian {SUITE} for {ARCHITECTURE} cannot be read from there: {failed.message}",
            hint="name another Debian mirror with --mirror",
            log=log,
        ) from None
    return made


def unpack(packages: Sequence[Path], root: Path, *, log: Path) -> None:
    """Unpack packages into a folder, without manuals; `base-files` first, since it brings the links /bin, /lib, /sbin."""
    root.mkdir(parents=True, exist_ok=True)
    for package in sorted(packages, key=lambda path: (not path.name.startswith("base-files_"), path.name)):
        command.call("dpkg-deb", "--extract", package, root, timeout_s=_UNPACK_TIMEOUT_S, log=log)
    words = [str(root / folder) for folder in _NOT_NEEDED]
    command.call("rm", "-rf", *words, timeout_s=_UNPACK_TIMEOUT_S, log=log)


def host_mirror() -> str:
    """Return the mirror that this machine itself uses.

    Raises:
        BadInput: it is no Debian, or uses none.
    """
    try:
        is_debian = re.search(r"^ID=\"?debian\"?$", _OS_RELEASE.read_text(), re.MULTILINE) is not None
    except OSError:
        is_debian = False
    plain, folder = _SOURCES
    files = [plain, *sorted(folder.glob("*.sources")), *sorted(folder.glob("*.list"))] if is_debian else []
    found = (mirror_in(path.read_text(errors="replace")) for path in files if path.is_file())
    mirror = next((mirror for mirror in found if mirror), None)
    if mirror is None:
        raise BadInput(
            "no Debian mirror is set up on this machine, and a virtual board is made from Debian's packages",
            hint="name one with --mirror URL, from https://www.debian.org/mirror/list",
        )
    return mirror


def mirror_in(sources: str) -> str | None:
    """Return the address of a Debian archive that an apt sources file of either form names, or None.

    Other archives beside Debian's are told apart by their path, which ends in `/debian` on every mirror.
    """
    for line in sources.splitlines():
        word = re.match(r"(?:URIs:|deb(?:\s+\[[^]]*\])?)\s+(.*)", line)
        if word:
            for address in word[1].split():
                if re.fullmatch(r"(?:https?|ftp)://\S+?/debian/?", address):
                    return address.rstrip("/")
    return None


def _keyring() -> Path:
    found = next((path for path in KEYRINGS if path.is_file()), None)
    if found is None:
        raise MissingTool(
            "Debian's archive keys are not on this machine; packages cannot be checked without them",
            hint="apt-get install debian-archive-keyring",
        )
    return found


def _settings(folder: Path) -> str:
    places = {
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": folder / "state",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "state" / "status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": ARCHITECTURE,
        "APT::Architectures": ARCHITECTURE,
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "root",  # another user could not read a private folder
        "APT::Update::Error-Mode": "any",  # otherwise a mirror that does not answer is only a warning
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return "".join(f'{name} "{value}";\n' for name, value in places.items())


def _network_settings() -> list[str]:
    told = command.call("apt-config", "dump", "Acquire", timeout_s=60).output
    return [f"{line}\n" for line in told.splitlines() if _NETWORK.match(line)]
