"""The report of a run in a browser, from a file."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from tests.cli.conftest import Kfadapter
from tests.console.test_report import failed_run, served

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from playwright.sync_api import Dialog

CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_alone(tmp_path: Path, scheme: Literal["light", "dark"]) -> None:
    """It requests nothing but itself, runs nothing of what tasks wrote, fits a narrow window, and axe finds nothing."""
    file = tmp_path / "보고서.html"
    with served({"r0": failed_run()}) as target:
        assert Kfadapter(target)("runs", "report", "r0", "-o", str(file)).code == 0
    requested, dialogs = list[str](), list[str]()

    def refuse(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(color_scheme=scheme, viewport={"width": 360, "height": 800})
        page.on("request", lambda request: requested.append(request.url))
        page.on("dialog", refuse)
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator("img, script").count() == 0
        assert [frame.evaluate("document.body.innerText").split()[0] for frame in page.frames[1:]] == ["결과", "보고서"]
        found = Axe().run(page).response["violations"]
        browser.close()
    assert [one["id"] for one in found] == []
    assert (requested, dialogs) == ([file.as_uri()], [])
