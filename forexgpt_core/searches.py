"""Strategy searches on a pair's out-of-sample forecasts: made once, resumed where they stopped, kept with a verdict."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from forexgpt_core.adapters.database.studies import Study, StudyHandle, StudySummary
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import from_utc
from forexgpt_core.errors import BadInput, ForexGPTError, NotReady
from forexgpt_core.evaluation.overfitting import TrialRegistry
from forexgpt_core.evidence import TradedMarket, traded_market
from forexgpt_core.optimisation.pareto import SEARCH_VERSION, ParetoResult, ParetoSettings, Trial, search
from forexgpt_core.optimisation.replay import Replay, replay
from forexgpt_core.optimisation.search import Progress
from forexgpt_core.optimisation.studies import StudyIdentity
from forexgpt_core.optimisation.verdict import judge_search
from forexgpt_core.reporting.explorer import explorer_page
from forexgpt_core.reporting.explorer_front import explorer_document


class StudyDataGone(ForexGPTError):
    """A study was made on bars, forecasts, rates or event guards that are gone or others now."""

    def __init__(self, study_id: int, symbol: str, data_version: str) -> None:
        super().__init__(study_id, symbol, data_version)
        self.study_id, self.symbol, self.data_version = study_id, symbol, data_version

    def __str__(self) -> str:
        return (
            f"study {self.study_id} of {self.symbol} stands on bars, forecasts, rates or event guards of data"
            f" {self.data_version} that are others now: its members cannot be traded again; run 'forexgpt optimise"
            f" {self.symbol}'"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStudy:
    """A search that is finished, or was asked to stop; `result.stopped` says why it ended.

    Attributes:
        overfitting: the verdict on it as JSON types, see `verdict.SearchVerdict.to_dict`.
        remembered: how many of its trials an earlier run had made; all of them where it was finished already.
    """

    study_id: int
    result: ParetoResult
    overfitting: Mapping[str, Any]
    remembered: int

    def shown(self, hash12: str) -> Mapping[str, Any]:
        """Return the verdict on one member."""
        told: Mapping[str, Any] = self.overfitting["members"][hash12]
        return told


def trials_ever(platform: Platform, settings: SymbolSettings) -> TrialRegistry:
    """Return every strategy that was ever tried on a pair, and with them the models that campaigns validated on it.

    Those count as well: the forecasts traded here are of a model that was chosen among them.
    """
    registry = platform.studies.trial_registry(settings.symbol, settings.timeframe)
    return replace(registry, unrecorded=registry.unrecorded + platform.campaigns.trials(settings.symbol))


def find(
    platform: Platform,
    market: TradedMarket,
    settings: ParetoSettings,
    *,
    progress: Callable[[Progress], None] = lambda told: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FoundStudy:
    """Return the search of those settings on a market: a finished one at once, otherwise made, or gone on with.

    Several processes may ask for the same search at once and share its trials.

    Args:
        should_stop: asked before every batch. What was found by then is scored, judged and returned, but the study is
            stopped and not finished: nothing can be deployed from it, and asking again goes on.

    Raises:
        BadInput, NotReady: see `pareto.search`.
        StoreError: the database went away; what it has of the search stays, and asking again goes on.
    """
    pair = market.settings
    asked = identity(market, settings)
    handle = platform.studies.open(asked)
    if handle.result is not None:
        return load(platform, handle.study_id)
    with _left_when_asked(handle, should_stop), handle.working() as store:
        result, evidence = search(
            market.bars,
            market.forecasts,
            pair.costs,
            symbol=pair.symbol,
            space=settings.search_space(pair.horizons_bars),
            settings=settings,
            cash=pair.cash,
            no_entry=market.no_entry,
            rates=market.rates,
            store=store,
            study=asked.key,
            keeper=platform.optuna,
            progress=progress,
            should_stop=should_stop,
        )
        verdict = judge_search(result, evidence, trials_ever(platform, pair))
    if result.stopped == "asked to stop":
        handle.stop()
        return FoundStudy(
            study_id=handle.study_id, result=result, overfitting=verdict.to_dict(), remembered=handle.trials
        )
    document = {**result.document(), "overfitting": verdict.to_dict()}
    handle.finish(document, {member.hash12: member.out_of_sample for member in result.members})
    return replace(load(platform, handle.study_id), remembered=handle.trials)


@contextmanager
def _left_when_asked(handle: StudyHandle, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Leave a study stopped, and not failed, that was asked to stop before it had found anything."""
    try:
        yield
    except NotReady:
        if should_stop():
            handle.stop()
        raise


def identity(market: TradedMarket, settings: ParetoSettings) -> StudyIdentity:
    """Return what makes a search of a market the same search."""
    pair, origins = market.settings, market.forecasts.origin_utc
    space = settings.search_space(pair.horizons_bars)
    return StudyIdentity(
        symbol=pair.symbol,
        timeframe=pair.timeframe,
        data_version=market.traded.data_version,
        first_bar_utc=from_utc(origins[0]),
        last_bar_utc=from_utc(origins[-1]),
        bundle_hash=market.traded.bundle_hash,
        space=space.document(),
        method=settings.method,
        settings={
            **{name: value for name, value in asdict(settings).items() if name not in ("space", "preset")},
            "objectives": settings.goals.names,  # named or usual
            "cash": pair.cash,
            "inputs": market.fingerprint(),
            "version": SEARCH_VERSION,
        },
        costs=pair.costs,
        seed=settings.seed,
    )


def load(platform: Platform, study_id: int) -> FoundStudy:
    """Return a finished search as it was stored.

    Raises:
        NotReady: it is not finished, or of an earlier release that kept less.
    """
    return _found(platform.studies.load(study_id))


def of_pair(platform: Platform, pair: SymbolSettings, study_id: int | None = None) -> FoundStudy:
    """Return a finished search of a pair, by default the one that was asked for last.

    Raises:
        UnknownName: there is none of that number.
        BadInput: it is another pair's, or of another timeframe than the pair has now.
        NotReady: it is not finished, or no search of the pair is.
    """
    if study_id is None:
        newest = platform.studies.newest(pair.symbol, pair.timeframe)
        if newest is None:
            raise NotReady(f"{pair.symbol} has no Pareto front yet: run 'forexgpt optimise {pair.symbol}'")
        return _found(newest)
    study = platform.studies.load(study_id)
    if (study.symbol, study.timeframe) != (pair.symbol, pair.timeframe):
        raise BadInput(
            f"study {study_id} is of {study.symbol} {study.timeframe}, not of {pair.symbol} {pair.timeframe}"
        )
    return _found(study)


def _found(study: Study) -> FoundStudy:
    if study.state != "finished" or "searched_utc" not in study.details:
        why = "is of an earlier release" if study.state == "finished" else f"is {study.state}"
        raise NotReady(f"study {study.study_id} of {study.symbol} {why}: run 'forexgpt optimise {study.symbol}'")
    result = restored(study)
    return FoundStudy(
        study_id=study.study_id, result=result, overfitting=study.details["overfitting"], remembered=result.trials
    )


def restored(study: Study) -> ParetoResult:
    """Return what a finished study found."""
    return ParetoResult.restore(
        study.details,
        [Trial(config=one.config, in_sample=dict(one.in_sample)) for one in study.trials],
        [(one.config, dict(one.in_sample), dict(one.out_of_sample or {})) for one in study.front],
    )


def replayed(platform: Platform, found: FoundStudy) -> tuple[TradedMarket, dict[str, Replay]]:
    """Return the market of a search, and every member's backtests on it.

    Raises:
        StudyDataGone: bars, forecasts, rates or event guards are others now.
        ReplayDiffers: a figure is another one.
    """
    study = platform.studies.load(found.study_id)
    try:
        pair = replace(platform.pair(study.symbol), costs=study.costs, spread_from_candles=False)
        market = traded_market(platform, pair)
    except NotReady as error:
        raise StudyDataGone(found.study_id, study.symbol, study.data_version) from error
    asked = study.identity.get("settings", {})
    if market.fingerprint() != asked.get("inputs") or market.traded.bundle_hash != study.bundle_hash:
        raise StudyDataGone(found.study_id, study.symbol, study.data_version)
    return market, replay(
        found.result,
        market.bars,
        market.forecasts,
        study.costs,
        symbol=study.symbol,
        cash=float(asked["cash"]),
        no_entry=market.no_entry,
        rates=market.rates,
    )


def explorer(platform: Platform, found: FoundStudy) -> str:
    """Return the interactive page of a search as HTML.

    Raises:
        StudyDataGone, ReplayDiffers: see `replayed`.
    """
    study = platform.studies.load(found.study_id)
    market, replays = replayed(platform, found)
    return explorer_page(
        explorer_document(
            found.result,
            found.overfitting,
            replays,
            symbol=study.symbol,
            timeframe=study.timeframe,
            study=found.study_id,
            cash=float(study.identity["settings"]["cash"]),
            costs=market.settings.costs,
        )
    )


def kept(platform: Platform, market: TradedMarket, settings: ParetoSettings) -> StudySummary | None:
    """Return what there is of a search by now, None where it was never begun."""
    return platform.studies.find(identity(market, settings))
