"""`forexgpt live status|halt|resume`: what trades, and the switch that stops it."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from forexgpt_core.cli.output import JsonFlag, group, print_json, show
from forexgpt_core.composition import Platform
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import TradingState
from forexgpt_core.errors import ForexGPTError
from forexgpt_core.service import active_sessions, replaced_sessions

Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]
By = Annotated[str, typer.Option(help="Who; it is recorded.")]
Scope = Annotated[str, typer.Option("--symbol", help="One pair; all of them where not given.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    live = group(app, "live", "Paper and live trading.")

    @live.command(epilog="Example: forexgpt live status --json")
    def status(as_json: JsonFlag = False) -> None:
        """Show what is deployed, its state, positions and orders."""
        platform = Platform.prepared()
        rows = [session.status() for session in (*active_sessions(platform), *replaced_sessions(platform))]
        if as_json:
            print_json(rows)
            return
        for row in rows:
            show(row, as_json=False)
        if not rows:
            print("nothing is deployed")

    @live.command(epilog="Example: forexgpt live halt --reason 'spreads too wide'")
    def halt(reason: Reason, by: By = "command line", symbol: Scope = "") -> None:
        """Stop new orders at once; it holds until `resume`, also after a restart."""
        _set(TradingState.HALTED, reason, by, symbol)

    @live.command(epilog="Example: forexgpt live resume --reason 'checked the feed'")
    def resume(reason: Reason, by: By = "command line", symbol: Scope = "") -> None:
        """Allow trading again."""
        _set(TradingState.ACTIVE, reason, by, symbol)

    @live.command("flatten", epilog="Example: forexgpt live flatten --reason 'central bank in an hour'")
    def flatten_(reason: Reason, symbol: Scope = "") -> None:
        """Close open positions at the next bar, in whatever trading state."""
        platform = Platform.prepared()
        wanted = instrument(symbol).symbol if symbol else None
        sessions = [*active_sessions(platform), *replaced_sessions(platform)]
        chosen = [session for session in sessions if wanted in (None, session.deployment.symbol)]
        failed = {}
        for session in chosen:
            try:
                report = session.flatten(datetime.now(UTC), reason)
                print(f"{report.symbol}: {report.decision}, {report.reason}")
            except ForexGPTError as error:  # the others must still be closed
                failed[session.deployment.deployment_id] = str(error)
        if failed:
            raise ForexGPTError("; ".join(f"{name} was not closed: {why}" for name, why in failed.items()))
        if not chosen:
            print(f"nothing is deployed{f' for {wanted}' if wanted else ''}")


def _set(state: TradingState, reason: str, by: str, symbol: str) -> None:
    platform = Platform.prepared()
    scope = instrument(symbol).symbol if symbol else "all"
    platform.trading_state.set(state, reason=reason, by=by, scope=scope)
    print(f"trading is {state} for {scope}: {reason}")
