"""Settings of a pair: exact round trips, one-line refusals."""

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forexgpt_core.deployment.symbol_settings import DriftSettings, Source, SymbolSettings, default_settings
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.instruments import INSTRUMENTS
from forexgpt_core.ensemble.regimes import RegimeSettings
from forexgpt_core.errors import BadInput, ForexGPTError, UnknownName
from forexgpt_core.strategy.event_guard import EventGuard

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), NUMBERS, TEXTS, st.lists(NUMBERS, max_size=3)
)


@given(
    symbol=st.sampled_from(sorted(INSTRUMENTS)),
    timeframe=st.sampled_from(["M15", "H1", "H4", "D1"]),
    horizons=st.sets(st.integers(1, 500), min_size=1, max_size=5),
    options=st.dictionaries(TEXTS, VALUES, max_size=3),
    spread=st.floats(0, 50),
    cash=st.floats(1e-3, 1e12),
    path=st.one_of(st.none(), TEXTS.filter(bool)),
    seed=st.integers(0, 2**31 - 1),
)
def test_yaml_and_documents_come_back_exactly(
    symbol: str,
    timeframe: str,
    horizons: set[int],
    options: dict[str, object],
    spread: float,
    cash: float,
    path: str | None,
    seed: int,
) -> None:
    settings = SymbolSettings(
        symbol=symbol,
        timeframe=timeframe,
        source=Source(kind="none" if path is None else "file", path=path),
        horizons_bars=tuple(sorted(horizons)),
        family_options={"boosting": options},
        costs=Costs(spread_pips=spread),
        cash=cash,
        seed=seed,
    )
    assert SymbolSettings.from_yaml(settings.to_yaml()) == settings
    assert SymbolSettings.from_document(settings.to_document()) == settings
    assert SymbolSettings.from_yaml(settings.to_yaml()).hash12 == settings.hash12


def test_what_yaml_leaves_out_has_its_default() -> None:
    assert SymbolSettings.from_yaml("symbol: USDJPY") == default_settings("usd/jpy")
    assert default_settings("EURUSD").source.kind == "sample"
    assert default_settings("USDJPY").source["kind"] == "none"
    nested = SymbolSettings.from_yaml("symbol: EURUSD\ncosts: {spread_pips: 2}\n")
    assert nested.costs == Costs(spread_pips=2.0)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("null", None), ("{}", RegimeSettings()), ("{trend_bars: 60}", RegimeSettings(trend_bars=60))],
)
def test_regimes_are_off_or_have_settings_of_their_own(written: str, meant: RegimeSettings | None) -> None:
    settings = SymbolSettings.from_yaml(f"symbol: EURUSD\nensemble: {{method: boa, regimes: {written}}}\n")
    assert (settings.ensemble.method, settings.ensemble.regimes) == ("boa", meant)
    assert SymbolSettings.from_yaml(settings.to_yaml()) == settings


def test_a_day_may_be_written_without_quotes() -> None:
    for text in ("2018-01-31", "'2018-01-31'"):
        settings = SymbolSettings.from_yaml(f"symbol: EURUSD\nsource: {{start: {text}}}\n")
        assert settings.source.start == "2018-01-31"
        assert SymbolSettings.from_yaml(settings.to_yaml()) == settings


def test_money_of_yen_pairs_is_in_yen() -> None:
    plain, yen = default_settings("EURUSD"), default_settings("EURJPY")
    assert (yen.cash, yen.costs.commission_per_lot) == (1_000_000.0, 350.0)
    assert (plain.cash, plain.costs.commission_per_lot) == (10_000.0, 3.5)
    shares = [s.costs.round_trip_return(s.symbol, price) for s, price in ((plain, 1.2), (yen, 132.0))]
    assert shares[1] == pytest.approx(shares[0], rel=0.2), "a round trip costs a like share of the money moved"
    given = SymbolSettings.from_yaml("symbol: EURJPY\ncash: 5\ncosts: {commission_per_lot: 0, spread_pips: 2}\n")
    assert (given.cash, given.costs) == (5.0, Costs(commission_per_lot=0.0, spread_pips=2.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("symbol: EURUSD\ncostss: {}", "unknown setting 'costss'; did you mean 'costs'?"),
        ("symbol: EURJPY\ncosts: 3", "'costs' must be a mapping"),
        ("symbol: EURUSD\ncosts: {spread_pip: 1}", "unknown setting 'costs.spread_pip'; did you mean 'spread_pips'?"),
        ("symbol: EURUSD\ncash: abc", "'cash' must be a number, was 'abc'"),
        ("symbol: EURUSD\ncash: true", "'cash' must be a number, was True"),
        ("symbol: EURUSD\nseed: 1.5", "'seed' must be a whole number, was 1.5"),
        ("symbol: EURUSD\nseed: true", "'seed' must be a whole number, was True"),
        ("symbol: EURUSD\ndeployment: {allow_no_skill: 1}", "'deployment.allow_no_skill' must be true or false, was 1"),
        ("symbol: EURUSD\nhorizons_bars: 4", "'horizons_bars' must be a list, was 4"),
        ("symbol: EURUSD\nhorizons_bars: [4, 1]", "horizons_bars must be increasing"),
        ("symbol: EURUSD\nhorizons_bars: []", "horizons_bars must be increasing"),
        ("symbol: EURUSD\ncosts: 3", "'costs' must be a mapping of settings, was 3"),
        ("symbol: EURUSD\ncosts: {spread_pips: .inf}", "'costs.spread_pips' must be a finite number"),
        ("symbol: EURUSD\ncosts: {spread_pips: -1}", "costs.spread_pips must be 0 or more"),
        ("symbol: EURUSE", "unknown symbol 'EURUSE'; did you mean 'EURUSD'?"),
        ("symbol: eur/usd", "unknown symbol 'eur/usd'; write it EURUSD"),
        ("symbol: EURUSD\ntimeframe: H3", "unknown timeframe 'H3'"),
        ("symbol: EURUSD\nfamilies: [random_walk, bosting]", "unknown family 'bosting'; did you mean 'boosting'?"),
        ("symbol: EURUSD\nfamilies: [linear]", "families must name random_walk"),
        ("symbol: EURUSD\nfamilies: [random_walk, linear, linear]", "each one once"),
        ("symbol: EURUSD\nfamily_options: {bosting: {}}", "unknown family 'bosting'"),
        ("symbol: EURUSD\nfamily_options: {boosting: 3}", "'family_options.boosting' must be a mapping"),
        ("symbol: EURUSD\nrecipe: {indicator: {}}", "unknown recipe setting 'indicator'; did you mean 'indicators'"),
        ("symbol: EURUSD\nrecipe: {indicators: {rsj: {}}}", "unknown indicator 'rsj'; did you mean 'rsi'"),
        ("symbol: EURUSD\nrecipe: {start: 2020-01-01}", "'recipe.start' must hold text, numbers"),
        ("symbol: EURUSD\nsource: {kind: file}", "source.path belongs to kind 'file'"),
        ("symbol: EURUSD\nsource: {kind: files}", "unknown source.kind 'files'; did you mean 'file'?"),
        ("symbol: EURUSD\nsource: {start: 2018-13}", "source.start must be a day such as 2018-01-31, was '2018-13'"),
        ("symbol: EURUSD\nhold_back_bars: -1", "hold_back_bars and seed must be 0 or more"),
        ("symbol: EURUSD\nseed: 4294967296", "seed up to 2147483647"),
        ("symbol: EURUSD\nwalk_forward: {fold: 3}", "unknown setting 'walk_forward.fold'; did you mean 'folds'?"),
        ("symbol: EURUSD\nwalk_forward: {folds: 2.5}", "'walk_forward.folds' must be a whole number, was 2.5"),
        ("symbol: EURUSD\nwalk_forward: {kind: both}", "walk_forward.kind must be one of expanding, rolling"),
        ("symbol: EURUSD\nwalk_forward: null", "'walk_forward' must be a mapping of settings, was None"),
        ("symbol: EURUSD\ncalibration: {method: exact}", "calibration.method must be one of"),
        ("symbol: EURUSD\ncalibration: {adaptive: 1}", "'calibration.adaptive' must be true or false, was 1"),
        ("symbol: EURUSD\nensemble: {mode: best}", "mode must be one of weighted, mean, median, voting, was 'best'"),
        ("symbol: EURUSD\nensemble: {method: best}", "method must be one of equal, inverse_crps, ewa, boa, was 'best'"),
        ("symbol: EURUSD\nensemble: {least_weight: 1}", "least_weight must lie in [0, 1), was 1"),
        ("symbol: EURUSD\nensemble: {regimes: true}", "'ensemble.regimes' must be a mapping of settings, was True"),
        ("symbol: EURUSD\nensemble: {regimes: {trend: 3}}", "unknown setting 'ensemble.regimes.trend'"),
        ("symbol: EURUSD\nensemble: {regimes: {least_bars: 3}}", "least_bars must be at least 30, was 3"),
        ("symbol: EURUSD\ndrift: {drifted_share: 0}", "drift.drifted_share"),
        ("symbol: EURUSD\nguard: {event_minutes_before: -1}", "guard.event_minutes_before must lie in 0 to 1440"),
        ("symbol: EURUSD\nguard: {event_minutes_after: 1.5}", "'guard.event_minutes_after' must be a whole number"),
        ("symbol: EURUSD\nguard: {impact: huge}", "guard.impact must be one of low, medium, high, was 'huge'"),
        ("symbol: EURUSD\nguard: {event_minute_before: 5}", "did you mean 'event_minutes_before'?"),
        ("costs: {}", "symbol settings must have the setting 'symbol'"),
        ("[]", "symbol settings must be a mapping of settings"),
        ("a: [", "symbol settings: not valid YAML (line"),
        ("symbol: EURUSD\ncash: 5\ncash: 6", "symbol settings: the key 'cash' stands there twice (line 3): keep one"),
        ("", "symbol settings must be a mapping of settings, was None"),
        ("!!python/object/apply:os.system ['true']", "symbol settings: not valid YAML"),
    ],
)
def test_refusals_are_one_line_that_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        SymbolSettings.from_yaml(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_cannot_be_changed_from_outside() -> None:
    options: dict[str, dict[str, object]] = {"boosting": {"depth": 4}}
    settings = SymbolSettings(symbol="EURUSD", family_options=options)
    before = settings.hash12
    options["boosting"]["depth"] = 9
    assert settings.hash12 == before
    with pytest.raises(FrozenInstanceError):
        settings.cash = 3.0


def test_every_setting_is_part_of_the_hash() -> None:
    base = default_settings("EURUSD")
    others = [
        replace(base, cash=1.0),
        replace(base, drift=DriftSettings(current_bars=99)),
        replace(base, recipe={"indicators": {"rsi": {"bars": 9}}}),
        replace(base, hold_back_bars=1),
        replace(base, guard=EventGuard(event_minutes_before=30)),
        default_settings("USDJPY"),
    ]
    assert len({s.hash12 for s in [base, *others]}) == 7


def test_unknown_pairs_have_no_defaults() -> None:
    with pytest.raises(UnknownName):
        default_settings("EURXXX")
    with pytest.raises(ForexGPTError):
        SymbolSettings(symbol="EURXXX")
