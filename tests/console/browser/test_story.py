"""A whole story in a real browser, as a person clicks it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect
from tests.console.conftest import EXAMPLES, PIPELINES
from tests.console.visiting import page as served
from tests.legacy_http.calling import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ENDS_MILLISECONDS = 60_000
"""How long a run of the story may take."""
_DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  for (const kind of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""


def test_a_whole_story(tab: Callable[..., AbstractContextManager[Page]], tmp_path: Path) -> None:
    """A pipeline is dropped, a wrong value corrected, runs watched; one fails and is retried; two are compared."""
    with tab() as page:
        _upload(page, EXAMPLES / "metrics.yaml", "story")
        slopes = ("1.5", "2.5")
        for slope in slopes:
            _start(page, slope, is_first=slope == slopes[0])
            _ends(page, "SUCCEEDED")
        _download(page, tmp_path)
        _compare(page, slopes)
        _upload(page, PIPELINES / "fails_with_exit_handler.yaml", "failing story")
        page.get_by_role("link", name="Start a run").first.click()
        page.get_by_role("button", name="Start the run").click()
        _ends(page, "FAILED")
        expect(page.locator("main")).to_contain_text("broken on purpose")
        page.get_by_role("button", name="Retry").click()
        _ends(page, "FAILED")
        page.get_by_role("link", name="boom").first.click()
        expect(page.locator("main")).to_contain_text("RuntimeError: broken on purpose")


def test_the_adapter_restarts(embedded_url: str, tab: Callable[..., AbstractContextManager[Page]]) -> None:
    """While the adapter is away a page says so, and shows what was wanted once it is back, by itself."""
    with serving(embedded_url) as first:
        address = first.address
    with served(address) as visitor, tab(url=visitor.url) as page:
        page.goto("/pipelines")
        expect(page.get_by_role("heading", level=1)).to_have_text("The adapter is unreachable")
        with serving(embedded_url, listen=address):
            expect(page.get_by_role("heading", level=1)).to_have_text("Pipelines", timeout=ENDS_MILLISECONDS)


def _upload(page: Page, file: Path, name: str) -> None:
    """Drops a file on the list of pipelines, and sends it by the keyboard."""
    page.goto("/pipelines")
    page.evaluate(_DROP, [file.name, file.read_text()])
    page.get_by_label("Name", exact=True).last.fill(name)
    page.get_by_role("button", name="Upload", exact=True).press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)


def _start(page: Page, slope: str, *, is_first: bool) -> None:
    """Starts a run; the first time a wrong value is shown while it is typed, and again when it is sent."""
    page.goto("/pipelines")
    page.get_by_role("link", name="story", exact=True).click()
    page.get_by_role("link", name="Start a run").first.click()
    field = page.get_by_label("slope")
    if is_first:
        field.fill("steep")
        expect(page.get_by_text("is not a number")).to_be_visible()
        page.get_by_role("button", name="Start the run").click()
        expect(page.get_by_text("Nothing was started")).to_be_visible()
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_value("steep")
    field.fill(slope)
    page.get_by_label("Display name").fill(f"slope {slope}")
    page.get_by_role("button", name="Start the run").click()


def _ends(page: Page, state: str) -> None:
    """Watches the run that is shown until it has ended; nothing is reloaded."""
    page.evaluate("window.wasNotReloaded = true")
    expect(page.locator("#run-head .state")).to_contain_text(state, timeout=ENDS_MILLISECONDS)
    assert page.evaluate("window.wasNotReloaded")


def _download(page: Page, folder: Path) -> None:
    """Downloads an artifact and the report of the run that is shown."""
    for link in (re.compile("^Download .*points"), "Download a report"):
        with page.expect_download() as caught:
            page.get_by_role("link", name=link).first.click()
        caught.value.save_as(folder / "downloaded")
        assert (folder / "downloaded").stat().st_size > 10


def _compare(page: Page, slopes: tuple[str, ...]) -> None:
    """Chooses two runs of the list, and compares them."""
    page.goto("/runs?pipeline=story")
    for slope in slopes:
        page.get_by_label(f"Choose slope {slope}").check()
    page.get_by_role("button", name="Compare").click()
    table = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="slope"))
    for slope in slopes:
        expect(table.first).to_contain_text(slope)
    expect(page.locator("svg.chart")).to_be_visible()
