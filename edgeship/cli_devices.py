"""The commands about devices: parse, call, print, exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeship import front
from edgeship.options import (
    BatchOption,
    DataOption,
    DeviceArgument,
    DeviceOption,
    GovernorOption,
    InventoryOption,
    MetricOption,
    MinSecondsOption,
    OffsetOption,
    OneDeviceOption,
    RequireValidOption,
    RunsOption,
    ScaleOption,
    SeedOption,
    ThreadsOption,
    WaitOption,
    WarmupOption,
    names_from,
    target_names,
)  # fmt: skip

if TYPE_CHECKING:
    from edgeship.front import Front
    from edgeship.lab import Machine
    from edgeship.measurement import BenchRecord
    from edgeship.run_devices import Failed, LabMachine

devices_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Your boards: add them, look at them.")
lab_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Virtual boards, booted in QEMU.")
ArtifactArgument = Annotated[str, typer.Argument(help="A .tflite file, or the out folder of a build.")]
ToOption = Annotated[str, typer.Option("--to", help="The path on the board; an app reads <path>/model.tflite.")]


def bench(
    context: typer.Context,
    artifact: ArtifactArgument,
    *,
    device: DeviceOption,
    runs: RunsOption = None,
    min_seconds: MinSecondsOption = None,
    warmup_seconds: WarmupOption = None,
    threads: ThreadsOption = None,
    batch: BatchOption = 1,
    data: DataOption = None,
    scale: ScaleOption = None,
    offset: OffsetOption = None,
    metric: MetricOption = None,
    governor: GovernorOption = None,
    require_valid: RequireValidOption = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the results to this file.")] = None,
    seed: SeedOption = 0,
    devices: InventoryOption = None,
    wait: WaitOption = 0,
) -> None:
    """Measure an artifact on devices: latency, memory, operators, and whether it is right there."""
    from edgeship import bench_manifest, benchmarking
    from edgeship.measurement import BenchRecord

    order = benchmarking.BenchOrder(
        artifact=artifact, devices=tuple(device), inventory=devices, runs=runs, min_seconds=min_seconds,
        warmup_seconds=warmup_seconds, threads=threads, batch=batch, data=data, scale=front.numbers("--scale", scale),
        offset=front.numbers("--offset", offset), metric=metric, governor=governor, wait_s=wait, seed=seed,
    )  # fmt: skip
    screen: Front = context.obj
    if html is not None:
        benchmarking.check_page(html)
    with screen.listening() as listener:
        results = benchmarking.bench(order, listener)
    if html is not None:
        benchmarking.write_page(html, results)
    if len(results) == 1 and not isinstance(results[0], BenchRecord):
        raise results[0].error
    table = bench_manifest.of_several(results)
    screen.show(table if isinstance(table, dict) else {"benches": table}, lambda terminal: show_benches(results))
    code = exit_code(results, require_valid=require_valid)
    if code:
        raise typer.Exit(code)


def show_benches(results: Sequence[BenchRecord | Failed]) -> None:
    """Print what each device brought back."""
    from edgeship.measurement import BenchRecord
    from edgeship.report.device_terminal import DeviceTerminal

    screen = DeviceTerminal()
    made = [one for one in results if isinstance(one, BenchRecord)]
    if len(made) == 1:
        screen.bench(made[0])
    elif made:
        screen.benches(made)
    for one in results:
        if not isinstance(one, BenchRecord):
            screen.failed(one.device, one.error.message, one.error.hint)


def exit_code(results: Sequence[BenchRecord | Failed], *, require_valid: bool) -> int:
    """Return 7 when a golden check failed, else the first failure's own code, else 6 for conditions that broke."""
    from edgeship.measurement import BenchRecord

    made = [one for one in results if isinstance(one, BenchRecord)]
    if any(one.golden.failed for one in made):
        return 7
    failures = [one.error.exit_code for one in results if not isinstance(one, BenchRecord)]
    broken = require_valid and any(not one.valid for one in made)
    return failures[0] if failures else 6 if broken else 0


def deploy(
    context: typer.Context,
    artifact: ArtifactArgument,
    *,
    device: OneDeviceOption,
    to: ToOption,
    devices: InventoryOption = None,
    wait: WaitOption = 0,
) -> None:
    """Leave a versioned model on a device, switched atomically after the golden check passed there."""
    from edgeship import deployment
    from edgeship.report.device_terminal import DeviceTerminal

    screen: Front = context.obj
    with screen.listening() as listener:
        done = deployment.deploy(artifact, device, to, listener, inventory_file=devices, wait_s=wait)
    screen.show(asdict(done), lambda terminal: DeviceTerminal().deployed(done))


def rollback(
    context: typer.Context,
    *,
    device: OneDeviceOption,
    to: ToOption,
    devices: InventoryOption = None,
    wait: WaitOption = 0,
) -> None:
    """Put the version before the present one back, checked and switched in the same way."""
    from edgeship import deployment
    from edgeship.report.device_terminal import DeviceTerminal

    screen: Front = context.obj
    with screen.listening() as listener:
        done = deployment.rollback(device, to, listener, inventory_file=devices, wait_s=wait)
    screen.show(asdict(done), lambda terminal: DeviceTerminal().deployed(done))


@devices_app.command("list")
def devices_list(context: typer.Context, devices: InventoryOption = None) -> None:
    """List your devices."""
    from edgeship import drawer, inventory
    from edgeship.report.device_terminal import DeviceTerminal

    screen: Front = context.obj
    rows, place = drawer.rows(devices), inventory.place(devices)
    screen.show(
        {"file": str(place), "devices": [asdict(row) for row in rows]},
        lambda terminal: DeviceTerminal().devices(rows),
    )


@devices_app.command("add")
def devices_add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What you call it, such as pi-01.")],
    address: Annotated[str | None, typer.Argument(help="ssh: [user@]host or an alias; adb: the serial.")] = None,
    *,
    target: Annotated[
        str, typer.Option("--target", "-t", help="The kind of machine.", autocompletion=names_from(target_names))
    ],
    transport: Annotated[
        str | None, typer.Option("--transport", help="ssh, adb, local or virtual; default: adb for Android, else ssh.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="The ssh port.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="The user there.")] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Your private key's file.")] = None,
    folder: Annotated[str | None, typer.Option("--folder", help="Where edgeship keeps its things there.")] = None,
    python: Annotated[str | None, typer.Option("--python", help="The Python to use there.")] = None,
    benchmark_model: Annotated[
        Path | None, typer.Option("--benchmark-model", help="Your benchmark_model binary for this board.")
    ] = None,
    governor: GovernorOption = None,
    cpu: Annotated[list[int] | None, typer.Option("--cpu", help="A core that runs are held to; repeat.")] = None,
    lease: Annotated[str | None, typer.Option("--lease", help="Name of its lease; default: its machine id.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A word to find it by; repeat.")] = None,
    overwrite: Annotated[bool, typer.Option("--replace", help="Write over the entry of this name.")] = False,
    devices: InventoryOption = None,
) -> None:
    """Write a device into your devices file."""
    from edgeship import drawer, inventory

    fields = {
        "name": name, "target": target, "transport": transport, "address": address, "port": port, "user": user, "identity": identity,
        "folder": folder, "python": python, "governor": governor, "cpus": tuple(cpu or ()), "lease": lease, "tags": tuple(tag or ()),
    }  # fmt: skip
    entry = drawer.entry({key: value for key, value in fields.items() if value}, benchmark_model)
    place = inventory.place(devices)
    inventory.add(place, entry, replace=overwrite)
    screen: Front = context.obj
    table = {"file": str(place), "device": entry.model_dump(mode="json", exclude_none=True)}
    screen.show(
        table, lambda terminal: typer.echo(f"{name} is in {place}; look at it with: edgeship devices check {name}")
    )


@devices_app.command("remove")
def devices_remove(context: typer.Context, name: DeviceArgument, devices: InventoryOption = None) -> None:
    """Take a device out of your devices file."""
    from edgeship import drawer

    place = drawer.remove(name, devices)
    screen: Front = context.obj
    screen.show({"file": str(place), "removed": name}, lambda terminal: typer.echo(f"{name} is no longer in {place}"))


@devices_app.command("check")
def devices_check(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Which; default: all of your file.")] = None,
    devices: InventoryOption = None,
    wait: WaitOption = 0,
) -> None:
    """Connect, ask each board what it is, and compare with its target."""
    from edgeship import drawer
    from edgeship.report.device_terminal import DeviceTerminal

    screen: Front = context.obj
    checks = drawer.check_all(names or (), devices, wait_s=wait)

    def draw(_: object) -> None:
        shown = DeviceTerminal()
        for one in checks:
            shown.device_check(one)

    screen.show({"checks": [asdict(one) for one in checks]}, draw)
    if any(not one.reachable or one.mismatches for one in checks):
        raise typer.Exit(6)


@devices_app.command("scan")
def devices_scan(context: typer.Context, devices: InventoryOption = None) -> None:
    """Find devices: those that adb sees, and the hosts of your ssh config."""
    from edgeship import drawer
    from edgeship.report.device_terminal import DeviceTerminal

    screen: Front = context.obj
    found = drawer.scan(devices)
    screen.show({"found": [asdict(one) for one in found]}, lambda terminal: DeviceTerminal().scan(found))


@devices_app.command("clean")
def devices_clean(
    context: typer.Context, name: DeviceArgument, devices: InventoryOption = None, wait: WaitOption = 0
) -> None:
    """Empty edgeship's cache on a board: models, runtimes."""
    from edgeship import drawer

    screen: Front = context.obj
    freed = drawer.clean(name, devices, wait_s=wait)
    screen.show({"device": name, "freed_mib": freed}, lambda terminal: typer.echo(f"{name}: {freed} MiB freed"))


@lab_app.command("up")
def lab_up(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(help="The kind of board, such as rpi4.", autocompletion=names_from(target_names))
    ],
    free_running: Annotated[
        bool, typer.Option("--free-running", help="Several cores and no counted time: faster, and not repeatable.")
    ] = False,
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="A Debian mirror; default: this machine's own.")
    ] = None,
) -> None:
    """Make (once) and boot a virtual board, and leave it running, ready for ssh."""
    from edgeship import lab
    from edgeship.report.device_terminal import DeviceTerminal

    screen: Front = context.obj
    with screen.listening() as listener:
        machine = lab.up(target, counted=not free_running, mirror=mirror, on_progress=listener.on_progress)
    shown = _machine(machine)
    screen.show(asdict(shown), lambda terminal: DeviceTerminal().lab([shown]))


@lab_app.command("down")
def lab_down(
    context: typer.Context,
    target: Annotated[str | None, typer.Argument(help="Which; default: all that run.")] = None,
) -> None:
    """Shut virtual boards down."""
    from edgeship import lab
    from edgeship.report.device_terminal import DeviceTerminal

    screen: Front = context.obj
    ended = [replace(_machine(one), state="ended") for one in lab.down(target)]
    screen.show({"machines": [asdict(one) for one in ended]}, lambda terminal: DeviceTerminal().lab(ended))


@lab_app.command("list")
def lab_list(context: typer.Context) -> None:
    """List the virtual boards that are made or run."""
    from edgeship import lab
    from edgeship.report.device_terminal import DeviceTerminal

    screen: Front = context.obj
    machines = [_machine(one) for one in lab.running()]
    screen.show({"machines": [asdict(one) for one in machines]}, lambda terminal: DeviceTerminal().lab(machines))


def _machine(one: Machine) -> LabMachine:
    """Return a virtual board as its commands show it."""
    from edgeship.run_devices import LabMachine

    return LabMachine(one.target, one.state, one.pid, one.ssh_port, one.adb_port, one.counted, one.ssh_command)


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    for command in (bench, deploy, rollback):
        app.command()(command)
    app.add_typer(devices_app, name="devices")
    app.add_typer(lab_app, name="lab")
