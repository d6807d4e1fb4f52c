"""The report of a run in a browser, from a file."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from tests.cli.conftest import Kfadapter
from tests.console import test_report

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from playwright.sync_api import Browser, Dialog

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chromium: Browser, scheme: Literal["light", "dark"]
) -> None:
    """It loads nothing, runs nothing of what tasks wrote, fits a narrow window, and axe finds nothing."""
    file, dialogs = tmp_path / "보고서.html", list[str]()

    def refuse(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        address = "{}:{}".format(*elsewhere.getsockname())
        monkeypatch.setattr(test_report, "PAGE", test_report.PAGE.replace("192.0.2.1", address))
        with test_report.served({"r0": test_report.failed_run()}) as target:
            assert Kfadapter(target)("runs", "report", "r0", "-o", str(file)).code == 0
        assert address in file.read_text("utf-8")
        page = chromium.new_page(color_scheme=scheme, viewport={"width": 360, "height": 800})
        page.on("dialog", refuse)
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator("img, script").count() == 0
        words = [frame.evaluate("document.body.innerText").split()[:1] for frame in page.main_frame.child_frames]
        assert words == [["결과"], ["보고서"]]
        assert [one["id"] for one in Axe().run(page).response["violations"]] == []
        page.close()
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):  # there is no connection
            elsewhere.accept()
    assert dialogs == []
