"""A real browser: the system's Chromium, without a window."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from playwright.sync_api import Browser, ConsoleMessage, Page

WAIT_MILLISECONDS = 30_000


@pytest.fixture(scope="module")  # its event loop would keep the process's other tests from running theirs
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or that of KFADAPTER_TEST_CHROMIUM; without it tests are skipped, in CI they fail."""
    program = os.environ.get("KFADAPTER_TEST_CHROMIUM") or shutil.which("chromium")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium is installed")
        pytest.skip("no Chromium: install the package chromium, or set KFADAPTER_TEST_CHROMIUM to its path")
    expect.set_options(timeout=WAIT_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])  # root has no sandbox
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Browser, page_url: str) -> Callable[..., AbstractContextManager[Page]]:
    """Opens a tab on the page, `tab(dark=True, ...)`. Errors and requests to other hosts fail the test at its end."""

    @contextmanager
    def open_tab(*, dark: bool = False, url: str = page_url, **options: Any) -> Iterator[Page]:  # noqa: ANN401  Playwright's
        problems: list[str] = []
        context = chromium.new_context(
            base_url=url, color_scheme="dark" if dark else "light", reduced_motion="reduce", **options
        )
        context.set_default_timeout(WAIT_MILLISECONDS)
        page = context.new_page()
        # A Content-Security-Policy that is violated is reported as an error, too; so is what is refused.
        page.on("console", lambda said: problems.append(said.text) if is_problem(said) else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda sent: None if is_ours(sent.url, url) else problems.append(f"asked {sent.url}"))
        try:
            yield page
        finally:
            context.close()
        assert problems == []

    return open_tab


def is_problem(said: ConsoleMessage) -> bool:
    """Whether a message reports an error, other than that of a wrong value, a missing adapter or a deleted run."""
    expected = [f"responded with a status of {status}" for status in (400, 503)]
    expected += ["responded with a status of 404"] if "/runs/" in said.location["url"] else []
    return said.type in {"error", "warning"} and not any(one in said.text for one in expected)


def is_ours(address: str, url: str) -> bool:
    """Whether a request goes to the page itself, or nowhere."""
    return urlsplit(address).scheme in {"data", "about", "blob"} or address.startswith(f"{url}/")
