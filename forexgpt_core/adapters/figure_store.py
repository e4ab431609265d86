"""Figures of option sets on disk: a search of options that was killed loses the fit it was at, and no other."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.errors import BadInput, StoreError
from forexgpt_core.optimisation.trials import Candidate

_NAME = re.compile(r"[0-9a-f]{12,64}")


class FigureStore:
    """A folder for every study, and in it one JSON file for each finished candidate, there whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def study(self, name: str) -> "StudyFigures":
        """Return the figures of the study of that name.

        Raises:
            BadInput: the name is not a hash.
        """
        return StudyFigures(self.root / _checked(name))


class StudyFigures:
    """A `TrialStore` without claims: two processes on one study may fit the same candidate, with the same figures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __len__(self) -> int:
        """Return how many candidates are finished."""
        return sum(1 for _ in self._folder.glob("*.json"))

    def finished(self, hashes: Sequence[str]) -> Mapping[str, Stats]:
        """Return the figures known of those candidates.

        Raises:
            StoreError: a file cannot be read.
        """
        return {name: self._read(path) for name in hashes if (path := self._path(name)).exists()}

    def claim(self, candidates: Mapping[int, Candidate], *, seconds: float) -> list[str]:
        """Return the candidates not finished yet."""
        return [one.hash12 for one in candidates.values() if not self._path(one.hash12).exists()]

    def finish(self, figures: Mapping[str, Stats]) -> None:
        """Keep the figures; of a candidate that somebody finished meanwhile the first ones stay.

        Raises:
            StoreError: the disk is full, or the folder cannot be written.
        """
        for name, stats in figures.items():
            if not self._path(name).exists():
                self._write(self._path(name), json.dumps(stats, allow_nan=False))

    def _path(self, name: str) -> Path:
        return self._folder / f"{_checked(name)}.json"

    def _read(self, path: Path) -> Stats:
        try:
            stats: Stats = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"the figures in {path} cannot be read: remove it and run again ({error})") from None
        return stats

    def _write(self, path: Path, text: str) -> None:
        unfinished = path.with_name(f".{path.stem}.{uuid4().hex}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            unfinished.write_text(text, encoding="utf-8")
            os.replace(unfinished, path)
        except OSError as error:
            raise StoreError(f"the figures in {path} cannot be stored ({error}): make room and run again") from None
        finally:
            with suppress(OSError):  # gone already, or the folder is none
                unfinished.unlink()


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadInput(f"'{name}' is not a hash: 12 to 64 hex digits are expected")
    return name
