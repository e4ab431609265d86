"""The explorer's page as text: what it embeds, what it refuses, and that thinning keeps what a curve says."""

import html
import json
import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explorer_documents import front, trades
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forexgpt_core.errors import BadInput
from forexgpt_core.reporting.explorer import explorer_page
from forexgpt_core.reporting.explorer_data import MOST_POINTS, MOST_TRADES, explorer_json, thin
from forexgpt_core.reporting.explorer_document import Curve, ExplorerDocument, ExplorerMember

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{DATA}}&amp;'"


def embedded(document: ExplorerDocument) -> dict[str, Any]:
    """Return the data as the page carries it, found as a browser finds it: up to the next end of a script."""
    [found] = re.findall(r'<script type="application/json" id="data">(.*?)</script', explorer_page(document), re.DOTALL)
    return dict(json.loads(found))


def decoded(times: dict[str, Any]) -> list[int]:
    return np.cumsum([times["start"], *(step * times["unit"] for step in times["steps"])]).tolist()


def deepest_fall(values: np.ndarray) -> float:
    return float((1 - values / np.maximum.accumulate(values)).max())


@given(
    st.one_of(
        arrays(np.float64, st.integers(9, 400), elements=st.floats(1, 1e6)),
        st.integers(0, 2**32 - 1).map(lambda s: np.exp(np.cumsum(np.random.default_rng(s).normal(0, 0.05, 300)))),
    ),
    st.integers(8, 60),
)
def test_a_thinned_curve_has_the_ends_the_range_and_the_deepest_fall_of_the_whole(
    values: np.ndarray, most: int
) -> None:
    rows = thin(values, most)
    drawn = values[rows]
    assert rows.size <= max(most, 0)
    assert (np.diff(rows) > 0).all()
    assert rows[0] == 0
    assert rows[-1] == values.size - 1
    assert drawn.min() == values.min()
    assert drawn.max() == values.max()
    assert deepest_fall(drawn) == deepest_fall(values)


def test_a_short_curve_is_drawn_whole() -> None:
    assert thin(np.arange(50.0), 50).tolist() == list(range(50))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80), st.integers(0, 10**12), st.sampled_from([1, 60_000]))
def test_times_come_back_to_the_millisecond(steps: list[int], start: int, unit: int) -> None:
    times = np.cumsum([start, *(step * unit for step in steps)]).tolist()
    document = front(1)
    curve = Curve(times, np.linspace(99_000.125, 101_000, len(times)).tolist())
    carried = json.loads(explorer_json(replace(document, members=[replace(document.members[0], searched=curve)])))
    told = carried["members"][0]["searched"]
    assert decoded(told["times"]) == times
    assert told["values"] == pytest.approx(list(curve.values), abs=0.006)  # cents


def test_fifty_long_members_stay_small_and_their_trades_are_counted() -> None:
    document = front(50, bars=31_000, count=1_500)
    page = explorer_page(document)
    assert len(page.encode()) < 8e6
    for member in embedded(document)["members"]:
        assert member["trades"]["total"] == 1_500
        assert len(member["trades"]["lots"]) == MOST_TRADES
        assert len(member["searched"]["values"]) <= MOST_POINTS


def test_trades_come_back_as_they_were() -> None:
    document = front(2)
    told = embedded(document)["members"][1]["trades"]
    given_trades = document.members[1].trades
    entries = decoded(told["entry"])
    assert entries == [trade.entry_ms for trade in given_trades]
    held = [step * told["held"]["unit"] for step in told["held"]["steps"]]
    assert [a + b for a, b in zip(entries, held, strict=True)] == [trade.exit_ms for trade in given_trades]
    assert told["profit"] == [trade.profit for trade in given_trades]
    assert told["entry_price"] == [trade.entry_price for trade in given_trades]
    for name in ("side", "exit_reason"):
        words = [told[name]["words"][row] for row in told[name]["rows"]]
        assert words == [getattr(trade, name) for trade in given_trades]


def test_a_hostile_name_stays_a_name() -> None:
    document = front(3)
    spiked = replace(document.members[0], parameters={HOSTILE: HOSTILE}, in_sample={HOSTILE: 1.0})
    hostile = replace(
        document,
        symbol=HOSTILE,
        study=HOSTILE,
        money=HOSTILE,
        notes=[HOSTILE],
        overfitting={HOSTILE: HOSTILE},
        picks={HOSTILE: document.members[0].hash12},
        members=[spiked, *document.members[1:]],
    )
    page = explorer_page(hostile)
    assert page.count("<script") == explorer_page(document).count("<script")
    assert "<img src=x" not in page
    assert html.escape(HOSTILE, quote=True) in page
    told = embedded(hostile)
    assert told["symbol"] == HOSTILE
    assert told["members"][0]["parameters"] == {HOSTILE: HOSTILE}


def test_what_is_not_finite_becomes_null() -> None:
    document = front(1)
    spiked = replace(
        document.members[0],
        in_sample={"sharpe": math.nan, "return_pct": math.inf, "trades": np.int64(3), "sortino": np.float64("nan")},
        probabilistic_sharpe=math.nan,
    )
    [told] = embedded(replace(document, members=[spiked], best_of_worthless=math.nan))["members"]
    assert told["in"] == {"sharpe": None, "return_pct": None, "trades": 3, "sortino": None}
    assert told["verdict"]["probabilistic_sharpe"] is None


def test_the_honest_line_says_what_is_known() -> None:
    known = "5,500 configurations were tried; the best of as many worthless ones would show a Sharpe of 2.31."
    assert known in explorer_page(front(2))
    assert "1 configuration was tried; too few to say" in explorer_page(front(2, trials=1, best_of_worthless=None))


def test_an_empty_front_gives_a_small_page_that_says_so() -> None:
    page = explorer_page(front(0))
    assert "The front is empty" in page
    assert "5,500 configurations were tried" in page
    assert len(page) < 20_000


def test_an_installed_package_carries_the_files_of_the_page() -> None:
    root = Path(__file__).parents[1]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    carried = {file for pattern in patterns["forexgpt_core"] for file in (root / "forexgpt_core").glob(pattern)}
    assert carried >= set((root / "forexgpt_core" / "reporting" / "explorer_page").iterdir())


def test_no_address_is_asked_for_and_only_our_own_scripts_may_run() -> None:
    page = explorer_page(front(1))
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert not re.search(r"<(?:script|link|img)[^>]*(?:src|href)=[\"']?https?:", page)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hash12": "<b>"}, "12 hex digits"),
        ({"parameters": {}}, "no parameters"),
        ({"searched": Curve([0, 1], [1.0])}, "2 times and 1 values"),
        ({"later": Curve([5, 5], [1.0, 2.0])}, "strictly increasing"),
        ({"later": Curve([0.5, 1.5], [1.0, 2.0])}, "whole milliseconds"),
        ({"later": Curve([0, 1], [1.0, math.nan])}, "1 values that are not finite"),
    ],
)
def test_a_member_that_cannot_be_shown_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        replace(front(1).members[0], **change)


def test_trades_out_of_order_are_refused() -> None:
    mixed = trades(np.random.default_rng(0), 5, 100, 0)[::-1]
    with pytest.raises(BadInput, match="order of entry"):
        replace(front(1).members[0], trades=mixed)


def test_a_front_that_contradicts_itself_is_refused() -> None:
    document = front(2)
    one: ExplorerMember = document.members[0]
    with pytest.raises(BadInput, match="share 1 hashes"):
        replace(document, members=[one, one], picks={})
    with pytest.raises(BadInput, match="not on the front"):
        replace(document, picks={"knee": "0123456789ab"})
