from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtri

from forexgpt_core.calibration.conformal import ConformalCalibrator, load_calibrated, write_calibration_bundle
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.forecasts import INTERVALS, LEVELS, ForecastBatch
from forexgpt_core.ensemble.inference import EnsembleForecaster, pool, write_ensemble_bundle
from forexgpt_core.errors import BadInput, BundleError, NotReady
from forexgpt_core.features.build import build_features
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.splits import Parts, SplitShares, evidence_parts
from forexgpt_core.features.windows import Windows, market_arrays, usable
from forexgpt_core.live.forecasting import EnsembleSource
from forexgpt_core.models.bundle import Bundle, BundleStore
from forexgpt_core.models.bundled import write_model_bundle
from forexgpt_core.models.catalogue import FAMILIES, new_forecaster
from forexgpt_core.models.forecaster import FitRun

HORIZONS = (1, 4)


def normal(mean: float, width: float, *, family: str, n: int = 5) -> ForecastBatch:
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family=family,
        origin_utc=np.datetime64("2018-01-01", "us") + np.arange(n) * np.timedelta64(3600, "s"),
        horizons_bars=HORIZONS,
        quantiles=np.broadcast_to(mean + width * ndtri(LEVELS), (n, 2, LEVELS.size)).copy(),
        scale=np.full((n, 2), width),
    )


class TestPool:
    def test_quantiles_are_averaged_level_by_level(self) -> None:
        pooled = pool([normal(0, 1, family="a"), normal(2, 3, family="b")], np.array([[0.75, 0.5], [0.25, 0.5]]))
        np.testing.assert_allclose(pooled.quantiles[:, 0], normal(0.5, 1.5, family="c").quantiles[:, 0])
        np.testing.assert_allclose(pooled.quantiles[:, 1], normal(1.0, 2.0, family="c").quantiles[:, 1])
        np.testing.assert_allclose(pooled.scale[0], [1.5, 2.0])
        assert pooled.family == "ensemble"

    def test_weights_may_change_with_the_origin(self) -> None:
        weights = np.zeros((2, 5, 2))
        weights[0, :3], weights[1, 3:] = 1.0, 1.0
        pooled = pool([normal(0, 1, family="a"), normal(2, 3, family="b")], weights)
        np.testing.assert_array_equal(pooled.quantiles[:3], normal(0, 1, family="a").quantiles[:3])
        np.testing.assert_array_equal(pooled.quantiles[3:], normal(2, 3, family="b").quantiles[3:])

    def test_the_order_of_the_members_does_not_matter(self) -> None:
        members = [normal(0.1 * k, 1 + k, family=str(k)) for k in range(4)]
        weights = np.array([[0.1, 0.4], [0.2, 0.3], [0.3, 0.2], [0.4, 0.1]])
        turned = pool(members[::-1], weights[::-1])
        np.testing.assert_allclose(turned.quantiles, pool(members, weights).quantiles, rtol=1e-12)

    @pytest.mark.parametrize(
        "weights", [np.array([[0.5, 0.5], [0.6, 0.5]]), np.array([[1.5, 0.5], [-0.5, 0.5]]), np.ones((3, 2)) / 3]
    )
    def test_what_is_no_weight_is_refused(self, weights: np.ndarray) -> None:
        with pytest.raises(BadInput, match="weights"):
            pool([normal(0, 1, family="a"), normal(2, 3, family="b")], weights)

    def test_members_that_do_not_line_up_are_refused(self) -> None:
        first, half = normal(0, 1, family="a"), np.full((2, 2), 0.5)
        with pytest.raises(BadInput, match="different origins"):
            pool([first, replace(normal(0, 1, family="b"), origin_utc=first.origin_utc[::-1])], half)
        with pytest.raises(BadInput, match="b forecasts timeframe H4, but a H1"):
            pool([first, replace(normal(0, 1, family="b"), timeframe="H4")], half)
        with pytest.raises(BadInput, match="at least one member"):
            pool([], half)


@pytest.fixture(scope="module")
def parts() -> Parts:
    rng = np.random.default_rng(0)
    ts = expected_opens(np.datetime64("2018-01-01"), np.datetime64("2018-12-01"), Timeframe.H1)[:2000]
    features = rng.normal(size=(2000, 4))
    returns = 5e-4 * rng.standard_t(6, size=2000) * np.exp(0.6 * np.roll(features[:, 0], 1))
    stamps = pl.Series("ts_utc", ts)
    table = pl.DataFrame({"ts_utc": stamps, **{f"f{n}": features[:, n] for n in range(4)}})
    candles = pl.DataFrame({"ts_utc": stamps, "close": np.exp(np.cumsum(returns))})
    return evidence_parts(
        usable(market_arrays("EURUSD", Timeframe.H1, candles, table, HORIZONS), matured=True), SplitShares()
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BundleStore:
    return BundleStore(tmp_path_factory.mktemp("bundles"))


def calibrated(store: BundleStore, parts: Parts, family: str, recipe: Recipe) -> Bundle:
    options: dict[str, object] = {"rounds": 20} if family == "boosting" else {}
    model = new_forecaster(family, options).fit(parts.train, parts.valid, run=FitRun(seed=1, folder=Path()))
    parent = write_model_bundle(
        store, model, parts.train, recipe_json=recipe.to_json(), kind=f"{family}_model", metadata={}
    )
    calibrator = ConformalCalibrator.fit(model.forecast(parts.calibration), parts.calibration.returns)
    return write_calibration_bundle(
        store,
        calibrator,
        symbol="EURUSD",
        timeframe="H1",
        kind=f"{family}_calibration",
        parent=parent,
        metadata={},
    )


@pytest.fixture(scope="module")
def members(store: BundleStore, parts: Parts) -> dict[str, Bundle]:
    return {family: calibrated(store, parts, family, Recipe.usual()) for family in FAMILIES}


@pytest.fixture(scope="module")
def recalibrator() -> ConformalCalibrator:
    return ConformalCalibrator(horizons_bars=HORIZONS, radii=np.full((2, 4), 0.01), score_count=np.array([9, 9]))


def written(
    store: BundleStore, members: dict[str, Bundle], recalibrator: ConformalCalibrator, **changes: object
) -> Bundle:
    weights = {family: np.full(2, 1 / len(members)) for family in members}
    arguments = {
        "symbol": "EURUSD",
        "timeframe": "H1",
        "members": {family: (one.kind, one.hash12) for family, one in members.items()},
        "weights": weights,
        "recalibrator": recalibrator,
        "recipe_json": Recipe.usual().to_json(),
        "metadata": {},
        **changes,
    }
    return write_ensemble_bundle(store, **arguments)


@pytest.fixture(scope="module")
def ensemble(store: BundleStore, members: dict[str, Bundle], recalibrator: ConformalCalibrator) -> EnsembleForecaster:
    bundle = written(store, members, recalibrator)
    return EnsembleForecaster.load(store, "EURUSD", "H1", bundle.hash12)


class TestCalibratedModel:
    @pytest.mark.parametrize("family", sorted(FAMILIES))
    def test_it_comes_back_with_its_model(
        self, family: str, store: BundleStore, members: dict[str, Bundle], parts: Parts
    ) -> None:
        model = load_calibrated(store, "EURUSD", "H1", f"{family}_calibration", members[family].hash12)
        raw, final = model.model.forecaster.forecast(parts.test), model.forecast(parts.test)
        assert np.array_equal(final.quantiles, model.calibrator.apply(raw).quantiles)
        low, high = INTERVALS[90]
        y = parts.test.returns[:, 0]
        inside = ((y >= final.quantiles[:, 0, low]) & (y <= final.quantiles[:, 0, high])).mean()
        assert abs(inside - 0.9) < 0.06

    def test_an_altered_parent_is_refused(self, tmp_path: Path, parts: Parts) -> None:
        own = BundleStore(tmp_path)
        bundle = calibrated(own, parts, "random_walk", Recipe.usual())
        model = load_calibrated(own, "EURUSD", "H1", bundle.kind, bundle.hash12).model.bundle
        (model.path / "config.json").write_text("{}")
        with pytest.raises(BundleError, match=r"'config.json'"):
            load_calibrated(own, "EURUSD", "H1", bundle.kind, bundle.hash12)


class TestEnsemble:
    def test_it_is_the_recalibrated_pool_of_its_members(self, ensemble: EnsembleForecaster, parts: Parts) -> None:
        batches = [member.forecast(parts.test) for member in ensemble.members.values()]
        expected = ensemble.recalibrator.apply(pool(batches, np.full((4, 2), 0.25)))
        given = ensemble.forecast(parts.test)
        np.testing.assert_allclose(given.quantiles, expected.quantiles, rtol=1e-12)
        assert given.family == "ensemble"
        assert ensemble.horizons_bars == HORIZONS
        assert ensemble.recipe == Recipe.usual()

    def test_the_same_ensemble_is_the_same_bundle(
        self,
        store: BundleStore,
        members: dict[str, Bundle],
        recalibrator: ConformalCalibrator,
        ensemble: EnsembleForecaster,
    ) -> None:
        assert written(store, members, recalibrator) == ensemble.bundle
        turned = dict(reversed(members.items()))
        assert written(store, turned, recalibrator) == ensemble.bundle

    def test_a_single_member_is_legal(
        self, store: BundleStore, members: dict[str, Bundle], recalibrator: ConformalCalibrator, parts: Parts
    ) -> None:
        bundle = written(store, {"random_walk": members["random_walk"]}, recalibrator)
        alone = EnsembleForecaster.load(store, "EURUSD", "H1", bundle.hash12)
        assert list(alone.members) == ["random_walk"]
        assert len(alone.forecast(parts.test)) == len(parts.test)

    def test_it_can_go_on_with_fewer_members(self, ensemble: EnsembleForecaster, parts: Parts) -> None:
        reduced = ensemble.forecast(parts.test, families={"random_walk"})
        alone = ensemble.recalibrator.apply(
            pool([ensemble.members["random_walk"].forecast(parts.test)], np.ones((1, 2)))
        )
        assert np.array_equal(reduced.quantiles, alone.quantiles)
        with pytest.raises(NotReady, match="no member"):
            ensemble.forecast(parts.test, families={"lstm"})

    def test_a_member_of_another_recipe_is_refused(
        self, store: BundleStore, members: dict[str, Bundle], recalibrator: ConformalCalibrator, parts: Parts
    ) -> None:
        stranger = calibrated(store, parts, "random_walk", Recipe.from_document({"indicators": {"rsi": {"bars": 21}}}))
        bundle = written(store, {**members, "random_walk": stranger}, recalibrator)
        with pytest.raises(BundleError, match="member random_walk was trained on features of another recipe"):
            EnsembleForecaster.load(store, "EURUSD", "H1", bundle.hash12)

    def test_a_bundle_of_an_earlier_release_says_to_train_again(
        self, store: BundleStore, members: dict[str, Bundle], recalibrator: ConformalCalibrator
    ) -> None:
        bundle = written(store, members, recalibrator, recipe_json='{"adx":true,"rsi_bars":14,"timeframes":["H1"]}')
        with pytest.raises(BundleError, match=rf"bundle {bundle.hash12} was trained on .* train it again") as refused:
            EnsembleForecaster.load(store, "EURUSD", "H1", bundle.hash12)
        assert "\n" not in str(refused.value)

    def test_other_weights_than_members_are_refused(
        self, store: BundleStore, members: dict[str, Bundle], recalibrator: ConformalCalibrator
    ) -> None:
        with pytest.raises(BadInput, match="same families"):
            written(store, members, recalibrator, weights={"linear": np.ones(2)})
        with pytest.raises(BadInput, match="sum to 1"):
            written(store, members, recalibrator, weights={family: np.ones(2) for family in members})

    def test_a_member_that_is_gone_is_refused(
        self, store: BundleStore, members: dict[str, Bundle], recalibrator: ConformalCalibrator
    ) -> None:
        with pytest.raises(BundleError, match="no bundle"):
            written(store, {family: replace(one, hash12="0" * 12) for family, one in members.items()}, recalibrator)

    def test_pruning_keeps_what_the_ensemble_needs(self, store: BundleStore, ensemble: EnsembleForecaster) -> None:
        store.prune(keep=1, protected={ensemble.bundle.hash12})
        again = EnsembleForecaster.load(store, "EURUSD", "H1", ensemble.bundle.hash12)
        assert set(again.members) == set(FAMILIES)


BESIDE = Recipe.from_document(
    {
        "timeframes": ["H1", "H4"],
        "pairs": ["GBPUSD"],
        "indicators": {"ohlc": {}, "cross_return": {}, "cross_z": {"bars": 8}},
    }
)


def walk(bars: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    ts = expected_opens(np.datetime64("2018-01-01T22", "us"), np.datetime64("2018-12-30T23", "us"), Timeframe.H1)[:bars]
    close = 1.2 * np.exp(np.cumsum(rng.normal(0, 1e-3, bars)))
    prices = {"open": close, "high": close * 1.001, "low": close / 1.001, "close": close, "volume": np.ones(bars)}
    return pl.DataFrame({"ts_utc": pl.Series(ts).dt.replace_time_zone("UTC"), **prices})


@pytest.fixture(scope="module")
def bars() -> dict[str, pl.DataFrame]:
    return {"EURUSD": walk(1500, 1), "GBPUSD": walk(1500, 2)}


@pytest.fixture(scope="module")
def stored(bars: dict[str, pl.DataFrame]) -> Windows:
    inputs = FeatureInputs(symbol="EURUSD", pairs={"GBPUSD": bars["GBPUSD"]})
    features = build_features(bars["EURUSD"], Timeframe.H1, BESIDE, inputs=inputs).drop("log_open_h4")
    return usable(market_arrays("EURUSD", Timeframe.H1, bars["EURUSD"], features, HORIZONS), matured=False)


@pytest.fixture(scope="module")
def loaded(
    stored: Windows, recalibrator: ConformalCalibrator, tmp_path_factory: pytest.TempPathFactory
) -> EnsembleForecaster:
    own = BundleStore(tmp_path_factory.mktemp("live"))
    parts = evidence_parts(usable(stored.arrays, matured=True), SplitShares())
    made = {family: calibrated(own, parts, family, BESIDE) for family in ("linear", "random_walk")}
    bundle = written(own, made, recalibrator, recipe_json=BESIDE.to_json())
    return EnsembleForecaster.load(own, "EURUSD", "H1", bundle.hash12)


def source(loaded: EnsembleForecaster, other: pl.DataFrame) -> EnsembleSource:
    inputs = FeatureInputs(symbol="EURUSD", pairs={"GBPUSD": other})
    return EnsembleSource(ensemble=loaded, symbol="EURUSD", timeframe=Timeframe.H1, inputs=inputs)


@pytest.mark.parametrize("row", [1100, 1302, 1499])
def test_it_forecasts_what_the_stored_features_do(
    loaded: EnsembleForecaster, bars: dict[str, pl.DataFrame], stored: Windows, row: int
) -> None:
    live = source(loaded, bars["GBPUSD"]).forecast(bars["EURUSD"].head(row + 1))
    wanted = loaded.forecast(Windows(arrays=stored.arrays, rows=np.array([row])))
    np.testing.assert_array_equal(live.origin_utc, wanted.origin_utc)
    np.testing.assert_allclose(live.quantiles, wanted.quantiles, rtol=1e-12)


def test_another_pair_that_is_far_behind_is_named_and_nothing_is_forecast(
    loaded: EnsembleForecaster, bars: dict[str, pl.DataFrame]
) -> None:
    behind = source(loaded, bars["GBPUSD"].head(1470))
    line = r"feature\(s\) of EURUSD have no value at 2018-.*: cross_.*; candles of GBPUSD end at 2018-.*: fetch what"
    with pytest.raises(NotReady, match=line):
        behind.forecast(bars["EURUSD"])
