"""What a comparison knows before its first run: the noise of its device, from the nights that were measured there."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import ab_trial, history
from edgeship.benchmarking import BenchOrder
from edgeship.device import Device
from edgeship.errors import BadInput
from edgeship.nightly_record import Case
from edgeship.progress import Listener
from tests import sample_nights
from tests.sample_nights import Family


def test_a_device_with_nights_is_known(tmp_path: Path) -> None:
    """Two models that vary by half a percent there: no more is believed of a third; of another device nothing."""
    names = ("resnet8", "keywords")
    families = tuple(Family(Case(name, "rpi4", "int8", "kitchen"), 30.0, 0.005) for name in names)
    with history.open(str(tmp_path / "nights.sqlite")) as kept:
        sample_nights.write(kept, 5, families, judged=0)
        known = ab_trial.believed(kept, Device(name="kitchen", target="rpi4", transport="ssh"), "latency")
        other = ab_trial.believed(kept, Device(name="attic", target="rpi4", transport="ssh"), "latency")
    assert known is not None
    assert 0.003 < known.spread < 0.012
    assert other is None


def test_nothing_is_asked_of_a_device_for_a_wrong_question(tmp_path: Path) -> None:
    """Too few runs, or a metric that there is none of: refused before anything is opened."""
    bench = BenchOrder(artifact="b", devices=("local",))
    with pytest.raises(BadInput, match="2 at the least"):
        ab_trial.compare(ab_trial.TrialOrder(a="a", b="b", bench=bench, repeats=1), Listener())
    with pytest.raises(BadInput, match="did you mean 'size'"):
        ab_trial.compare(ab_trial.TrialOrder(a="a", b="b", bench=bench, gates=("sise",)), Listener())


def test_of_an_error_that_the_user_named_more_is_worse() -> None:
    """Of an accuracy less."""
    quality = {name: ab_trial.metric_of("quality", name, counted=False)[0] for name in ("mse", "top1", None)}
    assert [each.higher_is_better for each in quality.values()] == [False, True, True]
    assert not ab_trial.metric_of("latency", "top1", counted=False)[0].higher_is_better
