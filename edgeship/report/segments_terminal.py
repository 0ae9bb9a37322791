"""A model in segments, for people on stdout: the balance table, the tensors between, and the estimate."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeship.report.terminal import amount, size
from edgeship.segments import SegmentRecord, SegmentsRecord

LONGEST_NAME = 40


class SegmentsTerminal:
    """Prints one result; owns stdout."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def segments(self, found: SegmentsRecord) -> None:
        """Print what was cut, how even it is, and what the pipeline may give."""
        check, pace = found.check, found.schedule
        inputs = "seeded inputs" if check.synthetic else "of your examples"
        self.console.print(
            f"[bold white on green] BIT-IDENTICAL [/] {escape(found.model)} in {len(found.segments)} segments: chained, they give "
            f"the whole model's outputs on {check.examples} {inputs}, with {' and '.join(check.kernels)} kernels"
        )
        table = Table(
            "  #", "ops", "weights", "streamed", "MACs", "in+out", "estimate", "on CPU",
            box=None, header_style="dim", pad_edge=False,
        )  # fmt: skip
        for number, segment in enumerate(found.segments):
            table.add_row(*_cells(number, segment))
        self.console.print(table)
        between = [
            f"{escape(_short(tensor.name))} {size(tensor.size_bytes)} → {', '.join(tensor.readers)}"
            for segment in found.segments[:-1]
            for tensor in segment.outputs
        ]
        rows = [
            ("between", "; ".join(between)),
            (
                "pipeline",
                f"one result every {pace.slowest_ms:.2f} ms ({pace.throughput_per_s:.0f}/s), {pace.latency_ms:.2f} ms from end to end over {pace.link}",
            ),
            ("one chip", f"{pace.single_ms:.2f} ms ({pace.single_throughput_per_s:.0f}/s)"),
            ("", pace.caveat),
            ("folder", escape(found.folder)),
        ]
        for name, text in rows:
            self.console.print(f"  [dim]{name:<8}[/]  {text}")
        for text in found.warnings:
            self.console.print(f"  [yellow]warning:[/] {escape(text)}")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"…{name[-LONGEST_NAME:]}"


def _cells(number: int, segment: SegmentRecord) -> tuple[str, ...]:
    left = ", ".join(f"{count} {name}" for name, count in segment.cpu_operators.items()) or "nothing"
    return (
        f"  {number}",
        str(segment.operators),
        f"{size(segment.weight_bytes)} ({segment.weight_share:.0%})",
        size(segment.streamed_bytes),
        amount(segment.macs),
        size(segment.crossing_bytes),
        f"{segment.latency_ms:.2f} ms",
        escape(left),
    )
