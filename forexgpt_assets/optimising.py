"""Searches asked for on the command line: refused before a run begins, shown while it runs, printed at its end."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from forexgpt_assets.progress import share_on_terminal
from forexgpt_assets.runs import RunInterrupted, materialize, require_symbol, run_job, session
from forexgpt_core import evidence, searches, tunings
from forexgpt_core.cli.output import print_json, say
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


def optimise_family(symbol: str, asked: Mapping[str, object], *, as_json: bool) -> None:
    """Search the options of a family, and print the pair's settings with what was found as YAML; apply nothing.

    Raises:
        BadInput, UnknownName, NotReady: what is asked for is not lawful, or the pair has no features yet.
        RunFailed: the search failed. RunInterrupted: it was stopped; the text says what is kept.
    """
    with session() as (platform, instance):
        key = require_symbol(instance, symbol)
        pair = platform.pair(key)
        request = build(tunings.TuningRequest, asked, "the search")
        tuning = tunings.prepared(platform, pair, request)
        try:
            with share_on_terminal(f"{key} {request.family}"):
                result = run_job(instance, "tuning_job", {"search_options": asked}, key)
        except RunInterrupted:
            kept = f"interrupted: the figures of {len(tuning.stored)} fits are kept, and the same command goes on"
            raise RunInterrupted(kept) from None
        document: dict[str, Any] = result.output_for_node("search_options")
        say(f"{key}: {request.family} searched, run {result.run_id}")
    if as_json:
        print_json(document)
        return
    for line in _of_front(document) if request.figures else _of_best(document):
        say(line)
    sys.stdout.write(tunings.with_options(pair, document["family_options"]).to_yaml())


def _of_best(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a search for the least error found, in words."""
    best, usual = document["best"], document["usual"]
    yield (
        f"{document['tried']} option sets of {document['family']} tried, {document['pruned']} of them given up early;"
        f" best CRPS {best['crps']:.5f} against {usual['crps']:.5f} of those in use"
        f" ({document['gain_percent']:+.2f} %, p {document['p_value']:.3f})"
    )
    yield f"best: {dict(best['options'])}"
    if document["note"]:
        yield document["note"]
    which = "with the best ones" if document["convincing"] else "as they are"
    yield f"the settings {which} follow; nothing was applied: save them with 'forexgpt symbols import FILE'"


def _of_front(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a search for several figures found, in words."""
    yield f"{document['tried']} option sets of {document['family']} tried; those that no other one beats:"
    for one in ({**document["usual"], "options": "in use"}, *document["front"]):
        right = "no call" if one["direction"] is None else f"{one['direction']:.1%} right"
        figures = f"{right}, CRPS {one['crps']:.5f}, drawdown {one['max_drawdown_pct']:.1f} %, {one['trades']} trades"
        yield f"{figures}: {one['options']}"
    if document["note"]:
        yield document["note"]
    yield "the settings as they are follow: write the options you choose into family_options, and save them with"
    yield "'forexgpt symbols import FILE'; no test says that any of these beats those in use"


def _kept(platform: Platform, pair: SymbolSettings, wanted: ParetoSettings) -> str:
    study = searches.kept(platform, evidence.traded_market(platform, pair), wanted)
    if study is None or not study.trials:
        return "interrupted before the first trial was finished; the same command begins again"
    return f"interrupted: {study.trials} trials of study {study.study_id} are kept, and the same command goes on"
