"""The code location: every file in `defs/` is loaded, so a new stage is a new file."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Return everything in `defs/`."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
