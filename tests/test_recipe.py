"""Recipes: names decode into options and back into parts, files set any option, and what means nothing is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import recipe
from edgeship.errors import BadInput
from edgeship.recipe import SCHEMES, Recipe

PERCENTS = st.integers(1, 99)
CLUSTERS = st.integers(2, 256)


@given(percent=st.none() | PERCENTS, clusters=st.none() | CLUSTERS, scheme=st.sampled_from(SCHEMES))
def test_any_pruning_or_clustering_before_any_scheme_decodes(
    percent: int | None, clusters: int | None, scheme: str
) -> None:
    techniques = [f"prune{percent}"] if percent else []
    techniques += [f"cluster{clusters}"] if clusters else []
    found = recipe.read("-".join([*techniques, scheme]))
    assert found.quantize.scheme == scheme
    assert (found.prune.sparsity if found.prune else None) == (percent / 100 if percent else None)
    assert (found.cluster.clusters if found.cluster else None) == clusters
    assert found.qat is None
    assert found.trains == bool(techniques)
    assert found.parts == (*(["prune"] if percent else []), *(["cluster"] if clusters else []), scheme)


@given(percent=st.none() | PERCENTS, clusters=st.none() | CLUSTERS, scheme=st.sampled_from(["int8", "int8-float-io"]))
def test_quantization_aware_training_keeps_what_its_name_says(
    percent: int | None, clusters: int | None, scheme: str
) -> None:
    prefix = ("p" if percent else "") + ("c" if clusters else "")
    numbers = "-".join(str(number) for number in (percent, clusters) if number)
    found = recipe.read(f"{prefix}qat{numbers}-{scheme}")
    assert found.qat is not None
    assert (found.prune.sparsity if found.prune else None) == (percent / 100 if percent else None)
    assert (found.cluster.clusters if found.cluster else None) == clusters
    assert found.parts[0] == f"{prefix}qat"
    assert found.parts[-1] == scheme
    assert not found.calibrates  # its ranges were found while training


@pytest.mark.parametrize("name", recipe.names())
def test_every_name_shown_decodes_to_itself(name: str) -> None:
    found = recipe.read(name)
    assert found.name == name
    assert found.summary


@pytest.mark.parametrize(
    ("name", "calibrates"), [("int8", True), ("int16x8", True), ("float32", False), ("dynamic-int8", False)]
)
def test_only_static_schemes_calibrate(name: str, calibrates: bool) -> None:
    assert recipe.read(name).calibrates is calibrates


def test_two_of_four_is_half() -> None:
    found = recipe.read("prune2x4")
    assert found.prune is not None
    assert (found.prune.sparsity, found.prune.zeros_of) == (0.5, (2, 4))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("int9", "did you mean 'int8'"),
        ("prune", "did you mean"),
        ("prune50-", "no such recipe"),
        ("prune50int8", "no such recipe"),
        ("int8-prune50", "no such recipe"),
        ("", "no such recipe"),
        ("prune4x2", "the first is the smaller"),
        ("prune0x4", "the first is the smaller"),
        ("prune50-prune75", "prune stands twice"),
        ("cluster16-cluster32-int8", "cluster stands twice"),
        ("prune0", "sparsity"),
        ("cluster1-int8", "clusters"),
        ("cluster999", "clusters"),
        ("qat-float16", "ends in int8"),
        ("pqat50-dynamic-int8", "ends in int8"),
        ("INT8", "no such recipe"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        recipe.read(name)


@given(st.text(alphabet="prunecltsqafox0123456789-", max_size=24))
def test_any_text_decodes_or_is_refused(name: str) -> None:
    try:
        assert recipe.read(name).name == name
    except BadInput as refusal:
        assert "recipe" in refusal.message


def from_file(folder: Path, text: str) -> Recipe:
    path = folder / "mine.toml"
    path.write_text(text)
    return recipe.read(str(path))


def test_a_file_starts_from_a_name_and_sets_any_option(tmp_path: Path) -> None:
    text = (
        'base = "prune50-int8"\nmax_drop = 0.01\n[prune]\nsparsity = 0.7\nskip = ["dense*"]\n'
        '[train]\nepochs = 2\n[quantize]\nskip = ["softmax"]\n'
    )
    found = from_file(tmp_path, text)
    assert found.name == "mine"
    assert found.max_drop == 0.01
    assert found.prune is not None
    assert (found.prune.sparsity, found.prune.skip) == (0.7, ("dense*",))
    assert found.prune.schedule == "polynomial"
    assert found.train.epochs == 2
    assert (found.quantize.scheme, found.quantize.skip) == ("int8", ("softmax",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('base = "int9"', "did you mean 'int8'"),
        ("base = 8", "base"),
        ('base = "int8"\n[quantise]\nskip = []', "no such key 'quantise'; did you mean 'quantize'?"),
        ('base = "int8"\n[quantize]\nsheme = "int8"', "no such key 'quantize.sheme'; did you mean 'scheme'?"),
        ('base = "prune50"\n[prune]\nsparsity = 1.0', "prune.sparsity"),
        ('base = "prune50"\n[prune]\nsparsity = "half"', "prune.sparsity"),
        ('base = "int8"\nmax_drop = inf', "max_drop"),
        ('base = "int8"\nmax_drop = -0.1', "max_drop"),
        ('base = "qat-int8"\n[quantize]\nscheme = "float16"', "ends in int8"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_its_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        from_file(tmp_path, text)
    assert said in refusal.value.message
    assert refusal.value.message.startswith(str(tmp_path / "mine.toml"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.toml: no such file"):
        recipe.read(str(tmp_path / "gone.toml"))


def test_options_that_would_be_ignored_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    for text in ('base = "qat-int8"\n[quantize]\nweight_bits = 4\n', 'base = "float16"\n[quantize]\nweight_bits = 4\n'):
        file.write_text(text)
        with pytest.raises(BadInput, match=r"mine\.toml"):
            recipe.read(str(file))


def test_weight_bits_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "int8"\n[quantize]\nweight_bits = 4\n')
    assert recipe.read(str(file)).quantize.weight_bits == 4
