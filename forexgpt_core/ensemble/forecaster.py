"""A deployed ensemble: calibrated members combined, recalibrated, with the weights of the regime at the origin."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Self, cast

import numpy as np

from forexgpt_core.calibration.conformal import CalibratedModel, ConformalCalibrator, load_calibrated
from forexgpt_core.domain.forecasts import Floats, ForecastBatch
from forexgpt_core.ensemble.bundle import KIND, REGIMES_FILE
from forexgpt_core.ensemble.pooling import combine
from forexgpt_core.ensemble.regimes import REGIMES, Ints, RegimeModel
from forexgpt_core.errors import BadInput, BundleError, NotReady
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.bundle import Bundle, BundleStore


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleForecaster:
    """A verified ensemble: every member's bundle, probe and recipe were checked when it was loaded.

    Attributes:
        weights: (H,) per family.
        mode, uncertainty_exponent: see `pooling.combine`.
        regimes: how the regime at an origin is found, None where weights are the same in all.
        regime_weights: (H,) per regime and family.
    """

    members: Mapping[str, CalibratedModel]
    weights: Mapping[str, Floats]
    recalibrator: ConformalCalibrator
    recipe: Recipe
    bundle: Bundle
    mode: str = "weighted"
    uncertainty_exponent: float = 0.0
    regimes: RegimeModel | None = None
    regime_weights: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)

    @property
    def horizons_bars(self) -> tuple[int, ...]:
        """Return the horizons it forecasts."""
        return self.recalibrator.horizons_bars

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Return the columns that its members were fitted on, in order; a member may read none."""
        return max((member.model.feature_names for member in self.members.values()), key=len)

    @classmethod
    def load(cls, store: BundleStore, symbol: str, timeframe: str, hash12: str) -> Self:
        """Return the ensemble of a bundle, also of one written before there were modes and regimes.

        Raises:
            BundleError: a bundle is missing or altered, or a member stands on other features or horizons.
        """
        bundle = store.open(symbol, timeframe, KIND, hash12)
        config = bundle.read_json("config.json")
        described = cast("Mapping[str, Mapping[str, object]]", config.get("members", {}))
        recipe = _recipe((bundle.path / "recipe.json").read_text(encoding="utf-8"), bundle)
        recalibrator = ConformalCalibrator.load(bundle.path)
        members = {
            family: load_calibrated(store, symbol, timeframe, str(one["kind"]), str(one["hash12"]))
            for family, one in described.items()
        }
        for family, member in members.items():
            _require_same_base(family, member, recipe, recalibrator.horizons_bars)
        regimes, regime_weights = _read_regimes(bundle)
        return cls(
            members=members,
            weights={family: np.array(one["weights"], dtype=np.float64) for family, one in described.items()},
            recalibrator=recalibrator,
            recipe=recipe,
            bundle=bundle,
            mode=str(config.get("mode", "weighted")),
            uncertainty_exponent=float(cast("float", config.get("uncertainty_exponent", 0.0))),
            regimes=regimes,
            regime_weights=regime_weights,
        )

    def forecast(self, windows: Windows, *, families: Collection[str] | None = None) -> ForecastBatch:
        """Return the recalibrated combination.

        Args:
            families: members to use, all by default; the weights of the others go to these in proportion.

        Raises:
            NotReady: none of `families` is a member.
        """
        return self.recalibrator.apply(self.pooled(windows, families=families))

    def pooled(self, windows: Windows, *, families: Collection[str] | None = None) -> ForecastBatch:
        """Return the combination before recalibration, which an adaptive calibrator starts from."""
        wanted = [family for family in self.members if families is None or family in families]
        if not wanted:
            raise NotReady(f"no member of the ensemble is among {sorted(families or ())}; it has {list(self.members)}")
        batches = [self.members[family].forecast(windows) for family in wanted]
        shares = self._shares(wanted, self.regime_places(windows))
        return combine(batches, shares, mode=self.mode, uncertainty_exponent=self.uncertainty_exponent)

    def regime_places(self, windows: Windows) -> Ints | None:
        """Return the place in REGIMES at each origin, UNKNOWN with too little history; None without regimes."""
        if self.regimes is None:
            return None
        rows = windows.rows
        if not rows.size:
            return np.empty(0, dtype=np.int64)
        settings = self.regimes.settings
        first = max(0, int(rows.min()) - max(settings.volatility_bars, settings.trend_bars))
        return self.regimes.labels(windows.arrays.close[first : int(rows.max()) + 1])[rows - first]

    def _shares(self, families: list[str], places: Ints | None) -> Floats:
        """Return (k, H) weights, or (k, n, H) with regimes, of these families alone."""
        overall = np.stack([self.weights[family] for family in families])
        if places is None:
            return _normalised(overall)
        known = [[self.regime_weights[regime][family] for family in families] for regime in REGIMES]
        of_each = np.concatenate([np.array(known), overall[None]])  # the last, -1, is UNKNOWN
        return np.moveaxis(_normalised(of_each[places]), 0, 1)


def _normalised(weights: Floats) -> Floats:
    """Return (..., k, H) weights that sum to 1 over members, equal where there are none."""
    total = weights.sum(axis=-2, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1 / weights.shape[-2])


def _read_regimes(bundle: Bundle) -> tuple[RegimeModel | None, dict[str, dict[str, Floats]]]:
    if not (bundle.path / REGIMES_FILE).is_file():
        return None, {}
    stored = bundle.read_json(REGIMES_FILE)
    listed = cast("Mapping[str, Mapping[str, list[float]]]", stored.get("weights", {}))
    if set(listed) != set(REGIMES):
        raise BundleError(
            f"{REGIMES_FILE} of {bundle.hash12} weighs regimes {sorted(listed)}, expected {list(REGIMES)}"
        )
    weights = {
        regime: {family: np.array(one, dtype=np.float64) for family, one in of_one.items()}
        for regime, of_one in listed.items()
    }
    return RegimeModel.from_document(cast("Mapping[str, object]", stored.get("thresholds", {}))), weights


def _recipe(text: str, bundle: Bundle) -> Recipe:
    """Return the recipe in a bundle, which an earlier release may have written in another form."""
    try:
        return Recipe.from_json(text)
    except BadInput as error:
        raise BundleError(
            f"bundle {bundle.hash12} was trained on features that this release does not build: train it again, and"
            f" deploy what comes out ({error})"
        ) from None


def _require_same_base(family: str, member: CalibratedModel, recipe: Recipe, horizons_bars: tuple[int, ...]) -> None:
    if _recipe(member.model.recipe_json, member.model.bundle).hash12 != recipe.hash12:
        raise BundleError(f"member {family} was trained on features of another recipe than the ensemble's")
    if member.model.forecaster.horizons_bars != horizons_bars:
        raise BundleError(
            f"member {family} forecasts horizons {member.model.forecaster.horizons_bars}, the ensemble {horizons_bars}"
        )
