# The warden of one run: holds the board's lease, and cleans up when the workstation falls silent, however it ended.
# Reads heartbeats on stdin; runs under dash, busybox sh and Android's mksh with toybox. Set before:
#   folder   where edgeship keeps its things here       run      this run's name
#   lease    the lease's name, or empty: the machine id  who      who holds it, in words
#   silence  seconds without a heartbeat that end it     governor to set for the run, or empty
#   sys      /sys                                        wait     seconds to wait for the lease
umask 077
mine=$folder/runs/$run

for tool in flock timeout head sha256sum; do
    command -v $tool >/dev/null 2>&1 || { echo "edgeship lacks $tool"; exit 69; }
done
refuse() { # with what the system said
    case $1 in *"No space"* | *[Qq]uota*) echo "edgeship full $folder" ;; *) echo "edgeship unwritable $1" ;; esac
    exit 73
}
case $folder in /?*) ;; *) refuse "'$folder' is no absolute path" ;; esac
said=$(mkdir -p "$folder/blobs" "$folder/trees" "$folder/runs" 2>&1) || refuse "$said"

key=$lease
[ -n "$key" ] || key=$(cat /etc/machine-id 2>/dev/null)
[ -n "$key" ] || key=$(getprop ro.serialno 2>/dev/null)
[ -n "$key" ] || key=$(cat /proc/sys/kernel/random/boot_id)
for place in /tmp /data/local/tmp "$folder"; do [ -d "$place" ] && [ -w "$place" ] && break; done
lock=$place/edgeship-$(echo "$key" | tr -cd 'A-Za-z0-9._-').lease
# Readable by all, since another user of the board takes the same lease; made only where nothing stands and never through
# a link, since anybody may put one into a folder like /tmp.
[ -e "$lock" ] || (umask 022; set -C; : > "$lock") 2>/dev/null
[ -L "$lock" ] && refuse "$lock is a link that somebody put there"
(: < "$lock") 2>/dev/null || refuse "$lock cannot be read" # a failed exec would end the shell unheard
exec 9< "$lock"
waited=0 holder= name=
until flock -n 9 9<&9; do
    if [ "$waited" -ge "$wait" ]; then
        [ -L "$lock.by" ] || read -r holder name 2>/dev/null < "$lock.by"
        [ -n "$holder" ] && [ -d "/proc/$holder" ] || name= # left by one who is gone
        echo "edgeship busy $name"
        exit 75
    fi
    waited=$((waited + 1)); sleep 1
done
rm -f "$lock.by" 2>/dev/null
(umask 022; set -C; echo "$$ $who" > "$lock.by") 2>/dev/null

# The kernel shows a process' environment as it was at its start, so the mark finds all that a run started.
end_processes() {
    tries=0
    while [ $tries -lt 100 ]; do
        found=$(grep -ls "EDGESHIP_RUN=$1" /proc/[0-9]*/environ 2>/dev/null)
        [ -n "$found" ] || return 0
        for entry in $found; do
            entry=${entry#/proc/}
            kill -9 "${entry%/environ}" 2>/dev/null
        done
        tries=$((tries + 1)); sleep 0.05
    done
}
restore_governors() {
    [ -f "$1/governors" ] || return 0
    while read -r file before; do echo "$before" > "$file"; done 2>/dev/null < "$1/governors"
}
remove_run() {
    end_processes "${1##*/}"
    restore_governors "$1"
    # Unfinished things outside the run's folder, each a path on a line.
    [ -f "$1/leftovers" ] && while read -r path; do rm -rf "$path"; done < "$1/leftovers"
    rm -rf "$1"
}
# What a run left whose own warden was killed: nobody holds its lock.
sweep() {
    for left in "$folder"/runs/*; do
        [ -r "$left/.lock" ] || continue
        exec 7< "$left/.lock"
        flock -n 7 7<&7 && remove_run "$left"
        exec 7<&-
    done
    find "$folder/runs" -maxdepth 1 -name '.new-*' -mmin +60 -exec rm -rf {} + 2>/dev/null
}
sweep

new=$folder/runs/.new-$run
said=$(mkdir "$new" 2>&1 && { : > "$new/.lock"; } 2>&1) || refuse "$said"
exec 8< "$new/.lock"
flock -n 8 8<&8
mv "$new" "$mine"

finish() {
    trap '' HUP INT TERM PIPE
    remove_run "$mine"
    rm -f "$lock.by" 2>/dev/null
    exit 0
}
trap finish HUP INT TERM PIPE

if [ -n "$governor" ]; then
    for file in "$sys"/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor; do
        [ -e "$file" ] || continue
        echo "$file $(cat "$file")" >> "$mine/governors"
    done
    restored=no
    if [ -s "$mine/governors" ]; then
        while read -r file before; do { echo "$governor" > "$file"; } 2>/dev/null || restored=refused; done < "$mine/governors"
    else
        restored=absent
    fi
    echo "edgeship governor $restored"
fi
