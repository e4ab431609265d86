"""What an indicator is: a named function of bars with checked parameters, known warm-up and known memory."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.bars import ASK_PRICES, PRICES
from forexgpt_core.domain.clock import Timeframe, Times
from forexgpt_core.errors import BadInput, ForexGPTError

Floats = NDArray[np.float64]
Columns = dict[str, Floats]
Value = int | float
Values = Mapping[str, Value]

LONGEST_BARS = 10_000
_FORGOTTEN = 1e-13  # of its weight is what a recursive average may keep of a bar that is left out


class Bars:
    """The bars of one timeframe as arrays, oldest first; (n,) each, in quote currency. What has no value is NaN.

    Attributes:
        symbol: the pair's, "" where nothing asks for it.
        ts_utc: opens.
        volume: tick counts, NaN where the source has none.
        ask_close: NaN where the source has no ask side.
        others: closes of the bars of other pairs with the same opens, by symbol.
        events: the economic calendar (see `domain.events`), None where nothing asks for it.
    """

    def __init__(
        self,
        table: pl.DataFrame,
        timeframe: Timeframe,
        *,
        symbol: str = "",
        others: Mapping[str, Floats] | None = None,
        events: pl.DataFrame | None = None,
    ) -> None:
        self.timeframe, self.symbol, self.others, self.events = timeframe, symbol, dict(others or {}), events
        self.ts_utc: Times = table["ts_utc"].to_numpy().astype("datetime64[us]")
        self.open, self.high, self.low, self.close = (_floats(table, name) for name in PRICES)
        self.volume, self.ask_close = _floats(table, "volume"), _floats(table, ASK_PRICES[-1])

    def __len__(self) -> int:
        return self.close.size

    @cached_property
    def previous_close(self) -> Floats:
        """Return the close of the bar before each; NaN for the first."""
        return shifted(self.close, 1)

    @cached_property
    def log_return(self) -> Floats:
        """Return log close-to-close returns; NaN for the first bar."""
        return np.asarray(np.log(self.close / self.previous_close))

    @cached_property
    def change(self) -> Floats:
        """Return close-to-close differences; NaN for the first bar."""
        return np.asarray(self.close - self.previous_close)

    @cached_property
    def typical(self) -> Floats:
        """Return the mean of high, low and close."""
        return np.asarray((self.high + self.low + self.close) / 3)

    @cached_property
    def true_range(self) -> Floats:
        """Return Wilder's true range; NaN for the first bar, which has no close before it."""
        top, bottom = np.maximum(self.high, self.previous_close), np.minimum(self.low, self.previous_close)
        return np.asarray(top - bottom)


Compute = Callable[..., Columns]  # of Bars and the parameters as keywords; (n,) each, by output name


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A setting of an indicator; a whole number where its default is one."""

    default: Value
    least: float
    most: float

    def checked(self, where: str, value: object) -> Value:
        """Return a lawful value.

        Raises:
            BadInput: another type, or out of bounds.
        """
        whole = isinstance(self.default, int)
        kind = "a whole number" if whole else "a number"
        given = value if isinstance(value, int if whole else int | float) and not isinstance(value, bool) else math.nan
        if self.least <= given <= self.most:
            return given if whole else float(given)
        raise BadInput(f"{where} must be {kind} from {self.least:g} to {self.most:g}, was {value!r}")


def window(default: int, least: int = 2, most: int = LONGEST_BARS) -> Parameter:
    """Return a parameter that counts bars."""
    return Parameter(default=default, least=least, most=most)


def number(default: float, least: float, most: float) -> Parameter:
    """Return a parameter that is any number between bounds."""
    return Parameter(default=float(default), least=least, most=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """One entry of the catalogue.

    Attributes:
        outputs: names of its columns, before parameters and timeframe are appended.
        per_row: it speaks of the base bar itself (its time, known events) and has no timeframe of its own.
        each_pair: it is computed once for each other pair, whose closes it gets as `other`.
        needs: what it reads beyond prices: "volume", "ask", "pairs", "events".
        warm_up: bars before the first one with a value, given the parameters.
        forget: bars on top of the warm-up after which what came before no longer matters (to 1e-9 and less).
        rule: what the parameters must satisfy together, as text and as test; ("", always) for none.
    """

    name: str
    family: str
    about: str
    outputs: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    compute: Compute
    warm_up: Callable[..., int]
    forget: Callable[..., int]
    per_row: bool = False
    each_pair: bool = False
    needs: frozenset[str] = frozenset()
    rule: tuple[str, Callable[..., bool]] = ("", lambda **_: True)
    defaults: dict[str, Value] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "defaults", {name: p.default for name, p in self.parameters.items()})

    def memory(self, values: Values) -> int:
        """Return how many bars before a row decide its value; more change nothing beyond 1e-9 of it."""
        return self.warm_up(**values) + self.forget(**values)

    def column_names(self, values: Values, pairs: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the columns' names without the timeframe: `macd_12_26_9`, `cross_beta_48_gbpusd`."""
        suffix = "".join(f"_{values[name]:g}" for name in self.parameters)
        ends = [f"{suffix}_{pair.lower()}" for pair in pairs] if self.each_pair else [suffix]
        return tuple(f"{output}{end}" for end in ends for output in self.outputs)

    def columns(self, bars: Bars, values: Values, pairs: Sequence[str] = ()) -> Columns:
        """Compute the columns, named as `column_names` says.

        Raises:
            BadInput: the function failed, or did not return one value per bar for each of its outputs.
        """
        beside: list[dict[str, Floats]] = [{"other": bars.others[pair]} for pair in pairs] if self.each_pair else [{}]
        parts = [self._computed(bars, {**values, **one}) for one in beside]
        arrays = [part[output] for part in parts for output in self.outputs]
        return dict(zip(self.column_names(values, pairs), arrays, strict=True))

    def _computed(self, bars: Bars, arguments: Mapping[str, object]) -> Columns:
        try:
            part = self.compute(bars, **arguments)
        except ForexGPTError:
            raise
        except Exception as error:  # it may be another package's
            raise BadInput(
                f"indicator '{self.name}' failed on {len(bars)} {bars.timeframe} bars ({type(error).__name__}: {error})"
                "; it must work on any number of bars, none included"
            ) from error
        for output in self.outputs:
            if output not in part:
                raise BadInput(f"indicator '{self.name}' did not return its column '{output}'")
            values = part[output]
            if values.shape != (len(bars),) or values.dtype != np.float64:
                raise BadInput(
                    f"indicator '{self.name}' returned {values.dtype} of shape {values.shape} for its column '{output}'"
                    f", expected float64 of shape ({len(bars)},)"
                )
        return part


Decorator = Callable[[Compute], Compute]


@dataclass(slots=True)
class Family:
    """Collects the indicators of one module; its `indicator` is a decorator."""

    name: str
    members: list[Indicator] = field(default_factory=list)

    def indicator(
        self,
        *outputs: str,
        warm_up: Callable[..., int] | int = 0,
        forget: Callable[..., int] | int = 0,
        needs: str = "",
        per_row: bool = False,
        each_pair: bool = False,
        rule: tuple[str, Callable[..., bool]] | None = None,
        **parameters: Parameter,
    ) -> Decorator:
        """Register a function under its own name; see `Indicator`. Without `outputs` it has one column of its name."""

        def register(compute: Compute) -> Compute:
            name = compute.__name__
            self.members.append(
                Indicator(
                    name=name,
                    family=self.name,
                    about=" ".join((compute.__doc__ or "").split()),
                    outputs=outputs or (name,),
                    parameters=parameters,
                    compute=compute,
                    warm_up=_function(warm_up),
                    forget=_function(forget),
                    per_row=per_row,
                    each_pair=each_pair,
                    needs=frozenset(needs.split()),
                    **({} if rule is None else {"rule": rule}),
                )
            )
            return compute

        return register


def fades(decay: float) -> int:
    """Return after how many bars an average that keeps `decay` of its weight per bar has forgotten.

    >>> fades(0.5)
    44
    """
    return 0 if decay <= 0 else math.ceil(math.log(_FORGOTTEN) / math.log(decay))


def ema_fades(bars: int) -> int:
    """Return the same for an exponential average of `bars`."""
    return fades(1 - 2 / (bars + 1))


def wilder_fades(bars: int) -> int:
    """Return the same for Wilder's average of `bars`."""
    return fades(1 - 1 / bars)


def share(part: Floats, whole: Floats, *, where_none: float, least: Floats | float = 0.0) -> Floats:
    """Return part / whole, `where_none` where the whole is `least` or less in size; NaN where either is undefined.

    An exponential average of what has come to rest never reaches 0: `least` says where only rounding is left of it.
    """
    shares = np.full(part.shape, where_none)
    np.divide(part, whole, out=shares, where=~(np.abs(whole) <= least))
    shares[np.isnan(part)] = np.nan
    return shares


def shifted(x: Floats, bars: int) -> Floats:
    """Return the value `bars` rows before each row; NaN where there is none."""
    return np.concatenate([np.full(min(bars, x.size), np.nan), x[: max(x.size - bars, 0)]])


def _floats(table: pl.DataFrame, name: str) -> Floats:
    if name not in table.columns:
        return np.full(table.height, np.nan)
    return np.ascontiguousarray(table[name].cast(pl.Float64).to_numpy(), dtype=np.float64)


def _function(value: Callable[..., int] | int) -> Callable[..., int]:
    return value if callable(value) else lambda **_: value
