"""Train against valid: the statistic of scipy, sizes that allow for dependence, and p-values that keep their word."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import ks_2samp

from forexgpt_core.domain.clock import Timeframe, next_opens, week_opens
from forexgpt_core.errors import BadInput
from forexgpt_core.features import comparison
from forexgpt_core.features.comparison import compare_parts, compare_samples, comparison_line
from forexgpt_core.features.splits import SplitShares, evidence_parts
from forexgpt_core.features.windows import market_arrays, usable


def autocorrelated(series: int, rows: int, r: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(rows + 200, series))
    return lfilter([1.0], [1.0, -r], noise, axis=0)[200:]


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(2, 60), m=st.integers(2, 60), f=st.integers(1, 5), ties=st.booleans(), seed=st.integers(0, 2**32 - 1)
)
def test_the_statistic_is_that_of_scipy_with_and_without_ties(n: int, m: int, f: int, ties: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    train, valid = rng.normal(size=(n, f)), rng.normal(0.3, 1.5, size=(m, f))
    if ties:
        train, valid = train.round(), valid.round()
    names = tuple("abcde"[:f])
    table = compare_samples(train, valid, names)
    for row in table.iter_rows(named=True):
        column = names.index(row["feature"])
        expected = ks_2samp(train[:, column], valid[:, column], method="asymp").statistic
        assert row["statistic"] == pytest.approx(expected, abs=1e-12)
    assert table["statistic"].is_sorted(descending=True)


def test_the_p_value_of_independent_rows_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    shifts = np.linspace(0, 0.4, 9)
    train, valid = rng.normal(size=(400, 9)), rng.normal(size=(300, 9)) + shifts
    table = compare_samples(train, valid, tuple("abcdefghi"))
    for row in table.iter_rows(named=True):
        column = "abcdefghi".index(row["feature"])
        assert row["train_effective"] == pytest.approx(400, rel=0.25)
        exact = ks_2samp(train[:, column], valid[:, column]).pvalue
        assert row["p_value"] == pytest.approx(exact, abs=0.05)
    assert table["p_value"][0] < 1e-3


def test_an_ar1_is_worth_what_theory_says() -> None:
    r = 0.9
    table = compare_samples(autocorrelated(8, 20_000, r, 0), autocorrelated(8, 5_000, r, 1), tuple("abcdefgh"))
    assert table["train_effective"].mean() == pytest.approx(20_000 * (1 - r) / (1 + r), rel=0.15)
    assert table["valid_effective"].mean() == pytest.approx(5_000 * (1 - r) / (1 + r), rel=0.15)
    assert table["train_rows"].to_list() == [20_000] * 8


def test_alike_but_autocorrelated_parts_are_seldom_called_different_where_the_usual_p_value_nearly_always_does() -> (
    None
):
    names = tuple(f"f{i}" for i in range(400))
    train, valid = autocorrelated(400, 2000, 0.95, 2), autocorrelated(400, 700, 0.95, 3)
    honest = (compare_samples(train, valid, names)["p_value"] < 0.05).mean()
    usual = np.mean([ks_2samp(train[:, i], valid[:, i], method="asymp").pvalue < 0.05 for i in range(400)])
    assert usual > 0.5
    assert honest < 0.09


def test_a_shift_is_found_through_the_dependence() -> None:
    table = compare_samples(autocorrelated(3, 5000, 0.8, 4), np.add(autocorrelated(3, 2000, 0.8, 5), [0, 0, 3]), "abc")
    assert table["feature"][0] == "c"
    assert table["p_value"][0] < 1e-6
    assert comparison_line(table).startswith(
        "1 of 3 features differ beyond chance between train (5000 rows) and valid (2000); most: c, statistic 0."
    )


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_only_order_matters_not_scale(seed: int) -> None:
    train, valid = autocorrelated(2, 200, 0.5, seed), autocorrelated(2, 150, 0.5, seed // 2)
    plain, bent = compare_samples(train, valid, "ab"), compare_samples(np.exp(train), np.exp(valid), "ab")
    for column in ("statistic", "train_effective", "valid_effective", "p_value"):
        np.testing.assert_allclose(plain[column], bent[column], rtol=1e-9)


def test_columns_are_compared_in_blocks_with_the_same_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    train, valid = autocorrelated(7, 300, 0.5, 0), autocorrelated(7, 200, 0.5, 1)
    whole = compare_samples(train, valid, "abcdefg")
    monkeypatch.setattr(comparison, "_BLOCK_CELLS", 1000)
    assert compare_samples(train, valid, "abcdefg").equals(whole)


def test_constant_columns_and_single_rows_are_legal() -> None:
    table = compare_samples(np.column_stack([np.ones(50), np.ones(50)]), np.array([[1.0, 2.0]]), ("same", "other"))
    assert table.select("feature", "statistic").rows() == [("other", 1.0), ("same", 0.0)]
    assert table["p_value"][1] == pytest.approx(1)
    assert table["p_value"].is_finite().all()
    none = compare_samples(np.empty((5, 0)), np.empty((3, 0)), ())
    assert none.is_empty()
    assert comparison_line(none) == "no feature to compare"


def test_parts_of_a_run_are_compared_by_their_feature_names() -> None:
    opens = next_opens(np.array([week_opens()[1400] - np.timedelta64(1, "s")]), Timeframe.H1, 1500)[0]
    ts = pl.Series("ts_utc", opens.astype("datetime64[us]")).dt.replace_time_zone("UTC")
    rng = np.random.default_rng(0)
    features = pl.DataFrame({"ts_utc": ts, "noise": rng.normal(size=1500), "trend": np.arange(1500.0)})
    candles = pl.DataFrame({"ts_utc": ts, "close": np.exp(rng.normal(0, 0.01, 1500))})
    windows = usable(market_arrays("EURUSD", Timeframe.H1, candles, features, (1,)), matured=True)
    parts = evidence_parts(windows, SplitShares())
    table = compare_parts(parts.train, parts.valid)
    assert table["feature"].to_list() == ["trend", "noise"]
    assert table["statistic"][0] == 1.0
    assert table["p_value"][0] > 0.05, "a price that wanders off is one event, not hundreds"
    assert table["train_rows"][0] == len(parts.train)
    assert table["valid_rows"][0] == len(parts.valid)
    other = market_arrays("EURUSD", Timeframe.H1, candles, features.select("ts_utc", "noise"), (1,))
    with pytest.raises(BadInput, match="same features"):
        compare_parts(parts.train, usable(other, matured=True))


def test_what_cannot_be_compared_is_refused() -> None:
    good = np.ones((5, 2))
    with pytest.raises(BadInput, match="'b' is not finite on every row of valid"):
        compare_samples(good, np.array([[1.0, np.nan]]), "ab")
    with pytest.raises(BadInput, match="train must hold one or more rows of 2 features"):
        compare_samples(np.empty((0, 2)), good, "ab")
    with pytest.raises(BadInput, match="valid must hold one or more rows of 2 features"):
        compare_samples(good, np.ones((5, 3)), "ab")
