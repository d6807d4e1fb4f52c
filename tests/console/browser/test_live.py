"""Live pages in a real browser: what changes is shown without a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from tests.console.run_pipelines import compile_to
from tests.contract.running import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from playwright.sync_api import Page

    from kfadapter_grpc.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 60


@pytest.fixture(scope="module")
def slow(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a pipeline whose only task prints a line each second."""
    for path in compile_to(tmp_path_factory.mktemp("pipelines")):
        if path.stem == "slow":
            client.pipelines.upload(path, name="slow in a browser")
    return "slow in a browser"


def test_new_runs_appear(client: Client, slow: str, tab: Callable[..., AbstractContextManager[Page]]) -> None:
    """A run that was created since is on the list; what is ticked stays ticked."""
    first = client.runs.create(slow, display_name="first", parameters={"seconds": 1})
    with tab() as page:
        page.goto("/runs")
        page.get_by_label("Choose first").check()
        page.evaluate("window.wasNotReloaded = true")
        created = client.runs.create(slow, display_name="new <b>one</b>", parameters={"seconds": 1})
        expect(page.get_by_role("link", name="new <b>one</b>")).to_be_visible()
        expect(page.get_by_label("Choose first")).to_be_checked()
        assert page.evaluate("window.wasNotReloaded")
    for run in (first, created):
        client.runs.wait(run.run_id, timeout=SECONDS)


def test_logs_are_followed(client: Client, slow: str, tab: Callable[..., AbstractContextManager[Page]]) -> None:
    """The log of a task grows on its page until the task has finished; then the page is no longer fetched."""
    run = client.runs.create(slow, parameters={"seconds": 6}, caching=False)
    assert eventually(lambda: [task.name for task in client.runs.get(run.run_id).tasks] == ["count"])
    with tab() as page:
        page.goto(f"/runs/{run.run_id}/task?of=count")
        page.evaluate("window.wasNotReloaded = true")
        log = page.locator("#task-log")
        expect(log).to_contain_text("line 2")
        assert "line 5" not in log.inner_text()
        expect(page.locator("#task-head .state").first).to_contain_text("SUCCEEDED")
        assert log.inner_text().count("line ") == 6
        assert page.evaluate("window.wasNotReloaded")
        requests = list[str]()
        page.on("request", lambda sent: requests.append(sent.url))
        page.wait_for_timeout(3000)
        assert requests == []


def test_a_run_that_was_deleted(client: Client, slow: str, tab: Callable[..., AbstractContextManager[Page]]) -> None:
    """The page of a run that is deleted meanwhile becomes the page of the error."""
    run = client.runs.create(slow, parameters={"seconds": 30}, caching=False)
    with tab() as page:
        page.goto(f"/runs/{run.run_id}")
        client.runs.terminate(run.run_id)
        client.runs.delete(run.run_id)
        expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
