"""The page of benches, alone and in the build's: every verdict, doubt and condition, escaped, and nothing to load."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest

from edgeship import latency
from edgeship.bench_manifest import plain
from edgeship.errors import DeviceFault
from edgeship.measurement import BenchRecord, Golden, Latency, Memory, Operator, Runtime
from edgeship.report import bench_page, build_page, conditions, figures
from edgeship.run import Quality
from edgeship.run_devices import Failed
from tests import sample_bench, sample_record
from tests.test_build_page import HOSTILE, Page

RECORDS = [pytest.param(record, id=record.device) for record in sample_bench.every()]


def hostile() -> BenchRecord:
    """Return a record whose every text is an attack."""
    made = sample_bench.throttled()
    words = {
        field.name: (HOSTILE if isinstance(getattr(made.conditions.board, field.name), str) else getattr(made.conditions.board, field.name))
        for field in dataclasses.fields(made.conditions.board)
    }  # fmt: skip
    board: dict[str, Any] = {**words, "core_names": (HOSTILE,), "features": (HOSTILE,), "runtimes": {HOSTILE: HOSTILE}}
    battery = {"level": HOSTILE, "status": HOSTILE, "temperature_c": HOSTILE}
    snapshot = sample_bench.snapshot(1.0, temperature_c={HOSTILE: 50.0}, governor=(HOSTILE,), battery=battery)
    around = dataclasses.replace(
        made.conditions,
        board=sample_bench.board(**board),
        before=snapshot,
        during=(snapshot,),
        unmodelled=(HOSTILE,),
    )
    texts: dict[str, Any] = {
        field.name: HOSTILE for field in dataclasses.fields(made) if isinstance(getattr(made, field.name), str)
    }
    return dataclasses.replace(
        made,
        **texts,
        simulated=True,
        runtime=Runtime(HOSTILE, HOSTILE, HOSTILE),
        conditions=around,
        memory=Memory(1.0, None, HOSTILE),
        operators=(Operator(HOSTILE, 1.0, 1.0),),
        golden=Golden(1, math.inf, 3, False, HOSTILE),
        quality=Quality(HOSTILE, 0.5, 0.4, 0.1, None, 10, False, False),
        reasons=(HOSTILE,),
        doubts=(HOSTILE,),
    )


def text_of(html: str) -> str:
    """Return what is read on a page, with plain spaces."""
    return Page(re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)).text.replace("\N{NO-BREAK SPACE}", " ")


def pages() -> list[tuple[str, str]]:
    """Return every kind of page by a name."""
    alone = [(record.device, bench_page.render(record)) for record in sample_bench.every()]
    together = bench_page.render(*sample_bench.every(), hostile())
    ship = build_page.render(sample_record.record(), benches=(*sample_bench.every(), hostile()))
    bare = build_page.render(sample_record.bare(), benches=(sample_bench.counted(),))
    return [*alone, ("hostile", bench_page.render(hostile())), ("together", together), ("ship", ship), ("bare", bare)]


@pytest.mark.parametrize("html", [pytest.param(html, id=name) for name, html in pages()])
def test_loads_nothing_runs_nothing_and_closes_what_it_opens(html: str) -> None:
    page = Page(html)

    assert page.open == []
    assert page.loaded == ["data:,"]
    assert page.handlers == []
    assert not {"script", "iframe", "img", "object", "embed", "base", "form"} & set(page.elements)
    assert "<script" not in html and "{{ 7" not in html.replace("{{ 7 * 7 }}", "")
    anchors = re.findall(r'href="#([^"]+)"', html)
    identities = re.findall(r' id="([^"]+)"', html)
    assert set(anchors) <= set(identities) and len(set(identities)) == len(identities)


def test_hostile_names_are_shown_as_text() -> None:
    for html in (bench_page.render(hostile()), build_page.render(sample_record.record(), benches=(hostile(),))):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
        assert "{{ 7 * 7 }}" in html, "shown, not evaluated"


@pytest.mark.parametrize("record", RECORDS)
def test_every_verdict_reason_and_doubt_is_there_on_both_pages(record: BenchRecord) -> None:
    for html in (bench_page.render(record), build_page.render(sample_record.record(), benches=(record,))):
        text = text_of(html)
        assert f"golden check {'passed' if record.golden.passed else 'failed'}" in text
        assert ("not valid" in text) == (not record.valid)
        for told in (*record.reasons, *record.doubts, *record.conditions.unmodelled):
            assert told in text
        assert record.artifact_sha256 in text and record.device in text and record.runtime.name in text
        assert ("simulated" in text.lower()) == record.simulated


def test_a_calm_run_has_its_figures_with_the_digits_of_its_interval() -> None:
    record = sample_bench.record()
    assert record.latency_ms.ci95 is not None
    text = text_of(bench_page.render(record))
    low, high = record.latency_ms.ci95

    assert f"p50 {record.latency_ms.p50:.3f} ms, 95 % interval {low:.3f} to {high:.3f} ms, 1,024 runs." in text
    for words in ("p90", "p99", "Shortest", "Longest", "0.91 %", "4.71 ms", "after 40 to warm up, 1.3 s"):
        assert words in text
    assert "rpi4 over ssh, ai-edge-litert 2.3.0 (XNNPACK, whole graph), 4 threads on cores 0, 1, 2 and 3" in text
    assert "16 inputs, largest error 0.003906, 1 quantization step." in text
    assert "VmHWM, RssAnon and Pss of /proc/self" in text and "3.9 MiB" in text
    assert "needs" not in text and "Shaded" not in text and "does not tell" not in text


def test_a_percentile_below_its_floor_says_what_it_needs() -> None:
    few = tuple(4.0 + 0.01 * place for place in range(20))
    text = text_of(
        bench_page.render(sample_bench.record(samples_ms=few, starts_ms=None, latency_ms=sample_bench.latency(few)))
    )

    assert "p90 needs 64 samples" in text and "p99 needs 662 samples" in text


def test_a_hot_run_says_when_and_how() -> None:
    text = text_of(bench_page.render(sample_bench.throttled()))

    assert text.index("Not valid") < text.index("throttled: the soft temperature limit") < text.index("Latency, how")
    assert "Shaded: the board said that it held itself back." in text
    assert "now soft temperature limit; since boot frequency capped, throttled, soft temperature limit" in text
    assert "61.0 to 84.2 °C" in text and "1,000 to 1,800 MHz" in text
    assert "top1 0.7624 → 0.7611 on 2,000 examples; a drop of 0.015 was allowed." in text


def test_a_simulated_run_says_so_at_every_number_of_time() -> None:
    html = bench_page.render(sample_bench.counted())
    text = text_of(html)

    assert "Times are counted from the instructions that ran. Not modelled: caches and memory latency" in text
    assert "This board does not tell its temperature, clock, governor and throttling." in text
    for heading in ("p50", "Latency, how it is spread", "Latency and conditions over time", "Memory", "Operators"):
        assert f"{heading} simulated" in text
    assert f"{sample_bench.counted().latency_ms.p50:.4f} ms (simulated)" in text


def test_what_a_tool_does_not_give_is_said() -> None:
    text = text_of(bench_page.render(sample_bench.aggregates()))

    assert "No histogram: benchmark_model keeps aggregates, no samples." in text
    assert "no interval: the tool keeps no samples" in text
    assert "The runtime gave no times of operators." in text
    assert "none to moderate" not in text and "moderate" in text and "87 %, 31.0 °C, discharging" in text
    absent = text_of(bench_page.render(sample_bench.garbage()))
    assert "Initialization not told" in absent and "Peak memory not told" in absent


def test_wrong_outputs_are_the_first_thing_said() -> None:
    text = text_of(bench_page.render(sample_bench.garbage()))

    assert text.index("Golden check failed") < text.index("p50")
    assert "largest error not a number. 4 of 16 outputs are not numbers" in text


def test_the_builds_page_is_negative_when_a_device_computes_wrongly() -> None:
    benches = (sample_bench.record(), sample_bench.garbage())
    html = build_page.render(sample_record.record(), benches=benches)
    text = text_of(html)

    assert 'class="verdict missed"' in html and "Golden check failed" in text
    assert "But the outputs on cellar are not this machine's." in text
    assert text.index("cellar the golden check failed") < text.index("Size and quality")
    passed = build_page.render(sample_record.record(), benches=benches[:1])
    assert 'class="verdict passed"' in passed


def test_the_builds_page_without_benches_is_as_it_was() -> None:
    html = build_page.render(sample_record.record())

    assert "device-1" not in html and "Latency, measured" not in html and "side by side" not in html


def test_devices_stand_side_by_side_when_there_are_several() -> None:
    records = sample_bench.every()
    html = bench_page.render(*records)
    text = text_of(html)

    assert "Devices side by side" in text
    for record in records:
        assert figures.latency_ms(record.latency_ms.p50, record.latency_ms) in text
    assert "1 golden check failed, 1 not valid." in text[: text.index("Devices side by side")].replace("G", "g")
    ship = text_of(build_page.render(sample_record.record(), benches=records))
    assert "Devices side by side" in ship and "p50 on 5 devices, 1 simulated" in ship
    assert "Devices side by side" not in text_of(bench_page.render(records[0]))


def test_only_the_costliest_operators_have_lines_and_the_rest_is_one() -> None:
    record = sample_bench.record()
    assert record.operators is not None
    text = text_of(bench_page.render(record))
    ordered = sorted(record.operators, key=lambda operator: -operator.ms)

    assert all(operator.name in text for operator in ordered[:15])
    assert not [operator.name for operator in ordered[15:] if operator.name in text]
    assert "5 more" in text


def test_batches_give_examples_a_second() -> None:
    made = sample_bench.record()
    assert made.latency_ms.p50 is not None
    batched = dataclasses.replace(made, conditions=dataclasses.replace(made.conditions, batch=8))
    text = text_of(bench_page.render(batched))

    assert "p50 of 8 examples" in text and f"Throughput {8e3 / made.latency_ms.p50:.1f} a second" in text
    assert "batches of 8" in text


def test_a_tool_without_a_median_has_its_mean_told_as_such() -> None:
    record = sample_bench.mean_only()
    for html in (
        bench_page.render(record),
        bench_page.render(record, record),
        build_page.render(sample_record.record(), benches=(record,)),
    ):
        text = text_of(html)
        assert "mean 1.929 ms" in text and "Shortest not told" in text and "Variation not told" in text


def test_devices_that_brought_nothing_back_are_on_the_page() -> None:
    failed = [Failed("attic", DeviceFault("attic: nothing answers <b>", fault="unreachable"))]
    some = bench_page.render(sample_bench.record(), failed=failed)
    none = bench_page.render(failed=failed)
    ship = build_page.render(sample_record.record(), failed=failed)

    for html in (some, none, ship):
        assert "attic</b> brought nothing back: nothing answers &lt;b&gt;" in html
        assert Page(html).open == []
    assert 'class="verdict doubtful"' in some and "2 devices" in some
    assert 'class="verdict missed"' in none and "1 device<" in none


def test_quality_from_json_reads_the_same() -> None:
    quality = sample_bench.throttled().quality
    pair = [bench_page.render(sample_bench.record(quality=each)) for each in (quality, plain(quality))]

    assert pair[0] == pair[1]


def test_many_devices_of_many_samples_stay_small_and_quick(tmp_path: Path) -> None:
    samples = tuple(1.0 + 0.001 * (place % 97) for place in range(20_000))
    many = [sample_bench.record(device=f"board-{place}", samples_ms=samples, starts_ms=None) for place in range(20)]
    bench_page.render(many[0], compiled=tmp_path)
    began = time.process_time()
    html = bench_page.render(*many, compiled=tmp_path)

    assert time.process_time() - began < 8
    assert len(html) < 1_000_000


@pytest.mark.parametrize(
    ("p50", "interval", "shown"),
    [
        (31.3954, (31.3731, 31.4177), "31.395 ms"),
        (40.761, (40.34, 41.18), "40.76 ms"),
        (40.761, (30.0, 52.0), "41 ms"),
        (4.3302012, (4.3302001, 4.3302030), "4.3302 ms"),
        (0.0123456, (0.0123, 0.0124), "0.012346 ms"),
        (0.0123456, None, "0.01235 ms"),
        (1234.5678, (1200.0, 1270.0), "1,235 ms"),
        (5.0, (5.0, 5.0), "5.000 ms"),
        (5.0, (1.0, 900.0), "5.0 ms"),
    ],
)
def test_no_more_digits_than_are_known(p50: float, interval: tuple[float, float] | None, shown: str) -> None:
    latency = Latency(p50, p50, None, None, p50, p50, 0.1, interval, 30)

    assert figures.latency_ms(p50, latency) == shown


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0, "none"),
        (0x1, "now under-voltage"),
        (0x50005, "now under-voltage, throttled; since boot under-voltage, throttled"),
        (0x80000, "since boot soft temperature limit"),
        (0x2, "now frequency capped"),
    ],
)
def test_throttle_bits_in_words(bits: int, words: str) -> None:
    assert conditions.throttle_words(bits) == words


def test_thermal_status_in_words() -> None:
    assert [conditions.thermal_words(status) for status in (0, 3, 6, 9)] == ["none", "severe", "shutdown", "status 9"]


def test_a_phone_of_many_sensors_shows_the_hottest() -> None:
    warm = {f"zone{place}": 30.0 + place for place in range(40)}
    made = sample_bench.record().conditions
    around = dataclasses.replace(made, before=sample_bench.snapshot(1.0, temperature_c=warm), during=(), after=None)
    labels = [row.label for row in conditions.rows(around) if "temperature" in row.label or "sensors" in row.label]

    assert labels[0] == "temperature, zone39" and len(labels) == 9
    assert labels[-1] == "hottest of all 40 sensors"


def test_the_floors_told_are_those_that_are_kept() -> None:
    assert figures.FLOORS == {"p90": latency.P90_FLOOR, "p99": latency.P99_FLOOR}
