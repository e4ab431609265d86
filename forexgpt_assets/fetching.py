"""Set a provider as the source of a pair's candles, from the command line."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from forexgpt_assets.runs import add_symbol, session
from forexgpt_core.deployment.documents import suggestion
from forexgpt_core.deployment.symbol_settings import PROVIDERS, Source
from forexgpt_core.errors import BadInput


def use_provider(symbol: str, provider: str, start: str) -> str:
    """Save a provider as the pair's source, add the pair to the graph if it is new, and return what was set.

    Args:
        symbol: of the pair.
        provider: one of PROVIDERS; empty for the one the pair has.
        start: first day of history wanted, as YYYY-MM-DD; empty for the one the pair has, or a year ago.

    Raises:
        BadInput: no such provider, or no such day.
        ProviderError: the provider needs a key and there is none; then nothing is saved.
    """
    with session() as (platform, instance):
        settings = platform.pair(symbol)
        kind = provider or settings.source.kind
        if kind not in PROVIDERS:
            raise BadInput(f"unknown provider '{kind}'{suggestion(kind, PROVIDERS)}")
        today = datetime.now(UTC).date()
        source = Source(kind=kind, start=start or settings.source.start or str(today - timedelta(days=365)))
        if str(source.start) > str(today):
            raise BadInput(f"--start {source.start} lies in the future; expected a day up to {today}")
        hold_back = 0 if settings.source.kind == "sample" else settings.hold_back_bars
        chosen = replace(settings, source=source, hold_back_bars=hold_back)
        platform.source(chosen)
        platform.pairs.save(chosen, by="candles fetch")
        add_symbol(instance, chosen.symbol)
        return f"{chosen.symbol} now has its candles from {kind}, from {source.start} on"
