"""Training campaigns: what is to be tried, how far each member is, and what was kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from forexgpt_core.adapters.database.campaign_tables import campaign_member_table as member_table
from forexgpt_core.adapters.database.campaign_tables import campaign_table
from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.studies import clean_json
from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.optimisation.campaign import Campaign, CampaignMember
from forexgpt_core.optimisation.campaign_records import CampaignRecord, MemberRecord


class CampaignRepository:
    """Campaigns by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, campaign: Campaign, basis: Mapping[str, Any], *, run_key: str | None = None) -> CampaignRecord:
        """Record that a campaign runs on some data, with its members planned where they are not there yet.

        What finished members left stays, so a campaign that was interrupted goes on.

        Raises:
            BadInput: another campaign was recorded under that name.
        """
        now = now_utc()
        row = {
            "name": campaign.name,
            "hash12": campaign.hash12,
            "document": campaign.to_document(),
            "basis": clean_json(basis),
            "state": "running",
            "details": {},
            "error": None,
            "run_key": run_key,
            "started_utc": now,
            "finished_utc": None,
        }
        planned = [
            {
                "campaign": campaign.name,
                "hash12": member.hash12,
                "number": number,
                "symbol": member.symbol,
                "timeframe": member.timeframe,
                "family": member.family,
                "document": member.to_document(),
                "state": "planned",
                "fold_keys": [],
                "scores": [],
            }
            for number, member in enumerate(campaign.members())
        ]
        with self._database.write() as connection:
            self._database.insert_new(connection, campaign_table, [row])
            self._require_same(connection, campaign)
            same = campaign_table.c.name == campaign.name
            connection.execute(sa.update(campaign_table).where(same).values(**row))
            self._database.insert_new(connection, member_table, planned)
            m = member_table  # those that were being fitted when an earlier run ended
            stopped = (m.c.campaign == campaign.name, m.c.state == "running")
            connection.execute(sa.update(m).where(*stopped).values(state="planned"))
        return self.load(campaign.name)

    def require_free(self, campaign: Campaign) -> None:
        """Refuse a name under which another campaign was recorded; raise BadInput."""
        with self._database.read() as connection:
            self._require_same(connection, campaign)

    def load(self, name: str) -> CampaignRecord:
        """Return a campaign.

        Raises:
            UnknownName: there is none of that name.
        """
        found = self._records(name)
        if not found:
            known = ", ".join(record.name for record in self._records()) or "none yet"
            raise UnknownName(f"there is no campaign '{name}'; known: {known}")
        return found[0]

    def all(self) -> list[CampaignRecord]:
        """Return every campaign, the newest first."""
        return self._records()

    def member(self, name: str, hash12: str) -> MemberRecord:
        """Return one member; raise UnknownName where there is none."""
        t = member_table
        with self._database.read() as connection:
            row = connection.execute(sa.select(t).where(*_which(name, hash12))).mappings().one_or_none()
        if row is None:
            raise UnknownName(f"campaign '{name}' has no member {hash12}")
        return _member(row)

    def start(self, name: str, hash12: str) -> None:
        """Record that a member is being fitted."""
        self._set(name, hash12, state="running", error=None, started_utc=now_utc(), finished_utc=None)

    def complete(
        self,
        name: str,
        hash12: str,
        *,
        result_hash: str,
        fold_keys: Sequence[str],
        rows: int,
        scores: Sequence[Mapping[str, Any]],
    ) -> None:
        """Record that a member's walk-forward is finished; whether it is kept is open again."""
        self._set(
            name,
            hash12,
            state="completed",
            error=None,
            result_hash=result_hash,
            fold_keys=list(fold_keys),
            rows=rows,
            scores=[clean_json(score) for score in scores],
            kept_for=None,
            finished_utc=now_utc(),
        )

    def fail(self, name: str, hash12: str, error: str) -> None:
        """Record that a member failed; its first 2,000 characters say why. What it left before stays."""
        self._set(name, hash12, state="failed", error=error[:2000], finished_utc=now_utc())

    def judge(
        self,
        name: str,
        hash12: str,
        *,
        scores: Sequence[Mapping[str, Any]],
        kept_for: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        """Record a member's scores beside the random walk, and what it is kept for; None where it is not kept."""
        kept = None if kept_for is None else [clean_json(cell) for cell in kept_for]
        self._set(name, hash12, scores=[clean_json(score) for score in scores], kept_for=kept)

    def finish(self, name: str, *, details: Mapping[str, Any], error: str | None) -> None:
        """Record the end of a campaign: completed, or failed where an error says which members did."""
        values = {
            "state": "completed" if error is None else "failed",
            "details": clean_json(details),
            "error": None if error is None else error[:2000],
            "finished_utc": now_utc(),
        }
        with self._database.write() as connection:
            changed = connection.execute(
                sa.update(campaign_table).where(campaign_table.c.name == name).values(**values)
            ).rowcount
            if not changed:
                raise UnknownName(f"there is no campaign '{name}'")

    def trials(self, symbol: str) -> int:
        """Return how many configurations campaigns have validated on a pair, each once whatever became of it.

        This is what a statistic of the best of them is to be deflated by.
        """
        t = member_table
        query = sa.select(sa.func.count(sa.distinct(t.c.hash12))).where(
            t.c.symbol == symbol, t.c.result_hash.is_not(None)
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def _records(self, name: str | None = None) -> list[CampaignRecord]:
        t, m = campaign_table, member_table
        campaigns = sa.select(t).order_by(t.c.started_utc.desc(), t.c.name)
        members = sa.select(m).order_by(m.c.campaign, m.c.number)
        if name is not None:
            campaigns, members = campaigns.where(t.c.name == name), members.where(m.c.campaign == name)
        with self._database.read() as connection:
            rows = connection.execute(campaigns).mappings().all()
            by_name: dict[str, list[MemberRecord]] = {}
            for row in connection.execute(members).mappings():
                by_name.setdefault(row["campaign"], []).append(_member(row))
        return [CampaignRecord(**row, members=tuple(by_name.get(row["name"], ()))) for row in rows]

    def _require_same(self, connection: Connection, campaign: Campaign) -> None:
        t = campaign_table
        found = connection.execute(sa.select(t.c.hash12).where(t.c.name == campaign.name)).scalar_one_or_none()
        if found not in (None, campaign.hash12):
            raise BadInput(
                f"another campaign was recorded as '{campaign.name}' ({found}, this one is {campaign.hash12}): give"
                " this one another name; what both share is not fitted again"
            )

    def _set(self, name: str, hash12: str, **values: object) -> None:
        with self._database.write() as connection:
            changed = connection.execute(sa.update(member_table).where(*_which(name, hash12)).values(**values)).rowcount
            if not changed:
                raise UnknownName(f"campaign '{name}' has no member {hash12}")


def _which(name: str, hash12: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (member_table.c.campaign == name, member_table.c.hash12 == hash12)


def _member(row: RowMapping) -> MemberRecord:
    return MemberRecord(
        member=CampaignMember.from_document(row["document"]),
        fold_keys=tuple(row["fold_keys"]),
        **{
            name: row[name]
            for name in (
                *("number", "state", "error", "result_hash", "rows", "scores", "kept_for"),
                *("started_utc", "finished_utc"),
            )
        },
    )
