"""The search keeps what is not dominated, sees the earlier part only, and repeats itself."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.errors import BadInput, NotReady, UnknownName
from forexgpt_core.optimisation.front import hypervolumes, non_dominated, thin
from forexgpt_core.optimisation.goals import Goals
from forexgpt_core.optimisation.pareto import ParetoResult, ParetoSettings, SearchEvidence, search
from forexgpt_core.optimisation.parts import split
from forexgpt_core.optimisation.picks import PICKS
from forexgpt_core.optimisation.replay import ReplayDiffers, replay
from forexgpt_core.optimisation.search import Progress
from forexgpt_core.optimisation.search_space import SearchSpace
from forexgpt_core.optimisation.trials import Memory
from forexgpt_core.reporting.explorer import explorer_page
from forexgpt_core.reporting.explorer_front import explorer_document
from forexgpt_core.reporting.pareto import front_picture

BARS = 330
HORIZONS = (1, 6, 12)
HOURS = expected_opens(np.datetime64("2018-01-02T00:00"), np.datetime64("2018-12-01"), Timeframe.H1)[:BARS]
COSTS = Costs()
SPACE = SearchSpace(horizons_bars=(1, 6), holding_limit_bars=(1, 12))
SETTINGS = ParetoSettings(method="nsga2", population=6, generations=3, seed=7, min_trades=5, later_spans=2)


def market(seed: int) -> tuple[pl.DataFrame, ForecastBatch]:
    rng = np.random.default_rng(seed)
    volatility = 0.0015
    close = 1.2 * np.exp(np.cumsum(rng.normal(0, volatility, BARS)))
    opened = np.concatenate(([1.2], close[:-1]))
    wicks = np.abs(rng.normal(0, volatility / 2, (2, BARS)))
    bars = pl.DataFrame(
        {
            "ts_utc": pl.Series(HOURS).dt.replace_time_zone("UTC"),
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(wicks[0]),
            "low": np.minimum(opened, close) * np.exp(-wicks[1]),
            "close": close,
            "volume": pl.Series([None] * BARS, dtype=pl.Float64),
        },
        schema=SCHEMA,
    )
    origins = np.arange(10, BARS)
    scale = np.tile(volatility * np.sqrt(HORIZONS), (origins.size, 1))
    means = rng.normal(0, 0.4, scale.shape) * scale
    laws = ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="test",
        origin_utc=HOURS[origins],
        horizons_bars=HORIZONS,
        quantiles=means[..., None] + scale[..., None] * SCORES,
        scale=scale,
    )
    return bars, laws


CANDLES, LAWS = market(0)


def look(
    bars: pl.DataFrame = CANDLES, laws: ForecastBatch = LAWS, **changes: object
) -> tuple[ParetoResult, SearchEvidence]:
    return search(bars, laws, COSTS, symbol="EURUSD", space=SPACE, **({"settings": SETTINGS} | changes))  # type: ignore[arg-type]  # keywords of any kind


def find(bars: pl.DataFrame = CANDLES, laws: ForecastBatch = LAWS, **changes: object) -> ParetoResult:
    return look(bars, laws, **changes)[0]


@pytest.fixture(scope="module")
def both() -> tuple[ParetoResult, SearchEvidence]:
    return look()


@pytest.fixture(scope="module")
def found(both: tuple[ParetoResult, SearchEvidence]) -> ParetoResult:
    return both[0]


def test_no_member_is_dominated_by_anything_the_search_tried(found: ParetoResult) -> None:
    tried = [trial.in_sample for trial in found.evaluated[: found.trials - found.neighbours]]
    values = Goals().values([stats for stats in tried if int(stats["trades"] or 0) >= 5])
    for one in Goals().values([member.in_sample for member in found.members]):
        assert not ((values <= one).all(axis=1) & (values < one).any(axis=1)).any()
    assert found.feasible
    assert found.stopped == "generation limit"
    assert 1 <= len(found.members) <= SETTINGS.population


def test_the_same_seed_gives_the_same_result_and_another_seed_another(found: ParetoResult) -> None:
    assert find() == found
    assert find(settings=replace(SETTINGS, seed=8)).evaluated != found.evaluated


def test_what_a_store_remembers_changes_nothing(both: tuple[ParetoResult, SearchEvidence]) -> None:
    first, evidence = both
    look(store=(memory := Memory()))
    for kept in (0, 5, len(memory.figures)):
        part = Memory(dict(list(memory.figures.items())[:kept]))
        again, same = look(store=part)
        assert again == first
        np.testing.assert_array_equal(same.moments, evidence.moments)


def test_the_later_part_never_reaches_the_search(both: tuple[ParetoResult, SearchEvidence]) -> None:
    found, evidence = both
    other_bars, other_laws = market(1)
    seen = found.searched_utc[1]
    count = CANDLES.filter(pl.col("ts_utc") <= seen).height
    factor = CANDLES["close"][count - 1] / other_bars["close"][count - 1]
    later = other_bars.slice(count).with_columns(pl.col("open", "high", "low", "close") * factor)
    known = np.datetime64(seen.replace(tzinfo=None))
    keep, swap = LAWS.take(LAWS.origin_utc <= known), other_laws.take(other_laws.origin_utc > known)
    mixed = replace(
        keep,
        origin_utc=np.concatenate((keep.origin_utc, swap.origin_utc)),
        quantiles=np.concatenate((keep.quantiles, swap.quantiles)),
        scale=np.concatenate((keep.scale, swap.scale)),
    )
    other, its_evidence = look(pl.concat([CANDLES.head(count), later]), mixed)
    assert other.evaluated == found.evaluated
    np.testing.assert_array_equal(its_evidence.moments, evidence.moments)
    assert [(m.config, m.in_sample) for m in other.members] == [(m.config, m.in_sample) for m in found.members]
    assert [m.out_of_sample for m in other.members] != [m.out_of_sample for m in found.members]
    assert (other.picks, other.stability) == (found.picks, found.stability)


def test_every_member_replays_to_the_bit(found: ParetoResult) -> None:
    replays = replay(found, CANDLES, LAWS, COSTS, symbol="EURUSD", cash=100_000.0)
    parts = split(CANDLES, LAWS, SETTINGS.in_sample_share)
    for member in found.members:
        for rows, run in (
            (parts.searched, replays[member.hash12].searched),
            (parts.later, replays[member.hash12].later),
        ):
            again = run_backtest(CANDLES, LAWS.take(rows), member.config, COSTS, symbol="EURUSD")
            assert again.stats == run.stats
            assert again.trades.equals(run.trades)
            assert again.equity.equals(run.equity)
        assert member.in_sample.items() <= replays[member.hash12].searched.stats.items()
        assert member.out_of_sample == replays[member.hash12].later.stats


def test_a_member_that_trades_otherwise_now_is_named(found: ParetoResult) -> None:
    moved = CANDLES.with_columns(pl.col("open", "high", "low", "close") * 1.01)
    with pytest.raises(ReplayDiffers, match=rf"configuration {found.members[0].hash12} gave .* search again"):
        replay(found, moved, LAWS, COSTS, symbol="EURUSD", cash=100_000.0)


def test_the_parts_are_a_longest_horizon_and_an_embargo_apart(found: ParetoResult) -> None:
    for embargo, spans in ((0, 1), (0, 2), (9, 3)):
        parts = split(CANDLES, LAWS, 0.6, embargo_bars=embargo, later_spans=spans)
        last, first = np.searchsorted(HOURS, LAWS.origin_utc[[parts.searched[-1], parts.later[0]]])
        assert first - last == 1 + HORIZONS[-1] + embargo
        np.testing.assert_array_equal(np.concatenate(parts.spans), parts.later)
        assert len(parts.spans) == spans
    assert found.purge_bars == HORIZONS[-1]
    parts = split(CANDLES, LAWS, 0.6, later_spans=2)
    ends = [found.searched_utc[0], found.searched_utc[1], found.later_utc[0][0], found.later_utc[-1][1]]
    rows = [parts.searched[0], parts.searched[-1], parts.later[0], parts.later[-1]]
    assert [np.datetime64(moment.replace(tzinfo=None)) for moment in ends] == LAWS.origin_utc[rows].tolist()


def test_later_spans_are_backtests_of_their_own(found: ParetoResult) -> None:
    parts, member = split(CANDLES, LAWS, 0.6, later_spans=2), found.members[0]
    for rows, told in zip(parts.spans, member.later_spans, strict=True):
        run = run_backtest(CANDLES, LAWS.take(rows), member.config, COSTS, symbol="EURUSD")
        assert told.items() <= run.stats.items()


def test_every_configuration_is_tried_once(found: ParetoResult) -> None:
    hashes = [trial.config.hash12 for trial in found.evaluated]
    assert len(set(hashes)) == len(hashes) == found.trials
    narrow = SearchSpace(
        horizons_bars=(1,),
        entry_probability=(0.5, 0.502),
        stop_scales=(2, 2),
        take_profit_scales=(3, 3),
        size_fraction=(0.1, 0.1),
        holding_limit_bars=(3, 3),
    )
    result, _ = search(CANDLES, LAWS, COSTS, symbol="EURUSD", space=narrow, settings=SETTINGS)
    assert result.trials <= 3


def test_the_hypervolume_never_falls(found: ParetoResult) -> None:
    assert len(found.hypervolume) == SETTINGS.generations
    assert list(found.hypervolume) == sorted(found.hypervolume)
    assert 0 < found.hypervolume[-1] <= 1


def test_the_moments_of_every_trial_are_those_of_its_figures(both: tuple[ParetoResult, SearchEvidence]) -> None:
    found, evidence = both
    assert evidence.moments.shape == (found.trials, evidence.block_days.size, 2)
    yearly, days = np.sqrt(found.periods_per_year), evidence.block_days.sum()
    for trial, (total, squares) in zip(found.evaluated, evidence.moments.sum(axis=1), strict=True):
        deviation = np.sqrt((squares - total**2 / days) / (days - 1))
        if (sharpe := trial.in_sample["sharpe"]) is not None:
            assert total / days / deviation * yearly == pytest.approx(float(sharpe), rel=1e-6)
    for member in found.members:
        returns = evidence.later_returns[member.hash12]
        if (sharpe := member.out_of_sample["sharpe"]) is not None:
            assert returns.mean() / returns.std(ddof=1) * yearly == pytest.approx(float(sharpe))


def test_picks_are_members_with_their_stability(found: ParetoResult) -> None:
    assert set(found.picks) == set(PICKS)
    sharpes = [float(m.in_sample["sharpe"] or 0) for m in found.members]
    drawdowns = [float(m.in_sample["max_drawdown_pct"] or 0) for m in found.members]
    assert found.member(found.picks["best_sharpe"]).in_sample["sharpe"] == max(sharpes)
    assert found.member(found.picks["lowest_drawdown"]).in_sample["max_drawdown_pct"] == min(drawdowns)
    assert set(found.stability) == set(found.picks.values())
    for told in found.stability.values():
        assert told["neighbours"] > 0
        assert all(share is None or share <= 1 for share in told["kept"].values())


def test_a_result_comes_back_from_its_document(found: ParetoResult) -> None:
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    front = [(m.config, m.in_sample, m.out_of_sample) for m in found.members]
    assert ParetoResult.restore(document, found.evaluated, front) == found


def test_a_search_without_enough_trades_says_so() -> None:
    result = find(settings=replace(SETTINGS, min_trades=10_000))
    assert not result.feasible
    most = max(int(t.in_sample["trades"] or 0) for t in result.evaluated[: result.trials - result.neighbours])
    assert "no candidate satisfies the constraints" in result.note
    assert f"10000 trades in sample were wanted, the most was {most}" in result.note
    assert all(member.in_sample["trades"] == most for member in result.members)
    assert set(result.hypervolume) == {0.0}
    assert front_picture(result, "infeasible").startswith(b"\x89PNG")


def test_a_search_whose_drawdowns_are_all_too_deep_does_not_blame_its_trades() -> None:
    result = find(settings=replace(SETTINGS, max_drawdown_pct=1e-6))
    assert not result.feasible
    tried = [one.in_sample for one in result.evaluated[: result.trials - result.neighbours]]
    least = min(float(one["max_drawdown_pct"]) for one in tried if one["trades"] >= SETTINGS.min_trades)
    assert f"1e-06 % at most was wanted, the least with 5 trades or more was {least:.2f} %" in result.note
    assert "trades in sample were wanted" not in result.note


def test_a_stopped_search_keeps_what_it_found() -> None:
    asked = iter([False] * 3 + [True] * 1000)
    result = find(should_stop=lambda: next(asked))
    assert 0 < result.trials - result.neighbours < 18
    assert result.stopped == "asked to stop"
    assert "as asked" in result.note
    assert result.members
    with pytest.raises(NotReady, match="stopped before its first"):
        find(should_stop=lambda: True)


def test_progress_is_told_after_every_generation() -> None:
    told: list[Progress] = []
    find(progress=told.append)
    assert [(one.generation, one.generations) for one in told] == [(1, 3), (2, 3), (3, 3)]
    assert set(told[-1].best) == set(Goals().names)


def test_too_short_a_span_and_an_absent_horizon_are_refused() -> None:
    with pytest.raises(NotReady, match="60 forecasts of EURUSD leave 36 to search"):
        find(laws=LAWS.take(np.arange(60)))
    with pytest.raises(NotReady, match="0 forecasts"):
        find(laws=LAWS.take(np.arange(0)))
    with pytest.raises(BadInput, match=r"horizons \[24\]"):
        search(CANDLES, LAWS, COSTS, symbol="EURUSD", space=SearchSpace(horizons_bars=(6, 24)), settings=SETTINGS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"later_spans": 0}, "later_spans 1 or more"),
        ({"embargo_bars": -1}, "embargo_bars must be 0 or more"),
        ({"in_sample_share": 1.0}, "in_sample_share must lie in"),
        ({"min_trades": 0}, "min_trades must be 1 or more"),
        ({"max_drawdown_pct": 0.0}, "max_drawdown_pct must be above 0"),
        ({"method": "annealing"}, "unknown search method 'annealing'"),
        ({"preset": "clasic"}, "unknown preset 'clasic'; did you mean classic"),
        ({"space": {"stop_scales": [4, 1]}}, "stop_scales must be"),
        ({"space": {"stop_scale": [1, 4]}}, "unknown search setting 'stop_scale'; did you mean stop_scales"),
        ({"time_limit_seconds": 0.0}, "time_limit_seconds must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(changes: dict[str, object], told: str) -> None:
    with pytest.raises((BadInput, UnknownName), match=told) as error:
        ParetoSettings(**changes)  # type: ignore[arg-type]  # wrong on purpose
    assert "\n" not in str(error.value)


def test_the_classic_preset_is_in_per_cent() -> None:
    space = ParetoSettings(preset="classic", space={"holding_limit_bars": [2, 12]}).search_space((1, 6))
    assert (space.distance_unit, space.stop_scales, space.take_profit_scales) == ("percent", (1.0, 5.0), (2.0, 10.0))
    assert (space.entry_probability, space.size_fraction) == ((0.50, 0.70), (0.05, 0.20))
    assert (space.holding_limit_bars, space.horizons_bars) == ((2, 12), (1, 6))


def test_the_front_is_drawn_and_explored(found: ParetoResult) -> None:
    assert front_picture(found, "EURUSD").startswith(b"\x89PNG")
    told = {m.hash12: {"probabilistic_sharpe": 0.6, "deflated_sharpe": 0.1, "falls_apart": True} for m in found.members}
    replays = replay(found, CANDLES, LAWS, COSTS, symbol="EURUSD", cash=100_000.0)
    document = explorer_document(
        found,
        {"trials_ever": 99, "best_of_worthless": 1.5, "pbo": 0.4, "members": told},
        replays,
        symbol="EURUSD",
        timeframe="H1",
        study=3,
        cash=100_000.0,
        costs=COSTS,
    )
    member = document.members[0]
    assert len(document.members) == len(found.members)
    assert len(member.trades) == member.in_sample["trades"] + member.out_of_sample["trades"]
    assert member.searched.values[-1] == member.in_sample["final_equity"]
    assert document.money.startswith("100,000 USD, leverage 30, spread 1 pips")
    page = explorer_page(document)
    assert all(one.hash12 in page for one in found.members)


@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.integers(0, 3).map(float)))
def test_the_front_is_what_nothing_beats_and_covers_the_rest(values: np.ndarray) -> None:
    rows = non_dominated(values)
    for row in range(len(values)):
        covered = (values[rows] <= values[row]).all(axis=1).any()
        beaten = ((values <= values[row]).all(axis=1) & (values < values[row]).any(axis=1)).any()
        assert covered
        assert (row in rows) == (not beaten and not (values[:row] == values[row]).all(axis=1).any())


def test_thinning_keeps_the_ends() -> None:
    x = np.linspace(0, 1, 30)
    values = np.column_stack((x, 1 - x, x, 1 - x))
    kept = thin(values, 5)
    assert {0, 29} <= set(kept.tolist())
    assert kept.size == 5


def test_hypervolume_by_hand() -> None:
    values = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    shares = hypervolumes(values, np.ones(3, dtype=bool), [1, 2, 3])
    whole = 1.05**2
    one = 1.05 * 0.05
    np.testing.assert_allclose(shares, np.array([one, 2 * one - 0.05**2, 2 * one - 0.05**2 + 0.5**2]) / whole)


@given(x=arrays(np.float64, 6, elements=st.floats(0, 1)))
def test_every_point_of_the_cube_is_a_lawful_strategy(x: np.ndarray) -> None:
    config = SPACE.decode(x)
    assert config.horizon_bars in SPACE.horizons_bars
    for name in ("entry_probability", "stop_scales", "take_profit_scales", "size_fraction", "holding_limit_bars"):
        least, most = getattr(SPACE, name)
        assert least <= getattr(config, name) <= most
    assert isinstance(config.holding_limit_bars, int)
    assert SPACE.decode(x).hash12 == config.hash12


def test_both_ends_of_every_bound_are_reached() -> None:
    low, high = SPACE.decode(np.zeros(6)), SPACE.decode(np.ones(6))
    assert (low.horizon_bars, high.horizon_bars) == (1, 6)
    assert (low.holding_limit_bars, high.holding_limit_bars) == (1, 12)
    assert (low.entry_probability, high.entry_probability) == SPACE.entry_probability


@pytest.mark.parametrize(
    ("document", "error", "message"),
    [
        ({"stop_scale": [1, 2]}, UnknownName, "did you mean stop_scales"),
        ({"xyz": [1, 2]}, UnknownName, "known: horizons_bars"),
        ({"stop_scales": [3, 2]}, BadInput, "least <= most"),
        ({"stop_scales": [float("nan"), 2]}, BadInput, "least <= most"),
        ({"stop_scales": [0, 2]}, BadInput, "above 0"),
        ({"size_fraction": [0.1, 1.5]}, BadInput, "size_fraction must lie"),
        ({"entry_probability": [0.5, 1.0]}, BadInput, "entry_probability must lie"),
        ({"holding_limit_bars": [1.5, 4]}, BadInput, "whole numbers"),
        ({"horizons_bars": []}, BadInput, "at least one horizon"),
        ({"horizons_bars": [0, 1]}, BadInput, "1 or more"),
        ({"stop_scales": 2.0}, BadInput, "lists of numbers"),
        ({"stop_scales": ["a", "b"]}, BadInput, "above 0|lists of numbers|must be"),
    ],
)
def test_a_bad_search_space_is_named(document: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SearchSpace.parse(document)


def test_a_search_space_is_written_and_read_back() -> None:
    assert SearchSpace.parse(SPACE.document()) == SPACE


@pytest.mark.parametrize("change", [{"population": 3}, {"generations": 0}, {"in_sample_share": 1.0}, {"min_trades": 0}])
def test_bad_search_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(change))):
        replace(SETTINGS, **change)
