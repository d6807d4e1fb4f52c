"""References to runs, pipelines, versions, experiments and recurring runs: what they find, and with how many calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.cli.conftest import Kfadapter
from tests.cli.fake_runs import FakeRuns, serving_all

from kfadapter.v1 import common_pb2, run_pb2
from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.cli import references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.fake_adapter import FakeAdapter

FAILED = run_pb2.RUN_STATE_FAILED


@pytest.fixture
def runs() -> FakeRuns:
    """A service without runs."""
    return FakeRuns()


@pytest.fixture
def kfadapter(fake: FakeAdapter, runs: FakeRuns) -> Iterator[Kfadapter]:
    """The command line with an adapter that has pipelines and runs."""
    with serving_all(fake, runs) as target:
        yield Kfadapter(target)


def add(runs: FakeRuns, run_id: str, name: str, **fields: object) -> str:
    """Adds a run with this id."""
    made = runs.add(name, **fields)
    del runs.runs[made.run_id]
    made.run_id = run_id
    runs.runs[run_id] = made
    return run_id


def shown(kfadapter: Kfadapter, text: str) -> str:
    """Returns the id of the run that a reference finds."""
    ended = kfadapter("runs", "show", text, "-o", "name")
    assert (ended.code, ended.err) == (0, ""), ended.err
    return ended.out.strip()


def test_references_to_a_run(kfadapter: Kfadapter, runs: FakeRuns, fake: FakeAdapter) -> None:
    """A run is found by its id, the beginning of its id, its name, and as the newest or the newest that failed."""
    fake.add("train")
    pipeline = fake.pipelines["train"].pipeline_id
    first = add(runs, "abcdef01-0000-4000-8000-000000000001", "훈련", state=FAILED, pipeline_id=pipeline)
    second = add(runs, "abcdef02-0000-4000-8000-000000000002", "훈련 2")
    named_like_an_id = add(runs, "11111111-0000-4000-8000-000000000003", "abcdef02")
    archived = add(runs, "33333333-0000-4000-8000-000000000004", "옛", storage_state=common_pb2.STORAGE_STATE_ARCHIVED)
    for text, found in {
        first: first,
        "abcdef01": first,
        "ABCDEF01-00": first,
        "abcdef02-": second,
        "abcdef02": named_like_an_id,
        "훈련": first,
        "훈련 2": second,
        "옛": archived,
        "333333": archived,
        "@latest": named_like_an_id,
        "@failed": first,
        "@latest:train": first,
        "@failed:train": first,
    }.items():
        assert shown(kfadapter, text) == found, text


def test_what_a_reference_costs(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """An id is not searched for; a name is one call, the beginning of an id one more for a page of runs."""
    run = add(runs, "abcdef01-0000-4000-8000-000000000001", "r")
    for text, calls in {run: 0, run.upper(): 0, "r": 1, "abcdef": 2, "@latest": 1, "@failed": 1}.items():
        runs.requests.clear()
        kfadapter("runs", "show", text)
        lists = [one for one in runs.requests if isinstance(one, run_pb2.ListRunsRequest)]
        assert len(lists) == calls, text


def test_a_text_that_matches_several_runs(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """The candidates are listed with name, id, state and age, at most 10; nothing else happens."""
    for number in range(12):
        add(runs, f"abcdef0{number:x}-0000-4000-8000-000000000001", f"훈련{number}", state=FAILED)
    ended = kfadapter("runs", "delete", "-y", "abcdef")
    assert (ended.code, ended.out, len(runs.runs)) == (8, "", 12)
    what, reason, newest, *others, more, step = ended.err.splitlines()
    assert (what, reason) == ("error: 'abcdef' is ambiguous: 12 runs match", "why:   AMBIGUOUS_NAME")
    assert re.fullmatch(r" {7}훈련11  abcdef0b  FAILED  \d+d ago", newest)
    assert (len(others), more.strip()) == (9, "and 2 more")
    assert step.startswith("next:  the same command with an id")
    add(runs, "abcdef00-0000-4000-8000-000000000002", "훈련0", state=FAILED)
    assert "abcdef00-0000-4000-8000-000000000002" in kfadapter("runs", "show", "훈련0").err


def test_a_search_has_an_end(kfadapter: Kfadapter, runs: FakeRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the newest runs are searched for the beginning of an id, and if there are more a note reports it."""
    monkeypatch.setattr(references, "SEARCHED", 4)
    monkeypatch.setattr(references, "PAGE", 2)
    add(runs, "abcdef01-0000-4000-8000-000000000001", "old")
    for _ in range(5):
        runs.add("new")
    ended = kfadapter("runs", "show", "abcdef")
    assert ended.code == 5
    assert "'abcdef' was searched among the newest 4 runs only; there are more\n" in ended.err
    assert "error: not found: run" in ended.err


def test_a_run_that_nothing_refers_to(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """A name of no run is not found, wherever it could not be an id; deleting it may be allowed to do nothing."""
    ended = kfadapter("runs", "show", "없는 실행")
    assert ended.code == 5
    assert ended.err.startswith("error: not found: run '없는 실행'\nwhy:   RUN_NOT_FOUND\n")
    ended = kfadapter("runs", "delete", "없는 실행", "--allow-missing")
    assert (ended.code, ended.err) == (0, "not found: run 없는 실행\n")
    for text in ("@latest", "@failed"):
        assert kfadapter("runs", "show", text).code == 5
    add(runs, "not-a-uuid", "r")
    assert shown(kfadapter, "not-a-uuid") == "not-a-uuid"


def test_references_to_a_pipeline_and_a_version(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """The beginning of an id stands for it, unless a pipeline or version has that text for a name."""
    fake.add("train")
    pipeline, version = fake.pipelines["train"].pipeline_id, fake.versions["train"][0].pipeline_version_id
    assert kfadapter("get", pipeline[:-1], "-o", "name").out == "train\n"
    assert kfadapter("get", pipeline[:-1], "--id", "-o", "name").out == "train\n"
    assert kfadapter("get", pipeline[:-1], "--name").code == 5
    assert kfadapter("get", "train", "--version", version[:-1], "-o", "name").out == "train\n"
    assert kfadapter("delete", "train", "-y", "--version", version[:-1], "-o", "name").out == "train\n"
    fake.add("facade")
    assert kfadapter("get", "facade", "-o", "name").out == "facade\n"
    fake.requests.clear()
    assert kfadapter("versions", "train").code == 0
    assert [type(one) for one in fake.requests] == [pb.ListPipelineVersionsRequest]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("get trian", "train"),
        ("get 훈련-1", "훈련-12"),
        ("get train --version v", "v1"),
        ("runs show first-rn", "first-run"),
        ("watch FIRST-RUN-", "first-run"),
        ("logs @lates", "@latest"),
        ("runs --pipeline trian", "train"),
    ],
)
def test_did_you_mean(kfadapter: Kfadapter, runs: FakeRuns, fake: FakeAdapter, words: str, meant: str) -> None:
    """A name that is not found gets the most similar one, on a line of its own."""
    fake.add("train")
    fake.add("훈련-12")
    fake.add_version("train", "v1")
    runs.add("first-run")
    ended = kfadapter(*words.split())
    assert ended.code == 5
    assert ended.err.splitlines()[1].strip() == f"Did you mean '{meant}'?"


def test_nothing_similar(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Without a similar name, or for an id, nothing is suggested."""
    fake.add("train")
    for text in ("xyz", "11111111-1111-4111-8111-111111111111"):
        assert "Did you mean" not in kfadapter("get", text).err


def test_commands_and_options(kfadapter: Kfadapter) -> None:
    """A mistyped command, subcommand or option gets the most similar one."""
    for words, meant in {"lst": "list", "runs shwo": "show", "get x --versoin 1": "--version"}.items():
        ended = kfadapter(*words.split())
        assert (ended.code, f". Did you mean '{meant}'?\n" in ended.err) == (2, True), words
