"""The verdict of a report card: one sentence on skill, calibration, direction and money that claims nothing unshown."""

import math
from collections.abc import Sequence

from forexgpt_core.evaluation.card_entries import CardEntry, FamilyCard, bars_text
from forexgpt_core.evaluation.card_money import BacktestMoney, SearchMoney
from forexgpt_core.evaluation.direction import DirectionScore
from forexgpt_core.evaluation.report_card import SIGNIFICANT, HorizonScore, Leaderboard, holm

SURE = 0.95  # deflated Sharpe ratio, a probability, from which a strategy counts as better than luck
_SPOKEN = {"random_walk": "the random walk's", "ensemble": "the ensemble's"}


def verdict_sentence(
    where: str,
    board: Leaderboard | None,
    family: FamilyCard | None,
    backtest: BacktestMoney | None,
    search: SearchMoney | None,
) -> str:
    """Return the sentence.

    Args:
        where: pair and timeframe.
        board: of all families; None where nothing could be scored.
        family: whose calibration and direction are told: the one that is traded.
    """
    if board is None or family is None:
        return f"Nothing can be said about forecasts at {where}, and {_money(backtest, search)}."
    parts = [_skill(where, board), f"{_calibration(family)}, {_direction(family.entries)}", _money(backtest, search)]
    return f"{parts[0]}; {parts[1]}, and {parts[2]}."


def _skill(where: str, board: Leaderboard) -> str:
    tested = [score for row in board.rows for score in row.scores if not score.equals_reference]
    shown = [s for s in tested if (s.family, s.horizon_bars) in board.shown_skill]
    if not tested:
        return f"Only the random walk was judged at {where}, or models equal to it"
    if not shown:
        best = max(tested, key=lambda s: s.skill)
        return f"Nothing beats the random walk at {where} (best of {len(tested)}: {_place(best)})"
    best = max(shown, key=lambda s: s.skill)
    doubt = ": suspect a leak first" if board.warnings else ""
    told = "" if len(tested) == 1 else f"{len(shown)} of {len(tested)} comparisons, best "
    return f"The random walk is beaten at {where} ({told}{_place(best)}{doubt})"


def _place(score: HorizonScore) -> str:
    return f"{score.family} at {bars_text(score.horizon_bars)}, skill {100 * score.skill:+.2f} %"


def _calibration(family: FamilyCard) -> str:
    inside = [100 * entry.score.coverage_90 for entry in family.entries]
    shares = f"{min(inside):.1f}" if len(inside) == 1 else f"{min(inside):.1f} to {max(inside):.1f}"
    held = f"{_SPOKEN.get(family.family, family.family)} 90 % intervals cover {shares} %"
    wrong = [entry for entry in family.entries if not entry.calibrated]
    if wrong:
        worst = max(wrong, key=lambda entry: abs(entry.score.coverage_90 - 0.9))
        way = "too narrow" if worst.score.coverage_90 < 0.9 else "too wide"
        return f"{held}, {way} at {bars_text(worst.score.horizon_bars)}"
    mute = [entry.score.horizon_bars for entry in family.entries if not entry.can_tell]
    if len(mute) == len(family.entries):
        return f"{held} of too few outcomes to tell"
    off = [group for entry in family.entries for group in entry.worst if group.off]
    if off:
        group = max(off, key=lambda one: abs(one.coverage - 0.9))
        return f"{held} as they should, but {100 * group.coverage:.1f} % {group_text(group.condition, group.group)}"
    if mute:
        return f"{held} as they should (too few at {bars_text(min(mute))} to tell)"
    return f"{held} as they should" + (", in calm and storm" if family.groups_can_tell else "")


def group_text(condition: str, group: str) -> str:
    """Return a group of origins as people say it.

    >>> group_text("volatility_decile", "10"), group_text("session", "new_york")
    ('in the most volatile tenth', 'in the new york session')
    """
    if condition == "session":
        return f"in the {group.replace('_', ' ')} session"
    names = {"1": "in the calmest tenth", "10": "in the most volatile tenth"}
    return names.get(group, f"in volatility decile {group}")


def _direction(entries: Sequence[CardEntry]) -> str:
    called = [entry.direction for entry in entries if not entry.direction.missing]
    if not called:
        return "no direction is called"
    adjusted = holm([one.p_value for one in called])
    p, best = min(zip(adjusted, called, strict=True), key=lambda pair: pair[0])
    told = "shown" if p < SIGNIFICANT and beyond_luck(best) else "not shown"
    detectable = "" if math.isnan(best.detectable) else f", {100 * best.detectable:.1f} % detectable"
    return f"direction is {told} ({100 * best.hit_rate:.1f} % right at {bars_text(best.horizon_bars)}{detectable})"


def beyond_luck(called: DirectionScore) -> bool:
    """Return whether the share of all calls agrees with the test, which sees only calls whose targets do not overlap.

    Which of the overlapping ones those are is an accident of the first origin, and may be a lucky one.
    """
    return called.hit_rate - 1.96 * called.standard_error > max(0.5, called.by_chance)


def _money(backtest: BacktestMoney | None, search: SearchMoney | None) -> str:
    if search is not None and search.deflated_sharpe is not None:
        trials = "1 trial" if search.trials_ever == 1 else f"{search.trials_ever:,} trials"
        chance = f"after {trials} (probability {search.deflated_sharpe:.2f})"
        if search.deflated_sharpe < SURE:
            return f"no strategy is shown to beat luck {chance}"
        doubt = search.pbo is not None and search.pbo >= 0.5  # the best of half the span is usually below the median
        return f"the best strategy beats luck {chance}" + (", though the search overfits" if doubt else "")
    searched = "no strategy could be deflated" if search is not None else "no search was made"
    if backtest is not None and not backtest.trades:
        return f"the backtested strategy never trades, and {searched}"
    if backtest is not None:
        gain = "an undefined return" if backtest.return_pct is None else f"{backtest.return_pct:+.1f} %"
        sure = backtest.probabilistic_sharpe
        chance = "its Sharpe ratio undefined" if sure is None else f"a Sharpe ratio above 0 with probability {sure:.2f}"
        return f"the backtested strategy ends at {gain} after cost, {chance}, and {searched}"
    return "no strategy of these forecasts was tested"
