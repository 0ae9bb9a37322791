# What an Android board says of itself, as key=value lines. Set before: folder. What it does not know, it leaves out.
# Needs mksh and toybox only; nothing here reads standard input, which carries heartbeats.
say() { [ -n "$2" ] && echo "$1=$2"; }
prop() { getprop "$1" 2>/dev/null </dev/null; }
# Reads a file's first line into $told; many files under /sys are closed to the shell user of a phone.
ask() { told=; { read -r told < "$1"; } 2>/dev/null; }

ask /etc/machine-id; say machine_id "${told:-$(prop ro.serialno)}"
ask /proc/sys/kernel/random/boot_id; say boot_id "${told:-$(prop ro.runtime.firstboot)}"
say serial "$(prop ro.serialno)"
say manufacturer "$(prop ro.product.manufacturer)"
say model "$(prop ro.product.model)"
say soc "$(prop ro.soc.model)"
say platform "$(prop ro.board.platform)"
say release "$(prop ro.build.version.release)"
say sdk "$(prop ro.build.version.sdk)"
say fingerprint "$(prop ro.build.fingerprint)"
say abi "$(prop ro.product.cpu.abi)"
say kernel "$(uname -r 2>/dev/null)"
say architecture "$(uname -m 2>/dev/null)"
say page_bytes "$(getconf PAGESIZE 2>/dev/null)"
[ -e /system/bin/linker64 ] || [ -e /system/bin/linker ] && echo libc=bionic

for core in /sys/devices/system/cpu/cpu[0-9]*; do
    ask "$core/cpufreq/cpuinfo_max_freq"; most=$told
    ask "$core/cpu_capacity"
    say core "${core##*/cpu} ${most:--} ${told:--}"
done
grep -E '^(processor|CPU implementer|CPU part|model name)' /proc/cpuinfo 2>/dev/null | sed 's/^/cpuinfo=/'
say features "$(grep -m1 -E '^(Features|flags)' /proc/cpuinfo 2>/dev/null | cut -d: -f2)"
grep -m1 MemTotal /proc/meminfo 2>/dev/null | sed 's/^/meminfo=/'
df -kP "$folder" 2>/dev/null | tail -n 1 | sed 's/^/df=/'
ask /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor; say governor "$told"
ask /sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq; say clock_khz "$told"
