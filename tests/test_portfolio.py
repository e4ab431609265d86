"""Several pairs on one account: laws over random markets, against a plain event loop and against its own future."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portfolio_markets import COSTS, DEAR, HOURS, candles, forecasts, lot_value, market, strategies
from portfolio_oracle import Oracle

from forexgpt_core.backtest.engine import run_span
from forexgpt_core.backtest.portfolio import PairHistory, lay_out_pairs, run_portfolio
from forexgpt_core.backtest.portfolio_result import PortfolioResult
from forexgpt_core.backtest.portfolio_settings import PortfolioSettings
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput
from forexgpt_core.reporting.portfolio import portfolio_picture
from forexgpt_core.strategy.config import StrategyConfig

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
TRIO = ("EURUSD", "GBPUSD", "USDJPY")
CROSSES = ("EURGBP", "EURUSD", "GBPUSD")
FREE = PortfolioSettings(stop_out=0.0)
TIGHT = PortfolioSettings(
    stop_out=0.0, max_currency_exposure=2.5, max_correlation=0.3, correlation_bars=8, max_positions=3
)
seeds = st.integers(0, 2**32 - 1)


def run(
    pairs: Mapping[str, PairHistory], configs: Mapping[str, StrategyConfig], chosen: PortfolioSettings = FREE
) -> PortfolioResult:
    return run_portfolio(lay_out_pairs(pairs, chosen), configs, chosen)


def same(one: PortfolioResult, other: PortfolioResult) -> bool:
    frames = ("pairs", "trades", "equity", "exposure")
    return one.stats == other.stats and all(getattr(one, n).equals(getattr(other, n)) for n in frames)


@given(seed=seeds, symbol=st.sampled_from(["EURUSD", "USDJPY", "USDCHF"]), dear=st.booleans())
@settings(max_examples=40, deadline=None)
def test_one_pair_without_limits_is_the_single_pair_backtest_bit_for_bit(seed: int, symbol: str, dear: bool) -> None:
    pairs = market(seed, [symbol], costs=DEAR if dear else COSTS)
    configs = strategies(seed, [symbol], largest=1.0)
    span = lay_out_pairs(pairs, FREE)[symbol]
    alone, among = run_span(span, configs[symbol]), run(pairs, configs)
    assert among.trades.drop("symbol").equals(alone.trades)
    assert among.equity.equals(alone.equity)
    assert {name: among.stats[name] for name in alone.stats if name in among.stats} == {
        name: value for name, value in alone.stats.items() if name != "buy_hold_return_pct"
    }


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_pairs_that_never_trade_change_nothing(seed: int) -> None:
    names = ("AUDUSD", "EURUSD", "GBPUSD", "USDJPY")
    pairs, configs = market(seed, names[1:], costs=DEAR), dict(strategies(seed, names[1:]))
    idle = replace(configs["EURUSD"], entry_probability=1 - 1e-12)
    still = replace(pairs["GBPUSD"], forecasts=replace(pairs["GBPUSD"].forecasts, symbol="AUDUSD"))
    without = run({"EURUSD": pairs["EURUSD"], "USDJPY": pairs["USDJPY"]}, {s: configs[s] for s in ("EURUSD", "USDJPY")})
    among = run(pairs | {"AUDUSD": still}, configs | {"AUDUSD": idle, "GBPUSD": idle})
    bars = ("entry_bar", "exit_bar")  # of the common moments, which are more
    assert among.trades.drop(bars).equals(without.trades.drop(bars))
    both = without.equity.join(among.equity, on="ts_utc", suffix="_among")
    assert both.height == without.equity.height
    assert (both["equity"] == both["equity_among"]).all()


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_pairs_handed_over_does_not_matter(seed: int) -> None:
    pairs, configs = market(seed, TRIO, costs=DEAR), strategies(seed, TRIO, largest=0.08)
    turned = run(dict(reversed(pairs.items())), dict(reversed(configs.items())), TIGHT)
    assert same(run(pairs, configs, TIGHT), turned)


@given(
    seed=seeds,
    names=st.sampled_from([TRIO, CROSSES, TRIO[:2]]),
    limited=st.booleans(),
    bold=st.booleans(),
    account=st.sampled_from(["USD", "EUR", "GBP"]),
)
@settings(max_examples=40, deadline=None)
def test_it_trades_as_a_plain_event_loop_does(
    seed: int, names: tuple[str, ...], limited: bool, bold: bool, account: str
) -> None:
    chosen = replace(TIGHT if limited else FREE, account_currency=account)
    if bold:  # often ruined, or closed by the broker
        chosen = replace(chosen, leverage=200.0, stop_out=0.6, max_currency_exposure=None)
    pairs = market(seed, names, costs=DEAR)
    configs = strategies(seed, names, largest=1.0 if bold else 0.08)
    rates = market(seed + 1, ["EURUSD", "GBPUSD", "USDJPY"])
    spans = lay_out_pairs(pairs, chosen, rates={s: pair.candles for s, pair in rates.items() if s not in names})
    found, plain = run_portfolio(spans, configs, chosen), Oracle(spans, configs, chosen).run()
    words, numbers = ("entry_bar", "symbol", "exit_bar", "side", "exit_reason"), ("lots", "entry", "exit", "profit")
    theirs = pl.DataFrame(plain.trades, schema=plain.COLUMNS, orient="row").sort(*words, "lots", "entry")
    mine = found.trades.rename({"entry_price": "entry", "exit_price": "exit"}).sort(*words, "lots", "entry")
    assert mine.select(words).rows() == theirs.select(words).rows()
    np.testing.assert_allclose(mine.select(numbers).to_numpy(), theirs.select(numbers).to_numpy(), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(found.equity["equity"].to_numpy(), plain.equity, rtol=1e-9, atol=1e-6)
    names_of = {"margin": "entries_refused", "too small": "entries_too_small"}
    for kind in ("positions", "exposure", "correlation", "margin", "too small"):
        assert found.stats[names_of.get(kind, f"entries_refused_by_{kind}")] == plain.refused[kind]


def open_at_fill(trades: pl.DataFrame) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Return each trade with those that were open when it had been filled, itself included."""
    rows = sorted(trades.to_dicts(), key=lambda row: (row["entry_bar"], -row["probability"], row["symbol"]))
    found = []
    for n, row in enumerate(rows):
        at = row["entry_bar"]
        left = [r["exit_bar"] < at or (r["exit_bar"] == at and r["exit_reason"] in AT_OPEN) for r in rows[: n + 1]]
        found.append((row, [r for r, gone in zip(rows[: n + 1], left) if not gone]))
    return found


AT_OPEN = ("holding limit", "opposite signal")


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_limits_are_kept_at_every_fill(seed: int) -> None:
    names = ("EURUSD", "GBPUSD", "USDCHF")
    pairs = market(seed, names)
    found = run(pairs, strategies(seed, names, largest=0.08), TIGHT)
    rows = {s: dict(zip(p.candles["ts_utc"], p.candles.to_dicts())) for s, p in pairs.items()}
    times = found.equity["ts_utc"].to_list()
    for row, held in open_at_fill(found.trades):
        assert len(held) <= TIGHT.max_positions
        net, equity = exposure_of(row, held, found, rows, times)
        pair = instrument(row["symbol"])
        assert max(abs(net[pair.base]), abs(net[pair.quote])) <= 2.5 * equity * (1 + 1e-9)
        for other in held:
            if other["symbol"] != row["symbol"]:
                signed = (1 if row["side"] == other["side"] else -1) * alike(row, other["symbol"], pairs)
                assert signed <= 0.3 + 1e-9


def exposure_of(
    row: dict[str, Any],
    held: list[dict[str, Any]],
    found: PortfolioResult,
    rows: Mapping[str, Mapping[Any, dict[str, Any]]],
    times: list[Any],
) -> tuple[dict[str, float], float]:
    """Return the net exposures after a fill, and the equity before its costs, from candles and trades alone."""
    now, at = row["entry_utc"], row["entry_bar"]
    net = dict.fromkeys(("EUR", "GBP", "USD", "CHF"), 0.0)
    done = found.trades.filter(
        (pl.col("exit_bar") < at) | ((pl.col("exit_bar") == at) & pl.col("exit_reason").is_in(AT_OPEN))
    )
    equity = 100_000 + float(done["profit"].sum())
    for one in held:
        sign = 1 if one["side"] == "buy" else -1
        bars = rows[one["symbol"]]
        bid = bars[now]["open"] if now in bars else bars[max(t for t in bars if t < now)]["close"]
        price = bid + (1.5 * instrument(one["symbol"]).pip if sign < 0 else 0.0)
        if one is row:
            price = one["entry_price"]
        pair, worth = instrument(one["symbol"]), one["lots"] * lot_value(one["symbol"], price)
        net[pair.base] += sign * worth
        net[pair.quote] -= sign * worth
        if one is not row:
            units = one["lots"] * 100_000
            gain = sign * (price - one["entry_price"]) * units
            equity += (gain if pair.quote == "USD" else gain / price) - 3.0 * one["lots"]
    return net, equity


def alike(row: dict[str, Any], other: str, pairs: Mapping[str, PairHistory]) -> float:
    known = []
    for symbol in (row["symbol"], other):
        began = pl.lit(pairs[symbol].forecasts.origin_utc[0]).dt.replace_time_zone("UTC")
        known.append(pairs[symbol].candles.filter(pl.col("ts_utc").is_between(began, row["entry_utc"], closed="left")))
    both = known[0].join(known[1], on="ts_utc").tail(9)
    return float(np.corrcoef(*(np.diff(np.log(both[name].to_numpy())) for name in ("close", "close_right")))[0, 1])


@given(seed=seeds, cut=st.integers(20, 80), whose=st.sampled_from(TRIO))
@settings(max_examples=40, deadline=None)
def test_later_bars_of_any_pair_change_nothing_earlier(seed: int, cut: int, whose: str) -> None:
    pairs, configs = market(seed, TRIO, costs=DEAR), strategies(seed, TRIO, largest=0.08)
    now = HOURS[cut]
    time = pl.col("ts_utc").dt.replace_time_zone(None)
    was = pairs[whose]
    since = {"open": time > now, "low": time > now, "high": time >= now, "close": time >= now}  # the open is known
    moved = was.candles.with_columns(
        pl.when(late).then(pl.col(name) * 1.013).otherwise(pl.col(name)).alias(name) for name, late in since.items()
    )
    laws = replace(was.forecasts, quantiles=was.forecasts.quantiles.copy())
    laws.quantiles[laws.origin_utc >= now] *= -1
    laws.quantiles[laws.origin_utc >= now] = np.sort(laws.quantiles[laws.origin_utc >= now], axis=-1)
    later = pairs | {whose: replace(was, candles=moved, forecasts=laws)}
    one, other = run(pairs, configs, TIGHT), run(later, configs, TIGHT)
    known = pl.col("exit_utc").dt.replace_time_zone(None) < now
    assert one.trades.filter(known).equals(other.trades.filter(known))
    for frame in ("equity", "exposure"):
        assert getattr(one, frame).filter(time < now).equals(getattr(other, frame).filter(time < now))
    filled, what = pl.col("entry_utc").dt.replace_time_zone(None) <= now, ("symbol", "entry_bar", "lots", "entry_price")
    assert one.trades.filter(filled).select(what).equals(other.trades.filter(filled).select(what))


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_contributions_sum_to_the_gain_and_shares_of_risk_to_the_whole(seed: int) -> None:
    found = run(market(seed, TRIO, costs=DEAR), strategies(seed, TRIO))
    assert found.pairs["profit"].sum() == pytest.approx(found.stats["final_equity"] - 100_000, abs=1e-6)
    assert found.pairs["contribution_pct"].sum() == pytest.approx(found.stats["return_pct"], abs=1e-9)
    for symbol, profit, trades in found.pairs.select("symbol", "profit", "trades").iter_rows():
        mine = found.trades.filter(symbol=symbol)
        assert (mine.height, mine["profit"].sum()) == (trades, pytest.approx(profit, abs=1e-6))
    if found.stats["risk_pct"]:
        assert found.pairs["risk_share_pct"].sum() == pytest.approx(100)
        assert found.stats["summed_risk_pct"] == pytest.approx(found.pairs["risk_pct"].sum())
        assert found.stats["diversification_ratio"] >= 1 - 1e-9
    assert json.loads(json.dumps(found.stats, allow_nan=False)) == found.stats


def test_risks_are_those_of_the_returns_per_day() -> None:
    found = run(market(5, TRIO), strategies(5, TRIO))
    from forexgpt_core.backtest.performance import day_ends, day_returns

    ends, _ = day_ends(found.equity["ts_utc"].to_numpy().astype("datetime64[us]"))
    returns = day_returns(found.equity["equity"].to_numpy(), 100_000.0, ends)
    assert found.stats["risk_pct"] == pytest.approx(100 * returns.std(ddof=1) * math.sqrt(260), rel=1e-9)


# By hand --------------------------------------------------------------------------------------------------------------

STRATEGY = StrategyConfig(
    horizon_bars=1, entry_probability=0.6, stop_scales=900.0, take_profit_scales=900.0, size_fraction=0.3,
    holding_limit_bars=20,
)  # fmt: skip
NOTHING = replace(COSTS, spread_pips=0.0, slippage_pips=0.0, commission_per_lot=0.0, leverage=10)


def steady(
    symbol: str, closes: list[float], means: list[float], bars: list[int] | None = None, costs: Any = NOTHING
) -> PairHistory:
    """Return bars that stand still inside, each opening where it closes, with a forecast at every one of them."""
    opens = HOURS[: len(closes)] if bars is None else HOURS[bars]
    rows = [(price, price, price, price) for price in closes]
    return PairHistory(candles=candles(rows, opens), forecasts=forecasts(symbol, opens, means, 0.001), costs=costs)


UP, LIKELY, FLAT, DOWN = 0.001, 0.002, 0.0, -0.001


def test_the_likelier_order_takes_the_margin_first() -> None:
    greedy = replace(STRATEGY, size_fraction=0.6)
    pairs = {
        "EURUSD": steady("EURUSD", [1.0] * 4, [UP, FLAT, FLAT, FLAT]),
        "GBPUSD": steady("GBPUSD", [1.0] * 4, [LIKELY, FLAT, FLAT, FLAT]),
    }
    found = run(pairs, dict.fromkeys(pairs, greedy))
    assert found.trades["symbol"].to_list() == ["GBPUSD"]
    assert dict(zip(found.pairs["symbol"], found.pairs["entries_refused"])) == {"EURUSD": 1, "GBPUSD": 0}
    equal = pairs | {"EURUSD": steady("EURUSD", [1.0] * 4, [LIKELY, FLAT, FLAT, FLAT])}
    assert run(equal, dict.fromkeys(pairs, greedy)).trades["symbol"].to_list() == ["EURUSD"]


def test_exposure_counts_the_common_currency_of_two_pairs_once_for_each() -> None:
    pairs = {
        "EURUSD": steady("EURUSD", [1.0] * 4, [LIKELY, FLAT, FLAT, FLAT]),
        "GBPUSD": steady("GBPUSD", [1.0] * 4, [UP, FLAT, FLAT, FLAT]),
    }
    configs = dict.fromkeys(pairs, STRATEGY)  # each is three times the equity
    wide = run(pairs, configs, replace(FREE, max_currency_exposure=6.0))
    assert wide.exposure.select("EUR", "GBP", "USD").row(2) == (3.0, 3.0, -6.0)
    narrow = run(pairs, configs, replace(FREE, max_currency_exposure=5.9))
    assert narrow.exposure.select("EUR", "GBP", "USD").row(2) == (3.0, 0.0, -3.0)
    assert narrow.stats["entries_refused_by_exposure"] == 1
    opposite = pairs | {"GBPUSD": steady("GBPUSD", [1.0] * 4, [DOWN, FLAT, FLAT, FLAT])}
    hedged = run(opposite, configs, replace(FREE, max_currency_exposure=3.0))
    assert hedged.exposure.select("EUR", "GBP", "USD").row(2) == (3.0, -3.0, 0.0)


def test_the_broker_closes_everything_at_the_close_at_which_margin_ran_out() -> None:
    pairs = {
        "EURUSD": steady("EURUSD", [1.0, 1.0, 0.8, 0.8, 0.8], [LIKELY, FLAT, FLAT, FLAT, FLAT]),
        "GBPUSD": steady("GBPUSD", [1.0, 1.0, 1.0, 1.0], [UP, FLAT, FLAT, FLAT], bars=[0, 1, 3, 4]),  # none at 2
    }
    found = run(pairs, dict.fromkeys(pairs, STRATEGY), replace(FREE, stop_out=0.7))
    # 60,000 of margin; 3 lots of euro lose 20 %: 60,000 of 100,000. 40,000 <= 0.7 x 60,000
    assert found.trades.select("symbol", "entry_bar", "exit_bar", "exit_price", "exit_reason").rows() == [
        ("EURUSD", 1, 2, 0.8, "stop_out"),
        ("GBPUSD", 1, 2, 1.0, "stop_out"),
    ]
    assert found.equity["equity"].to_list() == pytest.approx([100_000, 100_000, 40_000, 40_000, 40_000])
    assert run(pairs, dict.fromkeys(pairs, STRATEGY), replace(FREE, stop_out=0.6)).trades["exit_reason"].to_list() == [
        "end", "end",
    ]  # fmt: skip


def test_ruin_by_one_pair_ends_the_account_for_all() -> None:
    pairs = {
        "EURUSD": steady("EURUSD", [1.0, 1.0, 0.5, 0.5, 0.5], [LIKELY, FLAT, FLAT, FLAT, FLAT]),
        "GBPUSD": steady("GBPUSD", [1.0] * 5, [UP, FLAT, FLAT, UP, FLAT]),
    }
    found = run(pairs, dict.fromkeys(pairs, STRATEGY))
    assert found.trades["exit_reason"].to_list() == ["ruin", "ruin"]
    assert found.equity["equity"].to_list()[2:] == [0, 0, 0]
    assert (found.stats["ruined"], found.stats["return_pct"], found.stats["final_equity"]) == (True, -100, 0)
    assert found.exposure.drop("ts_utc").row(4) == (0, 0, 0)


def test_an_entry_alike_an_open_position_is_refused_and_its_opposite_is_not() -> None:
    zigzag = [1.0, 1.001] * 5
    moved = [1.3 * x for x in zigzag]

    def result(mean: float) -> PortfolioResult:
        pairs = {
            "EURUSD": steady("EURUSD", zigzag, [FLAT] * 5 + [LIKELY] + [FLAT] * 4),
            "GBPUSD": steady("GBPUSD", moved, [FLAT] * 6 + [mean] + [FLAT] * 3),
        }
        return run(pairs, dict.fromkeys(pairs, STRATEGY), replace(FREE, max_correlation=0.9, correlation_bars=5))

    assert result(UP).trades["symbol"].to_list() == ["EURUSD"]
    assert result(UP).stats["entries_refused_by_correlation"] == 1
    assert result(DOWN).trades["symbol"].to_list() == ["EURUSD", "GBPUSD"]


def test_a_correlation_that_is_not_known_refuses() -> None:
    pairs = {
        "EURUSD": steady("EURUSD", [1.0] * 6, [FLAT, FLAT, FLAT, LIKELY, FLAT, FLAT]),
        "GBPUSD": steady("GBPUSD", [1.0, 1.001] * 3, [FLAT, FLAT, FLAT, DOWN, FLAT, FLAT]),
    }
    for bars in (3, 30):  # the euro stood still; there are too few bars
        chosen = replace(FREE, max_correlation=0.9, correlation_bars=bars)
        assert run(pairs, dict.fromkeys(pairs, STRATEGY), chosen).stats["entries_refused_by_correlation"] == 1


def test_the_picture_is_drawn_with_trades_and_without() -> None:
    pairs, configs = market(1, TRIO), strategies(1, TRIO)
    idle = {symbol: replace(config, entry_probability=1 - 1e-12) for symbol, config in configs.items()}
    for chosen in (configs, idle):
        assert portfolio_picture(run(pairs, chosen), "three pairs").startswith(b"\x89PNG")


# Bad input ------------------------------------------------------------------------------------------------------------


def test_bad_input_is_named_in_one_line() -> None:
    pairs, configs = market(1, TRIO), strategies(1, TRIO)
    spans = lay_out_pairs(pairs, FREE)
    daily = replace(spans["GBPUSD"], forecasts=replace(spans["GBPUSD"].forecasts, timeframe="M15"))
    euro = replace(FREE, account_currency="EUR")
    cases: list[tuple[Any, Any, PortfolioSettings, str]] = [
        ({}, {}, FREE, "at least one pair"),
        (spans, {}, FREE, "lacks EURUSD, GBPUSD, USDJPY"),
        (spans, configs, euro, "EURUSD is laid out in USD, the account is kept in EUR"),
        (spans | {"GBPUSD": daily}, configs, FREE, "share one timeframe: GBPUSD M15 beside H1"),
        (spans | {"GBPUSD": spans["EURUSD"]}, configs, FREE, "the span of GBPUSD holds EURUSD"),
        (spans, dict(configs) | {"EURUSD": StrategyConfig()}, FREE, "horizon_bars 24"),
    ]
    for given_spans, given_configs, chosen, message in cases:
        with pytest.raises(BadInput, match=message) as refused:
            run_portfolio(given_spans, given_configs, chosen)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cash": 0.0}, "cash"),
        ({"cash": math.nan}, "cash"),
        ({"account_currency": "XYZ"}, "unknown account_currency 'XYZ'"),
        ({"leverage": 0.5}, "leverage"),
        ({"stop_out": 1.0}, "stop_out"),
        ({"max_currency_exposure": 0.0}, "max_currency_exposure"),
        ({"max_correlation": 1.5}, "max_correlation"),
        ({"correlation_bars": 1}, "correlation_bars"),
        ({"max_positions": 0}, "max_positions"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        PortfolioSettings(**values)


def test_a_pair_that_nothing_converts_names_what_to_fetch() -> None:
    pairs = {"EURGBP": market(1, CROSSES)["EURGBP"]}
    with pytest.raises(BadInput, match=r"^EURGBP: turning GBP into USD needs the candles of GBPUSD; fetch them"):
        lay_out_pairs(pairs, FREE)
    assert lay_out_pairs(pairs, FREE, rates={"GBPUSD": market(1, CROSSES)["GBPUSD"].candles})["EURGBP"].close.size


def test_a_commission_in_quote_currency_is_paid_in_that_of_the_account() -> None:
    yen = replace(NOTHING, commission_per_lot=350.0)
    pairs = {"USDJPY": steady("USDJPY", [100.0] * 4, [UP, FLAT, FLAT, FLAT], costs=yen)}
    found = run(pairs, {"USDJPY": STRATEGY})
    lots = found.trades["lots"].item()
    assert lots > 0
    assert found.stats["commission"] == pytest.approx(2 * lots * 3.5, rel=1e-12)  # 350 yen at 100 are 3.50 dollars
    named = {"USDJPY": replace(pairs["USDJPY"], costs=replace(yen, account_currency="USD", commission_per_lot=3.5))}
    assert same(run(named, {"USDJPY": STRATEGY}), found)


def test_costs_in_another_currency_are_refused() -> None:
    pairs = market(1, TRIO, costs=replace(COSTS, account_currency="EUR"))
    with pytest.raises(BadInput, match="the costs of EURUSD are counted in EUR, the portfolio in USD"):
        lay_out_pairs(pairs, FREE)


# Real candles ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="no candles beside the repository")
def test_ten_real_pairs_on_one_account() -> None:
    pairs = {file.name[:6]: momentum(file) for file in sorted(DATA.glob("*_H1.parquet"))}
    assert len(pairs) == 10
    config = StrategyConfig(entry_probability=0.62, size_fraction=0.02)
    chosen = PortfolioSettings(max_currency_exposure=2.0, max_correlation=0.7, max_positions=4)
    found = run(pairs, dict.fromkeys(pairs, config), chosen)
    assert found.stats["trades"] > 1_000
    assert found.pairs["profit"].sum() == pytest.approx(found.stats["final_equity"] - chosen.cash, abs=1e-3)
    assert found.stats["diversification_ratio"] > 1.2
    assert all(found.stats[f"entries_refused_by_{kind}"] > 0 for kind in ("positions", "exposure", "correlation"))
    assert not found.stats["ruined"]


def momentum(file: Path) -> PairHistory:
    bars = clean(pl.read_parquet(file), Timeframe.H1).bars.filter(pl.col("ts_utc").dt.year().is_between(2013, 2018))
    price = np.log(bars["close"].to_numpy())
    moved = np.concatenate([np.zeros(24), price[24:] - price[:-24]])
    scale = np.full((bars.height, 1), moved.std())
    laws = ForecastBatch(
        symbol=file.name[:6],
        timeframe="H1",
        family="momentum",
        origin_utc=bars["ts_utc"].to_numpy().astype("datetime64[us]"),
        horizons_bars=(24,),
        quantiles=(0.5 * moved[:, None] + scale * SCORES)[:, None, :],
        scale=scale,
    )
    return PairHistory(candles=bars, forecasts=laws.take(np.arange(48, bars.height)), costs=COSTS)
