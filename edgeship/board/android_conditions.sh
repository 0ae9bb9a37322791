# An Android board's conditions at this moment, as key=value lines. What it does not tell, it leaves out.
# Needs mksh and toybox only; nothing here reads standard input.
say() { [ -n "$2" ] && echo "$1=$2"; }
ask() { told=; { read -r told < "$1"; } 2>/dev/null; }

ask /proc/uptime; say uptime "$told"
say wall "$(date +%s.%N 2>/dev/null)"
# The clocks first: what follows wakes other cores.
for core in /sys/devices/system/cpu/cpu[0-9]*; do
    ask "$core/cpufreq/scaling_cur_freq"; clock=$told
    ask "$core/cpufreq/scaling_governor"
    [ -n "$clock$told" ] && echo "core=${core##*/cpu} ${clock:--} ${told:--}"
done
ask /proc/loadavg; say loadavg "$told"
grep -E '^(MemAvailable|SwapTotal|SwapFree):' /proc/meminfo 2>/dev/null | sed 's/^/meminfo=/'
grep -E '^(pswpin|pswpout) ' /proc/vmstat 2>/dev/null | sed 's/^/vmstat=/'
for zone in /sys/class/thermal/thermal_zone*; do
    ask "$zone/type"; type=$told
    ask "$zone/temp"
    say zone "${told:+$told $type}"
done
{ dumpsys thermalservice | sed 's/^/thermalservice=/'; dumpsys battery | sed 's/^/battery=/'; } 2>/dev/null </dev/null
true
