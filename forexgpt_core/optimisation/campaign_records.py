"""What is recorded of a training campaign and its members."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from forexgpt_core.optimisation.campaign import CampaignMember

STATES = ("planned", "running", "completed", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """One member: planned, running, completed or failed.

    Attributes:
        result_hash: of its newest finished walk-forward, configuration and data; None before the first.
        fold_keys: where the folds of that are kept.
        rows: out-of-sample forecasts.
        scores: one per horizon.
        kept_for: horizons and regimes it is best in; None where its forecasts are not kept, or before the selection.
    """

    member: CampaignMember
    number: int
    state: str
    error: str | None
    result_hash: str | None
    fold_keys: tuple[str, ...]
    rows: int | None
    scores: Sequence[Mapping[str, Any]]
    kept_for: Sequence[Mapping[str, Any]] | None
    started_utc: datetime | None
    finished_utc: datetime | None

    def to_row(self) -> dict[str, object]:
        """Return the member as a row of a table."""
        return {
            "member": self.member.hash12,
            "title": self.member.title,
            "state": self.state,
            "rows": self.rows,
            "skill_pct": ", ".join(_percent(score.get("skill")) for score in self.scores),
            "best_in": "; ".join(self._best_in()),
            "forecasts": "kept" if self.kept_for is not None else "",
        }

    def _best_in(self) -> list[str]:
        cells = self.kept_for or ()
        regimes = {h: [c["regime"] for c in cells if c["horizon_bars"] == h] for h in self.member.horizons_bars}
        return [f"at {h}: {', '.join(names)}" for h, names in regimes.items() if names]

    def to_document(self) -> dict[str, object]:
        """Return all of it as plain values."""
        names = ("number", "state", "error", "result_hash", "rows", "scores", "kept_for", "started_utc", "finished_utc")
        values = {name: getattr(self, name) for name in names}
        return {"hash": self.member.hash12, "title": self.member.title, **self.member.to_document(), **values}


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRecord:
    """One campaign with its members, in the order of its grid.

    Attributes:
        basis: by pair, the versions of the data that its members stand on.
        details: the selection, once there is one.
    """

    name: str
    hash12: str
    document: Mapping[str, Any]
    basis: Mapping[str, Any]
    state: str
    details: Mapping[str, Any]
    error: str | None
    run_key: str | None
    started_utc: datetime
    finished_utc: datetime | None
    members: tuple[MemberRecord, ...]

    def counts(self) -> dict[str, int]:
        """Return how many members are in each state."""
        states = [one.state for one in self.members]
        return {state: states.count(state) for state in STATES}

    def failures(self) -> list[str]:
        """Return why members failed, one line per reason with the members that share it."""
        by_reason: dict[str, list[str]] = {}
        for one in self.members:
            if one.state == "failed":
                by_reason.setdefault(one.error or "no reason was recorded", []).append(one.member.title)
        return [
            f"{titles[0]}{f' and {len(titles) - 1} more' if len(titles) > 1 else ''}: {reason}"
            for reason, titles in by_reason.items()
        ]

    def to_row(self) -> dict[str, object]:
        """Return the campaign as a row of a table."""
        return {
            "campaign": self.name,
            "state": self.state,
            "members": len(self.members),
            **self.counts(),
            "kept": sum(one.kept_for is not None for one in self.members),
            "started_utc": self.started_utc,
            "finished_utc": self.finished_utc,
            "verdict": self.details.get("verdict", ""),
        }


def _percent(skill: float | None) -> str:
    return "-" if skill is None else f"{100 * skill:+.2f}"
