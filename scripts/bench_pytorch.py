"""PyTorch models of many kinds in, each held against torch: error and seconds. Needs uv and a network the first time.

    python scripts/bench_pytorch.py [NAME…] [--keep FOLDER]

MobileNetV3 and ShuffleNetV2 are torchvision's (weights seeded, batch statistics of random images), fetched for this bench
beside the converter's environment; the others are written here. Each is exported by torch, and imported as `build` does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from edgeship import child, closeness, environment, flatbuffer, installer, interpret
from edgeship.errors import EdgeshipError
from edgeship.importers import IMPORTERS, Imported, Request

NAMES = (
    "mobilenet_v3_small", "shufflenet_v2_x1_0", "unet_groupnorm", "gru", "bidirectional_lstm", "transformer_encoder", "grouped_conv1d",
)  # fmt: skip
TORCHVISION = "torchvision==0.28.0"  # the release for torch 2.13
EXPORT = """
import sys, torch
from torch import nn
from torch.nn import functional as F
torch.set_num_threads(1)
sys.path.append(sys.argv[1])
held, torch.library.register_fake = torch.library.register_fake, lambda *a, **k: lambda f: f
import torchvision.models as zoo  # its own operators are built for CUDA, and not needed
torch.library.register_fake = held


class Block(nn.Sequential):
    def __init__(self, before, after):
        layers = [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
        super().__init__(*layers, nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.down, self.deep, self.middle = Block(3, c), Block(c, 2 * c), Block(2 * c, 4 * c)
        self.wider = nn.ConvTranspose2d(4 * c, 2 * c, 2, stride=2)
        self.back, self.up, self.head = Block(4 * c, 2 * c), Block(3 * c, c), nn.Conv2d(c, 3, 1)

    def forward(self, image):
        a = self.down(image)
        b = self.deep(F.max_pool2d(a, 2))
        x = self.back(torch.cat([self.wider(self.middle(F.max_pool2d(b, 2))), b], 1))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(self.up(torch.cat([x, a], 1)))


class Recurrent(nn.Module):
    def __init__(self, layer, width):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 12)

    def forward(self, frames):
        return self.head(self.layer(frames)[0])


def conv1d():
    return nn.Sequential(
        nn.Conv1d(16, 32, 5, padding=2, groups=4), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Conv1d(32, 32, 3, dilation=2, padding=2, groups=8), nn.LeakyReLU(),
        nn.Conv1d(32, 32, 3, stride=2, padding=1, groups=32), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 5))


MODELS = {
    "mobilenet_v3_small": (zoo.mobilenet_v3_small, (1, 3, 224, 224)),
    "shufflenet_v2_x1_0": (zoo.shufflenet_v2_x1_0, (1, 3, 224, 224)),
    "unet_groupnorm": (UNet, (1, 3, 64, 64)),
    "gru": (lambda: Recurrent(nn.GRU(40, 64, num_layers=2, batch_first=True), 64), (1, 20, 40)),
    "bidirectional_lstm": (lambda: Recurrent(nn.LSTM(32, 48, batch_first=True, bidirectional=True), 96), (1, 20, 32)),
    "transformer_encoder": (lambda: nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, activation="gelu"), (1, 24, 64)),
    "grouped_conv1d": (conv1d, (1, 16, 100)),
}
for name in sys.argv[3:]:
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model = make()
    norms = [module for module in model.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for norm in norms:  # real statistics, or a deep model's outputs are all alike
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        for _ in range(3 if norms else 0):
            model.train()(torch.randn(4, *shape[1:]))
    torch.export.save(torch.export.export(model.eval(), (torch.randn(shape),)), f"{sys.argv[2]}/{name}.pt2")
"""


def main() -> None:
    """Export what is named, import it, and print a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", choices=[[], *NAMES])
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    names = given.names or list(NAMES)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        python = environment.ready("litert-torch", log=folder / "log.txt", on_progress=lambda step: print(step.text))
        extra = folder / "torchvision"
        line = [installer.uv() or "uv", "pip", "install", "--quiet", "--no-deps", "--python", python, "--target", extra]
        subprocess.run([*map(str, line), TORCHVISION, "pillow"], check=True)
        subprocess.run(
            [str(python), "-I", "-c", EXPORT, str(extra), str(folder), *names], check=True, stderr=subprocess.DEVNULL
        )
        print(f"{'model':22} {'error':>9} {'s':>7} {'kB':>8}  inputs")
        failed = [name for name in names if not imported(folder, name)]
    sys.exit(f"{len(failed)} of {len(names)} failed" if failed else 0)


def imported(folder: Path, name: str) -> bool:
    """Import one model, print its line, and say whether its outputs are torch's."""
    request = Request(folder / f"{name}.pt2", folder / f"{name}.tflite", folder / f"{name}.npz", log=folder / "log.txt")
    began = time.monotonic()
    try:
        work = partial(IMPORTERS["pytorch"].bring, request=request)
        told: Imported = child.run(work, log=folder / "log.txt", timeout_s=3600)
        seconds = time.monotonic() - began
        (ran,) = interpret.outputs([interpret.Job(request.reference, request.check)], log=folder / "log.txt")
    except EdgeshipError as refusal:
        print(f"{name:22} {refusal.message}")
        return False
    with np.load(request.check) as check:
        expected = {output: check[f"output:{output}"] for output in told.output_names}
    graph = flatbuffer.read(request.reference)
    found = closeness.held(graph, expected, ran.outputs)
    shapes = ", ".join(f"{spec.name} {'x'.join(map(str, spec.shape))}" for spec in graph.interface.inputs)
    size = request.reference.stat().st_size / 1000
    print(f"{name:22} {found.relative_error:9.1e} {seconds:7.1f} {size:8.0f}  {shapes}", *told.notes[1:], flush=True)
    return found.within


if __name__ == "__main__":
    main()
