"""Windows for sequence models: aligned at the origin, blind to the future, counted where absent, bounded in memory."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.clock import Timeframe, bar_close, next_opens, slot, week_opens
from forexgpt_core.errors import BadInput, ForexGPTError, NotReady
from forexgpt_core.features.sequence_windows import (
    known_values,
    sequence_batches,
    sequence_windows,
    with_feature_sequence,
    with_sequences,
)
from forexgpt_core.features.sequences import BarSequence, SequenceSpec, bar_sequence
from forexgpt_core.features.splits import SplitShares, evidence_parts
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays, usable

M5, M15, H1, H4, D1, W1 = (Timeframe.parse(name) for name in ("M5", "M15", "H1", "H4", "D1", "W1"))
EURUSD_M1 = Path(__file__).parents[1].parent / "shared" / "data" / "fx" / "EURUSD_M1.parquet"


def candles_of(bars: int, *, seed: int = 0, holes: float = 0.0, timeframe: Timeframe = H1) -> pl.DataFrame:
    """Lawful bars in the FX week, some of them absent."""
    rng = np.random.default_rng(seed)
    opens = next_opens(np.array([week_opens()[1400] - np.timedelta64(1, "s")]), timeframe, bars)[0]
    opens = opens[rng.random(bars) >= holes] if holes else opens
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 1e-3, opens.size)))
    start = np.roll(close, 1)
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens.astype("datetime64[us]")).dt.replace_time_zone("UTC"),
            "open": start,
            "high": np.maximum(start, close) * 1.0005,
            "low": np.minimum(start, close) * 0.9995,
            "close": close,
            "volume": rng.integers(1, 900, opens.size).astype(np.float64),
        }
    )


def arrays_of(candles: pl.DataFrame, timeframes: tuple[Timeframe, ...], *, base: Timeframe = H1) -> MarketArrays:
    features = candles.select("ts_utc", a=pl.col("close").pct_change(3), b=pl.col("high") - pl.col("low"))
    return with_sequences(market_arrays("EURUSD", base, candles, features, (1, 4)), candles, timeframes)


def every_row(arrays: MarketArrays) -> Windows:
    return Windows(arrays=arrays, rows=np.arange(arrays.ts_utc.size))


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    holes=st.sampled_from([0.0, 0.3]),
    length=st.integers(10, 25),
    spacing=st.integers(1, 3),
    stride=st.integers(1, 5),
)
def test_a_window_is_the_newest_closed_bars_of_each_timeframe(
    seed: int, holes: float, length: int, spacing: int, stride: int
) -> None:
    candles = candles_of(500, seed=seed, holes=holes)
    arrays = arrays_of(candles, (H1, H4))
    spec = SequenceSpec(
        timeframes=(H4, H1), length_bars=length, spacing_bars=spacing, stride_bars=stride, relative_prices=False
    )
    found = sequence_windows(every_row(arrays), spec)
    assert (np.diff(found.windows.rows) >= stride).all()
    sequences = {frame: found.windows.sequence(frame, spec) for frame in spec.timeframes}
    for place in range(0, len(found.windows), 1 + len(found.windows) // 5):
        row = int(found.windows.rows[place])
        for frame in spec.timeframes:
            # what a naive program would do: look at the candles known by then, and at nothing else
            known = resample(candles.head(row + 1), H1, frame) if frame != H1 else candles.head(row + 1)
            wanted = known.select("open", "high", "low", "close").to_numpy()[::-spacing][:length][::-1]
            np.testing.assert_array_equal(sequences[frame][place], wanted)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    cut=st.integers(270, 390),
    holes=st.sampled_from([0.0, 0.2]),
    most_missing=st.sampled_from([None, 0, 6]),
)
def test_nothing_that_comes_after_the_origin_changes_a_window(
    seed: int, cut: int, holes: float, most_missing: int | None
) -> None:
    candles = candles_of(400, seed=seed, holes=holes)
    cut = min(cut, candles.height - 1)
    later = np.where(np.arange(candles.height) < cut, 1.0, 1.7)
    perturbed = candles.with_columns(pl.col(c) * later for c in ("open", "high", "low", "close"))
    spec = SequenceSpec(timeframes=(H1, H4, D1), length_bars=10, stride_bars=2, most_missing_bars=most_missing)
    origins = []
    for frame in (candles, perturbed, candles.head(cut)):
        arrays = arrays_of(frame, spec.timeframes)
        rows = every_row(arrays)
        windows = sequence_windows(rows.take(rows.rows < cut), spec).windows
        origins.append((windows.rows, {tf: windows.sequence(tf, spec) for tf in spec.timeframes}))
    for rows, sequences in origins[1:]:
        np.testing.assert_array_equal(rows, origins[0][0])
        for frame, values in sequences.items():
            np.testing.assert_array_equal(values, origins[0][1][frame])


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), holes=st.sampled_from([0.0, 0.4]))
def test_every_bar_in_a_window_is_known_at_the_origin_and_the_last_one_is_the_newest(seed: int, holes: float) -> None:
    arrays = arrays_of(candles_of(700, seed=seed, holes=holes), (H1, H4, D1))
    clocks = {
        frame: replace(bars, values=seconds(bars.known_utc), names=("known",), price_columns=())
        for frame, bars in arrays.sequences.items()
    }
    spec = SequenceSpec(timeframes=(H1, H4, D1), length_bars=10)
    windows = sequence_windows(every_row(replace(arrays, sequences=clocks)), spec).windows
    origin = seconds(arrays.known_utc[windows.rows])
    for frame in spec.timeframes:
        known = windows.sequence(frame, spec)[:, :, 0]
        assert (known <= origin).all(), "no bar of the window closes after the origin"
        everything = seconds(clocks[frame].known_utc)[:, 0]
        newest = everything[np.searchsorted(everything, origin[:, 0], side="right") - 1]
        np.testing.assert_array_equal(known[:, -1], newest)
        assert (np.diff(known, axis=1) > 0).all()


def seconds(times: np.ndarray) -> np.ndarray:
    return times.astype("datetime64[s]").astype(np.float64)[:, None]


@pytest.mark.parametrize("length", [10, 100, 500])
def test_short_and_long_windows_both_work(length: int) -> None:
    arrays = arrays_of(candles_of(700), (H1,))
    spec = SequenceSpec(timeframes=(H1,), length_bars=length)
    found = sequence_windows(every_row(arrays), spec)
    assert found.short_history == length - 1
    assert found.windows.sequence(H1, spec).shape == (700 - length + 1, length, 4)


def test_contexts_of_the_same_span_cover_what_the_shortest_covers() -> None:
    spec = SequenceSpec(timeframes=(H4, M5, H1, M15), length_bars=500, same_span=True)
    assert spec.lengths_bars == {M5: 500, M15: 166, H1: 41, H4: 10}
    for frame, length in spec.lengths_bars.items():
        assert 0 <= 500 * M5.seconds - length * frame.seconds < frame.seconds, "as many whole bars as fit"
    with pytest.raises(BadInput, match="100 bars of M5 span only 8 of H1, at least 10 are needed"):
        SequenceSpec(timeframes=(M5, H1), length_bars=100, same_span=True)


def test_prices_become_log_returns_from_the_origin_and_lose_their_scale() -> None:
    candles = candles_of(300)
    yen = candles.with_columns(pl.col("open", "high", "low", "close") * 128.0)
    spec = SequenceSpec(timeframes=(H1, H4), length_bars=20)
    dollar, other = (every_row(arrays_of(c, (H1, H4))).take(np.arange(150, 300)) for c in (candles, yen))
    for frame in spec.timeframes:
        windows = dollar.sequence(frame, spec)
        np.testing.assert_allclose(windows, other.sequence(frame, spec), atol=1e-12)
        raw = dollar.sequence(frame, replace(spec, relative_prices=False))
        np.testing.assert_allclose(windows, np.log(raw / candles["close"].to_numpy()[150:, None, None]), atol=1e-15)
    assert (dollar.sequence(H1, spec)[:, -1, 3] == 0).all(), "the last close is the origin itself"


def test_only_prices_are_made_relative() -> None:
    candles = candles_of(80)
    arrays = market_arrays("EURUSD", H1, candles, candles.select("ts_utc"), (1,))
    arrays = with_sequences(arrays, candles, (H1,), columns=("close", "volume"))
    windows = every_row(arrays).take(np.arange(40, 80)).sequence(H1, SequenceSpec(timeframes=(H1,), length_bars=10))
    np.testing.assert_array_equal(windows[-1, :, 1], candles["volume"].to_numpy()[-10:])


def test_rows_that_cannot_be_built_are_counted_by_reason_and_add_up() -> None:
    candles = candles_of(400)
    holed = candles.filter(~pl.int_range(pl.len()).is_between(200, 229))  # 30 bars absent
    holed = holed.with_columns(volume=pl.when(pl.int_range(pl.len()) == 300).then(None).otherwise(pl.col("volume")))
    arrays = market_arrays("EURUSD", H1, holed, holed.select("ts_utc"), (1,))
    arrays = with_sequences(arrays, holed, (H1,), columns=("close", "volume"))
    spec = SequenceSpec(timeframes=(H1,), length_bars=20, stride_bars=3, most_missing_bars=5)
    found = sequence_windows(every_row(arrays), spec)
    assert (found.short_history, found.not_finite, found.missing_bars) == (19, 20, 19)
    assert found.strided_over + len(found.windows) + 19 + 20 + 19 == 370
    assert found.line.endswith(f"20 with unknown values, 19 across holes, {found.strided_over} by the stride")
    assert np.isfinite(found.windows.sequence(H1, spec)).all()
    spans = slot(arrays.ts_utc, H1)[found.windows.rows] - slot(arrays.ts_utc, H1)[found.windows.rows - 19]
    assert (spans == 19).all(), "no window reaches across the hole"
    assert sequence_windows(every_row(arrays), replace(spec, most_missing_bars=None)).missing_bars == 0


def test_a_weekend_is_no_hole() -> None:
    arrays = arrays_of(candles_of(360), (H1,))
    spec = SequenceSpec(timeframes=(H1,), length_bars=50, most_missing_bars=0)
    assert len(sequence_windows(every_row(arrays), spec).windows) == 360 - 49


def test_a_timeframe_without_a_closed_bar_leaves_no_window() -> None:
    arrays = arrays_of(candles_of(60), (H1, W1))
    assert (arrays.sequence(W1).newest == -1).all()
    spec = SequenceSpec(timeframes=(H1, W1), length_bars=10, most_missing_bars=0)
    found = sequence_windows(every_row(arrays), spec)
    assert len(found.windows) == 0
    assert found.short_history == 60
    assert list(sequence_batches(found.windows, spec)) == []
    assert found.windows.sequence(W1, spec).shape == (0, 10, 4)


def test_even_origins_are_a_view_and_copy_nothing() -> None:
    arrays = with_feature_sequence(arrays_of(candles_of(600), (H4,)))
    spec = SequenceSpec(timeframes=(H1,), length_bars=50, spacing_bars=2, stride_bars=7)
    windows = sequence_windows(every_row(arrays), spec).windows
    view = windows.sequence(H1, spec)
    assert np.shares_memory(view, arrays.features)
    assert not view.flags.writeable
    uneven = windows.take(np.array([0, 1, 4]))
    np.testing.assert_array_equal(uneven.sequence(H1, spec), view[[0, 1, 4]])
    assert not np.shares_memory(uneven.sequence(H1, spec), arrays.features)


@settings(deadline=None, max_examples=15)
@given(batch_rows=st.integers(1, 90), seed=st.integers(0, 99))
def test_batches_are_the_windows_whatever_their_size_and_order(batch_rows: int, seed: int) -> None:
    arrays = arrays_of(candles_of(260), (H1, H4))
    spec = SequenceSpec(timeframes=(H1, H4), length_bars=20)
    windows = sequence_windows(every_row(arrays), spec).windows
    whole = {frame: windows.sequence(frame, spec).astype(np.float32) for frame in spec.timeframes}
    for shuffle in (None, np.random.default_rng(seed)):
        batches = list(sequence_batches(windows, spec, batch_rows=batch_rows, shuffle=shuffle))
        assert max(len(batch.windows) for batch in batches) <= batch_rows
        rows = np.concatenate([batch.windows.rows for batch in batches])
        np.testing.assert_array_equal(np.sort(rows), windows.rows)
        order = np.searchsorted(windows.rows, rows)
        for frame in spec.timeframes:
            together = np.concatenate([batch.sequences[frame] for batch in batches])
            assert together.dtype == np.float32
            np.testing.assert_array_equal(together, whole[frame][order])
    again = list(sequence_batches(windows, spec, batch_rows=batch_rows, shuffle=np.random.default_rng(seed)))
    np.testing.assert_array_equal(np.concatenate([batch.windows.rows for batch in again]), rows)


def test_a_scaler_of_sequences_is_fitted_on_bars_known_by_the_last_training_origin() -> None:
    candles = candles_of(1200)
    arrays = arrays_of(candles, (H1, H4))
    train = evidence_parts(usable(arrays, matured=True), SplitShares()).train
    for frame in (H1, H4):
        values = known_values(train, frame)
        bars = arrays.sequence(frame)
        assert bars.known_utc[values.shape[0] - 1] <= arrays.known_utc[train.rows[-1]]
        assert bars.known_utc[values.shape[0]] > arrays.known_utc[train.rows[-1]]


def test_a_finer_timeframe_than_the_base_aligns_at_the_same_close() -> None:
    fine = candles_of(1200, timeframe=M15)
    base = resample(fine, M15, H1)
    arrays = market_arrays("EURUSD", H1, base, base.select("ts_utc"), (1,))
    quarter = bar_sequence(
        fine.select("ts_utc", "close"), M15, base_open_utc=arrays.ts_utc, base=H1, price_columns=("close",)
    )
    arrays = replace(arrays, sequences={M15: quarter})
    spec = SequenceSpec(timeframes=(M15,), length_bars=10)
    windows = sequence_windows(every_row(arrays), spec).windows
    assert (windows.sequence(M15, spec)[:, -1, 0] == 0).all(), "the last quarter closes with the hour"
    np.testing.assert_array_equal(quarter.known_utc[quarter.newest], bar_close(arrays.ts_utc, H1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length_bars": 9}, "length_bars must be a whole number from 10 to 500, was 9"),
        ({"length_bars": 501}, "from 10 to 500"),
        ({"length_bars": 20.0}, "from 10 to 500"),
        ({"stride_bars": 0}, "stride_bars must be a whole number of 1 or more, was 0"),
        ({"spacing_bars": 0}, "spacing_bars"),
        ({"spacing_bars": True}, "spacing_bars"),
        ({"most_missing_bars": -1}, "most_missing_bars"),
        ({"timeframes": ()}, "one or more different timeframes"),
        ({"timeframes": (H1, H1)}, "one or more different timeframes"),
        ({"timeframes": ("H7",)}, "unknown timeframe"),
    ],
)
def test_an_unlawful_spec_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ForexGPTError, match=message):
        SequenceSpec(**{"timeframes": (H1,), **options})


def test_bad_requests_say_what_to_do() -> None:
    candles = candles_of(100)
    arrays = arrays_of(candles, (H1,))
    rows, spec = every_row(arrays), SequenceSpec(timeframes=(H1,), length_bars=30)
    with pytest.raises(BadInput, match="29 of 100 origins have fewer than 30 closed H1 bars behind them"):
        rows.sequence(H1, spec)
    with pytest.raises(BadInput, match="the sequence spec has no H4, only H1"):
        rows.sequence(H4, spec)
    with pytest.raises(NotReady, match=r"EURUSD has no H4 sequence \(held: H1\)"):
        rows.sequence(H4, SequenceSpec(timeframes=(H4,)))
    with pytest.raises(BadInput, match="batch_rows must be 1 or more"):
        next(sequence_batches(rows, spec, batch_rows=0))
    with pytest.raises(BadInput, match="must come from the candles its rows were made of"):
        with_sequences(arrays, candles.tail(99), (H1,))
    with pytest.raises(BadInput, match="no column spread"):
        with_sequences(arrays, candles, (H1,), columns=("close", "spread"))
    with pytest.raises(BadInput, match="target must be the longer"):
        with_sequences(arrays, candles, (M5,))
    with pytest.raises(BadInput, match="strictly increasing"):
        bar_sequence(candles.reverse(), H1, base_open_utc=arrays.ts_utc, base=H1)
    with pytest.raises(BadInput, match="prices of a H1 sequence must be above 0"):
        bar_sequence(
            candles.select("ts_utc", close=pl.lit(0.0)),
            H1,
            base_open_utc=arrays.ts_utc,
            base=H1,
            price_columns=("close",),
        )
    with pytest.raises(BadInput, match="cannot hold values of shape"):
        replace(arrays.sequence(H1), values=np.ones((3, 4)))


def test_the_arrays_of_every_other_family_hold_no_sequence() -> None:
    candles = candles_of(50)
    arrays = market_arrays("EURUSD", H1, candles, candles.select("ts_utc"), (1,))
    assert arrays.sequences == {}


@pytest.mark.skipif(not EURUSD_M1.exists(), reason="the real M1 candles are not here")
def test_half_a_million_real_windows_of_500_bars_hold_no_more_than_their_bars() -> None:
    candles = pl.read_parquet(EURUSD_M1)
    noise = np.random.default_rng(0).normal(size=(candles.height, 30))
    features = pl.DataFrame({"ts_utc": candles["ts_utc"], **{f"f{i}": noise[:, i] for i in range(30)}})
    plain = market_arrays("EURUSD", Timeframe.M1, candles, features, (1, 60))
    arrays = with_sequences(with_feature_sequence(plain), candles, (H1,))
    bars: BarSequence = arrays.sequence(Timeframe.M1)
    assert bars.values is arrays.features, "the sequence is the feature table itself"
    held = sum(sequence.nbytes for sequence in arrays.sequences.values()) - arrays.features.nbytes
    assert held < 20_000_000, "two positions per bar, one time, and the hourly bars"
    spec = SequenceSpec(timeframes=(Timeframe.M1, H1), length_bars=500, relative_prices=False)
    windows = sequence_windows(every_row(arrays), spec).windows
    assert len(windows) > 600_000
    view = windows.sequence(Timeframe.M1, spec)
    assert view.nbytes > 70e9, "what copies would have cost"
    assert np.shares_memory(view, arrays.features)
    batch = next(sequence_batches(windows, spec, batch_rows=64, shuffle=np.random.default_rng(1)))
    assert sum(values.nbytes for values in batch.sequences.values()) == 64 * 500 * (30 + 4) * 4
    ends = batch.windows.rows
    np.testing.assert_array_equal(batch.sequences[Timeframe.M1][:, -1], arrays.features[ends].astype(np.float32))


def test_origins_of_a_batch_know_nothing_of_later_parts() -> None:
    arrays = arrays_of(candles_of(1500), (H1, H4))
    spec = SequenceSpec(timeframes=(H1, H4), length_bars=20, stride_bars=4)
    parts = evidence_parts(usable(arrays, matured=True), SplitShares())
    counted = [sequence_windows(part, spec).windows for part in (parts.train, parts.valid, parts.test)]
    for earlier, later in pairwise(counted):
        assert arrays.label_end_utc[earlier.rows].max() <= arrays.known_utc[later.rows[0]]
    assert counted[2].rows[0] == parts.test.rows[0], "a later part has its history in the earlier ones"
