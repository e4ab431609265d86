"""Import a candle file through the `candles` asset, so that the UI shows it like any other run."""

from dataclasses import replace
from pathlib import Path

import dagster as dg

from forexgpt_assets.runs import RunFailed, add_symbol, materialize, session
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import Source
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput
from forexgpt_core.features.recipe import DEFAULT_TIMEFRAMES


def import_file(file: Path, symbol: str, timeframe: str, timezone: str) -> dict[str, object]:
    """Judge and merge a file's candles and return what the lake then holds.

    A pair that is new gets the file's timeframe as its base timeframe. The file takes the place of the sample candles:
    those would otherwise be merged over it by the next run of `candles`. A file that is refused changes nothing: the
    pair keeps its settings, and one that was not in the graph does not stay there.

    Raises:
        BadInput: the file is missing, or the pair is worked on another timeframe.
        RunFailed: the file was refused.
    """
    frame = Timeframe.parse(timeframe)
    if not file.is_file():
        raise BadInput(f"no such file: {file}; expected a CSV or Parquet file of candles")
    with session() as (platform, instance):
        settings = before = platform.pair(symbol)
        if settings.timeframe != frame:
            if platform.lake.symbols("candles").count(settings.symbol):
                raise BadInput(
                    f"{settings.symbol} is worked on {settings.timeframe}, the file is said to be {frame}; import"
                    f" {settings.timeframe} candles or change `timeframe` with 'forexgpt symbols import'"
                )
            settings = replace(settings, timeframe=frame.value, recipe=settings.recipe or _recipe_from(frame))
        if settings.source.kind == "sample":
            settings = replace(settings, source=Source(), hold_back_bars=0)
        known = platform.lake.candles(settings.symbol, frame).height if _known(platform, settings.symbol, frame) else 0
        new = not instance.has_dynamic_partition("symbol", settings.symbol)
        platform.pairs.save(settings, by="candles import")
        key = add_symbol(instance, settings.symbol)
        config = {"candles": {"file": str(file.resolve()), "timezone": timezone}}
        try:
            run = materialize(instance, ["candles"], key, config)
        except RunFailed:
            platform.pairs.save(before, by="candles import, refused")
            if new:
                instance.delete_dynamic_partition("symbol", key)
            raise
        bars = platform.lake.candles(key, frame)
        return {
            "symbol": key,
            "timeframe": frame.value,
            "bars": bars.height,
            "new_bars": bars.height - known,
            "first_utc": bars["ts_utc"][0],
            "last_utc": bars["ts_utc"][-1],
            "lake_version": platform.lake.candles_version(key, frame),
            **_warnings(run),
        }


def _warnings(run: dg.ExecuteInProcessResult) -> dict[str, object]:
    """Return what the checks want a person to look at, under the check's own word for it."""
    found = [
        check.metadata["warning"].value for check in run.get_asset_check_evaluations() if "warning" in check.metadata
    ]
    return {"warning": "; ".join(map(str, found))} if found else {}


def _recipe_from(frame: Timeframe) -> dict[str, object]:
    """Return a recipe of the base timeframe and the usual ones above it; the usual one begins at H1."""
    above = [t.value for t in DEFAULT_TIMEFRAMES if t.seconds > frame.seconds]
    return {"timeframes": [frame.value, *above]}


def _known(platform: Platform, symbol: str, frame: Timeframe) -> bool:
    return bool(platform.lake.exists("candles", symbol, frame))
