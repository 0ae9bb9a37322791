"""Results for people, on stdout: what each command prints when it is not asked for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeship import wording
from edgeship.compilation import GateVerdict
from edgeship.run import BuildRecord, Checkup, Comparison, Inspection, Quality
from edgeship.store import Entry, Pruned
from edgeship.target import Target

WORST_SHOWN = 8
_MISSED = "[bold white on red] MISSED [/]"


def stderr() -> Console:
    """Return the console for progress, notes and refusals."""
    return Console(stderr=True)


def size(count: float) -> str:
    """Return bytes in the unit that reads well (powers of 1024)."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def amount(count: float) -> str:
    """Return a count in thousands, millions or billions."""
    for unit in ("", " k", " M"):
        if count < 1000:
            return f"{count:.0f}{unit}" if not unit else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:.2f} G"


class Terminal:
    """Prints one result; owns stdout."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)

    def build(self, made: BuildRecord) -> None:
        """Print a build: the verdict first, then what was gained and where it lies."""
        verdict = _verdict(made.quality) if made.passed else _MISSED
        self.console.print(f"{verdict} {escape(made.model)} for {made.target}, {escape(made.recipe)}")
        change = _change(made.size_bytes, made.reference_size_bytes)
        rows = [
            (
                "size",
                f"{size(made.reference_size_bytes)} → {size(made.size_bytes)} ({change}), gzip {size(made.gzip_bytes)}",
            ),
            ("quality", _quality(made.quality)),
            (
                "quantized",
                f"{made.quantized.operators} of {made.quantized.of} operations, {made.quantized.weight_share:.0%} of the weights",
            ),
            ("sparsity", f"{made.sparsity:.1%}"),
        ]
        if made.roofline is not None:
            bound = made.roofline
            rows.append(
                (
                    "bound",
                    f"not below {bound.best_latency_ms:.3g} ms ({bound.bound_by}-bound; from published peaks, not measured)",
                )
            )
        if made.compiler is not None:
            rows.append(
                ("compiled", f"{made.compiler.compiler} {made.compiler.version}: {wording.compiled(made.compiler)}")
            )
        for gate in made.gates:
            rows.append(("gate", _gate(gate)))
        rows += [("artifact", made.artifact), ("report", made.report)]
        self._rows(rows)

    def comparison(self, answer: Comparison) -> None:
        """Print a comparison: the verdict, then the worst layers."""
        self.console.print(f"{_verdict(answer.quality)} {escape(answer.b)} by {escape(answer.a)}")
        self._rows([("quality", _quality(answer.quality))])
        table = Table("layer", "operation", "SQNR dB", "largest error", "range", box=None, header_style="dim")
        for layer in answer.layers[:WORST_SHOWN]:
            ratio = "exact" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}"
            table.add_row(
                escape(layer.name[-60:]), layer.operator, ratio, f"{layer.max_abs_error:.3g}", f"{layer.range:.3g}"
            )
        if answer.layers:
            self.console.print(table)

    def inspection(self, found: Inspection) -> None:
        """Print what a model is made of."""
        rows = [
            ("model", f"{found.model} ({found.format}, {size(found.size_bytes)})"),
            (
                "parameters",
                f"{amount(found.parameters)} ({', '.join(f'{count:,} {kind}' for kind, count in found.weight_types.items())})",
            ),
            (
                "work",
                f"{amount(found.macs)} multiply-accumulates, {size(found.bytes_moved)} moved, {size(found.peak_activation_bytes)} of activations at most",
            ),
            ("sparsity", f"{found.sparsity:.1%}"),
            ("quantized", found.quantized or "no"),
        ]
        for side, specs in (("input", found.inputs), ("output", found.outputs)):
            for spec in specs:
                how = f", scale {spec.scale:.6g}, zero point {spec.zero_point}" if spec.scale is not None else ""
                rows.append((side, f"{spec.name}: {spec.dtype} {'x'.join(map(str, spec.shape))}{how}"))
        rows.append(("operations", ", ".join(f"{count} {name}" for name, count in found.operators.items())))
        if found.target is not None:
            bound = found.target["roofline"]
            said = (
                f"not below {bound['best_latency_ms']:.3g} ms, {bound['bound_by']}-bound (from published peaks)"
                if bound
                else "no roofline for this target"
            )
            rows.append((found.target["name"], said))
        self._rows(rows)

    def targets(self, every: Sequence[Target]) -> None:
        """Print a line a target."""
        table = Table("target", "what it is", "cores", "default recipe", box=None, header_style="dim")
        for one in every:
            cores = f"{one.cpu.cores} x {one.cpu.core}" if one.cpu and one.cpu.cores and one.cpu.core else ""
            table.add_row(f"[bold]{one.name}[/]", escape(one.summary), escape(cores), one.default_recipe)
        self.console.print(table)

    def target(self, one: Target) -> None:
        """Print one target whole, each group of facts with its source."""
        self.console.print(f"[bold]{one.name}[/] {escape(one.summary)}")
        for name, value in one.model_dump(mode="json", exclude_none=True, exclude={"name", "summary"}).items():
            self.console.print(f"  [dim]{name}[/]", end=" ")
            self.console.print(value if not isinstance(value, dict) else "", markup=False)
            for key, inner in value.items() if isinstance(value, dict) else ():
                self.console.print(f"    {key}: {inner}", markup=False)

    def checkup(self, found: Checkup) -> None:
        """Print what is installed and what is missing."""
        self.console.print(f"edgeship {found.edgeship}, Python {found.python}, {found.machine}, {found.cores} cores")
        writable = "" if found.store_writable else " [bold red](not writable)[/]"
        self.console.print(f"store {escape(found.store)}, {size(found.free_bytes)} free{writable}")
        for part, whole in found.ready.items():
            self.console.print(f"{'[green]✓[/]' if whole else '[yellow]✗[/]'} {part}")
            for tool in found.tools:
                if tool.part == part:
                    said = tool.version or f"[yellow]missing[/]: {escape(tool.install or '')}"
                    self.console.print(f"    {tool.name:<32} {said}")

    def store(self, place: str, entries: Sequence[Entry]) -> None:
        """Print the stage results of the store."""
        self.console.print(
            f"{escape(place)}: {len(entries)} results, {size(sum(entry.size_bytes for entry in entries))}"
        )
        for entry in entries:
            made = datetime.fromtimestamp(entry.made).isoformat(sep=" ", timespec="seconds")
            self.console.print(f"  {made}  {entry.stage:<9} {size(entry.size_bytes):>10}  {entry.key[:12]}")

    def pruned(self, pruned: Pruned) -> None:
        """Print what pruning removed."""
        counts = f"{pruned.results} results, {pruned.artifacts} artifacts, {pruned.environments} environments"
        self.console.print(f"removed {counts}: {size(pruned.freed_bytes)} freed")

    def _rows(self, rows: Sequence[tuple[str, str]]) -> None:
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            self.console.print(f"  [dim]{name:<{width}}[/]  {escape(text)}")


def _change(after: int, before: int) -> str:
    """Return the change of a size in the words of the page: a factor where it is large, else a percentage."""
    if after == before:
        return "unchanged"
    word, factor = ("smaller", before / after) if after < before else ("larger", after / before)
    return f"{factor:.1f}x {word}" if factor >= 1.1 else f"{100 * abs(after - before) / before:.1f} % {word}"


def _verdict(quality: Quality) -> str:
    if not quality.passed:
        return _MISSED
    return "[bold white on green] PASSED [/]" if quality.budget is not None else "[bold white on blue] BUILT [/]"


def _gate(gate: GateVerdict) -> str:
    got = "not known" if gate.got is None else f"{gate.got:,}"
    how = "" if gate.seen_by == "compiler" else ", forecast"
    return f"{gate.gate} {got}, limit {gate.limit:,}{how}: {'kept' if gate.passed else 'BROKEN'}"


def _quality(quality: Quality) -> str:
    made_up = " made-up" if quality.synthetic else ""
    budget = f", budget {quality.budget:g}" if quality.budget is not None else ", no budget set"
    return f"{quality.metric} {quality.reference:.4f} → {quality.got:.4f}, drop {quality.drop:+.4f}{budget}, on {quality.examples:,}{made_up} examples"
