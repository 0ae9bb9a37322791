"""Runtimes for boards that lack one: the right wheels, fetched here and packed into one archive for the board's PYTHONPATH.

The board needs no network and no installer. What running a model does not need (compilers, accelerators, tests) is left out.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from edgeship import digest, installer, runtime_release, scratch
from edgeship.command import call
from edgeship.errors import DeviceFault, MissingTool
from edgeship.progress import OnProgress, Progress, silent
from edgeship.runtime_release import Refusal, Release, numbers
from edgeship.store import no_space_named, write_whole
from edgeship.target import Runtime

FETCH_TIMEOUT_S = 900.0
_HINT = "install a runtime on the board yourself, give the device another `python`, or a `benchmark_model` for it"
_KEEP = ("numpy/*", "numpy.libs/*", "*.dist-info/METADATA")
_LEAVE = (  # of numpy: tests, stubs, what compiles extensions
    "*/tests/*", "*/f2py/*", "*/distutils/*", "*/typing/*", "*/include/*", "*.pyi", "*.pxd", "*.pyx", "*.h", "*.a", "*.c", "*.py,cover",
    "*/__pycache__/*", "*/_pyinstaller/*",
)  # fmt: skip
_UV_ARCHITECTURES = ("aarch64", "x86_64")  # uv 0.13 has no platform name for 32-bit Arm
_UV_GLIBC = (17, 28, *range(31, 41))
_FORMAT = 1  # of the archive: part of its key


@dataclass(frozen=True)
class Wheels:
    """What a board takes: a release of a runtime for its architecture and Python (`3.11`), and the numpy with it.

    `numpy` is None where there are no wheels of it: the board then needs its own, which the command `board_numpy` brings.
    """

    package: str
    version: str
    architecture: str
    python: str
    numpy: str | None
    board_numpy: str | None = None

    @property
    def requirements(self) -> tuple[str, ...]:
        """Return what is installed, in an installer's words."""
        return (f"{self.package}=={self.version}", *([f"numpy=={self.numpy}"] if self.numpy else []))

    @property
    def title(self) -> str:
        """Return the release, and what it is for."""
        return f"{self.package} {self.version} for Python {self.python} on {self.architecture}"


@dataclass(frozen=True)
class Packed:
    """An archive that is there."""

    path: Path
    sha256: str
    size_bytes: int


def choose(
    runtimes: Sequence[Runtime], *, architecture: str | None, python: str | None, libc: str | None
) -> Wheels | Refusal:
    """Return the best release that a board can take: the target's own if it fits, else the newest that does.

    Args:
        runtimes: those of the board's target, in its order.
        architecture: of the board's userland: aarch64, armv7l or x86_64.
        python: its version, `3.11` or `3.11.2`; None where there is none.
        libc: `glibc 2.36` or `2.36`; anything else, such as musl, takes no wheels.
    """
    if python is None or architecture is None:
        missing = "it has no Python" if python is None else "its architecture is not known"
        return Refusal(f"no runtime can be brought to it: {missing}", _HINT)
    glibc = _glibc(libc)
    if glibc is None:
        return Refusal(
            f"no runtime can be brought to it: its C library is {libc or 'not known'}, and wheels need glibc", _HINT
        )
    releases = []
    for runtime in runtimes:
        release = runtime_release.find(runtime.name, runtime.version)
        if release is not None and release.version == runtime.version:
            releases.append(release)
        elif runtime.delegate:  # built for one release of the runtime: no other will do
            what = f"{runtime.name} {runtime.version or ''}".strip()
            return Refusal(
                f"it lacks {what}, which {runtime.delegate} is built for, and edgeship knows no wheels of it", _HINT
            )
    reasons = []
    for release in (*releases, *runtime_release.read_all()):
        reason = _misfit(release, architecture, python, glibc)
        if reason is None:
            return _wheels(release, architecture, python)
        reasons.append(reason)
    what = f"{architecture}, Python {python}, glibc {'.'.join(map(str, glibc))}"
    return Refusal(f"no runtime fits it ({what}): {'; '.join(dict.fromkeys(reasons))}", _HINT)


def fetch(wheels: Wheels, *, device: str, cache: Path, log: Path, on_progress: OnProgress = silent) -> Packed:
    """Return the archive (tar.gz) of a runtime: unpacked on the board, its folder is the PYTHONPATH.

    Args:
        device: whom it is for, for messages.
        cache: the folder where archives are kept; one that is there, and whole, is taken from there.
        log: gets the installer's command line and output.

    Raises:
        DeviceFault: `missing`, the board lacks the runtime and this machine cannot fetch it.
        MissingTool: there is neither uv nor pip here.
        StageFailed: there is no space left.
    """
    patterns = (*_release(wheels).wheels.keep, *_KEEP)
    key = digest.of_value([_FORMAT, wheels.requirements, wheels.architecture, wheels.python, patterns, _LEAVE])
    path = cache / f"{wheels.package}-{wheels.version}-{wheels.architecture}-py{wheels.python}-{key}.tar.gz"
    with no_space_named(cache):
        cache.mkdir(parents=True, exist_ok=True)
        found = _packed(path)
        if found is None:
            on_progress(Progress("runtime", 0, 3, f"waiting for {wheels.title}"))
            with scratch.locked(path.with_suffix(".lock")):
                found = _packed(path) or _made(wheels, patterns, path, device, log, on_progress)
    return found


def _made(
    wheels: Wheels, patterns: Sequence[str], path: Path, device: str, log: Path, on_progress: OnProgress
) -> Packed:
    with scratch.folder(path.parent) as work:
        on_progress(Progress("runtime", 0, 3, f"fetching {wheels.title}"))
        tree, archive = work / "tree", work / "tree.tar.gz"
        _install(wheels, tree, device, log)
        on_progress(Progress("runtime", 1, 3, "packing what a board needs"))
        _pack(tree, [file for file in _files(tree) if _wanted(file.relative_to(tree).as_posix(), patterns)], archive)
        on_progress(Progress("runtime", 2, 3, "keeping it"))
        made = Packed(path, digest.of_file(archive), archive.stat().st_size)
        archive.replace(path)
        write_whole(_note(path), made.sha256.encode())
    on_progress(Progress("runtime", 3, 3, wheels.title))
    return made


def _misfit(release: Release, architecture: str, python: str, glibc: tuple[int, ...]) -> str | None:
    wheels = release.wheels
    if architecture not in wheels.needs:
        return f"{release.title} has no wheels for {architecture}"
    if _minor(python) not in wheels.numpy:
        pythons = sorted(wheels.numpy, key=numbers)
        return f"{release.title} needs Python {pythons[0]} to {pythons[-1]}"
    if glibc < numbers(wheels.needs[architecture]):
        return f"{release.title} needs glibc {wheels.needs[architecture]}"
    return None


def _wheels(release: Release, architecture: str, python: str) -> Wheels:
    minor, bring = _minor(python), release.wheels.board_numpy.get(architecture)
    numpy = None if bring else release.wheels.numpy[minor]
    return Wheels(release.name, release.version, architecture, minor, numpy, bring)


def _release(wheels: Wheels) -> Release:
    release = runtime_release.find(wheels.package, wheels.version)
    if release is None:
        raise ValueError(f"no release {wheels.package} {wheels.version} in the data")  # `choose` gives none such
    return release


def _minor(python: str) -> str:
    return ".".join(str(part) for part in numbers(python)[:2])


def _glibc(libc: str | None) -> tuple[int, ...] | None:
    kind, _, version = (libc or "").strip().rpartition(" ")
    return numbers(version)[:2] or None if kind.lower() in ("", "glibc") else None


def _install(wheels: Wheels, tree: Path, device: str, log: Path) -> None:
    """Fill a folder as an installer would fill site-packages on the board."""
    # A configuration of its own: above edgeship's home may stand a project whose constraints are not ours.
    (tree.parent / "uv.toml").touch()
    done = call(
        *_installer(wheels), "--target", tree, "--no-deps", "--only-binary", ":all:", *wheels.requirements,
        timeout_s=FETCH_TIMEOUT_S, log=log, check=False, folder=tree.parent,
    )  # fmt: skip
    if done.exit_code != 0:
        raise DeviceFault(
            f"{device}: the board lacks {wheels.package} {wheels.version} and this machine cannot fetch it: "
            f"{installer.complaint(done)}; full log: {log}",
            fault="missing",
            hint=f"install it on the board (python3 -m pip install {' '.join(wheels.requirements)}), or run this once with a network",
            log=log,
        )


def _installer(wheels: Wheels) -> list[str]:
    """Return the start of a command that installs for another machine: uv's own, or pip's."""
    tag = numbers(_release(wheels).wheels.tag[wheels.architecture])[-1]
    uv = installer.uv()
    if uv and wheels.architecture in _UV_ARCHITECTURES:
        platform = f"{wheels.architecture}-manylinux_2_{next(minor for minor in _UV_GLIBC if minor >= max(tag, 28))}"
        return [
            uv, "pip", "install", "--quiet", "--python", sys.executable, "--python-platform", platform, "--python-version", wheels.python,
            "--link-mode", "copy",
        ]  # fmt: skip
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip"]
    elif uv:
        pip = [uv, "tool", "run", "pip"]
    else:
        raise MissingTool(
            f"uv or pip is needed to fetch {wheels.title}, and neither is here", hint=installer.INSTALL_UV
        )
    platforms = [f"manylinux_2_{minor}_{wheels.architecture}" for minor in range(max(tag, 28), 16, -1)]
    tags = [word for name in (*platforms, f"manylinux2014_{wheels.architecture}") for word in ("--platform", name)]
    return [
        *pip, "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--implementation", "cp",
        "--python-version", wheels.python, *tags,
    ]  # fmt: skip


def _files(tree: Path) -> list[Path]:
    return sorted(path for path in tree.rglob("*") if path.is_file())


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns) and not any(
        fnmatchcase(name, pattern) for pattern in _LEAVE
    )


def _pack(tree: Path, kept: Sequence[Path], archive: Path) -> None:
    """Write files so that the same content makes the same bytes: in order, without times or owners."""
    with archive.open("wb") as raw:
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
            for path in kept:
                member = tarfile.TarInfo(path.relative_to(tree).as_posix())
                member.size, member.mode = path.stat().st_size, 0o755 if os.access(path, os.X_OK) else 0o644
                with path.open("rb") as content:
                    tar.addfile(member, content)
        raw.flush()
        os.fsync(raw.fileno())


def _note(archive: Path) -> Path:
    return archive.with_suffix(".sha256")


def _packed(path: Path) -> Packed | None:
    """Return an archive that is there and is what its note says."""
    try:
        sha = digest.of_file(path)
        return Packed(path, sha, path.stat().st_size) if _note(path).read_text() == sha else None
    except (OSError, ValueError):
        return None
