# What a Linux board says of itself, as key=value lines. Set before: folder, python. What it does not know, it leaves out.
say() { [ -n "$2" ] && echo "$1=$2"; }
say machine_id "$(cat /etc/machine-id 2>/dev/null)"
say boot_id "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
[ -r /proc/device-tree/model ] && say model "$(tr -d '\000' < /proc/device-tree/model)"
say serial "$( [ -r /proc/device-tree/serial-number ] && tr -d '\000' < /proc/device-tree/serial-number)"
[ -r /etc/os-release ] && say system "$(. /etc/os-release; echo "$PRETTY_NAME")"
say kernel "$(uname -r)"
say architecture "$(uname -m)"
say abi "$(dpkg --print-architecture 2>/dev/null)"
say word_bits "$(getconf LONG_BIT 2>/dev/null)"
say page_bytes "$(getconf PAGESIZE 2>/dev/null)"
say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
say cores "$(nproc 2>/dev/null)"
say features "$(grep -m1 -E '^(Features|flags)' /proc/cpuinfo | cut -d: -f2)"
say core_names "$(grep -E '^(CPU part|model name)' /proc/cpuinfo | cut -d: -f2 | tr '\n' ';')"
say memory_kib "$(grep -m1 MemTotal /proc/meminfo | tr -cd '0-9')"
set -- $(df -Pk "$folder" 2>/dev/null | tail -n 1)
say free_kib "$4"
say governor "$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null)"
say clock_khz "$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq 2>/dev/null)"
# Names of installed packages are read from their folders: importing anything would cost a second on a slow board.
"$python" -c '
import os, sys
print("python=%d.%d.%d" % sys.version_info[:3])
for folder in sys.path:
    for name in (os.listdir(folder) if os.path.isdir(folder) else ()):
        stem, kind = os.path.splitext(name)
        package, _, version = stem.partition("-")
        if kind in (".dist-info", ".egg-info") and package in ("ai_edge_litert", "tflite_runtime", "numpy"):
            print("package=%s %s" % (package.replace("_", "-"), version.split("-py")[0]))
' 2>/dev/null </dev/null
