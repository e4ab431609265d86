"""Chronological parts of a training run, purged so that no label reaches into a later part."""

from dataclasses import dataclass

from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.features.windows import Windows

_LEAST_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitShares:
    """Shares of the usable rows, in time order; `test` is what remains. The last sixth of train is `valid`."""

    train: float = 0.6
    calibration: float = 0.2
    valid_of_train: float = 1 / 6

    def __post_init__(self) -> None:
        if not (0 < self.train < 1 and 0 < self.calibration < 1 and self.train + self.calibration < 1):
            raise BadInput(
                f"split shares must lie in (0, 1) and leave rows for a test, were {self.train} and {self.calibration}"
            )
        if not 0 < self.valid_of_train < 1:
            raise BadInput(f"valid_of_train must lie in (0, 1), was {self.valid_of_train}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """The parts of a run; every label of one part is known before the first origin of the next is."""

    train: Windows
    valid: Windows
    calibration: Windows
    test: Windows


def purge(earlier: Windows, later: Windows) -> Windows:
    """Return the rows of `earlier` whose labels are known by the time the first row of `later` is."""
    if len(later) == 0:
        return earlier
    first_known = later.arrays.known_utc[later.rows[0]]
    return earlier.take(earlier.arrays.label_end_utc[earlier.rows] <= first_known)


def evidence_parts(windows: Windows, shares: SplitShares) -> Parts:
    """Return train, valid, calibration and test (60/20/20 by default), purged by label time.

    Raises:
        NotReady: a part would hold fewer than 50 rows.
    """
    n = len(windows)
    train_end = int(n * shares.train)
    valid_start = train_end - int(train_end * shares.valid_of_train)
    calibration_end = int(n * (shares.train + shares.calibration))
    return _purged(windows, (valid_start, train_end, calibration_end, n))


def deployment_parts(windows: Windows, shares: SplitShares) -> Parts:
    """Return train and valid up to now minus a calibration block of the same size, and no test rows."""
    n = len(windows)
    train_end = n - int(n * shares.calibration)
    valid_start = train_end - int(train_end * shares.valid_of_train)
    return _purged(windows, (valid_start, train_end, n, n))


def _purged(windows: Windows, ends: tuple[int, int, int, int]) -> Parts:
    starts = (0, *ends[:-1])
    train, valid, calibration, test = (
        Windows(arrays=windows.arrays, rows=windows.rows[a:b]) for a, b in zip(starts, ends)
    )
    parts = Parts(
        train=purge(train, valid), valid=purge(valid, calibration), calibration=purge(calibration, test), test=test
    )
    wanted = {"train": parts.train, "valid": parts.valid, "calibration": parts.calibration}
    if ends[3] > ends[2]:
        wanted["test"] = parts.test
    for name, part in wanted.items():
        if len(part) < _LEAST_ROWS:
            raise NotReady(
                f"{windows.arrays.symbol} {windows.arrays.timeframe} has {len(windows)} usable rows, which leaves"
                f" {len(part)} for {name}; at least {_LEAST_ROWS} are needed: import a longer history"
            )
    return parts
