"""The checker of recorded calls finds defects that are planted on purpose, and nothing without them."""

from __future__ import annotations

import re
import subprocess
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from benchmarks.processes import Adapter
from tests.scripted_kfp import answers
from tests.system.between import Between
from tests.system.history import FOREVER, MISSING, UNKNOWN, History, check
from tests.system.load import OK
from tests.system.records import CONTAINER

from kfadapter_embedded.process import start
from kfadapter_grpc.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.scripted_kfp import Behaviour, Connection, Received

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def checker() -> None:
    """Without Go the checker cannot be built: then tests are skipped, in CI they fail."""
    built = subprocess.run([ROOT / "scripts" / "history-checker"], capture_output=True, text=True, check=False)
    if built.returncode == 3:
        pytest.skip(built.stderr.strip())
    assert built.returncode == 0, built.stderr


# --- the model ------------------------------------------------------------------------------------------------------


def line(op: str, begin: int, end: int, outcome: str = "ok", **fields: object) -> dict[str, object]:
    """A recorded call about one name."""
    return {"key": "pipeline/name", "op": op, "begin": begin, "end": end, "outcome": outcome, **fields}


def stored(number: int, begin: int, end: int, outcome: str = "ok", **fields: object) -> dict[str, object]:
    """An upload that is acknowledged with a version of its own."""
    known = {"pipeline": "p", "version": f"v{number}", "created": True} if outcome == "ok" else {}
    return line("upload", begin, end, outcome, request=f"r{number}", content="1", **known, **fields)


def listed(begin: int, end: int, *numbers: int, pipeline: str = "p") -> dict[str, object]:
    """A list of the versions that these uploads stored."""
    versions = [{"request": f"r{number}", "content": "1", "id": f"v{number}"} for number in numbers]
    return line("versions", begin, end, pipeline=pipeline, versions=versions)


def deleted(begin: int, end: int, outcome: str = "ok") -> dict[str, object]:
    """A deletion with force."""
    return line("delete all", begin, end, outcome, pipeline="p")


def run(op: str, begin: int, end: int, state: str = "", outcome: str = "ok") -> dict[str, object]:
    """A recorded call about one run."""
    return {"key": "run/one", "op": op, "begin": begin, "end": end, "outcome": outcome, "state": state}


GOOD = {
    "an upload is listed": [stored(1, 0, 1), listed(2, 3, 1)],
    "a list during an upload shows it or not": [stored(1, 0, 9), listed(2, 3), listed(4, 5, 1)],
    "an upload of unknown outcome is stored": [stored(1, 0, FOREVER, UNKNOWN), listed(2, 3, 1)],
    "it is stored later": [stored(1, 0, FOREVER, UNKNOWN), listed(2, 3), listed(4, 5, 1)],
    "it is not stored": [stored(1, 0, FOREVER, UNKNOWN), listed(2, 3)],
    "a repeated upload returns the first version": [stored(1, 0, FOREVER, UNKNOWN), stored(1, 2, 3), listed(4, 5, 1)],
    "a deleted pipeline is gone": [stored(1, 0, 1), deleted(2, 3), line("get", 4, 5, MISSING)],
    "FAIL during another upload": [stored(1, 0, 9), stored(2, 2, 3, "PIPELINE_EXISTS", if_exists="FAIL")],
    "a run that fails and is retried": [
        run("create", 0, 1), run("get", 2, 3, "FAILED"), run("retry", 4, 5), run("get", 6, 7, "RUNNING"),
        run("watch", 4, 9, "SUCCEEDED"),
    ],
    "a run that is terminated": [
        run("create", 0, 1), run("terminate", 2, 3), run("get", 4, 5, "CANCELING"), run("watch", 2, 9, "CANCELED")
    ],
    "a run that is deleted": [run("create", 0, 1), run("delete", 2, 3), run("get", 4, 5, outcome=MISSING)],
    "a run that is deleted before a retry reads it back": [
        run("create", 0, 1), run("get", 2, 3, "FAILED"), run("retry", 4, 9, outcome=MISSING),
        run("get", 5, 6, "RUNNING"), run("delete", 7, 8),
    ],
}  # fmt: skip
BAD = {
    "an acknowledged upload is not listed": [stored(1, 0, 1), listed(2, 3)],
    "nor got": [stored(1, 0, 1), line("get", 2, 3, MISSING)],
    "nor among the pipelines": [stored(1, 0, 1), line("listed", 2, 3, pipeline="")],
    "an upload is listed twice": [stored(1, 0, 1), listed(2, 3, 1, 1)],
    "a repeated upload returns another version": [stored(1, 0, 1), {**stored(1, 2, 3), "version": "v2"}],
    "an upload returns the version of another": [stored(1, 0, 9), {**stored(2, 0, 9), "version": "v1"}],
    "a version appears, disappears and appears": [stored(1, 0, 9), listed(1, 2, 1), listed(3, 4), listed(5, 6, 1)],
    "a version nobody uploaded": [stored(1, 0, 1), listed(2, 3, 1, 2)],
    "a deleted pipeline is listed": [stored(1, 0, 1), deleted(2, 3), listed(4, 5, 1)],
    "a deleted pipeline is adopted": [stored(1, 0, 1), deleted(2, 3), stored(2, 4, 5)],
    "FAIL is stored beside a version": [stored(1, 0, 1), stored(2, 2, 3, if_exists="FAIL")],
    "FAIL is refused without a version": [stored(2, 2, 3, "PIPELINE_EXISTS", if_exists="FAIL")],
    "SKIP_IF_SAME stores the same again": [stored(1, 0, 1), stored(2, 2, 3, if_exists="SKIP_IF_SAME")],
    "a run without Create": [run("get", 0, 1, "RUNNING")],
    "a finished run runs": [run("create", 0, 1), run("get", 2, 3, "FAILED"), run("get", 4, 5, "RUNNING")],
    "a run that succeeded is retried": [run("create", 0, 1), run("get", 2, 3, "SUCCEEDED"), run("retry", 4, 5)],
    "a watch ends in a state that is not the last": [run("create", 0, 1), run("watch", 2, 3, "RUNNING")],
    "a run is missing, but not deleted": [
        run("create", 0, 1),
        run("retry", 2, 3, outcome=MISSING),
        run("delete", 4, 5),
    ],
    "a deleted run is there": [run("create", 0, 1), run("delete", 2, 3), run("get", 4, 5, "FAILED")],
}


def test_the_model_allows_and_excludes() -> None:
    """An order of calls explains each history that the contract allows, and none each one that it excludes."""
    rows = {**GOOD, **BAD}
    calls = [
        {**one, "key": f"{str(one['key']).partition('/')[0]}/{row}"} for row, calls in rows.items() for one in calls
    ]
    found = {one.partition(": ")[0].partition("/")[2] for one in check(calls)}
    assert found == set(BAD)


# --- planted defects ------------------------------------------------------------------------------------------------


class LyingKfp(Between):
    """A proxy that answers the requests of a method and a path by itself.

    Attributes:
        lie: The method, a part of the path, and what it does instead of KFP.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.lie: tuple[str, str, Callable[[LyingKfp, Received], Behaviour]] | None = None

    def _respond(self, connection: Connection, received: Received) -> bool:
        if self.lie is not None and received.method == self.lie[0] and self.lie[1] in received.path:
            return self.lie[2](self, received)(connection, received)
        return self._ask(received)[1](connection, received)

    def stores_nothing(self, received: Received) -> Behaviour:
        """Acknowledges a version without storing it."""
        sent = parse_qs(urlsplit(received.path).query)
        ids = {"pipeline_version_id": str(uuid.uuid4()), "pipeline_id": sent["pipelineid"][0]}
        return answers(200, {**ids, "name": sent["name"][0], "description": sent["description"][0]})

    def stores_twice(self, received: Received) -> Behaviour:
        """Stores a version under a second name too, as if it had been sent without a request id."""
        again = re.sub(r"([?&]name=)", r"\1again-", received.path)
        self._ask(replace(received, path=again))
        return self._ask(received)[1]

    def forgets(self, received: Received) -> Behaviour:
        """Acknowledges a request and returns it, without doing anything."""
        return answers(200, received.body or b"{}")

    def shows_success(self, received: Received) -> Behaviour:
        """Returns what failed as if it had succeeded."""
        with self._sent(received, received.body) as behind:
            return answers(200, behind.getresponse().read().replace(b"FAILED", b"SUCCEEDED"))


@dataclass
class Bench:
    """A history of one adapter, whose KFP may lie."""

    history: History
    kfp: LyingKfp


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """An adapter and an embedded KFP, each a process, and the proxy between them."""
    folder = tmp_path_factory.mktemp("history")
    with (
        start(folder / "kfp") as embedded,
        LyingKfp(embedded.url) as kfp,
        Adapter(kfp.url, folder / "home") as adapter,
        History(adapter.target) as history,
    ):
        adapter.wait()
        with Client(adapter.target) as client:
            client.pipelines.upload(CONTAINER, name="fails")
        yield Bench(history, kfp)


def upload_and_list(history: History, name: str) -> None:
    """An upload, and a list of its pipeline's versions."""
    assert history.upload(0, name, f"{name}-1", 1).code == OK
    history.versions(0, name)


def upload_and_delete(history: History, name: str) -> None:
    """An upload, a deletion, and a list."""
    assert history.upload(0, name, f"{name}-1", 1).code == OK
    assert history.delete(0, name, force=True).code == OK
    history.list(0, [name], name)


def start_and_get(history: History, name: str) -> None:
    """A run, and the state of it."""
    assert history.create(0, name, "fails").code == OK
    history.run(0, "Get", name)


def delete_a_run(history: History, name: str) -> None:
    """A run that is deleted, and a list of all runs."""
    assert history.create(0, name, "fails").code == OK
    assert history.run(0, "Delete", name).code == OK
    history.list_runs(0, [name])


def watch_and_get(history: History, name: str) -> None:
    """A run that is watched until the watch ends, and its state then."""
    assert history.create(0, name, "fails").code == OK
    assert history.watch(0, name).code == OK
    history.run(0, "Get", name)


PLANTED = {
    "an acknowledged version is lost": ("POST", "/upload_version", LyingKfp.stores_nothing, upload_and_list),
    "a version is stored twice": ("POST", "/upload_version", LyingKfp.stores_twice, upload_and_list),
    "a deleted pipeline comes back": ("DELETE", "/pipelines/", LyingKfp.forgets, upload_and_delete),
    "an acknowledged run is lost": ("POST", "/runs", LyingKfp.forgets, start_and_get),
    "a deleted run comes back": ("DELETE", "/runs/", LyingKfp.forgets, delete_a_run),
    "a watch ends in a state that is not the last": ("GET", "/runs?", LyingKfp.shows_success, watch_and_get),
}
"""Each defect: the requests that KFP does not serve, the responses instead, and the calls that are affected."""


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "lie", "calls"), PLANTED.values(), ids=PLANTED)
def test_planted_defects_are_found(
    bench: Bench,
    method: str,
    path: str,
    lie: Callable[[LyingKfp, Received], Behaviour],
    calls: Callable[[History, str], None],
) -> None:
    """The checker finds nothing as long as KFP tells the truth, and exactly the name or run that it lies about."""
    bench.history.calls.clear()
    honest, lied = f"{calls.__name__}-{lie.__name__}", f"{calls.__name__}-{lie.__name__}-again"
    calls(bench.history, honest)
    bench.kfp.lie = method, path, lie
    try:
        calls(bench.history, lied)
    finally:
        bench.kfp.lie = None
    found = [one.partition(": ")[0].partition("/")[2] for one in check(bench.history.calls)]
    assert found == [lied]
