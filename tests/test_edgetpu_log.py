"""What edgetpu_compiler prints: recorded output of the real one, variants of it, and made-up output printed and read again.

The files in `tests/data/edgetpu_compiler` stand in public threads (google-coral/edgetpu, by number); long names were cut.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeship import edgetpu_log, edgetpu_reasons
from edgeship.edgetpu_log import MAPPED, Attempt, Compiled, OperationLog, Printed, Row

RECORDED = Path(__file__).parent / "data" / "edgetpu_compiler"
TEXTS = sorted(path.name for path in RECORDED.glob("*.txt"))
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
LATER = "More than one subgraph is not supported"


def recorded(name: str) -> str:
    (path,) = RECORDED.glob(f"*{name}*")
    return path.read_text()


def test_one_model_that_streams() -> None:
    said = edgetpu_log.read(recorded("572"))
    (model,) = said.models

    assert said.version == "16.0.384591198"
    assert said.attempts[0].timeout_s == 180
    assert said.attempts[0].compile_ms == 542
    assert (model.input, model.output) == ("quantized_model.tflite", "quantized_model_edgetpu.tflite")
    assert model.cached_bytes == 604.5 * KIB
    assert model.remaining_bytes == 511.5 * KIB
    assert model.streamed_bytes == round(3.45 * MIB)
    assert (model.subgraphs, model.operations, model.on_cpu) == (1, 50, None)


@pytest.mark.parametrize(("name", "second"), [("458", "temp_models/2.tflite"), ("518", "rnn.tflite")])
def test_co_compiled_models_in_their_order(name: str, second: str) -> None:
    said = edgetpu_log.read(recorded(name))
    (attempt,) = said.succeeded

    assert attempt.several
    assert [model.input for model in attempt.models][1] == second
    assert [model.log is not None for model in attempt.models] == [True, True]
    assert [model.streamed_bytes for model in attempt.models] == (
        [0, 0] if name == "458" else [round(2.95 * MIB), round(4.53 * MIB)]
    )


def test_an_old_dialect_says_what_is_available() -> None:
    (model,) = edgetpu_log.read(recorded("google-coral-53")).models
    assert (model.available_bytes, model.remaining_bytes) == (round(7.62 * MIB), None)
    assert (model.on_edgetpu, model.on_cpu) == (63, 1)
    assert model.rows == (Row("CUSTOM", 1, "Operation is working on an unsupported data type"),)


def test_the_table_on_the_screen() -> None:
    (model,) = edgetpu_log.read(recorded("427")).models
    assert [(row.name, row.count, row.mapped) for row in model.rows][:2] == [
        ("RESHAPE", 15, True),
        ("CONCATENATION", 3, True),
    ]


def test_segments_are_attempts_of_which_one_may_fail() -> None:
    said = edgetpu_log.read(recorded("557"))
    assert [attempt.outcome for attempt in said.attempts] == ["succeeded", "failed"]
    assert [model.input for model in said.models] == ["efficientdet_lite3_512_ptq_segment_0_of_2.tflite"]
    assert said.remarks[-1] == "Compilation failed: Compilation failed due to large activation tensors in model."


def test_a_delegate_search_has_its_steps() -> None:
    said = edgetpu_log.read(recorded("444"))
    assert [(step.tried_operations, len(step.intermediate_tensors), step.outcome) for step in said.attempts] == [
        (322, 0, "failed"), (312, 5, "failed"),
    ]  # fmt: skip


def test_a_timeout_is_no_plain_failure() -> None:
    said = edgetpu_log.read(recorded("686"))
    assert [attempt.outcome for attempt in said.attempts] == ["timeout", "unfinished"]


@pytest.mark.parametrize(
    ("name", "outcome", "line", "suggestion"),
    [
        ("313", "failed", "Model not quantized", "recipe int8"),
        ("829", "failed", "ERROR: Attempting to use a delegate that only supports static-sized", "--shape"),
        ("557", "succeeded", "Compilation failed: Compilation failed due to large activation", "smaller input"),
        ("686", "timeout", "Compilation timeout.", "EDGESHIP_EDGETPU_TIMEOUT_S"),
        ("211", "failed", "Internal compiler error. Aborting!", "16.0"),
        ("643", "unfinished", "/usr/bin/edgetpu_compiler: line 3:  1531 Segmentation fault", "last layers"),
        ("728", "failed", "libc++abi: terminating with uncaught exception", "last layers"),
    ],
)
def test_a_refusal_is_explained_by_its_own_line(name: str, outcome: str, line: str, suggestion: str) -> None:
    said = edgetpu_log.read(recorded(name))
    refused = edgetpu_reasons.of_lines(said.remarks)

    assert said.attempts[0].outcome == outcome
    assert refused is not None
    assert refused.line.startswith(line)
    assert suggestion in refused.suggestion


def test_silence_and_a_refusal_without_a_reason() -> None:
    assert edgetpu_log.read(recorded("411")) == Printed("15.0.340273435")
    assert edgetpu_log.read(recorded("800")).attempts == (Attempt("failed", timeout_s=180),)
    assert edgetpu_log.read("") == Printed(None)
    assert edgetpu_reasons.of_lines(["a line that nobody has seen"]) is None


def test_an_operation_log() -> None:
    log = edgetpu_log.read_log(recorded("efficientdet-lite-operations"))
    assert (log.version, log.input) == ("16.0.384591198", "efficientdet_coral_v2.tflite")
    assert log.output == "efficientdet_coral_v2_edgetpu.tflite"
    assert sum(row.count for row in log.rows) == 267
    assert sum(row.count for row in log.rows if not row.mapped) == 3
    assert log.remarks == ()


def test_every_status_that_is_recorded_is_explained() -> None:
    tables = [
        row for name in TEXTS for model in edgetpu_log.read((RECORDED / name).read_text()).models for row in model.rows
    ]
    tables += edgetpu_log.read_log(recorded("efficientdet-lite-operations")).rows
    for row in tables:
        known = edgetpu_reasons.of_status(row.status)
        assert known is not None, row
        assert known.mapped == row.mapped
        assert row.mapped or known.suggestion
    assert edgetpu_reasons.of_status("Operation is shy") is None


@pytest.mark.parametrize("name", TEXTS)
def test_what_was_recorded_is_printed_so_that_it_reads_the_same(name: str) -> None:
    said = edgetpu_log.read((RECORDED / name).read_text())
    assert edgetpu_log.read(edgetpu_log.printed(said)) == said


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_was_cut_anywhere_gives_what_stood_before(name: str) -> None:
    text = (RECORDED / name).read_text()
    whole = edgetpu_log.read(text)
    for end in range(0, len(text), 11):
        cut = edgetpu_log.read(text[:end])
        assert len(cut.attempts) <= len(whole.attempts) + 1  # a torn first line is a remark
        for mine, theirs in zip(cut.models, whole.models, strict=False):
            assert mine.input == theirs.input
            assert mine.streamed_bytes in (None, theirs.streamed_bytes)
            assert all(row in theirs.rows for row in mine.rows if row.mapped)


def test_a_log_that_was_cut_keeps_the_torn_row_as_a_remark() -> None:
    text = recorded("efficientdet-lite-operations")
    whole = edgetpu_log.read_log(text)
    for torn in (
        "LOGISTIC",
        "LOGISTIC                       1",
        "LOGISTIC                       1          Mapped to Ed",
    ):
        log = edgetpu_log.read_log(text[: text.index("LOGISTIC")] + torn)
        assert log.rows == whole.rows[:9]
        assert len(log.remarks) == 1


def test_windows_line_ends_and_other_space() -> None:
    text = recorded("572")
    assert edgetpu_log.read(text.replace("\n", "\r\n")) == edgetpu_log.read(text)
    assert edgetpu_log.read(text.replace("\n\n", "\n \n\n")) == edgetpu_log.read(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0.00B", 0), ("512.00B", 512), ("604.50KiB", 619008), ("3.45MiB", round(3.45 * MIB)), ("1.25GiB", round(1.25 * GIB)),
        ("7 B", 7), ("", None), ("3.45", None), ("3.45MB", None), ("-1.00KiB", None), ("nanMiB", None),
    ],
)  # fmt: skip
def test_sizes(text: str, count: int | None) -> None:
    assert edgetpu_log.size_bytes(text) == count


@given(st.integers(0, 1 << 40))
def test_a_size_survives_but_for_its_last_digits(count: int) -> None:
    once = edgetpu_log.size_bytes(edgetpu_log.size_text(count))
    assert once is not None
    assert abs(once - count) <= max(0.5, 0.005 * max(KIB, count))
    assert edgetpu_log.size_bytes(edgetpu_log.size_text(once)) == once


WORDS = st.from_regex(r"[A-Za-z][A-Za-z0-9_./-]{0,20}", fullmatch=True)
SIZES = st.one_of(st.integers(0, 2000), st.integers(0, 1 << 34)).map(
    lambda count: edgetpu_log.size_bytes(edgetpu_log.size_text(count))
)
STATUSES = st.sampled_from([MAPPED, *(one.text for one in edgetpu_reasons.read().statuses), "Something new"])
ROWS = st.lists(st.builds(Row, st.from_regex(r"[A-Z][A-Z0-9_]{0,35}", fullmatch=True), st.integers(0, 9999), STATUSES))
REMARKS = st.lists(
    st.sampled_from(
        [
            "ERROR: Node number 1 (Atan) failed to prepare.",
            "Invalid model: x.tflite",
            "Warning: more segments than necessary.",
        ]
    ),
    unique=True,
)


@st.composite
def blocks(draw: st.DrawFn, *, old: bool) -> Compiled:
    """Return a model's block, in the old dialect or the new one."""
    left = draw(st.integers(0, 9))
    return Compiled(
        draw(WORDS), draw(SIZES), draw(WORDS), draw(SIZES),
        available_bytes=draw(SIZES) if old else None, cached_bytes=draw(SIZES),
        remaining_bytes=None if old else draw(SIZES), streamed_bytes=draw(SIZES), subgraphs=draw(st.integers(0, 9)),
        operations=draw(st.integers(0, 9999)), log=draw(WORDS), on_edgetpu=draw(st.integers(0, 999)) if left else None,
        on_cpu=left or None, rows=tuple(draw(ROWS)),
    )  # fmt: skip


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """Return an attempt that ended in one of the ways there are."""
    ending = draw(st.sampled_from(["succeeded", "failed", "timeout"]))
    timer = draw(st.integers(1, 9999))
    search = draw(st.one_of(st.none(), st.integers(1, 999)))
    tensors = tuple(draw(st.lists(WORDS, max_size=3))) if search else ()
    remarks = tuple(draw(REMARKS))
    if ending == "timeout":
        remarks = (*remarks, "Compilation timeout. This is usually caused by large activations.")
    if ending != "succeeded":
        return Attempt(ending, timer, search, tensors, remarks=remarks)  # type: ignore[arg-type]  # a word of the three
    models = tuple(draw(st.lists(blocks(old=draw(st.booleans())), min_size=1, max_size=3)))
    return Attempt("succeeded", timer, search, tensors, draw(st.integers(0, 10**6)), len(models) > 1, models, remarks)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.builds(Printed, st.just("16.0.384591198"), st.lists(attempts(), max_size=4).map(tuple)))
def test_whatever_is_printed_reads_the_same(said: Printed) -> None:
    assert edgetpu_log.read(edgetpu_log.printed(said)) == said


@given(st.builds(OperationLog, st.just("16.0.384591198"), WORDS, WORDS, ROWS.map(tuple)))
def test_whatever_is_logged_reads_the_same(log: OperationLog) -> None:
    assert edgetpu_log.read_log(edgetpu_log.printed_log(log)) == log


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    edgetpu_log.read(text)
    edgetpu_log.read_log(text)


def test_the_data_says_where_each_text_was_seen() -> None:
    found = edgetpu_reasons.read()
    texts = [one.text for one in found.statuses]
    assert len(texts) == len(set(texts)) >= 6
    assert [one.text for one in found.statuses if one.mapped] == [MAPPED]
    assert LATER in texts
