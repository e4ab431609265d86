"""What an ensemble would have forecast out of sample, and what it would forecast with today's weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from forexgpt_core.calibration.adaptive import AdaptiveCalibrator
from forexgpt_core.calibration.conformal import ConformalCalibrator
from forexgpt_core.domain.forecast_table import common_origins
from forexgpt_core.domain.forecasts import Floats, ForecastBatch
from forexgpt_core.ensemble.pooling import MODES, combine, scaled_by_spread
from forexgpt_core.ensemble.regimes import REGIMES, Ints, RegimeModel, running_labels
from forexgpt_core.ensemble.weights import (
    Times,
    WeightSettings,
    final_regime_weights,
    final_weights,
    matured_rows,
    matured_weights,
    regime_weights,
)
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.evaluation.scores import crps

_LEAST_ROWS = 60
EQUAL_WEIGHTS = "equal_weights"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnsembleEvidence:
    """The ensemble on past out-of-sample forecasts of its members.

    Attributes:
        names: k members.
        origin_utc: (n,) all shared origins.
        weights: (k, n, H) used at each origin, from errors matured by then, of the regime there where regimes are on.
        today: (k, H) weights from every matured error.
        modes: by mode of combination, on the scored origins, each recalibrated; all of the same origins, so each can
            be backtested and scored beside the others.
        forecasts: the mode that is deployed, under the family name "ensemble".
        equal_weights: the mode "mean" under its own name: always there to compare with.
        reference: on the scored origins, calibrated once more as the modes are, so that what calibration gives is not
            taken for skill of the members.
        plain_reference: the reference as it was evaluated, without that.
        returns: (m, H) realised on the scored origins.
        recalibrator: of the deployed mode, fitted on every matured pooled forecast, for the deployed bundle.
        adaptive: of the deployed mode after the last origin, for the deployed bundle, where live forecasts go on from
            it; None without adaptive calibration.
        labels: (n,) place in REGIMES at each origin by what was known then; None without regimes.
        regimes: thresholds fitted on all bars, for the deployed bundle; None without regimes.
        today_by_regime: (k, H) weights by regime from every matured error; empty without regimes.
    """

    names: tuple[str, ...]
    origin_utc: np.ndarray
    weights: Floats
    today: Floats
    modes: Mapping[str, ForecastBatch]
    forecasts: ForecastBatch
    equal_weights: ForecastBatch
    reference: ForecastBatch
    plain_reference: ForecastBatch
    returns: Floats
    recalibrator: ConformalCalibrator
    adaptive: AdaptiveCalibrator | None = None
    labels: Ints | None = None
    regimes: RegimeModel | None = None
    today_by_regime: Mapping[str, Floats] = field(default_factory=dict)


def ensemble_evidence(
    members: Mapping[str, tuple[ForecastBatch, Floats]],
    *,
    reference: str,
    scored_from_utc: np.datetime64,
    settings: WeightSettings,
    adaptive: bool = True,
    candles: pl.DataFrame | None = None,
) -> EnsembleEvidence:
    """Return the combined, recalibrated forecasts that the members' stored forecasts would have given, in every mode.

    Members are judged by CRPS in scales of the reference, so quiet and wild hours count alike.

    Args:
        members: calibrated forecasts and realised returns by family, of models that saw none of these origins;
            `reference` is one of the families.
        scored_from_utc: origins before it feed weights and recalibrator and are not scored. The members' own radii
            were fitted there, so recalibration corrects what combining does to coverage and nothing else.
        adaptive: whether recalibration goes on with every outcome, or is done once before the first scored origin.
        candles: `ts_utc, close` of every bar the members' returns were measured on, in the version they were. Gives
            errors their exact time of maturity where origins are missing, and regimes their prices.

    Raises:
        BadInput: the reference is no member, a family was evaluated at other horizons than it, an origin has no
            candle, or regimes are asked for without candles.
        NotReady: too few shared origins before or after it.
    """
    _require_members(members, reference)
    names = tuple(members)
    aligned = common_origins([members[name] for name in names])
    batches, returns = [batch for batch, _ in aligned], aligned[0][1]
    of_reference = batches[names.index(reference)]
    origins, horizons = of_reference.origin_utc, of_reference.horizons_bars
    scored = origins >= scored_from_utc
    if min((~scored).sum(), scored.sum()) < _LEAST_ROWS:
        raise NotReady(
            f"the families share {(~scored).sum()} forecasts before and {scored.sum()} after {scored_from_utc};"
            f" an ensemble needs {_LEAST_ROWS} of each"
        )
    losses = np.stack([crps(batch.quantiles, returns) for batch in batches]) / of_reference.scale
    rows = np.arange(origins.size) if candles is None else bar_rows(origins, candles)
    matured = matured_rows(rows, horizons)
    weighing = _Weighing.of(losses, matured, rows, candles, settings)
    weights = scaled_by_spread(batches, weighing.weights, settings.uncertainty_exponent)
    pooled = {mode: combine(batches, weights, mode=mode) for mode in MODES}
    known_then = known_before(returns, matured, int(np.argmax(scored)))
    finished, states = {}, {}
    for mode, batch in {**pooled, reference: of_reference}.items():
        if adaptive:
            finished[mode], states[mode] = adapted(batch, returns, rows, scored)
        else:
            finished[mode] = recalibrated(batch, known_then, scored)
    return EnsembleEvidence(
        names=names,
        origin_utc=origins,
        weights=weights,
        today=final_weights(losses, settings),
        modes={mode: finished[mode] for mode in MODES},
        forecasts=finished[settings.mode],
        equal_weights=replace(finished["mean"], family=EQUAL_WEIGHTS),
        reference=finished[reference],
        plain_reference=of_reference.take(scored),
        returns=returns[scored],
        recalibrator=ConformalCalibrator.fit(pooled[settings.mode], returns),
        adaptive=states.get(settings.mode),
        labels=weighing.labels,
        regimes=weighing.regimes,
        today_by_regime=weighing.today_by_regime,
    )


def recalibrated(pooled: ForecastBatch, known_returns: Floats, scored: np.ndarray) -> ForecastBatch:
    """Return the scored forecasts with their intervals set right by what was known before the first of them.

    Args:
        known_returns: (n, H) realised returns, NaN where they were not known at the first scored origin.
        scored: (n,) mask of the origins wanted.
    """
    return ConformalCalibrator.fit(pooled, known_returns).apply(pooled.take(scored))


def adapted(
    pooled: ForecastBatch, returns: Floats, rows: Ints, scored: np.ndarray
) -> tuple[ForecastBatch, AdaptiveCalibrator]:
    """Return the scored forecasts, each calibrated by what had matured by its origin, and the state after the last.

    Args:
        rows: (n,) bar row of each origin.
        scored: (n,) mask of the origins wanted, the newest; those before it start the calibrator.
    """
    state = AdaptiveCalibrator.start(pooled.take(~scored), returns[~scored], rows[~scored])
    return state.follow(pooled.take(scored), returns[scored], rows[scored])


def known_before(returns: Floats, matured: Ints, origin: int) -> Floats:
    """Return the returns with NaN in place of those not known at an origin, by its number."""
    return np.where(np.arange(len(returns))[:, None] < matured[origin], returns, np.nan)


def bar_rows(origin_utc: Times, candles: pl.DataFrame) -> Ints:
    """Return the row of each origin among the candles.

    Raises:
        BadInput: an origin has no candle.
    """
    ts = candles["ts_utc"].to_numpy().astype("datetime64[us]")
    origins = origin_utc.astype("datetime64[us]")
    rows = np.searchsorted(ts, origins)
    absent = np.ones(origins.size, dtype=bool) if not ts.size else ts[np.minimum(rows, ts.size - 1)] != origins
    if absent.any():
        raise BadInput(
            f"{int(absent.sum())} of {origins.size} forecast origins have no candle, first {origins[absent][0]};"
            " give the candles that the members were evaluated on"
        )
    return rows.astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Weighing:
    """Weights at each origin, and by regime where regimes are on."""

    weights: Floats
    labels: Ints | None = None
    regimes: RegimeModel | None = None
    today_by_regime: Mapping[str, Floats] = field(default_factory=dict)

    @classmethod
    def of(
        cls, losses: Floats, matured: Ints, rows: Ints, candles: pl.DataFrame | None, settings: WeightSettings
    ) -> "_Weighing":
        overall = matured_weights(losses, matured, settings)
        if settings.regimes is None:
            return cls(weights=overall)
        if candles is None:
            raise BadInput("weights by regime need the candles that the members were evaluated on")
        closes = candles["close"].to_numpy().astype(np.float64)[: int(rows[-1]) + 1]
        labels = running_labels(closes, settings.regimes)[rows]
        of_each = regime_weights(losses, matured, labels, settings)  # (R, k, n, H)
        there = np.concatenate([of_each, overall[None]])[labels, :, np.arange(rows.size)]  # UNKNOWN, -1, is the last
        fitted = RegimeModel.fit(closes, settings.regimes)
        today = final_regime_weights(losses, fitted.labels(closes)[rows], settings)
        return cls(
            weights=np.moveaxis(there, 0, 1),
            labels=labels,
            regimes=fitted,
            today_by_regime=dict(zip(REGIMES, today, strict=True)),
        )


def _require_members(members: Mapping[str, tuple[ForecastBatch, Floats]], reference: str) -> None:
    if reference not in members:
        raise BadInput(f"the reference {reference} must be a member of every ensemble; members are {sorted(members)}")
    wanted = members[reference][0].horizons_bars
    for name, (batch, _) in members.items():
        if batch.horizons_bars != wanted:
            raise BadInput(
                f"{name} was evaluated at horizons {batch.horizons_bars}, {reference} at {wanted};"
                " train and evaluate both with the same settings"
            )


def by_family(names: Sequence[str], weights: Floats) -> dict[str, Floats]:
    """Return (k, H) weights as (H,) per family, as a bundle takes them."""
    return dict(zip(names, weights, strict=True))
