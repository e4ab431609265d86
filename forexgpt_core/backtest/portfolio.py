"""Several pairs on one account: shared margin, limits on what may be open together.

Trades are those of `backtest.engine`, bar by bar, with one difference beyond sharing: the broker looks at the margin of
the whole account at each moment's close, not at one pair's price inside the bar. Entries that were decided at the same
close fill in the order of their probability, the likeliest first, then of their symbol, each seeing what the one before
left free. So the order in which pairs are handed over changes nothing.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.backtest import layout
from forexgpt_core.backtest.engine import Laid, figures, laid_out, trades_table
from forexgpt_core.backtest.performance import Floats, Ints, Stats, Times, day_ends
from forexgpt_core.backtest.portfolio_layout import BAR, LIMITS, Account, Pairs
from forexgpt_core.backtest.portfolio_result import REFUSALS, PortfolioResult, pairs_table, risks
from forexgpt_core.backtest.portfolio_settings import PortfolioSettings
from forexgpt_core.backtest.span import Bools, Span, lay_out
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy.config import StrategyConfig


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairHistory:
    """What a pair brings into a portfolio; see `span.lay_out`."""

    candles: pl.DataFrame
    forecasts: ForecastBatch
    costs: Costs
    no_entry: Bools | None = None


def lay_out_pairs(
    pairs: Mapping[str, PairHistory],
    settings: PortfolioSettings,
    *,
    rates: Mapping[str, pl.DataFrame] | None = None,
) -> dict[str, Span]:
    """Return the spans of several pairs in the currency of one account, by symbol.

    Where a pair's costs name no currency, its commission per lot is quote currency. It is converted once, at the rate
    known at the open of the pair's first bar: a broker's list is in the account's currency and does not move.

    Args:
        rates: candles of further pairs that may convert; the pairs themselves do anyway.

    Raises:
        BadInput: see `span.lay_out`, with the pair's name before it; or the pair's costs name another currency of their
            own; or no pair converts: the text says which to fetch.
    """
    known = {symbol: pair.candles for symbol, pair in pairs.items()} | dict(rates or {})
    return {symbol: _span(symbol, pair, settings, known) for symbol, pair in pairs.items()}


def _span(symbol: str, pair: PairHistory, settings: PortfolioSettings, rates: Mapping[str, pl.DataFrame]) -> Span:
    own, account = pair.costs.account_currency, settings.account_currency
    if own not in ("", account):
        raise BadInput(
            f"the costs of {symbol} are counted in {own}, the portfolio in {account}:"
            f" set costs.account_currency of the pair to {account} or leave it empty"
        )
    costs = replace(pair.costs, account_currency=account)
    others = {name: frame for name, frame in rates.items() if instrument(name) != instrument(symbol)}
    try:
        span = lay_out(pair.candles, pair.forecasts, costs, symbol=symbol, no_entry=pair.no_entry, rates=others)
        if own or account == instrument(symbol).quote or costs.commission_per_lot == 0:
            return span
        paid = costs.commission_per_lot * float(span.quotes.rate_open[0])
        costs = replace(costs, commission_per_lot=paid)
        return lay_out(pair.candles, pair.forecasts, costs, symbol=symbol, no_entry=pair.no_entry, rates=others)
    except BadInput as error:
        raise BadInput(f"{symbol}: {error}") from None


def run_portfolio(
    spans: Mapping[str, Span], configs: Mapping[str, StrategyConfig], settings: PortfolioSettings
) -> PortfolioResult:
    """Return how several strategies would have done on one account, each on its own pair and span.

    Sizes are read from the account's equity and from the margin that all pairs leave free. A pair is closed at the last
    close of its span; before its first bar and after its last one it holds still.

    Args:
        spans: by symbol, of one timeframe, laid out in the account's currency (`lay_out_pairs`).
        configs: by symbol, one for each span.

    Raises:
        BadInput: there is no pair, or a strategy without a span or a span without a strategy; timeframes or account
            currencies differ; or a span lacks the configured horizon.
    """
    by_symbol = {instrument(name).symbol: span for name, span in spans.items()}
    strategies = {instrument(name).symbol: config for name, config in configs.items()}
    _require_alike(by_symbol, strategies, settings)
    symbols = sorted(by_symbol)
    laid = [laid_out(by_symbol[one], [strategies[one]], settings.cash) for one in symbols]
    times = np.unique(np.concatenate([by_symbol[one].ts_utc for one in symbols]))
    ends, periods = day_ends(times)
    currencies = sorted({name for one in symbols for name in _currencies(one)})
    pairs = _pairs([by_symbol[one] for one in symbols], laid, settings, times, ends, currencies)
    account = _account(pairs, times.size, len(currencies))
    from forexgpt_core.backtest.portfolio_kernels import run_pairs  # the compiler is loaded where something runs

    run_pairs(pairs, settings.limits(), account)
    return _result(symbols, pairs, account, settings, times, currencies, float(np.sqrt(periods)), laid)


def _require_alike(
    spans: Mapping[str, Span], configs: Mapping[str, StrategyConfig], settings: PortfolioSettings
) -> None:
    if not spans:
        raise BadInput("a portfolio needs at least one pair; run the backtest of a pair first")
    if odd := sorted(spans.keys() ^ configs.keys()):
        raise BadInput(f"a portfolio needs one span and one strategy for each pair; one of them lacks {', '.join(odd)}")
    for symbol, span in spans.items():
        if span.symbol != symbol:
            raise BadInput(f"the span of {symbol} holds {span.symbol}")
        if (currency := span.costs.account_of(symbol)) != settings.account_currency:
            raise BadInput(
                f"{symbol} is laid out in {currency}, the account is kept in {settings.account_currency}:"
                " lay the pairs out together"
            )
    counted = Counter(span.forecasts.timeframe for span in spans.values())
    if len(counted) > 1:
        usual = max(sorted(counted), key=lambda timeframe: counted[timeframe])
        odd = [f"{s} {spans[s].forecasts.timeframe}" for s in sorted(spans) if spans[s].forecasts.timeframe != usual]
        raise BadInput(f"the pairs of a portfolio share one timeframe: {', '.join(odd)} beside {usual}")


def _currencies(symbol: str) -> tuple[str, str]:
    pair = instrument(symbol)
    return pair.base, pair.quote


def _pairs(
    spans: list[Span],
    laid: list[Laid],
    settings: PortfolioSettings,
    times: Times,
    ends: Ints,
    currencies: list[str],
) -> Pairs:
    terms = [one.terms._replace(stop_out=0.0) for one in laid]
    if settings.leverage is not None:
        terms = [one._replace(leverage=float(settings.leverage)) for one in terms]
    return Pairs(
        bars=np.concatenate([_bars(one) for one in laid]),
        starts=np.cumsum([0, *(span.close.size for span in spans)]).astype(np.int64),
        moments=np.concatenate([np.searchsorted(times, span.ts_utc) for span in spans]).astype(np.int64),
        ends=ends,
        currencies=np.array([[currencies.index(c) for c in _currencies(span.symbol)] for span in spans], np.int64),
        terms=np.array([tuple(one) for one in terms], dtype=layout.TERMS),
        strategies=np.concatenate([one.strategies for one in laid]),
    )


def _bars(laid: Laid) -> layout.Records:
    rows = np.empty(laid.market.no_entry.size, BAR)
    for name in layout.Signals._fields:
        rows[name] = getattr(laid.signals, name)[0]
    for name in (name for name in layout.Market._fields if name != "ends"):
        rows[name] = getattr(laid.market, name)
    return rows


def _account(pairs: Pairs, moments: int, currencies: int) -> Account:
    bars, count = pairs.moments.size, pairs.starts.size - 1
    return Account(
        equity=np.empty(moments),
        exposure=np.empty((moments, currencies)),
        earned=np.empty((pairs.ends.size, count)),
        trades=np.empty(bars, layout.ENTRY),  # at most one entry fills in a bar
        exits=np.empty(bars, np.int64),
        tallies=np.zeros(count, layout.TALLY),
        total=np.zeros(1, layout.TALLY),
        refusals=np.zeros((count, LIMITS), np.int64),
    )


def _result(
    symbols: list[str],
    pairs: Pairs,
    account: Account,
    settings: PortfolioSettings,
    times: Times,
    currencies: list[str],
    yearly: float,
    laid: list[Laid],
) -> PortfolioResult:
    told = risks(account.earned, account.equity[pairs.ends], settings.cash, yearly)
    known: Stats = {"cash": settings.cash}
    bars = np.diff(pairs.starts)
    each = [
        figures(account.tallies[n : n + 1], bars=int(bars[n]), cash=settings.cash, yearly=yearly)[0] | known
        for n in range(len(symbols))
    ]
    ts_utc = pl.Series("ts_utc", times).dt.replace_time_zone("UTC")
    return PortfolioResult(
        stats={
            **figures(account.total, bars=times.size, cash=settings.cash, yearly=yearly)[0],
            **{name: int(account.refusals[:, kind].sum()) for name, kind in REFUSALS.items()},
            "bars_without_forecast": sum(int(one.common["bars_without_forecast"] or 0) for one in laid),
            **told.stats(),
            "pairs": len(symbols),
            **known,
            "start": str(np.datetime_as_string(times[0], unit="s")) + "Z",
            "end": str(np.datetime_as_string(times[-1], unit="s")) + "Z",
            "bars": int(times.size),
        },
        pairs=pairs_table(symbols, each, account, told),
        trades=_trades(symbols, pairs, account, times),
        equity=pl.DataFrame({"ts_utc": ts_utc, "equity": account.equity}),
        exposure=_exposure(ts_utc, account, currencies),
    )


def _trades(symbols: list[str], pairs: Pairs, account: Account, times: Times) -> pl.DataFrame:
    counts = account.tallies["trades"]
    chosen = np.concatenate([start + np.arange(n) for start, n in zip(pairs.starts, counts)]).astype(np.int64)
    rows, whose = account.trades[chosen], np.repeat(np.arange(len(symbols)), counts)
    rows["bar"], rows["exit_bar"] = pairs.moments[rows["bar"]], account.exits[chosen]
    order = np.lexsort((whose, rows["bar"]))
    names: NDArray[np.str_] = np.array(symbols)
    table = trades_table(times, rows[order])
    return table.select(pl.Series("symbol", names[whose[order]].tolist(), dtype=pl.String), pl.all())


def _exposure(ts_utc: pl.Series, account: Account, currencies: list[str]) -> pl.DataFrame:
    equity: Floats = account.equity[:, None]
    multiples = np.divide(account.exposure, equity, out=np.zeros_like(account.exposure), where=equity > 0)
    return pl.DataFrame({"ts_utc": ts_utc, **dict(zip(currencies, multiples.T.copy()))})
