"""An environment of its own for a tool whose pins fight ours: made once by uv, from pins with hashes, and reused.

Below `$EDGESHIP_HOME/environments`: `<name>-<digest>`, each whole or not there. To add one: `data/requirements/<name>.toml`
(what it is for, and which versions of Python do) and `<name>.txt` beside it (every package pinned, with hashes).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeship import digest, installer, resources, scratch, store, toml_file
from edgeship.command import call
from edgeship.errors import MissingTool, StageFailed
from edgeship.progress import OnProgress, Progress, silent
from edgeship.run import Tool

MAKE_TIMEOUT_S = 1800.0
_ASK_TIMEOUT_S = 30.0
_STEPS = 4
_FORMAT = 1  # of the folder: part of its name
_PLACES = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")
_FITS = "import sys, sysconfig; v = sys.version_info; print(sys.implementation.name, f'{v[0]}.{v[1]}', sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"


class Environment(toml_file.Record):
    """What an environment is for: its packages, the versions of Python that do (the preferred first), what it must import.

    `one_of` names further pins, of which the first are taken that can be fetched: builds of one package, the best first.
    """

    summary: str
    packages: tuple[str, ...]
    python: tuple[str, ...]
    imports: tuple[str, ...]
    one_of: tuple[str, ...] = ()


def names() -> tuple[str, ...]:
    """Return the environments there can be."""
    return tuple(sorted(path.stem for path in resources.data("requirements").glob("*.toml")))


def read(name: str) -> Environment:
    """Return what an environment is for."""
    return toml_file.read(resources.data("requirements") / f"{name}.toml", Environment)


def pins(name: str) -> tuple[Path, ...]:
    """Return its requirements files: what is always there, then those of which one is taken."""
    return tuple(resources.data("requirements") / file for file in (f"{name}.txt", *read(name).one_of))


def versions(name: str) -> dict[str, str]:
    """Return its packages' versions, and the digest of all that is pinned: what decides a result made with it."""
    named = dict(package.split("==") for package in read(name).packages)
    return {**named, f"{name} environment": _digest(name)}


def folder(name: str) -> Path:
    """Return where it lies, or will."""
    return store.home().absolute() / "environments" / f"{name}-{_digest(name)}"


def found(name: str) -> Path | None:
    """Return the interpreter of an environment that is whole, or None."""
    python = _python(folder(name))
    return python if python.is_file() else None  # a link to an interpreter that was removed since is no file


def ready(name: str, *, on_progress: OnProgress = silent, log: Path) -> Path:
    """Return the interpreter of an environment, made first if it is not there; two that ask at once make it once.

    Args:
        log: gets the installer's command lines and output.

    Raises:
        MissingTool: there is no uv, no interpreter that fits, or no network to fetch what is missing.
        StageFailed: it does not start here, or there is no space left; the text ends with the log's path.
    """
    python = found(name)
    if python is not None:
        return python
    place = folder(name)
    with store.no_space_named(place.parent):
        on_progress(Progress(name, 0, _STEPS, f"waiting for the environment of {name}"))
        with scratch.locked(place.with_name(f"{place.name}.lock")):
            return found(name) or _made(name, place, log, on_progress)


def prune() -> tuple[int, int]:
    """Remove the environments that other pins than today's asked for; return how many, and the bytes that this frees."""
    place, kept = store.home().absolute() / "environments", {folder(name).name for name in names()}
    old = [path for path in place.glob("*-*") if path.is_dir() and path.name not in kept and path.suffix != ".lock"]
    removed, freed = 0, 0
    for path in old:
        files = (file.lstat() for file in path.rglob("*") if file.is_file() and not file.is_symlink())
        size = sum(facts.st_size for facts in files if facts.st_nlink == 1)  # others stand in uv's cache too
        with scratch.locked(path.with_name(f"{path.name}.lock")), scratch.folder(place) as work:
            path.rename(work / "old")
        removed, freed = removed + 1, freed + size
    return removed, freed


def tools() -> tuple[Tool, ...]:
    """Return the state of each environment, named after the package that it is for."""
    told = []
    for name in names():
        wanted = read(name)
        package, _, version = wanted.packages[0].partition("==")
        there = found(name) is not None
        install = f"made by the first build that needs it, with uv and a network ({wanted.summary})"
        told.append(Tool(package, "environments", version if there else None, None if there else install))
    return tuple(told)


def _digest(name: str) -> str:
    pinned = digest.of_bytes(b"".join(file.read_bytes() for file in pins(name)))
    return digest.of_value([_FORMAT, pinned, read(name).python, platform.system(), platform.machine()])[:16]


def _python(place: Path) -> Path:
    return place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _made(name: str, place: Path, log: Path, on_progress: OnProgress) -> Path:
    uv, wanted = installer.uv(), read(name)
    if uv is None:
        raise MissingTool(f"uv is needed to make the environment of {name}", hint=installer.INSTALL_UV)
    with scratch.folder(place.parent) as work:
        # A configuration of its own: above edgeship's home may stand a project whose constraints are not ours.
        (work / "uv.toml").touch()
        tree = work / "tree"
        on_progress(Progress(name, 0, _STEPS, f"looking for Python {' or '.join(wanted.python)}"))
        base = _interpreter(name, wanted, uv, log, on_progress)
        line = (uv, "venv", "--quiet", "--relocatable", "--no-project", "--python", base, tree)
        call(*line, timeout_s=MAKE_TIMEOUT_S, log=log, folder=work)
        always, *choice = pins(name)
        _fill(name, uv, tree, work, log, [always], on_progress)
        if choice:
            _fill(name, uv, tree, work, log, choice, on_progress)
        on_progress(Progress(name, 3, _STEPS, "starting it once"))
        _start(name, wanted, _python(tree), log)
        if place.exists():  # its interpreter was removed since
            place.rename(work / "before")
        tree.rename(place)
    on_progress(Progress(name, _STEPS, _STEPS, f"the environment of {name} is there"))
    return _python(place)


def _fill(
    name: str, uv: str, tree: Path, work: Path, log: Path, choice: Sequence[Path], on_progress: OnProgress
) -> None:
    """Install what the first of some requirements files pins, or, where that cannot be fetched, the next."""
    for file in choice:
        count = sum("==" in line for line in file.read_text().splitlines())
        on_progress(Progress(name, 2, _STEPS, f"fetching {count} packages: {read(name).summary}"))
        done = call(
            uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--compile-bytecode", "--python",
            _python(tree), "-r", file, timeout_s=MAKE_TIMEOUT_S, log=log, check=False, folder=work,
            environment=installer.folders_of_wheels(),
        )  # fmt: skip
        if done.exit_code == 0:
            return
    complaint = installer.complaint(done)
    if "No space left" in done.errors or "quota" in done.errors:
        raise StageFailed(
            f"{work.parent}: no space left for the environment of {name}; full log: {log}",
            hint="free some space, or set EDGESHIP_HOME to a larger disk",
            log=log,
        )
    raise MissingTool(
        f"the environment of {name} is not there and cannot be fetched: {complaint}; full log: {log}",
        hint="run this once with a network; it is kept, and later builds need none",
        log=log,
    )


def _start(name: str, wanted: Environment, python: Path, log: Path) -> None:
    """Import what it is for.

    Raises:
        StageFailed: it does not start; the text ends with the log's path.
    """
    line = f"import {', '.join(wanted.imports)}"
    done = call(python, "-I", "-c", line, timeout_s=MAKE_TIMEOUT_S, log=log, check=False)
    if done.exit_code != 0:
        raise StageFailed(f"{name} does not start on this machine: {done.complaint}; full log: {log}", log=log)


def _interpreter(name: str, wanted: Environment, uv: str, log: Path, on_progress: OnProgress) -> Path:
    """Return an interpreter that fits: one that is here, else one that uv fetches."""
    for version in wanted.python:
        for candidate in _candidates(version, uv):
            if _fits(candidate, version):
                return candidate
    version = wanted.python[0]
    on_progress(Progress(name, 1, _STEPS, f"fetching Python {version}"))
    done = call(uv, "python", "install", "--quiet", version, timeout_s=MAKE_TIMEOUT_S, log=log, check=False)
    fetched = next((path for path in _managed(uv, version) if _fits(path, version)), None)
    if fetched is None:
        raise MissingTool(
            f"{name} needs Python {' or '.join(wanted.python)}; none is on PATH, under pyenv, in /usr/bin or in uv's "
            f"store, and uv cannot fetch it: {installer.complaint(done)}; full log: {log}",
            hint=f"install one: apt install python{version}, pyenv install {version}, or uv python install {version}",
            log=log,
        )
    return fetched


def _candidates(version: str, uv: str) -> Iterator[Path]:
    """Give every file that may be that interpreter: on PATH, under pyenv, in the usual places, in uv's own store.

    That one stands on PATH says little: what pyenv puts there ends with an error unless the version is chosen.
    """
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        yield Path(sys.executable)
    program = f"python{version}.exe" if os.name == "nt" else f"python{version}"
    folders = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    folders += sorted(pyenv.glob(f"{version}.*/bin"), key=_release, reverse=True)
    folders += [Path(place) for place in _PLACES]
    yield from (place / program for place in dict.fromkeys(folders) if (place / program).is_file())
    yield from _managed(uv, version)


def _managed(uv: str, version: str) -> list[Path]:
    told = call(uv, "python", "dir", timeout_s=_ASK_TIMEOUT_S, check=False)
    found = Path(told.output.strip() or os.devnull).glob(f"cpython-{version}.*/bin/python{version}")
    return sorted(found, key=lambda path: _release(path.parent), reverse=True)


def _release(binaries: Path) -> tuple[int, ...]:
    """Return the numbers in the name of the folder that holds an interpreter's `bin`: 3.12.10 comes after 3.12.9."""
    words = binaries.parent.name.removeprefix("cpython-").partition("-")[0].split(".")
    return tuple(int(word) for word in words if word.isdigit())


def _fits(python: Path, version: str) -> bool:
    """Say whether it runs, and is a CPython of that version with its global lock, which the pins' wheels are for."""
    try:
        done = call(python, "-I", "-c", _FITS, timeout_s=_ASK_TIMEOUT_S, check=False)
    except (MissingTool, StageFailed, OSError):
        return False
    return done.exit_code == 0 and done.output.split() == ["cpython", version, "0"]
