"""The door between the command line and the rest: global flags, numbers and shapes as typed, how refusals leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import errors, front
from edgeship.errors import BadInput, DeviceFault, EdgeshipError


@given(st.lists(st.sampled_from(["build", "--json", "-q", "--target", "rpi4", "--version", "-v", "--", "--out"])))
def test_global_flags_come_first_and_all_else_keeps_its_order(args: list[str]) -> None:
    found = front.globals_first(args)
    end = args.index("--") if "--" in args else len(args)
    known = {"--json", "-q", "-v", "--version"}
    flags = [arg for arg in args[:end] if arg in known]
    assert found[: len(flags)] == flags
    assert found[len(flags) :] == [arg for arg in args[:end] if arg not in known] + args[end:]


@pytest.mark.parametrize(
    ("text", "found"), [(None, None), ("0.5", (0.5,)), ("1,2,3", (1.0, 2.0, 3.0)), (" -1e-3 , 2", (-0.001, 2.0))]
)
def test_numbers(text: str | None, found: tuple[float, ...] | None) -> None:
    assert front.numbers("--scale", text) == found


@pytest.mark.parametrize("text", ["1e39", "", "a", "1,", "1,,2", "nan", "inf,1", "1;2"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match=f"--scale {text}: expected a number"):
        front.numbers("--scale", text)


def test_a_budget_is_finite_and_not_below_zero() -> None:
    assert front.not_negative("--max-drop", None) is None
    assert front.not_negative("--max-drop", 0.0) == 0.0
    assert front.not_negative("--max-drop", 3.5) == 3.5
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="--max-drop"):
            front.not_negative("--max-drop", wrong)


def test_shapes() -> None:
    assert front.shapes([]) == {}
    assert front.shapes(["input:1,224,224,3", "serving_default_x:0:1,5"]) == {
        "input": (1, 224, 224, 3),
        "serving_default_x:0": (1, 5),
    }
    for wrong in ("1,224", "input:", ":1,2", "input:1,-1", "input:1,0", "input:1,x", "input:1.5", "input:1,²"):
        with pytest.raises(BadInput, match="--shape"):
            front.shapes([wrong])


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def run() -> NoReturn:
        raise error

    return run


REFUSALS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, EdgeshipError) and kind is not EdgeshipError
]


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_is_one_json_object_with_the_exit_code_of_its_class(
    kind: type[EdgeshipError], capsys: pytest.CaptureFixture[str]
) -> None:
    more: dict[str, Any] = (
        {"fault": "busy"} if kind is DeviceFault else {}
    )  # what went wrong with a device, in one word
    error = kind("caf\udce9 [x].npz: damaged", hint="copy it", log=Path("a.log"), **more)
    assert front.guarded(raising(error), json=True, traceback=False) == kind.exit_code
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "error": {"exit": kind.exit_code, "message": error.message, "hint": "copy it", "log": "a.log", **more}
    }
    said.out.encode("ascii")  # whatever the terminal's encoding
    assert said.err == ""


def test_a_refusal_for_people_is_two_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    long = "a" * 300
    error = BadInput(f"[red]{long}.npz: damaged", hint="copy it")
    assert front.guarded(raising(error), json=False, traceback=False) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: [red]{long}.npz: damaged\n  copy it\n"


def test_a_traceback_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert front.guarded(raising(BadInput("a.npz: damaged")), json=False, traceback=True) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_told_as_ours_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert front.guarded(raising(ZeroDivisionError("by zero")), json=True, traceback=False) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["message"] == "ZeroDivisionError: by zero"
    assert "Traceback" in said.err


def test_stopping_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert front.guarded(raising(KeyboardInterrupt()), json=False, traceback=False) == front.INTERRUPTED
    assert "stopped" in capsys.readouterr().err


def test_what_ran_well_ends_with_its_code() -> None:
    assert front.guarded(lambda: None, json=False, traceback=False) == 0
    assert front.guarded(lambda: 7, json=False, traceback=False) == 7
