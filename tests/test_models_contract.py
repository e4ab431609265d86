"""What every family owes, run over all of them on one market with something to learn and one with nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.errors import BadInput, BundleError, NotReady, UnknownName
from forexgpt_core.features.splits import Parts, SplitShares, evidence_parts
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays, usable
from forexgpt_core.models.catalogue import FAMILIES, family_options, forecaster_class, new_forecaster
from forexgpt_core.models.forecaster import FitRun, Forecaster
from forexgpt_core.models.random_walk import RandomWalk
from forexgpt_core.models.tabular import TabularForecaster, first_that_convinces, pinball
from forexgpt_core.reporting.models import training_picture

BARS, HORIZONS = 2600, (1, 4, 12)
EMPTY: dict[str, dict[str, object]] = {"forest": {"trees": 0}, "boosting": {"rounds": 0}}


def market(*, signal: float, seed: int = 5, bars: int = BARS) -> MarketArrays:
    """GARCH-like hourly bars; with a signal, feature 0 tells the next bar's spread and feature 1 its direction."""
    rng = np.random.default_rng(seed)
    ts = expected_opens(np.datetime64("2018-01-01T00:00"), np.datetime64("2019-06-01T00:00"), Timeframe.H1)[:bars]
    features = rng.normal(size=(bars, 6))
    shocks = rng.standard_t(6, size=bars) * np.exp(0.3 * np.sin(np.arange(bars) / 200))
    returns = 4e-4 * (shocks * np.exp(0.6 * signal * np.roll(features[:, 0], 1)) + signal * np.roll(features[:, 1], 1))
    stamps = pl.Series("ts_utc", ts)
    candles = pl.DataFrame({"ts_utc": stamps, "close": 1.1 * np.exp(np.cumsum(returns))})
    table = pl.DataFrame({"ts_utc": stamps, **{f"f{n}": features[:, n] for n in range(6)}})
    return market_arrays("EURUSD", Timeframe.H1, candles, table, HORIZONS)


def parts(arrays: MarketArrays) -> Parts:
    return evidence_parts(usable(arrays, matured=True), SplitShares())


def run(folder: Path, seed: int = 3) -> FitRun:
    return FitRun(seed=seed, folder=folder)


@pytest.fixture(scope="module")
def signal_parts() -> Parts:
    return parts(market(signal=0.8))


@pytest.fixture(scope="module")
def noise_parts() -> Parts:
    return parts(market(signal=0.0, seed=8))


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def fitted(request: pytest.FixtureRequest, signal_parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Forecaster:
    folder = tmp_path_factory.mktemp(request.param)
    return new_forecaster(request.param).fit(signal_parts.train, signal_parts.valid, run=run(folder))


class TestForecasterContract:
    def test_forecasts_are_finite_ordered_and_scaled(self, fitted: Forecaster, signal_parts: Parts) -> None:
        batch = fitted.forecast(signal_parts.test)
        assert batch.family == fitted.family
        assert batch.horizons_bars == fitted.horizons_bars == HORIZONS
        assert np.isfinite(batch.quantiles).all()
        assert (np.diff(batch.quantiles, axis=-1) >= 0).all()
        assert (batch.scale > 0).all()
        assert np.array_equal(batch.origin_utc, signal_parts.test.origin_utc)
        assert batch.paths is None

    def test_a_saved_model_forecasts_the_same_bits(
        self, fitted: Forecaster, signal_parts: Parts, tmp_path: Path
    ) -> None:
        fitted.save(tmp_path)
        loaded = type(fitted).load(tmp_path)
        before, after = fitted.forecast(signal_parts.test), loaded.forecast(signal_parts.test)
        assert np.array_equal(before.quantiles, after.quantiles)
        assert np.array_equal(before.scale, after.scale)
        assert loaded.feature_names == fitted.feature_names

    def test_saving_twice_gives_the_same_bytes(self, fitted: Forecaster, tmp_path: Path) -> None:
        folders = [tmp_path / "a", tmp_path / "b"]
        for folder in folders:
            folder.mkdir()
            fitted.save(folder)
        first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
        assert first == second

    def test_the_same_seed_gives_the_same_model(self, fitted: Forecaster, signal_parts: Parts, tmp_path: Path) -> None:
        again = new_forecaster(fitted.family).fit(signal_parts.train, signal_parts.valid, run=run(tmp_path))
        assert np.array_equal(again.forecast(signal_parts.test).quantiles, fitted.forecast(signal_parts.test).quantiles)

    def test_later_rows_change_nothing(self, fitted: Forecaster, signal_parts: Parts) -> None:
        windows = signal_parts.test.take(np.arange(20))
        cut, arrays = int(windows.rows[-1]) + 1, windows.arrays
        close, features, returns = arrays.close.copy(), arrays.features.copy(), np.full_like(arrays.returns, np.nan)
        close[cut:] *= 3
        features[cut:] = 99.0
        changed = Windows(arrays=replace(arrays, close=close, features=features, returns=returns), rows=windows.rows)
        assert np.array_equal(fitted.forecast(changed).quantiles, fitted.forecast(windows).quantiles)

    def test_fitting_reads_no_row_after_valid(self, fitted: Forecaster, signal_parts: Parts, tmp_path: Path) -> None:
        arrays, cut = signal_parts.train.arrays, int(signal_parts.valid.rows[-1]) + HORIZONS[-1] + 1
        close, features, returns = arrays.close.copy(), arrays.features.copy(), arrays.returns.copy()
        close[cut:], features[cut:], returns[cut:] = 9.0, 99.0, np.nan
        blind = replace(arrays, close=close, features=features, returns=returns)
        train, valid = (Windows(arrays=blind, rows=p.rows) for p in (signal_parts.train, signal_parts.valid))
        again = new_forecaster(fitted.family).fit(train, valid, run=run(tmp_path))
        assert np.array_equal(again.forecast(signal_parts.test).quantiles, fitted.forecast(signal_parts.test).quantiles)

    def test_one_origin_gives_the_bits_it_has_in_a_batch(self, fitted: Forecaster, signal_parts: Parts) -> None:
        batch = fitted.forecast(signal_parts.test)
        for position in (0, 7, len(signal_parts.test) - 1):
            alone = fitted.forecast(signal_parts.test.take(np.array([position])))
            assert np.array_equal(alone.quantiles[0], batch.quantiles[position])

    def test_no_windows_give_no_forecasts(self, fitted: Forecaster, signal_parts: Parts) -> None:
        assert len(fitted.forecast(signal_parts.test.take(np.array([], dtype=np.int64)))) == 0

    def test_an_unfitted_model_refuses(self, fitted: Forecaster, signal_parts: Parts, tmp_path: Path) -> None:
        fresh = new_forecaster(fitted.family)
        with pytest.raises(NotReady, match="not been fitted"):
            fresh.forecast(signal_parts.test)
        with pytest.raises(NotReady, match="not been fitted"):
            fresh.save(tmp_path)

    def test_a_picture_shows_the_training(self, fitted: Forecaster) -> None:
        assert training_picture(fitted, "EURUSD H1").startswith(b"\x89PNG")


def crps_like(forecaster: Forecaster, windows: Windows) -> float:
    batch = forecaster.forecast(windows)
    units, y = batch.quantiles / batch.scale[..., None], windows.returns / batch.scale
    return float(np.mean([pinball(units[:, h], y[:, h]).mean() for h in range(len(HORIZONS))]))


def test_what_can_be_learned_is_learned(fitted: Forecaster, signal_parts: Parts, tmp_path: Path) -> None:
    walk = RandomWalk().fit(signal_parts.train, signal_parts.valid, run=run(tmp_path))
    gain = 1 - crps_like(fitted, signal_parts.test) / crps_like(walk, signal_parts.test)
    assert gain == 0 if fitted.family == "random_walk" else gain > 0.03
    if isinstance(fitted, TabularForecaster):
        importance = fitted.fitted.importance
        assert {"f0", "f1"} <= set(sorted(importance, key=importance.__getitem__)[-3:])


@pytest.mark.parametrize("family", ["linear", "forest", "boosting"])
def test_noise_teaches_nothing_wild(family: str, noise_parts: Parts, tmp_path: Path) -> None:
    model = new_forecaster(family).fit(noise_parts.train, noise_parts.valid, run=run(tmp_path))
    batch = model.forecast(noise_parts.test)
    walk = RandomWalk().fit(noise_parts.train, noise_parts.valid, run=run(tmp_path))
    width = np.ptp(batch.quantiles, axis=-1) / np.ptp(walk.forecast(noise_parts.test).quantiles, axis=-1)
    assert width.min() > 0.6
    assert width.max() < 1.7
    assert np.abs(batch.quantiles[..., 4] / batch.scale).max() < 0.3
    assert crps_like(model, noise_parts.test) < 1.01 * crps_like(walk, noise_parts.test)


@pytest.mark.parametrize("family", ["linear", "forest", "boosting"])
def test_broken_features_cannot_make_a_wild_forecast(family: str, signal_parts: Parts, tmp_path: Path) -> None:
    model = new_forecaster(family).fit(signal_parts.train, signal_parts.valid, run=run(tmp_path))
    arrays = signal_parts.test.arrays
    broken = Windows(arrays=replace(arrays, features=arrays.features * 1e6), rows=signal_parts.test.rows)
    batch = model.forecast(broken)
    assert np.abs(batch.quantiles / batch.scale[..., None]).max() < 15


@pytest.mark.parametrize("family", ["forest", "boosting"])
def test_an_empty_model_is_the_walk(family: str, signal_parts: Parts, tmp_path: Path) -> None:
    model = new_forecaster(family, EMPTY[family]).fit(signal_parts.train, signal_parts.valid, run=run(tmp_path))
    walk = RandomWalk().fit(signal_parts.train, signal_parts.valid, run=run(tmp_path))
    assert np.array_equal(model.forecast(signal_parts.test).quantiles, walk.forecast(signal_parts.test).quantiles)


def test_infinitely_penalised_lines_are_the_walk(signal_parts: Parts, tmp_path: Path) -> None:
    model = new_forecaster("linear", {"caution": 1e9}).fit(signal_parts.train, signal_parts.valid, run=run(tmp_path))
    walk = RandomWalk().fit(signal_parts.train, signal_parts.valid, run=run(tmp_path))
    assert np.array_equal(model.forecast(signal_parts.test).quantiles, walk.forecast(signal_parts.test).quantiles)


@pytest.mark.parametrize("options", [{"penalty": "lasso"}, {"penalty": "elastic_net"}, {"pca_components": 4}])
def test_every_kind_of_line_learns(options: dict[str, object], signal_parts: Parts, tmp_path: Path) -> None:
    model = new_forecaster("linear", options).fit(signal_parts.train, signal_parts.valid, run=run(tmp_path))
    walk = RandomWalk().fit(signal_parts.train, signal_parts.valid, run=run(tmp_path))
    assert crps_like(model, signal_parts.test) < crps_like(walk, signal_parts.test)
    (tmp_path / "model").mkdir()
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert np.array_equal(loaded.forecast(signal_parts.test).quantiles, model.forecast(signal_parts.test).quantiles)


@pytest.fixture(scope="module")
def model(signal_parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Forecaster:
    folder = tmp_path_factory.mktemp("features")
    return new_forecaster("linear").fit(signal_parts.train, signal_parts.valid, run=run(folder))


class TestFeatures:
    def renamed(self, parts: Parts, names: tuple[str, ...]) -> Windows:
        return Windows(arrays=replace(parts.test.arrays, feature_names=names), rows=parts.test.rows)

    def test_another_order_is_refused_by_name(self, model: Forecaster, signal_parts: Parts) -> None:
        with pytest.raises(BundleError, match="'f1' must be column 1, found at 2"):
            model.forecast(self.renamed(signal_parts, ("f0", "f2", "f1", "f3", "f4", "f5")))

    def test_a_missing_feature_is_refused_by_name(self, model: Forecaster, signal_parts: Parts) -> None:
        with pytest.raises(BundleError, match="'f5'"):
            model.forecast(self.renamed(signal_parts, ("f0", "f1", "f2", "f3", "f4", "other")))

    def test_one_feature_too_many_is_refused_by_name(self, model: Forecaster, signal_parts: Parts) -> None:
        with pytest.raises(BundleError, match="'extra'"):
            model.forecast(self.renamed(signal_parts, ("f0", "f1", "f2", "f3", "f4", "f5", "extra")))

    def test_an_unknown_value_is_refused_by_column(self, model: Forecaster, signal_parts: Parts) -> None:
        features = signal_parts.test.arrays.features.copy()
        features[signal_parts.test.rows[3], 2] = np.nan
        with pytest.raises(BadInput, match="'f2'"):
            model.forecast(
                Windows(arrays=replace(signal_parts.test.arrays, features=features), rows=signal_parts.test.rows)
            )


def test_a_stopped_fit_keeps_what_it_has(signal_parts: Parts, tmp_path: Path) -> None:
    for family in ("linear", "forest", "boosting"):
        stopped = FitRun(seed=1, folder=tmp_path, should_stop=lambda: True)
        model = new_forecaster(family).fit(signal_parts.train, signal_parts.valid, run=stopped)
        assert np.isfinite(model.forecast(signal_parts.test).quantiles).all()


def test_a_forest_walked_as_arrays_answers_like_scikit_learn() -> None:
    from sklearn.ensemble import RandomForestRegressor

    from forexgpt_core.models.trees import Trees

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(700, 9)), rng.normal(size=(700, 2))
    forest = RandomForestRegressor(n_estimators=20, max_depth=8, random_state=0).fit(x, y)
    trees = Trees.of([tree.tree_ for tree in forest.estimators_])
    fresh = rng.normal(size=(1500, 9))
    np.testing.assert_allclose(trees.mean(fresh), forest.predict(fresh), rtol=0, atol=1e-9)
    stored = trees.to_arrays("a")
    assert np.array_equal(Trees.from_arrays(stored, "a", inputs=9).mean(fresh), trees.mean(fresh))
    stored["a_children"] = stored["a_children"] + 10**6
    with pytest.raises(ValueError, match="point outside"):
        Trees.from_arrays(stored, "a", inputs=9)


def test_only_a_clear_gain_convinces() -> None:
    rng = np.random.default_rng(1)
    base = rng.random(480)
    better, lucky = base - 0.05, base + rng.normal(size=480)
    assert first_that_convinces(np.stack([base, base - 0.02, better]), block_rows=24) == 2
    assert first_that_convinces(np.stack([base, lucky]), block_rows=24) == 0
    assert first_that_convinces(np.stack([base, better])[:, :60], block_rows=24) == 0  # two blocks prove nothing


class TestCatalogue:
    def test_unknown_families_are_named_with_the_known(self) -> None:
        with pytest.raises(UnknownName, match=r"'lstn'; known: random_walk"):
            forecaster_class("lstn")

    def test_unknown_options_are_named_with_the_known(self) -> None:
        with pytest.raises(BadInput, match=r"'tres'; known: trees"):
            new_forecaster("forest", {"tres": 5})

    @pytest.mark.parametrize("family", sorted(FAMILIES))
    def test_defaults_are_lawful_options(self, family: str) -> None:
        assert new_forecaster(family, family_options(family)).family == family

    @pytest.mark.parametrize(
        ("family", "options"),
        [
            ("random_walk", {"volatility": "garch"}),
            ("random_walk", {"decays": [1.0]}),
            ("random_walk", {"window_bars": 1}),
            ("linear", {"penalty": "l0"}),
            ("linear", {"pca_components": -1}),
            ("forest", {"max_depth": 0}),
            ("forest", {"leaf_share": 0.9}),
            ("boosting", {"learning_rate": 0}),
            ("boosting", {"rounds": -1}),
        ],
    )
    def test_unlawful_options_are_refused(self, family: str, options: dict[str, object]) -> None:
        with pytest.raises(BadInput):
            new_forecaster(family, options)

    def test_reading_the_catalogue_imports_no_library(self) -> None:
        import subprocess
        import sys

        code = (
            "import sys, forexgpt_core.models.catalogue, forexgpt_core.models.bundle, forexgpt_core.models.tabular;"
            "print([m for m in ('sklearn', 'xgboost', 'scipy.signal', 'scipy.stats', 'numba') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
