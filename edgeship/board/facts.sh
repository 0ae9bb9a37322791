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
# Edge TPUs: on USB 1a6e:089a until a program first opens it, 18d1:9302 from then on; on PCIe a node of the apex driver.
for one in "${sys:-/sys}"/bus/usb/devices/*; do
    [ -r "$one/idVendor" ] && [ -r "$one/idProduct" ] || continue
    read -r vendor < "$one/idVendor"; read -r product < "$one/idProduct"
    case $vendor:$product in 1a6e:089a | 18d1:9302) ;; *) continue ;; esac
    read -r bus < "$one/busnum"; read -r number < "$one/devnum"
    node=$(printf '%s/bus/usb/%03d/%03d' "${dev:-/dev}" "$bus" "$number")
    [ -w "$node" ] && may=yes || may=no
    say edgetpu "usb $vendor:$product $may"
done
for one in "${sys:-/sys}"/class/apex/apex_*; do
    [ -e "$one" ] || continue
    [ -w "${dev:-/dev}/${one##*/}" ] && may=yes || may=no
    say edgetpu "pcie ${one##*/} $may"
done
for one in "${usr:-/usr}"/lib/*/libedgetpu.so.1 "${usr:-/usr}"/lib/libedgetpu.so.1 "${usr:-/usr}"/local/lib/libedgetpu.so.1; do
    [ -e "$one" ] || continue
    set -- $(dpkg-query -W -f '${db:Status-Abbrev}${Version}\n' libedgetpu1-std libedgetpu1-max 2>/dev/null | grep '^ii')
    say libedgetpu "${2:-unknown}"
    break
done
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
