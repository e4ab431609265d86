"""The reference: a driftless random walk with EWMA volatility, the hours of the week, and Student-t tails."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, log
from pathlib import Path
from typing import Self, cast

import numpy as np

from forexgpt_core.domain.clock import slot
from forexgpt_core.domain.forecasts import LEVELS, Floats, ForecastBatch
from forexgpt_core.errors import BadInput, BundleError, NotReady
from forexgpt_core.features.windows import MarketArrays, Rows, Windows
from forexgpt_core.models.files import read_json, write_json
from forexgpt_core.models.forecaster import FitRun
from forexgpt_core.models.seasonality import HourFactor
from forexgpt_core.models.student import StudentT

DECAYS = (0.9, 0.94, 0.96, 0.975, 0.985, 0.99, 0.994, 0.997)
VOLATILITIES = ("ewma", "rolling")
_FORGOTTEN = 1e-18  # weight below which an old bar cannot change the last bit of the variance
_LEAST_LEVEL = 1e-6  # of the training level: prices that stand still for long will move again
_FIT_ROWS = 50_000  # rows that the likelihood looks at; more change nothing one could measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Everything fitted.

    Attributes:
        timeframe: of the bars it was fitted on.
        hour_factor: variance per bar by hour of the week, mean 1.
        decay: of the EWMA, 0 for a rolling window.
        start_variance: per average bar, before the first return is seen.
        unit: (H,) root mean square of return / sqrt(forecast variance) on the training rows.
        nu: (H,) degrees of freedom.
        tail_scale: (H,) scale of the Student law of return / `scale`.
        decay_losses: mean negative log likelihood of each decay tried.
    """

    timeframe: str
    horizons_bars: tuple[int, ...]
    hour_factor: tuple[float, ...]
    decay: float
    start_variance: float
    unit: tuple[float, ...]
    nu: tuple[float, ...]
    tail_scale: tuple[float, ...]
    decay_losses: tuple[tuple[float, float], ...]


class RandomWalk:
    """Forecast no move, spread as wide as recent and hourly variance say.

    The variance of a bar is its hour's factor times the level; the level is the EWMA (or rolling mean) of squared
    returns over their own factor, weighted by the root of that factor: equal weights would be best were the factors
    exact, but the misfit of a quiet hour must not shout. A horizon's variance is the level times the factors of the
    coming bars, weekends skipped. Tails are Student's, per horizon. Decay and tails come from training rows by
    likelihood.

    Causal: a forecast at row i reads closes up to row i only.

    Args:
        seasonal: whether hours differ; without it this is the plain walk.
        volatility: "ewma", or "rolling" for the mean over `window_bars`.
        window_bars: length of the rolling mean.
        decays: candidates for the EWMA's decay per bar.
    """

    family = "random_walk"

    def __init__(
        self,
        *,
        seasonal: bool = True,
        volatility: str = "ewma",
        window_bars: int = 250,
        decays: Sequence[float] = DECAYS,
    ) -> None:
        if volatility not in VOLATILITIES:
            raise BadInput(f"volatility must be one of {', '.join(VOLATILITIES)}, was '{volatility}'")
        if window_bars < 2:
            raise BadInput(f"window_bars must be at least 2, was {window_bars}")
        if not decays or not all(0 < decay < 1 for decay in decays):
            raise BadInput(f"decays must lie in (0, 1), were {tuple(decays)}")
        self.seasonal, self.volatility, self.window_bars, self.decays = seasonal, volatility, window_bars, tuple(decays)
        self.feature_names: tuple[str, ...] = ()
        self._walk: Walk | None = None

    @property
    def walk(self) -> Walk:
        """Return what was fitted.

        Raises:
            NotReady: nothing was.
        """
        if self._walk is None:
            raise NotReady("this random walk has not been fitted; call fit or load first")
        return self._walk

    @property
    def horizons_bars(self) -> tuple[int, ...]:
        """Return the horizons it was fitted for."""
        return self.walk.horizons_bars

    @property
    def standard_quantiles(self) -> Floats:
        """Return the quantiles of return / `scale`; shape (H, 9), symmetric around 0."""
        laws = (StudentT(nu=nu, scale=scale) for nu, scale in zip(self.walk.nu, self.walk.tail_scale))
        return np.stack([law.quantiles(LEVELS) for law in laws])

    def fit(self, train: Windows, valid: Windows, *, run: FitRun) -> Self:
        """Fit on `train`; nothing here needs `valid`.

        Raises:
            BadInput: the training prices never move.
        """
        arrays = train.arrays
        factor = self._fit_factor(train)
        blank = Walk(
            timeframe=str(arrays.timeframe),
            horizons_bars=arrays.horizons_bars,
            hour_factor=tuple(factor.factor.tolist()),
            decay=0.0,
            start_variance=_mean_level(train, factor),
            unit=(),
            nu=(),
            tail_scale=(),
            decay_losses=(),
        )
        judged = train.take(_thinned(len(train)))
        candidates = self.decays if self.volatility == "ewma" else (0.0,)
        fitted = []
        for done, decay in enumerate(candidates):
            run.progress(done / len(candidates), f"decay {decay}")
            fitted.append(self._fit_tails(replace(blank, decay=decay), judged))
        losses, walks = zip(*fitted)
        best = walks[int(np.argmin(losses))]
        self._walk = replace(best, decay_losses=tuple(zip(candidates, losses)))
        return self

    def scale(self, windows: Windows) -> Floats:
        """Return one standard deviation of the cumulative log return per horizon; shape (n, H)."""
        return np.asarray(self._root_variance(self.walk, windows) * np.array(self.walk.unit))

    def level(self, windows: Windows) -> Floats:
        """Return the variance per average bar as known at each origin; shape (n,)."""
        return self._level(self.walk, windows)

    def forecast(self, windows: Windows, *, n_paths: int = 0, seed: int | None = None) -> ForecastBatch:
        """Return the walk's law per window. Its law is closed, so it samples no paths."""
        scale = self.scale(windows)
        return ForecastBatch(
            symbol=windows.arrays.symbol,
            timeframe=str(windows.arrays.timeframe),
            family=self.family,
            origin_utc=windows.origin_utc,
            horizons_bars=self.horizons_bars,
            quantiles=scale[:, :, None] * self.standard_quantiles,
            scale=scale,
        )

    def to_dict(self) -> dict[str, object]:
        """Return options and everything fitted, as JSON values."""
        options = {"seasonal": self.seasonal, "volatility": self.volatility, "window_bars": self.window_bars}
        return {"family": self.family, "options": {**options, "decays": self.decays}, "fitted": asdict(self.walk)}

    @classmethod
    def from_dict(cls, stored: dict[str, object]) -> Self:
        """Return the walk that `to_dict` described.

        Raises:
            BundleError: it describes something else.
        """
        try:
            walk = cls(**cast("dict[str, object]", stored["options"]))  # type: ignore[arg-type]  # checked by __init__
            fitted = cast("dict[str, object]", stored["fitted"])
            walk._walk = Walk(**{name: _frozen(value) for name, value in fitted.items()})  # type: ignore[arg-type]  # JSON
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the stored random walk cannot be read: {error}") from error
        return walk

    def save(self, folder: Path) -> None:
        """Write config.json."""
        write_json(folder / "config.json", self.to_dict())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls.from_dict(read_json(folder / "config.json"))

    def _fit_factor(self, train: Windows) -> HourFactor:
        arrays = train.arrays
        if not self.seasonal:
            return HourFactor.flat(arrays.timeframe)
        rows = train.rows[train.rows > 0]
        previous, current = slot(arrays.ts_utc[rows - 1], arrays.timeframe), slot(arrays.ts_utc[rows], arrays.timeframe)
        rows = rows[current - previous == 1]  # a return over a gap tells nothing about one hour
        if rows.size == 0:
            return HourFactor.flat(arrays.timeframe)
        return HourFactor.fit(arrays.ts_utc[rows], _bar_returns(arrays, rows), arrays.timeframe)

    def _fit_tails(self, walk: Walk, windows: Windows) -> tuple[float, Walk]:
        """Return the loss of this decay, and the walk with units and tails."""
        root, returns = self._root_variance(walk, windows), windows.returns
        losses, units, laws = [], [], []
        for column in range(len(walk.horizons_bars)):
            known = np.isfinite(returns[:, column])
            standard = returns[known, column] / root[known, column]
            unit = float(np.sqrt(np.mean(standard**2))) if known.any() else 0.0
            if unit == 0.0:
                raise BadInput(f"returns over {walk.horizons_bars[column]} bars are all 0: prices never move")
            laws.append(StudentT.fit(standard / unit))
            losses.append(laws[-1].mean_loss(standard / unit) + float(np.log(root[known, column] * unit).mean()))
            units.append(unit)
        nu, tail_scale = tuple(law.nu for law in laws), tuple(law.scale for law in laws)
        return float(np.mean(losses)), replace(walk, unit=tuple(units), nu=nu, tail_scale=tail_scale)

    def _root_variance(self, walk: Walk, windows: Windows) -> Floats:
        """Return the root of the forecast variance before `unit`; shape (n, H)."""
        factor, timeframe = _factor(walk, windows.arrays), windows.arrays.timeframe
        now = slot(windows.origin_utc, timeframe)
        coming = np.stack([factor.between(now, now + h) for h in walk.horizons_bars], axis=1)
        return np.asarray(np.sqrt(self._level(walk, windows)[:, None] * coming))

    def _level(self, walk: Walk, windows: Windows) -> Floats:
        """Return the variance per average bar as known at each origin, from the bars that can still be felt there."""
        rows = windows.rows
        if rows.size == 0:
            return np.empty(0)
        memory = self.window_bars if walk.decay == 0.0 else ceil(log(_FORGOTTEN) / log(walk.decay))
        first, last = max(0, int(rows.min()) - memory), int(rows.max())
        squares, weights = _standard_squares(windows.arrays, first, last, _factor(walk, windows.arrays))
        levels = self._levels(walk, squares, weights)[rows - first]
        return np.maximum(levels, _LEAST_LEVEL * walk.start_variance)

    def _levels(self, walk: Walk, squares: Floats, weights: Floats) -> Floats:
        """Return the level after each return; entry 0 has seen none yet."""
        start = walk.start_variance
        if walk.decay == 0.0:
            before = np.ones(self.window_bars)
            weighted, total = np.concatenate([start * before, squares * weights]), np.append(before, weights)
            return np.asarray(_window_sums(weighted, before.size) / _window_sums(total, before.size))
        from scipy.signal import lfilter

        decay = walk.decay
        weighted, _ = lfilter([1 - decay], [1.0, -decay], squares * weights, zi=np.array([decay * start]))
        total, _ = lfilter([1 - decay], [1.0, -decay], weights, zi=np.array([decay]))
        return np.concatenate([[start], weighted / total])


def _factor(walk: Walk, arrays: MarketArrays) -> HourFactor:
    if str(arrays.timeframe) != walk.timeframe:
        raise BadInput(f"this walk was fitted on {walk.timeframe} bars, not on {arrays.timeframe}")
    return HourFactor(timeframe=arrays.timeframe, factor=np.array(walk.hour_factor))


def _window_sums(x: Floats, length: int) -> Floats:
    return np.asarray(np.lib.stride_tricks.sliding_window_view(x, length).sum(axis=1))


def _bar_returns(arrays: MarketArrays, rows: Rows) -> Floats:
    return np.asarray(np.log(arrays.close[rows] / arrays.close[rows - 1]))


def _standard_squares(arrays: MarketArrays, first: int, last: int, factor: HourFactor) -> tuple[Floats, Floats]:
    """Return squared bar returns over their share of the variance clock, and its root, for rows first + 1 to last."""
    slots = slot(arrays.ts_utc[first : last + 1], arrays.timeframe)
    least = float(factor.factor.min())  # bars outside the FX week share the week's last slot and elapse nothing
    elapsed = np.maximum(factor.between(slots[:-1], slots[1:]), least)
    return np.diff(np.log(arrays.close[first : last + 1])) ** 2 / elapsed, np.sqrt(elapsed)


def _mean_level(train: Windows, factor: HourFactor) -> float:
    first = int(train.rows[0])
    squares, weights = _standard_squares(train.arrays, first, int(train.rows[-1]), factor)
    own = train.rows[1:] - first - 1  # training rows need not be neighbours: bars held out between them are not theirs
    squares, weights = squares[own], weights[own]
    if squares.size == 0 or not squares.mean() > 0:
        raise BadInput(f"training prices of {train.arrays.symbol} never move")
    return float(np.average(squares, weights=weights))


def _thinned(n: int) -> Rows:
    return np.linspace(0, n - 1, min(n, _FIT_ROWS)).astype(np.int64)


def _frozen(value: object) -> object:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
