"""Each page in a real browser: without errors, for everyone, in light and dark, without scripts, in a narrow window."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from tests.console.visiting import Visitor, addresses

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from playwright.sync_api import Page
    from tests.console.conftest import Made

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NARROW = {"width": 360, "height": 740}
_SHOWN = "el => el.scrollWidth"


@pytest.fixture(scope="module")
def pages(page_url: str, made: Made) -> dict[str, str]:
    """An address of each page, by its route; all are reached by links from the start page."""
    found = addresses(Visitor(page_url), [f"/compare?run={made.good.run_id}&run={made.worse.run_id}", "/login"])
    assert len(found) > 12, found
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_are_for_everyone(
    pages: dict[str, str], tab: Callable[..., AbstractContextManager[Page]], *, dark: bool
) -> None:
    """axe-core finds nothing on any page; no page reports errors, violates its policy, or asks another host."""
    found: list[str] = []
    with tab(dark=dark) as page:
        for route, address in pages.items():
            page.goto(address)
            results = Axe().run(page, context={"exclude": ["iframe"]})
            found += [
                f"{route}: {one['id']}: {node['html']}"
                for one in results.response["violations"]
                for node in one["nodes"]
            ]
    assert found == []


def test_pages_fit_narrow_windows(pages: dict[str, str], tab: Callable[..., AbstractContextManager[Page]]) -> None:
    """In a window of 360 pixels no page scrolls sideways as a whole, and links and buttons stay within it."""
    wide: list[str] = []
    with tab(viewport=NARROW) as page:
        for route, address in pages.items():
            page.goto(address)
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > NARROW["width"]:
                wide.append(f"{route}: {width}")
    assert wide == []


def test_pages_work_without_scripts(pages: dict[str, str], tab: Callable[..., AbstractContextManager[Page]]) -> None:
    """Without JavaScript each page shows what it shows with it."""
    with tab() as with_scripts, tab(java_script_enabled=False) as without:
        for route, address in pages.items():
            with_scripts.goto(address)
            without.goto(address)
            texts = [one.locator("main").inner_text() for one in (with_scripts, without)]
            words = [set(re.findall(r"[A-Za-z가-힣]{4,}", text)) for text in texts]
            assert words[0] - words[1] <= {"Sending"}, route


def test_keyboard(made: Made, tab: Callable[..., AbstractContextManager[Page]]) -> None:
    """The first Tab leads to a link that skips the navigation; what has the focus is outlined."""
    with tab() as page:
        page.goto(f"/runs/{made.good.run_id}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.getElementById('main').contains(document.activeElement)")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
