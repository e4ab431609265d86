"""The bundle that a deployment names: members by hash, weights, regimes and recalibrator."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from forexgpt_core.calibration.adaptive import AdaptiveCalibrator
from forexgpt_core.calibration.conformal import ConformalCalibrator
from forexgpt_core.domain.forecasts import Floats
from forexgpt_core.ensemble.pooling import MODES, require_shares
from forexgpt_core.ensemble.regimes import REGIMES, RegimeModel
from forexgpt_core.errors import BadInput
from forexgpt_core.models.bundle import Bundle, BundleStore
from forexgpt_core.models.files import write_json

KIND = "ensemble"
REGIMES_FILE = "regimes.json"


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
    mode: str = "weighted",
    uncertainty_exponent: float = 0.0,
    regimes: RegimeModel | None = None,
    regime_weights: Mapping[str, Mapping[str, Floats]] | None = None,
    adaptive: AdaptiveCalibrator | None = None,
) -> Bundle:
    """Return the bundle that a deployment names.

    An ensemble without regimes and with the usual mode is written as earlier releases wrote it.

    Args:
        members: (kind, hash) of the calibration bundle of each family.
        weights: (H,) per family.
        mode, uncertainty_exponent: see `pooling.combine`.
        regimes: how the regime at an origin is found.
        regime_weights: (H,) per regime and family, for every one of REGIMES where `regimes` is given.
        adaptive: state that live calibration goes on from, in place of the recalibrator.

    Raises:
        BadInput: weights and members name different families or regimes, or the weights are not weights.
        BundleError: a member is missing or altered.
    """
    families, horizons = sorted(members), recalibrator.horizons_bars
    _require_weights(weights, families, len(horizons))
    if mode not in MODES or not uncertainty_exponent >= 0:
        raise BadInput(
            f"mode must be one of {', '.join(MODES)} and uncertainty_exponent 0 or more, were '{mode}' and"
            f" {uncertainty_exponent}"
        )
    by_regime = regime_weights or {}
    if (regimes is None) != (not by_regime) or (by_regime and set(by_regime) != set(REGIMES)):
        raise BadInput(f"regimes and weights of each of them go together: expected none or all of {', '.join(REGIMES)}")
    for of_one in by_regime.values():
        _require_weights(of_one, families, len(horizons))
    bundles = {family: store.open(symbol, timeframe, *members[family]) for family in families}
    config: dict[str, object] = {
        "horizons_bars": list(horizons),
        "members": {
            family: {
                "kind": bundles[family].kind,
                "hash12": bundles[family].hash12,
                "weights": weights[family].tolist(),
            }
            for family in families
        },
    }
    if mode != "weighted" or uncertainty_exponent:
        config |= {"mode": mode, "uncertainty_exponent": uncertainty_exponent}

    def fill(folder: Path) -> None:
        recalibrator.save(folder)
        if adaptive is not None:
            adaptive.save(folder)
        (folder / "recipe.json").write_text(recipe_json, encoding="utf-8")
        write_json(folder / "config.json", config)
        if regimes is not None:
            listed = {regime: {family: by_regime[regime][family].tolist() for family in families} for regime in REGIMES}
            write_json(folder / REGIMES_FILE, {"thresholds": regimes.to_document(), "weights": listed})

    return store.write(symbol, timeframe, KIND, fill, metadata=metadata, parents=tuple(bundles.values()))


def _require_weights(weights: Mapping[str, Floats], families: Sequence[str], horizons: int) -> None:
    if not families or set(weights) != set(families):
        raise BadInput(f"weights are for {sorted(weights)}, members are {list(families)}; expected the same families")
    require_shares(np.stack([weights[family] for family in families]), (len(families), 0, horizons))
