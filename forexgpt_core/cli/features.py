"""`forexgpt features list|info|leaks`: the indicators, what is stored, and whether a recipe sees the future."""

from pathlib import Path
from typing import Annotated

import typer

from forexgpt_core.cli.output import JsonFlag, SymbolArgument, group, print_json, print_table, say
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.documents import read_yaml
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput
from forexgpt_core.features.recipe import Recipe

RecipeOption = Annotated[
    str, typer.Option("--recipe", help="YAML or JSON file; the pair's own recipe where not given.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    features = group(app, "features", "Feature tables.")

    @features.command("list", epilog="Example: forexgpt features list --family trend")
    def list_(
        family: Annotated[str, typer.Option(help="One family of indicators only.")] = "", as_json: JsonFlag = False
    ) -> None:
        """List every indicator with its parameters, for use in a recipe."""
        from forexgpt_core.features.catalogue import indicators

        chosen = [one for one in indicators().values() if family in ("", one.family)]
        if not chosen:
            families = sorted({one.family for one in indicators().values()})
            raise BadInput(f"there is no family '{family}'; known: {', '.join(families)}")
        rows = [
            {
                "indicator": one.name,
                "family": one.family,
                "parameters": dict(one.defaults),
                "columns": list(one.outputs),
                "needs": sorted(one.needs),
                "about": one.about,
            }
            for one in chosen
        ]
        print_json(rows) if as_json else print_table(
            [{**row, **{k: ", ".join(row[k]) for k in ("columns", "needs")}} for row in rows],
            f"{len(rows)} indicators",
        )

    @features.command(epilog="Example: forexgpt features info EURUSD --json")
    def info(symbol: SymbolArgument, as_json: JsonFlag = False) -> None:
        """Show a pair's stored columns and how many rows have a value."""
        from forexgpt_core.features.quality import summarise_features

        platform = Platform.prepared()
        settings = platform.pair(symbol)
        pin = platform.pin(settings)
        table = platform.lake.read(
            "features", settings.symbol, Timeframe.parse(settings.timeframe), version=pin.features
        )
        about = platform.stored_recipe(settings).about()
        rows = [{**row, "about": about.get(row["feature"], "")} for row in summarise_features(table).to_dicts()]
        print_json(rows) if as_json else print_table(rows, f"{settings.symbol} {settings.timeframe}, data {pin}")

    @features.command(epilog="Example: forexgpt features leaks EURUSD --recipe recipe.yaml")
    def leaks(symbol: SymbolArgument, recipe: RecipeOption = "", as_json: JsonFlag = False) -> None:
        """Cut off and change the future, and name each column whose past changes with it; exit 1 if one does."""
        from forexgpt_core.features.build import build_features
        from forexgpt_core.features.leaks import recipe_leaks

        platform = Platform.prepared()
        settings = platform.pair(symbol)
        timeframe = Timeframe.parse(settings.timeframe)
        basis = platform.feature_basis(settings, read_recipe(recipe) if recipe else None)
        bars = platform.lake.candles(settings.symbol, timeframe, version=basis.candles)
        inputs = platform.feature_inputs(settings.symbol, timeframe, basis)
        found = recipe_leaks(build_features, bars, timeframe, basis.recipe, inputs)
        rows = [{"column": leak.column, "how": leak.how, "first_utc": leak.first_ts_utc} for leak in found]
        if as_json:
            print_json({"columns": len(basis.recipe.columns), "leaks": rows})
        elif rows:
            print_table(rows, f"{settings.symbol} {timeframe}: columns that read the future")
        else:
            say(f"{settings.symbol} {timeframe}: none of {len(basis.recipe.columns)} columns reads the future")
        if rows:
            raise typer.Exit(1)


def read_recipe(file: str) -> Recipe:
    """Return the recipe of a YAML or JSON file.

    Raises:
        BadInput: the file cannot be read or is no recipe.
    """
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read a recipe from {path}: {getattr(error, 'strerror', None) or error}") from None
    return Recipe.from_document(read_yaml(text, f"recipe {path}"))  # JSON is YAML too
