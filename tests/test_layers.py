"""A file imports only from rows below its own: the house's plan, held against the imports in the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "edgeship"
LONGEST_FILE, LONGEST_FUNCTION = 400, 50
LONGER = {"board.runner": 432}  # pushed to boards as it is, so it cannot be two files

# Top to ground. Files of one row do not import one another; neither do the plugs of a folder. A folder stands for all
# files in it that have no line of their own.
ROWS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("cli_devices", "cli_edgetpu", "cli_history", "cli_nightly"),
    ("options", "front"),
    ("report.live",),
    ("nightly", "nightly_reports", "nightly_outcome", "ab_trial"),
    ("nightly_bench",),
    ("nightly_health",),
    ("nightly_case",),
    ("nightly_artifacts", "nightly_run", "nightly_questions", "nightly_queue"),
    ("pipeline", "comparison", "inspection", "checkup", "edgetpu"),
    ("deployment", "drawer", "compiling", "nightly_plan"),
    ("benchmarking", "path"),
    ("attempt", "chip_path", "chip_form"),
    ("report.edgetpu_terminal", "report.compilation_terminal", "report.segments_terminal"),
    ("report.terminal", "report.device_terminal", "report.build_page", "report.trial_terminal", "record"),
    ("report.junit", "report.markdown", "report.night_terminal", "report.history_terminal", "report.site"),
    ("report.site_page",),
    ("report.site_charts",),
    ("report.case_charts", "report.expectation", "report.night_summary", "report.story", "history_view"),
    ("report.bench_page",),
    (
        "report.charts",
        "report.bench_charts",
        "report.conditions",
        "report.page",
        "report.app_program",
        "plan",
        "manifest",
        "bench_manifest",
    ),
    ("report.figures", "report.drawing", "report.edgetpu_figures", "report.sparkline"),
    ("stages", "segments"),
    ("subject", "suite", "nightly_faults", "nightly_quality"),
    ("history",),
    ("history.export",),
    ("history.keeping", "history.reading", "history.lease", "history.revision", "history.series"),
    ("history.database",),
    ("history.packing",),
    ("history.schema", "history.figures"),
    ("alternation", "comparisons", "golden", "host", "nightly_record", "run_trial"),
    ("verify", "advice", "gate"),
    ("creep", "layer_error"),
    ("training", "adaptation"),
    ("trainable", "trained_file"),
    ("importers", "passes", "compilers", "runtimes", "devices", "standin.edgetpu_compiler"),
    ("onnx_rewrite",),
    ("onnx_rewrite.recurrence", "onnx_rewrite.folding", "onnx_rewrite.inlining", "onnx_rewrite.sampling"),
    ("onnx_rewrite.draft", "torch_entry", "torch_interface"),
    (
        "bridge",
        "lift",
        "finetune",
        "deliverable",
        "conditions",
        "watching",
        "trust",
        "benchmark_tool.result",
        "wheels",
        "environment",
        "converter",
        "embedding_lookup",
        "segment_files",
        "edgetpu_form",
        "onnx_difference",
        "lab",
    ),
    ("lab.shelf",),
    ("lab.snapshot",),
    ("lab.machine",),
    ("lab.image",),
    ("lab.debian", "lab.hardware", "lab.keeper", "lab.kernel", "lab.monitor", "lab.wheels"),
    ("lift_arithmetic", "lift_moves", "lift_recurrence"),
    ("lift_layers",),
    ("lift_graph",),
    ("onnx_run", "onnx_fitting"),
    ("onnx_interface",),
    (
        "bridge_layers",
        "chance",
        "lift_operations",
        "float_weights",
        "lesson",
        "tf_convert",
        "check_inputs",
        "closeness",
        "channel_scale",
        "forecast",
        "segment_chain",
        "segment_cuts",
    ),
    (
        "interpret",
        "graph_pieces",
        "keras_file",
        "augmentation",
        "onnx_file",
        "torch_file",
        "saved_model_file",
        "complexity",
        "metrics",
        "runtime_support",
        "session",
        "edgetpu_rules",
    ),
    (
        "noise",
        "torch_program",
        "quantized",
        "graph_editor",
        "segment_schedule",
        "edgetpu_conditions",
        "edgetpu_cures",
        "compiled",
        "ssh.shell",
        "android.bridge",
        "board_facts",
        "android.facts",
        "latency",
        "inventory",
        "feed_file",
    ),
    (
        "flatbuffer",
        "edgetpu_package",
        "out_folder",
        "wording",
        "edgetpu_delegate",
        "ssh.route",
        "benchmark_tool.output",
        "benchmark_tool.operator_table",
        "benchmark_tool.process_memory",
        "benchmark_tool.elf",
    ),
    ("store", "child", "model", "runtime_release", "ssh.keys"),
    ("scratch", "mixed_examples", "installer", "ssh.config", "ssh.host_keys"),
    ("examples", "command", "remote", "run_devices", "standin", "edgetpu_gates"),
    ("target", "recipe", "run", "night", "resampling", "progress", "tools", "device", "measurement", "edgetpu_reasons"),
    ("artifact", "toml_file", "digest", "compilation", "edgetpu_log", "run_edgetpu"),
    ("errors", "resources", "onnx_external", "keras_code", "keras_layers", "board"),
)
PLUGS = ("edgetpu_form", "onnx_rewrite", "importers", "passes", "compilers", "runtimes", "devices")


def row(module: str) -> int | None:
    """Return a module's row, counted from the top; the package's own face has none."""
    for number, names in enumerate(ROWS):
        if module in names:
            return number
    folder = module.partition(".")[0]
    return next((number for number, names in enumerate(ROWS) if folder in names), None)


def modules() -> list[tuple[str, Path]]:
    """Return every module of the package by its dotted name."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name and not (path.name == "__init__.py" and len(path.read_text().splitlines()) < 5):
            found.append((name, path))
    return found


def imported(path: Path) -> set[str]:
    """Return the edgeship modules that a file imports anywhere, for the reader or for the type checker."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "edgeship":
            base = node.module.removeprefix("edgeship").removeprefix(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}".removeprefix(".")
                found.add(
                    whole
                    if (PACKAGE / f"{whole.replace('.', '/')}.py").exists() or (PACKAGE / whole).is_dir()
                    else base
                )
    return {name for name in found if name}


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_only_from_below(name: str, path: Path) -> None:
    """Every import goes down, and no plug of a folder imports another."""
    mine = row(name)
    assert mine is not None, f"{name} has no row: give it one in ROWS"
    for other in imported(path):
        theirs = row(other)
        if theirs is None:
            continue  # the package's face: its version
        face = other in PLUGS or name in PLUGS
        assert theirs > mine or (theirs == mine and face and other.split(".")[0] == name.split(".")[0]), (
            f"{name} (row {mine}) imports {other} (row {theirs}), which is not below it"
        )


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_line_budget(name: str, path: Path) -> None:
    """A file past 400 lines, or a function past 50, is two things."""
    text = path.read_text()
    assert len(text.splitlines()) <= LONGER.get(name, LONGEST_FILE)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            lines = node.end_lineno - node.lineno + 1
            assert lines <= LONGEST_FUNCTION or _is_signature(node), f"{name}.{node.name} has {lines} lines"


def _is_signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Say whether most of a function is its parameters, as in a command with many options, or one flat constructor."""
    assert node.end_lineno is not None
    return node.end_lineno - node.body[0].lineno + 1 <= LONGEST_FUNCTION
