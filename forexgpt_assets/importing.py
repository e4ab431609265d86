"""Where a pair's candles come from, set from the command line: a file, imported at once, or a provider."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from forexgpt_assets.runs import add_symbol, materialize, session
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.documents import suggestion
from forexgpt_core.deployment.symbol_settings import PROVIDERS, Source
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput
from forexgpt_core.features.recipe import DEFAULT_TIMEFRAMES


def import_file(file: Path, symbol: str, timeframe: str, timezone: str) -> dict[str, object]:
    """Judge and merge a file's candles and return what the lake then holds.

    A pair that is new gets the file's timeframe as its base timeframe. The file takes the place of the sample candles:
    those would otherwise be merged over it by the next run of `candles`.

    Raises:
        BadInput: the file is missing, or the pair is worked on another timeframe.
    """
    frame = Timeframe.parse(timeframe)
    if not file.is_file():
        raise BadInput(f"no such file: {file}; expected a CSV or Parquet file of candles")
    with session() as (platform, instance):
        settings = platform.pair(symbol)
        if settings.timeframe != frame:
            if platform.lake.symbols("candles").count(settings.symbol):
                raise BadInput(
                    f"{settings.symbol} is worked on {settings.timeframe}, the file is said to be {frame}; import"
                    f" {settings.timeframe} candles or change `timeframe` with 'forexgpt symbols import'"
                )
            settings = replace(settings, timeframe=frame.value, recipe=settings.recipe or _recipe_from(frame))
        if settings.source.kind == "sample":
            settings = replace(settings, source=Source(), hold_back_bars=0)
        before = platform.lake.candles(settings.symbol, frame).height if _known(platform, settings.symbol, frame) else 0
        platform.pairs.save(settings, by="candles import")
        key = add_symbol(instance, settings.symbol)
        materialize(instance, ["candles"], key, {"candles": {"file": str(file.resolve()), "timezone": timezone}})
        bars = platform.lake.candles(key, frame)
        return {
            "symbol": key,
            "timeframe": frame.value,
            "bars": bars.height,
            "new_bars": bars.height - before,
            "first_utc": bars["ts_utc"][0],
            "last_utc": bars["ts_utc"][-1],
            "lake_version": platform.lake.candles_version(key, frame),
        }


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


def _recipe_from(frame: Timeframe) -> dict[str, object]:
    """Return a recipe of the base timeframe and the usual ones above it; the usual one begins at H1."""
    above = [t.value for t in DEFAULT_TIMEFRAMES if t.seconds > frame.seconds]
    return {"timeframes": [frame.value, *above]}


def _known(platform: Platform, symbol: str, frame: Timeframe) -> bool:
    return bool(platform.lake.exists("candles", symbol, frame))
