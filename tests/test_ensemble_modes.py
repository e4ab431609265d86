"""Ways to make one law of several, what they do to its spread, and the out-of-sample evidence of each."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from forexgpt_core.calibration.conformal import ConformalCalibrator
from forexgpt_core.domain.forecasts import INTERVALS, LEVELS, MEDIAN, Floats, ForecastBatch, law_cdf
from forexgpt_core.ensemble.evidence import EnsembleEvidence, by_family, ensemble_evidence
from forexgpt_core.ensemble.pooling import MODES, combine, pool, scaled_by_spread
from forexgpt_core.ensemble.regimes import REGIMES, RegimeModel, RegimeSettings
from forexgpt_core.ensemble.weights import METHODS, WeightSettings, final_regime_weights
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.evaluation.scores import crps

START = np.datetime64("2018-01-02", "us")
seeds = st.integers(0, 2**32 - 1)


def laws(quantiles: Floats, *, family: str = "any", scale: Floats | None = None, rows: Floats | None = None):
    n, horizons = quantiles.shape[:2]
    places = np.arange(n) if rows is None else rows
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family=family,
        origin_utc=START + places * np.timedelta64(1, "h"),
        horizons_bars=(1, 4, 24)[:horizons],
        quantiles=quantiles,
        scale=np.ones((n, horizons)) if scale is None else scale,
    )


def normal(means: Floats, widths: Floats | float, **changes: object) -> ForecastBatch:
    means = np.asarray(means, dtype=float)
    widths = np.broadcast_to(np.asarray(widths, dtype=float), means.shape)
    return laws(means[..., None] + widths[..., None] * ndtri(LEVELS), **changes)


def random_members(seed: int, members: int, n: int = 6, horizons: int = 3) -> tuple[list[ForecastBatch], Floats]:
    rng = np.random.default_rng(seed)
    batches = [
        laws(np.sort(rng.standard_t(3, size=(n, horizons, 9)), axis=-1), scale=rng.uniform(0.5, 2, (n, horizons)))
        for _ in range(members)
    ]
    weights = rng.uniform(size=(members, n, horizons)) * (rng.uniform(size=(members, n, horizons)) < 0.8) + 1e-9
    return batches, weights / weights.sum(axis=0)


class TestModes:
    @settings(deadline=None, max_examples=50)
    @given(seed=seeds, members=st.integers(1, 6), mode=st.sampled_from(MODES), exponent=st.sampled_from([0.0, 1.0]))
    def test_each_gives_a_lawful_forecast_whatever_the_order(
        self, seed: int, members: int, mode: str, exponent: float
    ) -> None:
        batches, weights = random_members(seed, members)
        given = combine(batches, weights, mode=mode, uncertainty_exponent=exponent)
        assert (np.diff(given.quantiles, axis=-1) >= 0).all()
        assert given.family == "ensemble"
        assert (given.scale > 0).all()
        turned = combine(batches[::-1], weights[::-1], mode=mode, uncertainty_exponent=exponent)
        np.testing.assert_allclose(turned.quantiles, given.quantiles, atol=1e-9)
        low, high = (
            np.stack([b.quantiles for b in batches]).min(axis=0),
            np.stack([b.quantiles for b in batches]).max(axis=0),
        )
        if mode != "voting":
            assert (given.quantiles >= low - 1e-9).all()
            assert (given.quantiles <= high + 1e-9).all()

    @pytest.mark.parametrize("mode", MODES)
    def test_members_that_agree_are_their_own_ensemble(self, mode: str) -> None:
        one = normal([[0.3, -0.2]], 1.5)
        given = combine([one, one, one], np.full((3, 2), 1 / 3), mode=mode)
        np.testing.assert_allclose(given.quantiles, one.quantiles, rtol=1e-12)

    def test_mean_does_not_listen_to_weights_and_weighted_does(self) -> None:
        members = [normal([[0.0]], 1.0), normal([[2.0]], 3.0)]
        weights = np.array([[0.75], [0.25]])
        expected = {"mean": normal([[1.0]], 2.0), "weighted": normal([[0.5]], 1.5)}
        for mode, wanted in expected.items():
            np.testing.assert_allclose(combine(members, weights, mode=mode).quantiles, wanted.quantiles)
        np.testing.assert_array_equal(combine(members, weights).quantiles, pool(members, weights).quantiles)

    def test_median_does_not_care_how_wild_one_member_is(self) -> None:
        members = [normal([[0.0]], 1.0), normal([[0.1]], 1.2), normal([[1e6]], 1e6)]
        given = combine(members, np.full((3, 1), 1 / 3), mode="median")
        np.testing.assert_allclose(given.quantiles[..., MEDIAN], 0.1)
        np.testing.assert_allclose(
            given.quantiles, np.median(np.stack([member.quantiles for member in members]), axis=0)
        )

    @pytest.mark.parametrize(
        ("medians", "expected"),
        [
            ((0.2, 0.1, 0.3), 0.2),  # all up: the weighted law as it is
            ((-0.1, -0.1, 0.5), -0.1),  # two votes down outvote a weighted median of +0.1
            ((0.4, -0.1, 0.0), 0.0),  # a tie, for the one without an opinion does not vote
            ((0.3, 0.0, 0.0), 0.1),  # one vote is the majority of one
            ((0.0, 0.0, 0.0), 0.0),
        ],
    )
    def test_voting_gives_the_median_the_sign_of_the_majority(self, medians: tuple, expected: float) -> None:
        members = [normal([[median]], 1.0 + k) for k, median in enumerate(medians)]
        weights = np.full((3, 1), 1 / 3)
        given, pooled = combine(members, weights, mode="voting"), pool(members, weights)
        np.testing.assert_allclose(given.quantiles[..., MEDIAN], expected, atol=1e-12)
        np.testing.assert_allclose(np.diff(given.quantiles, axis=-1), np.diff(pooled.quantiles, axis=-1), atol=1e-12)

    @settings(deadline=None, max_examples=50)
    @given(seed=seeds, members=st.integers(1, 5))
    def test_the_median_of_a_vote_has_the_sign_that_was_counted(self, seed: int, members: int) -> None:
        batches, weights = random_members(seed, members)
        votes = np.sign(np.stack([b.quantiles[..., MEDIAN] for b in batches])).sum(axis=0)
        given = combine(batches, weights, mode="voting").quantiles[..., MEDIAN]
        np.testing.assert_array_equal(np.sign(np.round(given, 12)), np.sign(votes))

    def test_there_is_no_other_mode(self) -> None:
        with pytest.raises(BadInput, match="mode must be one of weighted, mean, median, voting, was 'sum'"):
            combine([normal([[0.0]], 1.0)], np.ones((1, 1)), mode="sum")
        with pytest.raises(BadInput, match="at least one member"):
            combine([], np.ones((0, 1)), mode="mean")


class TestUncertainty:
    def test_it_is_off_by_default_and_then_changes_no_bit(self) -> None:
        batches, weights = random_members(3, 4)
        assert scaled_by_spread(batches, weights, 0.0) is weights
        assert WeightSettings().uncertainty_exponent == 0

    def test_a_member_twice_as_unsure_as_the_others_weighs_half(self) -> None:
        members = [normal([[0.0]], 1.0), normal([[0.0]], 1.0), normal([[0.0]], 2.0)]
        weights = np.full((3, 1), 1 / 3)
        np.testing.assert_allclose(scaled_by_spread(members, weights, 1.0)[:, 0, 0], [0.4, 0.4, 0.2])
        np.testing.assert_allclose(scaled_by_spread(members, weights, 2.0)[:, 0, 0], [4 / 9, 4 / 9, 1 / 9])

    @settings(deadline=None, max_examples=50)
    @given(seed=seeds, members=st.integers(1, 5), exponent=st.floats(0.1, 4), unit=st.floats(1e-6, 1e6))
    def test_it_knows_no_unit_and_weights_stay_weights(
        self, seed: int, members: int, exponent: float, unit: float
    ) -> None:
        batches, weights = random_members(seed, members)
        scaled = scaled_by_spread(batches, weights, exponent)
        assert (scaled >= 0).all()
        np.testing.assert_allclose(scaled.sum(axis=0), 1)
        other = [replace(b, quantiles=b.quantiles * unit) for b in batches]
        np.testing.assert_allclose(scaled_by_spread(other, weights, exponent), scaled, rtol=1e-6)

    def test_a_member_that_claims_to_know_exactly_does_not_take_all(self) -> None:
        members = [normal([[0.0]], width) for width in (0.0, 1.0, 1.0)]
        scaled = scaled_by_spread(members, np.full((3, 1), 1 / 3), 1.0)[:, 0, 0]
        np.testing.assert_allclose(scaled, np.array([10, 1, 1]) / 12)


class TestDispersion:
    """y = a + b + e; one member knows a, the other b, both are calibrated, as long as what they know differs little."""

    @staticmethod
    def world(private: float, n: int = 40_000) -> tuple[list[ForecastBatch], Floats]:
        rng = np.random.default_rng(11)
        shared, rest = rng.normal(size=n), np.sqrt(1 - private**2)
        a, b = private * rng.normal(size=(2, n))
        y = shared + a + b + rest * rng.normal(size=n)
        spread = np.sqrt(private**2 + rest**2)
        return [normal((shared + one)[:, None], spread) for one in (a, b)], y[:, None]

    def variance_of_pit(self, values: Floats) -> float:
        return float(12 * values.var())  # 1 for a calibrated law, below for one that is too wide

    @pytest.mark.parametrize("private", [0.4, 0.8])
    def test_a_mixture_is_too_wide_averaged_quantiles_less_so_and_recalibration_mends_it(self, private: float) -> None:
        members, y = self.world(private)
        for member in members:
            assert self.variance_of_pit(law_cdf(member.quantiles, y)) == pytest.approx(1, abs=0.02)
        mixture = self.variance_of_pit(np.mean([law_cdf(member.quantiles, y) for member in members], axis=0))
        pooled = pool(members, np.full((2, 1), 0.5))
        averaged = self.variance_of_pit(law_cdf(pooled.quantiles, y))
        assert mixture < averaged - 0.01
        assert mixture < 0.97
        half = np.arange(len(y)) < len(y) // 2
        mended = ConformalCalibrator.fit(pooled.take(half), y[half]).apply(pooled.take(~half))
        for percent, (low, high) in INTERVALS.items():
            inside = ((y[~half] >= mended.quantiles[..., low]) & (y[~half] <= mended.quantiles[..., high])).mean()
            assert inside == pytest.approx(percent / 100, abs=0.012)

    def test_averaged_quantiles_keep_the_spread_where_members_err_alike(self) -> None:
        """Forecasters of exchange rates nearly do: then averaging quantiles costs nothing and a mixture still does."""
        rng = np.random.default_rng(3)
        y = rng.normal(size=(40_000, 1))
        shift = np.full((40_000, 1), 0.8)
        members = [normal(shift, 1.0), normal(-shift, 1.0)]  # unbiased together
        mixture = self.variance_of_pit(np.mean([law_cdf(member.quantiles, y) for member in members], axis=0))
        averaged = self.variance_of_pit(law_cdf(pool(members, np.full((2, 1), 0.5)).quantiles, y))
        assert averaged == pytest.approx(1, abs=0.02)
        assert mixture < 0.8


# ---- evidence

FAMILIES, N = ("random_walk", "sharp", "wild"), 900


def world(
    seed: int = 0, rows: np.ndarray | None = None
) -> tuple[dict[str, tuple[ForecastBatch, Floats]], pl.DataFrame]:
    """Return stored forecasts of three families at some rows of a market, and all its candles."""
    rng = np.random.default_rng(seed)
    steps = 1e-3 * rng.standard_t(5, size=N + 24) * np.repeat([1, 2, 0.5], N // 3 + 8)
    close = 1.2 * np.exp(np.cumsum(steps))
    at = np.arange(N) if rows is None else rows
    returns = np.stack([np.log(close[at + h] / close[at]) for h in (1, 4)], axis=1)
    scale = 1.3e-3 * np.sqrt([1, 4]) * np.ones((at.size, 1))
    widths = {"random_walk": 1.0, "sharp": 0.8, "wild": 3.0}
    members = {
        family: (
            normal(0.1 * scale * rng.normal(size=scale.shape), width * scale, family=family, scale=scale, rows=at),
            returns,
        )
        for family, width in widths.items()
    }
    ts = pl.Series("ts_utc", START + np.arange(close.size) * np.timedelta64(1, "h")).dt.replace_time_zone("UTC")
    return members, pl.DataFrame({"ts_utc": ts, "close": close})


REGIME = RegimeSettings(volatility_bars=20, trend_bars=20, least_bars=60)
SCORED = START + np.timedelta64(400, "h")


def evidence_of(
    members: dict[str, tuple[ForecastBatch, Floats]],
    candles: pl.DataFrame | None = None,
    adaptive: bool = True,
    **changes: object,
) -> EnsembleEvidence:
    return ensemble_evidence(
        members,
        reference="random_walk",
        scored_from_utc=SCORED,
        settings=WeightSettings(**changes),
        adaptive=adaptive,
        candles=candles,
    )


class TestEvidence:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("by_regime", [False, True])
    def test_every_mode_is_there_beside_equal_weights_and_the_reference(self, method: str, by_regime: bool) -> None:
        members, candles = world()
        given = evidence_of(members, candles, method=method, regimes=REGIME if by_regime else None)
        assert tuple(given.modes) == MODES
        for batch in given.modes.values():
            np.testing.assert_array_equal(batch.origin_utc, given.reference.origin_utc)
        assert given.forecasts is given.modes["weighted"]
        assert given.equal_weights.family == "equal_weights"
        np.testing.assert_array_equal(given.equal_weights.quantiles, given.modes["mean"].quantiles)
        assert given.weights.shape == (3, N, 2)
        np.testing.assert_allclose(given.weights.sum(axis=0), 1)
        assert (given.weights[given.names.index("random_walk")] > 0).all()
        assert set(given.today_by_regime) == (set(REGIMES) if by_regime else set())
        assert set(by_family(given.names, given.today)) == set(FAMILIES)
        if method == "equal":
            np.testing.assert_allclose(given.forecasts.quantiles, given.equal_weights.quantiles, rtol=1e-9)
        else:
            assert (given.today[2] < given.today[0]).all(), "the wild member has lost weight"

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("by_regime", [False, True])
    def test_what_comes_later_changes_nothing_before(self, method: str, by_regime: bool) -> None:
        """Prices after bar 600 change, and with them every return that reaches past it."""
        members, candles = world()
        cut = 600
        close = candles["close"].to_numpy().copy()
        close[cut + 1 :] *= np.exp(0.05 * np.random.default_rng(9).normal(size=close.size - cut - 1))
        returns = np.stack([np.log(close[np.arange(N) + h] / close[:N]) for h in (1, 4)], axis=1)
        other = {family: (batch, returns) for family, (batch, _) in members.items()}
        chosen = {"method": method, "regimes": REGIME if by_regime else None, "uncertainty_exponent": 1.0}
        before = evidence_of(members, candles, **chosen)
        after = evidence_of(other, candles.with_columns(close=pl.Series(close)), **chosen)
        np.testing.assert_array_equal(before.weights[:, : cut + 1], after.weights[:, : cut + 1])
        scored_before_cut = cut - 400 + 1
        for mode in MODES:
            np.testing.assert_array_equal(
                before.modes[mode].quantiles[:scored_before_cut], after.modes[mode].quantiles[:scored_before_cut]
            )
        assert method == "equal" or not np.array_equal(before.today, after.today)

    def test_today_s_regimes_are_those_of_all_bars_up_to_the_newest_origin(self) -> None:
        members, candles = world()
        given = evidence_of(members, candles, regimes=REGIME)
        fitted = RegimeModel.fit(candles["close"].to_numpy()[:N], REGIME)
        assert given.regimes == fitted, "the bars after the newest origin are not among them"
        losses = np.stack([crps(batch.quantiles, returns) for batch, returns in members.values()])
        losses /= members["random_walk"][0].scale
        labels = fitted.labels(candles["close"].to_numpy()[:N])
        wanted = final_regime_weights(losses, labels, WeightSettings(regimes=REGIME))
        for place, name in enumerate(REGIMES):
            np.testing.assert_allclose(given.today_by_regime[name], wanted[place], rtol=1e-12)
        assert not np.array_equal(labels, given.labels), "what was known then is another matter"

    def test_missing_origins_mature_by_their_bars(self) -> None:
        rows = np.flatnonzero(np.arange(N) % 3 == 0)
        members, candles = world(rows=rows)
        by_bars, by_number = evidence_of(members, candles), evidence_of(members)
        assert not np.array_equal(by_bars.weights, by_number.weights)
        # the label of row 0 over four bars is known at row 6, the third origin; counting origins, at the fifth
        np.testing.assert_allclose(by_bars.weights[:, 2, 1], by_number.weights[:, 4, 1], rtol=1e-12)
        np.testing.assert_array_equal(by_bars.weights[:, :2, 1], np.full((3, 2), 1 / 3))

    def test_recalibration_sees_no_label_that_ends_after_the_first_scored_origin(self) -> None:
        members, candles = world()
        before = evidence_of(members, candles, adaptive=False, method="equal")
        first = 400
        shocked = {}
        for family, (batch, returns) in members.items():
            changed = returns.copy()
            changed[first - 3 : first, 1] += 1.0  # four-bar labels that end after the first scored origin
            shocked[family] = (batch, changed)
        after = evidence_of(shocked, candles, adaptive=False, method="equal")
        np.testing.assert_array_equal(before.forecasts.quantiles, after.forecasts.quantiles)

    def test_adaptive_intervals_learn_from_outcomes_once_these_are_known(self) -> None:
        members, candles = world()
        before, first = evidence_of(members, candles, method="equal"), 400
        shocked = {}
        for family, (batch, returns) in members.items():
            changed = returns.copy()
            changed[first + 50, 1] += 1.0  # a label over four bars, known at the origin four bars later
            shocked[family] = (batch, changed)
        after = evidence_of(shocked, candles, method="equal")
        same = (before.forecasts.quantiles == after.forecasts.quantiles).all(axis=(1, 2))
        assert same[:54].all()
        assert not same[54]
        assert before.adaptive is not None
        assert before.adaptive.as_of_utc == before.forecasts.origin_utc[-1]
        assert before.adaptive.version == len(before.forecasts)
        assert evidence_of(members, candles, adaptive=False).adaptive is None

    def test_the_reference_is_calibrated_as_the_modes_are(self) -> None:
        """An ensemble of nothing but the walk has no skill over it, however much its intervals have learnt."""
        members, candles = world()
        alone = {"random_walk": members["random_walk"], "twin": members["random_walk"]}
        for adaptive in (True, False):
            given = evidence_of(alone, candles, adaptive=adaptive)
            np.testing.assert_allclose(given.forecasts.quantiles, given.reference.quantiles, rtol=1e-9, atol=1e-15)
        assert not np.allclose(given.plain_reference.quantiles, given.reference.quantiles, rtol=1e-9)

    def test_recalibrated_forecasts_cover(self) -> None:
        members, candles = world(4)
        given = evidence_of(members, candles)
        low, high = INTERVALS[80]
        for mode in MODES:
            q = given.modes[mode].quantiles
            assert abs(((given.returns >= q[..., low]) & (given.returns <= q[..., high])).mean() - 0.8) < 0.12

    def test_the_deployed_mode_and_its_recalibrator_are_the_one_asked_for(self) -> None:
        members, _ = world()
        given = evidence_of(members, mode="median")
        assert given.forecasts is given.modes["median"]
        batches = [batch for batch, _ in members.values()]
        expected = ConformalCalibrator.fit(
            combine(batches, given.weights, mode="median"), next(iter(members.values()))[1]
        )
        np.testing.assert_array_equal(given.recalibrator.radii, expected.radii)

    def test_what_does_not_fit_is_refused_by_name(self) -> None:
        members, candles = world()
        without = {family: one for family, one in members.items() if family != "random_walk"}
        with pytest.raises(BadInput, match="reference random_walk must be a member"):
            evidence_of(without)
        with pytest.raises(BadInput, match="have no candle"):
            evidence_of(members, candles.slice(1))
        with pytest.raises(BadInput, match="by regime need the candles"):
            evidence_of(members, regimes=REGIME)
        with pytest.raises(NotReady, match="share 900 forecasts before and 0 after"):
            ensemble_evidence(
                members,
                reference="random_walk",
                scored_from_utc=np.datetime64("2030-01-01"),
                settings=WeightSettings(),
            )
