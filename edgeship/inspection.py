"""What a model is made of, and how it would do on a target."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from edgeship import compiled, complexity, flatbuffer, quantized, stages
from edgeship import model as models
from edgeship import target as targets
from edgeship.importers import recognize
from edgeship.progress import Listener
from edgeship.run import Inspection
from edgeship.stages import REFERENCE, Context
from edgeship.store import Store, home


def inspect(
    name: str, target: str | None, shapes: dict[str, tuple[int, ...]], trust: tuple[str, ...], listener: Listener
) -> Inspection:
    """Read a model and count; what is not TFLite yet is imported first, as a build would.

    Raises:
        BadInput: the model or the target cannot be used, or the segments beside it do not fit together.
    """
    goal = targets.read(target) if target else None
    model = models.find(name)
    form = recognize(model.source)
    if form == "tflite":
        graph = flatbuffer.read(model.source)
    else:
        with Store(home()) as store:
            context = Context(store, f"inspect|{model.source.resolve()}", listener, fresh=False, seed=0)
            done = stages.import_model(context, model, None, {}, shapes, trust)
            graph = flatbuffer.read(store.path(done.files[REFERENCE]))
    cost = complexity.complexity(graph)
    found = quantized.coverage(graph)
    roof = complexity.roofline(cost, goal, integer=complexity.computes_in_int8(graph)) if goal else None
    about = None
    if goal is not None:
        about = {"name": goal.name, "summary": goal.summary, "roofline": asdict(roof) if roof else None}
    files = [path for path in ([model.source] if model.source.is_file() else model.source.rglob("*")) if path.is_file()]
    return Inspection(
        model=name,
        format=form,
        parameters=cost.parameters,
        macs=cost.macs,
        size_bytes=sum(path.stat().st_size for path in files),
        sparsity=cost.sparsity,
        inputs=graph.interface.inputs,
        outputs=graph.interface.outputs,
        operators=dict(Counter(operator.name for operator in graph.main.operators).most_common()),
        weight_types=dict(found.schemes),
        quantized=quantized.already_quantized(graph),
        peak_activation_bytes=cost.peak_activation_bytes,
        bytes_moved=cost.bytes_moved,
        target=about,
        compiled=compiled.described(graph, model.source) if compiled.is_compiled(graph) else None,
        segments=compiled.siblings(model.source) if form == "tflite" else (),
    )
