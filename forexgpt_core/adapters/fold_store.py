"""Finished folds of validation on disk, so that a run that was stopped goes on where it was."""

import os
import re
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import polars as pl

from forexgpt_core.domain.forecast_table import from_table, to_table
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput, StoreError

_KEY = re.compile(r"[0-9a-f]{16,64}")


class FoldStore:
    """One Parquet file per fold, named by what was fitted on what. A file is there whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> pl.DataFrame | None:
        """Return a fold's outcome, or None where it has not been finished."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            return pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StoreError(f"the finished fold {path} cannot be read: remove it and run again ({error})") from None

    def put(self, key: str, outcome: pl.DataFrame) -> None:
        """Store a fold's outcome, in place of an equal one.

        Raises:
            StoreError: the disk is full, or the folder cannot be written; what was there before is untouched.
        """
        path = self._path(key)
        unfinished = path.with_name(f".{key}.{uuid4().hex}")
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            outcome.write_parquet(unfinished)
            os.replace(unfinished, path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StoreError(f"the finished fold {path} cannot be stored ({error}): make room and run again") from None
        finally:
            unfinished.unlink(missing_ok=True)

    def forget(self, older_than_days: float) -> int:
        """Remove outcomes that nobody stored within so many days, and return how many; they can be fitted again."""
        limit = time.time() - 86_400 * older_than_days
        old = [path for path in self.root.glob("*") if path.is_file() and path.stat().st_mtime < limit]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise BadInput(f"'{key}' is not the key of a fold: 16 to 64 hex digits are expected")
        return self.root / f"{key}.parquet"


class SplitStore:
    """Forecasts of finished splits of cross-validation, kept as folds are; see `evaluation.cross_validation`."""

    def __init__(self, folds: FoldStore) -> None:
        self._folds = folds

    def get(self, key: str) -> ForecastBatch | None:
        """Return what was put under `key`, to the last bit, or None."""
        stored = self._folds.get(key)
        if stored is None:
            return None
        named = {name: str(stored[name][0]) for name in ("symbol", "timeframe", "family")}
        return from_table(stored, **named)[0]

    def put(self, key: str, forecasts: ForecastBatch) -> None:
        """Keep forecasts, without paths."""
        rows = to_table(forecasts, np.full(forecasts.scale.shape, np.nan))
        named = {name: pl.lit(getattr(forecasts, name)) for name in ("symbol", "timeframe", "family")}
        self._folds.put(key, rows.with_columns(**named))
