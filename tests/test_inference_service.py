"""The inference service: any horizons, loaded once, cached by what went in, with latency and provenance."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from forexgpt_core.calibration.conformal import ConformalCalibrator, write_calibration_bundle
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.forecasts import LEVELS, MEDIAN, ForecastBatch
from forexgpt_core.ensemble.bundle import write_ensemble_bundle
from forexgpt_core.ensemble.forecaster import EnsembleForecaster
from forexgpt_core.ensemble.horizons import at_horizons, in_bars
from forexgpt_core.ensemble.inference import InferenceService, ServiceSettings, input_hash
from forexgpt_core.ensemble.pooling import combine
from forexgpt_core.ensemble.regimes import REGIMES, UNKNOWN, RegimeModel, RegimeSettings
from forexgpt_core.errors import BadInput, BundleError, NotReady, UnknownName
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.sequences import BarSequence
from forexgpt_core.features.splits import Parts, SplitShares, evidence_parts
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays, usable
from forexgpt_core.models.bundle import Bundle, BundleStore
from forexgpt_core.models.bundled import write_model_bundle
from forexgpt_core.models.catalogue import new_forecaster
from forexgpt_core.models.forecaster import FitRun

HORIZONS, H1, FAMILIES = (1, 4, 24), Timeframe.H1, ("random_walk", "linear")
seeds = st.integers(0, 2**32 - 1)


# ---- horizons


class TestHorizons:
    @pytest.mark.parametrize(
        ("horizons", "unit", "base", "bars"),
        [
            ((1, 2, 3), H1, H1, (1, 2, 3)),
            ((1, 6), Timeframe.H4, H1, (4, 24)),
            ((1, 5), Timeframe.D1, H1, (24, 120)),
            ((1,), Timeframe.W1, H1, (120,)),
            ((4, 8), Timeframe.M15, H1, (1, 2)),
            ((60, 240, 1440), "minutes", H1, (1, 4, 24)),
            ((15, 45), "minutes", Timeframe.M15, (1, 3)),
            ((1,), "h4", Timeframe.M30, (8,)),
        ],
    )
    def test_they_are_turned_into_bars_of_market_time(
        self, horizons: tuple[int, ...], unit: str, base: Timeframe, bars: tuple[int, ...]
    ) -> None:
        assert in_bars(horizons, unit, base) == bars

    @pytest.mark.parametrize(
        ("horizons", "unit", "line"),
        [
            ((90,), "minutes", r"90 minutes is not a whole number of H1 bars"),
            ((4, 6), Timeframe.M15, r"6 bar\(s\) of M15 is not a whole number of H1 bars"),
            ((4, 1), H1, "increasing whole numbers from 1"),
            ((1, 1), H1, "increasing whole numbers from 1"),
            ((0,), H1, "increasing whole numbers from 1"),
            ((1.5,), H1, "increasing whole numbers from 1"),
            ((), H1, "increasing whole numbers from 1"),
        ],
    )
    def test_what_is_no_horizon_is_refused(self, horizons: tuple, unit: str, line: str) -> None:
        with pytest.raises(BadInput, match=line):
            in_bars(horizons, unit, H1)
        with pytest.raises(UnknownName, match="unknown timeframe"):
            in_bars((1,), "fortnights", H1)

    @settings(deadline=None)
    @given(drift=st.floats(-0.3, 0.3), volatility=st.floats(1e-5, 10))
    def test_between_trained_horizons_it_is_exact_for_brownian_motion_with_drift(
        self, drift: float, volatility: float
    ) -> None:
        given, interpolated = at_horizons(brownian(HORIZONS, drift, volatility), (1, 2, 4, 9, 23, 24))
        wanted = brownian((1, 2, 4, 9, 23, 24), drift, volatility)
        np.testing.assert_allclose(given.quantiles, wanted.quantiles, rtol=1e-9, atol=1e-12 * volatility)
        np.testing.assert_allclose(given.scale, wanted.scale, rtol=1e-12)
        assert given.horizons_bars == wanted.horizons_bars
        assert interpolated == (2, 9, 23)

    @settings(deadline=None)
    @given(seed=seeds)
    def test_it_never_crosses_and_a_trained_horizon_is_not_touched(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        batch = replace(
            brownian(HORIZONS, 0.0, 1.0),
            quantiles=np.sort(rng.standard_t(2, size=(1, 3, 9)), axis=-1),
            scale=rng.uniform(0.1, 3, size=(1, 3)),
        )
        given, _ = at_horizons(batch, tuple(range(1, 25)))
        assert (np.diff(given.quantiles, axis=-1) >= 0).all()
        np.testing.assert_array_equal(given.quantiles[:, [0, 3, 23]], batch.quantiles)
        np.testing.assert_array_equal(given.scale[:, [0, 3, 23]], batch.scale)
        medians, ends = given.quantiles[0, 3:, MEDIAN], batch.quantiles[0, 1:, MEDIAN]
        assert (medians >= ends.min() - 1e-12).all()
        assert (medians <= ends.max() + 1e-12).all()

    @pytest.mark.parametrize("horizons", [(1, 25), (2, 48)])
    def test_beyond_the_trained_ones_nothing_is_known(self, horizons: tuple[int, ...]) -> None:
        with pytest.raises(BadInput, match="trained for horizons of 1 to 24 H1 bars"):
            at_horizons(brownian(HORIZONS, 0.0, 1.0), horizons)
        with pytest.raises(BadInput, match="trained for horizons of 4 to 24"):
            at_horizons(brownian((4, 24), 0.0, 1.0), (2,))


def brownian(horizons: tuple[int, ...], drift: float, volatility: float) -> ForecastBatch:
    time_ = np.array(horizons, dtype=float)
    scale = volatility * np.sqrt(time_)
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="ensemble",
        origin_utc=np.array(["2018-01-02"], dtype="datetime64[us]"),
        horizons_bars=horizons,
        quantiles=(drift * volatility * time_[:, None] + scale[:, None] * ndtri(LEVELS))[None],
        scale=scale[None],
    )


# ---- bundles to ask


@pytest.fixture(scope="module")
def parts() -> Parts:
    rng = np.random.default_rng(0)
    ts = expected_opens(np.datetime64("2018-01-01"), np.datetime64("2018-12-01"), H1)[:1200]
    features = rng.normal(size=(1200, 4))
    stamps = pl.Series("ts_utc", ts)
    table = pl.DataFrame({"ts_utc": stamps, **{f"f{n}": features[:, n] for n in range(4)}})
    close = np.exp(np.cumsum(5e-4 * rng.standard_t(6, size=1200)))
    arrays = market_arrays("EURUSD", H1, pl.DataFrame({"ts_utc": stamps, "close": close}), table, HORIZONS)
    return evidence_parts(usable(arrays, matured=True), SplitShares())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BundleStore:
    return BundleStore(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def members(store: BundleStore, parts: Parts) -> dict[str, Bundle]:
    return {family: calibrated(store, parts, family) for family in FAMILIES}


def calibrated(store: BundleStore, parts: Parts, family: str) -> Bundle:
    model = new_forecaster(family).fit(parts.train, parts.valid, run=FitRun(seed=1, folder=Path()))
    recipe_json = Recipe.usual().to_json()
    parent = write_model_bundle(store, model, parts.train, recipe_json=recipe_json, kind=f"{family}_model", metadata={})
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


def written(store: BundleStore, members: dict[str, Bundle], **changes: object) -> Bundle:
    shares = dict(zip(sorted(members), ([0.3, 0.4, 0.5], [0.7, 0.6, 0.5])))
    arguments = {
        "symbol": "EURUSD",
        "timeframe": "H1",
        "members": {family: (one.kind, one.hash12) for family, one in members.items()},
        "weights": {family: np.array(share) for family, share in shares.items()},
        "recalibrator": ConformalCalibrator(
            horizons_bars=HORIZONS, radii=np.full((3, 4), 0.01), score_count=np.full(3, 99)
        ),
        "recipe_json": Recipe.usual().to_json(),
        "metadata": {},
        **changes,
    }
    return write_ensemble_bundle(store, **arguments)


@pytest.fixture(scope="module")
def hash12(store: BundleStore, members: dict[str, Bundle]) -> str:
    return written(store, members).hash12


@pytest.fixture(scope="module")
def origin(parts: Parts) -> Windows:
    return parts.test.take(np.array([-1]))


def changed(windows: Windows, **changes: object) -> Windows:
    return Windows(arrays=replace(windows.arrays, **changes), rows=windows.rows)


# ---- the bundle of modes and regimes


class TestModesInABundle:
    def test_an_ensemble_of_an_earlier_release_is_the_same_bundle_and_loads(
        self, store: BundleStore, members: dict[str, Bundle], hash12: str, parts: Parts
    ) -> None:
        bundle = store.open("EURUSD", "H1", "ensemble", hash12)
        assert set(bundle.read_json("config.json")) == {"horizons_bars", "members"}
        assert not (bundle.path / "regimes.json").exists()
        loaded = EnsembleForecaster.load(store, "EURUSD", "H1", hash12)
        assert (loaded.mode, loaded.uncertainty_exponent, loaded.regimes) == ("weighted", 0.0, None)
        assert loaded.regime_places(parts.test) is None

    def test_mode_and_uncertainty_come_back(self, store: BundleStore, members: dict[str, Bundle], parts: Parts) -> None:
        bundle = written(store, members, mode="voting", uncertainty_exponent=1.0)
        loaded = EnsembleForecaster.load(store, "EURUSD", "H1", bundle.hash12)
        batches = [member.forecast(parts.test) for member in loaded.members.values()]
        weights = np.stack([loaded.weights[family] for family in loaded.members])
        expected = combine(batches, weights, mode="voting", uncertainty_exponent=1.0)
        np.testing.assert_array_equal(loaded.pooled(parts.test).quantiles, expected.quantiles)
        np.testing.assert_array_equal(
            loaded.forecast(parts.test).quantiles, loaded.recalibrator.apply(expected).quantiles
        )

    def test_the_weights_are_those_of_the_regime_at_the_origin(
        self, store: BundleStore, members: dict[str, Bundle], parts: Parts
    ) -> None:
        regimes = RegimeModel.fit(
            parts.train.arrays.close[: parts.train.rows[-1] + 1],
            RegimeSettings(volatility_bars=24, trend_bars=24, least_bars=100),
        )
        shares = np.linspace(0, 1, len(REGIMES))
        by_regime = {
            regime: {"linear": np.full(3, share), "random_walk": np.full(3, 1 - share)}
            for regime, share in zip(REGIMES, shares)
        }
        bundle = written(store, members, regimes=regimes, regime_weights=by_regime)
        loaded = EnsembleForecaster.load(store, "EURUSD", "H1", bundle.hash12)
        assert loaded.regimes == regimes
        places = loaded.regime_places(parts.test)
        np.testing.assert_array_equal(places, regimes.labels(parts.test.arrays.close)[parts.test.rows])
        assert len(set(places.tolist())) > 3
        linear, walk = (loaded.members[family].forecast(parts.test).quantiles for family in ("linear", "random_walk"))
        share = shares[places][:, None, None]
        pooled = loaded.pooled(parts.test).quantiles
        np.testing.assert_allclose(pooled, share * linear + (1 - share) * walk, rtol=1e-9, atol=1e-15)
        for row in (0, 7, -1):
            alone = loaded.pooled(parts.test.take(np.array([row])))
            np.testing.assert_allclose(alone.quantiles[0], pooled[row], rtol=1e-9, atol=1e-15)
        early = Windows(arrays=parts.test.arrays, rows=np.array([5]))
        assert loaded.regime_places(early).tolist() == [UNKNOWN]
        overall = {family: member.forecast(early).quantiles for family, member in loaded.members.items()}
        wanted = sum(loaded.weights[family][:, None] * overall[family] for family in overall)
        np.testing.assert_allclose(loaded.pooled(early).quantiles, wanted, rtol=1e-9)

    def test_what_does_not_go_together_is_refused(
        self, store: BundleStore, members: dict[str, Bundle], parts: Parts
    ) -> None:
        regimes = RegimeModel.fit(parts.train.arrays.close, RegimeSettings())
        with pytest.raises(BadInput, match="go together"):
            written(store, members, regimes=regimes)
        with pytest.raises(BadInput, match="go together"):
            written(store, members, regimes=regimes, regime_weights={"high_up": {}})
        with pytest.raises(BadInput, match="mode must be one of"):
            written(store, members, mode="sum")
        wrong = {regime: {"linear": np.ones(3), "random_walk": np.ones(3)} for regime in REGIMES}
        with pytest.raises(BadInput, match="sum to 1"):
            written(store, members, regimes=regimes, regime_weights=wrong)


# ---- the service


class TestService:
    def test_it_answers_as_the_ensemble_does_and_says_what_it_was_made_of(
        self, store: BundleStore, members: dict[str, Bundle], hash12: str, origin: Windows
    ) -> None:
        answer = InferenceService(store).forecast(origin, hash12)
        loaded = EnsembleForecaster.load(store, "EURUSD", "H1", hash12)
        np.testing.assert_array_equal(answer.forecasts.quantiles, loaded.forecast(origin).quantiles)
        made = answer.provenance
        assert made.bundle_hash == hash12
        assert made.member_hashes == {family: one.hash12 for family, one in members.items()}
        assert made.model_hashes == {f: one.model.bundle.hash12 for f, one in loaded.members.items()}
        assert made.calibrator == "split normalised"
        assert made.recipe_hash == Recipe.usual().hash12
        assert made.input_hash == input_hash(origin)
        assert not made.cached
        assert made.interpolated_bars == ()
        assert answer.latency_ms > 0

    def test_ten_horizons_at_once_in_other_units_from_one_forecast(
        self, store: BundleStore, hash12: str, origin: Windows
    ) -> None:
        service = InferenceService(store)
        ten = service.forecast(origin, hash12, horizons=range(1, 11))
        assert ten.forecasts.horizons_bars == tuple(range(1, 11))
        assert ten.forecasts.quantiles.shape == (1, 10, 9)
        assert ten.provenance.interpolated_bars == (2, 3, 5, 6, 7, 8, 9, 10)
        for asked, unit in (((1, 2, 6), Timeframe.H4), ((240, 480, 1440), "minutes")):
            other = service.forecast(origin, hash12, horizons=asked, unit=unit)
            assert other.provenance.cached
            assert other.forecasts.horizons_bars == (4, 8, 24)
            assert other.provenance.interpolated_bars == (8,)
            np.testing.assert_array_equal(other.forecasts.quantiles[:, :2], ten.forecasts.quantiles[:, [3, 7]])
        with pytest.raises(BadInput, match="trained for horizons of 1 to 24 H1 bars"):
            service.forecast(origin, hash12, horizons=(2,), unit=Timeframe.D1)

    def test_fewer_members_are_another_forecast(self, store: BundleStore, hash12: str, origin: Windows) -> None:
        service = InferenceService(store)
        whole, alone = service.forecast(origin, hash12), service.forecast(origin, hash12, families=["random_walk"])
        assert not alone.provenance.cached
        assert list(alone.provenance.member_hashes) == ["random_walk"]
        assert not np.array_equal(whole.forecasts.quantiles, alone.forecasts.quantiles)
        with pytest.raises(NotReady, match="no member"):
            service.forecast(origin, hash12, families=["lstm"])

    def test_a_cached_answer_ages_by_the_clock(self, store: BundleStore, hash12: str, origin: Windows) -> None:
        now = [100.0]
        service = InferenceService(store, settings=ServiceSettings(cache_seconds=60), clock=lambda: now[0])
        cached = []
        for at in (100.0, 130.0, 159.9, 160.1, 161.0):
            now[0] = at
            cached.append(service.forecast(origin, hash12).provenance.cached)
        assert cached == [False, True, True, False, True]

    def test_the_cache_is_bounded_and_the_least_recently_used_goes_first(
        self, store: BundleStore, hash12: str, parts: Parts
    ) -> None:
        service = InferenceService(store, settings=ServiceSettings(cached_forecasts=2))
        one, two, three = (parts.test.take(np.array([row])) for row in (0, 1, 2))
        for windows in (one, two, one, three):
            service.forecast(windows, hash12)
        assert service.forecast(one, hash12).provenance.cached
        assert not service.forecast(two, hash12).provenance.cached

    def test_an_answer_belongs_to_who_asked(self, store: BundleStore, hash12: str, origin: Windows) -> None:
        service = InferenceService(store)
        first = service.forecast(origin, hash12).forecasts
        kept = first.quantiles.copy()
        first.quantiles[:] = 0
        first.scale[:] = 0
        first.origin_utc[:] = np.datetime64("1999-01-01")
        again = service.forecast(origin, hash12)
        assert again.provenance.cached
        np.testing.assert_array_equal(again.forecasts.quantiles, kept)
        np.testing.assert_array_equal(again.forecasts.origin_utc, origin.origin_utc)

    def test_a_bundle_is_loaded_once_however_many_ask_first(
        self, store: BundleStore, hash12: str, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load, loads = EnsembleForecaster.load, []

        def slow(*arguments: object) -> EnsembleForecaster:
            loads.append(arguments)
            time.sleep(0.05)  # so that every thread arrives meanwhile
            return load(*arguments)

        monkeypatch.setattr(EnsembleForecaster, "load", slow)
        service, answers = InferenceService(store), {}
        gate = threading.Barrier(8)

        def ask(number: int) -> None:
            gate.wait()
            answers[number] = service.forecast(parts.test.take(np.array([number % 4])), hash12)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert len(loads) == 1
        assert len(answers) == 8
        assert sum(not answer.provenance.cached for answer in answers.values()) == 4, "equal questions share one"
        for number in range(4):
            np.testing.assert_array_equal(answers[number].forecasts.quantiles, answers[number + 4].forecasts.quantiles)

    def test_a_bundle_that_could_not_be_loaded_is_tried_again(
        self, store: BundleStore, hash12: str, origin: Windows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = InferenceService(store)
        with monkeypatch.context() as broken:
            broken.setattr(EnsembleForecaster, "load", lambda *_: (_ for _ in ()).throw(BundleError("altered")))
            with pytest.raises(BundleError, match="altered"):
                service.forecast(origin, hash12)
        assert not service.forecast(origin, hash12).provenance.cached
        assert service.ensemble("EURUSD", "H1", hash12) is service.ensemble("EURUSD", "H1", hash12)

    def test_only_so_many_bundles_are_held(self, store: BundleStore, members: dict[str, Bundle], hash12: str) -> None:
        service = InferenceService(store, settings=ServiceSettings(held_bundles=1))
        first = service.ensemble("EURUSD", "H1", hash12)
        service.ensemble("EURUSD", "H1", written(store, members, mode="median").hash12)
        assert service.ensemble("EURUSD", "H1", hash12) is not first

    def test_a_bundle_of_another_pair_is_not_found(self, store: BundleStore, hash12: str, origin: Windows) -> None:
        with pytest.raises(BundleError, match="no bundle GBPUSD/H1/ensemble"):
            InferenceService(store).forecast(changed(origin, symbol="GBPUSD"), hash12)

    @pytest.mark.parametrize("name", ["cache_seconds", "cached_forecasts", "held_bundles"])
    def test_settings_that_keep_nothing_are_refused(self, name: str) -> None:
        with pytest.raises(BadInput, match=name):
            ServiceSettings(**{name: 0})


class TestInputHash:
    def test_later_bars_change_nothing(self, parts: Parts) -> None:
        windows = parts.test.take(np.array([3]))
        end = int(windows.rows[0]) + 1
        arrays = windows.arrays
        later = np.arange(arrays.close.size) >= end
        other = changed(
            windows,
            close=np.where(later, 9.0, arrays.close),
            features=np.where(later[:, None], 9.0, arrays.features),
            returns=np.zeros_like(arrays.returns),
        )
        assert input_hash(other) == input_hash(windows)

    def test_whatever_may_be_read_changes_it(self, parts: Parts) -> None:
        windows = parts.test.take(np.array([3]))
        arrays, row = windows.arrays, int(windows.rows[0])
        bars = sequence(arrays)
        known = [
            windows,
            parts.test.take(np.array([4])),
            changed(windows, symbol="GBPUSD"),
            changed(windows, close=bumped(arrays.close, row)),
            changed(windows, close=bumped(arrays.close, 0)),
            changed(windows, features=bumped(arrays.features, row)),
            changed(windows, feature_names=arrays.feature_names[::-1]),
            changed(windows, ts_utc=arrays.ts_utc - np.timedelta64(1, "h")),
            changed(windows, sequences={H1: bars}),
            changed(windows, sequences={H1: replace(bars, values=bumped(bars.values, row))}),
            changed(windows, sequences={H1: replace(bars, names=("open",))}),
        ]
        assert len({input_hash(one) for one in known}) == len(known)
        two = parts.test.take(np.array([3, 4]))  # the older of two origins reads one bar less than it might
        newest = bars.newest.copy()
        newest[row] -= 1
        asked = [input_hash(changed(two, sequences={H1: b})) for b in (bars, replace(bars, newest=newest))]
        assert asked[0] != asked[1], "which bar is the newest at each origin"
        late = replace(bars, values=bumped(bars.values, row + 1))
        assert input_hash(changed(windows, sequences={H1: late})) == input_hash(known[-3])


def bumped(x: np.ndarray, row: int) -> np.ndarray:
    changed_ = x.copy()
    changed_[row] += 0.5
    return changed_


def sequence(arrays: MarketArrays) -> BarSequence:
    return BarSequence(
        timeframe=H1,
        ts_utc=arrays.ts_utc,
        values=arrays.close[:, None],
        names=("close",),
        price_columns=(0,),
        newest=np.arange(arrays.close.size),
    )
