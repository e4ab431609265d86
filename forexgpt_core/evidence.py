"""What was found out of sample about a pair: judged families, their forecasts, searches and what they are worth.

Every figure here stands on walk-forward forecasts; nothing else feeds a backtest, a search or a deployment.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from forexgpt_core.adapters.database.regimes import RegimeRecord
from forexgpt_core.adapters.database.training import ModelVersion
from forexgpt_core.backtest.portfolio import PairHistory
from forexgpt_core.backtest.span import Bools
from forexgpt_core.composition import ENSEMBLE, REFERENCE, DataPin, Platform
from forexgpt_core.deployment.records import Skill
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import Timeframe, from_utc
from forexgpt_core.domain.forecast_table import from_table, joined
from forexgpt_core.domain.forecasts import Floats, ForecastBatch
from forexgpt_core.ensemble.regimes import REGIMES, UNKNOWN
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.evaluation.report_card import HorizonScore, rank
from forexgpt_core.features.windows import MarketArrays, Windows, usable
from forexgpt_core.strategy.config import StrategyConfig

if TYPE_CHECKING:
    from forexgpt_core.ensemble.evidence import EnsembleEvidence


def judged_families(
    platform: Platform, settings: SymbolSettings, *, data_version: str | None = None
) -> dict[str, ModelVersion]:
    """Return, by family, the deployable calibration of each family evaluated on some data.

    What was trained again with another result is absent until its configuration has been evaluated, so evidence
    and deployment always come from one configuration. So is what was judged on other bars than the random walk was
    since: their scores do not compare.

    Args:
        data_version: the current data by default.

    Raises:
        NotReady: the random walk is not among them, so nothing could be compared.
    """
    pin = data_version or str(platform.pin(settings))
    judged, tested = {}, {}
    for family in settings.families:
        kinds = ("evaluation", "calibration")
        found = [platform.training.versions(settings.symbol, settings.timeframe, family, kind)[:1] for kind in kinds]
        if not all(found):
            continue
        (evaluation,), (deployable,) = found
        same_model = evaluation.parent_hash == deployable.bundle_hash
        if same_model and {evaluation.data_version, deployable.data_version} == {pin}:
            judged[family] = deployable
            tested[family] = {(s.horizon_bars, s.n) for s in scores_of(platform, evaluation.bundle_hash, family)}
    if REFERENCE not in judged:
        raise NotReady(
            f"{settings.symbol} {settings.timeframe} has no random walk evaluated on the current data ({pin}):"
            f" materialize random_walk_model to random_walk_evaluation"
        )
    return {family: one for family, one in judged.items() if tested[family] == tested[REFERENCE]}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Members:
    """What an ensemble is made of.

    Attributes:
        judged: the deployable calibration of each family, all evaluated on one version of the data.
        forecasts: by family, calibrated out-of-sample forecasts with their returns: those of the walk-forward, then
            those of the deployable models for bars that have come since they were trained.
        scored_from: first origin of the walk-forward's second fold; the first starts weights and calibrator.
        newer: origins that the deployable models have forecast.
        candles: the bars that the returns were measured on: those of the walk-forward as they were then, and the newer.
        note: why there are none of those, empty where there are.
    """

    judged: Mapping[str, ModelVersion]
    forecasts: Mapping[str, tuple[ForecastBatch, Floats]]
    scored_from: np.datetime64
    newer: int
    candles: pl.DataFrame
    note: str

    @property
    def data_version(self) -> str:
        """Return the data that the families were trained and evaluated on."""
        return self.judged[REFERENCE].data_version


def members(platform: Platform, settings: SymbolSettings) -> Members:
    """Return the families that can be combined, with every forecast of theirs whose outcome is known by now.

    Candles may have come since the families were evaluated: weights then learn from them without any training.

    Raises:
        NotReady: the random walk was never evaluated.
    """
    evaluated = platform.version(settings, REFERENCE, "evaluation").data_version
    judged = judged_families(platform, settings, data_version=evaluated)
    symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
    stored = {family: walk_forward_table(platform, settings, family) for family in judged}
    then = {
        family: from_table(rows, symbol=symbol, timeframe=str(timeframe), family=family)
        for family, rows in stored.items()
    }
    second = stored[REFERENCE].filter(pl.col("fold") > 0)["ts_utc"].to_numpy().min()
    windows, candles, note = _since_training(
        platform, settings, DataPin.parse(evaluated), then[REFERENCE][0].horizons_bars
    )
    forecasts = then
    if windows is not None and len(windows):
        newer = {family: _forecast_newer(platform, judged[family], windows) for family in judged}
        forecasts = {
            family: (joined([batch, newer[family]]), np.concatenate([returns, windows.returns]))
            for family, (batch, returns) in then.items()
        }
    return Members(
        judged=judged,
        forecasts=forecasts,
        scored_from=np.datetime64(second, "us"),
        newer=0 if windows is None else len(windows),
        candles=candles,
        note=note,
    )


def walk_forward_table(platform: Platform, settings: SymbolSettings, family: str) -> pl.DataFrame:
    """Return the stored out-of-sample forecasts of a family's newest evaluation; see `domain.forecast_table`.

    Raises:
        NotReady: it was never evaluated, or a run was stopped, or overtaken, while it stored them.
    """
    newest = platform.version(settings, family, "evaluation").bundle_hash
    rows = platform.lake.read(f"forecasts_{family}", settings.symbol, Timeframe.parse(settings.timeframe))
    if "evaluation" in rows.columns and set(rows["evaluation"]) != {newest}:  # earlier releases did not note it
        raise NotReady(
            f"the stored forecasts of {settings.symbol} {settings.timeframe} {family} are not those of its newest"
            f" evaluation: materialize {family}_evaluation"
        )
    return rows


def _since_training(
    platform: Platform, settings: SymbolSettings, evaluated: DataPin, horizons: tuple[int, ...]
) -> tuple[Windows | None, pl.DataFrame, str]:
    """Return the matured rows that came after every label the models were fitted on, or None, and why not.

    In between stand `ts_utc, close` of the bars that all returns are measured on.
    """
    timeframe = Timeframe.parse(settings.timeframe)
    bars = platform.lake.candles(settings.symbol, timeframe, version=evaluated.candles).select("ts_utc", "close")
    try:
        pin = platform.pin(settings)
    except NotReady as error:
        return None, bars, f"newer bars are left out: {error}"
    if pin == evaluated:
        return None, bars, ""
    old = usable(platform.arrays(settings.symbol, timeframe, evaluated, horizons), matured=True)
    new = usable(platform.arrays(settings.symbol, timeframe, pin, horizons), matured=True)
    if new.arrays.feature_names != old.arrays.feature_names:
        return None, bars, "newer bars are left out: their features are not those that the models were trained on"
    last_label = old.arrays.label_end_utc[old.rows].max()
    newer = new.take(new.arrays.known_utc[new.rows] >= last_label)
    return newer, _continued(bars.head(int((old.arrays.known_utc <= last_label).sum())), new.arrays), ""


def _continued(bars: pl.DataFrame, arrays: MarketArrays) -> pl.DataFrame:
    """Return bars as they were, followed by the later ones of newer data.

    A bar that was filled in since would let errors mature before they were known.
    """
    later = arrays.ts_utc > bars["ts_utc"].to_numpy()[-1]
    ts = pl.Series("ts_utc", arrays.ts_utc[later]).dt.replace_time_zone("UTC")
    return pl.concat([bars, pl.DataFrame({"ts_utc": ts, "close": arrays.close[later]})])


def _forecast_newer(platform: Platform, deployable: ModelVersion, windows: Windows) -> ForecastBatch:
    from forexgpt_core.calibration.conformal import load_calibrated

    kind = f"{deployable.family}_calibration"
    where = (deployable.symbol, deployable.timeframe, kind, deployable.bundle_hash)
    return load_calibrated(platform.bundles, *where).forecast(windows)


def horizon_scores(platform: Platform, settings: SymbolSettings, family: str) -> list[HorizonScore]:
    """Return the evaluation of a family's newest evidence, by horizon."""
    judged = platform.version(settings, family, "evaluation" if family != ENSEMBLE else ENSEMBLE)
    return scores_of(platform, judged.bundle_hash, family)


def scores_of(platform: Platform, bundle_hash: str, family: str | None = None) -> list[HorizonScore]:
    """Return every score that was stored under a bundle, of one family or of all."""
    names = [f.name for f in fields(HorizonScore)]
    rows = [row for row in platform.scores.of_bundle(bundle_hash) if family in (None, row["family"])]
    values: list[dict[str, Any]] = [{n: math.nan if row.get(n) is None else row[n] for n in names} for row in rows]
    return [HorizonScore(**one) for one in values]


def ensemble_skills(platform: Platform, settings: SymbolSettings, bundle_hash: str | None = None) -> dict[int, Skill]:
    """Return the out-of-sample skill of an ensemble by horizon, as the deployment gate reads it.

    Its p-values are corrected for every comparison that was made on its data, the families' included, and
    those of families that were switched off; where a family was evaluated again since, its newest evaluation stands for
    the one of those days.

    Args:
        bundle_hash: of the ensemble that is to be deployed; by default the newest.

    Raises:
        NotReady: there is no such ensemble.
    """
    recorded = platform.training.versions(settings.symbol, settings.timeframe, ENSEMBLE, ENSEMBLE)
    ensemble = next((v for v in recorded if bundle_hash in (None, v.bundle_hash)), None)
    if ensemble is None:
        raise NotReady(f"{settings.symbol} {settings.timeframe} has no ensemble {bundle_hash or 'yet'}: materialize it")
    evaluated = platform.training.versions(settings.symbol, settings.timeframe, kind="evaluation")
    then = sorted(
        v.family for v in evaluated if v.data_version == ensemble.data_version
    )  # those switched off since too
    families = dict.fromkeys([*settings.families, *then])
    compared = [s for family in families for s in _compared(platform, settings, family, ensemble.data_version)]
    board = rank([*compared, *scores_of(platform, ensemble.bundle_hash, ENSEMBLE)])
    row = next(row for row in board.rows if row.family == ENSEMBLE)
    return {
        s.horizon_bars: Skill(
            horizon_bars=s.horizon_bars,
            n=s.n,
            skill=s.skill,
            skill_low=s.skill_low,
            skill_high=s.skill_high,
            dm_p=p,
        )
        for s, p in zip(row.scores, row.holm_p, strict=True)
    }


def _compared(platform: Platform, settings: SymbolSettings, family: str, data_version: str) -> list[HorizonScore]:
    """Return a family's scores on recorded data, or its newest ones; none where it was never evaluated."""
    judged = platform.training.versions(settings.symbol, settings.timeframe, family, "evaluation")
    then = [version for version in judged if version.data_version == data_version]
    return scores_of(platform, (then or judged)[0].bundle_hash, family) if judged else []


def traded_forecasts(
    platform: Platform, settings: SymbolSettings, *, mode: str | None = None
) -> tuple[ModelVersion, pl.DataFrame, ForecastBatch]:
    """Return the newest ensemble, the bars, and its out-of-sample forecasts that strategies are judged on.

    Args:
        mode: of combination; that of the bundle by default.

    Raises:
        NotReady: there is no ensemble, or its run was stopped before everything of it was stored.
        BadInput: there is no such mode.
    """
    symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
    newest = platform.version(settings, ENSEMBLE, ENSEMBLE)
    stored = platform.lake.read("forecasts_ensemble", symbol, timeframe)
    if not {"bundle_hash", "mode"} <= set(stored.columns) or set(stored["bundle_hash"]) != {newest.bundle_hash}:
        raise NotReady(
            f"the stored forecasts of {symbol} {timeframe} are not of its newest ensemble: materialize ensemble"
        )
    stored = stored.filter(pl.col("mode") != "reference")
    wanted = stored.filter(pl.col("deployed") if mode is None else pl.col("mode") == mode)
    if wanted.is_empty():
        raise BadInput(f"the ensemble was not combined by '{mode}'; there are {', '.join(sorted(set(stored['mode'])))}")
    forecasts, _ = from_table(wanted, symbol=symbol, timeframe=str(timeframe), family=ENSEMBLE)
    return newest, platform.lake.candles(symbol, timeframe), forecasts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TradedMarket:
    """What a strategy of a pair is tried on.

    Attributes:
        settings: of the pair, with the spread measured where they ask for that.
        traded: the ensemble whose forecasts are traded.
        no_entry, rates: see `backtest.span.lay_out`.
    """

    settings: SymbolSettings
    traded: ModelVersion
    bars: pl.DataFrame
    forecasts: ForecastBatch
    no_entry: Bools | None
    rates: Mapping[str, pl.DataFrame]

    def fingerprint(self) -> str:
        """Return a hash of every bar, forecast, hold and rate that a backtest over the forecasts' span reads."""
        first, last = from_utc(self.forecasts.origin_utc[0]), from_utc(self.forecasts.origin_utc[-1])
        inside = pl.col("ts_utc").is_between(first, last)
        digest = hashlib.sha256()
        for name, frame in sorted({"": self.bars, **self.rates}.items()):
            digest.update(name.encode())
            read = frame.filter(inside if not name else pl.col("ts_utc") <= last)
            for column in sorted(set(read.columns) - {"volume"}):
                digest.update(read[column].cast(pl.Int64 if column == "ts_utc" else pl.Float64).to_numpy().tobytes())
        if self.no_entry is not None:
            digest.update(self.no_entry[self.bars.select(inside).to_series().to_numpy()].tobytes())
        digest.update(self.forecasts.origin_utc.astype("datetime64[us]").tobytes())
        for values in (self.forecasts.quantiles, self.forecasts.scale):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def traded_market(platform: Platform, settings: SymbolSettings, *, mode: str | None = None) -> TradedMarket:
    """Return the bars and forecasts of a pair with everything else that a backtest on them reads.

    Raises:
        NotReady, BadInput: see `traded_forecasts`; or candles that convert to the account's currency are absent.
    """
    traded, bars, forecasts = traded_forecasts(platform, settings, mode=mode)
    return TradedMarket(
        settings=platform.with_measured_spread(settings, bars, forecasts),
        traded=traded,
        bars=bars,
        forecasts=forecasts,
        no_entry=platform.no_entry(settings, bars),
        rates=platform.conversion_candles(settings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtested:
    """What a pair's newest backtest traded.

    Attributes:
        mode: of combination of the ensemble; None for that of the bundle.
    """

    settings: SymbolSettings
    strategy: StrategyConfig
    mode: str | None


def backtested(platform: Platform) -> tuple[dict[str, Backtested], dict[str, str]]:
    """Return what the pairs' newest backtests traded, by symbol, and why others cannot be traded again as they were."""
    found, left_out = {}, {}
    for symbol in platform.lake.symbols("backtest_equity"):
        settings = platform.pair(symbol)
        rows = platform.scores.latest(symbol, settings.timeframe, "backtest")
        ensembles = platform.training.versions(symbol, settings.timeframe, ENSEMBLE, ENSEMBLE)
        if not rows:
            left_out[symbol] = f"it has no backtest at {settings.timeframe}: materialize backtest"
        elif not ensembles or rows[-1]["bundle_hash"] != ensembles[0].bundle_hash:
            left_out[symbol] = "its backtest is not of its newest ensemble: materialize backtest"
        elif "strategy" not in rows[-1]:
            left_out[symbol] = "its backtest is an earlier release's and lacks the strategy: materialize backtest"
        else:
            strategy = StrategyConfig(**rows[-1]["strategy"])
            found[symbol] = Backtested(settings=settings, strategy=strategy, mode=rows[-1].get("mode"))
    return found, left_out


def portfolio_histories(
    platform: Platform, pairs: Mapping[str, Backtested], account_currency: str
) -> tuple[dict[str, PairHistory], dict[str, pl.DataFrame]]:
    """Return what the pairs bring into a portfolio, and the candles of other pairs that convert to its currency.

    Raises:
        NotReady, BadInput: see `traded_market`, with the pair's name before it.
    """
    histories: dict[str, PairHistory] = {}
    rates: dict[str, pl.DataFrame] = {}
    for symbol, one in pairs.items():
        costs = one.settings.costs
        in_account = replace(costs, account_currency=costs.account_currency or account_currency)
        try:
            market = traded_market(platform, replace(one.settings, costs=in_account), mode=one.mode)
        except (BadInput, NotReady) as error:
            raise type(error)(f"{symbol}: {error}") from None
        rates |= market.rates
        histories[symbol] = PairHistory(
            candles=market.bars,
            forecasts=market.forecasts,
            costs=replace(market.settings.costs, account_currency=costs.account_currency),  # of its commission
            no_entry=market.no_entry,
        )
    return histories, rates


def recipe_of(platform: Platform, judged: ModelVersion) -> str:
    """Return the recipe of the features that a calibrated model was trained on, as JSON."""
    kind, parent = f"{judged.family}_model", judged.parent_hash or ""
    bundle = platform.bundles.open(judged.symbol, judged.timeframe, kind, parent)
    return (bundle.path / "recipe.json").read_text(encoding="utf-8")


def record_regimes(platform: Platform, settings: SymbolSettings, bundle_hash: str, found: "EnsembleEvidence") -> None:
    """Store the regime at the newest origin of an ensemble, with the thresholds that make it one."""
    if found.regimes is None or found.labels is None or found.labels[-1] == UNKNOWN:
        return
    newest = RegimeRecord(
        origin_utc=from_utc(found.origin_utc[-1]),
        regime=REGIMES[int(found.labels[-1])],
        volatility_low=found.regimes.volatility_low,
        volatility_high=found.regimes.volatility_high,
        trend_band=found.regimes.trend_band,
    )
    platform.regimes.record(settings.symbol, settings.timeframe, bundle_hash, [newest])
