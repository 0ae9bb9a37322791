"""The disk, kernel and keys of a virtual board: made once from Debian's packages, then shared by all virtual boards.

Any user can make one: packages are unpacked as whoever runs this, and the owners are set inside the finished file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeship import command, digest, resources, scratch
from edgeship.errors import MissingTool, StageFailed
from edgeship.lab import debian, kernel, wheels
from edgeship.progress import OnProgress, Progress, silent

DISK_MIB = 2048  # of the board; a sparse file here
NEEDED_MIB = 900  # while it is made
KEPT_DAYS = 14  # since an image or a snapshot was last used
USER = "pi"
RUNTIME = "ai-edge-litert"
_USER_ID = 1000
_STEPS = 6
# Program → the Debian package that brings it.
RUNNING = {"qemu-system-aarch64": "qemu-system-arm", "qemu-img": "qemu-utils"}
MAKING = {**RUNNING, "apt-get": "apt", "dpkg-deb": "dpkg", "mkfs.ext4": "e2fsprogs", "debugfs": "e2fsprogs"}
_PASSWD = f"""\
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
{USER}:x:{_USER_ID}:{_USER_ID}::/home/{USER}:/bin/bash
"""
_SHADOW = f"root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n{USER}:*:19000:0:99999:7:::\n"


@dataclass(frozen=True)
class Image:
    """A made image: `folder` holds `root.img`, `vmlinuz`, `initrd.img` and `id_ed25519`; `key` says what it was made of."""

    key: str
    folder: Path

    @property
    def disk(self) -> Path:
        """Return the file of the board's disk, which is never written again."""
        return self.folder / "root.img"

    @property
    def identity(self) -> Path:
        """Return the private key that the board's users take."""
        return self.folder / "id_ed25519"

    @property
    def host_key(self) -> str:
        """Return the board's own public key, in the words of a known_hosts file."""
        return (self.folder / "host_key.pub").read_text().strip()


Settle = Callable[[Image, Path, Path], None]  # a new image, an empty place to work in, the lab


def require_programs(programs: Mapping[str, str]) -> None:
    """Refuse when programs are missing; the hint brings all of them in one line.

    Raises:
        MissingTool: at least one is missing.
    """
    absent = [program for program in programs if program_path(program) is None]
    if absent:
        missing = sorted({programs[program] for program in absent})
        raise MissingTool(
            f"virtual boards need programs that are not on this machine: {', '.join(absent)}",
            hint=f"apt-get install --no-install-recommends {' '.join(missing)}",
        )


def program_path(program: str) -> str | None:
    """Return where a program is, also in the folders that Debian keeps from ordinary users' PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def require_space(folder: Path, mib: int) -> None:
    """Refuse when the disk of a folder has less than so many MiB to give.

    Raises:
        StageFailed: it has less; the text starts with the folder.
    """
    free = shutil.disk_usage(folder).free >> 20
    if free < mib:
        raise StageFailed(
            f"{folder}: no space left on its disk: making a virtual board takes {mib} MiB, {free} MiB are free",
            hint="set EDGESHIP_HOME to a folder on a larger disk",
        )


def key_of(runtime: str) -> str:
    """Return the sha256 of all that decides an image's content, but for what Debian's mirror holds that day."""
    here = Path(__file__).parent
    code = {name: digest.of_file(here / name) for name in ("image.py", "debian.py", "kernel.py", "wheels.py")}
    return digest.of_value([code, digest.of_path(resources.data("lab")), runtime, debian.SUITE])


def make(
    lab: Path, *, runtime: str, settle: Settle, mirror: str | None = None, on_progress: OnProgress = silent
) -> Image:
    """Return the image below the folder `lab`, made if it is not there; two that ask at once make it once.

    Args:
        runtime: the version of ai-edge-litert that the board's Python has.
        settle: starts the new image once and lets it write what only it can; the last step.
        mirror: address of a Debian mirror; without it, the one that this machine uses.

    Raises:
        MissingTool: programs are missing; the hint is the one command that brings them all.
        StageFailed: a step failed or the disk is full; the text ends with the path of the log.
        BadInput: this machine names no mirror and nobody else did.
    """
    key = key_of(runtime)
    images = lab / "images"
    made = Image(key, images / key[:16])
    if (made.folder / "image.json").is_file():
        used(made.folder / "image.json")
        return made
    require_programs(MAKING)
    images.mkdir(parents=True, exist_ok=True)
    with locked(images / f"{key[:16]}.lock"):
        if not (made.folder / "image.json").is_file():  # another may have made it meanwhile
            require_space(images, NEEDED_MIB)
            shutil.rmtree(made.folder, ignore_errors=True)
            log = lab / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-image.log"
            with scratch.folder(images) as work:
                _make(made, work, runtime, mirror or debian.host_mirror(), log, on_progress)
                settle(Image(key, work / "out"), work / "settle", lab)
                (work / "out").rename(made.folder)
            _forget_unused(lab)
            on_progress(Progress("image", _STEPS, _STEPS, "made"))
    return made


def used(marker: Path) -> None:
    """Note that an image or a snapshot is in use; what is not is forgotten some day."""
    with contextlib.suppress(OSError):
        os.utime(marker)


def _forget_unused(lab: Path) -> None:
    """Remove the images and snapshots of other versions that nobody used for long, but for those that machines run on."""
    running = "".join(record.read_text() for record in lab.glob("machines/*/machine.json"))
    for marker in (*lab.glob("images/*/image.json"), *lab.glob("snapshots/*/disk.qcow2")):
        if marker.stat().st_mtime < time.time() - KEPT_DAYS * 86400 and marker.parent.name not in running:
            shutil.rmtree(marker.parent, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the kernel frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make(image: Image, work: Path, runtime: str, mirror: str, log: Path, on_progress: OnProgress) -> None:
    """Write the image into the folder `out` of the empty folder `work`."""

    def tell(step: int, text: str) -> None:
        on_progress(Progress("image", step, _STEPS, text))

    out, root = work / "out", work / "root"
    out.mkdir(mode=0o700)
    tell(0, f"what Debian {debian.SUITE} has")
    source = debian.archive(work / "apt", mirror=mirror, log=log)
    tell(1, "Debian's packages")
    packages = source.install(_packages())
    tell(2, "unpacking")
    debian.unpack(packages, root, log=log)
    kernel.make(source.kernel(), root / "usr/bin/busybox", out, work=work / "kernel", log=log)
    tell(3, f"{RUNTIME} {runtime}")
    wheels.install(f"{RUNTIME}=={runtime}", root, log=log)
    tell(4, "the file system")
    _furnish(root, out)
    _write_disk(root, out / "root.img", log)
    about = {"mirror": mirror, "runtime": runtime, "packages": [path.name for path in packages]}
    (out / "image.json").write_text(json.dumps(about, indent=1))
    tell(5, "its first start")


def _packages() -> list[str]:
    lines = resources.data("lab/packages.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _furnish(root: Path, out: Path) -> None:
    """Do what the packages' scripts would have done, and bring the board's own files and keys."""
    shipped = resources.data("lab")
    own = root / "usr/lib/edgeship"
    own.mkdir(parents=True)
    for name in ("start", "identify", "console", "settle"):
        _place(shipped / name, own / name, 0o755)
    (own / "init").symlink_to("../../bin/busybox")
    shutil.copytree(shipped / "android", own / "android")
    for tool in (own / "android/bin").iterdir():
        tool.chmod(0o755)
    _place(shipped / "inittab", root / "etc/inittab", 0o644)
    _place(shipped / "sshd_config", root / "etc/ssh/sshd_config", 0o644)
    for name, more in (("passwd", _PASSWD), ("group", f"{USER}:x:{_USER_ID}:\n")):
        master = (root / f"usr/share/base-passwd/{name}.master").read_text()
        (root / f"etc/{name}").write_text(master.replace("root:*:", "root:x:") + more)
    (root / "etc/shadow").write_text(_SHADOW)
    (root / "etc/shadow").chmod(0o640)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "data/local/tmp").mkdir(parents=True)
    (root / "data/local/tmp").chmod(0o777)
    if not (root / "usr/bin/awk").exists():
        (root / "usr/bin/awk").symlink_to("mawk")
    _write_keys(root, out)


def _place(source: Path, target: Path, mode: int) -> None:
    shutil.copyfile(source, target)
    target.chmod(mode)


def _write_keys(root: Path, out: Path) -> None:
    private, public = _new_key()
    _private(out / "id_ed25519", private)
    for home in ("root", f"home/{USER}"):
        folder = root / home / ".ssh"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "authorized_keys").write_bytes(public + b"\n")
        folder.chmod(0o700)
    private, public = _new_key()
    _private(root / "etc/ssh/ssh_host_ed25519_key", private)
    (out / "host_key.pub").write_bytes(public + b"\n")


def _new_key() -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    return private, key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)


def _private(path: Path, content: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(content)


def _write_disk(root: Path, disk: Path, log: Path) -> None:
    """Write an ext4 file system with a journal; every file in it is root's, but for the user's home."""
    mkfs, debugfs = program_path("mkfs.ext4"), program_path("debugfs")
    assert mkfs is not None and debugfs is not None
    with disk.open("wb") as stream:
        stream.truncate(DISK_MIB << 20)
    options = ("-q", "-F", "-m", "0", "-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0")
    command.call(mkfs, *options, "-d", root, disk, timeout_s=600, log=log)
    lines = []
    for path in (*root.rglob("*"), root / "lost+found"):
        name = path.relative_to(root)
        owner = _USER_ID if name.parts[:2] == ("home", USER) else 0
        lines += [f'set_inode_field "/{name}" {field} {owner}' for field in ("uid", "gid")]
    orders = disk.with_name("owners")
    orders.write_text("\n".join(lines))
    done = command.call(debugfs, "-w", "-f", orders, disk, timeout_s=600)
    orders.unlink()
    complaints = [line for line in done.errors.splitlines() if not line.startswith("debugfs ")]
    if complaints:
        raise StageFailed(f"{disk}: the owners of its files cannot be set: {complaints[0]}; full log: {log}", log=log)
