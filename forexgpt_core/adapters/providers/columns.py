"""Which column of a file holds what, by its name."""

from pathlib import Path

from forexgpt_core.adapters.source_files.refusal import BadFile
from forexgpt_core.domain.bars import ASK_PRICES, PRICES

_TIMES = ("ts_utc", "time", "datetime", "date_time", "timestamp", "ts", "time_utc", "datetime_utc", "timestamp_utc")
_ALIASES = {
    "open": ("open", "o", "bid_open", "bidopen"),
    "high": ("high", "h", "bid_high", "bidhigh"),
    "low": ("low", "l", "bid_low", "bidlow"),
    "close": ("close", "c", "bid_close", "bidclose"),
    "volume": ("volume", "v", "vol", "tick_volume", "tickvolume", "tickvol", "tickqty"),
    **{name: (name, name.replace("_", "")) for name in ASK_PRICES},
}


def find_columns(columns: list[str], path: Path) -> dict[str, str]:
    """Return which column of the file holds what: `ts_utc`, or `date` and `time`, the prices, the volume.

    Raises:
        BadFile: a column is missing, or two columns claim to hold the same.
    """
    plain = {name: name.strip().strip("<>").strip().lower().replace(" ", "_") for name in columns}
    found = {target: [c for c, key in plain.items() if key in aliases] for target, aliases in _ALIASES.items()}
    if {"date", "time"} <= set(plain.values()):
        found |= {key: [c for c, plain_key in plain.items() if plain_key == key] for key in ("date", "time")}
    else:
        unnamed = columns[:1] if columns and not plain[columns[0]] else []
        found["ts_utc"] = [c for c, key in plain.items() if key in (*_TIMES, "date")] or unnamed
    ticks = [c for c in found["volume"] if plain[c].startswith("tick")]
    found["volume"] = ticks or found["volume"]  # MetaTrader exports both, and currencies have no other volume
    for target, candidates in found.items():
        if len(candidates) > 1:
            raise BadFile(path, f"the columns {', '.join(candidates)} all claim to hold '{target}'; expected one")
        if not candidates and target in (*PRICES, "ts_utc"):
            shapes = " (time, datetime, timestamp, ts_utc, or date and time)" if target == "ts_utc" else ""
            what = f"the time{shapes}" if shapes else f"'{target}'"
            raise BadFile(path, f"there is no column for {what}; found {_shortened(columns)}")
    return {target: candidates[0] for target, candidates in found.items() if candidates}


def _shortened(columns: list[str]) -> str:
    text = ", ".join(columns) or "none"
    return text if len(text) <= 200 else f"{text[:197]}..."
