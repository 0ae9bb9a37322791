"""Bringing a model into the form that a chip's compiler maps: rewrite after rewrite, each held against what came in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import closeness, flatbuffer, interpret, quantized
from edgeship.closeness import Difference
from edgeship.edgetpu_form import FIRST, FORMS
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
    out.write_bytes(source.read_bytes())
    held: _Held | None = None
    done: list[Rewrite] = []
    refused: set[str] = set()
    for _ in range(ROUNDS):
        before = len(done)
        for place, form in enumerate(sorted(FORMS, key=lambda form: form != FIRST)):
            on_progress(Progress("adapt", place, len(FORMS), form))
            if form in refused:
                continue
            try:
                editor = GraphEditor(out)
            except BadInput:  # several graphs: nothing here reaches into loops and branches
                return Adapted((), count)
            places = FORMS[form].rewrite(editor)
            if not places:
                continue
            trial = out.with_name("trial.tflite")
            trial.write_bytes(editor.content())
            held = held or _held(source, given, name)
            found, held = _compared(held, trial, name, exact=FORMS[form].EXACT)
            done.append(Rewrite(form, FORMS[form].SUMMARY, places, found.relative_error, found.within))
            if found.within:
                trial.replace(out)
            else:
                trial.unlink()
                refused.add(form)
        if len(done) == before:
            break
    return Adapted(_joined(done), count)


@dataclass(frozen=True, eq=False)
class _Held:
    """What the outputs are held against: the original's, and those of the model as it is by now.

    An exact form is held against the latter, so that no approximation before it counts; `approximation` is the share
    of the output's range that all of them together may cost.
    """

    original: Outputs
    now: Outputs
    given: Outputs
    approximation: float


def _held(source: Path, given: Outputs, name: str) -> _Held:
    original = _run(source, given, name)
    eight_bits = quantized.already_quantized(flatbuffer.read(source)) is not None
    return _Held(original, original, given, EIGHT_BITS if eight_bits else APPROXIMATION)


def _compared(held: _Held, trial: Path, name: str, *, exact: bool) -> tuple[Difference, _Held]:
    """Return how far the rewritten model's outputs are from the original's, and what the next one is held against."""
    steps = {spec.name: spec.scale for spec in flatbuffer.read(trial).interface.outputs if spec.scale is not None}
    limit = held.approximation
    try:
        got = _run(trial, held.given, name)
    except EdgeshipError:
        return Difference(sys.float_info.max, sys.float_info.max, limit, within=False, comparable=False), held
    total = closeness.difference(held.original, got, tolerance=limit, steps=steps)
    step = closeness.difference(held.now, got, steps=steps)
    if not (step if exact else total).within:
        return replace(step if exact else total, within=False), held
    return replace(total, within=True), replace(held, now=got)


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
