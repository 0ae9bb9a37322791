"""The first files of a virtual board: an archive that Linux, and so cpio, can read."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from edgeship.lab import kernel


def test_a_member_is_written_as_the_kernels_document_says() -> None:
    made = kernel.archive({"init": b"abcde"}, links={}, folders=())
    assert made.startswith(b"07070100000001000081ED")
    assert made[6 + 8 * 6 : 6 + 8 * 7] == b"00000005"  # the size
    assert made[110:116] == b"init\0" + b"a"[:0] + b"\0"  # 110 + 5 bytes, padded to a multiple of four
    assert made[116:124] == b"abcde\0\0\0"
    assert made.endswith(b"TRAILER!!!\0\0\0\0") and len(made) % 4 == 0


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_reads_it_back(tmp_path: Path) -> None:
    made = kernel.archive({"bin/tool": b"#!x\n", "init": b""}, links={"bin/sh": "tool"}, folders=("bin", "dev"))
    subprocess.run(["cpio", "--extract", "--quiet"], input=made, cwd=tmp_path, check=True)
    assert (tmp_path / "bin/sh").readlink() == Path("tool")
    assert (tmp_path / "bin/tool").read_bytes() == b"#!x\n"
    assert stat.S_IMODE((tmp_path / "init").stat().st_mode) == 0o755
    assert (tmp_path / "dev").is_dir()
