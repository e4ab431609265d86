"""What every backtest owes, whichever engine runs it: arithmetic done by hand, a plain event loop, its own future."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from backtest_market import (
    CONFIG,
    COSTS,
    DOWN,
    FLAT,
    HOURS,
    SCALE,
    UP,
    candles,
    configs,
    forecasts,
    join,
    random_market,
    seeds,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.backtest import engine, kernc
from forexgpt_core.backtest.fills import entry_price, exit_price, protective_exit, quoted_bar, trade_profit
from forexgpt_core.backtest.quotes import lay_out_quotes
from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch, interval_width
from forexgpt_core.domain.orders import Side
from forexgpt_core.errors import BadInput
from forexgpt_core.reporting.backtest import equity_picture
from forexgpt_core.strategy.config import StrategyConfig
from forexgpt_core.strategy.decide import Decision, HeldPosition, MarketView, decide
from forexgpt_core.strategy.rules import trailed
from forexgpt_core.strategy.sizing import Outlook, lots_for

Run = Callable[..., BacktestResult]


@pytest.fixture(scope="module", params=[kernc, engine], ids=["kernc", "engine"])
def run(request: pytest.FixtureRequest) -> Run:
    """A backtest of EURUSD by each engine in turn."""
    module: ModuleType = request.param

    def run(
        bars: pl.DataFrame,
        laws: ForecastBatch,
        config: StrategyConfig = CONFIG,
        costs: Costs = COSTS,
        cash: float = 100_000.0,
        **more: object,
    ) -> BacktestResult:
        result: BacktestResult = module.run_backtest(bars, laws, config, costs, symbol="EURUSD", cash=cash, **more)
        return result

    return run


def two_trades(run: Run) -> BacktestResult:
    bars = candles(
        [
            (1.2000, 1.2010, 1.1990, 1.2000),  # 0 buy
            (1.2005, 1.2015, 1.1995, 1.2010),  # 1 filled at the open
            (1.2010, 1.2020, 1.2000, 1.2005),  # 2
            (1.2005, 1.2025, 1.1996, 1.2020),  # 3 third bar held: leave
            (1.2022, 1.2030, 1.2000, 1.2010),  # 4 left at the open; sell
            (1.2008, 1.2009, 1.1995, 1.2000),  # 5 filled at the open
            (1.2000, 1.2040, 1.1990, 1.2030),  # 6 stopped on the ask
            (1.2030, 1.2035, 1.2025, 1.2030),  # 7
        ]
    )
    return run(bars, forecasts([UP, FLAT, FLAT, FLAT, DOWN, FLAT, FLAT, FLAT]))


def test_two_trades_calculated_by_hand(run: Run) -> None:
    result = two_trades(run)
    first, second = result.trades.to_dicts()
    # a buyer pays bid + 2 pips spread + 0.5 pips slippage, and sells at bid - 0.5 pips
    assert first["lots"] == 0.83  # 10 % x 100,000 x 10 / (100,000 x 1.2000) = 0.8333
    assert first["entry_price"] == pytest.approx(1.20075, abs=1e-12)
    assert first["exit_price"] == pytest.approx(1.20215, abs=1e-12)
    gain = 83_000 * (1.20215 - 1.20075) - 2 * 0.83 * 4.0
    assert gain == pytest.approx(109.56, abs=1e-9)
    assert first["profit"] == pytest.approx(gain, abs=1e-9)
    assert (first["entry_bar"], first["exit_bar"], first["exit_reason"]) == (1, 4, "holding limit")
    # a seller gets bid - 0.5 pips; the ask reached the stop inside bar 6, which slipped by 0.5 pips
    stop = 1.2010 * math.exp(2 * SCALE)
    assert second["lots"] == 0.83  # 10 % x 100,109.56 x 10 / (100,000 x 1.2010) = 0.8335
    assert second["entry_price"] == pytest.approx(1.20075, abs=1e-12)
    assert second["stop_price"] == pytest.approx(stop, abs=1e-12)
    assert second["exit_price"] == pytest.approx(stop + 0.00005, abs=1e-12)
    loss = 83_000 * (1.20075 - stop - 0.00005) - 6.64
    assert second["profit"] == pytest.approx(loss, abs=1e-9)
    assert (second["entry_bar"], second["exit_bar"], second["exit_reason"]) == (5, 6, "stop")
    assert result.stats["final_equity"] == pytest.approx(100_000 + gain + loss, abs=1e-9)


def test_the_equity_of_the_two_trades_is_what_leaving_would_bring(run: Run) -> None:
    equity = two_trades(run).equity["equity"].to_numpy()
    assert equity[0] == 100_000
    # bar 1: bought at 1.20075, bid 1.2010, one commission of 3.32 paid
    assert equity[1] == pytest.approx(100_000 + 83_000 * (1.2010 - 1.20075) - 3.32, abs=1e-9)
    assert equity[4] == pytest.approx(100_109.56, abs=1e-9)
    # bar 5: sold at 1.20075, ask 1.2000 + 2 pips
    assert equity[5] == pytest.approx(100_109.56 + 83_000 * (1.20075 - 1.2002) - 3.32, abs=1e-9)
    assert equity[6] == equity[7]


def test_the_figures_of_the_two_trades(run: Run) -> None:
    stats = two_trades(run).stats
    gain, loss = two_trades(run).trades["profit"].to_list()
    assert stats["trades"] == 2
    assert stats["win_rate_pct"] == 50
    assert stats["profit_factor"] == pytest.approx(gain / -loss, rel=1e-12)
    assert stats["commission"] == pytest.approx(13.28, abs=1e-12)
    assert stats["exposure_pct"] == pytest.approx(100 * 6 / 8)
    assert stats["return_pct"] == pytest.approx((gain + loss) / 1000, abs=1e-9)
    assert stats["buy_hold_return_pct"] == pytest.approx(100 * (1.2030 / 1.2000 - 1), abs=1e-9)
    assert (stats["start"], stats["end"], stats["bars"]) == ("2018-01-02T00:00:00Z", "2018-01-02T07:00:00Z", 8)
    assert json.loads(json.dumps(stats, allow_nan=False)) == stats


def outlook(cash: float, view: MarketView, decision: Decision) -> Outlook:
    assert decision.side is not None
    return Outlook(
        equity=cash,
        one_lot=view.close * 100_000,
        cost_return=view.cost_return,
        side=decision.side.sign,
        probability=decision.probability,
        scale=view.scale,
        width=float(interval_width(view.quantiles)),
        bars_per_year=6240,
    )


def reference(
    bars: pl.DataFrame, laws: ForecastBatch, config: StrategyConfig, costs: Costs
) -> list[tuple[object, ...]]:
    """Return the trades of a plain event loop over `decide` and `fills`: what a paper broker does.

    One position at a time, of any size that its margin allows.
    """
    quotes = lay_out_quotes(bars, costs, symbol="EURUSD")
    rows = [quoted_bar(quotes, n) for n in range(bars.height)]
    opens = bars["ts_utc"].to_numpy().astype("datetime64[us]")
    told = {int(bar): n for n, bar in enumerate(np.searchsorted(opens, laws.origin_utc))}
    cash, trades = 100_000.0, []
    order: tuple[Decision, float] | None = None
    held: tuple[Side, float, float, float, float, int] | None = None  # side, lots, price, stop, target, bar
    trail: float | None = None
    leaving = ""
    first, last = min(told), max(told)
    for n in range(first, last + 1):
        bar = rows[n]

        def leave(price: float, reason: str, at: int = n) -> None:
            nonlocal held, cash
            assert held is not None
            side, lots, entry, _, _, since = held
            profit = trade_profit(side, lots, entry, price, costs, "EURUSD")
            trades.append((since - first, at - first, side.value, lots, entry, price, profit, reason))
            cash, held = cash + profit, None

        if order is not None:
            asked, lots = order
            assert asked.side is not None
            assert asked.stop_price is not None
            assert asked.take_profit_price is not None
            price = entry_price(bar.bid_open, asked.side, costs, "EURUSD")
            held, order = (asked.side, lots, price, asked.stop_price, asked.take_profit_price, n), None
            trail = asked.trail_distance
        if held is not None and leaving:
            leave(exit_price(bar.bid_open, held[0], costs, "EURUSD"), leaving)
        leaving = ""
        if held is not None and (hit := protective_exit(held[0], held[3], held[4], bar)):
            leave(*hit)
        if n == last:
            if held is not None:
                leave(exit_price(bar.bid_close, held[0], costs, "EURUSD"), "end")
            break
        if held is not None and trail is not None:
            held = (*held[:3], trailed(held[3], held[0].sign, bar.bid_close, trail), *held[4:])
        if n not in told:
            leaving = "holding limit" if held is not None and n - held[5] + 1 >= config.holding_limit_bars else ""
            continue
        view = MarketView(
            close=bar.bid_close,
            quantiles=laws.quantiles[told[n], 0],
            scale=float(laws.scale[told[n], 0]),
            cost_return=costs.round_trip_return("EURUSD", bar.bid_close),
        )
        decision = decide(view, held and HeldPosition(side=held[0], bars_held=n - held[5] + 1), config)
        if decision.action == "exit":
            leaving = decision.reason
        elif decision.action == "enter" and (lots := lots_for(outlook(cash, view, decision), config, costs)):
            order = (decision, lots)
    return trades


@settings(max_examples=60, deadline=None)
@given(seed=seeds, config=configs)
def test_trades_equal_those_of_a_plain_event_loop(run: Run, seed: int, config: StrategyConfig) -> None:
    bars, laws = random_market(seed)
    config = replace(config, horizon_bars=1, max_entries=1)
    result = run(bars, laws, config)
    expected = reference(bars, laws, config, COSTS)
    columns = ("entry_bar", "exit_bar", "side", "lots", "entry_price", "exit_price", "profit", "exit_reason")
    found = result.trades.select(columns).rows()
    assert [(*f[:4], f[7]) for f in found] == [(*e[:4], e[7]) for e in expected]
    np.testing.assert_allclose([f[4:7] for f in found], [e[4:7] for e in expected], rtol=1e-12, atol=1e-6)
    final = result.stats["final_equity"]
    assert final == pytest.approx(100_000 + sum(result.trades["profit"]), abs=1e-6)
    assert final == pytest.approx(result.equity["equity"][-1], abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, cut=st.integers(20, 80))
def test_later_bars_and_forecasts_leave_earlier_trades_and_equity_alone(run: Run, seed: int, cut: int) -> None:
    bars, laws = random_market(seed)
    other_bars, other_laws = random_market(seed + 1)
    before = HOURS[cut]
    factor = bars["close"][cut - 1] / other_bars["close"][cut - 1]
    later = other_bars.slice(cut).with_columns(pl.col("open", "high", "low", "close") * factor)
    mixed_laws = join(laws.take(laws.origin_utc < before), other_laws.take(other_laws.origin_utc >= before))
    one, other = run(bars, laws), run(pl.concat([bars.head(cut), later]), mixed_laws)
    first = int(np.searchsorted(HOURS, laws.origin_utc[0]))
    known = pl.col("exit_bar") < cut - first
    assert one.trades.filter(known).equals(other.trades.filter(known))
    kept = cut - first
    assert one.equity.head(kept).equals(other.equity.head(kept))


def test_a_stop_and_a_target_in_the_bar_of_the_fill_is_a_stop_at_once(run: Run) -> None:
    bars = candles([(1.2, 1.2, 1.2, 1.2), (1.2, 1.3, 1.1, 1.2), (1.2, 1.2, 1.2, 1.2)])
    trade = run(bars, forecasts([UP, FLAT, FLAT])).trades.row(0, named=True)
    assert (trade["entry_bar"], trade["exit_bar"], trade["exit_reason"]) == (1, 1, "stop")


def test_a_market_that_opens_beyond_the_stop_is_left_where_it_was_entered(run: Run) -> None:
    bars = candles([(1.2, 1.2, 1.2, 1.2), (1.19, 1.19, 1.18, 1.185), (1.185, 1.185, 1.185, 1.185)])
    trade = run(bars, forecasts([UP, FLAT, FLAT])).trades.row(0, named=True)
    assert trade["exit_reason"] == "stop"
    assert trade["exit_price"] == pytest.approx(1.19 - 0.00005, abs=1e-12)
    assert trade["entry_price"] == pytest.approx(1.19 + 0.00025, abs=1e-12)


def test_zero_trades_are_legal(run: Run) -> None:
    bars, laws = random_market(1)
    result = run(bars, laws, replace(CONFIG, entry_probability=0.999))
    assert result.stats["trades"] == 0
    assert result.stats["return_pct"] == 0
    undefined = ("sharpe", "sortino", "win_rate_pct", "profit_factor", "average_trade_pct")
    assert [result.stats[name] for name in undefined] == [None] * 5
    assert result.trades.height == 0
    assert equity_picture(result, "no trades").startswith(b"\x89PNG")


def test_entries_too_small_to_trade_are_counted(run: Run) -> None:
    bars, laws = random_market(2)
    result = run(bars, laws, cash=500.0)
    assert result.stats["trades"] == 0
    assert isinstance(result.stats["entries_too_small"], int)
    assert result.stats["entries_too_small"] > 0


def test_an_entry_beyond_the_margin_is_refused_and_counted(run: Run) -> None:
    gap = candles([(1.2, 1.2, 1.2, 1.2), (1.3, 1.3, 1.3, 1.3), (1.3, 1.3, 1.3, 1.3)])
    result = run(gap, forecasts([UP, FLAT, FLAT]), replace(CONFIG, size_fraction=1.0))
    assert (result.stats["entries_refused"], result.stats["trades"]) == (1, 0)


def test_ruin_ends_the_account_at_zero(run: Run) -> None:
    bars = candles([(1.2, 1.2, 1.2, 1.2), (1.2, 1.2, 1.2, 1.2), (0.6, 0.6, 0.6, 0.6), (0.6, 0.6, 0.6, 0.6)])
    laws = forecasts([UP, FLAT, FLAT, UP])
    result = run(bars, laws, replace(CONFIG, size_fraction=1.0), replace(COSTS, leverage=30))
    assert result.stats["final_equity"] == 0
    assert result.stats["return_pct"] == -100
    assert result.stats["max_drawdown_pct"] == 100
    assert result.stats["trades"] == 1
    assert result.equity["equity"].to_list()[2:] == [0, 0]
    json.dumps(result.stats, allow_nan=False)


def test_bars_without_a_forecast_are_counted_and_end_a_position_at_its_limit(run: Run) -> None:
    bars = candles([(1.2, 1.2, 1.2, 1.2)] * 10)
    result = run(bars, forecasts([UP, DOWN], bars=[0, 9]))
    assert result.stats["bars_without_forecast"] == 8
    trade = result.trades.row(0, named=True)
    assert (trade["entry_bar"], trade["exit_bar"], trade["exit_reason"]) == (1, 4, "holding limit")


def test_bars_outside_the_forecasts_are_not_read(run: Run) -> None:
    bars, laws = random_market(3)
    inside = laws.take(np.arange(20, 60))
    first, last = np.searchsorted(HOURS, inside.origin_utc[[0, -1]])
    whole, cut = run(bars, inside), run(bars.slice(first, last - first + 1), inside)
    assert whole.stats == cut.stats
    assert whole.trades.equals(cut.trades)


def test_a_gap_between_bars_is_no_time_held(run: Run) -> None:
    bars = candles([(1.2, 1.2, 1.2, 1.2)] * 10)
    laws = forecasts([UP] + [FLAT] * 9)
    gapped = bars.filter(~pl.int_range(pl.len()).is_between(2, 5))
    result = run(gapped, laws.take(np.array([0, 1, 6, 7, 8, 9])))
    trade = result.trades.row(0, named=True)
    assert (trade["entry_bar"], trade["exit_bar"], trade["exit_reason"]) == (1, 4, "holding limit")
    assert trade["exit_utc"] == gapped["ts_utc"][4]


def test_two_bars_are_enough_and_the_last_one_decides_nothing(run: Run) -> None:
    bars = candles([(1.2, 1.2, 1.2, 1.2)] * 2)
    trade = run(bars, forecasts([UP, UP])).trades.row(0, named=True)
    assert (trade["entry_bar"], trade["exit_bar"], trade["exit_reason"]) == (1, 1, "end")
    assert run(bars, forecasts([FLAT, UP])).trades.height == 0


def test_a_stop_follows_the_closes_and_never_goes_back(run: Run) -> None:
    bars = candles(
        [
            (1.2000, 1.2000, 1.2000, 1.2000),  # 0 buy
            (1.2000, 1.2015, 1.2000, 1.2015),  # 1 the stop goes to 1.2015 less a scale
            (1.2015, 1.2015, 1.2008, 1.2008),  # 2 and stays
            (1.2008, 1.2009, 1.2000, 1.2009),  # 3 where it is met
            (1.2009, 1.2009, 1.2009, 1.2009),
        ]
    )
    config = replace(CONFIG, trailing_scales=1.0, holding_limit_bars=30)
    trade = run(bars, forecasts([UP] + [FLAT] * 4), config).trades.row(0, named=True)
    assert (trade["exit_bar"], trade["exit_reason"]) == (3, "stop")
    assert trade["exit_price"] == pytest.approx(1.2015 * math.exp(-SCALE) - 0.00005, abs=1e-12)
    assert trade["stop_price"] == pytest.approx(1.2 * math.exp(-2 * SCALE), abs=1e-12)  # the one it was opened with


def test_a_stop_that_follows_from_afar_stays_where_it_is(run: Run) -> None:
    bars, laws = random_market(5)
    far, fixed = run(bars, laws, replace(CONFIG, trailing_scales=1e9)), run(bars, laws)
    assert far.trades.equals(fixed.trades)
    assert fixed.trades.height > 10


def test_entries_of_one_side_pile_up_to_their_limit_and_leave_one_by_one(run: Run) -> None:
    bars = candles([(1.2, 1.2, 1.2, 1.2)] * 9)
    config = replace(CONFIG, max_entries=2, sizing="lots", lots=0.1)
    trades = run(bars, forecasts([UP] * 4 + [FLAT] * 5), config).trades
    # the third close finds two open; the fourth lets the first one go, and enters nothing beside that
    assert trades.select("entry_bar", "exit_bar").rows() == [(1, 4), (2, 5)]
    turned = run(bars, forecasts([UP, DOWN, DOWN, *[FLAT] * 6]), replace(config, opposite_exit=False)).trades
    assert turned.select("entry_bar", "side").rows() == [(1, "buy")]


def test_no_entry_is_held_back_and_no_exit(run: Run) -> None:
    bars, laws = random_market(6)
    free = run(bars, laws)
    always = run(bars, laws, no_entry=np.ones(bars.height, dtype=bool))
    assert always.trades.height == 0
    assert always.stats["entries_held_back"] >= free.trades.height > 0
    first = int(np.searchsorted(HOURS, laws.origin_utc[0]))
    decided = free.trades["entry_bar"][0] - 1 + first
    once = np.zeros(bars.height, dtype=bool)
    once[decided] = True
    held = run(bars, laws, no_entry=once)
    assert held.stats["entries_held_back"] == 1
    assert free.trades["entry_bar"][0] not in held.trades["entry_bar"].to_list()
    leaving = np.zeros(bars.height, dtype=bool)
    leaving[free.trades["exit_bar"][0] - 1 + first] = True
    assert run(bars, laws, no_entry=leaving).trades.row(0) == free.trades.row(0)


def test_ruin_closes_every_entry(run: Run) -> None:
    bars = candles([(1.2, 1.2, 1.2, 1.2)] * 4 + [(0.6, 0.6, 0.6, 0.6)] * 3)
    config = replace(CONFIG, size_fraction=0.3, max_entries=3, holding_limit_bars=20, stop_scales=900.0)
    result = run(bars, forecasts([UP] * 3 + [FLAT] * 4), config, replace(COSTS, leverage=30))
    assert result.trades.select("exit_bar", "exit_reason").rows() == [(4, "ruin")] * 3
    assert result.equity["equity"].to_list()[4:] == [0, 0, 0]
    assert (result.stats["final_equity"], result.stats["return_pct"]) == (0, -100)


BARS, LAWS = random_market(4)


@pytest.mark.parametrize(
    ("bars", "laws", "message"),
    [
        (BARS.reverse(), LAWS, "not sorted"),
        (BARS.head(0), LAWS, "no candle"),
        (BARS.head(50), LAWS, "have no candle"),
        (BARS.with_columns(high=pl.lit(0.1)), LAWS, "impossible bars"),
        (BARS, LAWS.take(np.array([5])), "at least 2 bars"),
        (pl.concat([BARS.head(60), BARS.tail(31)]), LAWS, "repeat 1 times"),
        (BARS, LAWS.take(np.array([], dtype=np.int64)), "no forecast"),
        (BARS, LAWS.take(np.array([5, 3])), "increasing time"),
        (BARS, replace(LAWS, scale=np.full_like(LAWS.scale, np.nan)), "scales"),
        (BARS, replace(LAWS, symbol="GBPUSD"), "belong to GBPUSD"),
    ],
)
def test_bad_input_is_named(run: Run, bars: pl.DataFrame, laws: ForecastBatch, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run(bars, laws)


def test_forecasts_that_turned_to_nan_are_refused(run: Run) -> None:
    laws = replace(LAWS, quantiles=LAWS.quantiles.copy())
    laws.quantiles[3, 0, 4] = np.nan
    with pytest.raises(BadInput, match="not finite"):
        run(BARS, laws)


def test_a_horizon_without_forecast_and_an_empty_purse_are_refused(run: Run) -> None:
    with pytest.raises(BadInput, match=r"horizon_bars 24; the forecasts have \(1,\)"):
        run(BARS, LAWS, replace(CONFIG, horizon_bars=24))
    with pytest.raises(BadInput, match="cash"):
        run(BARS, LAWS, cash=0.0)


def test_pictures_are_drawn(run: Run) -> None:
    result = two_trades(run)
    assert equity_picture(result, "two trades").startswith(b"\x89PNG")
