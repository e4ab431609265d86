"""Whole trades worked out by hand to the cent, as data for any test that books them.

Four pairs, each in a dollar and a euro account, bought and sold, before a rise and before a fall. Every trade is opened
at the open of bar 1 (Wednesday 2018-03-14, 13:00 New York) and closed at that of bar 9 (Thursday, 21:00), so it is held
over Wednesday's night, which counts three, and Thursday's. Each account's ledger below is spelled out step by step in
exact arithmetic and shares nothing with the code it judges; the totals in cents stand in CENTS.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

import polars as pl

from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.orders import Side

D = Decimal
ENTRY_BAR, WEDNESDAY_BAR, THURSDAY_BAR, EXIT_BAR = 1, 2, 8, 9
FIRST_OPEN = datetime(2018, 3, 14, 13, tzinfo=UTC)  # 09:00 New York, which went to summer time three days before
STEP = timedelta(hours=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What the account booked: prices of both fills, and account money, unrounded."""

    entry_price: Decimal
    exit_price: Decimal
    gross: Decimal
    swap: Decimal
    commission: Decimal

    @property
    def net(self) -> Decimal:
        """Return what the trade added to the balance."""
        return self.gross + self.swap - self.commission


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One trade and its market.

    Attributes:
        candles: H4 bars of the pair.
        rates: H4 bars of the pairs that convert, from one bar before on.
        net_cents: what the trade adds to the balance, in hundredths of the account's currency.
    """

    name: str
    symbol: str
    side: Side
    lots: float
    costs: Costs
    candles: pl.DataFrame
    rates: Mapping[str, pl.DataFrame]
    ledger: Ledger
    net_cents: int
    entry_bar: int = ENTRY_BAR
    exit_bar: int = EXIT_BAR


def bars(opens: str, reach: str, spreads: str = "", first_open: datetime = FIRST_OPEN) -> pl.DataFrame:
    """Return bars that each close where the next one opens and reach a little beyond both; the last price is a close.

    Args:
        spreads: ask minus bid at each open, one for every price; the candles have an ask side where it is given.
    """
    prices, beyond = [D(text) for text in opens.split()], D(reach)
    rows = []
    for n, (first, last) in enumerate(itertools.pairwise(prices)):
        row = (first, max(first, last) + beyond, min(first, last) - beyond, last)
        rows.append({"ts_utc": first_open + n * STEP, **dict(zip(("open", "high", "low", "close"), row, strict=True))})
        if spreads:
            spread, then = (D(text) for text in spreads.split()[n : n + 2])
            a, b = first + spread, last + then
            ask = (a, max(a, b) + beyond, min(a, b) - beyond, b)
            rows[-1] |= dict(zip(("ask_open", "ask_high", "ask_low", "ask_close"), ask, strict=True))
    floats = [{k: float(v) if isinstance(v, Decimal) else v for k, v in row.items()} | {"volume": None} for row in rows]
    frame = pl.DataFrame(floats, schema_overrides={"ts_utc": pl.Datetime("us", "UTC"), "volume": pl.Float64})
    return frame.select("ts_utc", "open", "high", "low", "close", "volume", *(c for c in frame.columns if "ask" in c))


# EURUSD ---------------------------------------------------------------------------------------------------------------

EURUSD_UP = bars("1.23870 1.23910 1.23700 1.23755 1.23800 1.24010 1.24100 1.24260 1.24300 1.24520 1.24600", "0.0003")
EURUSD_DOWN = bars("1.23870 1.23910 1.24000 1.23655 1.23500 1.23410 1.23300 1.23260 1.23100 1.22980 1.22900", "0.0003")
EURUSD_COSTS = {
    "spread_pips": 1.2,
    "slippage_pips": 0.2,
    "commission_per_lot": 3.5,
    "swap_long_pips": -0.62,
    "swap_short_pips": 0.21,
}


def eurusd_fills(side: Side, rises: bool) -> tuple[Decimal, Decimal]:
    bid_in, bid_out = D("1.23910"), D("1.24520") if rises else D("1.22980")
    spread, slippage = D("0.00012"), D("0.00002")
    if side is Side.BUY:  # at the ask, and out at the bid
        return bid_in + spread + slippage, bid_out - slippage
    return bid_in - slippage, bid_out + spread + slippage


def eurusd_in_usd(side: Side, rises: bool) -> Ledger:
    """0.7 lots are 70,000 euros; profit is in dollars as it stands."""
    bought, sold = eurusd_fills(side, rises)
    gross = 70_000 * (sold - bought) * side.sign
    a_night = D("-0.000062") if side is Side.BUY else D("0.000021")  # dollars per euro
    swap = 70_000 * a_night * 3 + 70_000 * a_night
    commission = D("0.7") * D("3.5") + D("0.7") * D("3.5")
    return Ledger(entry_price=bought, exit_price=sold, gross=gross, swap=swap, commission=commission)


def eurusd_in_eur(side: Side, rises: bool) -> Ledger:
    """Dollars of profit are turned into euros at the price of the exit, those of a night at the night's bid."""
    bought, sold = eurusd_fills(side, rises)
    gross = 70_000 * (sold - bought) * side.sign / sold
    a_night = D("-0.000062") if side is Side.BUY else D("0.000021")
    wednesday, thursday = (D("1.23700"), D("1.24300")) if rises else (D("1.24000"), D("1.23100"))
    swap = 70_000 * a_night * 3 / wednesday + 70_000 * a_night / thursday
    commission = D("0.7") * D("3.5") * 2  # three and a half euros a lot
    return Ledger(entry_price=bought, exit_price=sold, gross=gross, swap=swap, commission=commission)


# USDJPY ---------------------------------------------------------------------------------------------------------------

USDJPY_UP = bars("106.420 106.350 106.310 106.400 106.520 106.610 106.700 106.760 106.880 107.205 107.300", "0.02")
USDJPY_DOWN = bars("106.420 106.350 106.310 106.200 106.020 105.910 105.800 105.760 105.680 105.480 105.400", "0.02")
EURJPY_UP = bars("131.600 131.720 131.800 131.640 131.700 131.900 132.000 132.100 132.300 132.400 132.900 133.000",
                 "0.02", first_open=FIRST_OPEN - STEP)  # fmt: skip
EURJPY_DOWN = bars("131.600 131.720 131.800 131.640 131.500 131.300 131.000 130.800 130.500 130.200 130.000 129.900",
                   "0.02", first_open=FIRST_OPEN - STEP)  # fmt: skip
USDJPY_COSTS = {
    "spread_source": "session",
    "spread_by_hour_pips": tuple(4.0 if hour == 17 else 0.9 if hour in range(8, 17) else 1.4 for hour in range(24)),
    "slippage_pips": 0.3,
    "commission_per_lot": 2.0,
    "commission_percent": 0.001,
    "swap_long_pips": 0.35,
    "swap_short_pips": -0.81,
}


def usdjpy_fills(side: Side, rises: bool) -> tuple[Decimal, Decimal]:
    bid_in, bid_out = D("106.350"), D("107.205") if rises else D("105.480")
    afternoon, evening, slippage = D("0.009"), D("0.014"), D("0.003")  # in at 13:00 New York, out at 21:00
    if side is Side.BUY:
        return bid_in + afternoon + slippage, bid_out - slippage
    return bid_in - slippage, bid_out + evening + slippage


def usdjpy_in_usd(side: Side, rises: bool) -> Ledger:
    """1.3 lots are 130,000 dollars, the account's own: a commission of .001 % is 1.30 dollars at any price."""
    bought, sold = usdjpy_fills(side, rises)
    gross = 130_000 * (sold - bought) * side.sign / sold
    a_night = D("0.0035") if side is Side.BUY else D("-0.0081")  # yen per dollar
    wednesday, thursday = D("106.310"), D("106.880") if rises else D("105.680")
    swap = 130_000 * a_night * 3 / wednesday + 130_000 * a_night / thursday
    commission = 2 * (D("1.3") * 2 + D("1.30"))
    return Ledger(entry_price=bought, exit_price=sold, gross=gross, swap=swap, commission=commission)


def usdjpy_in_eur(side: Side, rises: bool) -> Ledger:
    """Yen are divided by EURJPY: the close of its candle that ended at the moment of the booking."""
    bought, sold = usdjpy_fills(side, rises)
    at_entry, wednesday = D("131.800"), D("131.640")
    thursday, at_exit = (D("132.400"), D("132.900")) if rises else (D("130.200"), D("130.000"))
    gross = 130_000 * (sold - bought) * side.sign / at_exit
    a_night = D("0.0035") if side is Side.BUY else D("-0.0081")
    swap = 130_000 * a_night * 3 / wednesday + 130_000 * a_night / thursday
    opening = D("1.3") * 2 + 130_000 * bought / at_entry * D("0.00001")
    closing = D("1.3") * 2 + 130_000 * sold / at_exit * D("0.00001")
    return Ledger(entry_price=bought, exit_price=sold, gross=gross, swap=swap, commission=opening + closing)


# EURGBP ---------------------------------------------------------------------------------------------------------------

EURGBP_SPREADS = "0.00012 0.00015 0.00031 0.00014 0.00012 0.00011 0.00013 0.00012 0.00035 0.00018 0.00012"
EURGBP_UP = bars(
    "0.88640 0.88620 0.88650 0.88700 0.88730 0.88790 0.88810 0.88900 0.88940 0.89255 0.89300", "0.0002", EURGBP_SPREADS
)
EURGBP_DOWN = bars(
    "0.88640 0.88620 0.88650 0.88500 0.88430 0.88390 0.88310 0.88200 0.88140 0.88060 0.88000", "0.0002", EURGBP_SPREADS
)
GBPUSD = bars("1.39800 1.39700 1.39650 1.39720 1.39600 1.39500 1.39400 1.39450 1.39500 1.39350 1.39410 1.39400",
              "0.0003", first_open=FIRST_OPEN - STEP)  # fmt: skip
EURGBP_COSTS = {
    "spread_source": "candles",
    "spread_pips": 9.0,
    "slippage_pips": 0.1,
    "slippage_spread_share": 0.2,
    "commission_per_lot": 0.0,
    "commission_percent": 0.0025,
    "swap_long_pips": -0.55,
    "swap_short_pips": -0.10,
}


def eurgbp_fills(side: Side, rises: bool) -> tuple[Decimal, Decimal]:
    bid_in, bid_out = D("0.88620"), D("0.89255") if rises else D("0.88060")
    spread_in, spread_out = D("0.00015"), D("0.00018")
    slip_in = D("0.00001") + D("0.2") * spread_in  # 0.4 pips
    slip_out = D("0.00001") + D("0.2") * spread_out  # 0.46 pips
    if side is Side.BUY:
        return bid_in + spread_in + slip_in, bid_out - slip_out
    return bid_in - slip_in, bid_out + spread_out + slip_out


def eurgbp_in_usd(side: Side, rises: bool) -> Ledger:
    """Two lots are 200,000 euros; pounds are multiplied by GBPUSD as its last closed candle has it."""
    bought, sold = eurgbp_fills(side, rises)
    at_entry, wednesday, thursday, at_exit = D("1.39650"), D("1.39720"), D("1.39350"), D("1.39410")
    gross = 200_000 * (sold - bought) * side.sign * at_exit
    a_night = D("-0.000055") if side is Side.BUY else D("-0.00001")  # pounds per euro
    swap = 200_000 * a_night * 3 * wednesday + 200_000 * a_night * thursday
    commission = 200_000 * bought * at_entry * D("0.000025") + 200_000 * sold * at_exit * D("0.000025")
    return Ledger(entry_price=bought, exit_price=sold, gross=gross, swap=swap, commission=commission)


def eurgbp_in_eur(side: Side, rises: bool) -> Ledger:
    """The notional is 200,000 euros at any price: 5 euros a side."""
    bought, sold = eurgbp_fills(side, rises)
    gross = 200_000 * (sold - bought) * side.sign / sold
    a_night = D("-0.000055") if side is Side.BUY else D("-0.00001")
    wednesday, thursday = D("0.88650"), D("0.88940") if rises else D("0.88140")
    swap = 200_000 * a_night * 3 / wednesday + 200_000 * a_night / thursday
    return Ledger(entry_price=bought, exit_price=sold, gross=gross, swap=swap, commission=D(5) + D(5))


# XAUUSD ---------------------------------------------------------------------------------------------------------------

XAUUSD_UP = bars("1324.50 1325.10 1325.90 1324.20 1323.80 1326.00 1327.70 1328.40 1329.10 1337.75 1338.00", "0.50")
XAUUSD_DOWN = bars("1324.50 1325.10 1325.90 1322.20 1320.80 1319.00 1318.70 1317.40 1316.10 1313.30 1313.00", "0.50")
EURUSD_RATE = bars("1.23900 1.23870 1.23910 1.23700 1.23755 1.23800 1.24010 1.24100 1.24260 1.24300 1.24520 1.24600",
                   "0.0003", first_open=FIRST_OPEN - STEP)  # fmt: skip
XAUUSD_COSTS = {
    "spread_pips": 3.5,
    "slippage_pips": 0.5,
    "slippage_range_share": 0.05,
    "commission_per_lot": 7.0,
    "swap_long_pips": -4.1,
    "swap_short_pips": 1.2,
}


def xauusd_fills(side: Side, rises: bool) -> tuple[Decimal, Decimal]:
    """A pip of gold is ten cents. The range of the bar before is the way from open to close and .50 at both ends."""
    bid_in, bid_out = D("1325.10"), D("1337.75") if rises else D("1313.30")
    spread = D("0.35")
    slip_in = D("0.05") + D("0.05") * (D("1325.10") - D("1324.50") + 1)  # bar 0
    slip_out = D("0.05") + D("0.05") * (abs(bid_out - (D("1329.10") if rises else D("1316.10"))) + 1)  # bar 8
    if side is Side.BUY:
        return bid_in + spread + slip_in, bid_out - slip_out
    return bid_in - slip_in, bid_out + spread + slip_out


def xauusd_in_usd(side: Side, rises: bool) -> Ledger:
    """0.4 lots are 40 ounces."""
    bought, sold = xauusd_fills(side, rises)
    gross = 40 * (sold - bought) * side.sign
    a_night = D("-0.41") if side is Side.BUY else D("0.12")  # dollars per ounce
    swap = 40 * a_night * 3 + 40 * a_night
    return Ledger(entry_price=bought, exit_price=sold, gross=gross, swap=swap, commission=D("2.80") + D("2.80"))


def xauusd_in_eur(side: Side, rises: bool) -> Ledger:
    """Dollars are divided by EURUSD as its last closed candle has it; seven euros a lot and side."""
    bought, sold = xauusd_fills(side, rises)
    wednesday, thursday, at_exit = D("1.23700"), D("1.24300"), D("1.24520")
    gross = 40 * (sold - bought) * side.sign / at_exit
    a_night = D("-0.41") if side is Side.BUY else D("0.12")
    swap = 40 * a_night * 3 / wednesday + 40 * a_night / thursday
    return Ledger(entry_price=bought, exit_price=sold, gross=gross, swap=swap, commission=D("2.80") + D("2.80"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """One pair in both accounts."""

    lots: float
    up: pl.DataFrame
    down: pl.DataFrame
    costs: Mapping[str, object]
    ledgers: Mapping[str, Callable[[Side, bool], Ledger]]
    rates: Mapping[str, tuple[str, pl.DataFrame, pl.DataFrame]]  # by account: the pair that converts, up and down


MARKETS = {
    "EURUSD": Market(
        lots=0.7,
        up=EURUSD_UP,
        down=EURUSD_DOWN,
        costs=EURUSD_COSTS,
        ledgers={"USD": eurusd_in_usd, "EUR": eurusd_in_eur},
        rates={},
    ),
    "USDJPY": Market(
        lots=1.3,
        up=USDJPY_UP,
        down=USDJPY_DOWN,
        costs=USDJPY_COSTS,
        ledgers={"USD": usdjpy_in_usd, "EUR": usdjpy_in_eur},
        rates={"EUR": ("EURJPY", EURJPY_UP, EURJPY_DOWN)},
    ),
    "EURGBP": Market(
        lots=2.0,
        up=EURGBP_UP,
        down=EURGBP_DOWN,
        costs=EURGBP_COSTS,
        ledgers={"USD": eurgbp_in_usd, "EUR": eurgbp_in_eur},
        rates={"USD": ("GBPUSD", GBPUSD, GBPUSD)},
    ),
    "XAUUSD": Market(
        lots=0.4,
        up=XAUUSD_UP,
        down=XAUUSD_DOWN,
        costs=XAUUSD_COSTS,
        ledgers={"USD": xauusd_in_usd, "EUR": xauusd_in_eur},
        rates={"EUR": ("EURUSD", EURUSD_RATE, EURUSD_RATE)},
    ),
}

CENTS = {
    "EURUSD in USD, buy before a rise": 39354,
    "EURUSD in USD, buy before a fall": -68446,
    "EURUSD in USD, sell before a rise": -43722,
    "EURUSD in USD, sell before a fall": 64078,
    "EURUSD in EUR, buy before a rise": 31501,
    "EURUSD in EUR, buy before a fall": -55740,
    "EURUSD in EUR, sell before a rise": -35202,
    "EURUSD in EUR, sell before a fall": 52004,
    "USDJPY in USD, buy before a rise": 102793,
    "USDJPY in USD, buy before a fall": -108141,
    "USDJPY in USD, sell before a rise": -110825,
    "USDJPY in USD, sell before a fall": 99994,
    "USDJPY in EUR, buy before a rise": 82818,
    "USDJPY in EUR, buy before a fall": -87844,
    "USDJPY in EUR, sell before a rise": -89515,
    "USDJPY in EUR, sell before a fall": 81061,
    "EURGBP in USD, buy before a rise": 163086,
    "EURGBP in USD, buy before a fall": -170096,
    "EURGBP in USD, sell before a rise": -186825,
    "EURGBP in USD, sell before a fall": 146373,
    "EURGBP in EUR, buy before a rise": 131048,
    "EURGBP in EUR, buy before a fall": -138523,
    "EURGBP in EUR, sell before a rise": -150114,
    "EURGBP in EUR, sell before a fall": 119210,
    "XAUUSD in USD, buy before a rise": 39430,
    "XAUUSD in USD, buy before a fall": -57200,
    "XAUUSD in USD, sell before a rise": -53290,
    "XAUUSD in USD, sell before a fall": 45680,
    "XAUUSD in EUR, buy before a rise": 31527,
    "XAUUSD in EUR, buy before a fall": -46075,
    "XAUUSD in EUR, sell before a rise": -42898,
    "XAUUSD in EUR, sell before a fall": 36583,
}


def cents(amount: Decimal) -> int:
    """Return hundredths, half to even."""
    return int((amount * 100).quantize(D(1), rounding=ROUND_HALF_EVEN))


def _scenario(symbol: str, account: str, side: Side, rises: bool) -> Scenario:
    market, name = MARKETS[symbol], f"{symbol} in {account}, {side} before a {'rise' if rises else 'fall'}"
    rates = {}
    if account in market.rates:
        converting, up, down = market.rates[account]
        rates = {converting: up if rises else down}
    return Scenario(
        name=name,
        symbol=symbol,
        side=side,
        lots=market.lots,
        costs=Costs(account_currency=account, **market.costs),
        candles=market.up if rises else market.down,
        rates=rates,
        ledger=market.ledgers[account](side, rises),
        net_cents=CENTS[name],
    )


SCENARIOS = [
    _scenario(symbol, account, side, rises)
    for symbol in MARKETS
    for account in ("USD", "EUR")
    for side in (Side.BUY, Side.SELL)
    for rises in (True, False)
]
