"""Content addresses: the same for the same content, and different as soon as anything that counts differs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import digest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_a_value_survives_json_with_the_same_address(value: object) -> None:
    assert digest.of_value(json.loads(json.dumps(value))) == digest.of_value(value)


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_count(table: dict[str, int]) -> None:
    assert digest.of_value(dict(reversed(table.items()))) == digest.of_value(table)


def test_different_values_have_different_addresses() -> None:
    values: list[object] = [None, 0, "0", [0], [[0]], {}, [], {"a": 0}, {"a": [0]}, {"b": 0}, "", False]
    assert len({digest.of_value(value) for value in values}) == len(values)


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest.of_value(float("nan"))


def test_a_file_has_the_sha256_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content" * 100_000)
    assert digest.of_file(tmp_path / "a") == hashlib.sha256(b"content" * 100_000).hexdigest()
    assert digest.of_path(tmp_path / "a") == digest.of_file(tmp_path / "a") == digest.of_bytes(b"content" * 100_000)


def test_a_folder_counts_names_and_contents(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, str]) -> str:
        for file, content in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(content)
        return digest.of_path(tmp_path / name)

    first = folder("first", {"a": "1", "deep/b": "2"})
    assert folder("same", {"deep/b": "2", "a": "1"}) == first
    others = [{"a": "1", "deep/b": "3"}, {"a": "1", "deep/c": "2"}, {"a": "2", "deep/b": "1"}, {"a": "1"}]
    assert len({first, *(folder(f"other{index}", files) for index, files in enumerate(others))}) == 5


def test_linked_folders_count_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model" / "config").write_text("c")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w").write_text("1")
    (tmp_path / "model" / "weights").symlink_to(tmp_path / "weights")
    for loop in ("self", "inner/up", "inner/further"):
        (tmp_path / "model" / loop).symlink_to(tmp_path if loop == "inner/further" else tmp_path / "model")
    first = digest.of_path(tmp_path / "model")
    (tmp_path / "weights" / "w").write_text("2")
    assert digest.of_path(tmp_path / "model") != first
    (tmp_path / "copy" / "weights").mkdir(parents=True)
    (tmp_path / "copy" / "config").write_text("c")
    (tmp_path / "copy" / "weights" / "w").write_text("1")
    assert digest.of_path(tmp_path / "copy") == first


def test_code_counts_every_module_that_it_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "edgeship"
    (package / "inner").mkdir(parents=True)
    (package / "top.py").write_text("from edgeship.inner import leaf\nimport numpy\n")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "leaf.py").write_text("def f():\n    from edgeship import lazy\n")
    (package / "lazy.py").write_text("import edgeship.top\n")
    (package / "unused.py").write_text("x = 1\n")
    monkeypatch.setattr(digest, "PACKAGE", package)

    def address() -> str:
        digest.of_code.cache_clear()
        return digest.of_code("edgeship.top")

    try:
        before = address()
        (package / "unused.py").write_text("x = 2\n")
        assert address() == before
        (package / "lazy.py").write_text("import edgeship.top  # changed\n")
        assert address() != before
    finally:
        digest.of_code.cache_clear()


def test_the_code_of_a_real_stage_counts_the_runtime_it_calls() -> None:
    assert len(digest.of_code("edgeship.verify")) == 64
    assert digest.of_code("edgeship.verify") != digest.of_code("edgeship.metrics")
