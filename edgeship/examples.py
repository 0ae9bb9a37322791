"""Examples a user brings (npz): read with distrust, split by group, turned into what the model eats."""

from __future__ import annotations

import hashlib
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeship import digest
from edgeship.artifact import TensorSpec
from edgeship.errors import BadInput, near_miss

CALIBRATION_SHARE = 0.2
CALIBRATION_LIMIT = 500
SEEDED_EXAMPLES = 256
FEW = 8
EVERY_INPUT = "*"
# What numpy and zipfile raise on damaged files; RuntimeError is an encrypted member, NotImplementedError an odd compression.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, EOFError, ValueError, TypeError,
    OSError, LookupError, AttributeError, SyntaxError, NotImplementedError, RuntimeError, MemoryError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Examples:
    """Stored values by input name, the first axis counting the examples; `origin` is the file, or "seeded"."""

    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[Any] | None
    groups: NDArray[Any] | None
    origin: str
    sha256: str
    synthetic: bool = False

    @property
    def count(self) -> int:
        """Return the number of examples."""
        return len(next(iter(self.inputs.values())))

    def chosen(self, indices: NDArray[np.intp]) -> Examples:
        """Return the examples at some indices."""
        return Examples(
            inputs={name: array[indices] for name, array in self.inputs.items()},
            labels=None if self.labels is None else self.labels[indices],
            groups=None if self.groups is None else self.groups[indices],
            origin=self.origin,
            sha256=digest.of_value([self.sha256, digest.of_bytes(np.asarray(indices, np.int64).tobytes())]),
            synthetic=self.synthetic,
        )


@dataclass(frozen=True)
class Preparation:
    """How one input's stored values become what the model eats: `x * scale + offset`, scalars or one per channel.

    `range` is where the result lies, `layout` where the stored channels stand; None: not declared.
    """

    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    range: tuple[float, float] | None = None
    layout: Literal["NHWC", "NCHW"] | None = None


@dataclass(frozen=True, eq=False)
class Parts:
    """The examples of one build: those that calibrate and train, and those that judge. `doubts` are warnings."""

    calibration: Examples | None
    evaluation: Examples | None
    notes: tuple[str, ...] = field(default=())
    doubts: tuple[str, ...] = field(default=())


def read(path: Path) -> Examples:
    """Return the examples in an npz file.

    Raises:
        BadInput: not an npz, damaged, pickled, empty, uneven, or not finite; the text starts with the file and names the array.
    """
    arrays = _arrays(path)
    for name, array in arrays.items():
        _check_array(path, name, array)
    labels, groups = arrays.pop("labels", None), arrays.pop("groups", None)
    if not arrays:
        raise BadInput(f"{path}: holds no inputs", hint="one array per model input, or one called 'inputs'")
    lengths = {name: len(array) for name, array in arrays.items()}
    lengths |= {name: len(array) for name, array in (("labels", labels), ("groups", groups)) if array is not None}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise BadInput(f"{path}: its arrays have different numbers of examples: {told}")
    if not next(iter(lengths.values())):
        raise BadInput(f"{path}: holds no examples (its arrays have length 0)")
    if groups is not None and (groups.ndim != 1 or not np.issubdtype(groups.dtype, np.integer)):
        raise BadInput(f"{path}: 'groups' must be one integer an example; got {groups.dtype} of shape {groups.shape}")
    return Examples(arrays, None if labels is None else _as_classes(labels), groups, str(path), digest.of_file(path))


def check_file(path: Path) -> None:
    """Refuse, from its first bytes, what is no npz file.

    Raises:
        BadInput: the file is missing, a folder, unreadable, or something else.
    """
    try:
        if not path.is_file():
            told = "a folder" if path.is_dir() else "no such file"
            raise BadInput(f"{path}: {told}", hint="an npz with one array per model input, or one called 'inputs'")
        with path.open("rb") as stream:
            head = stream.read(2)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    if head != b"PK":
        raise BadInput(f"{path}: not an npz file", hint="write one with numpy.savez(file, inputs=..., labels=...)")


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    check_file(path)
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except _DAMAGE as error:
        if "allow_pickle" in str(error):
            raise BadInput(
                f"{path}: holds pickled objects, which may run code and are never loaded",
                hint="save plain arrays: numpy.asarray(x, dtype=numpy.float32)",
            ) from None
        raise BadInput(f"{path}: damaged npz file: {error}") from None
    stray = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if stray:  # numpy hands out what is no array as bytes
        raise BadInput(f"{path}: not an npz file: '{stray[0]}' in it is no array", hint="write one with numpy.savez")
    return arrays


def _check_array(path: Path, name: str, array: NDArray[Any]) -> None:
    if array.ndim == 0:
        raise BadInput(f"{path}: '{name}' is a single value; the first axis must count the examples")
    if array.dtype.kind not in "fiub":
        raise BadInput(f"{path}: '{name}' has the dtype {array.dtype}; expected numbers")
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        if bad.any():
            raise BadInput(f"{path}: '{name}' holds NaN or infinity, first in example {int(np.argmax(bad))}")


def _as_classes(labels: NDArray[Any]) -> NDArray[Any]:
    """Return integer labels as one class an example: a column is flattened, one-hot rows become the place of their one,
    true and false become 1 and 0."""
    labels = labels.astype(np.int64) if labels.dtype.kind == "b" else labels
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        return labels
    if labels.shape[1] == 1:
        return labels[:, 0]
    one_hot = bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())
    return np.argmax(labels, axis=1) if one_hot else labels


def matched(
    examples: Examples, inputs: Sequence[TensorSpec], preparation: Mapping[str, Preparation] | None = None
) -> Examples:
    """Return the examples with their arrays named after the model's inputs, shapes checked.

    Examples stored as NCHW (as the preparation says) become NHWC, NHWC ones feed NCHW inputs, and NCHW ones NHWC inputs:
    they are transposed when only that fits. A missing axis of length 1 (an image
    without its channel) is added, and stored batch axes of 1 inside an example are dropped.

    Raises:
        BadInput: an input has no array, or an array fits no shape of the input; the text starts with the file.
    """
    given, where = dict(examples.inputs), examples.origin
    if len(inputs) == 1 and set(given) == {"inputs"}:
        given = {inputs[0].name: given["inputs"]}
    fitted: dict[str, NDArray[Any]] = {}
    for spec in inputs:
        if spec.name not in given:
            guess = near_miss(spec.name, given)
            found = ", ".join(given)
            question = f"; did you mean '{guess}'?" if guess else ""
            raise BadInput(f"{where}: no array '{spec.name}' for the model's input; found {found}{question}")
        array = given.pop(spec.name)
        if array.ndim == 4 and preparation_of(spec.name, preparation or {}).layout == "NCHW":
            array = array.transpose(0, 2, 3, 1)
        fitted[spec.name] = _fitted(array, spec, where)
    if given:
        raise BadInput(f"{where}: '{next(iter(given))}' is no input of the model", hint=f"inputs: {', '.join(fitted)}")
    return Examples(fitted, examples.labels, examples.groups, where, examples.sha256, examples.synthetic)


def _fitted(array: NDArray[Any], spec: TensorSpec, where: str) -> NDArray[Any]:
    wanted = spec.shape[1:]
    shape = array.shape[1:]
    if _fits(shape, wanted):
        return array
    if shape and shape[0] == 1 and _fits(shape[1:], wanted):
        return array[:, 0]
    if wanted and wanted[-1] == 1 and _fits((*shape, 1), wanted):
        return array[..., None]
    if len(shape) == 3 and _fits((shape[2], shape[0], shape[1]), wanted):
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    if len(shape) == 3 and _fits((shape[1], shape[2], shape[0]), wanted):
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    told = "x".join(map(str, wanted)) or "scalar"
    raise BadInput(
        f"{where}: '{spec.name}' has examples of shape {'x'.join(map(str, shape))}; the model's input is {told}"
    )


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(want in (-1, size) for size, want in zip(shape, wanted, strict=True))


def prepared(
    examples: Examples, inputs: Sequence[TensorSpec], preparation: Mapping[str, Preparation]
) -> dict[str, NDArray[Any]]:
    """Return what the model eats, by input name: `x * scale + offset` as float32; integer inputs that are no quantized
    ones (token numbers) keep their values."""
    ready: dict[str, NDArray[Any]] = {}
    for spec in inputs:
        array = examples.inputs[spec.name]
        how = Preparation() if examples.synthetic else preparation_of(spec.name, preparation)
        if spec.dtype != "float32" and spec.scale is None:
            ready[spec.name] = array.astype(spec.dtype)
            continue
        scale, offset = (_along_channels(v, array, spec) for v in (how.scale, how.offset))
        with np.errstate(over="ignore", invalid="ignore"):  # said below, with the file's name
            ready[spec.name] = array.astype(np.float32) * scale + offset
        if not np.isfinite(ready[spec.name]).all():
            raise BadInput(f"{examples.origin}: '{spec.name}' holds values that float32, which models eat, cannot hold")
    return ready


def preparation_of(name: str, preparation: Mapping[str, Preparation]) -> Preparation:
    """Return how an input is prepared: by its own entry, else by the one for every input."""
    return preparation.get(name) or preparation.get(EVERY_INPUT) or Preparation()


def _along_channels(values: tuple[float, ...], array: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    numbers = np.asarray(values, dtype=np.float32)
    if numbers.size == 1:
        return numbers.reshape(())
    if array.shape[-1] == numbers.size:
        return numbers
    if array.ndim > 2 and array.shape[1] == numbers.size:
        return numbers.reshape(-1, *([1] * (array.ndim - 2)))
    raise BadInput(
        f"--scale/--offset: {numbers.size} values for input '{spec.name}', which has {array.shape[-1]} channels"
    )


def seeded(
    inputs: Sequence[TensorSpec], preparation: Mapping[str, Preparation], *, seed: int, count: int = SEEDED_EXAMPLES
) -> Examples:
    """Return made-up inputs: normal, scaled to the input's declared or quantized range, uniform for plain integers."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for spec in inputs:
        shape = (count, *(max(size, 1) for size in spec.shape[1:]))
        limits = _limits(spec, preparation_of(spec.name, preparation))
        if spec.dtype == "bool":
            arrays[spec.name] = rng.integers(0, 2, shape).astype(np.bool_)
        elif spec.dtype != "float32" and spec.scale is None:
            low, high = limits or (0, 2)
            arrays[spec.name] = rng.integers(int(low), int(high), shape, endpoint=limits is not None).astype(spec.dtype)
        else:
            normal = rng.standard_normal(shape, dtype=np.float32)
            arrays[spec.name] = normal if limits is None else _into_range(normal, *limits)
    return Examples(arrays, None, None, "seeded", digest.of_value(["seeded", seed, count]), synthetic=True)


def _limits(spec: TensorSpec, how: Preparation) -> tuple[float, float] | None:
    if how.range is not None:
        return how.range
    if spec.scale is None or spec.zero_point is None:
        return None
    kind = np.iinfo(spec.dtype)
    return (kind.min - spec.zero_point) * spec.scale, (kind.max - spec.zero_point) * spec.scale


def _into_range(normal: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Put three standard deviations either side into the range, and clip what is beyond."""
    spread: NDArray[np.float32] = np.clip((low + high) / 2 + normal * ((high - low) / 6), low, high).astype(np.float32)
    return spread


def parts(data: Examples | None, calibration: Examples | None, *, seed: int, needed: bool = True) -> Parts:
    """Return the calibration and the evaluation examples, no example standing in both.

    Without a calibration file a fixed-seed fifth of the data by group, at most 500 examples, is set apart: the same
    for every recipe, so that their figures compare. Where that is impossible and none is `needed`, all of it judges.
    """
    if data is None:
        return Parts(calibration, None)
    if calibration is None:
        apart, others = _set_apart(data, seed)
        if not len(apart) or not len(others):
            if not needed:
                return Parts(None, data)
            raise BadInput(
                f"{data.origin}: too few examples or groups to set some apart for calibration",
                hint="give --calibration FILE.npz",
            )
        note = (
            f"{len(apart)} of {data.count} examples were set apart for calibration and are left out of the evaluation"
        )
        return _without_twins(data.chosen(apart), data.chosen(others), (note,), "the part set apart")
    return _without_twins(calibration, data, (), calibration.origin)


def _without_twins(calibration: Examples, data: Examples, notes: tuple[str, ...], where: str) -> Parts:
    """Leave out of the evaluation what stands among the calibration examples too, by its values."""
    dtypes = {name: np.result_type(array, calibration.inputs[name]) for name, array in data.inputs.items()}
    known = set(_hashes(calibration, dtypes))
    fresh = np.asarray([index for index, name in enumerate(_hashes(data, dtypes)) if name not in known], dtype=np.intp)
    if len(fresh) == data.count:
        return Parts(calibration, data, notes)
    if not len(fresh):
        raise BadInput(f"{data.origin}: every example stands in {where} too; none is left to judge by")
    both = (
        f"{data.count - len(fresh)} examples stand among those that calibrate too; they are left out of the evaluation"
    )
    return Parts(calibration, data.chosen(fresh), notes, (both,))


def _set_apart(data: Examples, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of a fifth of the examples, at most 500, and those of all others; whole groups at a time.

    Groups are drawn in an order that the seed decides, and those that are too large are passed over. Where all are,
    the smallest one is taken, cut at 500.
    """
    groups = np.arange(data.count) if data.groups is None else data.groups
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    wanted = min(max(1, round(data.count * CALIBRATION_SHARE)), CALIBRATION_LIMIT)
    chosen: list[int] = []
    left = wanted
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[group] <= left and len(chosen) < len(sizes) - 1:
            chosen.append(int(group))
            left -= int(sizes[group])
    if not chosen and len(sizes) > 1:
        chosen = [int(np.argmin(sizes))]
    apart = np.isin(member, chosen)
    return np.flatnonzero(apart)[:CALIBRATION_LIMIT], np.flatnonzero(~apart)


def _hashes(examples: Examples, dtypes: Mapping[str, np.dtype[Any]]) -> list[bytes]:
    """Return one digest an example, over the values of all its inputs, each turned into the dtype named for it."""
    tables = [
        np.ascontiguousarray(array, dtype=dtypes[name]).reshape(examples.count, -1)
        for name, array in sorted(examples.inputs.items())
    ]
    if len(tables) == 1:  # most models: no copy of anything
        return [hashlib.blake2b(row.data, digest_size=16).digest() for row in tables[0]]
    rows = zip(*tables, strict=True)
    return [hashlib.blake2b(b"".join(part.tobytes() for part in row), digest_size=16).digest() for row in rows]


def write(path: Path, inputs: Mapping[str, NDArray[Any]], examples: Examples | None = None) -> Path:
    """Write prepared inputs as npz (`input:<name>`, with labels and groups where there are some) and return the path."""
    extra = {} if examples is None else {"labels": examples.labels, "groups": examples.groups}
    arrays = {f"input:{name}": array for name, array in inputs.items()}
    arrays |= {name: array for name, array in extra.items() if array is not None}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # its stub takes the keyword `allow_pickle` for one of ours
    return path
