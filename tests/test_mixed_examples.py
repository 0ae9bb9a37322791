"""Several files as one set: groups stay apart, labels only where all have them, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.errors import BadInput
from edgeship.examples import Examples
from edgeship.mixed_examples import joined


def part(name: str, count: int, **how: Any) -> Examples:
    values = how.get("values", np.full((count, 2), ord(name[0]), np.float32))
    return Examples({how.get("array", "x"): values}, how.get("labels"), how.get("groups"), f"{name}.npz", name)


def test_nothing_and_one_are_themselves() -> None:
    only = part("a", 3)
    assert joined([]) is None and joined([only]) is only


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans(), st.integers(1, 4)), min_size=2, max_size=4))
def test_all_examples_are_there_and_groups_stay_apart(told: list[tuple[int, bool, bool, int]]) -> None:
    parts = []
    for number, (count, labelled, grouped, kinds) in enumerate(told):
        groups = np.arange(count) % kinds if grouped else None
        labels = np.full(count, number) if labelled else None
        parts.append(part("abcd"[number], count, labels=labels, groups=groups))
    whole = joined(parts)
    assert whole is not None and whole.count == sum(count for count, *_ in told)
    assert (whole.labels is not None) == all(labelled for _, labelled, *_ in told)
    owner = np.repeat(np.arange(len(told)), [count for count, *_ in told])
    assert whole.inputs["x"][:, 0].tolist() == [float(ord("abcd"[number])) for number in owner]
    if whole.groups is None:
        assert not any(grouped for _, _, grouped, _ in told)
        return
    for group in np.unique(whole.groups):
        assert len(set(owner[whole.groups == group])) == 1
    for number, (count, _, grouped, kinds) in enumerate(told):
        assert len(np.unique(whole.groups[owner == number])) == (min(kinds, count) if grouped else count)


def test_the_order_is_part_of_its_address() -> None:
    one, other = joined([part("a", 2), part("b", 2)]), joined([part("b", 2), part("a", 2)])
    assert one is not None and other is not None and one.sha256 != other.sha256


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (part("b", 2, array="y"), "b.npz: holds the arrays y; a.npz holds x"),
        (part("b", 2, values=np.zeros((2, 3), np.float32)), "b.npz: 'x' has float32 examples of shape (3,)"),
        (part("b", 2, values=np.zeros((2, 2), np.uint8)), "b.npz: 'x' has uint8 examples"),
        (part("b", 2, labels=np.zeros((2, 3), np.float32)), "b.npz: 'labels' are float32 of shape (3,)"),
    ],
    ids=("array", "shape", "dtype", "labels"),
)
def test_what_does_not_fit_is_refused(other: Examples, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        joined([part("a", 2, labels=np.zeros(2, np.int64)), other])
    assert said in refusal.value.message
