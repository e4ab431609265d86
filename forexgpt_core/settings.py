"""The only reader of the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where ForexGPT keeps its state. Every location derives from `home` unless set on its own."""

    home: Path
    database_url: str
    lake: str
    mlflow_tracking_uri: str

    @property
    def dagster_home(self) -> Path:
        """Return the folder of Dagster's own state and of dagster.yaml."""
        return self.home / "dagster"

    @property
    def bundles(self) -> Path:
        """Return the folder of all bundles."""
        return self.home / "bundles"

    @property
    def mlflow_artifacts(self) -> Path:
        """Return the folder of MLflow artifacts."""
        return self.home / "mlflow" / "artifacts"

    @property
    def work(self) -> Path:
        """Return the folder for checkpoints and lock files."""
        return self.home / "work"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings found in the environment (by default that of this process)."""
    env = os.environ if environment is None else environment
    home = Path(env.get("FOREXGPT_HOME") or ".forexgpt").expanduser().resolve()
    return Settings(
        home=home,
        database_url=env.get("FOREXGPT_DATABASE_URL") or f"sqlite:///{home / 'forexgpt.sqlite'}",
        lake=env.get("FOREXGPT_LAKE") or str(home / "lake"),
        mlflow_tracking_uri=env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow' / 'mlflow.sqlite'}",
    )
