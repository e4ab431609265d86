"""What is kept: the best in at least one regime, no tie with the random walk, each with its corrected p-value."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.report_card import holm
from forexgpt_core.evaluation.significance import diebold_mariano
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings
from forexgpt_core.optimisation.campaign import CampaignMember
from forexgpt_core.optimisation.campaign_selection import Cell, MemberLosses, Selection, select
from forexgpt_core.reporting.campaigns import skill_by_regime_picture

N = 1200
CALM, STORM = "calm rising", "volatile falling"


def member(
    family: str, horizons: tuple[int, ...] = (1, 4), symbol: str = "EURUSD", **options: object
) -> CampaignMember:
    return CampaignMember(
        symbol=symbol,
        timeframe="H1",
        horizons_bars=horizons,
        family=family,
        options=options,
        seed=7,
        walk_forward=WalkForwardSettings(),
        recipe={},
    )


def regimes(n: int = N) -> np.ndarray:
    labels = np.where(np.arange(n) // 60 % 2 == 0, CALM, STORM)
    labels[:100] = ""
    return labels


def outcome(one: CampaignMember, crps: np.ndarray, first_hour: int = 0) -> MemberLosses:
    hours = (first_hour + np.arange(len(crps))) * np.timedelta64(1, "h")
    origins = np.datetime64("2018-01-01", "us") + hours
    labels = regimes(first_hour + len(crps))[first_hour:]
    return MemberLosses(member=one, origin_utc=origins, crps=crps, regimes=labels)


def walk_losses(n: int = N, horizons: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 1e-3, (n, horizons))


def better_in(losses: np.ndarray, regime: str, by: float, seed: int) -> np.ndarray:
    """Losses lower by a share in one regime and higher by as much in the other, with noise."""
    sign = np.where(regimes(len(losses)) == regime, -by, by)[:, None]
    noise = np.random.default_rng(seed).normal(0, 0.05, losses.shape)
    return losses * (1 + sign + noise)


WALK, A, B, C = member("random_walk"), member("linear"), member("forest"), member("boosting", rounds=20)


def planted() -> list[MemberLosses]:
    losses = walk_losses()
    worse = losses * (1.05 + np.random.default_rng(3).normal(0, 0.02, losses.shape))
    return [
        outcome(WALK, losses),
        outcome(A, better_in(losses, STORM, 0.1, 1)),
        outcome(B, better_in(losses, CALM, 0.1, 2)),
        outcome(C, worse),
    ]


def cell_of(chosen: Selection, one: CampaignMember, horizon: int, regime: str) -> Cell:
    wanted = (one.hash12, horizon, regime)
    return next(cell for cell in chosen.cells if (cell.member, cell.horizon_bars, cell.regime) == wanted)


def test_the_best_of_each_regime_stay_and_the_rest_is_cleaned_up() -> None:
    chosen = select(planted())
    assert {(c.horizon_bars, c.regime) for c in chosen.kept_for[A.hash12]} == {(1, STORM), (4, STORM)}
    assert {(c.horizon_bars, c.regime) for c in chosen.kept_for[B.hash12]} == {(1, CALM), (4, CALM)}
    assert chosen.kept_for[WALK.hash12] == ()
    assert chosen.cleaned_up == (C.hash12,)
    assert chosen.unjudged == ()
    assert chosen.verdict == (
        "2 of 3 models are best in at least one regime; 2 of them beat the random walk there after 12 comparisons"
        " (Holm, 5 %)."
    )
    assert sum(c.best for c in chosen.cells) == 4, "one per horizon and regime"


def test_a_cell_says_what_a_plain_count_says() -> None:
    chosen, losses = select(planted()), planted()
    inside = regimes() == STORM
    own, plain = losses[1].crps[:, 1], losses[0].crps[:, 1]
    cell = cell_of(chosen, A, 4, STORM)
    assert cell.n == inside.sum()
    assert cell.crps == pytest.approx(own[inside].mean(), rel=1e-12)
    assert cell.skill == pytest.approx(1 - own[inside].mean() / plain[inside].mean(), rel=1e-12)
    masked = [np.where(inside, values, 0.0) for values in (own, plain)]
    assert cell.dm_p == diebold_mariano(*masked, 4).p_better
    tested = [c for c in chosen.cells if c.member != WALK.hash12]
    assert [c.holm_p for c in tested] == holm([c.dm_p for c in tested])
    assert cell_of(chosen, WALK, 4, STORM).holm_p == 1.0


def test_a_tie_goes_to_the_random_walk_and_of_two_equal_models_the_first_stays() -> None:
    losses = walk_losses()
    equal = [outcome(WALK, losses), outcome(A, losses * (1 - 1e-12)), outcome(C, losses)]
    chosen = select(equal)
    assert chosen.cleaned_up == (A.hash12, C.hash12)
    assert len(chosen.kept_for[WALK.hash12]) == 4
    assert chosen.verdict.startswith("Only the random walk, or models equal to it, were judged")
    worse = select([outcome(WALK, losses), planted()[3]])
    assert worse.verdict == "Nothing is better than the random walk in any regime, in 4 comparisons."
    lower = better_in(losses, STORM, 0.1, 1)
    twins = select([outcome(WALK, losses), outcome(A, lower), outcome(C, lower)])
    assert twins.cleaned_up == (C.hash12,)


@settings(deadline=None, max_examples=25)
@given(order=st.permutations(range(4)), seed=st.integers(0, 99))
def test_the_order_of_members_changes_nothing(order: Sequence[int], seed: int) -> None:
    losses = walk_losses(400, seed=seed)
    noise = np.random.default_rng(seed + 1).normal(0, 0.1, (4, *losses.shape))
    outcomes = [outcome(WALK, losses), *(outcome(m, losses * (1 + noise[n])) for n, m in enumerate((A, B, C)))]
    first, second = select(outcomes), select([outcomes[place] for place in order])
    named = [{(c.member, c.horizon_bars, c.regime): c for c in one.cells} for one in (first, second)]
    assert named[0] == named[1]
    assert set(first.cleaned_up) == set(second.cleaned_up)


def test_members_of_other_horizons_compete_where_they_forecast_the_same_thing() -> None:
    longer, long_walk = member("linear", (1, 24)), member("random_walk", (1, 24))
    losses, first = walk_losses(), 40
    own = better_in(losses, STORM, 0.1, 4)
    outcomes = [
        outcome(WALK, losses),
        outcome(A, better_in(losses, STORM, 0.05, 1)),
        outcome(long_walk, losses[first:], first),
        outcome(longer, own[first:], first),
    ]
    chosen = select(outcomes)
    cells = [c for c in chosen.cells if c.horizon_bars == 1 and c.regime == STORM]
    assert {c.n for c in cells} == {int((regimes()[100:] == STORM).sum())}, "the origins that all of them have"
    assert [c.member for c in cells if c.best] == [longer.hash12]
    assert {(c.horizon_bars, c.regime) for c in chosen.kept_for[A.hash12]} == {(4, STORM)}
    elsewhere = select([*outcomes, outcome(member("linear", symbol="GBPUSD"), losses)])
    assert elsewhere.unjudged == (member("linear", symbol="GBPUSD").hash12,), "no random walk stands beside it"
    assert elsewhere.cells == chosen.cells


def test_a_regime_that_is_hardly_met_is_left_out() -> None:
    losses = walk_losses()
    rare = regimes()
    rare[-29:] = "rare rising"
    outcomes = [replace(one, regimes=rare) for one in planted()]
    assert {c.regime for c in select(outcomes).cells} == {CALM, STORM}
    rare[-30:] = "rare rising"
    assert "rare rising" in {c.regime for c in select([replace(one, regimes=rare) for one in planted()]).cells}
    none = replace(outcome(WALK, losses), regimes=np.full(N, ""))
    assert select([none, replace(outcome(A, losses), regimes=np.full(N, ""))]).unjudged == (A.hash12,)


def test_what_is_too_short_to_be_tested_is_no_comparison() -> None:
    walk, other = member("random_walk", (30,)), member("linear", (30,))
    losses = np.random.default_rng(0).gamma(2.0, 1e-3, (60, 1))
    origins = np.datetime64("2018-01-01", "us") + np.arange(60) * np.timedelta64(1, "h")
    parts = [
        MemberLosses(member=one, origin_utc=origins, crps=crps, regimes=np.full(60, CALM))
        for one, crps in ((walk, losses), (other, 0.9 * losses))
    ]
    chosen = select(parts)
    cell = cell_of(chosen, other, 30, CALM)
    assert cell.best
    assert np.isnan([cell.dm_p, cell.holm_p]).all(), "60 losses hold two labels of 30 bars"
    assert chosen.verdict.endswith("none has enough forecasts to be tested, so nothing can be shown.")


def test_nothing_to_choose_from_is_no_error() -> None:
    chosen = select([])
    assert (chosen.cells, chosen.cleaned_up, chosen.kept_for) == ((), (), {})
    assert chosen.verdict.startswith("Nothing was judged: no member was completed beside its random walk")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"crps": np.full((N, 2), np.nan)}, "losses must be finite"),
        ({"crps": np.ones((N, 3))}, r"losses \(1200, 3\) and regimes \(1200,\) must have 1200 rows"),
        ({"regimes": np.full(3, CALM)}, "must have 1200 rows"),
        ({"origin_utc": np.full(N, np.datetime64("2018-01-01", "us"))}, "origins must be strictly increasing"),
    ],
)
def test_bad_losses_are_refused_by_name(change: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        replace(outcome(WALK, walk_losses()), **change)


def test_a_member_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="given twice"):
        select([*planted(), planted()[0]])


@pytest.mark.slow
def test_among_many_worthless_models_a_campaign_seldom_shows_one() -> None:
    models = [member("boosting", rounds=n) for n in range(12)]
    claims = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        losses = walk_losses(600, seed=seed)
        outcomes = [outcome(m, losses * (1 + rng.normal(0, 0.1, losses.shape))) for m in models]
        claims += any(c.holm_p < 0.05 for c in select([outcome(WALK, losses), *outcomes]).cells)
    assert claims <= 12, "the 99 % band of 100 draws at 5 %"


def test_the_picture_draws_every_judged_member_and_refuses_none() -> None:
    chosen = select(planted())
    titles = {one.member.hash12: one.member.title for one in planted()}
    assert skill_by_regime_picture(chosen.cells, titles, "spring").startswith(b"\x89PNG")
    with pytest.raises(BadInput, match="nothing to draw"):
        skill_by_regime_picture([], titles, "spring")
