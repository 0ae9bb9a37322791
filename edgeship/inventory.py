"""The user's devices: one TOML file of theirs, read strictly, and written so that their comments and order stay."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import tomllib
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import store, target, toml_file
from edgeship.device import Device
from edgeship.errors import BadInput, NothingToDo, near_miss, unknown

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

LOCAL = "local"
VIRTUAL = "virtual:"
FILE_MODE = 0o600  # addresses, users and key files are nobody else's business
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LOCAL_TARGETS = {
    "x86_64": "linux-x86_64", "AMD64": "linux-x86_64", "aarch64": "linux-arm64", "arm64": "linux-arm64",
}  # fmt: skip
_ADDRESSES = {"ssh": "the host or its alias in your ssh config", "adb": "the serial that `adb devices` shows"}
_FILES = ("identity", "benchmark_model")


def place(option: Path | None) -> Path:
    """Return the devices file: the option's, else `$EDGESHIP_DEVICES`, else the one in the user's config folder."""
    if option is not None:
        return option
    named = os.environ.get("EDGESHIP_DEVICES")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_config_dir("edgeship")) / "devices.toml"


def read(path: Path) -> dict[str, Device]:
    """Return the devices in the file by name, in its order; none where there is no file.

    Files named in it are relative to its own folder, and absolute in what is returned.

    Raises:
        BadInput: it is not TOML, or an entry does not fit; the text starts with the file and the entry.
    """
    if not path.exists():
        return {}
    return {name: _entry(path, name, table) for name, table in toml_file.read_table(path).items()}


def names(path: Path) -> list[str]:
    """Return what can be given as a device: the file's names, sorted, and those that always exist.

    Raises:
        BadInput: as `read`.
    """
    return [*sorted(read(path)), LOCAL, *(VIRTUAL + name for name in target.names())]


def find(name: str, path: Path) -> Device:
    """Return a device by name; `local` and `virtual:<target>` need no entry.

    Raises:
        BadInput: no such device (near miss offered), no such target, or the file does not fit.
    """
    if name == LOCAL:
        return Device(name=name, target=_local_target(), transport="local")
    if name.startswith(VIRTUAL):
        wanted = name.removeprefix(VIRTUAL)
        if wanted not in target.names():
            raise unknown("target", wanted, target.names(), where=name)
        return Device(name=name, target=wanted, transport="virtual")
    known = read(path)
    if name not in known:
        raise _unknown(name, path, known)
    return known[name]


def add(path: Path, device: Device, *, replace: bool = False) -> None:
    """Write a device's entry, after all others or over the one of its name.

    Raises:
        BadInput: the name cannot be one, is taken (unless `replace`), the entry or the file does not fit, or cannot be
            written.
        NothingToDo: the same entry is there.
    """
    table = device.model_dump(mode="json", exclude={"name"}, exclude_defaults=True, exclude_none=True)
    wanted = _entry(path, device.name, table)
    with _locked(path) as real:
        known = read(path)
        if known.get(device.name) == wanted:
            raise NothingToDo(f"{path}: '{device.name}' is there, with the same entry")
        if device.name in known and not replace:
            raise BadInput(
                f"{path}: there is a device '{device.name}' with another entry", hint="--replace overwrites it"
            )
        document = _document(real)
        _put(document, device.name, table)
        _write(path, real, document, {**known, device.name: wanted})


def remove(path: Path, name: str) -> None:
    """Take a device's entry out; the comments after it stay, since they are mostly the next one's.

    Raises:
        BadInput: no such device, or the file does not fit or cannot be written.
    """
    with _locked(path) as real:
        known = read(path)
        if name not in known:
            raise _unknown(name, path, known)
        document = _document(real)
        _take(document, name)
        del known[name]
        _write(path, real, document, known)


def _entry(path: Path, name: str, table: Any) -> Device:
    """Return one table of the file as a device, everything checked."""
    where = f"{path}: [{name}]"
    if not isinstance(table, dict):
        raise BadInput(
            f"{path}: '{name}' is no table", hint=f'a device is a table: [{name}], then target = "…" and so on'
        )
    if name == LOCAL or name.startswith(VIRTUAL):
        raise BadInput(f"{where}: '{LOCAL}' and names that start with '{VIRTUAL}' always exist and have no entry")
    if not _NAME.fullmatch(name):
        raise BadInput(f"{where}: a name is of letters, digits, '.', '_' and '-', and starts with a letter or digit")
    if "name" in table:
        raise BadInput(f"{where}: no such key 'name': the name is the heading's")
    inner = next((key for key, value in table.items() if isinstance(value, dict)), None)
    if inner is not None and inner not in Device.model_fields:
        raise BadInput(f"{where}: '{inner}' is a table", hint=f'a name with a dot is quoted: ["{name}.{inner}"]')
    device = toml_file.parse({**table, "name": name}, Device, where=where)
    _check(device, where)
    beside = path.absolute().parent
    files = {key: str(beside / Path(value).expanduser()) for key in _FILES if (value := getattr(device, key))}
    if device.target.endswith(".toml"):
        files["target"] = str(beside / Path(device.target).expanduser())
    return device.model_copy(update=files)


def _check(device: Device, where: str) -> None:
    if not device.target.endswith(".toml") and device.target not in target.names():
        raise unknown("target", device.target, target.names(), where=where)
    if device.transport in _ADDRESSES and not device.address:
        raise BadInput(f"{where}: the key 'address' is missing: {_ADDRESSES[device.transport]}")


def _local_target() -> str:
    machine = platform.machine()
    if machine not in _LOCAL_TARGETS:
        raise BadInput(
            f"{LOCAL}: no target stands for a machine of the kind {machine}",
            hint="edgeship devices add NAME --transport local --target TARGET",
        )
    return _LOCAL_TARGETS[machine]


def _unknown(name: str, path: Path, known: dict[str, Device]) -> BadInput:
    guess = near_miss(name, [*known, LOCAL, *(VIRTUAL + one for one in target.names())])
    question = f"; did you mean '{guess}'?" if guess else ""
    return BadInput(
        f"{path}: no such device '{name}'{question}",
        hint=f"known: {', '.join([*sorted(known), LOCAL, VIRTUAL + '<target>'])}; "
        f"edgeship devices add {name} ADDRESS --target TARGET makes one",
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """Hold the lock beside the file, its folder made if need be; give the file that a link stands for.

    Renaming over a link would leave the user's own file, in a repository of theirs perhaps, as it was.
    """
    real = path.resolve()
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(real.with_name(f".{real.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}", hint="--devices FILE names another") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield real
    finally:
        os.close(lock)


def _document(real: Path) -> TOMLDocument:
    import tomlkit

    return tomlkit.parse(real.read_bytes().decode() if real.exists() else "")  # as text, its line ends would change


def _put(document: TOMLDocument, name: str, table: dict[str, Any]) -> None:
    import tomlkit

    if name not in document:
        if document.body:
            document.add(tomlkit.nl())
        fresh = tomlkit.table()
        fresh.update(table)
        document.add(name, fresh)
        return
    there: Any = document[name]
    for key in [key for key in there if key not in table]:
        del there[key]
    for key, value in table.items():
        if key not in there or there[key] != value:
            there[key] = value


def _take(document: TOMLDocument, name: str) -> None:
    from tomlkit.items import Table, Whitespace

    index = next(index for index, (key, _) in enumerate(document.body) if key is not None and key.key == name)
    entry = document.body[index][1]
    body = entry.value.body if isinstance(entry, Table) else []
    after = [item.as_string() for _, item in takewhile(lambda pair: pair[0] is None, reversed(body))][::-1]
    document.remove(name)
    document.body[index] = (None, Whitespace("".join(after)))


def _write(path: Path, real: Path, document: TOMLDocument, wanted: dict[str, Device]) -> None:
    """Write the file whole; what it then says is held against what it has to say before anything is replaced."""
    text = document.as_string()
    try:
        said = {name: _entry(path, name, table) for name, table in tomllib.loads(text).items()}
    except (BadInput, tomllib.TOMLDecodeError):
        said = {}
    if said != wanted:
        raise BadInput(f"{path}: cannot be changed without loss", hint="edit it by hand, one plain [table] a device")
    try:
        with store.no_space_named(real):
            store.write_whole(real, text.encode())
        real.chmod(FILE_MODE)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}", hint="--devices FILE names another") from None
