"""Figures under backtesting.py's names: its own function on the same account and trades, and each difference shown."""

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import polars as pl
import pytest
from backtest_market import (
    CONFIG,
    COSTS,
    DOWN,
    FLAT,
    UP,
    candles,
    configs,
    forecasts,
    needs_real_bars,
    real_market,
    seeds,
    varied_market,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.backtest import engine, kernc, statistics
from forexgpt_core.backtest.performance import curve_stats, day_ends, day_returns
from forexgpt_core.backtest.result import TRADES_SCHEMA, BacktestResult
from forexgpt_core.backtest.span import Span, lay_out
from forexgpt_core.backtest.statistics import LABELS, familiar_stats, own_stats
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.overfitting import (
    TrialRegistry,
    deflated_sharpe,
    probabilistic_sharpe,
    sharpe_evidence,
)
from forexgpt_core.strategy.config import StrategyConfig

OF_DAYS = (
    "Return (Ann.) [%]",
    "Volatility (Ann.) [%]",
    "Sharpe Ratio",
    "Sortino Ratio",
    "Calmar Ratio",
)
NO_TRIALS = TrialRegistry(sharpes={})
SHOWN: dict[str, Callable[[], None]] = {}


def library(result: BacktestResult, close: np.ndarray, index: Any) -> Mapping[str, Any]:
    """Return what the library's own function says of an account and its trades."""
    import pandas as pd
    from backtesting._stats import compute_stats

    rows, times = result.trades, pd.DatetimeIndex(result.equity["ts_utc"].to_numpy())
    trades = pd.DataFrame(
        {
            "EntryBar": rows["entry_bar"].to_numpy(),
            "ExitBar": rows["exit_bar"].to_numpy(),
            "PnL": rows["profit"].to_numpy(),
            "ReturnPct": rows["return_pct"].to_numpy() / 100,
            "Duration": times[rows["exit_bar"].to_numpy()] - times[rows["entry_bar"].to_numpy()],
        }
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        equity = result.equity["equity"].to_numpy()
        frame = pd.DataFrame({"Close": close}, index=index)
        return dict(compute_stats(trades, equity, frame, None, 0.0))


def library_on_fx_days(result: BacktestResult, step: str = "1D") -> Mapping[str, Any]:
    """Return it on a clock whose midnight is 17:00 New York, with the cash a day before."""
    import pandas as pd

    utc = pd.DatetimeIndex(result.equity["ts_utc"].to_numpy()).tz_localize("UTC")
    index = utc.tz_convert("America/New_York").tz_localize(None) + pd.Timedelta(hours=7)
    led = pl.concat([result.equity.head(1).with_columns(equity=float(result.stats["cash"])), result.equity])
    account = replace(result, equity=led, trades=result.trades.clear())
    return library(account, np.ones(led.height), index.insert(0, index[0] - pd.Timedelta(step)))


def alike(found: Any, expected: Any, loose: float = 0.0) -> bool:
    import pandas as pd

    if isinstance(expected, pd.Timestamp):
        return bool(found == expected.isoformat() + "Z")
    if isinstance(expected, pd.Timedelta):
        return bool(found == str(expected.floor("us")))
    if expected is None or expected is pd.NaT or not math.isfinite(expected):
        return found is None
    return isinstance(found, int | float) and math.isclose(found, expected, rel_tol=max(loose, 1e-9), abs_tol=1e-9)


def assert_says_the_same(result: BacktestResult, close: np.ndarray) -> None:
    """Hold every figure against the library's; those of days on its clock and with its days in a year."""
    found = familiar_stats(result, close, periods_per_year=252)
    index = result.equity["ts_utc"].dt.replace_time_zone(None).to_pandas().to_numpy().astype("datetime64[ns]")
    import pandas as pd

    told, of_days = library(result, close, pd.DatetimeIndex(index)), library_on_fx_days(result)
    for label in LABELS:
        if label != "Commissions [$]":
            expected = (of_days if label in OF_DAYS else told)[label]
            loose = lost_digits(found) if label in ("Volatility (Ann.) [%]", "Sharpe Ratio") else 0.0
            assert alike(found[label], expected, loose), f"{label}: {found[label]} and {expected}"


def lost_digits(found: Mapping[str, Any]) -> float:
    """Return the share of a small volatility that the library loses: it takes one from another number near 1."""
    volatility = (found["Volatility (Ann.) [%]"] or 0.0) / 100
    return min(5e-13 / volatility**2, 1.0) if volatility > 0 else 1.0


@settings(max_examples=30, deadline=None)
@given(seed=seeds, config=configs)
def test_an_account_of_the_library_has_the_figures_it_gives_it(seed: int, config: StrategyConfig) -> None:
    bars, laws = varied_market(seed, bars=110)
    span = lay_out(bars, laws, COSTS, symbol="EURUSD")
    result = kernc.run_span(span, replace(config, size_fraction=config.size_fraction / 4))
    if float(result.equity["equity"].to_numpy().min()) > 0:
        assert_says_the_same(result, span.close)


@needs_real_bars
def test_years_of_real_bars_have_the_figures_the_library_gives_them() -> None:
    bars, laws = real_market(3)
    span = lay_out(bars, laws, replace(COSTS, spread_pips=0.5, slippage_pips=0.0), symbol="EURUSD")
    config = replace(CONFIG, entry_probability=0.72, size_fraction=0.02, horizon_bars=6, holding_limit_bars=12)
    result = kernc.run_span(span, config)
    assert result.trades.height > 500
    assert_says_the_same(result, span.close)
    assert_says_the_same(engine.run_span(span, config), span.close)


@settings(deadline=None)
@given(seed=seeds, size=st.floats(1e-9, 0.03))
def test_a_small_volatility_keeps_its_digits(seed: int, size: float) -> None:
    equity = 1e5 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, size, 24 * 12)))
    account = by_hand(equity.tolist())
    times = account.equity["ts_utc"].to_numpy().astype("datetime64[us]")
    returns = day_returns(equity, 1e5, day_ends(times)[0])
    with localcontext(prec=60):
        days = [Decimal(value) for value in returns.tolist()]
        mean = sum(days) / len(days)
        variance = sum((one - mean) ** 2 for one in days) / (len(days) - 1)
        growth = (sum((1 + one).ln() for one in days) / len(days)).exp()
        exact = 100 * ((variance + growth**2) ** 260 - growth**520).sqrt()
        assert familiar_stats(account)["Volatility (Ann.) [%]"] == pytest.approx(float(exact), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_weeks_are_annualised_as_the_library_does(seed: int) -> None:
    values = 1e5 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.02, 40)))
    account = by_hand([1e5, *values.tolist()], timeframe=Timeframe.W1)
    found, told = familiar_stats(account), library_on_fx_days(account, "7D")
    assert all(alike(found[label], told[label]) for label in OF_DAYS)


def by_hand(
    equity: list[float],
    *,
    profits: Sequence[float] = (),
    timeframe: Timeframe = Timeframe.H1,
    start: str = "2018-01-02",
) -> BacktestResult:
    """Return an account of 100,000 with this equity, and trades of one bar each that earned these profits."""
    times = expected_opens(np.datetime64(start), np.datetime64("2020-01-01"), timeframe)[: len(equity)]
    blank = dict.fromkeys(TRADES_SCHEMA)
    rows = [
        blank
        | {"entry_bar": n, "exit_bar": n + 1, "side": "buy", "lots": 1.0, "entry_price": 1.0, "exit_price": 1.0}
        | {"profit": profit, "return_pct": profit / 1000}
        for n, profit in enumerate(profits)
    ]
    ends, periods = day_ends(times)
    stats = {
        **curve_stats(np.array(equity), 1e5, ends, periods),
        "cash": 1e5,
        "start": "first",
        "end": "last",
        "exposure_pct": 0.0,
        "commission": 0.0,
        "buy_hold_return_pct": 0.0,
        **dict.fromkeys(("spread_cost", "slippage_cost", "swap"), 0.0),
        "turnover": 2e5 * len(profits),
    }
    curve = pl.DataFrame({"ts_utc": pl.Series(times).dt.replace_time_zone("UTC"), "equity": equity})
    return BacktestResult(stats=stats, trades=pl.DataFrame(rows, schema=TRADES_SCHEMA), equity=curve)


EDGES = {
    "no trade": by_hand([1e5] * 30),
    "one bar": by_hand([1e5]),
    "two bars": by_hand([1e5, 1.01e5]),
    "ruin": by_hand([1e5] * 30 + [4e4] * 30 + [0.0] * 60, profits=[-6e4, -4e4]),
    "one trade, won": by_hand([1e5, 1.1e5] + [1.1e5] * 60, profits=[1e4]),
    "one trade, lost": by_hand([1e5, 9e4] + [9e4] * 60, profits=[-1e4]),
    "equal trades": by_hand([1e5, 1.1e5, 1.2e5] + [1.2e5] * 60, profits=[1e4, 1e4]),
    "a fortune in a day": by_hand([1e5, 1e5] + [1e12] * 40, profits=[1e12]),
}


@pytest.mark.parametrize("name", EDGES)
def test_every_figure_is_json_or_none(name: str) -> None:
    found = familiar_stats(EDGES[name], np.linspace(1.0, 1.1, EDGES[name].equity.height))
    assert tuple(found) == LABELS
    own = own_stats(EDGES[name], "EURUSD", NO_TRIALS)
    assert json.loads(json.dumps([found, own], allow_nan=False)) == [found, own]


def test_what_is_undefined_is_none_and_nothing_else() -> None:
    def undefined(name: str) -> set[str]:
        return {label for label, value in familiar_stats(EDGES[name]).items() if value is None} - {"Alpha [%]", "Beta"}

    of_trades = set(LABELS[LABELS.index("Win Rate [%]") :])
    under = {"Avg. Drawdown [%]", "Max. Drawdown Duration", "Avg. Drawdown Duration"}
    assert undefined("no trade") == of_trades | under | {"Sharpe Ratio", "Sortino Ratio", "Calmar Ratio"}
    ratios = {"Volatility (Ann.) [%]", "Sharpe Ratio", "Sortino Ratio", "Calmar Ratio", "CAGR [%]"}
    assert undefined("one bar") == of_trades | under | ratios
    no_losing = {"Profit Factor", "SQN", "Kelly Criterion"}
    assert undefined("one trade, won") == no_losing | under | {"Sortino Ratio", "Calmar Ratio"}
    assert undefined("equal trades") == no_losing | under | {"Sortino Ratio", "Calmar Ratio"}


def test_alpha_and_beta_need_the_market() -> None:
    account = by_hand([1e5, 1.01e5, 1.02e5, 1.01e5])
    assert familiar_stats(account)["Beta"] is None
    close = np.array([1.0, 1.01, 1.02, 1.01])
    assert familiar_stats(account, close)["Beta"] == pytest.approx(1, abs=1e-9)
    with pytest.raises(BadInput, match="3 bars does not fit an account over 4 bars"):
        familiar_stats(account, close[:3])


def shows(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def enter(show: Callable[[], None]) -> Callable[[], None]:
        SHOWN[name] = show
        return show

    return enter


def test_every_difference_from_the_library_is_shown() -> None:
    assert set(SHOWN) == set(statistics.DIFFERENCES)


@pytest.mark.parametrize("name", sorted(statistics.DIFFERENCES))
def test_the_difference_from_the_library_is_real(name: str) -> None:
    SHOWN[name]()


def own_clock(result: BacktestResult) -> Mapping[str, Any]:
    """Return the library's figures on UTC, as its users see them."""
    import pandas as pd

    times = pd.DatetimeIndex(result.equity["ts_utc"].dt.replace_time_zone(None).to_numpy())
    return library(result, np.ones(result.equity.height), times)


def grown(days: int, start: str = "2018-01-01") -> BacktestResult:
    """Return an account that grows by a ten thousandth an hour."""
    return by_hand((1e5 * 1.0001 ** np.arange(24 * days)).tolist(), start=start)


@shows("days")
def days() -> None:
    account = grown(60)
    found, told = familiar_stats(account)["Return (Ann.) [%]"], own_clock(account)["Return (Ann.) [%]"]
    assert found == pytest.approx(100 * (1.0001 ** (24 * 260) - 1), rel=0.03)
    assert told < 0.9 * float(found or 0)  # six UTC days of the week grow, 252 of 312 are counted


@shows("first day")
def first_day() -> None:
    account = by_hand([1e5] + [1.01e5] * 22 + [1.01e5] * 24 * 3)
    assert float(familiar_stats(account)["Return (Ann.) [%]"] or 0) > 50
    assert own_clock(account)["Return (Ann.) [%]"] == 0


@shows("ruin")
def ruin() -> None:
    found, told = familiar_stats(EDGES["ruin"]), own_clock(EDGES["ruin"])
    assert (found["Return (Ann.) [%]"], found["CAGR [%]"], found["Calmar Ratio"]) == (-100, -100, -1)
    assert (found["Volatility (Ann.) [%]"], found["Sharpe Ratio"], found["Sortino Ratio"]) == (None, None, None)
    assert told["Return (Ann.) [%]"] == 0


def two_trades() -> Span:
    rows = [(1.2, 1.2, 1.2, 1.2)] * 8
    return lay_out(candles(rows), forecasts([UP, FLAT, FLAT, FLAT, DOWN, FLAT, FLAT, FLAT]), COSTS, symbol="EURUSD")


@shows("trade returns")
def trade_returns() -> None:
    span = two_trades()
    theirs, ours = kernc.run_with_plot(span, CONFIG)
    trade = ours.trades.row(0, named=True)
    units = trade["lots"] * 100_000
    assert trade["return_pct"] == pytest.approx(100 * trade["profit"] / (units * trade["entry_price"]), rel=1e-12)
    found = theirs._results["_trades"]["ReturnPct"][0] * 100
    assert found == pytest.approx(100 * (trade["profit"] + units * 0.0002) / (units * 1.2), rel=1e-9)


@shows("open trades")
def open_trades() -> None:
    theirs, ours = kernc.run_with_plot(two_trades(), CONFIG)
    assert ours.trades["exit_reason"].to_list()[-1] == "end"
    assert familiar_stats(ours)["# Trades"] == ours.trades.height == len(theirs._results["_trades"]) + 1


@shows("commissions")
def commissions() -> None:
    theirs, ours = kernc.run_with_plot(two_trades(), CONFIG)
    closed = ours.trades.row(0, named=True)
    units = closed["lots"] * 100_000
    assert theirs._results["Commissions [$]"] == pytest.approx(closed["commission"] + units * 0.0001, rel=1e-9)
    assert familiar_stats(ours)["Commissions [$]"] == pytest.approx(float(ours.trades["commission"].sum()))
    assert familiar_stats(EDGES["no trade"])["Commissions [$]"] == 0
    assert "Commissions [$]" not in own_clock(EDGES["no trade"])


@shows("undefined")
def undefined() -> None:
    assert familiar_stats(EDGES["no trade"])["Win Rate [%]"] is None
    assert math.isnan(own_clock(EDGES["no trade"])["Win Rate [%]"])
    assert familiar_stats(grown(10))["Sortino Ratio"] is None
    assert own_clock(grown(10))["Sortino Ratio"] == math.inf


@shows("text")
def text() -> None:
    found, told = familiar_stats(grown(10)), own_clock(grown(10))
    assert isinstance(found["Duration"], str)
    assert found["Duration"] == str(told["Duration"])


def test_luck_is_that_of_the_fx_days_and_of_all_trials() -> None:
    rng = np.random.default_rng(0)
    account = by_hand((1e5 * np.exp(np.cumsum(rng.normal(1e-5, 1e-3, 24 * 200)))).tolist())
    times = account.equity["ts_utc"].to_numpy().astype("datetime64[us]")
    ends, _ = day_ends(times)
    daily = np.diff(np.log(np.concatenate(([1e5], account.equity["equity"].to_numpy()[ends]))))
    evidence = sharpe_evidence(np.expm1(daily))
    trials = TrialRegistry(sharpes={"a": 0.01, "b": 0.05, "c": None}, unrecorded=40)
    own = own_stats(account, "EURUSD", trials)
    assert own["probabilistic_sharpe"] == pytest.approx(probabilistic_sharpe(evidence), rel=1e-9)
    expected = deflated_sharpe(evidence, trials=43, sharpe_std=trials.sharpe_std)
    assert own["deflated_sharpe"] == pytest.approx(expected, rel=1e-9)
    assert own["trials_ever"] == 43
    assert own_stats(account, "EURUSD", NO_TRIALS)["deflated_sharpe"] is None  # nothing says how much trials vary
    assert own_stats(EDGES["no trade"], "EURUSD", trials)["probabilistic_sharpe"] is None


def test_costs_of_the_engine_are_shared_out() -> None:
    result = engine.run_span(two_trades(), CONFIG)
    own = own_stats(result, "EURUSD", NO_TRIALS)
    assert own["trades"] == result.trades.height == 2
    units = float(result.trades["lots"].sum()) * 100_000
    assert own["cost"] == pytest.approx(units * 0.0003 + float(result.trades["commission"].sum()), rel=1e-9)
    assert own["cost_per_trade"] == pytest.approx(float(own["cost"] or 0) / 2)
    assert own["cost_pips"] == pytest.approx(3.8, rel=1e-9)  # 2 spread, 2 x 0.5 slippage, 2 x 4 per lot of 10 a pip
