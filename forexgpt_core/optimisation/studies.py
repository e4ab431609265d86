"""What makes two searches one study: everything that decides what it tries and finds."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from typing import Any

from forexgpt_core.domain.costs import Costs
from forexgpt_core.errors import BadInput

STATES = ("running", "finished", "failed", "stopped")
_TIMES = ("first_bar_utc", "last_bar_utc")
_NAMES = ("symbol", "timeframe", "data_version", "bundle_hash", "method")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyIdentity:
    """All that a study's result depends on. Equal identities have equal keys, so a search is never made twice.

    Attributes:
        data_version: of candles and features in the lake.
        first_bar_utc, last_bar_utc: opens of the first and the last bar used.
        bundle_hash: of the ensemble whose forecasts are traded.
        space: the search space, as JSON types.
        method: name of the search, such as "hybrid".
        settings: whatever else decides what is tried and how it is judged, as JSON types. Put a version of the code
            there that changes with what it computes.
    """

    symbol: str
    timeframe: str
    data_version: str
    first_bar_utc: datetime
    last_bar_utc: datetime
    bundle_hash: str
    space: Mapping[str, Any]
    method: str
    settings: Mapping[str, Any]
    costs: Costs
    seed: int

    def __post_init__(self) -> None:
        for name in _NAMES:
            if not (isinstance(value := getattr(self, name), str) and value):
                raise BadInput(f"a study's {name} must be a name, was {value!r}")
        for name in _TIMES:
            if getattr(self, name).tzinfo is None:
                raise BadInput(f"a study's {name} must be UTC and say so, was {getattr(self, name)}")
        if not self.first_bar_utc <= self.last_bar_utc:
            raise BadInput(f"a study must begin before it ends, was {self.first_bar_utc} to {self.last_bar_utc}")
        self.canonical()

    def document(self) -> dict[str, Any]:
        """Return the identity as plain JSON types; a whole number is an integer, however it was written."""
        times = {name: getattr(self, name).astimezone(UTC).isoformat() for name in _TIMES}
        values = {name: getattr(self, name) for name in (*_NAMES, "space", "settings", "costs", "seed")}
        return {name: _plain(value, name) for name, value in (values | times).items()}

    def canonical(self) -> str:
        """Return the document as canonical JSON: keys sorted, no spaces.

        Raises:
            BadInput: something in it is not JSON, or not finite; it is named.
        """
        return json.dumps(self.document(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def key(self) -> str:
        """Return the SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def _plain(value: object, where: str) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one, f"{where}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{where}[{place}]") for place, one in enumerate(value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and value - value == 0:  # finite
        return int(value) if value.is_integer() else float(value)
    raise BadInput(f"a study's {where} must be text, a finite number, true/false, a list or a mapping, was {value!r}")
