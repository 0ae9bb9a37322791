"""What benchmark_model printed on real devices is read right, whatever the build; origins: `data/benchmark_model/README.md`."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.benchmark_tool import operator_table
from edgeship.benchmark_tool import output as benchmark_output
from edgeship.benchmark_tool import result as benchmark_result
from edgeship.benchmark_tool.output import Delegation, Runs

DATA = Path(__file__).parent / "data" / "benchmark_model"
NAMES = sorted(path.name for path in DATA.iterdir() if path.suffix in (".txt", ".csv"))


def recorded(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "dialect", "init_ms", "first_ms", "warmup_runs", "timed"),
    [
        ("ti-processor-sdk-06-am57xx.txt", "average", 4.452, 146.161, 1,
         Runs(50, 137.722, 137.079, 143.416, 0.896, 137.789)),
        ("xnnpack-issue-999-raspberry-pi.txt", "inference", 18.777, 64.791, 9,
         Runs(50, 55.0432, 53.077, 60.727, 1.562, 58.154)),
        ("tensorflow-issue-43541-android-gpu.txt", "inference", 870.557, 130.565, 4,
         Runs(50, 119.375, 113.737, 124.776, 1.948, 119.212)),
        ("netspresso-devicefarm-raspberry-pi4-fallback.txt", "inference", 18.738, 140.706, 6,
         Runs(50, 74.4816, 73.909, 75.323, 0.268, 74.456)),
        ("ti-processor-sdk-11-am62xx.txt", "inference", 5.579, 1357.602, 1,
         Runs(50, 1240.27, 1238.588, 1252.566, 2.565, 1249.964, 1238.753, 1239.807, 1247.415)),
        ("android-app-logcat-snapdragon-6s.txt", "inference", 458.883, 2732.148, 1,
         Runs(10, 2719.85, 2640.862, 3025.403, 105.101, 2653.894, 2640.862, 2709.263, 3025.403)),
        ("litert-build-instructions-linux.txt", "results", 5.757, 2.125, 526,
         Runs(1054, 0.947132, 0.910, 1.102, 0.023, 1.015, 0.915, 0.942, 0.991)),
        ("arm-learning-path-litert-sme2-profile.txt", "results", 4.478, 1.033, 1055,
         Runs(2112, 0.464545, 0.442, 0.979, 0.013, 0.463, 0.460, 0.462, 0.478)),
    ],
)  # fmt: skip
def test_the_timed_run_is_told_from_the_warm_up(
    name: str, dialect: str, init_ms: float, first_ms: float, warmup_runs: int, timed: Runs
) -> None:
    found = benchmark_output.read(recorded(name))
    assert (found.dialect, found.init_ms, found.first_ms) == (dialect, init_ms, first_ms)
    assert found.warmup is not None
    assert found.warmup.runs == warmup_runs
    assert found.timed == timed
    assert not found.rounded


def test_the_block_in_milliseconds_serves_where_nothing_else_does() -> None:
    found = benchmark_output.read(recorded("mobile-app-open-issue-1134-litert-gpu.txt"))
    assert found.timed == Runs(10, 7430.20, 7416.40, 7448.86, 9.92, 7430.20)
    assert (found.init_ms, found.first_ms, found.rounded) == (23744.73, 7441.04, True)


def test_equal_durations_are_printed_as_one_value() -> None:
    found = benchmark_output.read("count=5 curr=19(all same)\n\ncount=3 curr=20(all same) p5=20 median=20 p95=20\n")
    assert found.warmup == Runs(5, 0.019, 0.019, 0.019, 0, 0.019, None, 0.019)
    assert found.timed == Runs(3, 0.020, 0.020, 0.020, 0, 0.020, 0.020, 0.020, 0.020)


def test_a_run_without_a_warm_up_still_has_two_counts() -> None:
    found = benchmark_output.read(
        "count=0\n\ncount=2 first=3 curr=5 min=3 max=5 avg=4 std=1\n\n"
        "Inference timings in us: Init: 7000, First inference: 0, Warmup (avg): -nan, Inference (avg): 4\n"
    )
    assert found.warmup is None
    assert found.timed == Runs(2, 0.004, 0.003, 0.005, 0.001, 0.003)
    assert (found.dialect, found.init_ms, found.first_ms) == ("inference", 7, 0.003)


def test_every_recorded_file_has_its_origin_written_down() -> None:
    origins = recorded("README.md")
    assert [name for name in NAMES if f"`{name}`" not in origins] == []


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("tensorflow-issue-47175-unconsumed.txt", ("graph",)),
        ("netspresso-devicefarm-raspberry-pi4-fallback.txt", ("allow_fp16",)),
        ("xnnpack-issue-999-raspberry-pi.txt", ()),
    ],
)
def test_flags_that_the_build_did_not_know(name: str, flags: tuple[str, ...]) -> None:
    assert benchmark_output.read(recorded(name)).unconsumed == flags


@pytest.mark.parametrize(
    ("name", "delegations", "gpu"),
    [
        ("tensorflow-issue-43541-android-gpu.txt", (Delegation("GPU", "all"),), None),
        ("tensorflow-issue-49012-gpu-not-used.txt", (Delegation("GPU", "none"),),
         "the GPU delegate took nothing: the CPU ran all of the model"),
        ("android-gpu-and-nnapi-one-after-another.txt", (Delegation("GPU", "all", 49, 49, 1), Delegation("NNAPI", "none")),
         None),
        ("android-detection-gpu-partly.txt", (Delegation("GPU", None, 63, None, 2),),
         "the GPU delegate left 1 operation to the CPU"),
        ("netspresso-devicefarm-raspberry-pi4-fallback.txt", (Delegation("XNNPACK", "part"),),
         "this build has no GPU delegate for this platform: the CPU ran all of the model"),
        ("android-app-logcat-snapdragon-6s.txt", (Delegation("XNNPACK", "part", 1036, 1097, 23),),
         "the GPU delegate took nothing: the CPU ran all of the model"),
    ],
)  # fmt: skip
def test_what_the_cpu_did_for_a_delegate_is_counted(
    name: str, delegations: tuple[Delegation, ...], gpu: str | None
) -> None:
    found = benchmark_output.read(recorded(name))
    assert found.delegations == delegations
    assert benchmark_output.fallback(found, "GPU") == gpu


@pytest.mark.parametrize(
    ("lines", "wanted", "expected"),
    [
        (["Replacing 48 out of 90 node(s) with delegate (LITERT_CL) node, yielding 2 partitions for subgraph 0 (main).",
          "Replacing 32 out of 43 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 4 partitions."],
         "GPU", "the GPU delegate left 42 operations to the CPU"),
        (["Replacing 31 out of 31 node(s) with delegate (ML_DRIFT_CL) node, yielding 1 partitions."], "GPU", None),
        (["Replacing 60 out of 64 node(s) with delegate (VxDelegate) node, yielding 3 partitions.",
          "Explicitly applied EXTERNAL delegate, and the model graph will be partially executed by the delegate w/ 2"],
         "EXTERNAL", "the EXTERNAL delegate left 4 operations to the CPU"),
        (["Explicitly applied EXTERNAL delegate, and the model graph will be partially executed by the delegate w/ 2"],
         "EXTERNAL", "the EXTERNAL delegate took only a part: the CPU ran the rest"),
    ],
)  # fmt: skip
def test_delegates_by_their_other_names(lines: list[str], wanted: str, expected: str | None) -> None:
    assert benchmark_output.fallback(benchmark_output.read("\n".join(lines)), wanted) == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("android-app-logcat-snapdragon-6s.txt", "XNNPACK: 1036 of 1097 operations in 23 partitions"),
        ("tensorflow-issue-43541-android-gpu.txt", "GPU: all operations"),
        ("litert-build-instructions-linux.txt", "XNNPACK"),
        ("ti-processor-sdk-11-am62xx.txt", None),
    ],
)
def test_what_ran_the_model_in_words(name: str, words: str | None) -> None:
    assert benchmark_output.in_words(benchmark_output.read(recorded(name))) == words


def test_the_complaint_is_the_last_one() -> None:
    assert (
        benchmark_output.read("ERROR: one\nERROR: Failed to allocate tensors!\nmore").complaint
        == "Failed to allocate tensors!"
    )
    assert benchmark_output.read(recorded("ti-processor-sdk-06-am57xx.txt")).complaint is None


@given(
    name=st.sampled_from(NAMES),
    at=st.integers(0, 4000),
    cut=st.integers(0, 60),
    text=st.text("0123456789.e+-=:,%[]\t\n é", max_size=20),
)
def test_no_damage_to_a_log_makes_the_readers_fail(name: str, at: int, cut: int, text: str) -> None:
    content = recorded(name)
    damaged = content[:at] + text + content[at + cut :]
    benchmark_result.timed(benchmark_output.read(damaged), b"")
    operator_table.operators(damaged)


# ---- operators


@pytest.mark.parametrize(
    ("name", "names", "ms"),
    [
        ("csv-plain-kernels.csv",
         ["CONV_2D sequential_11/conv2d_33/Conv2D", "ELU sequential_11/conv2d_33/Elu",
          "AVERAGE_POOL_2D sequential_11/average_pooling2d_22/AvgPool", "CONV_2D sequential_11/conv2d_34/Conv2D",
          "SOFTMAX Identity"],
         [0.0930388, 0.0300884, 0.0272269, 0.0309657, 0.000342312]),
        ("csv-xnnpack-commas-unquoted.csv",
         ["Convolution (NHWC, F32) IGEMM:0", "HardSwish (NC):1", "Convolution (NHWC, F32) DWConv:2", "Sum (ND) Reduce:3"],
         [0.1999, 0.0656, 0.0408, 0.0148]),
        ("android-gpu-espcn-profile.txt",
         ["convolution_2d 0 -> relu 1:0", "convolution_2d 2 -> relu 3:1", "convolution_2d 4:2", "depth_to_space 5:3"],
         [0.272, 0.365, 0.455, 0.631]),
        ("synap-nnapi-profile.txt", ["TfLiteNnapiDelegate", "RESIZE_NEAREST_NEIGHBOR", "TfLiteNnapiDelegate"],
         [4.011, 0.058, 2.396]),
        ("tensorflow-benchmark-readme-pixel2.txt",
         ["CONV_2D MobilenetV1/MobilenetV1/Conv2d_0/Relu6",
          "DEPTHWISE_CONV_2D MobilenetV1/MobilenetV1/Conv2d_1_depthwise/Relu6",
          "CONV_2D MobilenetV1/MobilenetV1/Conv2d_1_pointwise/Relu6", "RESHAPE MobilenetV1/Predictions/Reshape",
          "SOFTMAX MobilenetV1/Predictions/Softmax"],
         [4.269, 2.150, 6.107, 0.002, 0.029]),
        ("arm-learning-path-litert-sme2-profile.txt",
         ["LiteRT::Run[buffer registration]", "AllocateTensors", "Static Reshape (NC):0",
          "Fully Connected (NC, PF32) GEMM:1", "LiteRT::Run[Buffer sync]"],
         [0.014, 0.0001, 0.003, 0.382, 0.012]),
    ],
)  # fmt: skip
def test_operators_in_the_order_they_ran(name: str, names: list[str], ms: list[float]) -> None:
    found = operator_table.operators(recorded(name))
    assert found is not None
    assert [one.name for one in found] == names
    assert [one.ms for one in found] == pytest.approx(ms, abs=6e-4)
    assert sum(one.share for one in found) == pytest.approx(1)


def test_a_delegate_that_tells_its_inside_is_not_counted_twice() -> None:
    def table(*rows: str) -> str:
        return "\n".join(["=== Run Order ===", "node type,first,avg_ms,%,cdf%,mem KB,times called,name", *rows, ""])

    text = (
        "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
        + table("TfLiteXNNPackDelegate,9,9,90%,90%,0,1,[out]:3", "CUSTOM,1,1,10%,100%,0,1,[post]:2")
        + "\nDelegate internal: \n"
        + table("Convolution (NHWC, F32),6,6,75%,75%,0,1,Delegate/Convolution (NHWC\t F32):0",
                "Softmax,2,2,25%,100%,0,1,Delegate/Softmax:1")
    )  # fmt: skip
    found = operator_table.operators(text)
    assert found is not None
    assert [(one.name, one.ms) for one in found] == [
        ("CUSTOM post", 1),
        ("Convolution (NHWC, F32):0", 6),
        ("Softmax:1", 2),
    ]


def test_a_log_without_a_table_has_no_operators() -> None:
    assert operator_table.operators(recorded("xnnpack-issue-999-raspberry-pi.txt")) is None


# ---- the result file


def message(latency: dict[int, float], runs: int, warmup_runs: int) -> bytes:
    """Return a result file as the tool writes it; see benchmark_result.proto."""
    floats = b"".join(bytes([number << 3 | 5]) + struct.pack("<f", value) for number, value in latency.items())
    counts = b"\x0d" + struct.pack("<f", 1.5) + b"\x10" + varint(runs) + b"\x18" + varint(warmup_runs)
    return b"\x0a\x04name" + b"\x12" + varint(len(floats)) + floats + b"\x22" + varint(len(counts)) + counts


def varint(value: int) -> bytes:
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


FILE = message({1: 2.5, 2: 2.0, 3: 9.0, 4: 0.5, 5: 2.25, 6: 2.125, 7: 4.0, 8: 30.0, 9: 8.0, 10: 3.0}, 400, 130)


def test_the_result_file_by_its_fields() -> None:
    found = benchmark_result.result_file(FILE)
    assert found.latency_ms == {
        "mean": 2.5, "min": 2.0, "max": 9.0, "std": 0.5, "p50": 2.25, "p5": 2.125, "p95": 4.0, "init": 30.0,
        "first": 8.0, "warmup_mean": 3.0,
    }  # fmt: skip
    assert (found.runs, found.warmup_runs) == (400, 130)


def test_a_result_file_that_is_cut_short_is_refused() -> None:
    for size in range(len(FILE) - 1):
        with pytest.raises(ValueError, match="result file"):
            benchmark_result.result_file(FILE[:size])


@given(st.binary())
def test_any_bytes_are_a_result_file_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert "mean" in benchmark_result.result_file(content).latency_ms


def test_the_result_file_comes_before_the_text() -> None:
    said = benchmark_output.read(recorded("xnnpack-issue-999-raspberry-pi.txt"))
    found = benchmark_result.timed(said, FILE)
    assert found is not None
    assert found.samples.aggregate_ms is not None
    assert (found.samples.aggregate_ms["mean"], found.samples.aggregate_ms["runs"]) == (2.5, 400)
    assert (found.samples.init_ns, found.samples.first_ns) == (30_000_000, 8_000_000)
    assert any("the text 55.043" in doubt for doubt in found.doubts)


def test_a_damaged_result_file_leaves_the_text() -> None:
    said = benchmark_output.read(recorded("litert-build-instructions-linux.txt"))
    found = benchmark_result.timed(said, FILE[:20])
    assert found is not None
    assert found.samples.aggregate_ms == pytest.approx(
        {
            "mean": 0.947132,
            "min": 0.91,
            "max": 1.102,
            "std": 0.023,
            "p5": 0.915,
            "p50": 0.942,
            "p95": 0.991,
            "runs": 1054,
        }
    )
    assert found.doubts == ("the result file is damaged: the printed figures are used",)


def test_a_run_without_figures_has_none() -> None:
    assert benchmark_result.timed(benchmark_output.read("STARTING!"), b"") is None


@pytest.mark.parametrize(
    ("name", "steady"),
    [
        ("litert-build-instructions-linux.txt", True),
        ("xnnpack-issue-999-raspberry-pi.txt", True),
        ("ti-processor-sdk-11-am62xx.txt", False),  # one warm-up inference says nothing
    ],
)
def test_steady_as_far_as_aggregates_tell(name: str, steady: bool) -> None:
    found = benchmark_result.timed(benchmark_output.read(recorded(name)), b"")
    assert found is not None
    assert found.samples.steady is steady


def test_a_warm_up_that_was_faster_is_not_steady() -> None:
    warm, timed = (
        "count=90 first=900 curr=100 min=99 max=900 avg=110 std=84",
        "count=90 first=150 curr=150 min=149 max=151 avg=150 std=1",
    )
    found = benchmark_result.timed(benchmark_output.read(f"{warm}\n\n{timed}\n"), b"")
    assert found is not None
    assert not found.samples.steady
