"""Models in and out of bundles, each with a probe that proves on loading that it still computes what it computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import Floats
from forexgpt_core.errors import BundleError, ForexGPTError
from forexgpt_core.features.windows import MarketArrays, Windows
from forexgpt_core.models.bundle import Bundle, BundleStore
from forexgpt_core.models.catalogue import forecaster_class
from forexgpt_core.models.files import read_arrays, read_json, write_arrays, write_json
from forexgpt_core.models.forecaster import Forecaster

SPLIT = "split.json"
_PROBE_BARS, _PROBE_ORIGINS = 512, 4
_PROBE_TOLERANCE = 1e-12  # relative to the largest quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A verified, probed model."""

    forecaster: Forecaster
    recipe_json: str
    feature_names: tuple[str, ...]
    bundle: Bundle


def write_model_bundle(
    store: BundleStore,
    forecaster: Forecaster,
    windows: Windows,
    *,
    recipe_json: str,
    kind: str,
    metadata: Mapping[str, object],
    split: Mapping[str, object] | None = None,
) -> Bundle:
    """Return the bundle of a fitted model, after loading it back and comparing its probe.

    Args:
        windows: any rows the model can forecast; the newest few become the probe.
        recipe_json: how its features are built.
        split: settings that its rows were split by, as JSON values; what is calibrated and validated later needs them.

    Raises:
        BundleError: what was saved does not forecast what the model in memory does.
    """
    probe = _probe_windows(windows)
    expected = forecaster.forecast(probe).quantiles

    def fill(folder: Path) -> None:
        forecaster.save(folder)
        (folder / "recipe.json").write_text(recipe_json, encoding="utf-8")
        write_json(folder / "feature_names.json", {"feature_names": list(forecaster.feature_names)})
        write_json(folder / "family.json", {"family": forecaster.family})
        if split is not None:
            write_json(folder / SPLIT, dict(split))
        _write_probe(folder, probe, expected)
        _require_probe(type(forecaster).load(folder), folder)

    arrays = windows.arrays
    return store.write(arrays.symbol, str(arrays.timeframe), kind, fill, metadata=metadata)


def load_model(store: BundleStore, symbol: str, timeframe: str, kind: str, hash12: str) -> LoadedModel:
    """Return the model of a bundle whose files, names and probe were checked.

    Raises:
        BundleError: a file is missing or altered, or the model no longer gives the probe's output.
    """
    bundle = store.open(symbol, timeframe, kind, hash12)
    forecaster = forecaster_class(str(bundle.read_json("family.json").get("family"))).load(bundle.path)
    names = bundle.read_json("feature_names.json").get("feature_names")
    if names != list(forecaster.feature_names):
        raise BundleError(f"feature_names.json of {hash12} does not list the columns the model was fitted on")
    _require_probe(forecaster, bundle.path)
    return LoadedModel(
        forecaster=forecaster,
        recipe_json=(bundle.path / "recipe.json").read_text(encoding="utf-8"),
        feature_names=forecaster.feature_names,
        bundle=bundle,
    )


def _probe_windows(windows: Windows) -> Windows:
    """Return the last few windows over a copy of nothing but the bars they stand on."""
    if len(windows) == 0:
        raise BundleError("a model bundle needs at least one window for its probe")
    arrays, last = windows.arrays, int(windows.rows[-1])
    bars = slice(max(0, last - _PROBE_BARS + 1), last + 1)
    rows = windows.rows[-_PROBE_ORIGINS:] - bars.start
    return Windows(
        arrays=_unlabelled(
            symbol=arrays.symbol,
            timeframe=arrays.timeframe,
            ts_utc=arrays.ts_utc[bars],
            close=arrays.close[bars],
            features=arrays.features[bars],
            feature_names=arrays.feature_names,
            horizons_bars=arrays.horizons_bars,
        ),
        rows=rows[rows >= 0],
    )


def _unlabelled(
    *,
    symbol: str,
    timeframe: Timeframe,
    ts_utc: np.ndarray,
    close: Floats,
    features: Floats,
    feature_names: tuple[str, ...],
    horizons_bars: tuple[int, ...],
) -> MarketArrays:
    return MarketArrays(
        symbol=symbol,
        timeframe=timeframe,
        ts_utc=ts_utc,
        close=close,
        features=features,
        feature_names=feature_names,
        horizons_bars=horizons_bars,
        returns=np.full((close.size, len(horizons_bars)), np.nan),
        label_end_utc=np.full(close.size, np.datetime64("NaT", "us")),
    )


def _write_probe(folder: Path, probe: Windows, quantiles: Floats) -> None:
    arrays = probe.arrays
    write_json(
        folder / "probe.json",
        {
            "symbol": arrays.symbol,
            "timeframe": str(arrays.timeframe),
            "feature_names": list(arrays.feature_names),
            "horizons_bars": list(arrays.horizons_bars),
        },
    )
    write_arrays(
        folder / "probe.npz",
        {
            "ts_utc": arrays.ts_utc.astype("datetime64[us]").astype(np.int64),
            "close": arrays.close,
            "features": arrays.features,
            "rows": probe.rows,
            "quantiles": quantiles,
        },
    )


def _require_probe(forecaster: Forecaster, folder: Path) -> None:
    described, stored = read_json(folder / "probe.json"), read_arrays(folder / "probe.npz")
    try:
        probe = Windows(
            arrays=_unlabelled(
                symbol=str(described["symbol"]),
                timeframe=Timeframe.parse(str(described["timeframe"])),
                ts_utc=stored["ts_utc"].astype("datetime64[us]"),
                close=stored["close"].astype(np.float64),
                features=stored["features"].astype(np.float64),
                feature_names=_names(described["feature_names"]),
                horizons_bars=forecaster.horizons_bars,
            ),
            rows=stored["rows"].astype(np.int64),
        )
        expected = stored["quantiles"].astype(np.float64)
        given = forecaster.forecast(probe).quantiles
    except (KeyError, TypeError, ValueError, IndexError, ForexGPTError) as error:
        raise BundleError(f"the probe in {folder.name} cannot be forecast: {error}") from error
    if given.shape != expected.shape or not np.abs(given - expected).max() <= _PROBE_TOLERANCE * np.abs(expected).max():
        raise BundleError(f"the model in {folder.name} does not give the output stored in 'probe.npz'; train it again")


def _names(listed: object) -> tuple[str, ...]:
    return tuple(str(name) for name in listed) if isinstance(listed, list) else ()
