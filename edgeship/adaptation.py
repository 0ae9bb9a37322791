"""Bringing a model into the form that a chip's compiler maps: rewrite after rewrite, each held against what came in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import closeness, flatbuffer, interpret, quantized
from edgeship.closeness import Difference
from edgeship.edgetpu_form import FORMS
from edgeship.errors import BadInput, EdgeshipError, StageFailed
from edgeship.graph_editor import GraphEditor
from edgeship.progress import OnProgress, Progress

ROUNDS = 10
APPROXIMATION = 1e-3  # of the output's range: a quarter of the step of 8 bits
EIGHT_BITS = 0.05  # of the output's range, for what is approximated in 8 bits; one step of the output is always allowed
Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Rewrite:
    """One form that was brought in: in how many places, and how far the model's outputs are now from the original's.

    `kept` is False where the outputs moved too far, and the model was left as it was before.
    """

    name: str
    summary: str
    places: int
    relative_error: float
    kept: bool


@dataclass(frozen=True)
class Adapted:
    """What was rewritten, in order, over how many examples it was held against the original."""

    rewrites: tuple[Rewrite, ...]
    examples: int

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user should know."""
        told = []
        for one in self.rewrites:
            places = f"{one.places} place{'s' * (one.places != 1)}"
            if one.kept:
                told.append(
                    f"rewritten in {places}: {one.summary} (outputs within {one.relative_error:.1g} of their range)"
                )
            else:
                told.append(
                    f"not rewritten, the outputs would move by {one.relative_error:.1g} of their range: {one.summary}"
                )
        return tuple(told)


def adapt(on_progress: OnProgress, source: Path, name: str, feed: Path, out: Path) -> Adapted:
    """Write the model with every form that fits and changes nothing. Runs in a child process.

    Args:
        source: a TFLite file, float or 8-bit.
        name: what the user knows it by, for messages.
        feed: npz of what the model eats (`input:<name>`): what its outputs are compared on.
        out: where the result is written.

    Raises:
        StageFailed: the model itself does not run.
    """
    given = interpret.load_feed(feed)
    count = len(next(iter(given.values())))
    expected = _run(source, given, name)
    out.write_bytes(source.read_bytes())
    done: list[Rewrite] = []
    refused: set[str] = set()
    for _ in range(ROUNDS):
        before = len(done)
        for place, (form, module) in enumerate(FORMS.items()):
            on_progress(Progress("adapt", place, len(FORMS), form))
            if form in refused:
                continue
            try:
                editor = GraphEditor(out)
            except BadInput:  # several graphs: nothing here reaches into loops and branches
                return Adapted((), count)
            places = module.rewrite(editor)
            if not places:
                continue
            trial = out.with_name("trial.tflite")
            trial.write_bytes(editor.content())
            found = _difference(expected, trial, given, source, exact=module.EXACT)
            done.append(Rewrite(form, module.SUMMARY, places, found.relative_error, found.within))
            if found.within:
                trial.replace(out)
            else:
                trial.unlink()
                refused.add(form)
        if len(done) == before:
            break
    return Adapted(_joined(done), count)


def _difference(expected: Outputs, trial: Path, given: Outputs, source: Path, *, exact: bool) -> Difference:
    """Return how far the rewritten model's outputs are from the original's; beyond any tolerance where it does not run."""
    steps = {spec.name: spec.scale for spec in flatbuffer.read(trial).interface.outputs if spec.scale is not None}
    eight_bits = quantized.already_quantized(flatbuffer.read(source)) is not None
    tolerance = closeness.TOLERANCE if exact else EIGHT_BITS if eight_bits else APPROXIMATION
    try:
        got = _run(trial, given, source.name)
    except EdgeshipError:
        return Difference(float("inf"), float("inf"), tolerance, within=False, comparable=False)
    return closeness.difference(expected, got, tolerance=tolerance, steps=steps)


def _run(model: Path, given: Outputs, name: str) -> dict[str, NDArray[Any]]:
    """Return the outputs for all examples, in batches of the model's own."""
    runner = interpret.Runner(model, name=name)
    count = len(next(iter(given.values())))
    batches = [
        runner.run({port: array[start : start + runner.batch] for port, array in given.items()})
        for start in range(0, count, runner.batch)
    ]
    if not batches:
        raise StageFailed(f"{name}: there is nothing to compare its outputs on")
    return {port: np.concatenate([batch[port] for batch in batches]) for port in batches[0]}


def _joined(done: list[Rewrite]) -> tuple[Rewrite, ...]:
    """Put the rounds of one form together: all places, the last error."""
    joined: dict[tuple[str, bool], Rewrite] = {}
    for one in done:
        key = (one.name, one.kept)
        places = joined[key].places + one.places if key in joined else one.places
        joined[key] = Rewrite(one.name, one.summary, places, one.relative_error, one.kept)
    return tuple(joined.values())
