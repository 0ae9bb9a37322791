"""What a night measures: artifacts built once, baselines kept from earlier nights, and the reference workload.

Every artifact that is measured lies in `baselines/<sha256>/` of edgeship's store, whole, so that it can be measured beside
a later one; a folder is touched when it is used, and goes when it was not for long.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeship import benchmarking, deliverable, digest, nightly_quality, pipeline, resources, scratch
from edgeship.attempt import Assignment
from edgeship.benchmarking import BenchOrder
from edgeship.compilation import COMPILED
from edgeship.errors import BadInput, EdgeshipError
from edgeship.nightly_plan import Artifact
from edgeship.nightly_quality import Judged
from edgeship.out_folder import ARTIFACT, MANIFEST
from edgeship.progress import Listener
from edgeship.store import Store, home, no_space_named, write_whole
from edgeship.suite import Suite

# The sample model `digits` as a float32 TFLite file; its bytes never change, so that what changes is the device.
REFERENCE_SHA256 = "a5473f337e157b95d40f9911629d125d6a656ffbf4e768d15d324316d7702c4e"
KEPT_DAYS = 90


@dataclass(frozen=True)
class Measurable:
    """An artifact as it can be measured: a folder with its file, and what its manifest says."""

    sha256: str
    folder: Path
    manifest: Mapping[str, Any] | None

    @property
    def size_bytes(self) -> int | None:
        """Return its size, where its manifest tells."""
        return (self.manifest or {}).get("size_bytes")

    @property
    def quality(self) -> float | None:
        """Return what the build reached, where its manifest tells."""
        said = (self.manifest or {}).get("quality")
        return said.get("got") if isinstance(said, Mapping) else None

    @property
    def judged(self) -> Judged:
        """Return what its quality is of."""
        return nightly_quality.judged(self.manifest)

    @property
    def budget_missed(self) -> str | None:
        """Return in words how the build missed its own quality budget."""
        said = (self.manifest or {}).get("quality")
        if (self.manifest or {}).get("passed", True) or not isinstance(said, Mapping):
            return None
        return f"{said.get('metric')} {said.get('got'):.4g}, {said.get('drop'):.4g} worse than the reference; {said.get('budget')} is allowed"


class Artifacts:
    """The artifacts of one night. Several threads may ask for assignments."""

    def __init__(self, suite: Suite, listener: Listener) -> None:
        self._suite, self._listener = suite, listener
        self._built: dict[str, Measurable | EdgeshipError] = {}
        self._assignments: dict[tuple[str, Path | None, str | None], Assignment] = {}
        self._lock = threading.Lock()

    def build(self, artifact: Artifact) -> Measurable | EdgeshipError:
        """Build an artifact, or return why it cannot be; the second time nothing is done."""
        if artifact.name not in self._built:
            try:
                if artifact.trouble is not None:
                    raise artifact.trouble
                made = pipeline.build(artifact.order, self._listener)
                self._built[artifact.name] = keep(Path(made.artifact).parent, made.sha256)
            except EdgeshipError as error:
                self._built[artifact.name] = error
        return self._built[artifact.name]

    def reference(self) -> Measurable:
        """Return the reference workload."""
        return Measurable(REFERENCE_SHA256, resources.data("reference"), None)

    def assignment(self, one: Measurable, data: Path | None = None) -> Assignment:
        """Return what a board is given of an artifact; this machine's own answers are computed once.

        Raises:
            BadInput: the data do not fit it.
            StageFailed: it does not run on this machine.
        """
        with self._lock:
            metric = None if data is None else nightly_quality.on_device(one.manifest)
            key = (one.sha256, data, metric)
            if key not in self._assignments:
                how = self._suite.bench
                order = BenchOrder(
                    artifact=str(one.folder), devices=(), runs=how.runs, min_seconds=how.min_seconds,
                    warmup_seconds=how.warmup_seconds, threads=how.threads, batch=how.batch, data=data,
                    governor=how.governor, metric=metric,
                )  # fmt: skip
                with Store(home()) as store:
                    self._assignments[key] = benchmarking.assignment(order, deliverable.find(order.artifact), store)
            return self._assignments[key]


def shelf() -> Path:
    """Return where the artifacts of all nights lie."""
    return home() / "baselines"


def keep(folder: Path, sha256: str) -> Measurable:
    """Copy a build to where it stays, whole or not at all; of the same bytes the newest manifest counts.

    Raises:
        BadInput: the store cannot be written, or the build's file is not what its manifest says.
        StageFailed: no space is left.
    """
    place, built = shelf() / sha256, _whole(folder, sha256)
    try:
        with no_space_named(place):
            twins = {deliverable.uncompiled_sha(one) for one in (place, folder)}
            if _whole(place, sha256) is None or len(twins) > 1:
                shelf().mkdir(parents=True, exist_ok=True)
                with scratch.folder(shelf()) as fresh:
                    for name in (ARTIFACT, COMPILED, MANIFEST):
                        if (folder / name).is_file():
                            shutil.copyfile(folder / name, fresh / name)
                    _put(fresh, place)
            elif (folder / MANIFEST).is_file():
                # The same bytes judged anew, on other data or by another budget: what was said of them before is over.
                write_whole(place / MANIFEST, (folder / MANIFEST).read_bytes())
    except OSError as error:
        raise BadInput(f"{place}: cannot be written: {error.strerror}") from None
    found = find(sha256)
    if found is None:
        raise BadInput(f"{folder}: its file is not the one that its manifest is of", hint="build it again")
    # Another night may be keeping the same bytes now, with a manifest of its own.
    return found if built is None else replace(found, manifest=built.manifest)


def _put(fresh: Path, place: Path) -> None:
    """Rename a folder into its place; where another process was first, or left a damaged one, that goes."""
    old = place.with_name(f"{scratch.PREFIX}{place.name}-{time.time_ns()}")
    if place.exists():
        place.rename(old)
    fresh.rename(place)
    (place / scratch.LOCK).unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)


def find(sha256: str) -> Measurable | None:
    """Return a kept artifact, or None where this machine does not have it."""
    found = _whole(shelf() / sha256, sha256)
    if found is not None:
        found.folder.touch()
    return found


def _whole(folder: Path, sha256: str) -> Measurable | None:
    """Return what lies in a folder if its file is the one that it is named after."""
    files = [folder / name for name in (COMPILED, ARTIFACT) if (folder / name).is_file()]
    if not files or all(digest.of_file(file) != sha256 for file in files):
        return None
    try:
        said = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        said = None
    return Measurable(sha256, folder, said if isinstance(said, dict) else None)


def idle(*, days: float = KEPT_DAYS) -> list[Path]:
    """Return the artifacts that nobody measured for so many days."""
    oldest = time.time() - days * 86400
    return [folder for folder in shelf().glob("[0-9a-f]*") if folder.stat().st_mtime < oldest]


def prune(needed: frozenset[str], *, days: float = KEPT_DAYS) -> int:
    """Remove what no case is held against and nobody measured for so many days; return how many went."""
    gone = [folder for folder in idle(days=days) if folder.name not in needed]
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    return len(gone)
