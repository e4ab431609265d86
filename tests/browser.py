"""A real browser for the tests of pages, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """Return the path of a Chromium of this machine, or None."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@contextmanager
def running_browser() -> Iterator[Any]:
    """Yield a headless Playwright browser; skip the test where there is none."""
    sync = pytest.importorskip("playwright.sync_api", reason="no Playwright: the dev extra is not installed")
    found = find_browser()
    if found is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(_NAMES)}")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if root else [])
        try:
            yield browser
        finally:
            browser.close()
