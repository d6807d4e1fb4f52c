"""Live pages: how many there are at once, and what becomes of those whose browser leaves."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
import urllib3
from tests.console.conftest import PIPELINES
from tests.contract.running import eventually

from kfadapter_console import live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.console.visiting import Visitor

    from kfadapter_grpc.client import Client

pytestmark = pytest.mark.slow

SECONDS = 30


@pytest.fixture(scope="module")
def running(client: Client) -> Iterator[str]:
    """The id of a run that does not end by itself."""
    client.pipelines.upload(PIPELINES / "sleeps.yaml", name="long")
    run_id = client.runs.create("long").run_id
    yield run_id
    client.runs.terminate(run_id, wait=SECONDS)


def _open(visitor: Visitor, run_id: str, method: str = "GET") -> urllib3.BaseHTTPResponse:
    return urllib3.request(
        method,
        f"{visitor.url}/runs/{run_id}",
        headers={"accept": live.MEDIA_TYPE},
        retries=False,
        timeout=SECONDS,
        preload_content=False,
    )


def test_streams_leave_room_for_pages(visitor: Visitor, running: str) -> None:
    """While as many streams as may be are open, pages come as before, and a further stream is told to come again."""
    with ExitStack() as stack:
        for _ in range(live.MAX_STREAMS):
            answer = stack.enter_context(closing(_open(visitor, running)))
            assert answer.status == 200
            assert answer.read(10)
        began = time.monotonic()
        assert [visitor.get("/runs").status for _ in range(3)] == [200] * 3
        assert time.monotonic() - began < SECONDS
        with closing(_open(visitor, running)) as refused:
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert eventually(lambda: _status_and_leave(visitor, running, "HEAD") == 200)


def test_streams_end_with_their_browser(visitor: Visitor, running: str) -> None:
    """A stream whose browser has left makes room, also one that was never read."""
    for _ in range(2 * live.MAX_STREAMS):
        eventually(lambda: _status_and_leave(visitor, running) == 200)


def _status_and_leave(visitor: Visitor, run_id: str, method: str = "GET") -> int:
    with closing(_open(visitor, run_id, method)) as answer:
        return answer.status


def test_streams_of_what_is_not_there(visitor: Visitor) -> None:
    """A run that was deleted while it was shown is 404 to the browser, which then reloads the page."""
    assert eventually(lambda: _status_and_leave(visitor, "gone") == 404)
