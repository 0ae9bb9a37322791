"""What starts a virtual board: Debian's kernel, and the small archive of first files that finds its disk."""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Mapping
from pathlib import Path

from edgeship import command, resources
from edgeship.errors import StageFailed

# In the order they need one another. Debian's package does not list this: its own script makes that list when installed.
MODULES = ("failover", "net_failover", "virtio_mmio", "virtio_blk", "virtio_net", "virtio-rng")
_FOLDERS = ("bin", "dev", "modules", "root")
_FILE, _FOLDER, _LINK = 0o100755, 0o040755, 0o120777


def make(package: Path, busybox: Path, out: Path, *, work: Path, log: Path) -> None:
    """Write `vmlinuz` and `initrd.img` into a folder, from Debian's kernel package and a static busybox.

    Raises:
        StageFailed: the package lacks the kernel or a driver.
    """
    command.call("dpkg-deb", "--extract", package, work, timeout_s=120, log=log)
    kernel = next(work.glob("boot/vmlinuz-*"), None)
    if kernel is None:
        raise StageFailed(f"{package.name}: no kernel in it; full log: {log}", log=log)
    shutil.copyfile(kernel, out / "vmlinuz")
    files = {f"modules/{name}.ko": _module(work, name, package) for name in MODULES}
    files["modules/order"] = "".join(f"{name}.ko\n" for name in MODULES).encode()
    files["bin/busybox"] = busybox.read_bytes()
    files["init"] = resources.data("lab/initramfs-init").read_bytes()
    (out / "initrd.img").write_bytes(archive(files, links={"bin/sh": "busybox"}, folders=_FOLDERS))


def archive(files: Mapping[str, bytes], *, links: Mapping[str, str], folders: tuple[str, ...]) -> bytes:
    """Return a cpio archive in the `newc` form that Linux unpacks at its start; every file is executable.

    The form: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
    """
    members = [(name, _FOLDER, b"") for name in folders]
    members += [(name, _FILE, content) for name, content in sorted(files.items())]
    members += [(name, _LINK, where.encode()) for name, where in sorted(links.items())]
    members.append(("TRAILER!!!", 0, b""))
    return b"".join(_member(number, *member) for number, member in enumerate(members, start=1))


def _member(number: int, name: str, mode: int, content: bytes) -> bytes:
    word = name.encode() + b"\0"
    # inode, mode, user, group, links, time, size, device, device, device, device, length of the name, check
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(word), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(head + word) + _padded(content)


def _padded(piece: bytes) -> bytes:
    return piece + b"\0" * (-len(piece) % 4)


def _module(tree: Path, name: str, package: Path) -> bytes:
    found = next(tree.rglob(f"{name}.ko*"), None)
    if found is None:
        raise StageFailed(f"{package.name}: the driver {name} is not in it")
    content = found.read_bytes()
    return lzma.decompress(content) if found.suffix == ".xz" else content
