"""The account that several pairs are traded on, and the limits that refuse entries."""

import math
from dataclasses import dataclass

from forexgpt_core.backtest.portfolio_layout import Limits
from forexgpt_core.domain.instruments import CURRENCIES
from forexgpt_core.errors import BadInput

_ANY_NUMBER = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioSettings:
    """One account for several pairs. A limit that is None limits nothing.

    Attributes:
        account_currency: that money is counted in.
        cash: of the account at the start.
        leverage: units of exposure per unit of margin, for every pair; None: that of the pair's own costs.
        stop_out: equity over used margin at which the broker closes everything; 0: never. It is looked at at every
            moment's close, and everything is closed at that close with its costs; the stop-out of a pair's own costs,
            which works inside the bar, is not read.
        max_currency_exposure: most net exposure of one currency, as a multiple of equity. A long position adds its
            value to the base currency and takes it from the quote currency; opposite pairs cancel. The account's own
            currency counts like any other.
        max_correlation: an entry is refused where its returns and those of an open position of another pair, both
            signed by their sides, correlate more than this. A correlation that is not known (fewer common bars, or a
            price that stood still) refuses too.
        correlation_bars: how many returns, between common bars, the correlation is of: the newest at the entry's open.
        max_positions: most positions open at once; every entry of a pair is one.

    Raises:
        BadInput: a value out of range; the text says which.
    """

    account_currency: str = "USD"
    cash: float = 100_000.0
    leverage: float | None = None
    stop_out: float = 0.5
    max_currency_exposure: float | None = None
    max_correlation: float | None = None
    correlation_bars: int = 250
    max_positions: int | None = None

    def __post_init__(self) -> None:
        if self.account_currency not in CURRENCIES:
            known = ", ".join(CURRENCIES)
            raise BadInput(f"unknown account_currency '{self.account_currency}' of a portfolio; known: {known}")
        if not (math.isfinite(self.cash) and self.cash > 0):
            raise BadInput(f"cash of a portfolio must be a finite number above 0, was {self.cash}")
        if self.leverage is not None and not 1 <= self.leverage < math.inf:
            raise BadInput(f"leverage of a portfolio must be a finite number from 1 on, was {self.leverage}")
        if not 0 <= self.stop_out < 1:
            raise BadInput(f"stop_out of a portfolio must lie in [0, 1), 0.5 for 50 %, was {self.stop_out}")
        if self.max_currency_exposure is not None and not self.max_currency_exposure > 0:
            raise BadInput(
                f"max_currency_exposure must be above 0, was {self.max_currency_exposure}; None for no limit"
            )
        if self.max_correlation is not None and not 0 <= self.max_correlation <= 1:
            raise BadInput(f"max_correlation must lie in [0, 1], was {self.max_correlation}; None for no limit")
        if self.correlation_bars < 2:
            raise BadInput(f"correlation_bars must be 2 or more, was {self.correlation_bars}")
        if self.max_positions is not None and self.max_positions < 1:
            raise BadInput(f"max_positions must be 1 or more, was {self.max_positions}; None for no limit")

    def limits(self) -> Limits:
        """Return the settings as the compiled loop reads them."""
        return Limits(
            cash=float(self.cash),
            stop_out=float(self.stop_out),
            max_positions=_ANY_NUMBER if self.max_positions is None else int(self.max_positions),
            max_exposure=math.inf if self.max_currency_exposure is None else float(self.max_currency_exposure),
            max_correlation=math.inf if self.max_correlation is None else float(self.max_correlation),
            correlation_bars=int(self.correlation_bars),
        )
