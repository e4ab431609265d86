"""Resources of every asset."""

import dagster as dg

from forexgpt_assets.resources import PlatformResource


@dg.definitions
def wiring() -> dg.Definitions:
    """Return the resources."""
    return dg.Definitions(resources={"platform": PlatformResource()})
