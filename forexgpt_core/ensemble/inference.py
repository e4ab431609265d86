"""Ensembles: calibrated members pooled quantile by quantile, recalibrated, and kept in a bundle."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np

from forexgpt_core.calibration.conformal import CalibratedModel, ConformalCalibrator, load_calibrated
from forexgpt_core.domain.forecasts import Floats, ForecastBatch
from forexgpt_core.errors import BadInput, BundleError, NotReady
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.bundle import Bundle, BundleStore
from forexgpt_core.models.files import write_json

KIND = "ensemble"


def pool(batches: Sequence[ForecastBatch], weights: Floats) -> ForecastBatch:
    """Return the weighted average of the members' quantiles (Vincentization), level by level.

    Quantiles are averaged rather than probabilities: a mixture of calibrated members is too wide, this is not.

    Args:
        batches: k forecasts of the same origins and horizons.
        weights: (k, H), or (k, n, H) where they change with the origin; at least 0, summing to 1 over members.

    Raises:
        BadInput: the members do not line up, or the weights are not weights.
    """
    if not batches:
        raise BadInput("a pool needs at least one member")
    first = batches[0]
    for other in batches[1:]:
        _require_aligned(first, other)
    shares = _shares(np.asarray(weights, dtype=np.float64), (len(batches), *first.scale.shape))
    quantiles = np.einsum("knh,knhq->nhq", shares, np.stack([batch.quantiles for batch in batches]))
    return ForecastBatch(
        symbol=first.symbol,
        timeframe=first.timeframe,
        family=KIND,
        origin_utc=first.origin_utc,
        horizons_bars=first.horizons_bars,
        # equal neighbours may come out of the sum an ulp apart, in the wrong order
        quantiles=np.maximum.accumulate(quantiles, axis=-1),
        scale=np.einsum("knh,knh->nh", shares, np.stack([batch.scale for batch in batches])),
    )


def _require_aligned(first: ForecastBatch, other: ForecastBatch) -> None:
    for name in ("symbol", "timeframe", "horizons_bars"):
        if getattr(first, name) != getattr(other, name):
            raise BadInput(
                f"{other.family} forecasts {name} {getattr(other, name)}, but {first.family} {getattr(first, name)}"
            )
    if not np.array_equal(first.origin_utc, other.origin_utc):
        raise BadInput(f"{first.family} and {other.family} forecast from different origins")


def _shares(weights: Floats, shape: tuple[int, int, int]) -> Floats:
    members, _, horizons = shape
    if weights.shape not in ((members, horizons), shape):
        raise BadInput(f"weights have shape {weights.shape}, expected {(members, horizons)} or {shape}")
    if not (weights >= 0).all() or not np.allclose(weights.sum(axis=0), 1.0, rtol=0, atol=1e-9):
        raise BadInput("pool weights must be 0 or more and sum to 1 over the members")
    return np.broadcast_to(weights if weights.ndim == 3 else weights[:, None, :], shape)


def write_ensemble_bundle(
    store: BundleStore,
    *,
    symbol: str,
    timeframe: str,
    members: Mapping[str, tuple[str, str]],
    weights: Mapping[str, Floats],
    recalibrator: ConformalCalibrator,
    recipe_json: str,
    metadata: Mapping[str, object],
) -> Bundle:
    """Return the bundle that a deployment names.

    Args:
        members: (kind, hash) of the calibration bundle of each family.
        weights: (H,) per family.

    Raises:
        BadInput: weights and members name different families, or the weights are not weights.
        BundleError: a member is missing or altered.
    """
    if not members or set(weights) != set(members):
        raise BadInput(f"weights are for {sorted(weights)}, members are {sorted(members)}; expected the same families")
    families, horizons = sorted(members), recalibrator.horizons_bars
    _shares(np.stack([weights[family] for family in families]), (len(families), 0, len(horizons)))
    bundles = {family: store.open(symbol, timeframe, *members[family]) for family in families}

    def fill(folder: Path) -> None:
        recalibrator.save(folder)
        (folder / "recipe.json").write_text(recipe_json, encoding="utf-8")
        described = {
            family: {
                "kind": bundles[family].kind,
                "hash12": bundles[family].hash12,
                "weights": weights[family].tolist(),
            }
            for family in families
        }
        write_json(folder / "config.json", {"horizons_bars": list(horizons), "members": described})

    return store.write(symbol, timeframe, KIND, fill, metadata=metadata, parents=tuple(bundles.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleForecaster:
    """A verified ensemble: every member's bundle, probe and recipe were checked when it was loaded."""

    members: Mapping[str, CalibratedModel]
    weights: Mapping[str, Floats]
    recalibrator: ConformalCalibrator
    recipe: Recipe
    bundle: Bundle

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
        """Return the ensemble of a bundle.

        Raises:
            BundleError: a bundle is missing or altered, or a member stands on other features or horizons.
        """
        bundle = store.open(symbol, timeframe, KIND, hash12)
        described = cast("Mapping[str, Mapping[str, object]]", bundle.read_json("config.json").get("members", {}))
        recipe = _recipe((bundle.path / "recipe.json").read_text(encoding="utf-8"), bundle)
        recalibrator = ConformalCalibrator.load(bundle.path)
        members = {
            family: load_calibrated(store, symbol, timeframe, str(one["kind"]), str(one["hash12"]))
            for family, one in described.items()
        }
        for family, member in members.items():
            _require_same_base(family, member, recipe, recalibrator.horizons_bars)
        weights = {family: np.array(one["weights"], dtype=np.float64) for family, one in described.items()}
        return cls(members=members, weights=weights, recalibrator=recalibrator, recipe=recipe, bundle=bundle)

    def forecast(self, windows: Windows, *, families: Collection[str] | None = None) -> ForecastBatch:
        """Return the recalibrated pool; see `pooled`."""
        return self.recalibrator.apply(self.pooled(windows, families=families))

    def pooled(self, windows: Windows, *, families: Collection[str] | None = None) -> ForecastBatch:
        """Return the pool before it is recalibrated.

        Args:
            families: members to use, all by default; the weights of the others go to these in proportion.

        Raises:
            NotReady: none of `families` is a member.
        """
        wanted = [family for family in self.members if families is None or family in families]
        if not wanted:
            raise NotReady(f"no member of the ensemble is among {sorted(families or ())}; it has {list(self.members)}")
        batches = [self.members[family].forecast(windows) for family in wanted]
        weights = np.stack([self.weights[family] for family in wanted])
        total = weights.sum(axis=0)
        shares = np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1 / len(wanted))
        return pool(batches, shares)


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
