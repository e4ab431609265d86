"""Where settings become the real lake, database, bundles and registry; used by the command line and by the assets."""

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from forexgpt_core.adapters.calendars.files import read_calendar
from forexgpt_core.adapters.ctrader.history import CTraderHistory
from forexgpt_core.adapters.database.calibrators import CalibratorRepository
from forexgpt_core.adapters.database.campaigns import CampaignRepository
from forexgpt_core.adapters.database.deployments import DeploymentRepository, TradingStateRepository
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.events import EventRepository
from forexgpt_core.adapters.database.regimes import RegimeRepository
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.adapters.database.scores import ScoresRepository
from forexgpt_core.adapters.database.settings import SettingsRepository
from forexgpt_core.adapters.database.studies import StudiesRepository
from forexgpt_core.adapters.database.training import ModelVersion, TrainingRepository
from forexgpt_core.adapters.figure_store import FigureStore
from forexgpt_core.adapters.fold_store import FoldStore, SplitStore
from forexgpt_core.adapters.lake import Lake
from forexgpt_core.adapters.mlflow_registry import Registry
from forexgpt_core.adapters.optuna_storage import OptunaStudies
from forexgpt_core.adapters.providers import alpha_vantage, dukascopy, tiingo
from forexgpt_core.adapters.providers.files import FileSource
from forexgpt_core.adapters.providers.sample import SampleSource
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.candles.freshness import Freshness, freshness
from forexgpt_core.candles.ingest import Ingested, IngestTerms, Progress, ingest
from forexgpt_core.candles.ranges import range_start
from forexgpt_core.candles.source import CandleSource
from forexgpt_core.candles.spread import spread_figures
from forexgpt_core.candles.store import CANDLES
from forexgpt_core.deployment.symbol_settings import Source, SymbolSettings
from forexgpt_core.domain.calendar_files import CalendarFile, CalendarOptions
from forexgpt_core.domain.clock import Timeframe, bar_close, from_utc
from forexgpt_core.domain.conversion import conversion_path
from forexgpt_core.domain.event_history import Changes, Knowledge
from forexgpt_core.domain.events import currencies_of
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import NotReady, StoreError
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.table import Basis, FeatureTable
from forexgpt_core.features.windows import MarketArrays, market_arrays
from forexgpt_core.live.guard import EventWatch
from forexgpt_core.models.bundle import BundleStore
from forexgpt_core.settings import Settings, load_ctrader_settings, load_settings
from forexgpt_core.strategy.event_guard import Bools

if TYPE_CHECKING:
    from forexgpt_core.ensemble.inference import InferenceService
    from forexgpt_core.live.forecasting import EnsembleSource

_BEGINNING, _END = datetime(1990, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)
REFERENCE = "random_walk"
ENSEMBLE = "ensemble"
_RECORDED_PACKAGES = ("forexgpt", "numpy", "polars", "scikit-learn", "xgboost", "ta-lib")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPin:
    """Versions of the lake tables a result stands on; reading them again gives the same rows."""

    candles: int
    features: int

    def __str__(self) -> str:
        return f"c{self.candles}.f{self.features}"

    @classmethod
    def parse(cls, text: str) -> "DataPin":
        """Return the pin that `str` wrote.

        >>> DataPin.parse("c3.f5")
        DataPin(candles=3, features=5)

        Raises:
            NotReady: something else was recorded, so the data cannot be found again.
        """
        found = re.fullmatch(r"c(\d+)\.f(\d+)", text)
        if found is None:
            raise NotReady(f"'{text}' names no version of the data, such as c3.f5: train and evaluate again")
        return cls(candles=int(found[1]), features=int(found[2]))


@dataclass(frozen=True)
class Platform:
    """Every store of one home. Nothing is opened before it is asked for."""

    settings: Settings

    @classmethod
    def from_environment(cls) -> "Platform":
        """Return the platform the environment describes."""
        return cls(load_settings())

    @classmethod
    def prepared(cls) -> "Platform":
        """Return the platform the environment describes, with its stores created."""
        platform = cls.from_environment()
        platform.prepare()
        return platform

    def prepare(self) -> None:
        """Create folders, database schema and MLflow store; safe to repeat and from several processes at once."""
        for folder in (self.settings.home, self.settings.bundles, self.settings.work):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise StoreError(
                    f"the folder {folder} cannot be made: {error.strerror}; FOREXGPT_HOME names where state is kept"
                ) from None
        upgrade(self.settings.database_url)
        self.registry.prepare()

    @cached_property
    def lake(self) -> Lake:
        """Return the Delta lake."""
        return Lake(self.settings.lake)

    @cached_property
    def database(self) -> Database:
        """Return the database, which `prepare` has brought to the newest schema."""
        return open_database(self.settings.database_url)

    @cached_property
    def bundles(self) -> BundleStore:
        """Return the store of immutable bundles."""
        return BundleStore(self.settings.bundles)

    @cached_property
    def inference(self) -> "InferenceService":
        """Return what answers questions to ensembles; it loads each bundle once."""
        from forexgpt_core.ensemble.inference import InferenceService

        return InferenceService(self.bundles)

    @cached_property
    def registry(self) -> Registry:
        """Return the MLflow registry."""
        return Registry(
            self.settings.mlflow_tracking_uri, artifacts=self.settings.mlflow_artifacts, lock_folder=self.settings.work
        )

    @property
    def folds(self) -> FoldStore:
        """Return the finished folds of walk-forward validation."""
        return FoldStore(self.settings.work / "folds")

    @property
    def splits(self) -> SplitStore:
        """Return the finished splits of cross-validation."""
        return SplitStore(self.folds)

    @property
    def training(self) -> TrainingRepository:
        """Return the record of training runs and bundles."""
        return TrainingRepository(self.database)

    @property
    def scores(self) -> ScoresRepository:
        """Return the record of scores and ensemble weights."""
        return ScoresRepository(self.database)

    @property
    def regimes(self) -> RegimeRepository:
        """Return the record of market regimes."""
        return RegimeRepository(self.database)

    @property
    def studies(self) -> StudiesRepository:
        """Return the record of strategy searches."""
        return StudiesRepository(self.database)

    @cached_property
    def optuna(self) -> OptunaStudies:
        """Return what keeps Optuna's trials, in the same database."""
        return OptunaStudies(self.settings.database_url)

    @property
    def tuning(self) -> FigureStore:
        """Return the figures of the option sets that were tried on a pair's training part."""
        return FigureStore(self.settings.work / "tuning")

    @property
    def campaigns(self) -> CampaignRepository:
        """Return the record of training campaigns."""
        return CampaignRepository(self.database)

    @property
    def deployments(self) -> DeploymentRepository:
        """Return the record of deployments."""
        return DeploymentRepository(self.database)

    @property
    def trading_state(self) -> TradingStateRepository:
        """Return what may be traded now."""
        return TradingStateRepository(self.database)

    @property
    def pairs(self) -> SettingsRepository:
        """Return the saved settings of every pair."""
        return SettingsRepository(self.database)

    @property
    def events(self) -> EventRepository:
        """Return the economic calendar."""
        return EventRepository(self.database)

    def import_events(self, path: Path, options: CalendarOptions, knowledge: Knowledge) -> tuple[CalendarFile, Changes]:
        """Store the events of a CSV or ICS file, all or nothing, and return what was read and what was new.

        Raises:
            BadInput: the file is not what was expected; nothing was stored.
        """
        read = read_calendar(path, options)
        return read, self.events.import_entries(read.entries, knowledge, source=path.name)

    def event_watch(self, settings: SymbolSettings, first_utc: datetime, last_utc: datetime) -> EventWatch | None:
        """Return what the guard needs for decisions in [first, last]; None where it is off."""
        if not settings.guard.on:
            return None
        pair = currencies_of(settings.symbol)
        reach = timedelta(days=8)  # a week ahead and a day back, and a little more
        events = self.events.revisions(pair, first_utc - reach, last_utc + reach)
        return EventWatch(guard=settings.guard, events=events, currencies=pair)

    def no_entry(self, settings: SymbolSettings, bars: pl.DataFrame) -> Bools | None:
        """Return at which bars' closes the calendar holds entries back; None where the guard is off."""
        if bars.is_empty():
            return None
        closes = bar_close(bars["ts_utc"].to_numpy(), Timeframe.parse(settings.timeframe))
        watch = self.event_watch(settings, from_utc(closes[0]), from_utc(closes[-1]))
        return None if watch is None else watch.held_back(closes).any

    def conversion_candles(self, settings: SymbolSettings) -> dict[str, pl.DataFrame]:
        """Return the candles of the pairs that turn the quote currency into the account's, by symbol.

        Raises:
            BadInput: the lake has none that lead there; the text says which to fetch.
        """
        pair, timeframe = instrument(settings.symbol), Timeframe.parse(settings.timeframe)
        account = settings.costs.account_of(settings.symbol)
        if account in (pair.quote, pair.base):
            return {}
        there = {name for name in self.lake.symbols(CANDLES) if self.lake.exists(CANDLES, name, timeframe)}
        path = conversion_path(pair.quote, account, there | {pair.symbol})
        return {leg.symbol: self.lake.candles(leg.symbol, timeframe) for leg in path if leg.symbol != pair.symbol}

    def with_measured_spread(
        self, settings: SymbolSettings, bars: pl.DataFrame, forecasts: ForecastBatch
    ) -> SymbolSettings:
        """Return the settings with the spread over the forecasts' span in their costs, where they ask for that.

        Raises:
            NotReady: no bar has an ask price.
        """
        if not settings.spread_from_candles:
            return settings
        first, last = from_utc(forecasts.origin_utc[0]), from_utc(forecasts.origin_utc[-1])
        traded = bars.filter(pl.col("ts_utc").is_between(first, last))
        figures = spread_figures(traded, instrument(settings.symbol).pip)
        if not figures:
            raise NotReady(
                f"the candles of {settings.symbol} have no ask prices to measure a spread by: fetch them from a source"
                " that has (dukascopy), or set spread_from_candles to false"
            )
        return replace(settings, costs=replace(settings.costs, spread_pips=max(figures["spread_mean_pips"], 0.0)))

    def source(self, settings: SymbolSettings) -> CandleSource:
        """Return where the candles of a pair come from.

        Raises:
            NotReady: no source is set for the pair.
            ProviderError: the provider needs a key and there is none.
        """
        own, start = self.settings, date.fromisoformat(settings.source.start) if settings.source.start else None
        makers: dict[str, Callable[[], CandleSource]] = {
            "sample": SampleSource,
            "file": lambda: FileSource(Path(settings.source.path or ""), timezone=settings.source.timezone),
            "ctrader": lambda: CTraderHistory(load_ctrader_settings()),
            "dukascopy": lambda: dukascopy.DukascopySource(own.dukascopy_url or dukascopy.URL, start=start),
            "tiingo": lambda: tiingo.TiingoSource(own.tiingo_key, own.tiingo_url or tiingo.URL, start=start),
            "alpha_vantage": lambda: alpha_vantage.AlphaVantageSource(
                own.alpha_vantage_key, own.alpha_vantage_url or alpha_vantage.URL
            ),
        }
        if settings.source.kind not in makers:
            raise NotReady(
                f"{settings.symbol} has no source of candles: import a file with"
                f" 'forexgpt candles import FILE --symbol {settings.symbol}', or fetch them with"
                f" 'forexgpt candles fetch {settings.symbol} --provider dukascopy'"
            )
        return makers[settings.source.kind]()

    def pair(self, symbol: str, *, file: str = "", timezone: str = "") -> SymbolSettings:
        """Return the saved settings of a pair (or the defaults), with a file in place of its source for this once."""
        settings = self.pairs.load(symbol)
        if not file:
            return settings
        source = Source(kind="file", path=str(Path(file).expanduser().resolve()), timezone=timezone or None)
        return replace(settings, source=source)

    def ingest(
        self, settings: SymbolSettings, *, now_utc: datetime | None = None, progress: Progress | None = None
    ) -> Ingested:
        """Bring the candles of a pair up to its source; see `candles.ingest.ingest`."""
        timeframe = Timeframe.parse(settings.timeframe)
        # Without a source, bars came from a file once: there is nowhere to look for newer ones.
        nowhere = settings.source.kind == "none" and self.lake.exists("candles", settings.symbol, timeframe)
        source = None if nowhere else self.source(settings)
        terms = IngestTerms(
            start_utc=range_start(settings.source.start) if settings.source.start else None,
            hold_back_bars=settings.hold_back_bars,
            origin=source_name(settings),
        )
        return ingest(source, self.lake, settings.symbol, timeframe, terms, now_utc=now_utc, progress=progress)

    def freshness(self, settings: SymbolSettings, now_utc: datetime | None = None) -> Freshness:
        """Return how up to date the candles of a pair are."""
        timeframe = Timeframe.parse(settings.timeframe)
        try:
            archive = settings.source.kind == "none" or self.source(settings).archive
        except NotReady:  # a key is missing, say: it is a provider, and the pair falls behind
            archive = False
        return freshness(
            settings.symbol,
            timeframe,
            self.lake.newest_candle(settings.symbol, timeframe),
            now_utc or datetime.now(UTC),
            source=source_name(settings),
            archive=archive,
        )

    def candles_of_file(self, settings: SymbolSettings, timeframe: Timeframe) -> pl.DataFrame:
        """Return the lawful bars of the file that the settings name as source."""
        raw = self.source(settings).fetch(settings.symbol, timeframe, since_utc=None, until_utc=None)
        return clean(raw, timeframe).bars

    def recipe(self, settings: SymbolSettings) -> Recipe:
        """Return the feature recipe of a pair's settings."""
        return Recipe.from_json(json.dumps(dict(settings.recipe)))

    def feature_table(self, settings: SymbolSettings) -> FeatureTable:
        """Return the stored feature table of a pair."""
        return FeatureTable(store=self.lake, symbol=settings.symbol, timeframe=Timeframe.parse(settings.timeframe))

    def feature_basis(self, settings: SymbolSettings, recipe: Recipe | None = None) -> Basis:
        """Return what a pair's features are to be built from now.

        Args:
            recipe: in place of that of the settings, for this once.

        Raises:
            NotReady: the pair, or one that the recipe reads, has no candles.
        """
        timeframe = Timeframe.parse(settings.timeframe)
        wanted = recipe or self.recipe(settings)
        return Basis(
            recipe=wanted,
            candles=self.lake.candles_version(settings.symbol, timeframe),
            pairs={pair: self.lake.candles_version(pair, timeframe) for pair in wanted.pairs},
            events=self._calendar_state(settings.symbol) if "events" in wanted.needs else "",
            overridden=wanted != self.recipe(settings),
        )

    def feature_inputs(self, symbol: str, timeframe: Timeframe, basis: Basis) -> FeatureInputs:
        """Return what the features of a pair read beside its own candles."""
        bars = {pair: self.lake.candles(pair, timeframe, version=version) for pair, version in basis.pairs.items()}
        calendar = self._calendar(symbol) if "events" in basis.recipe.needs else None
        return FeatureInputs(symbol=symbol, pairs=bars, events=calendar)

    def _calendar(self, symbol: str) -> pl.DataFrame | None:
        """Return every revision that concerns a pair, None where there is none."""
        found = self.events.revisions(currencies_of(symbol), _BEGINNING, _END)
        return found if found.height else None

    def _calendar_state(self, symbol: str) -> str:
        """Return a hash of the calendar of a pair, which changes whenever an import changes something of it."""
        found = self._calendar(symbol)
        return "" if found is None else hashlib.sha256(found.write_csv().encode()).hexdigest()[:12]

    def forecast_source(
        self, symbol: str, timeframe: Timeframe, bundle_hash: str, *, only_read: bool = False
    ) -> "EnsembleSource":
        """Return an ensemble as a source of live forecasts, with the newest of what its features read besides.

        Args:
            only_read: leave the state of its adaptive calibrator as it is; for those who do not trade.

        Raises:
            BundleError: the bundle is missing or altered.
        """
        from forexgpt_core.calibration.adaptive import FILE, AdaptiveCalibrator
        from forexgpt_core.live.calibrating import CalibratorKey, LiveCalibration, OnlyRead
        from forexgpt_core.live.forecasting import EnsembleSource

        ensemble = self.inference.ensemble(symbol, str(timeframe), bundle_hash)
        pairs = {pair: self.lake.candles_version(pair, timeframe) for pair in ensemble.recipe.pairs}
        inputs = self.feature_inputs(symbol, timeframe, Basis(recipe=ensemble.recipe, candles=0, pairs=pairs))
        states, folder = CalibratorRepository(self.database), ensemble.bundle.path
        calibration = LiveCalibration(
            store=OnlyRead(states) if only_read else states,
            key=CalibratorKey(symbol=symbol, timeframe=str(timeframe), bundle_hash=bundle_hash),
            initial=lambda: AdaptiveCalibrator.load(folder),
        )
        return EnsembleSource(
            ensemble=ensemble,
            symbol=symbol,
            timeframe=timeframe,
            inputs=inputs,
            calibration=calibration if (folder / FILE).exists() else None,
        )

    def stored_recipe(self, settings: SymbolSettings, pin: DataPin | None = None) -> Recipe:
        """Return the recipe that the pair's features of some data were built by, the newest by default; see `pin`.

        Raises:
            NotReady: there are no features, or an earlier release built them.
        """
        return Recipe.from_json(self._feature_notes(settings, None if pin is None else pin.features)[1]["recipe_json"])

    def pin(self, settings: SymbolSettings) -> DataPin:
        """Return the newest data of a pair: the features table and the candles it was built from.

        Raises:
            NotReady: there are no features, or they were built by another recipe than the settings name, other than by
                a run that was told so.
        """
        timeframe, recipe = Timeframe.parse(settings.timeframe), self.recipe(settings).hash12
        version, notes = self._feature_notes(settings)
        if notes["recipe"] != recipe and notes.get("overridden") != "True":
            raise NotReady(
                f"features of {settings.symbol} {timeframe} were built by the recipe {notes['recipe']}, the"
                f" settings say {recipe}: run 'forexgpt features build {settings.symbol}'"
            )
        return DataPin(candles=int(notes["candles_version"]), features=version)

    def _feature_notes(self, settings: SymbolSettings, version: int | None = None) -> tuple[int, dict[str, str]]:
        """Return a version of the features, the newest by default, and what was noted with it."""
        key = ("features", settings.symbol, Timeframe.parse(settings.timeframe))
        version = self.lake.version(*key) if version is None else version
        notes = self.lake.notes(*key, version)
        if not {"recipe", "recipe_json", "candles_version"} <= notes.keys():
            raise NotReady(
                f"the stored features of {settings.symbol} {settings.timeframe} are an earlier release's and do not say"
                f" what they were built from: run 'forexgpt features build {settings.symbol}'"
            )
        return version, notes

    def arrays(self, symbol: str, timeframe: Timeframe, pin: DataPin, horizons_bars: tuple[int, ...]) -> MarketArrays:
        """Return a pair's history exactly as it was at recorded versions.

        Bars newer than the features table are left out: their features do not exist yet.
        """
        features = self.lake.read("features", symbol, timeframe, version=pin.features)
        if features.is_empty():
            raise NotReady(f"{symbol} {timeframe} has no feature rows; materialize `features`")
        bars = self.lake.candles(symbol, timeframe, version=pin.candles)
        bars = bars.filter(pl.col("ts_utc") <= features["ts_utc"][-1])
        return market_arrays(symbol, timeframe, bars, features, horizons_bars)

    def version(self, settings: SymbolSettings, family: str, kind: str) -> ModelVersion:
        """Return the newest bundle of a kind that a stage recorded for a pair and family.

        Raises:
            NotReady: there is none.
        """
        found = self.training.versions(settings.symbol, settings.timeframe, family, kind)
        if not found:
            what = kind if kind == family else f"{family} {kind.replace('_', ' ')}"
            asset = kind if kind == family else f"{family}_{kind}"
            raise NotReady(f"{settings.symbol} {settings.timeframe} has no {what} yet: materialize {asset}")
        return found[0]

    def working_folder(self, *names: str) -> Path:
        """Return a folder for one run's checkpoints, created."""
        folder = self.settings.work.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def newest_bars(self, settings: SymbolSettings) -> pl.DataFrame:
        """Return the lake's bars followed by what the source has beyond them, cleaned."""
        timeframe = Timeframe.parse(settings.timeframe)
        stored = self.lake.candles(settings.symbol, timeframe)
        if settings.source.kind == "none":
            return stored
        since = stored["ts_utc"][-1]
        newer = self.source(settings).fetch(settings.symbol, timeframe, since_utc=since, until_utc=None)
        fresh = clean(newer, timeframe, now_utc=datetime.now(UTC)).bars.filter(pl.col("ts_utc") > since)
        return pl.concat([stored, fresh.select(stored.columns)])

    def alert(self, facts: Mapping[str, object]) -> None:
        """Append one line to alerts.jsonl in the home."""
        line = json.dumps({"at_utc": datetime.now(UTC).isoformat(timespec="seconds"), **facts}, default=str)
        with (self.settings.home / "alerts.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def page(self, symbol: str, name: str) -> Path:
        """Return where an interactive page of a pair is kept."""
        return self.settings.home / "pages" / symbol / f"{name}.html"

    def save_page(self, symbol: str, name: str, html: str) -> Path:
        """Write an interactive page and return its path."""
        path = self.page(symbol, name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(html, encoding="utf-8")
        return path

    def provenance(self) -> dict[str, object]:
        """Return what a bundle says about where it was made."""
        return {
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "git_commit": _git_commit(),
            "packages": {name: version(name) for name in _RECORDED_PACKAGES},
        }


def source_name(settings: SymbolSettings) -> str:
    """Return what a person would call the source of a pair's candles."""
    path = settings.source.path
    if settings.source.kind == "none":
        return "no source"
    return settings.source.kind if path is None else f"{settings.source.kind} {Path(path).name}"


def _git_commit() -> str | None:
    head = Path(__file__).parents[1] / ".git"
    if not head.exists():
        return None
    found = subprocess.run(
        ["git", "-C", str(head.parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=10
    )
    return found.stdout.strip() or None
