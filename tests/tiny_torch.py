"""Small PyTorch models for tests, exported as `.pt2`. A script for a Python with torch: `python tiny_torch.py FOLDER NAME…`.

It imports nothing of edgeship; the weights are seeded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional


class UNet(nn.Module):  # type: ignore[misc, unused-ignore]
    """An image in, a mask out: GroupNorm, a skip connection, a bilinear resize."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle, self.up = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Conv2d(16, 2, 1),
        )
        self.norm, self.deep = nn.GroupNorm(2, 8), nn.GroupNorm(4, 8)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        wide = functional.silu(self.norm(self.down(image)))
        small = torch.relu(self.deep(self.middle(functional.max_pool2d(wide, 2))))
        back = functional.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        return self.up(torch.cat([back, wide], 1))


class Recurrent(nn.Module):  # type: ignore[misc, unused-ignore]
    """Frames and the state of a GRU in; what a bidirectional LSTM says, and the state after, out."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.lstm = nn.LSTM(5, 4, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 3)

    def forward(self, frames: torch.Tensor, state: torch.Tensor) -> dict[str, torch.Tensor]:
        heard, after = self.gru(frames, state.transpose(0, 1))
        return {"words": self.head(self.lstm(heard)[0]), "state_after": after.transpose(0, 1)}


class Encoder(nn.Module):  # type: ignore[misc, unused-ignore]
    """A Transformer's encoder layer over a grouped one-dimensional convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 3, padding=1, groups=2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        return self.layer(self.conv(signal).transpose(1, 2))


class OnlyByOnnx(nn.Module):  # type: ignore[misc, unused-ignore]
    """An operation that litert-torch cannot lower and the ONNX route can."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.logcumsumexp(frames, 1)


MODELS: dict[str, tuple[type[nn.Module], tuple[tuple[int, ...], ...]]] = {
    "unet": (UNet, ((1, 3, 16, 16),)),
    "recurrent": (Recurrent, ((1, 7, 6), (1, 1, 5))),
    "encoder": (Encoder, ((1, 4, 12),)),
    "only_by_onnx": (OnlyByOnnx, ((1, 6, 4),)),
}


def make(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return a seeded model and example inputs."""
    kind, shapes = MODELS[name]
    torch.manual_seed(0)
    return kind().eval(), tuple(torch.randn(shape) for shape in shapes)


def main() -> None:
    """Export the models that are named into a folder."""
    for name in sys.argv[2:]:
        torch.export.save(torch.export.export(*make(name)), Path(sys.argv[1]) / f"{name}.pt2")


if __name__ == "__main__":
    main()
