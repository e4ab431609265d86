"""A worker of a study as a process of its own: it tries the same candidates as every other, in batches of its own size.

Called with one JSON document of settings; it writes a line per candidate it evaluates, and at the end its figures.
"""

import json
import random
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forexgpt_core.adapters.database.engine import open_database
from forexgpt_core.adapters.database.studies import StudiesRepository
from forexgpt_core.domain.costs import Costs
from forexgpt_core.optimisation.studies import StudyIdentity
from forexgpt_core.optimisation.trials import try_all
from forexgpt_core.strategy.config import StrategyConfig

TRIALS = 300


def identity(**changes: Any) -> StudyIdentity:
    settings: dict[str, Any] = {
        "symbol": "EURUSD",
        "timeframe": "H1",
        "data_version": "c3f5",
        "first_bar_utc": datetime(2018, 1, 1, 22, tzinfo=UTC),
        "last_bar_utc": datetime(2019, 6, 28, 20, tzinfo=UTC),
        "bundle_hash": "b",
        "space": {"entry_probability": [0.5, 0.7], "horizons_bars": (1, 24)},
        "method": "hybrid",
        "settings": {"population": 50},
        "costs": Costs(),
        "seed": 7,
    }
    return StudyIdentity(**settings | changes)


def candidates(count: int = TRIALS) -> list[StrategyConfig]:
    return [StrategyConfig(entry_probability=0.4 + n / 10_000) for n in range(count)]


def figures_of(config: StrategyConfig) -> dict[str, Any]:
    draw = random.Random(config.hash12)
    return {"sharpe": draw.gauss(0, 1), "trades": draw.randrange(99), "profit_factor": None}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def work(url: str, log: str, *, batch: int, lease_seconds: float, hang_after: int | None) -> dict[str, dict[str, Any]]:
    tried = 0

    def evaluate(configs: Sequence[StrategyConfig]) -> list[dict[str, Any]]:
        nonlocal tried
        with Path(log).open("a") as file:
            for config in configs:
                if tried == hang_after:
                    say("hanging")
                    time.sleep(600)
                time.sleep(0.001)  # so that others come in between
                file.write(f"{config.hash12}\n")
                file.flush()
                tried += 1
        return [figures_of(config) for config in configs]

    found: dict[str, dict[str, Any]] = {}
    numbered = dict(enumerate(candidates()))
    with StudiesRepository(open_database(url)).open(identity()).working() as trials:
        for start in range(0, TRIALS, batch):
            some = {n: numbered[n] for n in range(start, min(start + batch, TRIALS))}
            found |= try_all(some, evaluate, trials, lease_seconds=lease_seconds)
    return found


if __name__ == "__main__":
    say("ready")
    sys.stdin.readline()
    say(json.dumps(work(**json.loads(sys.argv[1]))))
