"""What is recorded of campaigns, on SQLite and on PostgreSQL alike."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from forexgpt_core.adapters.database.campaigns import CampaignRepository
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.errors import BadInput, StoreError, UnknownName
from forexgpt_core.optimisation.campaign import Campaign

CAMPAIGN = Campaign(
    name="spring",
    symbols=("EURUSD", "GBPUSD"),
    timeframes=("H1",),
    horizons=((1, 4),),
    families=("linear",),
    parameters={"linear": {"pca_components": [0, 3]}},
)
BASIS = {"EURUSD": {"timeframe": "H1", "candles": 3}, "GBPUSD": {"refused": "no candles"}}
HASHES = [member.hash12 for member in CAMPAIGN.members()]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    database = open_database(database_url)
    yield database
    database.close()


@pytest.fixture
def campaigns(database: Database) -> CampaignRepository:
    return CampaignRepository(database)


def complete(campaigns: CampaignRepository, hash12: str, result: str = "a" * 16, name: str = "spring") -> None:
    campaigns.start(name, hash12)
    scores = [{"horizon_bars": 1, "crps": float("nan")}]
    campaigns.complete(name, hash12, result_hash=result, fold_keys=["k1", "k2"], rows=9, scores=scores)


def test_a_campaign_begins_with_every_member_planned(campaigns: CampaignRepository) -> None:
    record = campaigns.begin(CAMPAIGN, BASIS, run_key="run-1")
    assert (record.state, record.run_key, record.basis) == ("running", "run-1", BASIS)
    assert tuple(one.member for one in record.members) == CAMPAIGN.members()
    assert record.counts() == {"planned": 6, "running": 0, "completed": 0, "failed": 0}
    assert campaigns.load("spring") == record
    assert [one.name for one in campaigns.all()] == ["spring"]


def test_a_campaign_that_begins_again_keeps_what_is_finished(campaigns: CampaignRepository) -> None:
    campaigns.begin(CAMPAIGN, BASIS)
    complete(campaigns, HASHES[0])
    campaigns.start("spring", HASHES[1])
    campaigns.fail("spring", HASHES[2], "x" * 5000)
    states = [one.state for one in campaigns.load("spring").members]
    assert states == ["completed", "running", "failed", "planned", "planned", "planned"]
    again = campaigns.begin(CAMPAIGN, {**BASIS, "EURUSD": {"candles": 4}}, run_key="run-2")
    assert [one.state for one in again.members] == ["completed", "planned", "failed", "planned", "planned", "planned"]
    assert (again.basis["EURUSD"], again.run_key) == ({"candles": 4}, "run-2")
    done, failed = again.members[0], again.members[2]
    assert (done.result_hash, done.fold_keys, done.rows) == ("a" * 16, ("k1", "k2"), 9)
    assert done.scores == [{"horizon_bars": 1, "crps": None}], "what is not a number is null"
    assert (len(failed.error), failed.result_hash) == (2000, None)
    assert failed.finished_utc is not None


def test_another_campaign_of_that_name_is_refused(campaigns: CampaignRepository) -> None:
    campaigns.begin(CAMPAIGN, BASIS)
    other = replace(CAMPAIGN, seed=8)
    for refused in (lambda: campaigns.require_free(other), lambda: campaigns.begin(other, BASIS)):
        with pytest.raises(BadInput, match=f"another campaign was recorded as 'spring' .{CAMPAIGN.hash12}"):
            refused()
    assert len(campaigns.load("spring").members) == 6
    campaigns.require_free(CAMPAIGN)


def test_what_is_kept_for_is_open_again_once_a_member_has_another_result(campaigns: CampaignRepository) -> None:
    campaigns.begin(CAMPAIGN, BASIS)
    complete(campaigns, HASHES[0])
    cell = {"horizon_bars": 1, "regime": "calm rising", "skill": 0.1}
    campaigns.judge("spring", HASHES[0], scores=[{"horizon_bars": 1, "skill": 0.1}], kept_for=[cell])
    kept = campaigns.member("spring", HASHES[0])
    assert (kept.kept_for, kept.scores) == ([cell], [{"horizon_bars": 1, "skill": 0.1}])
    assert kept.to_row()["best_in"] == "at 1: calm rising"
    complete(campaigns, HASHES[0], "b" * 16)
    assert campaigns.member("spring", HASHES[0]).kept_for is None
    campaigns.judge("spring", HASHES[0], scores=[], kept_for=[])
    assert campaigns.member("spring", HASHES[0]).kept_for == [], "kept, though best nowhere, is not None"


def test_the_end_says_what_failed_and_groups_equal_reasons(campaigns: CampaignRepository) -> None:
    campaigns.begin(CAMPAIGN, BASIS)
    for hash12 in HASHES[:2]:
        campaigns.fail("spring", hash12, "no candles")
    campaigns.finish("spring", details={"verdict": "nothing", "seconds": float("inf")}, error="2 of 6 members failed")
    record = campaigns.load("spring")
    assert (record.state, record.error, record.details) == (
        "failed", "2 of 6 members failed", {"verdict": "nothing", "seconds": None},
    )  # fmt: skip
    assert record.failures() == ["EURUSD H1 [1, 4] random_walk and 1 more: no candles"]
    campaigns.finish("spring", details={}, error=None)
    assert campaigns.load("spring").state == "completed"


def test_trials_are_configurations_that_were_validated_each_counted_once(campaigns: CampaignRepository) -> None:
    assert campaigns.trials("EURUSD") == 0
    campaigns.begin(CAMPAIGN, BASIS)
    for hash12 in HASHES[:2]:
        complete(campaigns, hash12)
    campaigns.fail("spring", HASHES[2], "too few rows")
    assert (campaigns.trials("EURUSD"), campaigns.trials("GBPUSD")) == (2, 0)
    campaigns.judge("spring", HASHES[1], scores=[], kept_for=None)
    campaigns.fail("spring", HASHES[0], "now it cannot be read")
    assert campaigns.trials("EURUSD") == 2, "what is cleaned up, or fails later, was tried all the same"
    campaigns.begin(replace(CAMPAIGN, name="summer"), BASIS)
    complete(campaigns, HASHES[1], name="summer")
    assert campaigns.trials("EURUSD") == 2, "the same configuration in another campaign is no new one"


def test_names_that_do_not_exist_are_refused(campaigns: CampaignRepository) -> None:
    with pytest.raises(UnknownName, match="there is no campaign 'autumn'; known: none yet"):
        campaigns.load("autumn")
    campaigns.begin(CAMPAIGN, BASIS)
    with pytest.raises(UnknownName, match="there is no campaign 'autumn'; known: spring"):
        campaigns.load("autumn")
    for refused in (campaigns.member, campaigns.start, lambda *names: campaigns.fail(*names, "x")):
        with pytest.raises(UnknownName, match="campaign 'spring' has no member 000000000000"):
            refused("spring", "0" * 12)
    with pytest.raises(UnknownName, match="there is no campaign 'autumn'"):
        campaigns.finish("autumn", details={}, error=None)


def test_the_database_refuses_states_that_cannot_be(database: Database, campaigns: CampaignRepository) -> None:
    campaigns.begin(CAMPAIGN, BASIS)
    for values in ("state = 'lost'", "state = 'completed'"):
        with pytest.raises(StoreError, match="could not be written"), database.write() as connection:
            connection.execute(sa.text(f"UPDATE campaign_member SET {values}"))
