"""Hard clauses have no dual: while they are still violated, γ and then ρ of their group grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constraintlang import SourceFile
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime.checkpoint import load_groups, save_groups
from constraintlang_runtime.control import ControllerState
from constraintlang_runtime.controlling import control_hard
from constraintlang_runtime.groups import Group, attach_target
from constraintlang_runtime.rounds import Measurement
from constraintlang_runtime.settings import ConstraintSettings

DECLARED = "edition 1\nattribute bad: flag\nattribute long: flag\n"


def made(text: str) -> Group:
    clauses = compile_source(SourceFile(DECLARED + text)).ir.clauses
    number = len(clauses)
    group = Group("all", clauses, tuple(range(number)), [], 1.0, np.zeros(number), fitted_exponent=2.0)
    attach_target(group, np.eye(number))
    return group


@pytest.fixture
def group() -> Group:
    """Of a hard clause alone."""
    found = made("always not bad\n")
    assert found.target is not None
    assert found.target.hard == (0,)
    return found


def measured(group: Group, broken: int, count: int = 200) -> Measurement:
    statistics = np.zeros((count, len(group.clauses)))
    statistics[:broken] = 1.0
    return Measurement([], statistics)


def rounds(group: Group, broken: int, number: int, **changes: Any) -> list[tuple[float, float]]:
    """(γ, ρ) after each round in which so many of 200 responses violate."""
    config, found = ConstraintSettings(**changes), []
    for _ in range(number):
        control_hard([group], [measured(group, broken)], config)
        found.append((group.exponent, group.weight))
    return found


def test_the_exponent_grows_up_to_four_times_and_then_the_weight_doubles(group: Group) -> None:
    found = rounds(group, 20, 12)
    exponents, weights = zip(*found, strict=True)
    assert list(exponents) == sorted(exponents)
    assert exponents[0] > 2.0
    assert exponents[-1] == pytest.approx(8.0)
    first = exponents.index(exponents[-1])
    assert set(weights[: first + 1]) == {1.0}
    assert weights[-1] == 16.0  # at most four doublings


def test_nothing_grows_where_nothing_is_violated(group: Group) -> None:
    assert rounds(group, 0, 8) == [(2.0, 1.0)] * 8


def test_it_comes_down_again(group: Group) -> None:
    high = rounds(group, 20, 3)[-1]
    low = rounds(group, 0, 60)[-1]  # each round waits for enough samples to tell the rate from none
    assert low[0] < high[0]


@pytest.mark.parametrize("changes", [{"anchor": "current"}, {"potential_exponent": 2.0}])
def test_the_weight_carries_all_where_the_exponent_is_fixed(group: Group, changes: dict[str, Any]) -> None:
    group.fixed_exponent = "potential_exponent" in changes
    exponents, weights = zip(*rounds(group, 20, 20, **changes), strict=True)
    assert set(exponents) == {2.0}
    assert list(weights) == sorted(weights)
    assert weights[-1] == pytest.approx(16.0)
    assert min(zip(*rounds(group, 0, 200, **changes), strict=True))[-1] >= 1.0


def test_what_is_fixed_by_hand_stays(group: Group) -> None:
    group.fixed_exponent = True
    rounds(group, 20, 5, regularizer_weight=3.0, potential_exponent=2.0)
    assert group.hard_control is None


def test_soft_clauses_beside_it_keep_their_controllers() -> None:
    group = made("always not bad\nP(long) <= 0.2\n")
    group.controllers = [ControllerState(value=1.0, weight=5.0, set_point=0.1)]
    rounds(group, 20, 12)
    assert group.weight == 16.0  # the larger of the two
    group.controllers = [ControllerState(value=1.0, weight=40.0, set_point=0.1)]
    assert group.weight == 40.0
    soft = made("P(long) <= 0.2\n")
    control_hard([soft], [measured(soft, 20)], ConstraintSettings())
    assert soft.hard_control is None


def test_it_comes_back_from_a_checkpoint(group: Group, tmp_path: Path) -> None:
    rounds(group, 20, 4)
    before = group.hard_control
    group.head = None
    save_groups(tmp_path, [group], {})
    group.hard_control = None
    load_groups(tmp_path, [group], "cpu")  # type: ignore[arg-type]
    assert group.hard_control == before
