"""The `forexgpt` command: reading verbs of the core, and the verbs other packages register.

Exit codes: 0 done, 1 refused or failed with one clear line on stderr, 2 wrong usage. Results go to stdout, with
`--json` as one JSON document; logs go to stderr.
"""

import os
import re
import sys
from importlib.metadata import entry_points
from typing import Annotated

import click
import typer

from forexgpt_core.cli import bundles, campaigns, candles, doctor, events, features, live, pareto, report, symbols
from forexgpt_core.errors import ForexGPTError

EXAMPLE = "Example: forexgpt demo --json"
_CREDENTIALS = re.compile(r"(?<=://)[^\s'\"]*@")  # of an address, as a library may repeat it in its error


def build_app() -> typer.Typer:
    """Return the command with every verb, those of installed packages included."""
    app = typer.Typer(name="forexgpt", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.callback(epilog=EXAMPLE)
    def root(
        debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
    ) -> None:
        """Forecast and trade currencies, honestly."""

    for module in (doctor, symbols, candles, features, events, bundles, report, pareto, campaigns, live):
        module.register(app)
    for point in sorted(entry_points(group="forexgpt.verbs"), key=lambda p: p.name):
        point.load()(app)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run one verb and exit with its code."""
    os.umask(0o077)  # state may hold account data: nobody else on the machine reads it
    argv = sys.argv[1:] if arguments is None else arguments
    try:
        code = build_app()(args=argv, standalone_mode=False)
        if isinstance(code, int) and code:  # what `typer.Exit` asked for; click returns it here
            sys.exit(code)
    except click.exceptions.Abort:
        _fail("interrupted")
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except ForexGPTError as error:
        if "--debug" in argv:
            raise
        _fail(str(error))
    except Exception as error:  # nobody raised it on purpose: a full disk, no permission, a bug
        if "--debug" in argv:
            raise
        told = _CREDENTIALS.sub("***@", next(iter(str(error).splitlines()), ""))
        _fail(f"unexpected {type(error).__name__}: {told}; 'forexgpt --debug ...' shows where")


def _fail(message: str) -> None:
    print("forexgpt: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(1)
