"""The record: the contract's keys first and alone on stdout, the manifest the same and more, always JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from edgeship import manifest
from edgeship.run import BuildRecord
from tests import sample_record


def test_json_is_the_contracts_keys_in_its_order() -> None:
    table = manifest.contract(sample_record.record())
    assert tuple(table) == manifest.CONTRACT
    assert set(table["quality"]) >= {
        "metric", "reference", "got", "drop", "budget", "examples", "synthetic", "passed",
    }  # fmt: skip
    assert set(table["import"]) >= {"checked_against", "max_abs_error", "relative_error", "examples"}
    assert set(table["quantized"]) >= {"operators", "of", "weight_share"}
    assert all(set(stage) == {"stage", "outcome", "why", "seconds", "tools"} for stage in table["stages"])


def test_the_manifest_is_the_same_and_more() -> None:
    made = sample_record.record()
    table, whole = manifest.contract(made), manifest.manifest(made)
    assert {key: whole[key] for key in table} == table
    assert tuple(whole)[: len(table)] == tuple(table)
    assert set(whole) - set(table) >= {"input_hashes", "options", "layers", "inputs", "outputs", "labels"}
    fields = {field.name for field in dataclasses.fields(BuildRecord)} - {"import_check"} | {"import"}
    assert set(whole) == fields | {"passed"}  # the verdict is a view of the record


def test_its_text_is_json_that_reads_back() -> None:
    whole = manifest.manifest(sample_record.record())
    assert json.loads(manifest.as_bytes(whole)) == json.loads(json.dumps(whole))


def test_a_path_that_is_no_utf8_is_still_json() -> None:
    made = sample_record.record(artifact="caf\udce9/ü/model.tflite")
    text = manifest.as_bytes(manifest.manifest(made))
    assert json.loads(text.decode("utf-8"))["artifact"] == "caf\udce9/ü/model.tflite"


def test_what_is_no_number_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        manifest.as_bytes(manifest.manifest(sample_record.record(sparsity=float("nan"))))
