"""Long downloads show where they are: in the run's log always, as a bar only on a terminal."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from forexgpt_assets.progress import bar_on_terminal, progress_of
from forexgpt_core.candles.ingest import Step

STEPS = [
    Step(done=n, total=3, what=f"2018-0{n}-01 to 2018-0{n + 1}-01", fetched_rows=500 * n, inserted=500 * n)
    for n in (1, 2, 3)
]


@contextmanager
def terminal() -> Iterator[list[bytes]]:
    """Make stderr a real terminal and yield what it shows, piece by piece; whole afterwards."""
    outer, inner = os.openpty()
    shown: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(outer, 4096):
                shown.append(piece)
        except OSError:  # the other side is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    before = sys.stderr
    with os.fdopen(inner, "w") as stream:
        sys.stderr = stream
        try:
            yield shown
        finally:
            sys.stderr = before
    reader.join(timeout=10)
    os.close(outer)


def test_a_terminal_shows_a_bar_with_the_pieces_and_the_new_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    context = dg.build_asset_context()
    with terminal() as shown, bar_on_terminal("candles of EURUSD"):
        for step in STEPS:
            progress_of(context)(step)
    text = b"".join(shown).decode()
    assert "candles of EURUSD" in text
    assert "3/3" in text
    assert "1500 new bars" in text


def test_nothing_is_drawn_where_stderr_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        context = dg.build_asset_context()
        with bar_on_terminal("candles of EURUSD"):
            progress_of(context)(STEPS[0])
        monkeypatch.undo()
    assert "candles of EURUSD" not in (tmp_path / "stderr").read_text()
