"""What commands about devices found, for people, on stdout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeship.measurement import BenchRecord, Golden, Latency
from edgeship.report import conditions, figures
from edgeship.run_devices import Deployed, DeviceCheck, DeviceRow, FoundDevice, LabMachine

_OPERATORS_SHOWN = 5
_SIMULATED = "[bold blue]simulated[/]"


class DeviceTerminal:
    """Prints one result; owns stdout. Whatever a board or a file said is shown as it is, never read as markup."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def bench(self, record: BenchRecord) -> None:
        """Print a bench: the verdict first, then the figures and what is odd about them."""
        latency = record.latency_ms
        simulated = f" {_SIMULATED}" if record.simulated else ""
        self.console.print(f"{_verdict(record)} {_shown(record.device)} ({_shown(record.target)}){simulated}")
        rows = [
            ("latency", _latency(record)),
            ("tail", _tail(latency)),
            ("runs", f"{figures.count(latency.runs)}, varying by {figures.variation(latency.cv)}"),
            ("start", f"initialization {_ms(record.init_ms)}, first inference {_ms(record.first_inference_ms)}"),
            ("memory", _memory(record)),
            *([("operators", _operators(record))] if record.operators else []),
            ("golden", _golden(record.golden)),
            ("runtime", _runtime(record)),
            ("conditions", _conditions(record)),
        ]
        self._rows(rows)
        if record.simulated and record.conditions.unmodelled:
            self.console.print(f"  {_SIMULATED}: not modelled: {_shown(', '.join(record.conditions.unmodelled))}")
        for reason in record.reasons:
            self.console.print(f"  [bold red]not valid[/]: {_shown(reason)}")
        for doubt in record.doubts:
            self.console.print(f"  [yellow]doubt[/]: {_shown(doubt)}")

    def benches(self, records: Sequence[BenchRecord]) -> None:
        """Print a line a device, and under them what is wrong."""
        table = Table(box=None, header_style="dim", pad_edge=False, collapse_padding=True)
        for head in ("device", "p50", "95 % interval", "memory", "golden", "valid"):
            table.add_column(head, overflow="fold", no_wrap=head != "device")
        for record in records:
            latency = record.latency_ms
            simulated = f" {_SIMULATED}" if record.simulated else ""
            table.add_row(
                f"[bold]{_shown(record.device)}[/]",
                f"{figures.middle_ms(latency)}{simulated}",
                (figures.interval_ms(latency) or "-").removesuffix(" ms"),
                figures.mib(record.memory.peak_rss_mib) if record.memory else "-",
                "[yellow]not compared[/]"
                if not record.golden.compared
                else _yes(record.golden.passed, "passed", "failed"),
                _yes(record.valid, "valid", "not valid"),
            )
        self.console.print(table)
        for record in records:
            wrong = [] if not record.golden.failed else [f"golden check failed: {_golden(record.golden)}"]
            for told in (*wrong, *record.reasons):
                self.console.print(f"  [bold red]{_shown(record.device)}[/]: {_shown(told)}")

    def devices(self, rows: Sequence[DeviceRow]) -> None:
        """Print a line a device of the inventory."""
        if not rows:
            self.console.print("no devices yet: edgeship devices scan finds some, edgeship devices add writes one down")
            return
        table = Table("device", "target", "transport", "address", "tags", box=None, header_style="dim")
        for row in rows:
            cells = (row.target, row.transport, row.address or "", ", ".join(row.tags))
            table.add_row(f"[bold]{_shown(row.name)}[/]", *map(_shown, cells))
        self.console.print(table)

    def device_check(self, found: DeviceCheck) -> None:
        """Print what a device said of itself, each mismatch with its target first."""
        good = found.reachable and not found.mismatches
        word = "unreachable" if not found.reachable else "differs from" if found.mismatches else "is a"
        self.console.print(
            f"{'[green]✓[/]' if good else '[red]✗[/]'} [bold]{_shown(found.device)}[/] {word}"
            f"{f' {_shown(found.target)}' if found.reachable else ''}"
        )
        for mismatch in found.mismatches:
            expected, got = _shown(mismatch.expected), _shown(mismatch.found)
            self.console.print(f"  [red]{_shown(mismatch.what)}[/]: expected {expected}, found {got}")
        for note in found.notes:
            self.console.print(f"  [yellow]note[/]: {_shown(note)}")
        if found.board is not None:
            self._rows(conditions.board_facts(found.board))

    def scan(self, found: Sequence[FoundDevice]) -> None:
        """Print a line a device that a scan came upon."""
        if not found:
            self.console.print("nothing found: no adb device, and no host in the ssh config")
            return
        table = Table("found", "transport", "address", "state", "in the inventory as", box=None, header_style="dim")
        for each in found:
            cells = (each.transport, each.address, each.state, each.known_as or "-")
            table.add_row(f"[bold]{_shown(each.name)}[/]", *map(_shown, cells))
        self.console.print(table)

    def lab(self, machines: Sequence[LabMachine]) -> None:
        """Print each virtual board, and how to get into it."""
        if not machines:
            self.console.print("no virtual board runs: edgeship lab up TARGET boots one")
        for machine in machines:
            process = f", process {machine.pid}" if machine.pid is not None else ""
            counted = ", instructions counted" if machine.counted else ""
            ports = [
                f"{name} port {port}" for name, port in (("ssh", machine.ssh_port), ("adb", machine.adb_port)) if port
            ]
            reach = f", {', '.join(ports)}" if ports else ""
            self.console.print(f"[bold]{_shown(machine.target)}[/] {_shown(machine.state)}{process}{counted}{reach}")
            if machine.ssh_command:
                self.console.print(f"  [dim]{_shown(machine.ssh_command)}[/]")

    def deployed(self, made: Deployed) -> None:
        """Print which version an app on the board reads now."""
        self.console.print(f"[bold white on green] DEPLOYED [/] {_shown(made.device)}: {_shown(made.path)}")
        rows = [("version", made.version), ("sha256", made.artifact_sha256), ("previous", made.previous or "none")]
        self._rows([*rows, *([("golden", _golden(made.golden))] if made.golden else [])])

    def failed(self, device: str, message: str, hint: str | None) -> None:
        """Print why a device brought nothing back."""
        start = "" if message.startswith(f"{device}:") else f"[bold]{_shown(device)}[/]: "
        self.console.print(f"[red]✗[/] {start}{_shown(message)}")
        if hint:
            self.console.print(f"  [dim]{_shown(hint)}[/]")

    def _rows(self, rows: Sequence[tuple[str, str]]) -> None:
        width = max((len(name) for name, _ in rows), default=0)
        for name, text in rows:
            self.console.print(f"  [dim]{name:<{width}}[/]  {_shown(text)}")


def _shown(text: str) -> str:
    """Return text with its markup and its control characters made harmless: what a board says may move no cursor."""
    return escape("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text))


def _verdict(record: BenchRecord) -> str:
    if record.golden.failed:
        return "[bold white on red] WRONG OUTPUTS [/]"
    return "[bold white on green] MEASURED [/]" if record.valid else "[bold black on yellow] NOT VALID [/]"


def _latency(record: BenchRecord) -> str:
    latency, batch = record.latency_ms, record.conditions.batch
    interval = figures.interval_ms(latency)
    name, value = figures.middle(latency)
    rate = f", {figures.number(1e3 * batch / value)} examples a second in batches of {batch}" if batch != 1 and value else ""  # fmt: skip
    simulated = " simulated" if record.simulated else ""
    told = f", 95 % interval {interval}" if interval else ", no interval"
    return f"{name} {figures.latency_ms(value, latency)}{simulated}{told}{rate}"


def _tail(latency: Latency) -> str:
    told = f"p90 {figures.percentile_ms('p90', latency)}, p99 {figures.percentile_ms('p99', latency)}"
    ends = f"{figures.latency_ms(latency.min, latency)} to {figures.latency_ms(latency.max, latency)}"
    return f"{told}, all {ends}" if "not told" not in ends else told


def _ms(value: float | None) -> str:
    return "not told" if value is None else figures.ms(value)


def _memory(record: BenchRecord) -> str:
    memory = record.memory
    if memory is None:
        return "not told"
    share = f", {figures.mib(memory.model_mib)} of it the model's" if memory.model_mib is not None else ""
    return f"peak {figures.mib(memory.peak_rss_mib)}{share} ({memory.source})"


def _operators(record: BenchRecord) -> str:
    ordered = sorted(record.operators or (), key=lambda operator: -operator.ms)
    told = [f"{operator.name} {figures.percent(operator.share)}" for operator in ordered[:_OPERATORS_SHOWN]]
    rest = len(ordered) - _OPERATORS_SHOWN
    return ", ".join(told) + (f", {rest} more" if rest > 0 else "")


def _golden(golden: Golden) -> str:
    steps = f", {golden.max_steps} step{'s' * (golden.max_steps != 1)}" if golden.max_steps is not None else ""
    why = f": {golden.why}" if golden.why else ""
    error = figures.number(golden.max_abs_error)
    if not golden.compared:
        return f"not compared{why}"
    return f"{golden.word} on {golden.checked} inputs, largest error {error}{steps}{why}"


def _runtime(record: BenchRecord) -> str:
    run, around = record.runtime, record.conditions
    delegate = f" ({run.delegate})" if run.delegate else ""
    threads = f"{around.threads} thread{'s' * (around.threads != 1)}"
    return f"{run.name}{f' {run.version}' if run.version else ''}{delegate}, {threads}, {record.transport}"


def _conditions(record: BenchRecord) -> str:
    """Return what bears most on the time: how warm, how fast, held back or not, and what is not known."""
    wanted = ("temperature", "clock", "held back", "thermal status", "governor")
    told = [
        f"{row.label.partition(',')[0]}: {row.during if row.during != '-' else row.after}"
        for row in _first(record, wanted)
    ]
    silent = conditions.untold(record.conditions)
    return "; ".join([*told, *([f"not told: {', '.join(silent)}"] if silent else [])]) or "nothing told"


def _first(record: BenchRecord, wanted: Iterable[str]) -> list[conditions.Row]:
    """Return the first row of each kind: of temperatures that of the hottest sensor."""
    every = conditions.rows(record.conditions)
    found = (next((row for row in every if row.label.startswith(start)), None) for start in wanted)
    return [row for row in found if row is not None]


def _yes(claim: bool, word: str, otherwise: str) -> str:
    return f"[green]{word}[/]" if claim else f"[bold red]{otherwise}[/]"
