"""Can a board's runtime run this artifact correctly? Asked before delivery, of the file's operations, versions and types.

What a file says of itself (`min_runtime_version`) is not asked: quantizers leave it as it was. Nor are the versions of its operations
enough: litert-quantizer writes 1 everywhere, and an older runtime then loads the file and computes garbage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

from edgeship import runtime_release
from edgeship.flatbuffer import Graph, Operator, Subgraph, Tensor
from edgeship.runtime_release import Refusal, Release, Wrong

FLEX = "Flex"
_CURE = "build with another recipe (int8 and int8-weights run most widely), or use a board with a newer runtime"


def refusal(
    graph: Graph, *, runtime: str, version: str | None, architecture: str | None = None, delegated: Collection[str] = ()
) -> Refusal | None:
    """Return why a runtime cannot run a file correctly, or None when nothing is known against it.

    Args:
        runtime: its name, as targets have it.
        version: as the board says it; with None, or one that nothing is known of, the answer is None (see `doubt`).
        architecture: of the board's userland; with None, what is wrong on some architectures only is let pass.
        delegated: custom operations that a delegate on the board takes, such as `edgetpu-custom-op`.
    """
    release = runtime_release.find(runtime, version)
    if release is None:
        return None
    complaints = list(dict.fromkeys(_complaints(graph, release, architecture, delegated)))
    if not complaints:
        return None
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    return Refusal(f"{runtime} {version} cannot run this artifact correctly: {complaints[0]}{more}", _CURE)


def doubt(*, runtime: str, version: str | None) -> str | None:
    """Return what to say of a result where nothing is known of the runtime, or None where `refusal` has looked."""
    if runtime_release.find(runtime, version) is not None:
        return None
    return f"nothing is known of what {runtime} {version or '(version unknown)'} runs correctly; the golden check alone vouches for it"


def _complaints(graph: Graph, release: Release, architecture: str | None, delegated: Collection[str]) -> Iterator[str]:
    highest = release.highest()
    known_wrong = [one for one in release.wrong if not one.architectures or architecture in one.architectures]
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.dtype not in release.types:
                yield f"it does not know the type {tensor.dtype} (tensor '{tensor.name}')"
        for operator in subgraph.operators:
            lacking = _lacking(operator, release, highest, delegated)
            if lacking:
                yield lacking
            else:
                yield from (f"{operator.name} {one.reason}" for one in known_wrong if _fits(one, operator, subgraph))


def _lacking(operator: Operator, release: Release, highest: dict[str, int], delegated: Collection[str]) -> str | None:
    name = operator.name
    if operator.custom:
        if name in delegated or name in release.custom:
            return None
        if name.startswith(FLEX):
            return f"{name} is a kernel of TensorFlow itself, which it does not contain"
        return f"it has no custom operation '{name}'"
    if name not in highest:
        return f"it has no operation {name}"
    if not release.lowest.get(name, 1) <= operator.version <= highest[name]:
        return f"it has {name} up to version {highest[name]}, and the file needs version {operator.version}"
    return None


def _fits(wrong: Wrong, operator: Operator, subgraph: Subgraph) -> bool:
    if not any(fnmatchcase(operator.name, pattern) for pattern in wrong.operators):
        return False
    inputs, outputs = (
        [subgraph.tensors[index] for index in indices if index >= 0] for indices in (operator.inputs, operator.outputs)
    )
    for wanted, tensors in ((wrong.inputs, inputs), (wrong.outputs, outputs)):
        if wanted and (not tensors or tensors[0].dtype not in wanted):
            return False
    if wrong.bias and any(index >= 0 for index in operator.inputs[2:3]):
        return False
    if not (wrong.weights or wrong.scales):
        return True
    return any(_is_such(tensor, wrong, inputs[0]) for tensor in inputs if tensor.constant)


def _is_such(weight: Tensor, wrong: Wrong, first: Tensor) -> bool:
    if wrong.weights and weight.dtype not in wrong.weights:
        return False
    if wrong.grouped and (not weight.shape or not first.shape or weight.shape[-1] == first.shape[-1]):
        return False
    if wrong.product and first.elements == weight.shape[-1] and weight.shape[0] >= 4:
        return False
    count = 0 if weight.quantization is None else weight.quantization.scales.size
    channels = max(weight.shape, default=1)
    return {"one": count == 1 and channels > 1, "several": count > 1, None: True}[wrong.scales]
