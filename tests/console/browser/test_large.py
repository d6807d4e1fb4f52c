"""How long large pages take until something is seen, beside the same pages without content."""

from __future__ import annotations

import json
import statistics
import uuid
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.console.conftest import PIPELINES
from tests.console.visiting import page as served
from tests.legacy_http.calling import serving

from kfadapter_embedded.process import start
from kfadapter_embedded.store import _connect
from kfadapter_grpc.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RUNS = 1000
TASKS = 300
ROUNDS = 5
_FIRST_PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
  for (const one of list.getEntriesByName("first-contentful-paint")) done(one.startTime);
}).observe({ type: "paint", buffered: true }))"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a page with 1,000 runs, and with the pipelines `one` of a task and `many` of 300 tasks."""
    folder = tmp_path_factory.mktemp("large")
    with start(folder) as kfp, serving(kfp.url) as server, Client(server.address, tls=False) as client:
        client.pipelines.upload(PIPELINES / "hello_world.yaml", name="one")
        (folder / "many.json").write_text(json.dumps(_wide(TASKS)))
        client.pipelines.upload(folder / "many.json", name="many")
        run = client.runs.create("one", parameters={"recipient": "x"})
        client.runs.wait(run.run_id, timeout=60)
    _copy(folder / "kfp.sqlite", run.run_id, RUNS - 1)
    with ExitStack() as stack:
        kfp = stack.enter_context(start(folder))
        server = stack.enter_context(serving(kfp.url))
        yield stack.enter_context(served(server.address)).url


def _copy(database: Path, run_id: str, times: int) -> None:
    """Copies a run with all that belongs to it but its tasks."""
    with closing(_connect(database)) as connection:
        columns = [one[1] for one in connection.execute("PRAGMA table_info(run_details)")]
        copied = [f"replace({one}, ?1, ?2)" if one in {"id", "document"} else one for one in columns]
        insert = (
            f"INSERT INTO run_details ({', '.join(columns)}) "  # noqa: S608  its own columns
            f"SELECT {', '.join(copied)} FROM run_details WHERE id = ?1"
        )
        connection.executemany(insert, [(run_id, str(uuid.uuid4())) for _ in range(times)])


def _wide(tasks: int) -> dict[str, Any]:
    """A pipeline of many tasks, each after another one."""
    component = {"executorLabel": "exec-step"}
    made = {
        f"step-{number}": {
            "taskInfo": {"name": f"step-{number}"},
            "componentRef": {"name": "comp-step"},
            **({"dependentTasks": [f"step-{(number - 1) // 3}"]} if number else {}),
        }
        for number in range(tasks)
    }
    return {
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "pipelineInfo": {"name": "many"},
        "components": {"comp-step": component},
        "deploymentSpec": {
            "executors": {"exec-step": {"container": {"image": "python:3.11-slim", "command": ["true"]}}}
        },
        "root": {"dag": {"tasks": made}},
    }


def test_large_pages(
    url: str, tab: Callable[..., AbstractContextManager[Page]], capsys: pytest.CaptureFixture[str]
) -> None:
    """1,000 runs and a graph of 300 tasks are shown; how long they take is printed, beside pages without content."""
    with tab(url=url) as page:
        page.goto("/pipelines")
        ids = {name: page.get_by_role("link", name=name, exact=True).get_attribute("href") for name in ("one", "many")}
        pairs = {
            f"{RUNS} runs": ("/runs?name=nothing-is-named-so", "/runs"),
            f"a graph of {TASKS} tasks": (str(ids["one"]), str(ids["many"])),
        }
        figures = {what: [_first_paint(page, address) for address in both] for what, both in pairs.items()}
        page.goto(str(ids["many"]))
        assert page.locator("svg.graph .task").count() == TASKS
        page.goto("/runs")
        assert f"{RUNS} runs" in page.inner_text("main")
    with capsys.disabled():
        for what, (empty, full) in figures.items():
            print(f"\n{what}: first content after {full:.0f} ms, without them {empty:.0f} ms ({full / empty:.1f} x)")  # noqa: T201


def _first_paint(page: Page, address: str) -> float:
    """The median of the time from the request to the first content, in milliseconds, after one visit to warm up."""
    found: list[float] = []
    for _ in range(ROUNDS + 1):
        page.goto(address)
        found.append(float(page.evaluate(_FIRST_PAINT)))
    return statistics.median(found[1:])
