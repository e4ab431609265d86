"""The settings of one pair: every run's defaults, stored as versions in the database, exchanged as YAML."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import yaml

from forexgpt_core.calibration.settings import CalibrationSettings
from forexgpt_core.deployment.documents import build, document_of, plain, read_yaml, suggestion
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.instruments import INSTRUMENTS, instrument
from forexgpt_core.ensemble.weights import WeightSettings
from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.models.catalogue import FAMILIES
from forexgpt_core.models.forecaster import MOST_SEED
from forexgpt_core.optimisation.pareto import ParetoSettings
from forexgpt_core.strategy.event_guard import EventGuard

REQUIRED_FAMILY = "random_walk"
PROVIDERS = ("dukascopy", "tiingo", "alpha_vantage", "ctrader")  # asked over the network
SOURCES = ("sample", "file", "none", *PROVIDERS)
_CASH = 10_000.0
_YEN = 100.0  # to the unit of the other quote currencies, roughly


class _Group:
    """A group of settings, read as an attribute or by key."""

    __slots__ = ()

    def __getitem__(self, key: str) -> object:
        return getattr(self, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(_Group):
    """Where the candles of a pair come from.

    Attributes:
        kind: "sample" (the hourly EURUSD of the backtesting package), "file" (a CSV or Parquet file), "none", or a
            provider: "dukascopy" (needs no key), "tiingo", "alpha_vantage", "ctrader" (the account of the environment's
            FOREXGPT_CTRADER_ variables).
        path: of the file, None otherwise.
        timezone: IANA zone of times in the file that carry none; None where they say it themselves.
        start: first trading day wanted of a provider's history, as YYYY-MM-DD (it opens at 17:00 New York the day
            before); None where the source begins by itself.
    """

    kind: str = "none"
    path: str | None = None
    timezone: str | None = None
    start: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in SOURCES:
            raise BadInput(f"unknown source.kind '{self.kind}'{suggestion(self.kind, SOURCES)}")
        if (self.kind == "file") != (self.path is not None):
            raise BadInput(f"source.path belongs to kind 'file' and only there; kind is '{self.kind}'")
        if self.start is not None:
            _check_day("source.start", self.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPolicy(_Group):
    """What may be deployed. `allow_no_skill` lets a person deploy, on paper, what has not beaten the random walk."""

    allow_no_skill: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings(_Group):
    """When a pair counts as drifted.

    Attributes:
        reference_bars: length of the reference part, before the current one.
        current_bars: newest bars compared with it.
        drifted_share: share of drifted features at which the report raises the alarm, in (0, 1].
    """

    reference_bars: int = 2000
    current_bars: int = 500
    drifted_share: float = 0.5

    def __post_init__(self) -> None:
        if self.reference_bars < 50 or self.current_bars < 50:
            raise BadInput("drift.reference_bars and drift.current_bars must be 50 or more")
        if not 0 < self.drifted_share <= 1:
            raise BadInput(f"drift.drifted_share must lie in (0, 1], was {self.drifted_share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolSettings:
    """Every default of one pair's runs. Equal settings have equal hashes.

    Attributes:
        hold_back_bars: newest bars of the source that are kept out of the lake; paper replay trades them.
        horizons_bars: forecast horizons, increasing.
        families: families switched on; the random walk is always one of them.
        family_options: options handed to a family, by family name.
        recipe: which feature columns to build, as the recipe's JSON; empty for its defaults.
        spread_from_candles: trade with the mean closing spread of the candles traded over, where they have an ask side,
            in place of `costs.spread_pips`.
        walk_forward: how families are validated; its shares, purge and embargo also split what is deployed.
        calibration: how intervals are made to cover what they promise.
        ensemble: how the families are combined.
        cash: equity a simulated account starts with, in its currency; see `Costs.account_currency`.
        guard: when the economic calendar holds entries back, in backtest, paper and live alike.
    """

    symbol: str
    timeframe: str = "H1"
    source: Source = field(default_factory=Source)
    hold_back_bars: int = 0
    horizons_bars: tuple[int, ...] = (1, 4, 24)
    families: tuple[str, ...] = tuple(FAMILIES)
    family_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)
    walk_forward: WalkForwardSettings = field(default_factory=WalkForwardSettings)
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    ensemble: WeightSettings = field(default_factory=WeightSettings)
    costs: Costs = field(default_factory=Costs)
    spread_from_candles: bool = False
    cash: float = _CASH
    seed: int = 7
    pareto: ParetoSettings = field(default_factory=ParetoSettings)
    deployment: DeploymentPolicy = field(default_factory=DeploymentPolicy)
    drift: DriftSettings = field(default_factory=DriftSettings)
    guard: EventGuard = field(default_factory=EventGuard)

    def __post_init__(self) -> None:
        _check_symbol(self.symbol)
        if self.timeframe not in list(Timeframe):
            raise BadInput(f"unknown timeframe '{self.timeframe}'{suggestion(self.timeframe, list(Timeframe))}")
        horizons = self.horizons_bars
        if not horizons or horizons[0] < 1 or list(horizons) != sorted(set(horizons)):
            raise BadInput(f"horizons_bars must be increasing whole numbers from 1, were {list(horizons)}")
        if REQUIRED_FAMILY not in self.families or len(set(self.families)) != len(self.families):
            raise BadInput(f"families must name {REQUIRED_FAMILY} and each one once, were {list(self.families)}")
        for name in (*self.families, *self.family_options):
            if name not in FAMILIES:  # the catalogue's; importing it imports no model
                raise BadInput(f"unknown family '{name}'{suggestion(name, FAMILIES)}")
        for name, options in self.family_options.items():
            if not isinstance(options, Mapping):
                raise BadInput(f"'family_options.{name}' must be a mapping of options")
        if self.hold_back_bars < 0 or not 0 <= self.seed <= MOST_SEED or not self.cash > 0:
            raise BadInput(f"hold_back_bars and seed must be 0 or more, seed up to {MOST_SEED}, and cash above 0")
        for name in ("family_options", "recipe"):  # copied, so nobody changes frozen settings from outside
            object.__setattr__(self, name, plain(getattr(self, name), name))
        if self.recipe:  # the usual one is lawful, and checking one imports the indicators
            Recipe.from_json(json.dumps(self.recipe))

    @property
    def hash12(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(json.dumps(self.to_document(), sort_keys=True).encode()).hexdigest()[:12]

    def to_document(self) -> dict[str, object]:
        """Return the settings as plain JSON types."""
        return document_of(self)

    @classmethod
    def from_document(cls, document: object) -> "SymbolSettings":
        """Return the settings of a plain document; what it leaves out has its default.

        Raises:
            BadInput: an unknown key, a wrong type, or an unlawful value.
        """
        return build(cls, _in_account_currency(document), "symbol settings")

    def to_yaml(self) -> str:
        """Return the settings as YAML, every setting written out."""
        text: str = yaml.safe_dump(self.to_document(), sort_keys=False, allow_unicode=True)
        return text

    @classmethod
    def from_yaml(cls, text: str) -> "SymbolSettings":
        """Return the settings of a YAML document.

        Raises:
            BadInput: not YAML, an unknown key, a wrong type, or an unlawful value.
        """
        return cls.from_document(read_yaml(text, "symbol settings"))


def default_settings(symbol: str) -> SymbolSettings:
    """Return the settings of a pair nobody has set anything for; EURUSD has the sample candles.

    Money is in the account's currency, so the same account and commission are a hundred times as many yen.

    Raises:
        UnknownName: the pair is not known.
    """
    key = instrument(symbol).symbol
    source = {"kind": "sample" if key == "EURUSD" else "none"}
    return SymbolSettings.from_document({"symbol": key, "source": source})


def _in_account_currency(document: object) -> object:
    """Return a document whose absent amounts of money have defaults in the currency of the account."""
    pair = INSTRUMENTS.get(str(document.get("symbol"))) if isinstance(document, Mapping) else None
    if pair is None or not isinstance(document, Mapping):
        return document
    costs = document.get("costs", {})
    account = costs.get("account_currency") if isinstance(costs, Mapping) else None
    if (account or pair.quote) != "JPY":
        return document
    if isinstance(costs, Mapping):
        costs = {"commission_per_lot": _YEN * Costs().commission_per_lot, **costs}
    return {"cash": _YEN * _CASH, **document, "costs": costs}


def _check_day(name: str, value: str) -> None:
    try:
        date.fromisoformat(value)
    except ValueError:
        raise BadInput(f"{name} must be a day such as 2018-01-31, was '{value}'") from None


def _check_symbol(symbol: str) -> None:
    if symbol in INSTRUMENTS:
        return
    try:
        hint = f"; write it {instrument(symbol).symbol}"
    except UnknownName:
        hint = suggestion(symbol.upper(), sorted(INSTRUMENTS))
    raise BadInput(f"unknown symbol '{symbol}'{hint}")
