"""`forexgpt demo`: the whole graph for EURUSD on the real candles of the sample, then paper trading."""

from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

from forexgpt_assets.defs.models import families
from forexgpt_assets.runs import add_symbol, materialize, run_job, session
from forexgpt_core import cards, evidence, readings
from forexgpt_core.cli.output import print_json, print_table, say
from forexgpt_core.composition import ENSEMBLE, REFERENCE, Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings, default_settings
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.evaluation.report_card import HorizonScore
from forexgpt_core.optimisation.pareto import ParetoSettings
from forexgpt_core.service import LiveSession

SYMBOL = "EURUSD"
PAPER_BARS = 240  # ten trading days that no earlier step may touch
TRIO = ("model", "calibration", "evaluation")
REASON = "demo: the knee of the front; forecasts need not beat the random walk, because this is paper money"


def demo_settings() -> SymbolSettings:
    """Return the settings of the demo: the sample's candles, the newest ones kept for paper trading."""
    base = default_settings(SYMBOL)
    return replace(
        base,
        hold_back_bars=PAPER_BARS,
        pareto=ParetoSettings(min_trades=30, seed=base.seed),
        deployment=replace(base.deployment, allow_no_skill=True),
        # By default a model must clearly beat the walk in tuning before it says anything else than the walk. 5,000 bars
        # rarely allow that; the demo lets models dare more, so that there is something to judge.
        family_options={family: {"caution": 0.0} for family in families() if family != REFERENCE},
    )


def run_demo(*, as_json: bool) -> None:
    """Run everything once and print the report card."""
    started = perf_counter()
    with session() as (platform, instance):
        platform.pairs.save(demo_settings(), by="demo")
        add_symbol(instance, SYMBOL)
        stages = {
            "candles and features": ["candles", "features"],
            "models": [f"{family}_{stage}" for stage in TRIO for family in families()],
            "leaderboard and ensemble": ["leaderboard", "ensemble"],
            "backtest and Pareto front": ["backtest", "pareto_configs"],
            "report card": ["report_card"],
        }
        for name, assets in stages.items():
            _stage(name, started)
            materialize(instance, assets, SYMBOL)
        _stage("deployment", started)
        approval = {"approve": _chosen(platform), "approved_by": "demo", "reason": REASON}
        materialize(instance, ["deployed_strategy"], SYMBOL, {"deployed_strategy": approval})
        _stage(f"paper trading over {PAPER_BARS} bars nothing has seen", started)
        run_job(instance, "live_execution_job", {"live_tick": {"replay": True}})
        _stage("monitoring", started)
        materialize(instance, ["drift_report", "adherence_report"], SYMBOL)
        materialize(instance, ["portfolio_backtest"], None)
        _stage("done", started)
        card = report_card(platform, perf_counter() - started)
    if as_json:
        print_json(card)
    else:
        _print_card(card, platform)


def report_card(platform: Platform, seconds: float) -> dict[str, Any]:
    """Return the demo's figures as `forexgpt demo --json` prints them, all read back from the stores."""
    settings = platform.pair(SYMBOL)
    bars = platform.lake.candles(SYMBOL, Timeframe.parse(settings.timeframe))
    study = platform.studies.newest(SYMBOL, settings.timeframe)
    deployment = platform.deployments.active(SYMBOL)
    assert study is not None
    assert deployment is not None
    return {
        "symbol": SYMBOL,
        "timeframe": settings.timeframe,
        "bars": bars.height,
        "seconds": round(seconds, 1),
        "verdict": readings.verdict(platform, SYMBOL),
        "report": cards.newest_card(platform, SYMBOL)["verdict"],
        "models": [
            _model(score) for f in (*families(), ENSEMBLE) for score in evidence.horizon_scores(platform, settings, f)
        ],
        "backtest": readings.backtest_figures(platform, SYMBOL),
        "pareto": [
            {
                "config": {**asdict(t.config), "hash": t.config.hash12},
                "in_sample": t.in_sample,
                "out_of_sample": t.out_of_sample,
            }
            for t in study.front
        ],
        "deployed": {
            "config": {**asdict(deployment.config), "hash": deployment.config.hash12},
            "bundle_hash": deployment.bundle_hash,
            "approved_by": deployment.approved_by,
            "skill_shown": deployment.skill_shown,
            "allow_no_skill": deployment.allow_no_skill,
        },
        "live": LiveSession(platform, deployment).counts(),
    }


def _model(score: HorizonScore) -> dict[str, object]:
    return {
        "family": score.family,
        "horizon_bars": score.horizon_bars,
        "crps": score.crps,
        "crps_random_walk": score.crps_reference,
        "skill": score.skill,
        "skill_ci": [score.skill_low, score.skill_high],
        "dm_p": score.dm_p,
        "coverage_90": score.coverage_90,
        "direction": score.direction,
        "n": score.n,
    }


def _chosen(platform: Platform) -> str:
    """Return the knee of the front: good on every objective at once, in sample, without looking later."""
    study = platform.studies.newest(SYMBOL, platform.pair(SYMBOL).timeframe)
    assert study is not None
    return str(study.details["picks"]["knee"])


def _stage(name: str, started: float) -> None:
    say(f"[{perf_counter() - started:6.1f} s] {name}")


def _print_card(card: dict[str, Any], platform: Platform) -> None:
    title = f"{card['symbol']} {card['timeframe']}, {card['bars']} bars: skill over the {REFERENCE}, out of sample"
    print_table(readings.score_rows(readings.scores(platform, SYMBOL)), title)
    print(card["verdict"])
    print(f"In one sentence: {card['report']}")
    print_table(
        [
            {
                "configuration": p["config"]["hash"],
                "earlier part, searched": readings.strategy_line(p["in_sample"]),
                "later part, never seen by the search": readings.strategy_line(p["out_of_sample"]),
            }
            for p in card["pareto"][:8]
        ],
        f"Pareto front, {min(8, len(card['pareto']))} of {len(card['pareto'])} members",
    )
    deployed, live = card["deployed"], card["live"]
    skill = "with shown skill" if deployed["skill_shown"] else "WITHOUT shown skill, allowed by the demo's settings"
    print(f"Deployed on paper: {deployed['config']['hash']} on bundle {deployed['bundle_hash']}, {skill}")
    print(
        f"Paper trading: {live['ticks']} ticks, {live['orders']} orders, {live['fills']} fills,"
        f" {live['duplicates']} sent twice, equity {live['equity']:.2f} of {live['cash']:.2f}"
    )
    print(
        f"{card['seconds']:.0f} s. Look at it: make ui, then http://127.0.0.1:3000   (state: {platform.settings.home})"
    )
