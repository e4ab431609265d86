"""Has the world moved away from what the models learnt?"""

from time import perf_counter

import dagster as dg

from forexgpt_assets.defs.evaluation import leaderboard
from forexgpt_assets.defs.features import features
from forexgpt_assets.metadata import figures, picture
from forexgpt_assets.partitions import symbols
from forexgpt_core.composition import REFERENCE, Platform
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecast_table import from_table
from forexgpt_core.evidence import walk_forward_table
from forexgpt_core.service import score_live_forecasts


@dg.asset(deps=[features, leaderboard], partitions_def=symbols, group_name="monitoring", kinds={"evidently"})
def drift_report(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    """Features and matured errors of the newest bars against the bars before them; live forecasts are scored first.

    The alarm is calibrated for autocorrelated series and states its false-alarm rate; Evidently draws the tables.
    """
    from forexgpt_core.evaluation.drift import DriftLimits
    from forexgpt_core.evaluation.drift import drift_report as judge_drift
    from forexgpt_core.evaluation.scores import crps
    from forexgpt_core.reporting.drift import drift_picture

    started = perf_counter()
    settings = platform.pair(context.partition_key)
    symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
    matured = score_live_forecasts(platform, settings)
    rows = platform.lake.read("features", symbol, timeframe).tail(
        settings.drift.reference_bars + settings.drift.current_bars
    )
    stored = walk_forward_table(platform, settings, REFERENCE)
    forecasts, returns = from_table(stored, symbol=symbol, timeframe=str(timeframe), family=REFERENCE)
    losses = (
        crps(forecasts.quantiles, returns)[:, 0] / forecasts.scale[:, 0]
    )  # in volatility units, so calm and storm compare
    cut = max(losses.size - settings.drift.current_bars, losses.size // 2)
    report = judge_drift(
        rows.head(-settings.drift.current_bars),
        rows.tail(settings.drift.current_bars),
        losses[:cut],
        losses[cut:],
        limits=DriftLimits(feature_share=settings.drift.drifted_share),
        seed=settings.seed,
    )
    page = platform.save_page(symbol, "drift", report.html)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": rows.height,
            **figures(
                {
                    "drifted": report.drifted,
                    "drifted_share": report.share,
                    "drifted_columns": ", ".join(report.drifted_columns) or "none",
                    "loss_shift": report.loss_shift,
                    "loss_p": report.loss_p,
                    "false_alarms": report.false_alarm_note,
                    "live_forecasts_matured": matured,
                    "seconds": perf_counter() - started,
                }
            ),
            "page": dg.MetadataValue.path(page),
            "drift": picture(drift_picture(report, f"{symbol} {timeframe}"), "drift"),
        }
    )
