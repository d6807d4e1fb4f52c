"""Several runs are changed by one command, named or chosen by filters."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.cli.conftest import Kfadapter
from tests.cli.fake_runs import FakeRuns, serving_all
from tests.cli.test_process import PROGRAM, environment, in_terminal

from kfadapter.v1 import common_pb2, run_pb2
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.contract.errors import KfpUnavailableError, PermissionDeniedError, RunNotRetryableError
from kfadapter_grpc.folders import page_note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import grpc
    from google.protobuf.message import Message
    from tests.client.fake_adapter import FakeAdapter

SUCCEEDED, FAILED, RUNNING = run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_RUNNING
CHANGES = ("terminate", "retry", "runs archive", "runs unarchive", "runs delete")


@pytest.fixture
def runs() -> FakeRuns:
    """A service with four runs, oldest first."""
    made = FakeRuns()
    for name, state in (("a", SUCCEEDED), ("b", FAILED), ("다", RUNNING), ("d", SUCCEEDED)):
        made.add(name, state=state)
    return made


@pytest.fixture
def kfadapter(fake: FakeAdapter, runs: FakeRuns) -> Iterator[Kfadapter]:
    """The command line with an adapter that has these runs."""
    with serving_all(fake, runs) as target:
        yield Kfadapter(target)


def changed(runs: FakeRuns) -> list[str]:
    """Returns the last digits of the ids in the requests that change a run."""
    reading = run_pb2.ListRunsRequest | run_pb2.GetRunRequest
    return [one.run_id[-1] for one in runs.requests if not isinstance(one, reading)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", CHANGES)
def test_runs_must_be_chosen(kfadapter: Kfadapter, runs: FakeRuns, command: str) -> None:
    """Neither runs nor a filter never means all runs, and both together are refused; nothing is sent."""
    for words in ([], ["--yes"], ["22222222-0000-4000-8000-000000000001", "--state", "failed"], ["x", "--all"]):
        assert kfadapter(*command.split(), *words).code == ExitCode.USAGE
    assert runs.requests == []


@pytest.mark.parametrize("command", CHANGES)
def test_a_filter_needs_a_confirmation(kfadapter: Kfadapter, runs: FakeRuns, command: str) -> None:
    """Without a terminal and without --yes nothing is changed; the error has the number of runs."""
    if command == "runs unarchive":
        for run in runs.runs.values():
            run.storage_state = common_pb2.STORAGE_STATE_ARCHIVED
    ended = kfadapter(*command.split(), "--all")
    verb = command.rsplit(maxsplit=1)[-1].capitalize()
    assert ended.code == ExitCode.USAGE
    assert ended.err.startswith(f"error: not confirmed: {verb} ")
    assert "--yes" in ended.err.splitlines()[2]
    assert changed(runs) == []


@pytest.mark.parametrize(
    ("words", "expected", "printed"),
    [
        ("runs delete --state succeeded", "41", "deleted 2 of 2 runs\n"),
        ("runs delete --all", "4321", "deleted 4 of 4 runs\n"),
        ("runs delete --contains 다", "3", "deleted 1 of 1 run\n"),
        ("runs delete --created-before 2025-10-09T08:53:23Z", "21", "deleted 2 of 2 runs\n"),
        ("runs archive --state failed --state running", "32", "archived 2 of 2 runs\n"),
        ("terminate --all", "3", "terminated 1 of 1 run\n"),
        ("retry --all", "2", "retried 1 of 1 run\n"),
    ],
)
def test_filters(kfadapter: Kfadapter, runs: FakeRuns, words: str, expected: str, printed: str) -> None:
    """Those that match are changed; only runs in progress are terminated, and only failed ones retried."""
    ended = kfadapter(*words.split(), "--yes")
    assert (ended.code, ended.out, ended.err) == (0, printed, "")
    assert "".join(changed(runs)) == expected


def test_archived_runs(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """Filters choose runs that are not archived, for unarchive archived ones, for delete as `--archived` says."""
    first, second, *_ = runs.runs
    for one in (first, second):
        runs.runs[one].storage_state = common_pb2.STORAGE_STATE_ARCHIVED
    assert kfadapter("runs", "unarchive", "--state", "failed", "--yes").out == "unarchived 1 of 1 run\n"
    assert kfadapter("runs", "delete", "--archived", "--yes").code == ExitCode.USAGE
    assert kfadapter("runs", "delete", "--archived", "--all", "--yes").out == "deleted 1 of 1 run\n"
    assert (first in runs.runs, len(runs.runs)) == (False, 3)


def test_several_names(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """Named runs are changed without a question, each once; the first unknown one ends the command before the work."""
    assert kfadapter("runs", "archive", "a", "b", "a").out == "archived 2 of 2 runs\n"
    assert changed(runs) == ["1", "2"]
    assert kfadapter("runs", "delete", "a", "no run").code == ExitCode.NOT_FOUND
    assert changed(runs) == ["1", "2"]
    assert kfadapter("runs", "delete", "d", "no run", "다", "--allow-missing", "-o", "name").out.count("\n") == 2
    assert sorted(run.display_name for run in runs.runs.values()) == ["a", "b"]


def test_a_failure_does_not_end_the_work(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """The others are changed; what failed is a table, the error counts it by its reason, and the exit code is 8."""
    second = [*runs.runs][1]
    runs.refused[second] = RunNotRetryableError("it has no failed task")
    ended = kfadapter("retry", "--state", "failed", "--state", "succeeded", "--yes")
    assert ended.code == ExitCode.REFUSED
    assert [" ".join(line.split()) for line in ended.out.splitlines()] == [
        "retried 2 of 3 runs",
        "",
        "NAME ID REASON ERROR",
        f"b {second} RUN_NOT_RETRYABLE it has no failed task",
    ]
    assert ended.err.splitlines()[:2] == ["error: not retried: 1 of 3 runs", "why:   RUN_NOT_RETRYABLE (1)"]
    record = json.loads(kfadapter("retry", "a", "b", "-o", "json").out)
    assert record == {
        "done": [next(iter(runs.runs))],
        "failed": [
            {
                "run_id": second,
                "display_name": "",
                "reason": "RUN_NOT_RETRYABLE",
                "message": "it has no failed task",
            }
        ],
        "not_tried": [],
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KfpUnavailableError("KFP is unreachable"), ExitCode.CANNOT_CONNECT),
        (PermissionDeniedError("readers change nothing"), ExitCode.NOT_ALLOWED),
    ],
)
def test_a_failure_of_all_ends_the_work(
    kfadapter: Kfadapter, runs: FakeRuns, error: KfpUnavailableError | PermissionDeniedError, code: ExitCode
) -> None:
    """If the others would fail alike they are not tried, and the exit code is that of the failure."""
    runs.refused[[*runs.runs][2]] = error
    ended = kfadapter("runs", "delete", "--all", "--yes")
    assert (ended.code, changed(runs)) == (code, ["4", "3"])
    assert ended.out.startswith("deleted 1 of 4 runs; not tried: 2\n")
    assert f"error: {error.message}\n" in ended.err


def test_nothing_matches(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """It is not an error if no run matches, and needs no confirmation."""
    ended = kfadapter("runs", "delete", "--contains", "x")
    assert (ended.code, ended.out, ended.err) == (0, "", "no runs match; nothing was done\n")
    assert changed(runs) == []


def test_the_question(runs: FakeRuns, kfadapter: Kfadapter) -> None:
    """On a terminal it has the number of runs, their states, and what becomes of those in progress; no means 7."""
    ended, seen = in_terminal(kfadapter.target, "runs", "delete", "--all", typed=b"n\n", COLUMNS="200")
    assert (ended, changed(runs)) == (ExitCode.CANCELLED, [])
    assert "Delete 4 runs (2 SUCCEEDED, 1 RUNNING, 1 FAILED)? Those in progress would continue" in seen.decode()
    assert b"nothing was done" in seen
    assert in_terminal(kfadapter.target, "runs", "delete", "--all", typed=b"y\n")[0] == 0
    assert runs.runs == {}


def test_ctrl_c_reports_what_was_done(kfadapter: Kfadapter) -> None:
    """Ctrl-C ends the work with exit code 130, and the output has what was done, may be done, and was not tried."""
    program = (
        "import os, signal\n"
        "from kfadapter_grpc.client.runs import Runs\n"
        "archive, calls = Runs.archive, []\n"
        "def interrupted(self, run_id):\n"
        "    calls.append(run_id)\n"
        "    if len(calls) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return archive(self, run_id)\n"
        "Runs.archive = interrupted\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + PROGRAM[-1], "runs", "archive", "--all", "--yes"],
        capture_output=True,
        text=True,
        env=environment(kfadapter.target),
        timeout=100,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (ExitCode.INTERRUPTED, False)
    assert done.stdout.startswith("archived 1 of 4 runs; not tried: 2\n")
    assert "INTERRUPTED   it may be archived nevertheless" in done.stdout


# --- prune ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def old(runs: FakeRuns) -> FakeRuns:
    """Of the four runs, the first finished 40 days ago, the second 20, and the last a minute ago."""
    now = datetime.now(timezone.utc)
    for run, age in zip(runs.runs.values(), (40, 20, None, 0), strict=True):
        if age is not None:
            ended = now - timedelta(days=age, minutes=1)
            run.finished_at.CopyFrom(Timestamp(seconds=int(ended.timestamp())))
    return runs


@pytest.mark.parametrize(
    ("words", "expected", "printed"),
    [
        ("--older-than 30d", "1", "deleted 1 of 1 run\n"),
        ("--older-than 12h", "21", "deleted 2 of 2 runs\n"),
        ("--keep 1", "21", "deleted 2 of 2 runs\n"),
        ("--keep 0", "421", "deleted 3 of 3 runs\n"),
        ("--older-than 12h --keep 2", "1", "deleted 1 of 1 run\n"),
        ("--keep 0 --state failed", "2", "deleted 1 of 1 run\n"),
    ],
)
def test_prune(kfadapter: Kfadapter, old: FakeRuns, words: str, expected: str, printed: str) -> None:
    """Finished runs are deleted by age, and all but the newest; the one in progress never is."""
    ended = kfadapter("runs", "prune", *words.split(), "--yes")
    assert (ended.code, ended.out) == (0, printed)
    of = "1 finished run" if "--state" in words else "3 finished runs"
    assert ended.err == f"to delete: {len(expected)} of {of}\n"
    assert "".join(changed(old)) == expected


def test_prune_reports_the_number_of_runs(kfadapter: Kfadapter, old: FakeRuns) -> None:
    """A dry run lists the runs and deletes nothing; without a terminal, --yes is required."""
    ended = kfadapter("runs", "prune", "--keep", "1", "--dry-run")
    assert ended.err == "would delete 2 of 3 finished runs; nothing was deleted\n"
    assert [line.split()[0] for line in ended.out.splitlines()] == ["NAME", "b", "a"]
    assert kfadapter("runs", "prune", "--keep", "1", "--dry-run", "-o", "name").out.count("\n") == 2
    refused = kfadapter("runs", "prune", "--keep", "1")
    assert refused.code == ExitCode.USAGE
    assert "Delete 2 of 3 finished runs (1 FAILED, 1 SUCCEEDED)?" in refused.err
    assert changed(old) == []


def test_prune_needs_a_bound(kfadapter: Kfadapter, old: FakeRuns) -> None:
    """Without a bound, or with a state in progress, prune is a usage error."""
    for words in ([], ["--yes"], ["--pipeline", "p"], ["--keep", "1", "--state", "running"], ["--older-than", "x"]):
        assert kfadapter("runs", "prune", *words).code == ExitCode.USAGE
    assert old.requests == []


def test_prune_spares_a_run_that_was_retried(
    kfadapter: Kfadapter, old: FakeRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is in progress again by then is not deleted, which is a failure."""
    second = [*old.runs.values()][1]

    plain_begin = old._begin

    def begin(request: Message, context: grpc.ServicerContext) -> None:
        plain_begin(request, context)
        if isinstance(request, run_pb2.GetRunRequest):
            second.state = RUNNING

    monkeypatch.setattr(old, "_begin", begin)
    ended = kfadapter("runs", "prune", "--keep", "1", "--yes")
    assert (ended.code, changed(old)) == (ExitCode.REFUSED, ["1"])
    assert "IN_PROGRESS" in ended.out


# --- open -----------------------------------------------------------------------------------------------------------


def test_open_the_page_of_dev(kfadapter: Kfadapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of a running `kfadapter dev` is found by its adapter; a note that was left behind counts for nothing."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    note = page_note(kfadapter.target)
    note.parent.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as page:
        address = f"http://127.0.0.1:{page.getsockname()[1]}"
        note.write_text(address)
        assert kfadapter("runs", "open", "--print").out == f"{address}/runs\n"
    assert kfadapter("runs", "open", "--print").out == "http://127.0.0.1:8080/runs\n"


def test_open(kfadapter: Kfadapter, runs: FakeRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of the run's page is printed and opened, unless it is only to be printed."""
    opened: list[str] = []

    def open_browser(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", open_browser)
    first = next(iter(runs.runs))
    assert kfadapter("runs", "open", "a").out == f"http://127.0.0.1:8080/runs/{first}\n"
    assert opened == [f"http://127.0.0.1:8080/runs/{first}"]
    assert (
        kfadapter("runs", "open", "--page", "https://kfp.example/x/", "--print").out == "https://kfp.example/x/runs\n"
    )
    monkeypatch.setenv("KFADAPTER_PAGE", "javascript:alert(1)")
    assert kfadapter("runs", "open").code == ExitCode.USAGE
    monkeypatch.setenv("KFADAPTER_PAGE", "http://h:1")
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    ended = kfadapter("runs", "open")
    assert (ended.code, ended.out) == (0, "http://h:1/runs\n")
    assert ended.err == "found no browser; open the address in one\n"
    assert len(opened) == 1
