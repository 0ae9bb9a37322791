"""`edgeship ship`, `deploy` and `rollback` of models on every kind of board that can be had here, as whole commands.

    uv run python scripts/bench_ship.py [MODEL[:TEST.npz:TRAIN.npz] …]

A real sshd on 127.0.0.1, virtual Raspberry Pis 4 and 5 (simulated), a real adbd with the stand-in of benchmark_model. Root.
Without a model: the sample `digits`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from edgeship import digest, inventory, standin
from tests.lab.android import HOST_PYTHON, AdbServer, AndroidBoard
from tests.lab.android_root import make_root
from tests.lab.drawer import drawer

KINDS = {
    "sshd": ("board-1", "linux-x86_64", "app/model"),
    "virtual rpi4": ("virtual:rpi4", "rpi4", "app/model"),
    "virtual rpi5": ("virtual:rpi5", "rpi5", "app/model"),
    "adbd": ("phone", "android-x86_64", "/data/local/tmp/app/model"),
}


def main() -> None:
    """Print a line for each board and model."""
    models = sys.argv[1:] or ["digits"]
    home = Path(os.environ["EDGESHIP_HOME"]) if "EDGESHIP_HOME" in os.environ else None
    with drawer(home=home) as lab, tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        server = AdbServer(folder / "adb-home")
        kept = os.environ.get("EDGESHIP_TEST_LAB")
        binary = standin.benchmark_model(folder, python=HOST_PYTHON)
        try:
            with AndroidBoard(make_root(Path(kept) if kept else folder / "root"), folder / "board.log") as phone:
                changes = {"benchmark_model": str(binary), "benchmark_model_sha256": digest.of_file(binary)}
                inventory.add(lab.inventory, phone.device.model_copy(update={"name": "phone", **changes}))
                adb = {"ANDROID_ADB_SERVER_PORT": str(server.port)}
                for kind in KINDS:
                    ship(kind, models, folder, {**os.environ, **lab.environment, **adb})
        finally:
            server.end()


def ship(kind: str, models: list[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Ship each model to one kind of board, deploy one after the other, and roll the last one back."""
    device, target, to = KINDS[kind]
    deployed = []
    booted = device.startswith("virtual:")
    if booted:  # one that stays up, so that there is something to roll back to
        run(["lab", "up", target], environment)
    for model in models:
        source, *data = model.split(":")
        out = folder / f"{kind}-{Path(source).name}".replace(" ", "-")
        words = ["ship", source, "--target", target, "--recipe", "int8", "--device", device, "--out", str(out)]
        words += ["--data", data[0]] if data else []
        words += ["--calibration", data[1]] if len(data) > 1 else []
        made = run(words, environment)
        bench, build = made["bench"], made["build"]
        latency, golden = bench["latency_ms"], bench["golden"]
        middle = latency["p50"] if latency["p50"] is not None else latency["mean"]
        marked = " (simulated)" if bench["simulated"] else ""
        quality = (
            "" if bench["quality"] is None else f", {bench['quality']['metric']} there {bench['quality']['got']:.4f}"
        )
        print(
            f"{kind}, {Path(source).name}: golden {'passed' if golden['passed'] else 'FAILED'} on {golden['checked']}, "
            f"{golden['max_steps']} steps; p50 {middle:.4f} ms{marked}{quality}; runtime {bench['runtime']['name']}",
            flush=True,
        )
        place = ["--device", device, "--to", f"{to}-{os.getpid()}"]
        deployed.append(run(["deploy", str(out), *place], environment)["version"])
        assert build["sha256"] == bench["artifact_sha256"]
    if len(deployed) > 1:
        back = run(["rollback", *place], environment)
        print(f"{kind}: deployed {', '.join(deployed)}; rolled back to {back['version']}", flush=True)
        assert back["version"] == deployed[-2]
    if booted:
        run(["lab", "down", target], environment)


def run(words: list[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run one command line and return its object."""
    command = [sys.executable, "-m", "edgeship", *words, "--json"]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stdout[-1500:]}{done.stderr[-3000:]}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
