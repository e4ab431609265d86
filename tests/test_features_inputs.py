"""Features from other pairs and the calendar, built in full or from a day on, with a leak planted in every family."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.clock import Timeframe, bar_close, next_opens, week_opens
from forexgpt_core.domain.events import CalendarEntry, EconomicEvent, event_table
from forexgpt_core.domain.figures import read_figures
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.features import catalogue
from forexgpt_core.features.build import build_features
from forexgpt_core.features.events import EventFeatures, event_columns
from forexgpt_core.features.indicator import Bars, Columns, Indicator
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.leaks import find_leaks, recipe_leaks
from forexgpt_core.features.recipe import Recipe

H1, H4, D1 = Timeframe.H1, Timeframe.H4, Timeframe.D1
START = 1490  # a week of 2018, by number
SEEDS = st.integers(0, 2**32 - 1)
EVERYTHING = Recipe.from_document(
    {
        "timeframes": ["H1", "H4"],
        "pairs": ["GBPUSD", "USDJPY"],
        "indicators": dict.fromkeys(name for name in catalogue.indicators() if name != "kama"),  # kama forgets slowly
    }
)
CROSS = Recipe.from_document(
    {
        "timeframes": ["H1", "H4"],
        "pairs": ["GBPUSD"],
        "indicators": {"cross_return": {"bars": 2}, "cross_lead": {}, "cross_correlation": {"bars": 8}, "rsi": {}},
    }
)


def market(bars: int, seed: int, *, holes: float = 0.0, ask: bool = True) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    opens = next_opens(week_opens()[START : START + 1] - np.timedelta64(1, "s"), H1, bars)[0]
    close = 1.1 * np.exp(np.cumsum(rng.standard_t(4, bars) * 1e-3))
    open_ = np.concatenate([[1.1], close[:-1]])
    wicks = np.exp(np.abs(rng.normal(0, 5e-4, (2, bars))))
    table = pl.DataFrame(
        {
            "ts_utc": pl.Series(opens, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * wicks[0],
            "low": np.minimum(open_, close) / wicks[1],
            "close": close,
            "volume": rng.integers(1, 1000, bars).astype(np.float64),
            **({"ask_close": close * 1.0001} if ask else {}),
        }
    )
    return table.filter(pl.Series(rng.random(bars) >= holes))


def events(bars: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return a calendar of two releases a day, known a day ahead."""
    rng = np.random.default_rng(seed)
    first, days = bars["ts_utc"][0], int((bars["ts_utc"][-1] - bars["ts_utc"][0]).days) + 9
    found = []
    for day in range(2 * days):
        at = first + timedelta(hours=12 * day + float(rng.uniform(0, 6)))
        entry = CalendarEntry(
            scheduled_utc=at,
            title=f"release {day % 3}",
            currency=str(rng.choice(["EUR", "USD"])),
            impact=str(rng.choice(["medium", "high"])),
            figures=read_figures(f"{rng.normal():.2f}", "0.1", None),
        )
        released = at + timedelta(minutes=5)
        known = at - timedelta(days=1)
        found.append(EconomicEvent(entry=entry, revision=1, announced_utc=known, released_utc=released, source="test"))
    return event_table(found)


def inputs(bars: pl.DataFrame, seed: int, *, holes: float = 0.05) -> FeatureInputs:
    pairs = {name: market(bars.height, seed + n, holes=holes) for n, name in enumerate(("GBPUSD", "USDJPY"), start=1)}
    return FeatureInputs(symbol="EURUSD", pairs=pairs, events=events(bars, seed))


def test_another_pair_is_read_by_the_same_close_and_missing_is_undefined() -> None:
    own, other = market(200, 1), market(200, 2, holes=0.4)
    built = build_features(own, H1, CROSS, inputs=FeatureInputs(symbol="EURUSD", pairs={"GBPUSD": other}))
    closes = own.select("ts_utc").join(other.select("ts_utc", "close"), on="ts_utc", how="left")["close"]
    carried = closes.fill_null(strategy="forward", limit=5)
    expected = (carried / carried.shift(2)).log().fill_null(float("nan"))
    found = built["cross_return_2_gbpusd_h1"]
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy(), rtol=1e-12)
    assert found.is_nan().sum() > 2, "holes longer than the limit stay undefined"


def test_on_a_higher_timeframe_the_other_pair_has_its_own_closed_bars() -> None:
    own, other = market(200, 3), market(200, 4)
    built = build_features(own, H1, CROSS, inputs=FeatureInputs(symbol="EURUSD", pairs={"GBPUSD": other}))
    higher = resample(other, H1, H4)
    expected = np.log(higher["close"].to_numpy()[2:] / higher["close"].to_numpy()[:-2])
    last = built.filter(pl.col("ts_utc") + pl.duration(hours=1) == higher["ts_utc"][-1] + pl.duration(hours=4))
    assert last["cross_return_2_gbpusd_h4"][0] == pytest.approx(expected[-1], rel=1e-12)


def test_currencies_are_as_strong_as_the_pairs_that_hold_them() -> None:
    own, pairs = market(60, 5), {"GBPUSD": market(60, 6), "EURJPY": market(60, 7), "AUDNZD": market(60, 8)}
    recipe = Recipe.from_document(
        {"timeframes": ["H1"], "indicators": {"currency_strength": {"bars": 4}}, "pairs": list(pairs)}
    )
    built = build_features(own, H1, recipe, inputs=FeatureInputs(symbol="EURUSD", pairs=pairs))
    moves = {
        name: np.log(bars["close"].to_numpy()[4:] / bars["close"].to_numpy()[:-4])
        for name, bars in {"EURUSD": own, **pairs}.items()
    }
    base, quote = (built[f"strength_{side}_4_h1"].to_numpy()[4:] for side in ("base", "quote"))
    np.testing.assert_allclose(base, (moves["EURUSD"] + moves["EURJPY"]) / 2, rtol=1e-12)
    np.testing.assert_allclose(quote, -(moves["EURUSD"] + moves["GBPUSD"]) / 2, rtol=1e-12)


def test_the_calendar_is_read_at_the_close_of_each_bar() -> None:
    bars = market(240, 9)
    beside = inputs(bars, 9)
    recipe = Recipe.from_document(
        {"indicators": {"event_schedule": {"impact": 3}, "event_surprise": {"least_surprises": 3}}}
    )
    built = build_features(bars, H1, recipe, inputs=beside)
    closes = bar_close(bars["ts_utc"].to_numpy(), H1)
    high = event_columns(closes, beside.events, ("EUR", "USD"), EventFeatures(impact="high"))
    felt = event_columns(closes, beside.events, ("EUR", "USD"), EventFeatures(least_surprises=3))
    np.testing.assert_array_equal(built["event_next_minutes_3_1440_30_24"], high["event_next_minutes"])
    np.testing.assert_array_equal(built["event_surprise_quote_2_1440_3_240"], felt["event_surprise_quote"])
    assert np.isfinite(built["event_surprise_quote_2_1440_3_240"].to_numpy()).any()


def test_what_a_recipe_reads_must_be_there() -> None:
    with pytest.raises(BadInput, match="the recipe of GBPUSD names GBPUSD itself among the other pairs: leave it out"):
        build_features(market(50, 1), H1, CROSS, inputs=FeatureInputs(symbol="GBPUSD"))
    with pytest.raises(NotReady, match=r"reads GBPUSD, of which there are no candles"):
        build_features(market(50, 1), H1, CROSS)
    calendar = Recipe.from_document({"indicators": {"event_schedule": {}}})
    with pytest.raises(NotReady, match="calendar, which is empty: run 'forexgpt events import FILE'"):
        build_features(market(50, 1), H1, calendar, inputs=FeatureInputs(symbol="EURUSD"))


@settings(deadline=None, max_examples=8)
@given(seed=SEEDS, holes=st.sampled_from([0.0, 0.1]), late=st.integers(1, 200))
def test_rows_built_from_a_day_on_are_those_of_a_full_build(seed: int, holes: float, late: int) -> None:
    bars = market(3000, seed, holes=holes)
    beside = inputs(bars, seed)
    whole = build_features(bars, H1, EVERYTHING, inputs=beside)
    since = bars["ts_utc"][-late]
    part = build_features(bars, H1, EVERYTHING, inputs=beside, since_utc=since)
    expected = whole.filter(pl.col("ts_utc") >= since)
    assert part.columns == expected.columns
    assert part["ts_utc"].equals(expected["ts_utc"])
    for name in part.columns[1:]:
        size = float(np.nanmax(np.abs(whole[name].to_numpy()), initial=1e-300))
        np.testing.assert_allclose(
            part[name].to_numpy(), expected[name].to_numpy(), rtol=1e-9, atol=1e-9 * size, err_msg=name
        )


@settings(deadline=None, max_examples=6)
@given(seed=SEEDS, cut=st.integers(300, 500))
def test_no_row_of_any_indicator_changes_when_the_future_of_anything_arrives(seed: int, cut: int) -> None:
    bars = market(600, seed, holes=0.02)
    beside = inputs(bars, seed)
    moment = bars["ts_utc"][cut]
    seen = build_features(bars.head(cut), H1, EVERYTHING, inputs=beside.cut_off(moment))
    assert_frame_equal(build_features(bars, H1, EVERYTHING, inputs=beside).head(cut), seen, check_exact=True)


def test_everything_in_the_catalogue_is_honest() -> None:
    bars = market(900, 11, holes=0.02)
    assert recipe_leaks(build_features, bars, H1, EVERYTHING, inputs(bars, 11)) == ()


def ahead(one: Indicator) -> Indicator:
    """Return the indicator with every value known one bar too early."""

    def compute(b: Bars, **parameters: object) -> Columns:
        return {name: np.append(values[1:], np.nan) for name, values in one.compute(b, **parameters).items()}

    return replace(one, compute=compute)


FAMILIES = {family.name: family.members[0].name for family in catalogue.OWN if family.name not in ("clock", "events")}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("frame", ["H1", "H4"])
def test_a_leak_planted_in_a_family_is_caught_alone_and_by_name(
    family: str, frame: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guilty = FAMILIES[family]
    honest = "volatility" if guilty != "volatility" else "rsi"
    recipe = Recipe.from_document(
        {"timeframes": [frame], "indicators": {guilty: {}, honest: {}}, "pairs": ["GBPUSD", "USDJPY"]}
    )
    bars = market(1500, 12)
    planted = {**catalogue.indicators(), guilty: ahead(catalogue.indicators()[guilty])}
    monkeypatch.setattr(catalogue, "indicators", lambda: planted)
    found = {leak.column for leak in recipe_leaks(build_features, bars, H1, recipe, inputs(bars, 12, holes=0.0))}
    expected = {name for choice in recipe.choices if choice.indicator == guilty for name in choice.names}
    assert found == {f"{name}_{frame.lower()}" for name in expected}


def next_bar_is_there(b: Bars) -> Columns:
    return {"bars_missing": np.append(np.diff(b.ts_utc) / np.timedelta64(1, "h"), 0.0)}


def outcome_before_release(b: Bars, **_: int) -> Columns:
    early = b.events.with_columns(released_utc=pl.col("released_utc") - pl.duration(hours=9))
    columns = event_columns(bar_close(b.ts_utc, b.timeframe), early, ("EUR", "USD"), EventFeatures(least_surprises=2))
    return {name: columns[name] for name in columns if "surprise" in name}


@pytest.mark.parametrize(
    ("name", "compute", "guilty"),
    [("reopening", next_bar_is_there, "bars_missing"), ("event_surprise", outcome_before_release, "event_surprise_")],
)
def test_a_leak_of_the_clock_or_the_calendar_is_caught_too(
    name: str, compute: Callable[..., Columns], guilty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = market(900, 13, holes=0.05)
    planted = {**catalogue.indicators(), name: replace(catalogue.indicators()[name], compute=compute)}
    monkeypatch.setattr(catalogue, "indicators", lambda: planted)
    recipe = Recipe.from_document({"timeframes": ["H1"], "indicators": {name: {}, "calendar": {}, "rsi": {}}})
    found = recipe_leaks(build_features, bars, H1, recipe, inputs(bars, 13), cuts=8)
    assert found
    assert all(leak.column.startswith(guilty) for leak in found)


def test_a_leak_through_another_pair_or_a_user_s_own_build_is_caught() -> None:
    bars = market(600, 14)
    beside = inputs(bars, 14)

    def by_the_next_bar(candles: pl.DataFrame, world: FeatureInputs) -> pl.DataFrame:
        other = world.pairs["GBPUSD"].select("ts_utc", peek=pl.col("close").shift(-1))
        return candles.select("ts_utc", "close").join(other, on="ts_utc", how="left")

    assert {leak.column for leak in find_leaks(by_the_next_bar, bars, inputs=beside)} == {"peek"}
    with_events = lambda c, w: c.select("ts_utc", known=pl.lit(float(w.events["actual"].sum())))  # noqa: E731
    assert {leak.column for leak in find_leaks(with_events, bars, inputs=beside)} == {"known"}


def test_parts_build_the_same_columns_together() -> None:
    parts = EVERYTHING.parts(30)
    assert len(parts) > 3
    assert sorted(name for part in parts for name in part.columns) == sorted(EVERYTHING.columns)
    assert all(len(part.columns) < 45 for part in parts)


def test_undefined_stretches_do_not_hide_a_leak_behind_them() -> None:
    bars = market(400, 15)

    def build(candles: pl.DataFrame) -> pl.DataFrame:
        late = pl.when(pl.int_range(pl.len()) < 200).then(float("nan")).otherwise(pl.col("close").shift(-1))
        return candles.select("ts_utc", x=late)

    assert {leak.column for leak in find_leaks(build, bars)} == {"x"}
