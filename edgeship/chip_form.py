"""The part of the path that brings a model into the form of a target's chip: before its quantization, and after."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from edgeship import adaptation, child, flatbuffer, interpret, tools, wording
from edgeship.adaptation import Adapted
from edgeship.artifact import Advice
from edgeship.child import ChildCrashed
from edgeship.errors import StageFailed
from edgeship.examples import Examples
from edgeship.out_folder import ARTIFACT
from edgeship.plan import Plan
from edgeship.progress import StageTold
from edgeship.stages import CHECKED, Context, Feeder
from edgeship.store import Done, Step


def adapt(
    context: Context, plan: Plan, source: str, given: Examples, feed: Feeder, *, whole_numbers: bool
) -> Done[Adapted] | None:
    """Rewrite what the chip's compiler does not map, each rewrite held against the model; None where there is no chip.

    Args:
        context: of the build.
        plan: whose target is meant.
        source: the file in the store, by its sha256.
        given: examples, of which the first few are what the outputs are compared on.
        feed: how they become what the model eats.
        whole_numbers: the file is quantized already; its stage goes by another name.

    Raises:
        StageFailed: the file itself does not run.
    """
    if plan.target.accelerator is None or len(flatbuffer.read(context.store.path(source)).subgraphs) > 1:
        return None
    few = given.chosen(np.arange(min(CHECKED, given.count)))
    name = str(plan.model.source)
    step = Step(
        "adapt-int8" if whole_numbers else "adapt",
        context.slot,
        inputs={"the model": source, "the examples": few.sha256},
        options={"form": plan.target.accelerator.kind, "preparation": feed.options()},
        tools=tools.versions(("ai-edge-litert", "numpy")),
        code="edgeship.chip_form",
    )

    def work(folder: Path) -> Adapted:
        with context.store.scratch() as aside:
            order = partial(
                adaptation.adapt, source=context.store.path(source), name=name, feed=feed.write(few, aside),
                out=folder / ARTIFACT,
            )  # fmt: skip
            try:
                return child.run(
                    order, log=context.store.log("adapt"), on_progress=context.listener.on_progress,
                    memory_gib=interpret.MEMORY_GIB,
                )  # fmt: skip
            except ChildCrashed as crash:
                raise StageFailed(f"{name}: {crash.message}", log=crash.log) from None

    done = context.store.run(step, Adapted, work, again=context.again)
    facts = done.facts
    kept = sum(one.kept for one in facts.rewrites)
    told = StageTold(done.stage, done.outcome, done.why, done.seconds, wording.adapted(kept, facts.examples))
    context.listener.on_stage(told)
    return done


def advice(done: Done[Adapted] | None) -> tuple[Advice, ...]:
    """Return what was rewritten, for the report."""
    return () if done is None else tuple(Advice("note", text) for text in done.facts.notes)
