"""Verbs that run assets and jobs: what they do shows in the UI like any run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from forexgpt_core import readings
from forexgpt_core.cli.campaigns import read_campaign, show_campaign
from forexgpt_core.cli.features import RecipeOption, read_recipe
from forexgpt_core.cli.output import JsonFlag, SymbolArgument, group, print_json, print_table, say, show
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import PROVIDERS
from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.models.catalogue import FAMILIES
from forexgpt_core.service import active_sessions

Family = Annotated[
    str, typer.Option("--family", help=f"One of {', '.join(FAMILIES)}; all that are on where not given.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the `forexgpt` command."""
    _register_data(app)
    _register_models(app)
    _register_trading(app)
    _register_searches(app)
    _register_servers(app)


def _register_data(app: typer.Typer) -> None:
    candles = group(app, "candles", "Candles in the lake.")
    symbols = group(app, "symbols", "Pairs and their settings.")
    features = group(app, "features", "Feature tables.")

    @symbols.command(epilog="Example: forexgpt symbols add GBPUSD")
    def add(symbol: SymbolArgument) -> None:
        """Add a pair to the graph; its partition appears in the UI."""
        from forexgpt_assets.runs import add_symbol, session

        with session() as (_, instance):
            print(f"{add_symbol(instance, symbol)} is in the graph")

    @candles.command(
        "import", epilog="Example: forexgpt candles import GBPUSD_H1.csv --symbol GBPUSD --timeframe H1 --timezone UTC"
    )
    def import_(
        file: Annotated[Path, typer.Argument(help="CSV (zipped or not) or Parquet file.")],
        symbol: Annotated[str, typer.Option(help="Currency pair.")],
        timeframe: Annotated[str, typer.Option(help="Must be the pair's base timeframe.")] = "H1",
        timezone: Annotated[
            str,
            typer.Option(
                help="Zone of the file's times, where they carry none: IANA, or with hours added as America/New_York+7."
            ),
        ] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """Judge a file's candles and merge them into the lake. A refused file changes nothing."""
        from forexgpt_assets.importing import import_file

        show(import_file(file, symbol, timeframe, timezone), as_json=as_json)

    @candles.command(epilog="Example: forexgpt candles fetch GBPUSD --provider dukascopy --start 2024-01-01")
    def fetch(
        symbol: SymbolArgument,
        provider: Annotated[str, typer.Option(help=f"From now on: {', '.join(PROVIDERS)}.")] = "",
        start: Annotated[str, typer.Option(help="First day of history wanted, YYYY-MM-DD; else a year ago.")] = "",
        end: Annotated[str, typer.Option(help="Last day wanted this time, to 17:00 New York; else up to now.")] = "",
    ) -> None:
        """Fetch what is missing from the pair's source and rebuild its features; an interrupted download goes on."""
        from forexgpt_assets.progress import bar_on_terminal

        if provider or start:
            from forexgpt_assets.fetching import use_provider

            say(use_provider(symbol, provider, start))
        with bar_on_terminal(f"candles of {symbol}"):
            _run(symbol, ["candles", "features"], {"end": end} if end else None)

    @features.command(epilog="Example: forexgpt features build EURUSD")
    def build(symbol: SymbolArgument, recipe: RecipeOption = "") -> None:
        """Bring a pair's features up to date with its candles; by another recipe for this once, where one is given."""
        _run(symbol, ["features"], {"recipe": read_recipe(recipe).to_document()} if recipe else None)


def _register_models(app: typer.Typer) -> None:
    @app.command(epilog="Example: forexgpt train EURUSD --family boosting")
    def train(symbol: SymbolArgument, family: Family = "") -> None:
        """Train and calibrate a pair's families."""
        _run(symbol, [f"{name}_{stage}" for name in _families(family) for stage in ("model", "calibration")])

    @app.command(epilog="Example: forexgpt evaluate EURUSD --json")
    def evaluate(
        symbol: SymbolArgument,
        cross_validate: Annotated[
            str, typer.Option(help="Instead: this family over combinatorial purged paths.", metavar="FAMILY")
        ] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """Validate a pair's families by walk-forward, rank them, rebuild the ensemble and write the report card."""
        if cross_validate:
            [family] = _families(cross_validate)
            _run(symbol, ["cross_validation"], {"family": family})
            paths = readings.path_rows(Platform.prepared(), symbol)
            print_json(paths) if as_json else print_table(paths)
            return
        _run(symbol, [*(f"{name}_evaluation" for name in FAMILIES), "leaderboard", "ensemble", "report_card"])
        judged = readings.scores(Platform.prepared(), symbol)
        if as_json:
            print_json([score.to_dict() for score in judged])
            return
        print_table(readings.score_rows(judged))
        print(readings.verdict(Platform.prepared(), symbol))

    campaign = group(app, "campaign", "Training campaigns: grids of models, and what is kept of them.")

    @campaign.command("run", epilog="Example: forexgpt campaign run spring.yaml")
    def run_campaign(
        file: Annotated[Path, typer.Argument(help="YAML or JSON file of the campaign.", metavar="FILE")],
        as_json: JsonFlag = False,
    ) -> None:
        """Validate every member of a grid and keep what is best in some regime; run it again to go on where it was."""
        from forexgpt_assets.progress import lines_on_terminal
        from forexgpt_assets.runs import run_job, session

        campaign = read_campaign(file)
        campaign.require_buildable()
        with session() as (platform, instance):
            platform.campaigns.require_free(campaign)
            say(f"{campaign.name}: {campaign.size} members; see it with 'forexgpt campaign status {campaign.name}'")
            with lines_on_terminal():
                run_job(instance, "campaign_job", {"plan_campaign": {"document": campaign.to_document()}})
            show_campaign(platform, campaign.name, as_json=as_json)

    @app.command(epilog="Example: forexgpt forecast EURUSD --horizons 60,240,1440 --unit minutes --json")
    def forecast(
        symbol: SymbolArgument,
        horizons: Annotated[str, typer.Option(help="Separated by commas; those that were trained by default.")] = "",
        unit: Annotated[str, typer.Option(help="What they count: minutes, or bars of a timeframe such as H4.")] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """Forecast from the newest closed bar with the newest ensemble."""
        if unit and not horizons:
            raise BadInput(f"--unit {unit} says what --horizons count: give them too, such as --horizons 60,240")
        rows = readings.forecast_rows(Platform.prepared(), symbol, horizons=_whole(horizons), unit=unit)
        print_json(rows) if as_json else print_table(rows)


def _register_trading(app: typer.Typer) -> None:
    live = group(app, "live", "Paper and live trading.")

    @app.command(epilog="Example: forexgpt backtest EURUSD --plot eurusd.html")
    def backtest(
        symbol: SymbolArgument,
        plot: Annotated[
            Path | None, typer.Option(help="Write the interactive plot of backtesting.py there.", metavar="FILE")
        ] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Trade the ensemble's out-of-sample forecasts with the default strategy."""
        if plot is not None and not plot.parent.is_dir():
            raise BadInput(f"--plot {plot}: there is no folder {plot.parent}")
        _run(symbol, ["backtest"])
        platform = Platform.prepared()
        told = readings.backtest_figures(platform, symbol)
        show(told if as_json else readings.backtest_lines(told), as_json=as_json)
        if plot is not None:
            page = readings.backtest_plot(platform, symbol)
            try:
                plot.write_text(page, encoding="utf-8")
            except OSError as error:
                raise BadInput(f"--plot {plot} cannot be written: {error.strerror}") from None

    @app.command(epilog="Example: forexgpt deploy EURUSD 0123456789ab --by anna --reason 'best drawdown'")
    def deploy(
        symbol: SymbolArgument,
        config: Annotated[str, typer.Argument(help="Hash of a configuration of the newest front.")],
        by: Annotated[str, typer.Option(help="Who approves.")],
        reason: Annotated[str, typer.Option(help="Why.")],
        as_json: JsonFlag = False,
    ) -> None:
        """Approve a configuration: it trades from the next tick on."""
        _run(symbol, ["deployed_strategy"], {"approve": config, "approved_by": by, "reason": reason})
        show(readings.deployment_facts(Platform.prepared(), symbol), as_json=as_json)

    @live.command(epilog="Example: forexgpt live tick --json")
    def tick(
        replay: Annotated[bool, typer.Option(help="Trade on paper every bar the source has beyond the lake.")] = False,
        as_json: JsonFlag = False,
    ) -> None:
        """Tick every active deployment once; repeating a tick sends nothing."""
        from forexgpt_assets.runs import run_job, session

        with session() as (platform, instance):
            run_job(instance, "live_execution_job", {"live_tick": {"replay": replay}})
            rows = [one.status() for one in active_sessions(platform)]
        if as_json:
            print_json(rows)
            return
        for row in rows:
            show(row, as_json=False)
        if not rows:
            print("nothing is deployed")


def _register_searches(app: typer.Typer) -> None:
    @app.command(epilog="Example: forexgpt optimise EURUSD --method ga --objective sharpe --time-limit 60")
    def optimise(
        symbol: SymbolArgument,
        method: Annotated[
            str | None, typer.Option(help="hybrid, nsga2, nsga3, grid, random; ga or tpe for a single objective.")
        ] = None,
        generations: Annotated[int | None, typer.Option(help="At most.")] = None,
        population: Annotated[int | None, typer.Option(help="Configurations in a generation.")] = None,
        grid: Annotated[int | None, typer.Option(help="Configurations of the coarse grid.")] = None,
        preset: Annotated[str | None, typer.Option(help="Search space: volatility or classic.")] = None,
        objective: Annotated[
            list[str] | None,
            typer.Option(help="Figure to search for, such as sharpe, return_pct or max_drawdown_pct; may be repeated."),
        ] = None,
        family: Annotated[
            str | None, typer.Option(help="Search the options of this model family instead of strategies.")
        ] = None,
        trials: Annotated[int | None, typer.Option(help="With --family: option sets to try.")] = None,
        figures: Annotated[
            bool, typer.Option("--figures", help="With --family: for direction, error and drawdown at once.")
        ] = False,
        seed: Annotated[int | None, typer.Option(help="Another one searches anew.")] = None,
        time_limit: Annotated[float | None, typer.Option(help="In seconds.")] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Search strategy settings and show the front as `forexgpt pareto` does; stopped, the same command goes on.

        With --family search the options of a model family on the training part, and print the pair's settings with the
        best ones as YAML for `forexgpt symbols import`. Nothing is applied.
        """
        from forexgpt_assets.optimising import optimise_family, optimise_strategies

        both = {"seed": seed, "time_limit_seconds": time_limit}
        of_strategies: dict[str, object] = {"method": method, "generations": generations, "population": population}
        of_strategies |= {"grid": grid, "preset": preset, "objective": objective or None}
        of_family: dict[str, object] = {"trials": trials, "figures": figures or None}
        if family is None:
            _refuse(of_family, "belongs to --family, which names a model family")
            changes = _given({**of_strategies, **both})
            if "objective" in changes:
                changes["objectives"] = changes.pop("objective")
            optimise_strategies(symbol, changes, as_json=as_json)
        else:
            _refuse(of_strategies, "searches strategies; --family searches the options of a model family")
            asked = _given({**of_family, **both})
            optimise_family(symbol, {"family": family, **asked}, as_json=as_json)


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse(options: Mapping[str, object], why: str) -> None:
    for name in _given(options):
        raise BadInput(f"--{name} {why}")


def _register_servers(app: typer.Typer) -> None:
    @app.command(epilog="Example: forexgpt demo --json")
    def demo(as_json: JsonFlag = False) -> None:
        """Run the whole graph for EURUSD on real hourly candles, then trade on paper the bars nothing has seen."""
        from forexgpt_assets.demo import run_demo

        run_demo(as_json=as_json)

    @app.command(epilog="Example: forexgpt ui --port 3000")
    def ui(
        port: Annotated[int, typer.Option(help="Of Dagster.")] = 3000,
        mlflow_port: Annotated[int, typer.Option(help="Of MLflow.")] = 5000,
    ) -> None:
        """Serve Dagster and MLflow on loopback until interrupted."""
        from forexgpt_assets.servers import serve

        serve(port, mlflow_port)


def _run(symbol: str, assets: list[str], config: dict[str, object] | None = None) -> None:
    from forexgpt_assets.runs import materialize, require_symbol, session

    with session() as (_, instance):
        key = require_symbol(instance, symbol)
        result = materialize(instance, assets, key, {assets[0]: config} if config else None)
        say(f"{key}: {', '.join(assets)} done, run {result.run_id}")


def _whole(listed: str) -> list[int] | None:
    try:
        return [int(one) for one in listed.split(",")] if listed else None
    except ValueError:
        raise BadInput(f"--horizons takes whole numbers separated by commas, such as 1,4,24; got '{listed}'") from None


def _families(chosen: str) -> list[str]:
    if chosen and chosen not in FAMILIES:
        raise UnknownName(f"unknown family '{chosen}'; known: {', '.join(FAMILIES)}")
    return [chosen] if chosen else list(FAMILIES)
