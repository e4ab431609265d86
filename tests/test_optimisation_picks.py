"""A member of a front is picked by what its reader wants, and a lucky spike is told from a plateau."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toy_space import ONE, TWO, Point, Toy, counting

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.optimisation.front import non_dominated
from forexgpt_core.optimisation.goals import Constraint, Goals, Objective, strategy_goals
from forexgpt_core.optimisation.picks import ideal, knee, lowest_drawdown_above, pick_named, weighted
from forexgpt_core.optimisation.search_space import SearchSpace
from forexgpt_core.optimisation.stability import compare_neighbours, neighbours, stability
from forexgpt_core.optimisation.trials import Memory
from forexgpt_core.strategy.config import StrategyConfig

GOALS = strategy_goals(min_trades=10)


def member(earned: float, drawdown: float, sharpe: float | None, won: float | None = 50.0) -> Stats:
    return {"return_pct": earned, "max_drawdown_pct": drawdown, "sharpe": sharpe, "win_rate_pct": won, "trades": 20}


FRONT = [member(30, 20, 1.0), member(25, 8, 1.2), member(4, 2, 1.9), member(0, 0, None, None)]


def test_picks_by_name() -> None:
    assert pick_named("best_sharpe", FRONT, GOALS) == 2
    assert pick_named("lowest_drawdown", FRONT, GOALS) == 3
    assert pick_named("knee", FRONT, GOALS) == 1
    assert pick_named("ideal", FRONT, GOALS) == 1
    assert pick_named("lowest_drawdown", [member(1, 5, 1), member(9, 5, 1)], GOALS) == 0, "the first of those that tie"
    with pytest.raises(UnknownName, match="unknown pick 'kne'; did you mean knee"):
        pick_named("kne", FRONT, GOALS)


@pytest.mark.parametrize("name", ["knee", "ideal", "best_sharpe", "lowest_drawdown"])
def test_an_empty_front_has_no_pick_and_a_single_member_is_it(name: str) -> None:
    with pytest.raises(BadInput, match="the front is empty"):
        pick_named(name, [], GOALS)
    assert pick_named(name, FRONT[:1], GOALS) == 0


def test_the_lowest_drawdown_above_a_return() -> None:
    assert lowest_drawdown_above(4, FRONT) == 2
    assert lowest_drawdown_above(4.1, FRONT) == 1
    assert lowest_drawdown_above(26, FRONT) == 0
    with pytest.raises(BadInput, match=r"no member returned 31 % in sample: the most is 30.00 %"):
        lowest_drawdown_above(31, FRONT)
    with pytest.raises(BadInput, match="empty"):
        lowest_drawdown_above(1, [])
    with pytest.raises(BadInput, match="no member returned nan"):
        lowest_drawdown_above(float("nan"), FRONT)


def test_a_knee_bulges_most_and_need_not_be_nearest_to_the_ideal() -> None:
    x = np.array([0.0, 0.05, 0.2, 0.5, 1.0])
    corner = np.column_stack((x, np.array([1.0, 0.4, 0.2, 0.15, 0.0])))
    assert knee(corner) == 2
    long = np.array([[0.0, 1.0], [0.1, 0.62], [0.38, 0.38], [0.97, 0.02], [1.0, 0.0]])
    assert knee(long) == 1
    assert ideal(long) == 2


def test_a_front_without_a_bulge_gives_its_ideal() -> None:
    hollow = np.array([[0.0, 1.0], [0.6, 0.7], [0.7, 0.6], [1.0, 0.0]])
    straight = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    assert knee(hollow) == ideal(hollow)
    assert knee(straight) == ideal(straight) == 1
    assert knee(np.array([[3.0, 3.0]])) == 0
    assert knee(np.array([[3.0, 3.0, 1.0], [3.0, 2.0, 5.0]])) in (0, 1)


@given(
    values=arrays(np.float64, st.tuples(st.integers(2, 25), st.integers(2, 4)), elements=st.integers(0, 40).map(float)),
    scale=arrays(np.float64, 4, elements=st.sampled_from([0.5, 1.0, 8.0, 64.0])),
    shift=arrays(np.float64, 4, elements=st.integers(-64, 64).map(float)),
)
def test_a_knee_and_an_ideal_do_not_depend_on_units(values: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> None:
    front = values[non_dominated(values)]
    count = values.shape[1]
    rescaled = front * scale[:count] + shift[:count]  # exact in float64
    assert knee(rescaled) == knee(front)
    assert ideal(rescaled) == ideal(front)


@given(st.integers(3, 60))
def test_a_knee_of_a_circle_is_its_middle(count: int) -> None:
    angle = np.linspace(0, np.pi / 2, 2 * count + 1)
    circle = np.column_stack((1 - np.sin(angle), 1 - np.cos(angle)))
    assert knee(circle) == ideal(circle) == count


def test_weights_choose() -> None:
    assert weighted({"return_pct": 1}, FRONT, GOALS) == 0
    assert weighted({"max_drawdown_pct": 2}, FRONT, GOALS) == 3
    assert weighted({"return_pct": 1, "max_drawdown_pct": 1}, FRONT, GOALS) == 1
    hollow = [{"f1": 0.0, "f2": -1.0}, {"f1": 0.6, "f2": -0.6}, {"f1": 1.0, "f2": 0.0}]
    assert weighted({"f1": 1, "f2": 1}, hollow, TWO) == 1
    assert weighted({"f1": 1, "f2": 1}, hollow, TWO, scalarising="sum") == 0
    with pytest.raises(UnknownName, match="unknown objective 'sharp'; did you mean sharpe"):
        weighted({"sharp": 1}, FRONT, GOALS)
    for bad in ({"sharpe": -1}, {"sharpe": float("nan")}, {"sharpe": 0}, {}):
        with pytest.raises(BadInput, match="weight"):
            weighted(bad, FRONT, GOALS)
    with pytest.raises(BadInput, match="the front is empty"):
        weighted({"sharpe": 1}, [], GOALS)
    with pytest.raises(BadInput, match="sum or achievement"):
        weighted({"sharpe": 1}, FRONT, GOALS, scalarising="product")  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=12), st.floats(0.1, 5))
def test_no_member_beats_the_weighted_one(rows: list[tuple[float, float]], weight: float) -> None:
    front: list[Stats] = [{"f1": one, "f2": -other} for one, other in rows]
    for scalarising in ("sum", "achievement"):
        chosen = rows[weighted({"f1": weight, "f2": 1.0}, front, TWO, scalarising=scalarising)]
        margin = 1e-6 * 9
        assert not any(one < chosen[0] - margin and other < chosen[1] - margin for one, other in rows)


# ---- stability

SPACE = Toy((41, 41, 2))


def test_neighbours_are_a_step_away_in_one_coordinate() -> None:
    near = neighbours(SPACE, Point((20, 0, 1)), least_share=0)
    assert {p.cells for p in near} == {(19, 0, 1), (21, 0, 1), (20, 1, 1), (20, 0, 0)}
    far = neighbours(SPACE, Point((20, 20, 0)), least_share=0.1)
    assert {p.cells for p in far} == {(16, 20, 0), (24, 20, 0), (20, 16, 0), (20, 24, 0), (20, 20, 1)}
    assert neighbours(Toy((1,)), Point((0,))) == []


def test_neighbours_of_a_strategy_are_strategies_of_the_space() -> None:
    space = SearchSpace()
    config = StrategyConfig()
    near = neighbours(space, config)
    assert 1 + 2 * 5 == len(near) == len({one.hash12 for one in near})
    for one in near:
        changed = {name for name, value in one.document().items() if value != config.document()[name]}
        assert len(changed) == 1
    assert {one.horizon_bars for one in near} == {6, 24}
    assert sorted(one.stop_scales for one in near if one.stop_scales != 2.0) == [1.82, 2.18]


def test_a_plateau_keeps_what_a_spike_loses() -> None:
    goals = Goals(objectives=(Objective(name="sharpe", direction="max", undefined=0.0),))
    spike, plateau = Point((10, 10, 0)), Point((30, 30, 0))

    def hill(points: Sequence[Point]) -> list[Stats]:
        return [
            {"sharpe": 2.0 if p == spike else 1.5 - 0.01 * abs(p.cells[0] - 30) if p.cells[0] > 15 else None}
            for p in points
        ]

    store = Memory()
    steady = stability(SPACE, plateau, hill, goals, store, first_number=7)
    lucky = stability(SPACE, spike, hill, goals, store, first_number=20)
    assert steady.neighbours == lucky.neighbours == 5
    assert steady.kept["sharpe"] > 0.98
    assert steady.worst_kept["sharpe"] == pytest.approx(1.48 / 1.5, abs=0.01)
    assert (lucky.kept["sharpe"], lucky.worst_kept["sharpe"], lucky.worst["sharpe"]) == (0.0, 0.0, 0.0)
    json.dumps(steady.document(), allow_nan=False)


def test_neighbours_that_are_known_are_not_evaluated_again() -> None:
    evaluate, store = counting(SPACE), Memory()
    first = stability(SPACE, Point((20, 20, 0)), evaluate, ONE, store, first_number=0)
    asked = list(evaluate.asked)
    assert len(asked) == len(set(asked)) == 6
    assert stability(SPACE, Point((20, 20, 0)), evaluate, ONE, store, first_number=6) == first
    assert evaluate.asked == asked


def test_shares_kept_by_hand() -> None:
    goals = Goals(
        objectives=(
            Objective(name="return_pct", direction="max"),
            Objective(name="max_drawdown_pct", direction="min"),
            Objective(name="sharpe", direction="max"),
        ),
        constraints=(Constraint(name="trades", least=20),),
    )
    own = member(10, 5, 2.0)
    others = [member(5, 10, 1.0), member(-10, 2, 3.0) | {"trades": 10}]
    found = compare_neighbours(own, others, goals)
    assert found.feasible == 0.5
    assert found.kept == {"return_pct": -0.25, "max_drawdown_pct": 0.75, "sharpe": 0.75}
    assert found.worst_kept == {"return_pct": -1.0, "max_drawdown_pct": 0.5, "sharpe": 0.5}
    assert found.worst == {"return_pct": -10, "max_drawdown_pct": 10, "sharpe": 1.0}
    losing = compare_neighbours(member(-3, 0, None), others, goals)
    assert losing.kept == {"return_pct": None, "max_drawdown_pct": None, "sharpe": None}
    assert losing.worst["sharpe"] is None, "undefined, and nothing says what it counts as"
    alone = compare_neighbours(own, [], goals)
    assert (alone.neighbours, alone.feasible, alone.kept["sharpe"]) == (0, 1.0, None)
