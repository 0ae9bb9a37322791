"""Memory seen in /proc: the most of each counter, and nothing made up where a board shows nothing."""

from __future__ import annotations

from edgeship.benchmark_tool import process_memory


def test_memory_is_the_most_that_was_seen() -> None:
    text = """edgeship-bare
VmHWM:\t   20480 kB
RssAnon:\t    9000 kB
edgeship-run
VmHWM:\t    1024 kB
RssAnon:\t     100 kB
VmHWM:\t   40960 kB
RssAnon:\t   30720 kB
Pss:               35840 kB
VmHWM:\t   40960 kB
RssAnon:\t   20480 kB
Pss:               25600 kB
edgeship-log
VmHWM: 99999999 kB
"""
    found = process_memory.read(text)
    assert found is not None
    assert (found.peak_rss_mib, found.bare_mib, found.model_mib) == (40, 20, 20)
    assert (found.anonymous_mib, found.proportional_mib) == (30, 35)


def test_a_board_without_fifos_gives_no_bare_memory() -> None:
    found = process_memory.read("edgeship-run\nVmHWM: 2048 kB\nedgeship-log\n")
    assert found is not None
    assert (found.peak_rss_mib, found.bare_mib, found.model_mib, found.proportional_mib) == (2, None, None, None)
    assert process_memory.read("edgeship-run\nedgeship-log\n") is None
