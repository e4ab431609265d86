"""The stores of this home as one Dagster resource."""

import dagster as dg

from forexgpt_core.composition import Platform


class PlatformResource(dg.ConfigurableResource[Platform]):
    """Hands every asset the same platform. Opens nothing until a store is asked for."""

    def create_resource(self, context: dg.InitResourceContext) -> Platform:
        """Return the platform of this process's environment, with its stores created."""
        return Platform.prepared()
