"""The report card of a pair, from forecasts in memory to page and picture, on seeded noise."""

from dataclasses import replace

import numpy as np
import polars as pl

from benchmarks.measurement import Measurement, alone, seconds
from forexgpt_core.domain.clock import Timeframe, slot_open
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.evaluation.card import CardInputs, report_card
from forexgpt_core.evaluation.card_entries import JudgedFamily
from forexgpt_core.reporting.report_page import report_page
from forexgpt_core.reporting.report_picture import report_picture

NAMES = ("report_card",)
ROWS, FITTED_ROWS, HORIZONS = 40_000, 8_000, (1, 4, 24)
FAMILIES = ("linear", "forest", "boosting", "ensemble")
MOST_SECONDS = 20.0
_FIRST_SLOT = 150_000  # a bar of 2014 on H1


def measure(only: set[str] | None) -> list[Measurement]:
    """Return the measurements named in `only`, None for all."""
    if only is not None and "report_card" not in only:
        return []
    inputs, sentences = _inputs(), list[str]()

    def judge_and_draw() -> None:
        card = report_card(inputs)
        document = card.to_dict()
        report_page(document, {"card": report_picture(document)})
        sentences.append(card.verdict)

    took = seconds(judge_and_draw)
    note = (
        f"{1 + len(FAMILIES)} families x {len(HORIZONS)} horizons x {ROWS:,} origins of noise, page and picture"
        f" included, first call; {sentences[0]}"
    )
    return [alone("report_card", took, unit="s", at_most=MOST_SECONDS, note=note)]


def _inputs() -> CardInputs:
    rng = np.random.default_rng(0)
    volatility = 1e-3 * np.exp(0.4 * np.sin(np.arange(ROWS + HORIZONS[-1]) / 500))
    price = np.concatenate([[0.0], np.cumsum(volatility * rng.normal(size=volatility.size))])
    returns = np.stack([price[h : h + ROWS] - price[:ROWS] for h in HORIZONS], axis=1)
    scale = volatility[:ROWS, None] * np.sqrt(HORIZONS)
    walk = ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="random_walk",
        origin_utc=slot_open(_FIRST_SLOT + np.arange(ROWS), Timeframe.H1),
        horizons_bars=HORIZONS,
        quantiles=scale[..., None] * SCORES,
        scale=scale,
    )
    fitted = np.arange(FITTED_ROWS)
    families = {"random_walk": JudgedFamily(forecasts=walk, returns=returns, reference=walk)}
    for name in FAMILIES:
        opinion = 1e-2 * rng.normal(size=scale.shape)
        one = replace(walk, family=name, quantiles=scale[..., None] * (SCORES + opinion[..., None]))
        seen = (one.take(fitted), walk.take(fitted), returns[fitted])
        families[name] = JudgedFamily(forecasts=one, returns=returns, reference=walk, fitted=seen)
    regimes = np.array(["low_flat", "middle_up", "high_down"])[np.digitize(scale[:, 0], [9e-4, 1.1e-3])]
    return CardInputs(
        symbol="EURUSD",
        timeframe="H1",
        families=families,
        reference="random_walk",
        regimes=dict.fromkeys(families, regimes),
        round_trip_cost=1e-4,
        paths=pl.DataFrame({"family": "linear", "path": [0, 1], "horizon_bars": 1, "skill": [0.001, -0.001]}),
        seed=1,
    )
