"""The bench's JSON: the contract's keys first, and always JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edgeship import bench_manifest, manifest
from edgeship.errors import DeviceFault
from edgeship.measurement import BenchRecord, Golden
from edgeship.run_devices import Failed
from tests import sample_bench

RECORDS = [pytest.param(record, id=record.device) for record in sample_bench.every()]


@pytest.mark.parametrize("record", RECORDS)
def test_the_contracts_keys_stand_first(record: BenchRecord) -> None:
    table = bench_manifest.contract(record)

    assert tuple(table)[: len(bench_manifest.CONTRACT)] == bench_manifest.CONTRACT
    assert set(table) == {field.name for field in dataclasses.fields(BenchRecord)}
    assert tuple(table["runtime"])[:2] == ("name", "version")
    assert tuple(table["latency_ms"]) == ("mean", "p50", "p90", "p99", "min", "max", "cv", "ci95", "runs")
    assert tuple(table["golden"])[:4] == ("checked", "max_abs_error", "max_steps", "passed")
    if table["memory"] is not None:
        assert tuple(table["memory"])[:3] == ("peak_rss_mib", "model_mib", "source")
    for operator in table["operators"] or ():
        assert tuple(operator) == ("name", "ms", "share")


@pytest.mark.parametrize("record", RECORDS)
def test_it_is_json_that_reads_back(record: BenchRecord) -> None:
    table = bench_manifest.contract(record)

    assert json.loads(manifest.as_bytes(table)) == table


def test_what_is_no_number_is_null_and_the_verdict_stays() -> None:
    table = bench_manifest.contract(sample_bench.garbage())

    assert table["golden"]["max_abs_error"] is None
    assert table["golden"]["passed"] is False


def test_numbers_of_a_library_are_told_as_ours() -> None:
    golden = Golden(np.int64(3), np.float32(0.5), None, np.True_)  # type: ignore[arg-type]

    assert bench_manifest.plain(golden) == {
        "checked": 3, "max_abs_error": 0.5, "max_steps": None, "passed": True, "why": None, "compared": True,
    }  # fmt: skip


def test_what_json_has_no_form_for_is_refused() -> None:
    with pytest.raises(TypeError, match="bytes has no form in JSON"):
        bench_manifest.plain({"a": b"text"})


def test_several_are_a_list_and_a_failure_among_them_has_the_keys_of_every_failure() -> None:
    fault = DeviceFault("attic: nothing answers", fault="unreachable", hint="is it on?", log=Path("/x/log"))
    table = bench_manifest.of_several([sample_bench.record(), Failed("attic", fault)])

    assert isinstance(table, list)
    assert table[0] == bench_manifest.contract(sample_bench.record())
    assert table[1] == {
        "device": "attic",
        "error": {"exit": 6, "message": "attic: nothing answers", "hint": "is it on?", "log": "/x/log", "fault": "unreachable"},
    }  # fmt: skip


def test_one_is_no_list() -> None:
    assert bench_manifest.of_several([sample_bench.record()]) == bench_manifest.contract(sample_bench.record())
