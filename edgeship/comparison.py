"""Any two models compared: each brought to TFLite, then judged on the same examples."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship import flatbuffer, metrics, recipe, stages, subject, verify
from edgeship import model as models
from edgeship.model import Model
from edgeship.progress import Listener
from edgeship.run import Comparison
from edgeship.stages import REFERENCE, Context
from edgeship.store import Store, home
from edgeship.subject import Judging


@dataclass(frozen=True)
class Question(Judging):
    """What the user asked to compare: `a` is the one that is right."""

    a: str
    b: str


def compare(question: Question, listener: Listener) -> Comparison:
    """Judge model `b` by model `a`.

    Raises:
        BadInput: a model or the examples cannot be used, or the outputs of the two are not of one shape.
        StageFailed: a model does not run.
    """
    ours, theirs = models.find(question.a), models.find(question.b)
    given = subject.given(ours, question.data, (), question.scale, question.offset)
    if question.metric:
        metrics.find(question.metric)
    with Store(home()) as store:
        slot = f"{ours.source.resolve()}|{theirs.source.resolve()}"
        context = Context(store, slot, listener, fresh=False, seed=question.seed)
        shas = [_reference(context, model, question) for model in (ours, theirs)]
        reference = flatbuffer.read(store.path(shas[0]))
        plain = recipe.read("float32")  # nothing is calibrated or trained here
        material = subject.judging(given, reference, seed=question.seed)
        for advice in material.advice:
            listener.on_advice(advice)
        classes = verify.classes(tuple(spec.shape for spec in reference.interface.outputs))
        metric = subject.metric_for(question.metric, plain, ours, material.evaluation, classes)
        metrics.check(metric, material.evaluation.labels, classes, material.evaluation.origin)
        feed = stages.Feeder(reference, material.preparation)
        names = (question.a, question.b)
        done = stages.verify_artifact(context, shas[0], shas[1], metric, material.evaluation, feed, names)
    return Comparison(
        question.a,
        question.b,
        shas[0],
        shas[1],
        verify.verdict(done.facts, budget=question.max_drop, synthetic=material.evaluation.synthetic),
        done.facts.layers,
        tuple(advice.text for advice in material.advice if advice.level == "warning"),
    )


def _reference(context: Context, model: Model, question: Question) -> str:
    """Bring a model to TFLite, checked on seeded inputs: the two may call their inputs by different names."""
    done = stages.import_model(
        context, model, None, {}, dict(question.shapes), question.trust, keep_layout=question.keep_layout
    )
    return done.files[REFERENCE]
