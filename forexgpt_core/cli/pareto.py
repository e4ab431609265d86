"""`forexgpt pareto`: the fronts that searches of a pair have found, and what each member of one is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from forexgpt_core import searches
from forexgpt_core.cli.output import JsonFlag, SymbolArgument, print_json, print_table, say
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.errors import BadInput
from forexgpt_core.optimisation.pareto import ParetoMember, ParetoResult
from forexgpt_core.optimisation.picks import lowest_drawdown_above, weighted
from forexgpt_core.readings import strategy_line
from forexgpt_core.searches import FoundStudy

_OF_SEARCH = ("trials_ever", "best_of_worthless", "pbo", "fall_apart")


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command(epilog="Example: forexgpt pareto EURUSD --above 5 --json")
    def pareto(
        symbol: SymbolArgument,
        above: Annotated[
            float | None,
            typer.Option(help="Show the member with the lowest drawdown of those that returned this % in sample."),
        ] = None,
        weights: Annotated[
            str,
            typer.Option(help="Show the best member by weights, such as return_pct=2,max_drawdown_pct=1."),
        ] = "",
        studies: Annotated[bool, typer.Option("--studies", help="List the searches of the pair instead.")] = False,
        study: Annotated[int | None, typer.Option(help="Show this search; the newest finished one by default.")] = None,
        explorer: Annotated[
            Path | None, typer.Option(help="Write the interactive page of the search to this HTML file.")
        ] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Show a Pareto front: each configuration on the part it was found on and on a later one, and what it is worth.

        Picks read figures in sample alone: to choose by the later ones would spend them.
        """
        platform = Platform.prepared()
        pair = platform.pair(symbol)
        if studies:
            if above is not None or weights or study is not None or explorer is not None:
                raise BadInput("--studies lists searches, the other options show one of them: give one or the other")
            show_studies(platform, pair, as_json=as_json)
            return
        found = searches.of_pair(platform, pair, study)
        members = _members(found.result, above, weights)
        if explorer is not None:
            _write_explorer(platform, found, explorer)
        show_front(platform, pair, found, members, as_json=as_json, deployable=_is_newest(platform, pair, found))


def show_newest(platform: Platform, symbol: str, *, as_json: bool) -> None:
    """Print the front of the search of a pair that was asked for last.

    Raises:
        NotReady: no search of the pair is finished.
    """
    pair = platform.pair(symbol)
    found = searches.of_pair(platform, pair)
    show_front(platform, pair, found, found.result.members, as_json=as_json, deployable=True)


def show_studies(platform: Platform, pair: SymbolSettings, *, as_json: bool) -> None:
    """Print every search of a pair, the newest first."""
    listed = [asdict(one) for one in platform.studies.list(pair.symbol, pair.timeframe)]
    if as_json:
        print_json(listed)
        return
    shown = ("study_id", "method", "seed", "state", "trials", "started_utc", "finished_utc", "best", "error")
    print_table([{name: one[name] for name in shown} for one in listed], f"{pair.symbol} {pair.timeframe}: searches")


def show_front(
    platform: Platform,
    pair: SymbolSettings,
    found: FoundStudy,
    members: Sequence[ParetoMember],
    *,
    as_json: bool,
    deployable: bool,
) -> None:
    """Print members of a front.

    Args:
        deployable: whether it is the newest front, that deployments choose from.
    """
    result = found.result
    # The verdict is of the day of the search: who asks for another one afterwards has tried more.
    tried_since = max(searches.trials_ever(platform, pair).count - found.overfitting["trials_ever"], 0)
    if as_json:
        print_json([_document(found, member, tried_since) for member in members])
        return
    title = f"{pair.symbol} {pair.timeframe}: study {found.study_id} by {result.settings.method}"
    print_table([_row(member, found.shown(member.hash12)) for member in members], title)
    print(_verdict(found))
    if tried_since > 0:
        print(f"{tried_since:,} more were tried on this pair since: what beats luck here has to beat those too")
    for how, hash12 in result.picks.items():
        print(f"{how.replace('_', ' ')}: {hash12}{_kept_nearby(result.stability.get(hash12))}")
    if result.note:
        print(result.note)
    if deployable:
        print(f"Deploy one with: forexgpt deploy {pair.symbol} HASH --by NAME --reason WHY")
    else:
        print("Deployments choose from the newest front: ask for this search again to make it that")


def _is_newest(platform: Platform, pair: SymbolSettings, found: FoundStudy) -> bool:
    finished = [one for one in platform.studies.list(pair.symbol, pair.timeframe) if one.state == "finished"]
    return bool(finished) and finished[0].study_id == found.study_id


def _members(result: ParetoResult, above: float | None, weights: str) -> Sequence[ParetoMember]:
    """Return the member that was asked for, or all of them."""
    if above is not None and weights:
        raise BadInput("--above and --weights each choose one member: give one of the two")
    figures = [member.in_sample for member in result.members]
    if above is not None:
        return [result.members[lowest_drawdown_above(above, figures)]]
    if weights:
        return [result.members[weighted(_weights(weights), figures, result.settings.goals)]]
    return result.members


def _weights(text: str) -> dict[str, float]:
    """Return weights by name.

    >>> _weights("return_pct=2,max_drawdown_pct=1")
    {'return_pct': 2.0, 'max_drawdown_pct': 1.0}
    """
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(weight) for name, weight in pairs}
    except ValueError:
        raise BadInput(f"--weights takes NAME=NUMBER separated by commas, such as return_pct=2; got '{text}'") from None


def _write_explorer(platform: Platform, found: FoundStudy, file: Path) -> None:
    page = searches.explorer(platform, found)
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot write the explorer to {file}: {error.strerror}") from None
    say(f"study {found.study_id} is drawn in {file}")


def _document(found: FoundStudy, member: ParetoMember, tried_since: int) -> dict[str, Any]:
    """Return a member with all that it takes to judge it alone."""
    result = found.result
    return {
        "config": asdict(member.config),
        "hash": member.hash12,
        "in_sample": member.in_sample,
        "out_of_sample": member.out_of_sample,
        "later_spans": member.later_spans,
        **found.shown(member.hash12),
        "picks": [how for how, hash12 in result.picks.items() if hash12 == member.hash12],
        "stability": result.stability.get(member.hash12),
        "search": {
            "study": found.study_id,
            "method": result.settings.method,
            "objectives": result.settings.goals.names,
            "trials": result.trials,
            **{name: found.overfitting[name] for name in _OF_SEARCH},
            "tried_since": tried_since,
            "stopped": result.stopped,
            "note": result.note,
        },
    }


def _row(member: ParetoMember, told: Mapping[str, Any]) -> dict[str, object]:
    deflated = told["deflated_sharpe"]
    return {
        "configuration": member.hash12,
        "earlier part, searched": strategy_line(member.in_sample),
        "later part, never seen by the search": strategy_line(member.out_of_sample),
        "beats luck": "-" if deflated is None else f"{deflated:.0%} likely",
        "later": _later(member, told),
    }


def _later(member: ParetoMember, told: Mapping[str, Any]) -> str:
    if told["falls_apart"]:
        return "falls apart"
    return "holds" if float(member.in_sample["sharpe"] or 0.0) > 0 else "never earned"


def _verdict(found: FoundStudy) -> str:
    """Return what the search as a whole is worth, in one line."""
    told, members = found.overfitting, len(found.result.members)
    best, pbo = told["best_of_worthless"], told["pbo"]
    parts = [
        f"{found.result.trials:,} configurations tried, {told['trials_ever']:,} ever on this pair",
        "" if best is None else f"the best of as many worthless ones would show a Sharpe of {best:.1f}",
        "" if pbo is None else f"probability of overfitting {pbo:.2f}",
        f"{told['fall_apart']} of {members} fall apart later",
    ]
    return "; ".join(part for part in parts if part)


def _kept_nearby(told: Mapping[str, Any] | None) -> str:
    """Return which share of each objective the neighbours of a pick keep, in words."""
    if told is None or not told["neighbours"]:
        return ""
    shares = {name.removesuffix("_pct"): share for name, share in told["kept"].items() if share is not None}
    if not shares:
        return f"; its {told['neighbours']} neighbours have nothing to keep, as it earned nothing"
    kept = [f"{share:.0%} of its {name}" for name, share in shares.items()]
    lost = "" if told["feasible"] == 1 else f", {told['feasible']:.0%} of them within the constraints"
    return f"; its {told['neighbours']} neighbours keep {', '.join(kept)}{lost}".replace("_", " ")
