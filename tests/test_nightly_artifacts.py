"""What a night keeps of a build, so that a later night can measure it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeship import deliverable, nightly_artifacts
from edgeship.out_folder import ARTIFACT, MANIFEST
from tests.tiny_tflite import separable


def build(folder: Path, *, passed: bool = True, scale: float = 1.0) -> tuple[Path, str]:
    """Return the folder of a build whose bytes are always the same, and their sha256."""
    folder.mkdir()
    separable().write(folder / ARTIFACT)
    sha = deliverable.find(str(folder / ARTIFACT)).sha256
    port = deliverable.find(str(folder / ARTIFACT)).graph.interface.inputs[0].name
    said: dict[str, Any] = {
        "sha256": sha, "passed": passed,
        "quality": {"metric": "top1", "got": 0.9, "drop": 0.05, "budget": 0.1 if passed else 0.01},
        "inputs": [{"name": port, "preprocessing": {"scale": [scale], "offset": [0.0]}}],
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(said))
    return folder, sha


def test_the_same_bytes_are_judged_by_tonights_manifest(tmp_path: Path) -> None:
    """Other data, another metric or budget: the first manifest that was ever kept says nothing of that."""
    first = nightly_artifacts.keep(*build(tmp_path / "first"))
    assert first.budget_missed is None
    folder, sha = build(tmp_path / "second", passed=False, scale=0.5)
    second = nightly_artifacts.keep(folder, sha)
    assert second.sha256 == first.sha256 and second.folder == first.folder
    assert second.budget_missed == "top1 0.9, 0.05 worse than the reference; 0.01 is allowed"
    (how,) = deliverable.find(str(second.folder)).preparation.values()
    assert how.scale == (0.5,), "its inputs are prepared as tonight's build has them"
    later = nightly_artifacts.find(sha)
    assert later is not None and later.budget_missed
    assert sorted(path.name for path in second.folder.iterdir()) == [MANIFEST, ARTIFACT]
