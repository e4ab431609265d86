"""Missing data: filled from the past alone, only as far as allowed, counted, and never from the future."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.clock import Timeframe, next_opens, slot, week_opens
from forexgpt_core.errors import BadInput, ForexGPTError, UnknownName
from forexgpt_core.features.leaks import find_leaks
from forexgpt_core.features.missing import LeakRefused, MissingPolicy, fill_table, fill_values
from forexgpt_core.features.windows import market_arrays, usable

H1 = Timeframe.H1
NAN = float("nan")
POLICIES = [
    MissingPolicy(),
    MissingPolicy(policy="forward_fill", limit_bars=3),
    MissingPolicy(policy="forward_fill", limit_bars=2, flags=True),
    MissingPolicy(policy="zero", flags=True),
    MissingPolicy(policy="constant", value=-1.5),
]


def holed(n: int, f: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, f))
    values[rng.random((n, f)) < 0.4] = NAN
    return values


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def opens(count: int) -> np.ndarray:
    return next_opens(np.array([week_opens()[1400] - np.timedelta64(1, "s")]), H1, count)[0].astype("datetime64[us]")


def stamped(ts: np.ndarray, **columns: object) -> pl.DataFrame:
    return pl.DataFrame({"ts_utc": pl.Series(ts).dt.replace_time_zone("UTC"), **columns})


@settings(deadline=None, max_examples=60)
@given(policy=st.sampled_from(POLICIES), n=st.integers(1, 40), cut=st.integers(0, 40), seed=st.integers(0, 2**32 - 1))
def test_no_filled_value_depends_on_later_rows(policy: MissingPolicy, n: int, cut: int, seed: int) -> None:
    values, cut = holed(n, 3, seed), min(cut, n)
    names = ("a", "b", "c")
    full = fill_values(values, policy, names=names)
    truncated = fill_values(values[:cut], policy, names=names)
    np.testing.assert_array_equal(full.values[:cut], truncated.values)
    other = values.copy()
    other[cut:] = holed(n - cut, 3, seed + 1)
    np.testing.assert_array_equal(fill_values(other, policy, names=names).values[:cut], truncated.values)


@settings(deadline=None, max_examples=40)
@given(limit=st.integers(1, 6), n=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_between_consecutive_bars_forward_fill_is_that_of_polars(limit: int, n: int, seed: int) -> None:
    values = holed(n, 2, seed)
    ours = fill_values(values, MissingPolicy(policy="forward_fill", limit_bars=limit), names=("a", "b"))
    theirs = pl.DataFrame(values, schema=["a", "b"]).fill_nan(None).select(pl.all().forward_fill(limit))
    np.testing.assert_array_equal(ours.values, theirs.fill_null(NAN).to_numpy())


def test_a_value_is_carried_no_further_than_the_limit_and_the_rest_of_the_hole_stays_unknown() -> None:
    filled = fill_values(
        column(NAN, 1.0, NAN, NAN, NAN, 2.0, NAN), MissingPolicy(policy="forward_fill", limit_bars=2), names=("a",)
    )
    np.testing.assert_array_equal(filled.values[:, 0], [NAN, 1, 1, 1, NAN, 2, 2])
    assert filled.report.rows() == [("a", 7, 5, 3, 2)]
    assert filled.incomplete_rows == 2
    assert filled.line == "3 of 5 unknown values filled; 2 of 7 rows still hold one and are left out"


def test_absent_rows_age_a_value_and_a_weekend_does_not() -> None:
    ts = opens(130)
    kept = np.r_[0:50, 55:130]  # five bars are absent
    table = stamped(ts[kept], a=np.where(np.isin(kept, [55, 56, 120]), NAN, 1.0 * kept))
    policy = MissingPolicy(policy="forward_fill", limit_bars=3)
    filled, report = fill_table(table, policy, H1)
    assert filled["a"].is_nan().sum() == 2, "the value before the hole is six bars old, which is too old"
    assert filled["a"].to_list()[kept.tolist().index(120)] == 119
    assert (ts[120] - ts[119]) > np.timedelta64(2, "D"), "the weekend lies between these two"
    assert slot(ts[119:121], H1).tolist() == [slot(ts[119:120], H1)[0], slot(ts[119:120], H1)[0] + 1]
    assert report.report.row(0, named=True)["still_missing"] == 2
    by_rows = fill_values(table.select("a").to_numpy(), policy, names=("a",))
    assert by_rows.incomplete_rows == 0, "counted in rows, a stale value would have been carried across the hole"


def test_constants_are_written_everywhere_and_flags_tell_where() -> None:
    values = column(NAN, 1.0, NAN)
    zero = fill_values(values, MissingPolicy(policy="zero", flags=True), names=("a",))
    assert zero.names == ("a", "a_missing")
    np.testing.assert_array_equal(zero.values, [[0, 1], [1, 0], [0, 1]])
    constant = fill_values(values, MissingPolicy(policy="constant", value=5.0), names=("a",))
    np.testing.assert_array_equal(constant.values[:, 0], [5, 1, 5])
    assert np.isnan(values[0, 0]), "what was given is not changed"


def test_the_columns_do_not_depend_on_what_is_missing() -> None:
    policy = MissingPolicy(policy="forward_fill", limit_bars=2, flags=True)
    some, none = (fill_values(v, policy, names=("a", "b")) for v in (holed(30, 2, 0), np.ones((30, 2))))
    assert some.names == none.names == ("a", "b", "a_missing", "b_missing")
    assert none.values[:, 2:].sum() == 0
    assert some.values[:, 2:].sum() == some.report["filled"].sum() > 0


def test_by_default_nothing_is_filled_and_the_rows_are_left_out_of_the_windows() -> None:
    ts = opens(20)
    table = stamped(ts, a=[NAN, *[1.0] * 9, None, *[2.0] * 9])
    filled, report = fill_table(table, MissingPolicy(), H1)
    assert filled.height == 20, "labels count bars, so no row leaves the table"
    assert report.report.rows() == [("a", 20, 2, 0, 2)]
    candles = stamped(ts, close=np.linspace(1, 2, 20))
    left = usable(market_arrays("EURUSD", H1, candles, filled, (1,)), matured=False)
    assert len(left) == 20 - report.incomplete_rows == 18


@pytest.mark.parametrize("name", ["backward_fill", "bfill", "interpolate"])
def test_ways_that_read_the_future_are_refused_by_name_with_the_reason(name: str) -> None:
    with pytest.raises(LeakRefused, match=r"only known later: a leak.*use forward_fill with limit_bars") as refused:
        MissingPolicy(policy=name)
    assert "\n" not in str(refused.value)
    assert isinstance(refused.value, ForexGPTError)


@pytest.mark.parametrize("fill", ["backward_fill", "interpolate"])
def test_those_ways_do_leak_and_ours_do_not(fill: str) -> None:
    rng = np.random.default_rng(0)
    ts = opens(120)
    candles = stamped(ts, close=np.exp(np.cumsum(rng.normal(0, 1e-3, 120))))

    def gappy(bars: pl.DataFrame) -> pl.DataFrame:
        known = pl.int_range(pl.len()) % 7 == 0
        return bars.select("ts_utc", a=pl.when(known).then(pl.col("close")).otherwise(None))

    leaks = find_leaks(lambda bars: gappy(bars).with_columns(getattr(pl.col("a"), fill)()), candles)
    assert "a" in [leak.column for leak in leaks]
    for policy in POLICIES:
        assert find_leaks(lambda bars, policy=policy: fill_table(gappy(bars), policy, H1)[0], candles) == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "forward_fill"}, "limit_bars must be 1 or more with forward_fill"),
        ({"policy": "forward_fill", "limit_bars": -1}, "limit_bars must be 1 or more"),
        ({"policy": "forward_fill", "limit_bars": 2.0}, "limit_bars must be a whole number"),
        ({"policy": "zero", "limit_bars": 2}, "and 0 otherwise, was 2 with zero"),
        ({"policy": "zero", "value": 1.0}, "given with constant only"),
        ({"policy": "constant", "value": NAN}, "finite number"),
        ({"flags": True}, "drop fills nothing"),
    ],
)
def test_an_unlawful_policy_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        MissingPolicy(**options)


def test_an_unknown_policy_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownName, match=r"unknown missing-data policy 'foward_fill'.*did you mean 'forward_fill'"):
        MissingPolicy(policy="foward_fill")


def test_values_that_are_broken_or_do_not_fit_are_refused() -> None:
    policy = MissingPolicy(policy="zero")
    with pytest.raises(BadInput, match=r"'b' holds infinite values: that is a broken calculation"):
        fill_values(np.array([[1.0, np.inf]]), policy, names=("a", "b"))
    with pytest.raises(BadInput, match="as many columns"):
        fill_values(np.ones((3, 2)), policy, names=("a",))
    with pytest.raises(BadInput, match="never decrease"):
        fill_values(np.ones((3, 1)), policy, names=("a",), bar_numbers=np.array([0, 2, 1]))
    flags = MissingPolicy(policy="zero", flags=True)
    with pytest.raises(BadInput, match="named like a flag"):
        fill_table(stamped(opens(2), a=[1.0, 2.0], a_missing=[1.0, 2.0]), flags, H1)
    empty, report = fill_table(stamped(opens(2)), flags, H1)
    assert empty.columns == ["ts_utc"]
    assert report.report.is_empty()
