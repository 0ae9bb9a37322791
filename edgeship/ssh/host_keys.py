"""Host keys that the user vouches for: known_hosts files, read as OpenSSH reads them (sshd(8), SSH_KNOWN_HOSTS)."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Known:
    """One host key as a file has it."""

    file: Path
    line: int
    kind: str  # ssh-ed25519, ssh-rsa, …
    key: bytes
    revoked: bool


def find(files: Iterable[Path], name: str) -> list[Known]:
    """Return the keys that files have for a host: its name, or `[name]:port` where the port is not 22.

    A file that cannot be read has none. Lines with `@cert-authority` are passed over: host certificates are not used.
    """
    found = []
    for file in files:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            found += [Known(file, number, *rest) for rest in _parsed(line, name.lower())]
    return found


def fingerprint(key: bytes) -> str:
    """Return a public key's fingerprint, as OpenSSH prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _parsed(line: str, name: str) -> Iterator[tuple[str, bytes, bool]]:
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked") or not _is_for(fields[0], name):
        return
    try:
        yield fields[1], base64.b64decode(fields[2], validate=True), marker == "@revoked"
    except binascii.Error:
        return


def _is_for(field: str, name: str) -> bool:
    """Say whether a line's first field takes a name: hashed, or patterns of which none with `!` takes it."""
    if field.startswith("|1|"):
        return _hashes_to(field, name)
    met = False
    for pattern in field.lower().split(","):
        if fnmatch.fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            met = True
    return met


def _hashes_to(field: str, name: str) -> bool:
    try:
        _, _, salt, hashed = field.split("|")
        expected = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(expected, base64.b64decode(hashed))
    except ValueError:
        return False
