"""Which artifacts a night leaves on the shelf: those that a case is held against, and those that were measured lately."""

from __future__ import annotations

import os
import time
from pathlib import Path

from edgeship import history, nightly, nightly_artifacts, nightly_plan
from edgeship import suite as suites
from edgeship.nightly_record import Case, NightRecord, Run
from edgeship.progress import Listener
from tests.sample_bench import record

SUITE = 'name = "here"\nmodels = ["gone.tflite"]\nrecipes = ["float32"]\ndevices = ["local"]\n'
CASE = Case("m", "rpi4", "int8", "pi")
FIRST, ACCEPTED, OTHER, LATELY = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def test_what_a_case_is_held_against_stays(tmp_path: Path) -> None:
    """Accepted or not: the board may have been away for longer than an artifact is kept otherwise."""
    (tmp_path / "suite.toml").write_text(SUITE)
    long_ago = time.time() - (nightly_artifacts.KEPT_DAYS + 10) * 86400
    for sha in (FIRST, ACCEPTED, OTHER, LATELY):
        folder = nightly_artifacts.shelf() / sha
        folder.mkdir(parents=True)
        if sha != LATELY:
            os.utime(folder, (long_ago, long_ago))
    accepted = Case("other", "rpi4", "int8", "pi")
    with history.open(str(tmp_path / "history.sqlite")) as kept:
        for number, sha in enumerate((FIRST, OTHER)):
            at = f"2026-01-0{number + 1}T00:00:00+00:00"
            kept.begin(NightRecord(f"n{number}", "here", at, at, (CASE,)))
            kept.keep(Run(f"n{number}/new/0", f"n{number}", "here", CASE, "new", 0, at, sha, bench=record()))
        kept.accept(accepted, ACCEPTED)
        nightly.run(nightly_plan.plan(suites.read(tmp_path / "suite.toml")), kept, Listener())
    assert {folder.name for folder in nightly_artifacts.shelf().iterdir()} == {FIRST, ACCEPTED, LATELY}
