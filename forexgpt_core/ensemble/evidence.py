"""What an ensemble would have forecast out of sample, and what it would forecast with today's weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from forexgpt_core.calibration.conformal import ConformalCalibrator
from forexgpt_core.domain.forecast_table import common_origins
from forexgpt_core.domain.forecasts import Floats, ForecastBatch
from forexgpt_core.ensemble.inference import pool
from forexgpt_core.ensemble.weights import final_weights, matured_inverse_crps_weights
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.evaluation.scores import crps

_LEAST_ROWS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSettings:
    """How past errors become weights.

    Attributes:
        halflife_bars: age at which an error counts half.
        shrink_rows: matured errors at which weights have moved half-way from equal to inverse CRPS.
    """

    halflife_bars: float = 500.0
    shrink_rows: float = 200.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnsembleEvidence:
    """The ensemble on past out-of-sample forecasts of its members.

    Attributes:
        names: k members.
        origin_utc: (n,) all shared origins.
        weights: (k, n, H) usable at each origin, from errors matured by then.
        today: (k, H) weights from every matured error.
        forecasts, equal_weights, reference: on the scored origins.
        returns: (m, H) realised on the scored origins.
        recalibrator: fitted on every matured pooled forecast, for the deployed bundle.
    """

    names: tuple[str, ...]
    origin_utc: np.ndarray
    weights: Floats
    today: Floats
    forecasts: ForecastBatch
    equal_weights: ForecastBatch
    reference: ForecastBatch
    returns: Floats
    recalibrator: ConformalCalibrator


def ensemble_evidence(
    members: Mapping[str, tuple[ForecastBatch, Floats]],
    *,
    reference: str,
    scored_from_utc: np.datetime64,
    settings: WeightSettings,
) -> EnsembleEvidence:
    """Return the pooled, recalibrated forecasts that the members' stored forecasts would have given.

    Args:
        members: calibrated forecasts and realised returns by family, of models that saw none of these origins;
            `reference` is one of the families.
        scored_from_utc: origins before it feed weights and recalibrator and are not scored. The members' own radii
            were fitted there, so recalibration corrects what pooling does to coverage and nothing else.

    Raises:
        BadInput: a family was evaluated at other horizons than the reference.
        NotReady: too few shared origins before or after it.
    """
    names = tuple(members)
    for name in names:
        if members[name][0].horizons_bars != members[reference][0].horizons_bars:
            raise BadInput(
                f"{name} was evaluated at horizons {members[name][0].horizons_bars}, {reference} at"
                f" {members[reference][0].horizons_bars}; train and evaluate both with the same settings"
            )
    aligned = common_origins([members[name] for name in names])
    batches, returns = [batch for batch, _ in aligned], aligned[0][1]
    horizons = batches[0].horizons_bars
    losses = np.stack([crps(batch.quantiles, returns) for batch in batches])
    weights = matured_inverse_crps_weights(
        losses,
        horizons_bars=horizons,
        halflife_bars=settings.halflife_bars,
        shrink_rows=settings.shrink_rows,
    )
    pooled = pool(batches, weights)
    equal = pool(batches, np.full(weights.shape, 1 / len(names)))
    before, scored = pooled.origin_utc < scored_from_utc, pooled.origin_utc >= scored_from_utc
    if min(before.sum(), scored.sum()) < _LEAST_ROWS:
        raise NotReady(
            f"the families share {before.sum()} forecasts before and {scored.sum()} after {scored_from_utc};"
            f" an ensemble needs {_LEAST_ROWS} of each"
        )
    recalibrate = ConformalCalibrator.fit(pooled.take(before), returns[before])
    return EnsembleEvidence(
        names=names,
        origin_utc=pooled.origin_utc,
        weights=weights,
        today=final_weights(
            losses,
            horizons_bars=horizons,
            halflife_bars=settings.halflife_bars,
            shrink_rows=settings.shrink_rows,
        ),
        forecasts=replace(recalibrate.apply(pooled.take(scored)), family="ensemble"),
        equal_weights=replace(equal.take(scored), family="equal_weights"),
        reference=batches[names.index(reference)].take(scored),
        returns=returns[scored],
        recalibrator=ConformalCalibrator.fit(pooled, returns),
    )
