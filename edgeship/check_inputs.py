"""The inputs a model is checked with: their full shapes, and real or seeded arrays of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.artifact import TensorSpec
from edgeship.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    from edgeship.examples import Examples, Preparation

    Array = np.ndarray[Any, np.dtype[Any]]

EXAMPLES = 8


@dataclass(frozen=True)
class InputSpec:
    """One input as a source declares it: None stands for a dimension that it leaves open.

    Integer inputs are indices more often than not: seeded ones stay below `limit`.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    limit: int = 2


@dataclass(frozen=True, eq=False)
class RealInputs:
    """A few of the user's examples as they are stored, and how they become what the model eats."""

    examples: Examples
    preparation: Mapping[str, Preparation]


def full_shapes(
    source: Path, inputs: Sequence[InputSpec], given: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Return every input's shape in full: the batch is 1 unless declared, the other open dimensions as given.

    Raises:
        BadInput: a dimension is open and not given, or a given shape does not fit; the hint is what to type.
    """
    stray = sorted(set(given) - {spec.name for spec in inputs})
    if stray:
        known = ", ".join(spec.name for spec in inputs)
        raise BadInput(f"--shape {stray[0]}: {source} has no such input; it has {known}", hint=_shape_options(inputs))
    shapes = {}
    for spec in inputs:
        shape = given.get(spec.name, (spec.shape[0] or 1, *spec.shape[1:]) if spec.shape else ())
        if None in shape:
            raise BadInput(
                f"{source}: input '{spec.name}' has open dimensions {_words(spec.shape)}; give them",
                hint=_shape_options(inputs),
            )
        full = tuple(int(size) for size in shape if size is not None)
        fits = len(full) == len(spec.shape) and all(
            size > 0 and declared in (None, size) for size, declared in zip(full, spec.shape, strict=True)
        )
        if spec.shape and spec.shape[0] is None and full[:1] != (1,):
            fits = False
        if not fits:
            raise BadInput(
                f"{source}: input '{spec.name}' is {_words((spec.shape[0] or 1, *spec.shape[1:]))}, "
                f"which --shape {','.join(map(str, full))} does not fit (the batch is 1)",
                hint=_shape_options(inputs),
            )
        shapes[spec.name] = full
    return shapes


def _words(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"


def _shape_options(inputs: Sequence[InputSpec]) -> str:
    """Return the options that would do, with a usual size for each open dimension: 224 for images, else 128."""
    options = []
    for spec in inputs:
        usual = 224 if len(spec.shape) == 4 else 128
        sizes = [(size or (usual if axis else 1)) for axis, size in enumerate(spec.shape)]
        options.append(f"--shape {spec.name}:{','.join(map(str, sizes))}")
    return " ".join(options)


def arrays(
    source: Path, inputs: Sequence[InputSpec], shapes: Mapping[str, tuple[int, ...]], real: RealInputs | None, seed: int
) -> dict[str, Array]:
    """Return a few examples for each input, batch first: real ones if there are, else seeded standard normal ones.

    Raises:
        BadInput: the examples do not fit the inputs.
    """
    if real is not None:
        return _real(source, inputs, shapes, real)
    import numpy as np

    random = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for spec in inputs:
        shape = shapes[spec.name]
        stacked = (EXAMPLES, *shape[1:]) if shape and shape[0] == 1 else shape
        kind = np.dtype(spec.dtype).kind
        if kind == "f":
            made[spec.name] = random.standard_normal(stacked).astype(spec.dtype)
        elif kind in "iub":
            made[spec.name] = random.integers(0, max(spec.limit, 1), stacked).astype(spec.dtype)
        else:
            raise BadInput(f"{source}: input '{spec.name}' is {spec.dtype}; numbers are what can be checked")
    return made


def _real(
    source: Path, inputs: Sequence[InputSpec], shapes: Mapping[str, tuple[int, ...]], real: RealInputs
) -> dict[str, Array]:
    import numpy as np

    from edgeship import examples

    specs = [TensorSpec(spec.name, shapes[spec.name], spec.dtype) for spec in inputs]
    found = examples.prepared(examples.matched(real.examples, specs, real.preparation), specs, real.preparation)
    for spec in inputs:
        batch = max(shapes[spec.name][0], 1) if shapes[spec.name] else 1
        count = min(EXAMPLES, real.examples.count) if batch == 1 else batch
        if real.examples.count < batch:
            raise BadInput(f"{real.examples.origin}: {source} takes {batch} examples at once; there are fewer")
        found[spec.name] = np.ascontiguousarray(found[spec.name][:count].astype(spec.dtype))
    return found


def write(path: Path, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """Write the check file: `input:<name>` and `output:<name>` arrays, batch first."""
    import numpy as np

    named = {f"input:{name}": array for name, array in inputs.items()}
    named |= {f"output:{name}": array for name, array in outputs.items()}
    with path.open("wb") as stream:
        np.savez(stream, **named)  # type: ignore[arg-type]  # numpy's stub takes the names for its own option
