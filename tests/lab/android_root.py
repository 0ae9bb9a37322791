"""The root of an Android board for tests: adbd, mksh and toybox from Debian packages, laid out as Android has it.

The services behind dumpsys and pm are stand-ins that print what the real ones print.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SUITE = "trixie"
# Android's own toybox has tr, dd, expr, gzip and diff too, and its awk is the original one; Debian's toybox lacks them.
PACKAGES = ("adbd", "mksh", "toybox", "busybox-static", "original-awk")
FROM_BUSYBOX = ("tr", "dd", "expr", "gzip", "diff", "getopt")
MAKE_TIMEOUT_S = 600.0
SHELL_UID = 2000

PROPERTIES = {
    "ro.product.manufacturer": "edgeship", "ro.product.model": "namespace phone", "ro.product.brand": "edgeship",
    "ro.product.device": "namespace", "ro.product.name": "namespace", "ro.product.cpu.abi": "x86_64",
    "ro.product.cpu.abilist": "x86_64", "ro.build.version.release": "14", "ro.build.version.sdk": "34",
    "ro.build.fingerprint": "edgeship/namespace/namespace:14/TEST/1:userdebug/test-keys", "ro.hardware": "virt",
    "ro.board.platform": "namespace", "ro.adb.secure": "0", "sys.boot_completed": "1",
}  # fmt: skip

SHIMS = {
    "getprop": """#!/system/bin/sh
if [ $# -eq 0 ]; then
    cat /system/build.prop /data/property 2>/dev/null | sed 's/^\\([^=]*\\)=\\(.*\\)$/[\\1]: [\\2]/'
    exit
fi
found=$(cat /system/build.prop /data/property 2>/dev/null | grep -F "$1=" | grep "^$1=" | tail -n 1)
if [ -n "$found" ]; then echo "${found#*=}"; else echo "$2"; fi
""",
    "setprop": """#!/system/bin/sh
case $1 in ro.*) echo "setprop: failed to set property '$1' to '$2'" >&2; exit 1;; esac
echo "$1=$2" >> /data/property
""",
    # Answers a file /data/services/NAME in its place, so that a test may make the board hot or empty.
    "dumpsys": """#!/system/bin/sh
if [ -r "/data/services/$1" ]; then cat "/data/services/$1"; exit; fi
case $1 in
battery) cat /system/services/battery;;
thermalservice) cat /system/services/thermalservice;;
*) echo "Can't find service: $1" >&2; exit 1;;
esac
""",
    "cmd": """#!/system/bin/sh
[ "$1" = package ] || { echo "cmd: Can't find service: $1" >&2; exit 20; }
shift
exec /system/bin/pm "$@"
""",
    "pm": """#!/system/bin/sh
case "$1 $2" in
"list packages") echo package:android;;
*) echo "Failure [INSTALL_FAILED_INVALID_APK]"; exit 1;;
esac
""",
    "settings": "#!/system/bin/sh\necho null\n",
    "logcat": "#!/system/bin/sh\nexit 0\n",
    "am": "#!/system/bin/sh\necho 'Error: no activities on this board' >&2\nexit 1\n",
}

# Laid out as the sources print it (BatteryService.java, ThermalManagerService.java of AOSP 14); the figures are made up.
SERVICES = {
    "battery": """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3270000
  status: 5
  health: 2
  present: true
  level: 100
  scale: 100
  voltage: 4352
  temperature: 274
  technology: Li-ion
""",
    "thermalservice": """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 1
\tkilled: false
\tbroadcasts count: -1
ThermalStatusListeners:
\tcallbacks: 1
\tkilled: false
\tbroadcasts count: -1
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=51.0, mType=0, mName=CPU0, mStatus=0}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 1  connected: yes
Current temperatures from HAL:
\tTemperature{mValue=36.5, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=31.25, mType=3, mName=SKIN, mStatus=0}
\tTemperature{mValue=-99.9, mType=6, mName=POWER_AMPLIFIER, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=cpu0}
""",
}


def require(missing: str) -> None:
    """Skip the test, or fail it where the lab has to be complete."""
    if os.environ.get("EDGESHIP_REQUIRE_LAB") == "1":
        pytest.fail(f"the lab needs {missing}")
    pytest.skip(f"needs {missing}")


def make_root(folder: Path) -> Path:
    """Return the board's root below a folder, made once for all who share the folder."""
    about = repr((SUITE, PACKAGES, FROM_BUSYBOX, PROPERTIES, SHIMS, SERVICES))
    root = folder / f"android-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".android.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            made = root.with_name(root.name + ".new")
            shutil.rmtree(made, ignore_errors=True)
            _unpack(made)
            _furnish(made)
            made.rename(root)
    return root


def _unpack(root: Path) -> None:
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc")]
    words = ["mmdebstrap", "--mode=root", "--variant=extract", "--architectures=amd64", *left_out,
             f"--include={','.join(PACKAGES)}", SUITE, str(root)]  # fmt: skip
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=MAKE_TIMEOUT_S)
    if done.returncode != 0:
        require(f"mmdebstrap to unpack {', '.join(PACKAGES)} of Debian {SUITE}: {done.stderr[-300:]}")


def _furnish(root: Path) -> None:
    """Make a Debian root look like Android: everything a program may use is below /system/bin."""
    shutil.rmtree(root / "tmp")  # Android has none
    tools = root / "system/bin"
    for folder in (tools, root / "system/host", root / "system/services", root / "data", root / "sdcard"):
        folder.mkdir(parents=True)
    for folder in (root / "proc", root / "sys"):
        folder.mkdir(exist_ok=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    shutil.copy(root / "usr/bin/mksh", tools / "sh")
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("/system/bin/sh")  # what Debian's adbd starts
    shutil.copy(root / "usr/bin/toybox", tools / "toybox")
    listed = subprocess.run(
        ["chroot", root, "/system/bin/toybox"], check=True, capture_output=True, text=True, timeout=60
    )
    for name in listed.stdout.split():
        (tools / name).symlink_to("toybox")
    shutil.copy(root / "usr/bin/busybox", tools / "busybox-for-the-test")
    for name in FROM_BUSYBOX:
        (tools / name).symlink_to("busybox-for-the-test")
    shutil.copy(root / "usr/bin/original-awk", tools / "awk")
    for name, text in SHIMS.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    for name, text in SERVICES.items():
        (root / "system/services" / name).write_text(text)
    (root / "system/build.prop").write_text("".join(f"{key}={value}\n" for key, value in PROPERTIES.items()))
    accounts = f"root:x:0:0::/:/system/bin/sh\nshell:x:{SHELL_UID}:{SHELL_UID}::/:/system/bin/sh\n"
    (root / "etc/passwd").write_text(accounts)
    (root / "etc/group").write_text(f"root:x:0:\nshell:x:{SHELL_UID}:\n")
