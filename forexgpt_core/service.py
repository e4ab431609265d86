"""The live side of a home: a deployed strategy with its feed, forecasts, journal and paper account."""

from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import polars as pl

from forexgpt_core.adapters.database.adherence import AdherenceRepository
from forexgpt_core.adapters.database.calibrators import CalibratorRepository
from forexgpt_core.adapters.database.forecasts import ForecastRepository
from forexgpt_core.adapters.database.journal import DatabaseJournal
from forexgpt_core.adapters.database.paper import DatabaseLedger
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.records import Deployment
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import Timeframe, bar_close, from_utc
from forexgpt_core.domain.orders import TradingState
from forexgpt_core.errors import NotReady
from forexgpt_core.live.adherence import Adherence, measure_adherence
from forexgpt_core.live.forecasting import EnsembleSource
from forexgpt_core.live.guard import Veto
from forexgpt_core.live.history import HistoryFeed
from forexgpt_core.live.journal import OPEN_STATES, DecisionRecord
from forexgpt_core.live.maturing import mature_forecasts
from forexgpt_core.live.paper import PaperBroker
from forexgpt_core.live.step import TickReport, flatten, replay, step

FOLD_DAYS = 30  # a finished fold older than this is hardly asked for again


@dataclass(frozen=True)
class LiveSession:
    """One deployment, ready to tick. Every deployment trades a paper account of its own."""

    platform: Platform
    deployment: Deployment

    @property
    def account(self) -> str:
        """Return the name of the paper account."""
        return f"paper:{self.deployment.deployment_id}"

    @cached_property
    def settings(self) -> SymbolSettings:
        """Return the pair's settings."""
        return self.platform.pair(self.deployment.symbol)

    @cached_property
    def feed(self) -> HistoryFeed:
        """Return the bars known now.

        Raises:
            NotReady: the pair is worked on another timeframe by now, and its source no longer gives these bars.
        """
        d = self.deployment
        if self.settings.timeframe != d.timeframe:
            raise NotReady(
                f"{d.symbol} trades {d.deployment_id} on {d.timeframe}, but its settings say {self.settings.timeframe}:"
                f" set `timeframe` back to {d.timeframe}, or deploy a strategy of {self.settings.timeframe}"
            )
        return HistoryFeed(bars=self.platform.newest_bars(self.settings), others=lambda: self.conversions)

    @cached_property
    def conversions(self) -> dict[str, pl.DataFrame]:
        """Return the candles, as known now, of the pairs that turn the quote currency into the account's.

        Raises:
            BadInput: the lake has none that lead there; the text says which to fetch.
        """
        platform, timeframe = self.platform, self.deployment.timeframe
        stored = platform.conversion_candles(replace(self.settings, costs=self.deployment.costs))
        pairs = {symbol: platform.pair(symbol) for symbol in stored}  # another timeframe has another source
        newer = {s: platform.newest_bars(pair) for s, pair in pairs.items() if pair.timeframe == timeframe}
        return stored | newer

    @cached_property
    def forecaster(self) -> EnsembleSource:
        """Return the deployed bundle, verified and loaded once, with the state that keeps it calibrated."""
        d = self.deployment
        return self.platform.forecast_source(d.symbol, Timeframe(d.timeframe), d.bundle_hash)

    @cached_property
    def journal(self) -> DatabaseJournal:
        """Return the order journal."""
        return DatabaseJournal(self.platform.database)

    @cached_property
    def broker(self) -> PaperBroker:
        """Return the paper account at its venue."""
        return PaperBroker(
            DatabaseLedger(self.platform.database),
            symbol=self.deployment.symbol,
            costs=self.deployment.costs,
            cash=self.settings.cash,
            account=self.account,
        )

    def tick(self, now_utc: datetime) -> TickReport:
        """Run one tick."""
        return step(
            self.deployment,
            now_utc,
            feed=self.feed,
            forecaster=self.forecaster,
            journal=self.journal,
            broker=self.broker,
            watch=self.platform.event_watch(self.settings, now_utc - timedelta(days=8), now_utc),
        )

    def replay(self) -> list[TickReport]:
        """Tick at the close of every bar that the source has beyond the lake, as if each had just closed."""
        timeframe = Timeframe(self.deployment.timeframe)
        newest = self.platform.lake.newest_candle(self.deployment.symbol, timeframe)
        opens = self.feed.bars["ts_utc"]
        fresh = opens.filter(opens > newest).to_numpy()
        moments = [from_utc(moment) for moment in bar_close(fresh, timeframe)]
        return replay(
            self.deployment,
            moments,
            feed=self.feed,
            forecaster=self.forecaster,
            journal=self.journal,
            broker=self.broker,
            watch=self.platform.event_watch(self.settings, moments[0], moments[-1]) if moments else None,
        )

    def flatten(self, now_utc: datetime, reason: str) -> TickReport:
        """Close what is open at the next bar, in whatever trading state."""
        return flatten(
            self.deployment, now_utc, feed=self.feed, journal=self.journal, broker=self.broker, reason=reason
        )

    @property
    def holds_something(self) -> bool:
        """Return whether the account has a position, or an order whose end is not known."""
        if self.journal.position(self.account) is not None:
            return True
        return any(one.state in OPEN_STATES for one in self.journal.intents(self.account))

    def wind_down(self, now_utc: datetime) -> TickReport | None:
        """Close what a replaced deployment left open; None where the pair is halted and nothing may be sent."""
        state = self.platform.trading_state.get(self.deployment.symbol)
        if state is not None and state.state is TradingState.HALTED:
            return None
        return self.flatten(now_utc, "the deployment was replaced")

    def event_guard(self, now_utc: datetime) -> str:
        """Return in words whether the economic calendar holds entries back now, and what to do about it."""
        watch = self.platform.event_watch(self.settings, now_utc, now_utc)
        if watch is None:
            return "off"
        vetoes = watch.vetoes(now_utc)
        if Veto.EVENTS_UNKNOWN in vetoes:
            return (
                f"{Veto.EVENTS_UNKNOWN}: no event of {' or '.join(watch.currencies)} is stored for the coming week, so"
                " no position is opened; import a calendar with 'forexgpt events import FILE'"
            )
        return f"{Veto.EVENT}: no position is opened around a release" if vetoes else "clear"

    def counts(self) -> dict[str, object]:
        """Return what the journal holds of this deployment, and how many venue orders an intent ever got beyond one."""
        decisions = self.journal.decisions(self.deployment.deployment_id)
        intents = self.journal.intents(self.account)
        fills = self.journal.fills(self.account)
        entries = Counter((f.client_order_id, f.reason) for f in fills if f.reason == "market")
        equity = decisions[-1].equity if decisions else None
        return {
            "ticks": len(decisions),
            "orders": len(intents),
            "fills": len(fills),
            "duplicates": sum(count - 1 for count in entries.values()),
            "vetoed": sum(bool(d.vetoes) for d in decisions),
            "cash": self.settings.cash,
            "equity": self.settings.cash if equity is None else float(equity),
        }

    def status(self) -> dict[str, object]:
        """Return what `forexgpt live status` shows of this deployment."""
        held = self.journal.position(self.account)
        state = self.platform.trading_state.get(self.deployment.symbol)
        decisions = self.journal.decisions(self.deployment.deployment_id)
        return {
            "symbol": self.deployment.symbol,
            "timeframe": self.deployment.timeframe,
            "deployment": self.deployment.deployment_id,
            "replaced": not self.deployment.active,
            "bundle_hash": self.deployment.bundle_hash,
            "config": self.deployment.config.hash12,
            "trading_state": "ACTIVE" if state is None else state.state.value,
            "state_reason": None if state is None else state.reason,
            "event_guard": self.event_guard(datetime.now(UTC)),
            "position": None if held is None else asdict(held),
            "last_bar_close_utc": decisions[-1].bar_close_utc if decisions else None,
            "last_decision": _told(decisions[-1]) if decisions else None,
            **self.counts(),
        }

    def picture(self) -> bytes:
        """Return the prices traded over, every fill, and the equity."""
        from forexgpt_core.reporting.live import EquityPoint, live_picture

        decisions = self.journal.decisions(self.deployment.deployment_id)
        bars = self.feed.bars
        if decisions:
            bars = bars.filter(bars["ts_utc"] >= decisions[0].bar_close_utc)
        return live_picture(
            [EquityPoint(ts_utc=d.bar_close_utc, equity=float(d.equity)) for d in decisions],
            self.journal.fills(self.account),
            bars,
            f"{self.deployment.symbol} {self.deployment.timeframe} {self.deployment.deployment_id}",
        )

    def adherence(self) -> Adherence:
        """Measure how orders followed decisions so far, and store it."""
        repository = AdherenceRepository(self.platform.database)
        figures = measure_adherence(repository.outcomes(self.deployment.deployment_id))
        repository.record(self.deployment.deployment_id, figures)
        return figures


def _told(decision: DecisionRecord) -> str:
    vetoes = f", held back by {', '.join(decision.vetoes)}" if decision.vetoes else ""
    return f"{decision.action}: {decision.reason}{vetoes}"


def active_sessions(platform: Platform) -> list[LiveSession]:
    """Return a session per active deployment, by pair."""
    return [LiveSession(platform, deployment) for deployment in platform.deployments.all_active()]


def replaced_sessions(platform: Platform) -> list[LiveSession]:
    """Return a session per deployment that was replaced while its account held something: they may only close."""
    ended = [LiveSession(platform, one) for one in platform.deployments.history() if not one.active]
    return [session for session in ended if session.holds_something]


def score_live_forecasts(platform: Platform, settings: SymbolSettings) -> int:
    """Fill in what became of a pair's live forecasts, store their scores, and return how many score rows changed."""
    bars = platform.newest_bars(settings)
    rows = mature_forecasts(ForecastRepository(platform.database), settings.symbol, settings.timeframe, bars)
    return platform.scores.merge_live(settings.symbol, settings.timeframe, rows) if rows else 0


def tidy(platform: Platform) -> dict[str, int]:
    """Apply retention and return what was removed; nothing a deployment, an order or the newest front names."""
    named = platform.deployments.protected_bundles() | platform.studies.protected_bundles()
    return {
        "bundles": len(platform.bundles.prune(protected=named)),
        "forecasts": ForecastRepository(platform.database).forget(),
        "folds": platform.folds.forget(older_than_days=FOLD_DAYS),
        "calibrator_states": CalibratorRepository(platform.database).forget(),
    }
