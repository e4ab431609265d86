"""The search keeps what is not dominated, sees the earlier part only, and repeats itself."""

import re
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
from forexgpt_core.optimisation.front import hypervolumes, non_dominated, objectives, thin
from forexgpt_core.optimisation.pareto import ParetoResult, ParetoSettings, members_table, pick, search, split
from forexgpt_core.optimisation.search_space import SearchSpace
from forexgpt_core.reporting.pareto import front_picture, interactive_html

BARS = 330
HORIZONS = (1, 6, 12)
HOURS = expected_opens(np.datetime64("2018-01-02T00:00"), np.datetime64("2018-12-01"), Timeframe.H1)[:BARS]
COSTS = Costs()
SPACE = SearchSpace(horizons_bars=(1, 6), holding_limit_bars=(1, 12))
SETTINGS = ParetoSettings(population=6, generations=3, seed=7, min_trades=5)


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


def find(bars: pl.DataFrame = CANDLES, laws: ForecastBatch = LAWS, **changes: object) -> ParetoResult:
    return search(bars, laws, COSTS, symbol="EURUSD", space=SPACE, **({"settings": SETTINGS} | changes))  # type: ignore[arg-type]  # keywords of any kind


@pytest.fixture(scope="module")
def found() -> ParetoResult:
    return find()


def test_no_member_is_dominated_by_anything_tried(found: ParetoResult) -> None:
    members = objectives([member.in_sample for member in found.members])
    enough = [trial.in_sample for trial in found.evaluated if int(trial.in_sample["trades"] or 0) >= 5]
    tried = objectives(enough)
    for one in members:
        assert not ((tried <= one).all(axis=1) & (tried < one).any(axis=1)).any()
    assert found.feasible
    assert 1 <= len(found.members) <= SETTINGS.population


def test_the_same_seed_gives_the_same_result_and_another_seed_another(found: ParetoResult) -> None:
    assert find() == found
    assert find(settings=replace(SETTINGS, seed=8)).evaluated != found.evaluated


def test_the_later_part_never_reaches_the_search(found: ParetoResult) -> None:
    other_bars, other_laws = market(1)
    seen = found.in_sample_end_utc
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
    other = find(pl.concat([CANDLES.head(count), later]), mixed)
    assert other.evaluated == found.evaluated
    np.testing.assert_array_equal(other.daily_returns, found.daily_returns)
    assert [(m.config, m.in_sample) for m in other.members] == [(m.config, m.in_sample) for m in found.members]
    assert [m.out_of_sample for m in other.members] != [m.out_of_sample for m in found.members]
    assert pick(other).hash12 == pick(found).hash12


def test_members_replay_from_their_configuration(found: ParetoResult) -> None:
    earlier, later = split(CANDLES, LAWS, SETTINGS.in_sample_share)
    member = found.members[0]
    for rows, stats in ((earlier, member.in_sample), (later, member.out_of_sample)):
        again = run_backtest(CANDLES, LAWS.take(rows), member.config, COSTS, symbol="EURUSD")
        assert again.stats == stats


def test_the_parts_are_a_longest_horizon_apart(found: ParetoResult) -> None:
    earlier, later = split(CANDLES, LAWS, 0.6)
    last, first = np.searchsorted(HOURS, LAWS.origin_utc[[earlier[-1], later[0]]])
    assert first - last == 1 + HORIZONS[-1] == 1 + found.purge_bars
    assert np.datetime64(found.in_sample_end_utc.replace(tzinfo=None)) == HOURS[last]
    assert np.datetime64(found.out_of_sample_start_utc.replace(tzinfo=None)) == HOURS[first]


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
    result = search(CANDLES, LAWS, COSTS, symbol="EURUSD", space=narrow, settings=SETTINGS)
    assert result.trials <= 3
    assert result.repeats >= 3


def test_the_hypervolume_never_falls(found: ParetoResult) -> None:
    assert len(found.hypervolume) == SETTINGS.generations
    assert list(found.hypervolume) == sorted(found.hypervolume)
    assert 0 < found.hypervolume[-1] <= 1


def test_the_returns_of_every_trial_are_those_of_its_figures(found: ParetoResult) -> None:
    assert found.daily_returns.shape[1] == found.trials
    assert found.daily_returns.dtype == np.float32
    np.testing.assert_array_equal(find().daily_returns, found.daily_returns)
    yearly = np.sqrt(found.periods_per_year)
    for trial, returns in zip(found.evaluated, found.daily_returns.astype(np.float64).T, strict=True):
        if (sharpe := trial.in_sample["sharpe"]) is not None:
            assert returns.mean() / returns.std(ddof=1) * yearly == pytest.approx(float(sharpe), rel=1e-4)
        total = (np.prod(1 + returns) - 1) * 100
        assert total == pytest.approx(float(trial.in_sample["return_pct"] or 0), abs=1e-3)
    for member in found.members:
        returns = member.out_of_sample_returns
        if (sharpe := member.out_of_sample["sharpe"]) is not None:
            assert returns.mean() / returns.std(ddof=1) * yearly == pytest.approx(float(sharpe))


def test_picks_are_members_chosen_by_earlier_figures(found: ParetoResult) -> None:
    sharpes = [float(m.in_sample["sharpe"] or 0) for m in found.members]
    drawdowns = [float(m.in_sample["max_drawdown_pct"] or 0) for m in found.members]
    assert pick(found, "best_sharpe").in_sample["sharpe"] == max(sharpes)
    assert pick(found, "lowest_drawdown").in_sample["max_drawdown_pct"] == min(drawdowns)
    assert pick(found) in found.members
    with pytest.raises(BadInput, match="unknown pick 'best'"):
        pick(found, "best")  # type: ignore[arg-type]  # the error a caller without types meets


def test_a_search_without_enough_trades_says_so() -> None:
    result = find(settings=replace(SETTINGS, min_trades=10_000))
    assert not result.feasible
    assert "no configuration made 10000 trades" in result.note
    most = max(int(trial.in_sample["trades"] or 0) for trial in result.evaluated)
    assert all(member.in_sample["trades"] == most for member in result.members)
    assert set(result.hypervolume) == {0.0}
    assert front_picture(result, "infeasible").startswith(b"\x89PNG")


def test_a_stopped_search_keeps_what_it_found() -> None:
    asked = iter([False] * 8 + [True] * 100)
    result = find(should_stop=lambda: next(asked))
    assert result.trials == 8
    assert "stopped after 1 of 3 generations" in result.note
    assert result.members
    with pytest.raises(NotReady, match="stopped before its first"):
        find(should_stop=lambda: True)


def test_progress_is_told_after_every_generation() -> None:
    told: list[tuple[float, str]] = []
    find(progress=lambda share, message: told.append((share, message)))
    assert [share for share, _ in told] == pytest.approx([1 / 3, 2 / 3, 1])
    assert told[0][1].startswith("generation 1/3")


def test_too_short_a_span_and_an_absent_horizon_are_refused() -> None:
    with pytest.raises(NotReady, match="60 forecasts of EURUSD leave 36 to search"):
        find(laws=LAWS.take(np.arange(60)))
    with pytest.raises(NotReady, match="0 forecasts"):
        find(laws=LAWS.take(np.arange(0)))
    with pytest.raises(BadInput, match=r"horizons \[24\]"):
        search(CANDLES, LAWS, COSTS, symbol="EURUSD", space=SearchSpace(horizons_bars=(6, 24)), settings=SETTINGS)


def test_the_members_are_tabled_and_drawn(found: ParetoResult) -> None:
    table = members_table(found)
    assert table["config"].to_list() == [member.hash12 for member in found.members]
    assert {"in_sharpe", "out_sharpe", "in_trades", "stop_scales"} <= set(table.columns)
    assert front_picture(found, "EURUSD").startswith(b"\x89PNG")


def test_the_interactive_page_names_every_member_and_loads_nothing(found: ParetoResult) -> None:
    page = interactive_html(found, "EURUSD")
    assert all(member.hash12 in page for member in found.members)
    assert re.search(r"<(script|link)[^>]*(src|href)=.https?://", page) is None


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
    config = SPACE.config(x)
    assert config.horizon_bars in SPACE.horizons_bars
    for name in ("entry_probability", "stop_scales", "take_profit_scales", "size_fraction", "holding_limit_bars"):
        least, most = getattr(SPACE, name)
        assert least <= getattr(config, name) <= most
    assert isinstance(config.holding_limit_bars, int)
    assert SPACE.config(x).hash12 == config.hash12


def test_both_ends_of_every_bound_are_reached() -> None:
    low, high = SPACE.config(np.zeros(6)), SPACE.config(np.ones(6))
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
