"""What the stages of a model family share: whose turn it is, on which pair, and where results go."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, cast

import dagster as dg

from forexgpt_assets.metadata import figures
from forexgpt_core.composition import DataPin, Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings
from forexgpt_core.features.windows import Windows, usable
from forexgpt_core.models.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class Work:
    """One stage of one family for one pair."""

    platform: Platform
    settings: SymbolSettings
    family: str
    run_id: str
    started: float

    @classmethod
    def begin(
        cls, context: dg.AssetExecutionContext | dg.OpExecutionContext, platform: Platform, family: str
    ) -> "Work":
        """Return the work of this run's partition."""
        settings = platform.pair(context.partition_key)
        return cls(
            platform=platform,
            settings=settings,
            family=family,
            run_id=context.run.run_id,
            started=perf_counter(),
        )

    @property
    def symbol(self) -> str:
        """Return the pair."""
        return self.settings.symbol

    @property
    def timeframe(self) -> Timeframe:
        """Return the pair's base timeframe."""
        return Timeframe.parse(self.settings.timeframe)

    @property
    def title(self) -> str:
        """Return the heading of pictures."""
        return f"{self.symbol} {self.timeframe} {self.family}"

    @property
    def seconds(self) -> float:
        """Return how long the work has taken."""
        return perf_counter() - self.started

    @property
    def is_on(self) -> bool:
        """Return whether the pair's settings name the family."""
        return self.family in self.settings.families

    @property
    def off_facts(self) -> Mapping[str, dg.MetadataValue]:
        """Return what the result of a family that is off says.

        A failed step would keep the other families from being ranked in the same run.
        """
        text = f"{self.family} is off in the settings of {self.symbol}"
        return {"dagster/row_count": dg.MetadataValue.int(0), **figures({"switched_off": text})}

    @property
    def switched_off(self) -> dg.MaterializeResult | None:
        """Return an empty result that says so where the family is off."""
        return None if self.is_on else dg.MaterializeResult(metadata=self.off_facts)

    def windows(self, pin: DataPin, horizons_bars: tuple[int, ...]) -> Windows:
        """Return the usable, matured rows of the pair at recorded versions."""
        return usable(self.platform.arrays(self.symbol, self.timeframe, pin, horizons_bars), matured=True)

    def split_of(self, model: Bundle) -> WalkForwardSettings:
        """Return the settings that a model's rows were split by; today's for one of a release that did not note them.

        Were they changed since, a block by today's may hold rows that the model was fitted on.
        """
        from forexgpt_core.models.bundled import SPLIT

        if not (model.path / SPLIT).is_file():
            return self.settings.walk_forward
        return WalkForwardSettings(**cast("dict[str, Any]", model.read_json(SPLIT)))

    def record(
        self,
        kind: str,
        bundle_hash: str,
        data_version: str,
        *,
        parent_hash: str | None = None,
        training_run_id: int | None = None,
        mlflow_run_id: str | None = None,
    ) -> None:
        """Record what this stage made as the newest of its kind."""
        self.platform.training.record_version(
            symbol=self.symbol,
            timeframe=str(self.timeframe),
            family=self.family,
            kind=kind,
            bundle_hash=bundle_hash,
            data_version=data_version,
            parent_hash=parent_hash,
            training_run_id=training_run_id,
            mlflow_run_id=mlflow_run_id,
        )


def span(part: Windows) -> dict[str, object]:
    """Return rows and range of a part, for a bundle's metadata."""
    return {"rows": len(part), "first_utc": str(part.origin_utc[0]), "last_utc": str(part.origin_utc[-1])}
