"""Refusals: one exit code a class, whole on the other side of a process, and a near miss for what is misspelt."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from edgeship import errors
from edgeship.child import ChildCrashed
from edgeship.errors import EdgeshipError

CODES = {
    "EdgeshipError": 1, "BadInput": 2, "NothingToDo": 3, "MissingTool": 4, "StageFailed": 5, "DeviceFault": 6, "VerdictNegative": 7,
}  # fmt: skip


def test_each_class_owns_the_exit_code_of_the_contract() -> None:
    found = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, EdgeshipError)
    }
    assert found == CODES


@pytest.mark.parametrize("kind", [errors.BadInput, errors.StageFailed, ChildCrashed])
def test_an_error_is_whole_after_pickling(kind: type[EdgeshipError]) -> None:
    error = kind("a.npz: damaged", hint="copy it again", log=Path("logs/import.log"))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.message, again.hint, again.log, str(again)) == (error.message, error.hint, error.log, str(error))


@pytest.mark.parametrize(
    ("word", "known", "guess"),
    [
        ("rpi6", ["rpi4", "coral-usb"], "rpi4"),
        ("int-8", ["int8", "float16"], "int8"),
        ("dynamic", ["dynamic-int8", "prune50"], "dynamic-int8"),
        ("banana", ["int8", "float16"], None),
        ("", ["int8"], None),
        ("int8", [], None),
    ],
)
def test_near_miss(word: str, known: list[str], guess: str | None) -> None:
    assert errors.near_miss(word, known) == guess


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    error = errors.unknown("target", "rpi44", ["rpi5", "rpi4"], where="devices.toml")
    assert error.message == "devices.toml: no such target 'rpi44'; did you mean 'rpi4'?"
    assert error.hint == "known: rpi4, rpi5"
    assert errors.unknown("metric", "zzz", ["mse"]).message == "no such metric 'zzz'"
