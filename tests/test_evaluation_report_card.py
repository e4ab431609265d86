"""Report cards and the leaderboard: no skill is invented, planted skill is found, and it says so plainly."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.clock import Timeframe, slot, slot_open
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.direction import direction_scores
from forexgpt_core.evaluation.pairing import UnpairedReturns, UnsortedOrigins
from forexgpt_core.evaluation.point_errors import ConstantReturns, r2_out_of_sample
from forexgpt_core.evaluation.report_card import (
    DifferentOrigins,
    HorizonScore,
    TooFewForecasts,
    holm,
    rank,
    score_family,
)
from forexgpt_core.evaluation.significance import ConstantLossDifference
from forexgpt_core.reporting.evaluation import (
    leaderboard_markdown,
    reliability_and_pit_picture,
    report_card_html,
    skill_picture,
)

HORIZONS = (1, 4, 12)
ROWS = 2000
PNG = b"\x89PNG"


def market(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, H) returns of a walk and the volatility each bar had."""
    rng = np.random.default_rng(seed)
    volatility = 1e-3 * np.exp(0.5 * np.sin(np.arange(ROWS + HORIZONS[-1]) / 20))  # storms enough to be sure of
    price = np.concatenate([[0.0], np.cumsum(rng.normal(size=volatility.size) * volatility)])
    returns = np.stack([price[h : h + ROWS] - price[:ROWS] for h in HORIZONS], axis=1)
    return returns, volatility[:ROWS]


def forecasts(family: str, scale: np.ndarray | float, shift: np.ndarray | float = 0.0, step: int = 1) -> ForecastBatch:
    first = slot(np.array(["2018-01-02"], dtype="datetime64[us]"), Timeframe.H1)
    spread = np.broadcast_to(np.asarray(scale, dtype=np.float64).reshape(-1, 1), (ROWS, 1)) * np.sqrt(HORIZONS)
    centre = np.broadcast_to(np.asarray(shift, dtype=np.float64), (ROWS, len(HORIZONS)))
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family=family,
        origin_utc=slot_open(first + step * np.arange(ROWS), Timeframe.H1),
        horizons_bars=HORIZONS,
        quantiles=centre[..., None] + spread[..., None] * SCORES,
        scale=spread,
    )


def test_the_reference_has_no_skill_over_itself() -> None:
    returns, _ = market(0)
    reference = forecasts("random_walk", 1e-3)
    for score in score_family(reference, returns, reference, seed=1):
        assert (score.skill, score.skill_low, score.skill_high, score.dm_p) == (0.0, 0.0, 0.0, 1.0)
        assert score.equals_reference
        assert score.n == ROWS
        assert score.n_independent == math.ceil(ROWS / score.horizon_bars)
        assert math.isnan(score.direction)
        assert score.direction_calls == 0


def test_a_card_is_json_without_nan() -> None:
    returns, _ = market(0)
    reference = forecasts("random_walk", 1e-3)
    card = score_family(reference, returns, reference, seed=1)[0].to_dict()
    assert json.loads(json.dumps(card, allow_nan=False))["direction"] is None


@pytest.mark.parametrize("seed", range(4))
def test_white_noise_opinions_show_no_skill(seed: int) -> None:
    returns, _ = market(seed)
    noise = np.random.default_rng(seed + 100).normal(size=(ROWS, len(HORIZONS))) * 2e-4
    reference = forecasts("random_walk", 1e-3)
    scores = score_family(forecasts("noise", 1e-3, noise), returns, reference, seed=seed)
    board = rank([*score_family(reference, returns, reference, seed=seed), *scores])
    assert all(s.skill_low <= 0 for s in scores)
    assert board.shown_skill == ()
    assert board.verdict.startswith("Nothing beats the random walk")
    for s in scores:
        assert abs(s.direction - 0.5) < 4 * s.direction_se
        assert s.direction_calls == s.n


def test_planted_skill_is_found_and_ranked_first() -> None:
    returns, volatility = market(1)
    reference = forecasts("random_walk", 1e-3)
    families = [reference, forecasts("too_wide", 2e-3), forecasts("volatility", volatility)]
    scores = [s for f in families for s in score_family(f, returns, reference, seed=1)]
    board = rank(scores, absent=("lstm",))
    assert [row.family for row in board.rows] == ["volatility", "random_walk", "too_wide"]
    assert [row.rank for row in board.rows] == [1, 2, 3]
    assert ("volatility", 1) in board.shown_skill
    assert not any(family == "too_wide" for family, _ in board.shown_skill)
    assert "1 family beats the random walk" in board.verdict
    assert board.absent == ("lstm",)
    best = board.rows[0].scores[0]
    assert 0 < best.skill_low < best.skill < best.skill_high
    assert best.coverage_90 == pytest.approx(0.9, abs=0.02)
    assert best.width_50 < best.width_80 < best.width_90 < best.width_95


def test_a_leak_is_called_one() -> None:
    returns, volatility = market(2)
    reference = forecasts("random_walk", volatility)
    peeking = score_family(forecasts("peeking", 0.7 * volatility, 0.7 * returns), returns, reference, seed=1)
    warnings = rank(peeking).warnings
    assert any("direction right 100.0 %" in text for text in warnings)
    assert any("treat it as a leak" in text and "skill" in text for text in warnings)


def test_only_the_random_walk_is_a_legal_leaderboard() -> None:
    returns, _ = market(0)
    reference = forecasts("random_walk", 1e-3)
    board = rank(score_family(reference, returns, reference, seed=1))
    assert board.verdict.startswith("Only the random walk")
    assert board.shown_skill == ()
    assert board.warnings == ()


def test_one_lucky_p_among_many_is_not_shown() -> None:
    returns, volatility = market(1)
    reference = forecasts("random_walk", 1e-3)
    lucky = replace(score_family(forecasts("a", volatility), returns, reference, seed=1)[0], dm_p=0.03)
    crowd = [replace(lucky, family=f"f{i}", skill=-0.01, skill_low=-0.02, skill_high=0.01, dm_p=0.6) for i in range(3)]
    assert rank([lucky]).shown_skill == (("a", 1),)
    assert rank([lucky, *crowd]).shown_skill == ()


@settings(deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_never_lowers_a_p(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a >= raw for a, raw in zip(adjusted, p, strict=True))
    assert max(adjusted) <= 1
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    assert min(adjusted) == pytest.approx(min(1.0, min(p) * len(p)))


def test_origins_every_four_bars_overlap_only_beyond_four_bars() -> None:
    returns, volatility = market(3)
    sparse = [forecasts(name, scale, step=4) for name, scale in (("volatility", volatility), ("random_walk", 1e-3))]
    scores = score_family(sparse[0], returns, sparse[1], seed=0)
    assert [s.n_independent for s in scores] == [ROWS, ROWS, math.ceil(ROWS / 3)]


def test_what_cannot_be_scored_is_refused_by_name() -> None:
    returns, _ = market(0)
    reference = forecasts("random_walk", 1e-3)
    swapped = np.arange(ROWS)
    swapped[[5, 6]] = [6, 5]
    with pytest.raises(UnsortedOrigins, match="row 6"):
        score_family(reference.take(swapped), returns, reference.take(swapped), seed=0)
    with pytest.raises(DifferentOrigins, match="1999 of them"):
        score_family(reference, returns, reference.take(np.arange(1, ROWS)), seed=0)
    with pytest.raises(DifferentOrigins, match="same horizons"):
        score_family(reference, returns, replace(reference, horizons_bars=(1, 4, 24)), seed=0)
    with pytest.raises(UnpairedReturns, match="not known"):
        score_family(reference, np.where(returns == returns[7], np.nan, returns), reference, seed=0)
    few = reference.take(np.arange(29))
    with pytest.raises(TooFewForecasts, match="needs 30 matured forecasts, found 29"):
        score_family(few, returns[:29], few, seed=0)
    with pytest.raises(BadInput, match="at least the reference"):
        rank([])
    score = score_family(reference, returns, reference, seed=0)[0]
    with pytest.raises(BadInput, match="repeat"):
        rank([score, score])


def board_of(seed: int) -> tuple[list[HorizonScore], list[ForecastBatch], np.ndarray]:
    returns, volatility = market(seed)
    families = [forecasts("random_walk", 1e-3), forecasts("volatility", volatility, 1e-4)]
    return [s for f in families for s in score_family(f, returns, families[0], seed=1)], families, returns


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_forecasts_that_are_no_numbers_are_refused_by_name_before_they_are_judged(wrong: float) -> None:
    good = forecasts("linear", 1e-3)
    quantiles = good.quantiles.copy()
    quantiles[5, 1, 3] = wrong
    with pytest.raises(BadInput, match="linear forecast for EURUSD holds values that are not finite"):
        replace(good, quantiles=quantiles)
    with pytest.raises(BadInput, match="linear forecast for EURUSD has crossing quantiles"):
        replace(good, quantiles=good.quantiles[..., ::-1])


def test_a_market_that_stands_still_is_judged_without_a_claim_and_said_so() -> None:
    still = np.zeros((ROWS, len(HORIZONS)))
    walk, wide = forecasts("random_walk", 1e-3), forecasts("linear", 1.1e-3, 1e-5)
    with pytest.raises(ConstantLossDifference, match="differ by exactly"):
        score_family(wide, still, walk, seed=1)
    with pytest.raises(ConstantReturns, match=r"all 2000 returns over 1 bars are 0"):
        r2_out_of_sample(wide, still)
    assert {one.missing for one in direction_scores(wide, still)} == {"no bar moved"}


def test_pictures_are_png_and_pages_carry_verdict_and_pictures() -> None:
    scores, families, returns = board_of(1)
    skill = skill_picture(scores, "EURUSD H1")
    reliability = reliability_and_pit_picture(families[1], returns, "EURUSD H1 <volatility>")
    assert skill.startswith(PNG)
    assert reliability.startswith(PNG)
    assert skill_picture(scores[:1], "one").startswith(PNG)
    board = rank(scores, absent=("lstm", "<b>"))
    page = report_card_html(scores, board, {"skill": skill, "reliability": reliability}, title="EURUSD <H1>")
    assert page.count("data:image/png;base64,") == 2
    assert "EURUSD &lt;H1&gt;" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "http" not in page
    assert board.verdict.split(" (")[0] in page


def test_the_markdown_table_has_a_row_per_score_and_marks_what_was_shown() -> None:
    scores, _, _ = board_of(1)
    board = rank(scores, absent=("lstm",))
    text = leaderboard_markdown(board)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(scores)
    assert len({line.count("|") for line in table}) == 1
    assert sum(line.startswith("| **") for line in table) == len(board.shown_skill) > 0
    assert text.startswith(f"**{board.verdict}**")
    assert "Not evaluated on these data: lstm." in text


def test_rounding_is_no_evidence() -> None:
    rng = np.random.default_rng(5)
    quantiles = np.sort(rng.normal(size=(400, 1, 9)), axis=-1)
    origins = np.datetime64("2018-01-02", "us") + np.arange(400) * np.timedelta64(1, "h")
    base = ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="linear",
        origin_utc=origins,
        horizons_bars=(1,),
        quantiles=quantiles,
        scale=np.ones((400, 1)),
    )
    nudged = replace(base, quantiles=quantiles * (1 + 1e-15))
    (score,) = score_family(nudged, rng.normal(size=(400, 1)), base, seed=1)
    assert (score.skill, score.skill_low, score.skill_high, score.dm_p) == (0, 0, 0, 1)
