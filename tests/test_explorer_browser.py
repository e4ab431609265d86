"""The explorer as a person uses it: a real Chromium, from a file, with the network off."""

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from browser import running_browser
from explorer_documents import front

from forexgpt_core.cli.main import build_app
from forexgpt_core.reporting.explorer import explorer_page
from forexgpt_core.reporting.explorer_document import ExplorerDocument

DOCUMENT = front(12)
HASHES = [member.hash12 for member in DOCUMENT.members]
ROWS = "#members tbody tr"
PLOTTED = "document.getElementById('front').data.find(trace => trace.name === 'members')"
OWNED = "document.documentElement.dataset.owned = 'yes'"
HOSTILE = f'</script><img src=x onerror="{OWNED}"><script>{OWNED}</script>'

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as found:
        yield found


@contextmanager
def watched(browser: Any, folder: Path) -> Iterator[Open]:
    """Open pages that may ask for nothing and complain of nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(15_000)
    asked: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda request: asked.append(request.url.split("#")[0]))

    def open_(
        document: ExplorerDocument = DOCUMENT, *, at: str = "", name: str = "front.html", wait: bool = True
    ) -> Any:
        file = folder / name
        if not file.exists():
            file.write_text(explorer_page(document), encoding="utf-8")
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{file.as_uri()}{at}")
        if document.members and wait:
            page.wait_for_selector("html[data-ready=yes]")
        return page

    yield open_
    context.close()
    assert complaints == []
    assert set(asked) == {file.as_uri() for file in folder.glob("*.html")}, "it asked for more than itself"


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Open pages of one's own."""
    with watched(browser, tmp_path) as open_:
        yield open_


@pytest.fixture(scope="module")
def shared_page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with watched(browser, tmp_path_factory.mktemp("front")) as open_:
        yield open_()


@pytest.fixture
def page(shared_page: Any) -> Any:
    """The page of DOCUMENT as its bare address shows it, without loading it once more."""
    shared_page.evaluate("history.replaceState(null, '', '#'); dispatchEvent(new Event('hashchange'))")
    shared_page.evaluate("document.activeElement.blur()")
    return shared_page


def shown(page: Any) -> list[str]:
    return list(page.eval_on_selector_all(f"{ROWS}[data-hash]", "rows => rows.map(row => row.dataset.hash)"))


def plotted(page: Any, axis: str) -> list[float]:
    return list(page.evaluate(f"{PLOTTED}.{axis}"))


def test_axes_show_any_figure_or_setting(page: Any) -> None:
    assert plotted(page, "x") == [member.in_sample["max_drawdown_pct"] for member in DOCUMENT.members]
    page.select_option("#x", "in.sharpe")
    page.select_option("#y", "out.sharpe")
    page.select_option("#colour", "parameters.sizing")
    assert plotted(page, "x") == [member.in_sample["sharpe"] for member in DOCUMENT.members]
    assert plotted(page, "y") == [member.out_of_sample["sharpe"] for member in DOCUMENT.members]
    kinds = [("fraction", "volatility").index(member.parameters["sizing"]) for member in DOCUMENT.members]
    assert page.evaluate(f"{PLOTTED}.marker.color") == kinds
    page.select_option("#x", "verdict.deflated_sharpe")  # undefined for one of them
    assert plotted(page, "x") == [member.deflated_sharpe for member in DOCUMENT.members]


def test_those_that_fall_apart_and_picks_are_marked_in_plot_and_table(page: Any) -> None:
    crosses = ["x" if member.falls_apart else "circle" for member in DOCUMENT.members]
    assert page.evaluate(f"{PLOTTED}.marker.symbol") == crosses
    for member in DOCUMENT.members:
        text = page.locator(f"tr[data-hash='{member.hash12}'] td").first.inner_text()
        assert ("✕" in text) is member.falls_apart
    assert "knee, ideal point" in page.locator(ROWS).first.inner_text()
    drawn = page.evaluate("document.getElementById('front').layout.annotations.map(one => one.text)")
    assert sorted(drawn) == ["★ best Sharpe", "★ knee, ideal point", "★ lowest drawdown"]


def test_filters_narrow_table_and_plot_and_count(page: Any) -> None:
    assert page.inner_text("#count") == "12 of 12 shown"
    page.check("#hide")
    holding = [member.hash12 for member in DOCUMENT.members if not member.falls_apart]
    assert shown(page) == holding
    assert page.evaluate(f"{PLOTTED}.customdata") == holding
    assert page.inner_text("#count") == f"{len(holding)} of 12 shown"
    assert page.is_visible("#spent"), "choosing by what came later is called by its name"
    page.click("#reset")
    assert not page.is_visible("#spent")

    middle = sorted(member.in_sample["sharpe"] for member in DOCUMENT.members)[6]
    page.fill("#sharpe", str(middle))
    assert shown(page) == [m.hash12 for m in DOCUMENT.members if m.in_sample["sharpe"] >= middle]
    page.select_option("#part", "both")
    both = [m for m in DOCUMENT.members if min(m.in_sample["sharpe"], m.out_of_sample["sharpe"]) >= middle]
    assert shown(page) == [m.hash12 for m in both]
    page.fill("#sharpe", "")
    page.fill("#query", HASHES[4][:8])
    assert shown(page) == [HASHES[4]]
    page.fill("#trades", "1e9")
    assert shown(page) == []
    assert "No member passes" in page.inner_text(ROWS)
    page.keyboard.press("Escape")
    assert shown(page) == HASHES


def test_columns_sort_both_ways_and_what_is_undefined_stands_last(page: Any) -> None:
    known = {m.hash12: m.deflated_sharpe for m in DOCUMENT.members if m.deflated_sharpe is not None}
    for direction, backwards in (("descending", True), ("ascending", False)):
        page.click("th[data-key='verdict.deflated_sharpe'] button")
        assert page.get_attribute("th[data-key='verdict.deflated_sharpe']", "aria-sort") == direction
        *first, last = shown(page)
        assert first == sorted(known, key=known.__getitem__, reverse=backwards)
        assert last == HASHES[1]
    page.click("th[data-key='in.max_drawdown_pct'] button")
    falls = {m.hash12: m.in_sample["max_drawdown_pct"] for m in DOCUMENT.members}
    assert shown(page) == sorted(HASHES, key=falls.__getitem__), "the best drawdown is the smallest"


def test_the_keyboard_alone_leads_from_the_page_to_the_copied_command(page: Any) -> None:
    press = page.keyboard.press
    press("?")
    assert page.is_visible("#help")
    press("Escape")
    assert not page.is_visible("#help")
    press("/")
    page.keyboard.type(HASHES[3][:6])
    press("Enter")
    press("Enter")
    assert page.inner_text("#member .title .hash") == HASHES[3]
    press("Escape")
    for key in ("End", "ArrowUp", "ArrowUp", "ArrowDown", "Home", "ArrowDown", "ArrowDown", "Enter"):
        press(key)
    assert page.inner_text("#member .title .hash") == HASHES[2]
    assert page.get_attribute(f"tr[data-hash='{HASHES[2]}']", "aria-selected") == "true"

    tab_to(page, "by")
    page.keyboard.type("anna o'hara")
    tab_to(page, "reason")
    page.keyboard.type('it\'s $HOME; "flat" & `calm`')
    tab_to(page, "copy")
    press("Enter")
    page.locator("#copy", has_text="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.inner_text("#command")
    assert parsed(copied) == ("EURUSD", HASHES[2], "anna o'hara", 'it\'s $HOME; "flat" & `calm`')


def middle_of_last_point(page: Any) -> tuple[float, float]:
    spot = page.locator("#front .scatterlayer .trace .point").last.bounding_box()
    return spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2


def tab_to(page: Any, name: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"no way by Tab to {name}")


def parsed(command: str) -> tuple[str, str, str, str]:
    """Return what the real `forexgpt deploy` understands of a command."""
    program, verb, *arguments = shlex.split(command)
    assert program == "forexgpt"
    deploy = typer.main.get_group(build_app()).commands[verb]
    found = deploy.make_context(verb, arguments).params
    return found["symbol"], found["config"], found["by"], found["reason"]


def test_the_command_of_an_untouched_page_parses_too(opened: Open) -> None:
    page = opened(at=f"#selected={HASHES[0]}")
    page.keyboard.press("c")
    page.locator("#copy", has_text="Copied").wait_for()
    assert parsed(page.evaluate("navigator.clipboard.readText()")) == ("EURUSD", HASHES[0], "NAME", "TEXT")


def test_a_member_shows_its_account_figures_settings_and_trades(opened: Open) -> None:
    page = opened(front(2, count=500, seed=1))
    page.mouse.click(*middle_of_last_point(page))
    page.wait_for_selector("#equity .scatterlayer")
    assert page.evaluate("document.getElementById('equity').data.length") == 4
    [line] = page.evaluate("document.getElementById('equity').layout.shapes")
    member = next(m for m in DOCUMENT.members if m.hash12 == page.inner_text("#member .title .hash"))
    assert line["x0"] == member.later.times_ms[0]
    figures = page.inner_text("table[aria-label='Figures in and out of sample']")
    assert re.search(r"Sharpe\s+−?\d+\.\d+\s+−?\d+\.\d+\s+[+−]?\d+\.\d+", figures)
    assert "take profit scales" in page.inner_text("#member .parameters").lower()
    assert "2018-06 to 2018-11" in page.inner_text("table[aria-label='Figures of each later span']")
    assert page.inner_text("#trades-count") == "the newest 400 of 500"
    assert "page 27 of 27" in page.inner_text("#member .pager")
    page.click("#earlier")
    assert page.locator("#trades-table tbody tr").count() == 15


def test_it_works_in_the_sandboxed_frame_of_an_artifact_viewer(opened: Open, tmp_path: Path) -> None:
    opened()
    frame = '<!doctype html><iframe sandbox="allow-scripts" src="front.html" width="1250" height="780"></iframe>'
    (tmp_path / "viewer.html").write_text(frame)
    page = opened(name="viewer.html", wait=False)
    inner = page.frame_locator("iframe")
    inner.locator(ROWS).nth(1).click()
    inner.locator("#help-open").click()
    inner.locator("#help-close").click()
    inner.locator("#copy").click()
    inner.locator("#copy", has_text="Copied").wait_for()
    assert inner.locator("#command").inner_text().startswith(f"forexgpt deploy EURUSD {HASHES[1]} ")


def test_up_to_four_are_compared_and_a_link_opens_the_same_view(opened: Open) -> None:
    page = opened()
    page.select_option("#y", "out.sortino")
    page.locator(ROWS).first.focus()
    for _ in range(5):
        page.keyboard.press("Space")
        page.keyboard.press("ArrowDown")
    assert "4 members are compared already" in page.inner_text("#said")
    assert page.inner_text("#tab-compare") == "Compare (4)"
    assert page.evaluate("document.getElementById('overlay').data.length") == 16
    settings = page.inner_text("#compare-settings")
    assert all(hash12 in settings for hash12 in HASHES[:4])
    assert HASHES[4] not in settings
    assert page.locator("#compare-settings tr.same").count() == 1  # the distance unit

    again = opened(at=page.url[page.url.index("#") :])
    assert again.input_value("#y") == "out.sortino"
    assert again.inner_text("#compare-settings") == settings
    again.locator("h1").click()
    again.keyboard.press("Escape")
    assert again.inner_text("#tab-compare") == "Compare"


def test_a_hostile_name_is_shown_and_not_run(opened: Open) -> None:
    first, second, *others = DOCUMENT.members
    spiked = replace(
        first,
        parameters={**first.parameters, HOSTILE: HOSTILE, "constructor": 1, "__proto__": 2},
        in_sample={**first.in_sample, HOSTILE: 1.0},
        out_of_sample={**first.out_of_sample, HOSTILE: 2.0},
        trades=[first.trades[0]._replace(exit_reason=HOSTILE)],
    )
    document = replace(
        DOCUMENT, symbol=HOSTILE, notes=[HOSTILE], members=[spiked, second, *others], picks={HOSTILE: spiked.hash12}
    )
    page = opened(document, at=f"#x=in.{HOSTILE}&selected={spiked.hash12}", name="hostile.html")
    for axis in ("x", "y", "colour"):
        page.select_option(f"#{axis}", f"in.{HOSTILE}")
    page.select_option("#colour", f"parameters.{HOSTILE}")
    page.mouse.move(*middle_of_last_point(page))
    page.locator("#front .hoverlayer .hovertext").wait_for()
    page.locator(ROWS).first.focus()
    page.keyboard.press("Space")
    page.locator(ROWS).nth(1).focus()
    page.keyboard.press("Space")
    assert HOSTILE.lower() in page.inner_text("#compare-settings").lower()
    assert page.evaluate("document.documentElement.dataset.owned") is None
    assert page.locator("img").count() == 0
    page.click("#tab-member")
    assert shlex.split(page.inner_text("#command"))[2] == HOSTILE


def test_an_empty_front_and_a_front_of_unknowns_open_without_complaint(opened: Open) -> None:
    page = opened(front(0), name="empty.html")
    assert "The front is empty" in page.inner_text("main")
    bare = replace(
        DOCUMENT.members[0], parameters={"mode": "x"}, in_sample={"sharpe": None}, out_of_sample={}, trades=()
    )
    bare = replace(bare, probabilistic_sharpe=None, deflated_sharpe=None, later_spans={})
    page = opened(replace(DOCUMENT, members=[bare], picks={}), name="bare.html")
    page.locator(ROWS).first.click()
    assert "–" in page.inner_text("table[aria-label='Figures in and out of sample']")


@pytest.mark.parametrize(("scheme", "width", "height"), [("light", 1280, 800), ("dark", 1600, 1000)])
def test_nothing_overlaps_and_text_has_contrast(
    browser: Any, tmp_path: Path, scheme: str, width: int, height: int
) -> None:
    file = tmp_path / "front.html"
    file.write_text(explorer_page(DOCUMENT), encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{file.as_uri()}#selected={HASHES[2]}")
    page.wait_for_selector("#equity .scatterlayer")
    assert page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
        width,
        height,
    ]
    boxes = [page.locator(f"#choose > *:nth-child({place})").bounding_box() for place in (1, 2, 3, 4, 6)]
    for above, below in pairwise(boxes):
        assert above["y"] + above["height"] <= below["y"] + 0.5
    page.check("#hide")  # a warning takes room from the plot, which has to follow
    page.wait_for_timeout(300)
    assert page.is_visible("#spent")
    drawn, room = (page.locator(f"#front{inner}").bounding_box() for inner in (" .main-svg >> nth=0", ""))
    assert drawn["height"] <= room["height"]
    assert page.locator("#look").bounding_box()["x"] >= boxes[0]["x"] + boxes[0]["width"]
    colours = page.evaluate(
        "['page', 'card', 'text', 'soft', 'loss', 'win', 'later', 'pick', 'ink', 'row', 'loss-card'].map(name =>"
        " [name, getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()])"
    )
    tone = {name: luminance(colour) for name, colour in colours}
    for ground in ("page", "card", "row", "loss-card"):
        assert contrast(tone["text"], tone[ground]) >= 7
    for ink in ("soft", "loss", "win", "later", "pick", "ink"):
        assert contrast(tone[ink], tone["page"]) >= 4.5, ink
        assert contrast(tone[ink], tone["card"]) >= 4.5, ink
    context.close()


def luminance(colour: str) -> float:
    """Return the relative luminance of a hex colour, as WCAG 2 defines it."""
    digits = colour.lstrip("#")
    full = "".join(2 * one for one in digits) if len(digits) == 3 else digits
    channels = [int(full[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
