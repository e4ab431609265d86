"""The leaderboard: every family that stands on the current data, beside the random walk."""

from time import perf_counter

import dagster as dg

from forexgpt_assets.defs.models import families
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core import evidence
from forexgpt_core.composition import REFERENCE, Platform


@dg.asset(
    deps=[dg.AssetKey(f"{family}_evaluation") for family in families()],
    partitions_def=symbols,
    group_name="evaluation",
    kinds={"mlflow"},
)
def leaderboard(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    """Families ranked by skill over the random walk; says plainly when nothing beats it. Moves the registry aliases."""
    from forexgpt_core.evaluation.report_card import rank
    from forexgpt_core.reporting.evaluation import leaderboard_markdown, skill_picture

    started = perf_counter()
    settings = platform.pair(context.partition_key)
    symbol, timeframe = settings.symbol, settings.timeframe
    judged = evidence.judged_families(platform, settings)
    absent = tuple(family for family in families() if family not in judged)
    scores = [score for family in judged for score in evidence.horizon_scores(platform, settings, family)]
    board = rank(scores, absent=absent)
    best = next((row.family for row in board.rows if row.family != REFERENCE), None)
    if best is not None:
        platform.registry.set_alias(symbol, timeframe, "challenger", judged[best].parent_hash)
    shown = [family for family, _ in board.shown_skill]
    if best in shown:
        platform.registry.set_alias(symbol, timeframe, "champion", judged[best].parent_hash)
    drawing = skill_picture(scores, f"{symbol} {timeframe}")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(scores),
            **figures(
                {
                    "verdict": board.verdict,
                    "best": best,
                    "families_with_shown_skill": len(set(shown)),
                    "too_good_to_be_true": "; ".join(board.warnings) or "none",
                    "absent": ", ".join(absent) or "none",
                    "best_skill": max((s.skill for s in scores if s.family != REFERENCE), default=None),
                    "seconds": perf_counter() - started,
                }
            ),
            "ranking": dg.MetadataValue.md(leaderboard_markdown(board)),
            "scores": table([s.to_dict() for s in scores]),
            "skill": picture(drawing, "skill over the random walk"),
        }
    )
