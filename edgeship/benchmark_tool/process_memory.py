"""A program's memory on a board, read from /proc by the shell beside it: nothing in the program is disturbed.

The kernel's high-water mark (VmHWM) misses nothing between two looks; anonymous and proportional memory have no such
mark, so theirs is the most that was seen in looks a tenth of a second apart.
"""

from __future__ import annotations

import re

from edgeship.measurement import Memory

SOURCE = "VmHWM and RssAnon of /proc/PID/status, Pss of smaps_rollup, every 0.1 s in a run of its own"
_LINE = re.compile(r"(VmHWM|RssAnon|Pss):\s+(\d+) kB")
# A process that ended but was not waited for has no Vm lines, so looking at it also says whether it still runs.
_SCRIPT = """look() {{
    grep -E '^(VmHWM|RssAnon):' /proc/$1/status 2>/dev/null || return 1
    grep '^Pss:' /proc/$1/smaps_rollup 2>/dev/null
    return 0
}}
if mkfifo bare.fifo 2>/dev/null; then
    {bare} > bare.log 2>&1 &
    pid=$! tries=0
    until grep -q '{waiting}' bare.log || [ $tries -ge 600 ]; do
        [ -e /proc/$pid/status ] || break
        sleep 0.1; tries=$((tries + 1))
    done
    echo edgeship-bare; look $pid
    kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
fi
{run} > memory.log 2>&1 &
pid=$!
echo edgeship-run
while look $pid; do sleep 0.1; done
wait $pid
code=$?
echo edgeship-log; cat memory.log
exit $code"""


def script(run: str, *, bare: str, waiting: str) -> str:
    """Return the script that runs a program and looks at it; what `read` needs comes out of it.

    Args:
        run: the command line, whose process is the program itself.
        bare: the same program held up before it loads a model: it is to open `bare.fifo`, which nobody writes to.
        waiting: what it prints just before that, a pattern of grep's.
    """
    return _SCRIPT.format(run=run, bare=bare, waiting=waiting)


def read(text: str) -> Memory | None:
    """Return what the script saw, or None when it saw nothing."""
    bare, mark, rest = text.partition("edgeship-run")
    seen, _, _ = rest.partition("edgeship-log")
    peaks = _peaks(seen if mark else "")
    if "VmHWM" not in peaks:
        return None
    bare_mib = _peaks(bare).get("VmHWM")
    peak = peaks["VmHWM"]
    return Memory(
        peak_rss_mib=peak,
        model_mib=None if bare_mib is None else max(0.0, peak - bare_mib),
        source=SOURCE,
        anonymous_mib=peaks.get("RssAnon"),
        proportional_mib=peaks.get("Pss"),
        bare_mib=bare_mib,
    )


def _peaks(text: str) -> dict[str, float]:
    """Return the most that was seen of each counter, in MiB."""
    found: dict[str, float] = {}
    for name, kib in _LINE.findall(text):
        found[name] = max(found.get(name, 0.0), int(kib) / 1024)
    return found
