"""Searches asked for on the command line: refused before a run begins, shown while it runs, printed at its end."""

from collections.abc import Mapping
from dataclasses import asdict

from forexgpt_assets.progress import share_on_terminal
from forexgpt_assets.runs import RunInterrupted, materialize, require_symbol, session
from forexgpt_core import evidence, searches
from forexgpt_core.cli.output import say
from forexgpt_core.cli.pareto import show_newest
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.documents import build
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.optimisation.pareto import ParetoSettings


def optimise_strategies(symbol: str, changes: Mapping[str, object], *, as_json: bool) -> None:
    """Search strategies of a pair as its settings say, but for the changes, and print the front.

    Raises:
        BadInput, UnknownName: a change is not lawful.
        RunFailed: the search failed. RunInterrupted: it was stopped; the text says what is kept.
    """
    with session() as (platform, instance):
        key = require_symbol(instance, symbol)
        pair = platform.pair(key)
        wanted = build(ParetoSettings, {**asdict(pair.pareto), **changes}, "the search")
        try:
            with share_on_terminal(f"{key} {wanted.method}"):
                result = materialize(instance, ["pareto_configs"], key, {"pareto_configs": changes})
        except RunInterrupted:
            raise RunInterrupted(_kept(platform, pair, wanted)) from None
        say(f"{key}: pareto_configs done, run {result.run_id}")
        show_newest(platform, key, as_json=as_json)


def _kept(platform: Platform, pair: SymbolSettings, wanted: ParetoSettings) -> str:
    study = searches.kept(platform, evidence.traded_market(platform, pair), wanted)
    if study is None or not study.trials:
        return "interrupted before the first trial was finished; the same command begins again"
    return f"interrupted: {study.trials} trials of study {study.study_id} are kept, and the same command goes on"
