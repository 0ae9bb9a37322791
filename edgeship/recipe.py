"""What is done to a model: techniques and a quantization scheme, as data with a name that decodes.

`prune50-int8` is 50 % pruning, then full-integer quantization; `pcqat50-16-int8` is pruning and clustering kept
through quantization-aware training. A recipe file (TOML) starts from a name (`base`) and sets any option.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from edgeship import resources, toml_file
from edgeship.errors import BadInput, unknown
from edgeship.toml_file import Record

Scheme = Literal[
    "float32", "float16", "int8-weights", "dynamic-int8", "int8", "int8-float-io", "int16x8", "int4-weights"
]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
CALIBRATED: frozenset[Scheme] = frozenset({"int8", "int8-float-io", "int16x8"})
EXAMPLES = (
    "prune50", "prune75", "prune2x4", "cluster16", "cluster32", "prune50-int8", "cluster16-int8",
    "qat-int8", "pqat50-int8", "cqat16-int8", "pcqat50-16-int8",
)  # fmt: skip

_TECHNIQUE = re.compile(
    r"(?:prune(?P<percent>\d{1,2})|prune(?P<n>\d)x(?P<m>\d)|cluster(?P<clusters>\d{1,3}))(?:-(?=.)|$)"
)
_QAT = re.compile(r"(?:qat|pqat(?P<p>\d{1,2})|cqat(?P<c>\d{1,3})|pcqat(?P<pp>\d{1,2})-(?P<cc>\d{1,3}))-")


class Pruning(Record):
    """Magnitude pruning (Zhu and Gupta 2017, arXiv:1710.01878): the share of zeros grows by a schedule while training."""

    sparsity: float = Field(0.5, gt=0, lt=1, description="share of each pruned kernel that ends as zero")
    zeros_of: tuple[int, int] | None = Field(None, description="[2, 4]: two zeros in every four along the input depth")
    schedule: Literal["polynomial", "constant"] = "polynomial"
    initial_sparsity: float = Field(0.0, ge=0, lt=1)
    end_share: float = Field(
        0.5, gt=0, le=1, description="share of the training steps at which the sparsity is reached"
    )
    frequency_steps: int = Field(10, ge=1)
    layers: tuple[str, ...] = Field(("*",), description="patterns of layer names to prune")
    skip: tuple[str, ...] = Field((), description="patterns of layer names to leave")


class Clustering(Record):
    """Weight clustering (Han et al. 2016, arXiv:1510.00149): each kernel keeps a few distinct values."""

    clusters: int = Field(16, ge=2, le=256)
    initialization: Literal["linear", "density", "kmeans++", "random"] = "kmeans++"
    layers: tuple[str, ...] = ("*",)
    skip: tuple[str, ...] = ()


class Qat(Record):
    """Quantization-aware training (Jacob et al. 2018, arXiv:1712.05877) with ranges calibrated before the first step."""

    calibration_examples: int = Field(256, ge=1)
    layers: tuple[str, ...] = ("*",)
    skip: tuple[str, ...] = ()


class Training(Record):
    """How fine-tuning runs: imitate the reference's outputs, add the task loss where labels are."""

    epochs: int = Field(6, ge=1)
    max_steps: int | None = Field(None, ge=1, description="upper limit on all steps of one technique")
    min_epoch_steps: int = Field(60, ge=1, description="an epoch of few examples takes them several times")
    batch_size: int = Field(32, ge=1)
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="size of a step, as a share of each variable's own size (RMS); absent: probed on the loss",
    )
    patience_epochs: int = Field(3, ge=1, description="epochs without a better one before stopping")
    label_weight: float = Field(0.5, ge=0, le=1, description="weight of the task loss when labels are there")
    temperature: float = Field(2.0, gt=0, description="of the distillation on class probabilities")
    augment: tuple[Literal["flip", "crop", "noise"], ...] = Field(
        (), description="changes to each example that keep its shape; the original model answers on what they give"
    )
    crop_pixels: int = Field(4, ge=1, description="how far an image is moved at most; its edge is mirrored")
    noise_share: float = Field(0.05, gt=0, description="deviation of the noise, as a share of the input's own")


class Quantization(Record):
    """Post-training quantization of the flatbuffer."""

    scheme: Scheme = "float32"
    weight_bits: Literal[4, 8] | None = Field(None, description="absent: what the scheme's name says")
    granularity: Literal["channel", "tensor"] = "channel"
    layers: tuple[str, ...] = Field(("*",), description="patterns of tensor names whose operation is quantized")
    skip: tuple[str, ...] = Field((), description="patterns of tensor names whose operation stays float")

    @model_validator(mode="after")
    def _bits_fit(self) -> Quantization:
        if self.weight_bits and not self.scheme.endswith(("int8", "int8-float-io", "int8-weights", "int4-weights")):
            raise ValueError(f"weight_bits goes with an int8 or a weights scheme, not {self.scheme}")
        return self


class Recipe(Record):
    """A recipe, whole: what to do, in the order prune, cluster, qat, quantize."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    summary: str = ""
    prune: Pruning | None = None
    cluster: Clustering | None = None
    qat: Qat | None = None
    train: Training = Training()
    quantize: Quantization = Quantization()
    metric: str | None = None
    max_drop: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.qat and self.quantize.scheme not in ("int8", "int8-float-io"):
            raise ValueError(f"quantization-aware training ends in int8 or int8-float-io, not {self.quantize.scheme}")
        if self.qat and self.quantize != Quantization(scheme=self.quantize.scheme):
            raise ValueError("quantization-aware training quantizes by [qat]; of [quantize] only the scheme counts")
        return self

    @property
    def trains(self) -> bool:
        """Say whether a training pass runs (TensorFlow is needed)."""
        return bool(self.prune or self.cluster or self.qat)

    @property
    def calibrates(self) -> bool:
        """Say whether the post-training quantization needs examples."""
        return self.quantize.scheme in CALIBRATED and not self.qat

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names that a target may refuse: techniques, then the scheme."""
        prefix = ("p" if self.prune else "") + ("c" if self.cluster else "")
        techniques = [f"{prefix}qat"] if self.qat else []
        techniques += ["prune"] if self.prune else []
        techniques += ["cluster"] if self.cluster else []
        return (*techniques, self.quantize.scheme)


def names() -> list[str]:
    """Return the names shown to users; many more decode (`prune60-float16`)."""
    return [*SCHEMES, *EXAMPLES]


def read(name_or_file: str) -> Recipe:
    """Return a recipe by its name, or from a TOML file.

    Raises:
        BadInput: the name does not decode (near miss offered), or the file does not fit.
    """
    if name_or_file.endswith(".toml"):
        return _from_file(Path(name_or_file))
    return toml_file.parse(_decoded(name_or_file), Recipe, where=f"recipe '{name_or_file}'")


def _from_file(path: Path) -> Recipe:
    table = toml_file.read_table(path)
    base = table.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise BadInput(f"{path}: 'base' is the name of a recipe, such as \"prune50-int8\"; got {base!r}")
    try:
        start = _decoded(base) if base else {}
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", hint=error.hint) from None
    return toml_file.parse(
        _merged({**start, "name": re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("-._") or "recipe"}, table),
        Recipe,
        where=str(path),
    )


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _decoded(name: str) -> dict[str, Any]:
    """Return the options that a name stands for, taken from the TOML of each of its parts."""
    table: dict[str, Any] = {"name": name}
    rest = name
    while found := _TECHNIQUE.match(rest):
        _add_technique(table, name, found)
        rest = rest[found.end() :]
    if found := _QAT.match(rest):
        _add_part(table, "qat", {})
        if percent := found["p"] or found["pp"]:
            _add_part(table, "prune", {"sparsity": int(percent) / 100})
        if clusters := found["c"] or found["cc"]:
            _add_part(table, "cluster", {"clusters": int(clusters)})
        rest = rest[found.end() :]
    if not rest and rest != name:
        rest = "float32"
    if rest not in SCHEMES:
        raise unknown("recipe", name, names())
    _add_part(table, "quantize", {"scheme": rest}, file=rest)
    return table


def _add_technique(table: dict[str, Any], name: str, found: re.Match[str]) -> None:
    technique = "cluster" if found["clusters"] else "prune"
    if technique in table:
        raise BadInput(f"recipe '{name}': {technique} stands twice")
    if found["clusters"]:
        _add_part(table, "cluster", {"clusters": int(found["clusters"])})
    elif found["percent"]:
        _add_part(table, "prune", {"sparsity": int(found["percent"]) / 100})
    else:
        zeros, of = int(found["n"]), int(found["m"])
        if not 0 < zeros < of:
            raise BadInput(
                f"recipe '{name}': prune{zeros}x{of} means {zeros} zeros in every {of}; the first is the smaller"
            )
        _add_part(table, "prune", {"sparsity": zeros / of, "zeros_of": [zeros, of]})


def _add_part(table: dict[str, Any], key: str, options: dict[str, Any], *, file: str | None = None) -> None:
    defaults = toml_file.read_table(resources.data("recipes") / f"{file or key}.toml")
    summary = defaults.pop("summary")
    table["summary"] = f"{table['summary']}, then {summary}" if "summary" in table else summary
    train = defaults.pop("train", {})
    table["train"] = _merged(table.get("train", {}), train)
    table[key] = {**defaults, **options}
