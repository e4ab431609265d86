"""The report card: what was planted is found, nothing unshown is claimed, and the page says what the document says."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest
from evaluation_batches import batch
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.card import CardInputs, report_card
from forexgpt_core.evaluation.card_entries import JudgedFamily, Unsaid, family_card, joined_regimes, worst_groups
from forexgpt_core.evaluation.card_money import BacktestMoney, SearchMoney, StrategyRecord
from forexgpt_core.evaluation.card_sets import MOST_ROWS, averaged, horizon_sets
from forexgpt_core.evaluation.card_verdict import verdict_sentence
from forexgpt_core.evaluation.log_score import log_score
from forexgpt_core.evaluation.overfitting import TrialRegistry, probabilistic_sharpe, sharpe_evidence
from forexgpt_core.evaluation.pairing import UnpairedReturns, UnsortedOrigins
from forexgpt_core.evaluation.report_card import DifferentOrigins, HorizonScore, holm, rank, score_family
from forexgpt_core.reporting.report_page import FORMATS, NOTHING, at, report_page
from forexgpt_core.reporting.report_picture import report_picture

HORIZONS = (1, 4)
ROWS = 1500
WALK = "random_walk"


class Market:
    """A walk whose volatility swings, with forecasts by whatever law a test plants."""

    def __init__(
        self, seed: int = 0, rows: int = ROWS, horizons: tuple[int, ...] = HORIZONS, swing: float = 90
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.horizons = horizons
        volatility = 1e-3 * np.exp(0.5 * np.sin(np.arange(rows + horizons[-1]) / swing))
        price = np.concatenate([[0.0], np.cumsum(volatility * self.rng.normal(size=volatility.size))])
        self.returns = np.stack([price[h : h + rows] - price[:rows] for h in horizons], axis=1)
        self.scale = volatility[:rows, None] * np.sqrt(horizons)
        self.flat = np.full((rows, 1), 1e-3) * np.sqrt(horizons)

    def family(self, name: str, scale: np.ndarray, shift: np.ndarray | float = 0.0) -> ForecastBatch:
        centre = np.broadcast_to(np.asarray(shift), scale.shape)
        law = scale[..., None] * SCORES + centre[..., None]
        return replace(batch(law, self.horizons, scale=self.scale), family=name, calibrator="split normalised")

    def noise(self, size: float = 2e-4) -> np.ndarray:
        return size * self.rng.normal(size=self.scale.shape)

    def inputs(self, *families: ForecastBatch, reference: ForecastBatch | None = None, **others: Any) -> CardInputs:
        walk = reference or self.family(WALK, self.scale)
        judged = {
            one.family: JudgedFamily(forecasts=one, returns=self.returns, reference=walk) for one in (walk, *families)
        }
        facts = {"symbol": "EURUSD", "timeframe": "H1", "families": judged, "reference": WALK, "seed": 1}
        return CardInputs(**{**facts, **others})


def strategies(**search: object) -> StrategyRecord:
    rng = np.random.default_rng(3)
    told = {"trials_ever": 128, "pbo": 0.46, "pbo_loss_probability": 0.5, "best_of_worthless": 1.9, "fall_apart": 1}
    members = {
        "a" * 12: {"deflated_sharpe": 0.12, "probabilistic_sharpe": 0.7, "falls_apart": False},
        "b" * 12: {"deflated_sharpe": None, "probabilistic_sharpe": None, "falls_apart": True},
        "c" * 12: {"deflated_sharpe": 0.02, "probabilistic_sharpe": 0.4, "falls_apart": False},
    }
    stats = {
        "horizon_bars": 4, "trades": 120, "return_pct": -3.1, "max_drawdown_pct": 5.0, "sharpe": -0.4,
        "win_rate_pct": 48.0, "profit_factor": 0.93, "cost_pips": 1.9, "break_even_pips": 1.2,
        "turnover_per_year": 210.0,
    }  # fmt: skip
    return StrategyRecord(
        stats=stats,
        period_returns=1e-3 * rng.normal(size=300),
        trials=TrialRegistry(sharpes={str(n): float(x) for n, x in enumerate(0.05 * rng.normal(size=128))}),
        search={**told, "members": members, **search},
    )


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    market = Market(1)
    reference = market.family(WALK, market.flat)
    families = [market.family("linear", market.scale), market.family("ensemble", 1.3 * market.scale, market.noise())]
    regimes = np.where(market.scale[:, 0] > 1e-3, "high_flat", "low_flat")
    quarter = np.arange(ROWS // 4)
    inputs = market.inputs(
        *families,
        reference=reference,
        regimes=dict.fromkeys(("linear", "ensemble"), regimes),
        round_trip_cost=1.5e-4,
        tested=strategies(),
        paths=pl.DataFrame({"family": "linear", "path": [0, 1, 2], "horizon_bars": 1, "skill": [0.01, -0.02, 0.03]}),
        beside=[replace(score_family(reference, market.returns, reference, seed=1)[0], family="walk_<250>")],
        absent=("lstm",),
        missing=("drift & more: not looked at",),
    )
    fitted = (families[0].take(quarter), reference.take(quarter), market.returns[quarter])
    judged = {**inputs.families, "linear": replace(inputs.families["linear"], fitted=fitted)}
    card: dict[str, Any] = report_card(replace(inputs, families=judged)).to_dict()
    return card


def entry(card: Any, family: str, column: int = 0) -> Any:
    return next(one for one in card.families if one.family == family).entries[column]


# What was planted is found


def test_planted_skill_is_said_and_every_score_sees_it() -> None:
    market = Market(2, swing=9)  # storms enough to be sure
    reference = market.family(WALK, market.flat)
    card = report_card(market.inputs(market.family("volatility", market.scale), reference=reference))
    assert card.board is not None
    assert ("volatility", 1) in card.board.shown_skill
    assert card.verdict.startswith("The random walk is beaten at EURUSD H1")
    best = entry(card, "volatility")
    assert min(best.log_score_gain, best.wql_skill, best.interval_skill_90) > 0
    assert best.effective_observations <= ROWS
    (one, four) = card.sets
    assert one.included == ("volatility",)
    assert one.superior == ("volatility",)
    assert one.superior_p < 0.05
    plain = entry(card, WALK)
    assert max(abs(plain.log_score_gain), abs(plain.wql_skill), abs(plain.mae_skill)) == 0
    assert four.rows == ROWS


def test_figures_are_those_of_the_libraries() -> None:
    market = Market(4)
    one = market.family("linear", 1.2 * market.scale, market.noise())
    reference = market.family(WALK, market.scale)
    found = entry(report_card(market.inputs(one, reference=reference)), "linear", 1)
    gain = log_score(reference.quantiles, market.returns) - log_score(one.quantiles, market.returns)
    assert found.log_score_gain == pytest.approx(gain[:, 1].mean())
    assert found.score == score_family(one, market.returns, reference, seed=1)[1]
    assert found.rmse_skill == pytest.approx(
        1 - found.score.rmse / score_family(reference, market.returns, reference, seed=1)[1].rmse
    )


def test_planted_miscalibration_is_said() -> None:
    market = Market(3)
    card = report_card(market.inputs(market.family("ensemble", 0.6 * market.scale)))
    assert "too narrow at" in card.verdict
    narrow = entry(card, "ensemble")
    assert not narrow.calibrated
    assert narrow.pit.independent.p_value < 0.01
    assert all(group.off for group in narrow.worst)
    assert entry(card, WALK).calibrated


def test_intervals_that_fail_in_storms_alone_are_said() -> None:
    market = Market(5, rows=6000)
    wide = np.quantile(np.abs(market.returns / np.sqrt(market.horizons)), 0.9, axis=0) / 1.6449 * np.sqrt(HORIZONS)
    card = report_card(market.inputs(market.family("ensemble", np.broadcast_to(wide, market.scale.shape))))
    assert entry(card, "ensemble").calibrated
    assert entry(card, "ensemble").worst[0].group in ("1", "10")
    assert re.search(r"as they should, but [\d.]+ % in the (calmest|most volatile) tenth", card.verdict)


def test_what_too_few_outcomes_cannot_tell_is_not_called_right() -> None:
    few = Market(16, rows=960, horizons=(1, 24))
    card = report_card(few.inputs(few.family("ensemble", few.scale)))
    assert [one.can_tell for one in card.families[0].entries] == [True, False], "40 outcomes at 24 bars"
    assert "as they should (too few at 24 bars to tell)" in card.verdict
    least = Market(17, rows=40)
    assert "of too few outcomes to tell" in report_card(least.inputs(least.family("ensemble", least.scale))).verdict
    many = Market(18, rows=4000)
    assert "as they should, in calm and storm" in report_card(many.inputs(many.family("ensemble", many.scale))).verdict


def test_a_group_that_is_off_is_not_hidden_by_one_too_small_to_tell() -> None:
    places = pl.DataFrame(
        {
            "horizon_bars": 1, "coverage_percent": 90, "condition": ["session"] * 2 + ["volatility_decile"],
            "group": ["asia", "overlap", "1"], "coverage": [0.84, 0.5, 0.9], "coverage_low": [0.81, 0.1, 0.8],
            "coverage_high": [0.87, 0.95, 0.95], "width": 1e-3, "n_independent": [900, 4, 300],
        }
    )  # fmt: skip
    assert [(one.group, one.off) for one in worst_groups(places, 1)] == [("1", False), ("asia", True)]


def test_regimes_are_corrected_over_the_whole_card(document: dict[str, Any]) -> None:
    told = [
        one
        for family in document["families"]
        for entry in family["horizons"]
        for one in (entry["regimes"] or {"regimes": []})["regimes"]
    ]
    assert len(told) == 8
    assert [one["holm_p"] for one in told] == pytest.approx(holm([one["p_value"] for one in told]))


def test_planted_overfit_is_said() -> None:
    market = Market(6, rows=4000)
    inside, outside = np.arange(2000), np.arange(2000, 4000)
    knows = market.family("forest", 0.9 * market.scale, 0.4 * market.returns)
    reference = market.family(WALK, market.scale)
    later = market.family("forest", market.scale, market.noise(1e-5))
    judged = JudgedFamily(
        forecasts=later.take(outside),
        returns=market.returns[outside],
        reference=reference.take(outside),
        fitted=(knows.take(inside), reference.take(inside), market.returns[inside]),
    )
    unsaid = Unsaid()
    found = family_card(judged, None, None, unsaid, seed=1).entries
    assert all(one.degradation is not None and one.degradation.overfitted for one in found)
    assert [one.degradation.horizon_bars for one in found if one.degradation] == list(HORIZONS)


def test_a_leak_is_suspected_in_the_same_breath_as_the_skill() -> None:
    market = Market(7)
    peeks = market.family("ensemble", 0.5 * market.scale, 0.6 * market.returns)
    card = report_card(market.inputs(peeks))
    assert "suspect a leak first" in card.verdict
    assert "direction is shown" in card.verdict
    assert card.to_dict()["warnings"]


# What cannot be said is said


def test_where_nothing_can_be_scored_the_card_says_so() -> None:
    market = Market(8, rows=20)
    card = report_card(market.inputs(market.family("linear", market.scale)))
    document = card.to_dict()
    assert card.verdict == (
        "Nothing can be said about forecasts at EURUSD H1, and no strategy of these forecasts was tested."
    )
    assert any("needs 30 matured forecasts, found 20" in line for line in card.unsaid)
    assert document["families"] == []
    assert report_picture(document).startswith(b"\x89PNG")
    assert "Nothing can be said" in report_page(document)


def test_the_walk_alone_makes_no_claim() -> None:
    market = Market(9)
    card = report_card(market.inputs())
    assert card.verdict.startswith("Only the random walk was judged at EURUSD H1")
    assert "no direction is called" in card.verdict
    assert card.sets == ()
    assert any(line.startswith("model confidence set and superior ability: they compare") for line in card.unsaid)


def test_prices_that_stand_still_make_no_claim() -> None:
    market = Market(19, rows=300)
    market.returns = np.zeros_like(market.returns)
    wide, walk = market.family("linear", 1.1 * market.flat, 1e-5), market.family(WALK, market.flat)
    card = report_card(market.inputs(wide, reference=walk))
    assert card.verdict.startswith("Only the random walk was judged at EURUSD H1")
    said = "\n".join(card.unsaid)
    assert "linear: the losses differ by exactly" in said
    assert "R2 of random_walk: all 300 returns over 1 bars are 0" in said


def test_every_thing_that_cannot_be_computed_has_its_line() -> None:
    market = Market(10, rows=60)
    constant = replace(market.family("linear", market.scale, market.noise()), scale=np.ones((60, 2)))
    other = replace(market.family(WALK, market.scale), scale=np.ones((60, 2)))
    atom = np.array(market.family("atom", market.scale).quantiles)
    atom[3] = 0.0
    card = report_card(
        market.inputs(constant, replace(constant, family="atom", quantiles=atom), reference=other, tested=None)
    )
    said = "\n".join(card.unsaid)
    for line in (
        "coverage of linear by volatility and session: the reference scale is 1 in all 60 rows",
        "PIT of linear: uniformity needs 20 targets that do not overlap, found 15",
        "regimes of linear: no regime is known at its origins",
        "in-sample skill of linear: no forecasts of the rows it was fitted on are stored",
        "log score of atom at 1, 4 bars: a law has an atom",
        "direction of random_walk at 1, 4 bars: no forecast has a direction",
        "cross-validation: it was not run",
        "break-even direction: the cost of a trade is not known",
        "energy score and fair sample CRPS",
    ):
        assert line in said
    assert len(card.unsaid) == len(set(card.unsaid))
    assert math.isnan(entry(card, "atom").log_score_gain)


def test_a_search_without_trades_and_a_backtest_without_trades_are_no_zeros() -> None:
    market = Market(11)
    idle = strategies(pbo=None, best_of_worthless=None, members={})
    stats = {"horizon_bars": 4, "trades": 0, "return_pct": 0.0, "sharpe": None}
    inputs = market.inputs(
        tested=replace(idle, stats=stats, period_returns=np.zeros(30), trials=TrialRegistry(sharpes={}))
    )
    card = report_card(inputs)
    assert card.backtest is not None
    assert card.search is not None
    assert card.backtest.probabilistic_sharpe is None
    assert card.search.deflated_sharpe is None
    said = "\n".join(card.unsaid)
    assert "break-even cost and turnover: the backtest made no trade" in said
    assert "Sharpe ratio of the backtest: all 30 returns are 0" in said
    assert "probability of backtest overfitting: the search had too few trials" in said
    assert card.verdict.endswith("and the backtested strategy never trades, and no strategy could be deflated.")
    traded = replace(card.backtest, trades=3, return_pct=-0.2, probabilistic_sharpe=0.4)
    told = verdict_sentence("EURUSD H1", None, None, traded, None)
    assert told.endswith("-0.2 % after cost, a Sharpe ratio above 0 with probability 0.40, and no search was made.")


def test_regimes_with_too_few_rows_stand_together() -> None:
    labels = np.repeat(["a", "b", "c", "d"], [50, 20, 15, 40])
    joined, names = joined_regimes(labels, 30)
    assert names == ("b", "c")
    assert dict(zip(*np.unique(joined, return_counts=True), strict=True)) == {"a": 50, "d": 40, "other": 35}
    joined, names = joined_regimes(np.repeat(["a", "b", "c"], [50, 10, 40]), 30)
    assert names == ("b", "c")
    assert set(joined) == {"a", "other"}
    assert joined_regimes(np.repeat(["a", "b"], 40), 30)[1] == ()


# Money


def test_money_is_deflated_by_all_trials_and_the_best_member_is_told() -> None:
    card = report_card(Market(12).inputs(tested=strategies()))
    assert card.search is not None
    assert card.backtest is not None
    assert (card.search.best, card.search.deflated_sharpe) == ("a" * 12, 0.12)
    assert card.verdict.endswith("no strategy is shown to beat luck after 128 trials (probability 0.12).")
    assert card.backtest.cost_share == pytest.approx(1.9 / 1.2)
    evidence = sharpe_evidence(strategies().period_returns)
    assert card.backtest.probabilistic_sharpe == probabilistic_sharpe(evidence)
    assert card.backtest.deflated_sharpe is not None
    assert card.backtest.deflated_sharpe < card.backtest.probabilistic_sharpe


# The verdict


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_the_verdict_claims_nothing_that_was_not_shown(data: st.DataObject) -> None:
    drawn = data.draw
    base = score_family(BASE, MARKET.returns, BASE, seed=1)[0]
    scores = [
        replace(base, family=family, horizon_bars=h, skill=skill, skill_low=skill - gap, skill_high=skill + gap, dm_p=p)
        for family in ("ensemble", "linear")
        for h in HORIZONS
        for skill, gap, p in [(drawn(st.floats(-0.1, 0.1)), drawn(st.floats(1e-4, 0.1)), drawn(st.floats(0, 1)))]
    ]
    board = rank(scores)
    card = family_card(
        JudgedFamily(forecasts=BASE, returns=MARKET.returns, reference=BASE), None, None, Unsaid(), seed=1
    )
    share, p, error = drawn(st.floats(0.5, 1)), drawn(st.floats(0, 1)), drawn(st.floats(0, 0.02))
    entries = tuple(
        replace(
            one,
            score=replace(one.score, coverage_90=share),
            coverage_low=share - drawn(st.floats(0, 0.1)),
            coverage_high=share + drawn(st.floats(0, 0.1)),
            direction=replace(one.direction, hit_rate=0.52, standard_error=error, p_value=p, by_chance=0.5),
        )
        for one in card.entries
    )
    deflated, pbo = drawn(st.floats(0, 1)), drawn(st.none() | st.floats(0, 1))
    search = SearchMoney(
        trials_ever=5, members=1, best="a", deflated_sharpe=deflated, probabilistic_sharpe=1.0, pbo=pbo,
        pbo_loss_probability=None, best_of_worthless=None, fall_apart=0,
    )  # fmt: skip
    verdict = verdict_sentence("EURUSD H1", board, replace(card, entries=entries), None, search)
    assert ("is beaten" in verdict) == bool(board.shown_skill)
    assert ("Nothing beats the random walk" in verdict) == (not board.shown_skill)
    assert ("as they should" in verdict) == all(one.calibrated for one in entries)
    assert "in calm and storm" not in verdict, "200 origins are too few to tell"
    assert ("direction is shown" in verdict) == (2 * p < 0.05 and 0.52 - 1.96 * error > 0.5)
    assert ("the best strategy beats luck" in verdict) == (deflated >= 0.95)
    assert ("the search overfits" in verdict) == (deflated >= 0.95 and pbo is not None and pbo >= 0.5)
    assert len(verdict.replace(" %", "%").split()) <= 66
    assert verdict.endswith(".")
    assert verdict.count(". ") == 0, "one sentence"


MARKET = Market(13, rows=200)
BASE = MARKET.family("ensemble", MARKET.scale, MARKET.noise())


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_never_called_skill(seed: int) -> None:
    market = Market(20 + seed)
    card = report_card(market.inputs(market.family("ensemble", market.scale, market.noise())))
    assert card.verdict.startswith("Nothing beats the random walk at EURUSD H1 (best of 2: ")
    assert "direction is not shown" in card.verdict


# The page


class Numbers(HTMLParser):
    """Collects what every marked number of a page says, and the text of every table cell."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[list[Any], str, str]] = []
        self.cells: list[str] = []
        self._open: tuple[list[Any], str] | None = None
        self._cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "span" and names.get("data-at"):
            self._open = json.loads(str(names["data-at"])), str(names["data-as"])
        if tag == "td":
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "span":
            self._open = None
        if tag == "td" and self._cell is not None:
            self.cells.append("".join(self._cell))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.found.append((*self._open, data))
        elif self._cell is not None:
            self._cell.append(data)


def test_every_number_on_the_page_is_that_of_the_document(document: dict[str, Any]) -> None:
    read = Numbers()
    read.feed(report_page(document))
    assert len(read.found) > 500
    for place, how, text in read.found:
        value = at(document, place)
        assert text == (NOTHING if value is None else FORMATS[how](value)), place
    outside = {cell for cell in read.cells if re.search(r"\d", cell)}
    assert outside == set(), "no table cell has a number of its own"


def test_the_page_shows_every_family_horizon_and_test(document: dict[str, Any]) -> None:
    read = Numbers()
    read.feed(report_page(document))
    places = {"/".join(map(str, place)) for place, _, _ in read.found}
    for number, family in enumerate(document["families"]):
        for column, one in enumerate(family["horizons"]):
            here = f"families/{number}/horizons/{column}"
            for name in ("score/skill", "score/skill_low", "score/crps", "score/mape", "holm_p", "log_score_gain",
                         "wql_skill", "interval_skill_90", "r2", "mae_skill", "rmse_skill", "mape_skill",
                         "score/coverage_50", "score/coverage_80", "score/coverage_90", "score/coverage_95",
                         "score/width_90", "score/n_independent", "pit/independent/p_value",
                         "pit/overlapping/p_value", "worst/0/coverage", "worst/1/coverage"):  # fmt: skip
                assert f"{here}/{name}" in places
            if one["direction"]["hit_rate"] is not None:
                assert {f"{here}/direction/{n}" for n in ("hit_rate", "p_value", "detectable", "by_chance")} <= places
                assert f"{here}/break_even_direction" in places
            if one["regimes"]:
                assert f"{here}/regimes/test/p_value" in places
            if one["degradation"]:
                assert f"{here}/degradation/gap_low" in places
        assert f"families/{number}/coverage/{len(family['coverage']) - 1}/coverage" in places
    assert {"backtest/break_even_pips", "backtest/turnover_per_year", "backtest/deflated_sharpe"} <= places
    assert {"search/pbo", "search/trials_ever", "paths/0/below_zero", "beside/0/skill"} <= places
    assert any(place.startswith("sets/1/set_p/") for place in places)
    assert "sets/0/superior_p" in places


def test_the_page_escapes_what_it_prints_and_needs_nothing_else(document: dict[str, Any]) -> None:
    picture = report_picture(document)
    assert picture.startswith(b"\x89PNG")
    page = report_page(document, {"a <glance>": picture})
    assert "walk &lt;250&gt;" in page
    assert "drift &amp; more" in page
    assert "a &lt;glance&gt;" in page
    assert "http" not in page
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 1


def test_the_document_is_strict_json_and_the_page_can_be_drawn_from_it_again(document: dict[str, Any]) -> None:
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again == document
    assert report_page(again) == report_page(document)


# Sets on long series


def test_averaging_keeps_means_and_the_newest_rows() -> None:
    losses = np.random.default_rng(0).normal(size=(2 * MOST_ROWS + 5, 3))
    shorter, group = averaged(losses)
    assert group == 3
    assert len(shorter) <= MOST_ROWS
    left_out = len(losses) - group * len(shorter)
    assert left_out < group
    assert shorter.mean(axis=0) == pytest.approx(losses[left_out:].mean(axis=0))
    assert averaged(losses[:MOST_ROWS])[1] == 1


def test_averaged_rows_find_the_same_best() -> None:
    rng = np.random.default_rng(1)
    losses = np.abs(rng.normal(size=(3 * MOST_ROWS, 1))) + 0.1 * rng.normal(size=(3 * MOST_ROWS, 3)) + [0.02, 0.0, 0.02]
    found = horizon_sets(losses, (WALK, "good", "bad"), WALK, 4, 4, seed=1)
    assert found.included == ("good",)
    assert found.superior == ("good",)
    assert found.rows_averaged == 3


# What is refused


def test_bad_input_is_refused_by_name() -> None:
    market = Market(14, rows=200)
    inputs = market.inputs(market.family("linear", market.scale))
    one, walk = inputs.families["linear"], inputs.families[WALK]
    with pytest.raises(BadInput, match="needs forecasts of the reference random_walk, got none"):
        replace(inputs, families={})
    with pytest.raises(BadInput, match="forecasts of 'linear' were given as those of 'forest'"):
        replace(inputs, families={WALK: walk, "forest": one})
    unknown = np.where(market.returns == market.returns[7], np.nan, market.returns)
    with pytest.raises(UnpairedReturns, match="2 of 400 returns are not known"):
        replace(inputs, families={WALK: walk, "linear": replace(one, returns=unknown)})
    with pytest.raises(UnpairedReturns, match="linear has 200 origins and regimes of shape"):
        replace(inputs, regimes={"linear": np.array(["a"])})
    swapped = np.arange(200)
    swapped[[5, 6]] = [6, 5]
    mixed = replace(one, forecasts=one.forecasts.take(swapped), reference=one.reference.take(swapped))
    with pytest.raises(UnsortedOrigins, match="row 6"):
        report_card(replace(inputs, families={WALK: walk, "linear": mixed}))
    later = replace(
        one, reference=replace(walk.forecasts, origin_utc=walk.forecasts.origin_utc + np.timedelta64(1, "h"))
    )
    with pytest.raises(DifferentOrigins, match="198 of them"):
        report_card(replace(inputs, families={WALK: walk, "linear": later}))
    with pytest.raises(BadInput, match="paths of cross-validation lack path, horizon_bars, skill"):
        report_card(replace(inputs, paths=pl.DataFrame({"family": ["linear"]})))


def test_a_backtest_that_undercuts_its_cost_has_no_share() -> None:
    market = Market(15)
    lossy = strategies()
    assert lossy.stats is not None
    card = report_card(market.inputs(tested=replace(lossy, stats={**lossy.stats, "break_even_pips": -0.4})))
    assert isinstance(card.backtest, BacktestMoney)
    assert card.backtest.break_even_pips == -0.4
    assert card.backtest.cost_share is None


def test_headline_scores_of_earlier_releases_have_no_new_figures() -> None:
    old = {k: v for k, v in MARKET_SCORE.to_dict().items() if k not in ("mape", "win_rate", "profit_factor")}
    assert math.isnan(HorizonScore(**old).mape)  # type: ignore[arg-type]


MARKET_SCORE = score_family(BASE, MARKET.returns, BASE, seed=1)[0]
